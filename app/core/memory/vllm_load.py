"""Decides what a load means for vLLM's memory: the settings that weigh something, with the engine's own defaults filled in.

The defaults follow the card (vLLM computes larger steps on large cards) and the engine's version; both were read in its
releases up to 0.32.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from app.core.catalog.facts import ModelFacts
from app.core.options import Scalar

GIB = 1024**3
MIB = 1024**2
Version = tuple[int, ...]

NEWEST: Version = (0, 32)
OLDEST: Version = (0, 2)  # that anybody still runs
CONTEXT_WHEN_UNKNOWN_TOKENS = 4_096
LONGEST_BY_DEFAULT_TOKENS = 32_768  # as the family says it (native_server.default_context_tokens)
USUAL_UTILISATION = 0.92  # vLLM's own choice; 0.9 before 0.20
NUMBER_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "half": 2, "float": 4}
LARGE_CARD, LARGEST_CARD = 70 * GIB, 160 * GIB
LORA_RANK = 16


class VllmLoad(msgspec.Struct, frozen=True, kw_only=True):
    """Every number is what the engine uses after its own defaults. `kv_type` is a name of `--kv-cache-dtype`, never auto."""

    context_tokens: int
    sequences: int
    batch_tokens: int
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    number_bytes: int = 2
    kv_type: str = "bfloat16"
    eager: bool = False
    utilisation: float | None = None  # None: solved from what is free
    kv_cache_bytes: int | None = None
    block_tokens: int | None = None
    prefix_caching: bool = True
    quantisation: str | None = None  # done while loading, of a model that is not quantised
    lora_rank: int = 0
    loras: int = 0
    offload_bytes: int = 0
    media: bool = False  # eyes or ears are loaded and profiled
    accelerator: str = "cuda"
    version: Version = NEWEST

    @property
    def ranks(self) -> int:
        return self.tensor_parallel * self.pipeline_parallel

    @property
    def on_cpu(self) -> bool:
        return self.accelerator == "cpu"


def load_of(
    facts: ModelFacts,
    settings: Mapping[str, Scalar],
    *,
    accelerator: str,
    card_bytes: int | None = None,
    card_name: str = "",
    version: Version = NEWEST,
    cards: int = 1,
) -> VllmLoad:
    """The load that `settings` describe; a value of a wrong type counts as not given (validation is the profile's).

    `cards`: how many the profile names; they share each layer unless the settings say otherwise.
    """

    def whole(name: str, default: int) -> int:
        value = settings.get(name)
        return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else default

    def number(name: str) -> float | None:
        value = settings.get(name)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else None

    def text(name: str) -> str:
        value = settings.get(name)
        return value if isinstance(value, str) else ""

    on_cpu = accelerator == "cpu"
    groups = 1 if on_cpu else whole("pipeline_parallel", 1)
    shared = cards // groups if cards > 1 and cards % groups == 0 else 1
    each = 1 if on_cpu else whole("tensor_parallel", shared)
    tokens, sequences = usual_batch(accelerator, card_bytes, card_name)
    context = whole("context_tokens", min(facts.context_max or CONTEXT_WHEN_UNKNOWN_TOKENS, LONGEST_BY_DEFAULT_TOKENS))
    sequences = whole("max_sequences", sequences)
    batch = whole("batch_tokens", min(tokens, sequences * context))
    if settings.get("chunked_prefill") is False and "batch_tokens" not in settings:
        batch = max(batch, context)
    kv_bytes = whole("kv_cache_mib", 0) * MIB
    lora = text("lora")
    rank = text("lora_rank_max")
    return VllmLoad(
        context_tokens=context,
        sequences=min(sequences, batch) if "max_sequences" not in settings else sequences,
        batch_tokens=batch,
        tensor_parallel=each,
        pipeline_parallel=groups,
        number_bytes=_number_bytes(facts, text("number_type")),
        kv_type=kv_type_of(facts, text("kv_type"), version, _number_bytes(facts, text("number_type"))),
        eager=settings.get("eager") is True or settings.get("optimisation_level") == 0 or on_cpu,
        utilisation=None if on_cpu else number("gpu_memory_utilisation"),
        kv_cache_bytes=kv_bytes or None,
        block_tokens=whole("block_tokens", 0) or None,
        prefix_caching=settings.get("prefix_caching") is not False,
        quantisation=text("quantisation") or None,
        lora_rank=(int(rank) if rank.isdigit() else LORA_RANK) if lora else 0,
        loras=whole("loras_at_once", 1) if lora else 0,
        offload_bytes=int((number("cpu_offload_gib") or 0) * GIB),
        media=bool({"vision", "audio"} & set(facts.capabilities)),
        accelerator=accelerator,
        version=version,
    )


def usual_batch(accelerator: str, card_bytes: int | None, card_name: str) -> tuple[int, int]:
    """Tokens and sequences of one step when nobody says: the server's defaults by the size of the card."""
    if accelerator == "cpu":
        return 2_048, 128
    if card_bytes is not None and card_bytes >= LARGEST_CARD:
        return 16_384, 1_024
    if card_bytes is not None and card_bytes >= LARGE_CARD and "a100" not in card_name.lower():
        return 8_192, 1_024
    return 2_048, 256


def kv_type_of(facts: ModelFacts, said: str, version: Version, number_bytes: int = 2) -> str:
    """auto is the type in which the model computes (16 bits also of one that was published in 32, as the engine logs), or
    the one for which its weights carry scales."""
    if said and said != "auto":
        return said
    if facts.kv_quantised and version >= (0, 12):
        return facts.kv_quantised
    return "float32" if number_bytes > 2 else "bfloat16"


def _number_bytes(facts: ModelFacts, said: str) -> int:
    """auto computes a model of 32-bit numbers in 16 bits."""
    return NUMBER_BYTES.get(said, 2)
