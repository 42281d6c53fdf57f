"""Decides what a load means for memory: the settings that weigh something, with the engines' own defaults filled in."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from app.core.catalog.facts import ModelFacts
from app.core.options import Scalar

DEFAULT_CONTEXT_LIMIT_TOKENS = 32_768
CONTEXT_WHEN_UNKNOWN_TOKENS = 4_096
CELL_STEP = 256  # a cache has a multiple of so many cells; builds until mid-2025 without flash attention: of fewer
OLD_CELL_STEP = 32
HEADS_AHEAD = ("mtp", "eagle3", "dflash")  # they roll the model's own state back, so a copy is kept for each guess
DRAFT_TOKENS = 3  # guessed ahead when nobody says how many
UBATCH_TOKENS = 512  # llama.cpp's defaults
BATCH_TOKENS = 2_048

# Bytes for one cached number: the block's bytes over its elements (vram.md 2.1).
KV_TYPE_BYTES = {
    "f32": 4.0, "f16": 2.0, "bf16": 2.0, "q8_0": 34 / 32, "q5_1": 24 / 32, "q5_0": 22 / 32, "q4_1": 20 / 32,
    "q4_0": 18 / 32, "iq4_nl": 18 / 32,
}  # fmt: skip

# Families whose memory habits these formulas describe: whether they use flash attention when nobody says, and their slots.
FLASH_BY_DEFAULT = {"llama.cpp": True, "llama-server": True, "llama-cpp-python": False, "ollama": True}
SLOTS_BY_DEFAULT = {"llama.cpp": 4, "llama-server": 4, "llama-cpp-python": 1, "ollama": 1}


# Builds of llama.cpp that changed the graph: since mid-2025 gate and up are multiplied into a tensor of its own; since 2026
# a server makes room for few logits and the attention mask arrives as f16; since late 2026 tokens and given embeddings may be
# mixed. The first is llama.cpp's history, the others were read off graphs and buffers of builds on either side.
GLU_SINCE_BUILD = 5_780
FEW_OUTPUTS_SINCE_BUILD = 8_000
MIXED_INPUTS_SINCE_BUILD = 11_500
OUTPUT_FIRST_SINCE_BUILD = 7_460  # of the layers that go to the cards the output is the first, before it was the last


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """`gpu_layers` counts the output as one more layer, as llama.cpp does; it is never more than layers + 1."""

    context_tokens: int
    slots: int = 1
    ubatch_tokens: int = UBATCH_TOKENS
    batch_tokens: int = BATCH_TOKENS
    outputs: int = 0  # tokens for whose logits there is room; 0: all of a micro-batch
    unified: bool = True  # the slots share one pool of cells; else each has its own part of the context
    cell_step: int = CELL_STEP
    state_copies: int = 1  # of each sequence's fixed state: one more for each token guessed ahead
    glu: bool = True
    mixed_inputs: bool = True
    wide_mask: bool = False
    gpu_layers: int
    cpu_expert_layers: int = 0
    kv_type_k: str = "f16"
    kv_type_v: str = "f16"
    kv_on_gpu: bool = True
    flash_attention: bool = True
    full_window_cache: bool = False
    tensor_split: tuple[float, ...] = ()
    overrides: tuple[tuple[str, str], ...] = ()  # pattern of tensor names → device, the first that matches counts
    offload_products: bool = True  # large batches are computed on the card for weights in main memory
    output_first: bool = True
    latents_twice: bool = False  # MLA that caches what is a value a second time, turned round (a fork's mode 1)
    expanded_latents: bool = False  # MLA whose keys and values are unpacked for all cells (a fork's modes 2 and 3)
    attention_piece_bytes: int = 0  # attention is computed for as many heads at once as stay below; 0: for all
    prompt_cache_bytes: int = 0
    repack: bool = True


def load_of(
    facts: ModelFacts, settings: Mapping[str, Scalar], *, family: str, on_gpu: bool, build: int | None = None
) -> Load:
    """The load that `settings` describe; a value of a wrong type counts as not given (validation is the profile's).

    `build` is llama.cpp's build number (b5780 → 5780); None: a current one.
    """

    def number(name: str, default: int) -> int:
        value = settings.get(name)
        return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else default

    def text(name: str, default: str) -> str:
        value = settings.get(name)
        return value if isinstance(value, str) else default

    def switch(name: str, default: bool) -> bool:
        value = settings.get(name)
        return value if isinstance(value, bool) else default

    units = (facts.layers or 0) + 1
    default_context = min(facts.context_max or CONTEXT_WHEN_UNKNOWN_TOKENS, DEFAULT_CONTEXT_LIMIT_TOKENS)
    flash = {"on": True, "off": False}.get(text("flash_attention", ""), FLASH_BY_DEFAULT.get(family, True))
    slots = max(1, number("slots", SLOTS_BY_DEFAULT.get(family, 1)))
    batch = max(1, number("batch_tokens", BATCH_TOKENS))
    speculates = settings.get("draft_model") or settings.get("speculation")
    drafted = number("draft_tokens_max", DRAFT_TOKENS) if speculates else 0
    reads_all = family == "llama-cpp-python" or switch("embeddings", False) or switch("rerank", False)
    few = not reads_all and (build is None or build >= FEW_OUTPUTS_SINCE_BUILD)
    unified = switch("kv_unified", True)
    context = max(1, number("context_tokens", default_context))
    return Load(
        context_tokens=context if unified else -(-context // slots // CELL_STEP) * CELL_STEP * slots,
        slots=slots,
        ubatch_tokens=min(batch, max(1, number("ubatch_tokens", UBATCH_TOKENS))),
        batch_tokens=batch,
        outputs=min(batch, slots * (1 + drafted)) if few else 0,
        unified=unified,
        cell_step=OLD_CELL_STEP if build is not None and build < GLU_SINCE_BUILD and not flash else CELL_STEP,
        state_copies=1 + drafted if settings.get("speculation") in HEADS_AHEAD else 1,
        glu=build is None or build >= GLU_SINCE_BUILD,
        mixed_inputs=build is None or build >= MIXED_INPUTS_SINCE_BUILD,
        wide_mask=build is not None and build < FEW_OUTPUTS_SINCE_BUILD,
        gpu_layers=min(number("gpu_layers", units), units) if on_gpu else 0,
        cpu_expert_layers=number("cpu_expert_layers", 0),
        kv_type_k=known_kv_type(settings.get("kv_type_k")),
        kv_type_v=known_kv_type(settings.get("kv_type_v")),
        kv_on_gpu=switch("kv_on_gpu", True),
        flash_attention=flash,
        full_window_cache=switch("sliding_window_full", False),
        tensor_split=_shares(text("tensor_split", "")),
        overrides=_overrides(text("override_tensor", "")),
        offload_products=switch("op_offload", True),
        output_first=build is None or build >= OUTPUT_FIRST_SINCE_BUILD,
        latents_twice=switch("latents_twice", False),
        expanded_latents=switch("expanded_latents", False),
        attention_piece_bytes=number("attention_piece_mib", 0) * 1024**2,
        prompt_cache_bytes=number("prompt_cache_mib", 0) * 1024**2,
        repack=switch("repack", True),
    )


def build_number(engine: str) -> int | None:
    """llama.cpp's number in an engine's name, such as "llama-server b4567" or a package's "2026.10.11549"; None: not in it."""
    found = re.search(r"\bb(\d{4,6})\b|\b20\d\d\.\d{1,2}\.(\d{4,6})\b", engine)
    return int(found[1] or found[2]) if found else None


def known_kv_type(value: object) -> str:
    return value if isinstance(value, str) and value in KV_TYPE_BYTES else "f16"


def _shares(text: str) -> tuple[float, ...]:
    """Shares such as "3,1"; nonsense counts as not given."""
    try:
        shares = tuple(float(part) for part in text.split(",")) if text.strip() else ()
    except ValueError:
        return ()
    return shares if sum(shares) > 0 and min(shares) >= 0 else ()


def _overrides(text: str) -> tuple[tuple[str, str], ...]:
    """Rules such as "exps=CPU" or "blk\\.[0-9]\\.ffn=CUDA1", several with commas between them; one without a device is left out."""
    rules = (rule.rpartition("=") for rule in text.split(","))
    return tuple((pattern.strip(), device.strip()) for pattern, found, device in rules if found and pattern.strip())
