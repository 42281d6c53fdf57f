"""Makes a model's facts out of what a log printed of it; weights by role come from the file's size, type and dimensions."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from app.core.catalog.facts import GraphFacts, ModelFacts, TensorFacts
from tests.corpus.columns import Row, number, per_layer, size_of, whole

BITS = (
    ("BF16", 16.0), ("F16", 16.0), ("F32", 32.0), ("Q8", 8.5), ("Q6_K", 6.5625), ("Q5_K", 5.5), ("Q5_1", 6.0), ("Q5", 5.5),
    ("IQ4_XS", 4.25), ("IQ4", 4.5), ("Q4_1", 5.0), ("MXFP4", 4.25), ("Q4", 4.5), ("IQ3_XXS", 3.4375), ("IQ3", 3.4375),
    ("Q3", 3.4375), ("IQ2", 2.625), ("Q2", 2.625), ("IQ1", 2.625), ("TQ1", 4.5), ("TQ2", 4.5),
)  # fmt: skip
TIED = frozenset(
    ("gemma", "gemma2", "gemma3", "gemma3n", "gemma4", "command-r", "cohere2", "granite", "granitehybrid", "lfm2")
)
UNGATED = frozenset(
    ("gptneox", "starcoder", "starcoder2", "gpt2", "falcon", "phi2", "bloom", "mpt", "bert", "nemotron")
)
SHIFTING = UNGATED | {"command-r", "cohere2", "stablelm"}
PER_LAYER_HEADS = frozenset(("gemma3n", "gemma4"))  # a log prints one layer's heads and dims only
SOFTCAPPED = frozenset(("gemma2", "gemma4", "grok"))
FORK_TYPE = re.compile(r"_R\d\b|I?Q\d_(K|KS|KSS|KL|KT)\b(?! - (SMALL|MEDIUM|LARGE))")
LATENT_QUERY, LATENT_QUERY_FROM_WIDTH = 1536, 2048
SHARED_AND_LEAD = {"glm4moe": (1, 1)}  # shared experts, leading layers without experts
NO_CACHE_AHEAD = re.compile(r"glm[- _]?4\.[6-9]", re.IGNORECASE)  # builds of their time give prediction layers no cache
EVERY_FOURTH = frozenset(("qwen3next", "qwen35", "qwen35moe"))
WINDOW_PERIODS = {"gemma2": 2, "gemma3": 6, "gemma3n": 5, "gemma4": 6, "gpt-oss": 2, "cohere2": 4, "llama4": 4}
OF_2026 = re.compile(r"qwen-?3\.[5-9]|gemma-?4|glm-?5|qwen4", re.IGNORECASE)


class Bits(msgspec.Struct, frozen=True):
    """What was chosen on the development rows, as no log prints it: bits per number of what recipes keep larger than the
    stated type: the dense part of mixtures, in the fork's own types and in mainline's, and the output's matrix."""

    recipe: float = 5.5
    dense: float = 4.5
    output: float = 6.5625


CHOSEN = Bits()


def expands_latents(row: Row) -> bool:
    """The fork's MLA modes 2 and 3 unpack keys and values of all cells for a prompt when attention is one kernel."""
    return fork(row) and bool(whole(row, "kv_lora_rank")) and number(row.get("mla_attn")) in (2, 3) and flash(row)


def flash(row: Row) -> bool:
    return str(row.get("flash_attn")).lower() in ("1", "1.0", "on", "true", "enabled", "auto->enabled")


def fork(row: Row) -> bool:
    return "ik_" in str(row.get("engine") or "")


def build_of(row: Row) -> int | None:
    """The kind of build by what the log says: models of 2026, words that builds since mid-2025 print, else an older one."""
    if fork(row):
        return 5_000
    if OF_2026.search(f"{row.get('model_name')} {row.get('arch')}"):
        return None
    newer = row.get("kv_unified") is not None or row.get("fit_target_mib") is not None
    return 7_000 if newer or "enabled" in str(row.get("flash_attn")) else 5_000


def bits_of(row: Row) -> float | None:
    for name in ("file_type", "model_name", "command"):
        text = str(row.get(name) or "").upper()
        if name == "file_type" and (told := re.search(r"([\d.]+) ?BPW", text)):
            return number(told[1])
        if name == "command":
            text = " ".join(re.findall(r"\S+\.GGUF", text))
        if found := next((bits for begin, bits in BITS if begin in text), None):
            return found
    return None


def missing_facts(row: Row) -> str:
    """Why there is no plan at all: what even the cache needs is not in the row; "" where it is."""
    layers, width, heads = whole(row, "n_layer"), whole(row, "n_embd"), whole(row, "n_head")
    told = {
        "how many layers": layers is not None and layers <= 4096,
        "how many heads": heads is not None or whole(row, "n_head_kv") is not None,
        "how long a head": whole(row, "n_embd_head_k") is not None or (width is not None and heads is not None),
    }
    lacking = [name for name, is_told in told.items() if not is_told]
    return f"not told {', '.join(lacking)}" if lacking else ""


def facts_of(row: Row, bits: Bits = CHOSEN) -> ModelFacts | None:
    """What the log printed of the model; None where it does not say what the formulas need."""
    if missing_facts(row):
        return None
    layers, width, arch = whole(row, "n_layer") or 0, whole(row, "n_embd"), str(row.get("arch") or "unknown")
    heads, vocabulary = whole(row, "n_head"), whole(row, "n_vocab")
    per_head = width // heads if heads and width else None
    kv_heads = per_layer(row.get("n_head_kv") if row.get("n_head_kv") is not None else row.get("n_head"), layers)
    rank, rotated = whole(row, "kv_lora_rank"), whole(row, "n_rot") or 64
    stateful: tuple[bool, ...] = ()
    inner, state, groups = (
        whole(row, "ssm_d_inner") or 0,
        whole(row, "ssm_d_state") or 0,
        whole(row, "ssm_n_group") or 0,
    )
    convolution = whole(row, "ssm_d_conv") or 0
    if inner and state:
        every = 4 if arch in EVERY_FOURTH and all(kv_heads) else 0
        if every:
            kv_heads = tuple(count if layer % every == every - 1 else 0 for layer, count in enumerate(kv_heads))
        stateful = tuple(not count for count in kv_heads)
    state_bytes = 4 * ((convolution - 1) * (inner + 2 * groups * state) + state * inner) * sum(stateful) if inner else 0
    window, windowed = window_of(row, arch, layers)
    used, name = whole(row, "n_expert_used"), str(row.get("model_name"))
    key_length = whole(row, "n_embd_head_k") or per_head
    expert_inner = whole(row, "n_ff_exp") or expert_length(row, arch, key_length or 64)
    known = SHARED_AND_LEAD.get(arch, (0, 0))  # not every log prints them
    shared = (whole(row, "n_expert_shared") or known[0]) * expert_inner
    lead = whole(row, "n_layer_dense_lead") or known[1]
    if rank and fork(row) and str(row.get("mla_attn")) in ("0", "False"):  # the fork without MLA caches every head
        kv_heads = (heads or 1,) * layers
    compressed = "ckv" in str(row.get("type_k")).lower()
    latent = bool(rank) and (compressed or str(row.get("mla_attn")) not in ("0", "0.0", "False"))
    if latent:
        kv_heads = (1,) * layers
    facts = ModelFacts(
        path=Path(str(row.get("id") or "row")),
        format="gguf",
        name=str(row.get("model_name") or arch),
        architecture=arch,
        file_bytes=0,
        weights_bytes=0,
        layers=layers,
        embedding_length=width,
        feed_forward_length=whole(row, "n_ff"),
        heads=heads,
        kv_heads=kv_heads,
        key_length=(rank or 0) + rotated if latent else key_length,
        value_length=whole(row, "n_embd_head_v") or key_length,
        sliding_window=window,
        windowed_layers=windowed,
        latent_kv=latent,
        recurrent_state_bytes=state_bytes,
        logit_softcap=arch in SOFTCAPPED,
        experts=whole(row, "n_expert"),
        experts_used=used,
        expert_feed_forward_length=expert_inner or None,
        vocabulary=vocabulary,
        context_max=whole(row, "n_ctx_train"),
        graph=GraphFacts(
            fused_attention=arch in ("phi3", "gptneox", "falcon"),
            fused_gate=arch in ("phi3", "glm4", "chatglm"),
            gated_attention=arch in EVERY_FOURTH,
            ungated=arch in UNGATED,
            shifting_norm=arch in SHIFTING,
            parallel=arch in ("falcon", "gptneox", "command-r", "cohere2", "phi2"),
            shared_expert_length=shared,
            expert_layers=tuple(layer >= lead for layer in range(layers)) if used else (),
            ahead_layers=1 if arch == "glm4moe" and (not fork(row) or NO_CACHE_AHEAD.search(name)) else 0,
            state_layers=stateful,
            state_kind=("delta" if arch in EVERY_FOURTH else "mamba2") if any(stateful) else "",
            state_inner=inner,
            state_size=state,
            state_groups=groups,
            state_heads=whole(row, "ssm_dt_rank") or 0,
            convolution=convolution,
            latent_rank=rank or 0 if latent else 0,
            latent_query=1536 if latent else 0,
            rope_length=rotated,
            latent_key_length=key_length or 0,
            latent_value_length=whole(row, "n_embd_head_v") or 0,
        ),
    )
    return with_weights(row, facts, bits)


def window_of(row: Row, arch: str, layers: int) -> tuple[int | None, tuple[bool, ...]]:
    """The fork and the builds before mid-2025 cache the whole context in every layer."""
    window = whole(row, "n_swa")
    period = whole(row, "n_swa_pattern") or 0
    period = period if period > 1 else WINDOW_PERIODS.get(arch, 0)
    if not window or not period or fork(row) or (build_of(row) == 5_000 and arch in ("gemma2", "gemma3", "cohere2")):
        return None, ()
    return window, tuple(layer % period < period - 1 for layer in range(layers))


def expert_length(row: Row, arch: str, key_length: int) -> int:
    """The inner length of one expert where a log does not print it: out of the number of parameters."""
    layers, width, experts = whole(row, "n_layer") or 0, whole(row, "n_embd") or 0, whole(row, "n_expert") or 0
    parameters, heads = number(row.get("model_params")), whole(row, "n_head") or 0
    if not experts or not layers or not width:
        return 0
    if not parameters:
        return whole(row, "n_ff") or 0
    attention = width * key_length * 2 * (heads + (whole(row, "n_head_kv") or heads))
    tables = (1 if arch in TIED else 2) * width * (whole(row, "n_vocab") or 0)
    shared, lead = SHARED_AND_LEAD.get(arch, (0, 0))
    left = parameters - tables - layers * attention - lead * 3 * width * (whole(row, "n_ff") or 0)
    length = left / (3 * width * (experts + shared) * max(1, layers - lead))
    return max(64, round(length / 64) * 64)


def attention_parameters(facts: ModelFacts, rank: int) -> int:
    """Numbers in one layer's attention matrices."""
    width, heads = facts.embedding_length or 0, facts.heads or 1
    if not rank:
        cached = max(facts.kv_heads, default=0) * ((facts.key_length or 0) + (facts.value_length or 0))
        return width * (heads * (facts.key_length or 64) * 2 + cached)
    position = facts.graph.rope_length
    nope = value = 128  # of every model with this attention so far
    low = LATENT_QUERY if width > LATENT_QUERY_FROM_WIDTH else 0
    query = low * (width + heads * (nope + position)) if low else width * heads * (nope + position)
    return query + width * (rank + position) + rank * heads * (nope + value) + heads * value * width


def dense_density(row: Row, bits: float, mean: float, chosen: Bits) -> float:
    """Bytes per number of what is no expert: the stated type where the experts' is smaller, else what recipes keep at least."""
    if bits / 8 > 1.1 * mean:
        return bits / 8
    recipe = chosen.recipe if FORK_TYPE.search(str(row.get("file_type") or "").upper()) else chosen.dense
    return max(mean, recipe / 8)


def with_weights(row: Row, facts: ModelFacts, chosen: Bits) -> ModelFacts:
    """Shares the file's size among embedding, output and layers: by dimensions, embedding and output by their usual type."""
    layers, width, vocabulary = facts.layers or 0, facts.embedding_length or 0, facts.vocabulary or 0
    table = width * vocabulary
    attention = attention_parameters(facts, whole(row, "kv_lora_rank") or 0)
    inner = (facts.feed_forward_length or 0) * width * (2 if facts.graph.ungated else 3)
    expert = width * (facts.expert_feed_forward_length or 0)
    flags = facts.graph.expert_layers or (False,) * layers
    experts = [3 * expert * (facts.experts or 0) if flag else 0 for flag in flags]
    shared = 3 * width * facts.graph.shared_expert_length
    others = [attention + (shared if flag else inner) for flag in flags]
    routers = [4 * width * (facts.experts or 0) if flag else 0 for flag in flags]  # bytes: always f32
    counted = sum(experts) + sum(others)
    parameters = number(row.get("model_params"))
    tied = facts.architecture in TIED
    if parameters:
        tied = abs(parameters - counted - table) < abs(parameters - counted - 2 * table)
    bits = bits_of(row) or 4.5
    total = size_of(row.get("file_size")) or int((parameters or counted + 2 * table) * bits * 1.016 / 8)
    whole_bits = max(bits, chosen.output)
    embedding = int(table * (whole_bits if tied else bits) / 8)
    output = 0 if tied else int(table * whole_bits / 8)
    rest = max(0, total - embedding - output - sum(routers))
    density = rest / counted if counted else 0.0
    dense = dense_density(row, bits, density, chosen) if any(experts) else density
    if sum(experts):
        density = max(0.0, rest - dense * sum(others)) / sum(experts)
    tensors = [TensorFacts(role="embedding", layer=None, type="", bytes=embedding, largest_bytes=embedding)]
    if output:
        tensors.append(TensorFacts(role="output", layer=None, type="", bytes=output, largest_bytes=output))
    for layer in range(layers):
        largest = max(attention // 2, shared // 3 if flags[layer] else inner // 3)
        tensors.append(
            TensorFacts(
                role="layer",
                layer=layer,
                type="",
                bytes=int(others[layer] * dense) + routers[layer],
                largest_bytes=int(largest * dense),
            )
        )
        if experts[layer]:
            size = int(experts[layer] * density)
            tensors.append(TensorFacts(role="expert", layer=layer, type="", bytes=size, largest_bytes=size // 3))
    return msgspec.structs.replace(
        facts,
        weights_bytes=sum(tensor.bytes for tensor in tensors),
        file_bytes=total,
        tensors=tuple(tensors),
        tied_embeddings=tied,
        parameters=int(parameters) if parameters else None,
    )
