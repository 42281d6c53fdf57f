"""Adds up what is loaded beside a model: projector, draft model and adapters, on the device where each of them lies.

Sources: vram.md section 4 (a projector's own buffer lies outside the model's; a draft is a second model with its own cache).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from app.core.catalog.facts import Companion
from app.core.memory.load import Load, known_kv_type
from app.core.memory.needs import Need, needs_on_gpus, needs_on_host
from app.core.memory.parts import F32, MIB
from app.core.memory.plan_types import Part
from app.core.options import Scalar

# A projector's compute buffer, beyond what one image of its own size needs: low, likely, high. Larger images are cut into
# more pieces; a server's log told 1,136 MiB, Qwen's at 2,048 image tokens 1.5 GiB with its weights (vram.md section 4).
VISION_BUFFER_BYTES = (64 * MIB, 512 * MIB, 1_200 * MIB)
NOT_ITS_OWN = ("context", "process")  # a draft model shares the engine's process and its GPU context


def needs_beside(
    companions: Sequence[Companion],
    settings: Mapping[str, Scalar],
    load: Load,
    shares: Sequence[float],
    units: int,
    accelerator: str,
) -> tuple[list[Need], Need]:
    """What the companions add on each card (one entry per share; none without a card), and in main memory.

    `units` is how many layers the model has, its output counted as one more.
    """
    cards = [NOTHING for _ in shares]
    host = NOTHING
    for companion in companions:
        match companion.role:
            case "vision":
                on_card = bool(shares) and load.gpu_layers > 0 and settings.get("mmproj_on_gpu") is not False
                need = _vision(companion)
                cards, host = (
                    ([together(cards[0], need), *cards[1:]], host) if on_card else (cards, together(host, need))
                )
            case "lora":
                placed = min(1.0, load.gpu_layers / units) if shares and units else 0.0
                whole = companion.weights_bytes
                total = sum(shares) or 1.0
                cards = [
                    together(card, _adapter(int(whole * placed * share / total)))
                    for card, share in zip(cards, shares, strict=True)
                ]
                host = together(host, _adapter(int(whole * (1 - placed))))
            case "draft" if companion.facts is not None:
                more, beside = _draft(companion, settings, load, shares, accelerator)
                cards = (
                    [together(card, need) for card, need in zip(cards, more or cards, strict=True)] if more else cards
                )
                host = together(host, beside)
    return cards, host


NOTHING = Need(parts=(), low_bytes=0, high_bytes=0)


def together(one: Need, other: Need) -> Need:
    return Need(
        parts=one.parts + other.parts,
        low_bytes=one.low_bytes + other.low_bytes,
        high_bytes=one.high_bytes + other.high_bytes,
    )


def _vision(companion: Companion) -> Need:
    weights = Part(name="vision", bytes=companion.weights_bytes, source="sum of the projector's tensors")
    image = (companion.patches or 0) ** 2 * (companion.heads or 0) * F32
    low, likely, high = (image + more for more in VISION_BUFFER_BYTES)
    buffer = Part(name="vision compute", bytes=likely, source="allowance: an image's pieces, seen by each other")
    return Need(parts=(weights, buffer), low_bytes=weights.bytes + low, high_bytes=weights.bytes + high)


def _adapter(size: int) -> Need:
    if not size:
        return NOTHING
    return Need(
        parts=(Part(name="lora", bytes=size, source="sum of the adapter's tensors"),), low_bytes=size, high_bytes=size
    )


def _draft(
    companion: Companion, settings: Mapping[str, Scalar], load: Load, shares: Sequence[float], accelerator: str
) -> tuple[tuple[Need, ...], Need]:
    facts = companion.facts
    assert facts is not None
    units = (facts.layers or 0) + 1
    wanted = settings.get("draft_gpu_layers")
    layers = wanted if isinstance(wanted, int) and not isinstance(wanted, bool) else units
    own = Load(
        context_tokens=load.context_tokens,
        slots=load.slots,
        ubatch_tokens=load.ubatch_tokens,
        gpu_layers=min(max(0, layers), units) if shares else 0,
        kv_type_k=known_kv_type(settings.get("draft_kv_type_k")),
        kv_type_v=known_kv_type(settings.get("draft_kv_type_v")),
        flash_attention=load.flash_attention,
        repack=load.repack,
    )
    if not own.gpu_layers:
        return (), _as_draft(needs_on_host(facts, own))
    cards, host = needs_on_gpus(facts, own, shares, accelerator)
    return tuple(_as_draft(card) for card in cards), _as_draft(host)


def _as_draft(need: Need) -> Need:
    left_out = sum(part.bytes for part in need.parts if part.name in NOT_ITS_OWN)
    parts = tuple(
        Part(name=f"draft {part.name}", bytes=part.bytes, source=part.source)
        for part in need.parts
        if part.name not in NOT_ITS_OWN
    )
    likely = sum(part.bytes for part in parts)
    return Need(
        parts=parts,
        low_bytes=min(likely, max(0, need.low_bytes - left_out)),
        high_bytes=max(likely, need.high_bytes - left_out),
    )
