"""Knows how much each part of a vLLM rank takes beside the KV cache: weights, the largest step, graphs, libraries.

vLLM measures them itself when it starts (a run of the largest step with empty tokens); these are the formulas behind
what it measures (vram.md 1.2 and 5). The KV cache gets the rest of its budget.
"""

from __future__ import annotations

import re

import msgspec

from app.core.catalog.facts import ModelFacts, TensorFacts
from app.core.memory.remembered import once_per_model
from app.core.memory.vllm_cache import stage_bounds
from app.core.memory.vllm_load import MIB, NEWEST, OLDEST, Version, VllmLoad

VOCABULARY_PADDING = 64
PLAIN_TYPES = {"F32": 4.0, "F16": 2.0, "BF16": 2.0}
# Bytes of one weight of bitsandbytes: 4 bits and a scale for 64 weights, of 32 bits or, nested, of 8 with one of 32 bits for
# 256 of them. Since 0.9.2 a nested scale is unpacked while loading (vLLM's pull request 19742).
SINGLE_SCALES, NESTED_SCALES = 0.5 + 4 / 64, 0.5 + 1 / 64 + 4 / 64 / 256
SCALES_UNPACKED = (0, 9, 2)
QUANTISED_WHILE_LOADING = {"fp8": 1.0, "experts_int8": 1.0}  # of a plain model: bytes of one weight
MXFP4_HIDDEN_STEP, MXFP4_INNER_STEP = 256, 128

# How many matrices of 32-bit numbers, sequences x vocabulary, the sampler holds at its widest. Sorting the vocabulary: the
# logits in 16 and in 32 bits, the sort's keys and 64-bit places in, out and in between (9.5). Kernels that do not sort: the
# logits twice and their probabilities twice (3.5).
SORTED, UNSORTED = 9.5, 3.5
SORTS_WITHOUT_KERNEL = ((0, 11, 1), (0, 17))  # from, to before: the sampler of a library was not chosen by itself then
OLD_SAMPLER = (0, 10)

# Adapters for the embedding and the output as well, in older versions, of models that name them.
VOCABULARY_ADAPTERS = ("llama", "mistral", "mixtral", "granite", "gemma")
WITHOUT_VOCABULARY_ADAPTERS: tuple[int, ...] = (0, 12)

GRAPH_BYTES_PER_LAYER = MIB // 4  # kernels' nodes of one recorded piece of one layer
GRAPHS_COUNTED: tuple[int, ...] = (0, 21)  # since then the estimate is taken from the KV cache


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of one part on one rank."""

    low: int
    likely: int
    high: int
    source: str


def weights(facts: ModelFacts, load: VllmLoad) -> tuple[Size, ...]:
    """Per pipeline stage, what one rank of it holds. Matrices are divided by the ranks of a layer; norms, routers and
    compressed keys are on each of them, KV heads at least one per rank, the vocabulary is padded."""
    layers = facts.layers or 0
    stages = load.pipeline_parallel
    sums = [0.0] * stages
    bounds = stage_bounds(layers, stages) if layers else [(0, 0)] * stages
    stage_of = [n for n, (start, end) in enumerate(bounds) for _ in range(start, end)]
    towers = 0.0
    most_heads = max(facts.kv_heads, default=0)
    for group in facts.tensors if stages > 1 else kinds_of_tensors(facts):
        size = _loaded_bytes(group, facts, load)
        match group.role:
            case "unused" | "draft":
                continue
            case "embedding":
                own = size * _padded_vocabulary(facts) / load.tensor_parallel
                sums[0] += own
                if facts.tied_embeddings and stages > 1:
                    sums[-1] += own
            case "output":
                sums[-1] += size * _padded_vocabulary(facts) / load.tensor_parallel
            case "tower":
                towers += size
                sums[0] += size / load.tensor_parallel
            case _:
                stage = stage_of[group.layer] if group.layer is not None and group.layer < len(stage_of) else stages - 1
                sums[stage] += size * _share(group, most_heads, load)
    if not facts.tensors:
        sums = [facts.weights_bytes / load.ranks] * stages
    rotation = (facts.rotation_numbers or 0) * load.number_bytes
    adapters = lora_bytes(facts, load)
    found = []
    for n, total in enumerate(sums):
        likely = max(0, int(total) + rotation + adapters // stages - load.offload_bytes)
        whole_towers = int(towers - towers / load.tensor_parallel) if n == 0 else 0
        found.append(
            Size(
                low=int(likely * 0.995),
                likely=likely,
                high=int(likely * 1.006) + whole_towers + 2 * MIB,
                source="sum of the checkpoint's tensors, as each rank keeps them"
                if facts.tensors
                else "size of the files, divided evenly",
            )
        )
    return tuple(found)


@once_per_model
def kinds_of_tensors(facts: ModelFacts) -> tuple[TensorFacts, ...]:
    """All layers' tensors of a role and a type as one: on one stage it does not matter whose they are."""
    sums: dict[tuple[str, str], int] = {}
    for group in facts.tensors:
        kind = group.role, group.type
        sums[kind] = sums.get(kind, 0) + group.bytes
    return tuple(TensorFacts(role=role, layer=None, type=kind, bytes=size) for (role, kind), size in sums.items())


def _share(group: TensorFacts, most_heads: int, load: VllmLoad) -> float:
    if group.role == "whole":
        return 1.0
    if group.role == "key_value":
        return max(1 / load.tensor_parallel, 1 / most_heads if most_heads else 0.0)
    return 1 / load.tensor_parallel


def _loaded_bytes(group: TensorFacts, facts: ModelFacts, load: VllmLoad) -> float:
    size = float(group.bytes)
    plain = group.type in PLAIN_TYPES
    if plain and (facts.quantisation in PLAIN_TYPES or group.role in ("embedding", "output")):
        size *= load.number_bytes / PLAIN_TYPES[group.type]
        each = QUANTISED_WHILE_LOADING.get(load.quantisation or "")
        if load.quantisation == "bitsandbytes":
            each = SINGLE_SCALES if load.version >= SCALES_UNPACKED else NESTED_SCALES
        if each is not None and group.role in ("layer", "key_value", "expert"):
            size *= each / load.number_bytes
    if not plain and facts.nested_scales and load.version >= SCALES_UNPACKED:
        size *= SINGLE_SCALES / NESTED_SCALES
    if group.role == "expert" and (facts.quantisation or "").upper() == "MXFP4":
        size *= _mxfp4_padding(facts, load)
    return size


def _mxfp4_padding(facts: ModelFacts, load: VllmLoad) -> float:
    """The kernels of 4-bit experts want hidden sizes in steps; the inner size only where it is divided over ranks."""
    hidden, inner = facts.embedding_length or 0, facts.expert_feed_forward_length or facts.feed_forward_length or 0
    if not hidden or not inner:
        return 1.0
    factor = -(-hidden // MXFP4_HIDDEN_STEP) * MXFP4_HIDDEN_STEP / hidden
    own = inner // load.tensor_parallel
    if load.tensor_parallel > 1 and own:
        factor *= -(-own // MXFP4_INNER_STEP) * MXFP4_INNER_STEP / own
    return factor


def _padded_vocabulary(facts: ModelFacts) -> float:
    size = facts.vocabulary or 0
    return -(-size // VOCABULARY_PADDING) * VOCABULARY_PADDING / size if size else 1.0


def lora_bytes(facts: ModelFacts, load: VllmLoad) -> int:
    """Room for adapters: of every matrix, rank x (what goes in + what comes out), for each that one step can use."""
    if not load.lora_rank or not facts.layers:
        return 0
    hidden, inner = facts.embedding_length or 0, facts.feed_forward_length or 0
    queries = (facts.heads or 0) * (facts.key_length or 0)
    keys = max(facts.kv_heads, default=0) * (facts.key_length or 0)
    attention = (hidden + queries) * 2 + (hidden + keys) * 2
    experts = 0 if facts.experts else 3 * (hidden + inner)
    numbers = (attention + experts) * facts.layers // load.tensor_parallel
    if load.version < WITHOUT_VOCABULARY_ADAPTERS and facts.architecture in VOCABULARY_ADAPTERS:
        numbers += 2 * ((facts.vocabulary or 0) + hidden)
    return load.loras * load.lora_rank * numbers * 2


# --- what a step needs -------------------------------------------------------------------------------------------------


def activation(facts: ModelFacts, load: VllmLoad) -> Size:
    """The widest moment of the largest step: a layer's inside over all its tokens, or the sampler over all sequences."""
    hidden = facts.embedding_length or 4_096
    tokens, each = load.batch_tokens, load.number_bytes
    carried = tokens * hidden * each
    inside = 2 * carried + max(_attention(facts, load), _feed_forward(facts, load), _experts(facts, load))
    rows = min(load.sequences, load.batch_tokens)
    matrix = rows * (facts.vocabulary or 32_000) * 4
    low, likely, high = sampler_matrices(load)
    eyes = _media(facts, load)
    return Size(
        low=max(carried + int(low * matrix), int(inside * 0.7)),
        likely=max(carried + int(likely * matrix), inside) + eyes // 2,
        high=max(carried + int(high * 1.02 * matrix), int(inside * 1.6)) + eyes,
        source=f"formula: the largest step, {tokens:,} tokens of {load.sequences:,} sequences",
    )


def sampler_matrices(load: VllmLoad) -> tuple[float, float, float]:
    """Low, likely, high: which sampler is used depends on the version and on what is installed beside it."""
    first, last = SORTS_WITHOUT_KERNEL
    if load.version < OLD_SAMPLER or first <= load.version < last:
        return UNSORTED, SORTED, SORTED
    if load.version < first:
        return UNSORTED, UNSORTED, SORTED
    return UNSORTED - 1, UNSORTED, UNSORTED + 1


def _attention(facts: ModelFacts, load: VllmLoad) -> int:
    queries = (facts.heads or 1) * (facts.value_length or 128 if not facts.latent_kv else 192)
    keys = max(facts.kv_heads, default=1) * (facts.key_length or 128)
    return load.batch_tokens * (2 * queries + 2 * keys) * load.number_bytes // load.tensor_parallel


def _feed_forward(facts: ModelFacts, load: VllmLoad) -> int:
    """Gate and up side by side, and their product."""
    return 3 * load.batch_tokens * (facts.feed_forward_length or 0) * load.number_bytes // load.tensor_parallel


def _experts(facts: ModelFacts, load: VllmLoad) -> int:
    """Every token once per expert that it is sent to: gate and up, their product, and the result."""
    if not facts.experts or not facts.experts_used:
        return 0
    inner = (facts.expert_feed_forward_length or facts.feed_forward_length or 0) // load.tensor_parallel
    hidden = facts.embedding_length or 0
    return load.batch_tokens * facts.experts_used * (max(2 * inner, hidden) + max(inner, hidden)) * load.number_bytes


def _media(facts: ModelFacts, load: VllmLoad) -> int:
    """An allowance for looking at the largest picture: what is measured on models with eyes (vram.md 3)."""
    return 1_024 * MIB if load.media else 0


def libraries(load: VllmLoad) -> Size:
    """What is not the tensors': handles and workspaces of CUDA's libraries, and NCCL's buffers between ranks."""
    if load.tensor_parallel > 1 or load.pipeline_parallel > 1:
        low, likely, high = 120, 400, 700
    else:
        low, likely, high = 10, 130, 350
    return Size(low=low * MIB, likely=likely * MIB, high=high * MIB, source="allowance for the card's libraries")


def graphs(facts: ModelFacts, load: VllmLoad) -> Size:
    """Recorded graphs: one for each of some step sizes, a piece of every layer in each."""
    if load.eager:
        return Size(low=0, likely=0, high=0, source="none: nothing is recorded")
    sizes = capture_sizes(load)
    layers = -(-(facts.layers or 32) // load.pipeline_parallel) + 1
    likely = sizes * layers * GRAPH_BYTES_PER_LAYER
    return Size(
        low=likely // 5, likely=likely, high=3 * likely, source=f"allowance: {sizes} step sizes of {layers} layers"
    )


def capture_sizes(load: VllmLoad) -> int:
    """1, 2, 4, then every 8 up to 256, then every 16 up to twice the sequences, at most 512."""
    most = min(512, 2 * load.sequences)
    return 3 + min(most, 256) // 8 + max(0, most - 256) // 16


_VERSION = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")


def version_of(text: str | None) -> tuple[int, ...] | None:
    """0.10.1.1 → (0, 10, 1); None when the text has no version."""
    found = _VERSION.match(text or "")
    return tuple(int(part) for part in found.groups() if part is not None) if found else None


def known_version(text: str | None) -> Version:
    """The version that a text names. What names none is a current one, and so is one built from a checkout (0.1.dev5)."""
    found = version_of(text.rpartition(" ")[2] if text else text)
    return NEWEST if found is None or found < OLDEST else found
