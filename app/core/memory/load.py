"""Decides what a load means for memory: the settings that weigh something, with the engines' own defaults filled in."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from app.core.catalog.facts import ModelFacts
from app.core.options import Scalar

DEFAULT_CONTEXT_LIMIT_TOKENS = 32_768
CONTEXT_WHEN_UNKNOWN_TOKENS = 4_096
UBATCH_TOKENS = 512  # llama.cpp's default

# Bytes for one cached number: the block's bytes over its elements (vram.md 2.1).
KV_TYPE_BYTES = {
    "f32": 4.0, "f16": 2.0, "bf16": 2.0, "q8_0": 34 / 32, "q5_1": 24 / 32, "q5_0": 22 / 32, "q4_1": 20 / 32,
    "q4_0": 18 / 32, "iq4_nl": 18 / 32,
}  # fmt: skip

# Families whose memory habits these formulas describe: whether they use flash attention when nobody says, and their slots.
FLASH_BY_DEFAULT = {"llama.cpp": True, "llama-server": True, "llama-cpp-python": False, "ollama": True}
SLOTS_BY_DEFAULT = {"llama.cpp": 4, "llama-server": 4, "llama-cpp-python": 1, "ollama": 1}


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """`gpu_layers` counts the output as one more layer, as llama.cpp does; it is never more than layers + 1."""

    context_tokens: int
    slots: int = 1
    ubatch_tokens: int = UBATCH_TOKENS
    gpu_layers: int
    cpu_expert_layers: int = 0
    kv_type_k: str = "f16"
    kv_type_v: str = "f16"
    kv_on_gpu: bool = True
    flash_attention: bool = True
    full_window_cache: bool = False
    tensor_split: tuple[float, ...] = ()
    repack: bool = True


def load_of(facts: ModelFacts, settings: Mapping[str, Scalar], *, family: str, on_gpu: bool) -> Load:
    """The load that `settings` describe; a value of a wrong type counts as not given (validation is the profile's)."""

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
    return Load(
        context_tokens=max(1, number("context_tokens", default_context)),
        slots=max(1, number("slots", SLOTS_BY_DEFAULT.get(family, 1))),
        ubatch_tokens=max(1, number("ubatch_tokens", UBATCH_TOKENS)),
        gpu_layers=min(number("gpu_layers", units), units) if on_gpu else 0,
        cpu_expert_layers=number("cpu_expert_layers", 0),
        kv_type_k=known_kv_type(settings.get("kv_type_k")),
        kv_type_v=known_kv_type(settings.get("kv_type_v")),
        kv_on_gpu=switch("kv_on_gpu", True),
        flash_attention=flash,
        full_window_cache=switch("sliding_window_full", False),
        tensor_split=_shares(text("tensor_split", "")),
        repack=switch("repack", True),
    )


def known_kv_type(value: object) -> str:
    return value if isinstance(value, str) and value in KV_TYPE_BYTES else "f16"


def _shares(text: str) -> tuple[float, ...]:
    """Shares such as "3,1"; nonsense counts as not given."""
    try:
        shares = tuple(float(part) for part in text.split(",")) if text.strip() else ()
    except ValueError:
        return ()
    return shares if sum(shares) > 0 and min(shares) >= 0 else ()
