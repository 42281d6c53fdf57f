"""Knows what a llama.cpp load can give up for memory, in the order of least loss (vram.md section 8)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from app.core.memory.case import Attempt, Change, Offer, Room, Row
from app.core.memory.load import Load
from app.core.options import Scalar

if TYPE_CHECKING:
    from app.core.memory.llama_plan import LlamaPlan

LEAST_CONTEXT_TOKENS = 1_024
CONTEXT_STEP_TOKENS = 256
LEAST_UBATCH_TOKENS = 64
SMALL_UBATCH_TOKENS = 128  # in combinations; below it prompts get slow
Q8_BLOCK = 32  # a cache row must be whole blocks
OUTPUT = 1  # the output counts as one layer more


def _slots(attempt: Attempt) -> Iterator[Offer]:
    slots = attempt.largest(1, _load(attempt).slots - 1, lambda n: Change(settings={"slots": n}))
    if slots is not None:
        yield _slots_offer(slots)


def _one_slot(attempt: Attempt) -> Offer | None:
    return _slots_offer(1) if _load(attempt).slots > 1 else None


def _slots_offer(slots: int) -> Offer:
    title = "Answer one request at a time" if slots == 1 else f"Answer {slots} requests at once"
    return Offer(title=title, change=Change(settings={"slots": slots}))


def _context(attempt: Attempt) -> Iterator[Offer]:
    tokens = _longest_context(attempt, Change())
    if tokens is not None:
        yield _context_offer(tokens)


def _longest_context(attempt: Attempt, base: Change) -> int | None:
    """The largest context below the present one that fits, in whole steps."""
    step = CONTEXT_STEP_TOKENS
    most = (_load(attempt).context_tokens - 1) // step
    steps = attempt.largest(
        LEAST_CONTEXT_TOKENS // step, most, lambda n: base.and_then(Change(settings={"context_tokens": n * step}))
    )
    return None if steps is None else steps * step


def _context_offer(tokens: int) -> Offer:
    return Offer(title=f"Shorten the context to {tokens:,} tokens", change=Change(settings={"context_tokens": tokens}))


def _q8(attempt: Attempt) -> Iterator[Offer]:
    """Alone where that is enough, else with the longest context: it keeps about twice what a shorter context alone does."""
    offer = _q8_offer(attempt)
    if offer is None:
        return
    if attempt.fits(offer.change):
        yield offer
        return
    tokens = _longest_context(attempt, offer.change)
    if tokens is not None:
        shorter = _context_offer(tokens)
        yield Offer(
            title=f"{offer.title} and {_lower(shorter.title)}",
            change=offer.change.and_then(shorter.change),
            kind="kv_type+context",
        )


def _q8_offer(attempt: Attempt) -> Offer | None:
    load, facts = _load(attempt), _family(attempt).facts
    lengths = (facts.key_length, facts.value_length, facts.window_key_length, facts.window_value_length)
    if load.kv_type_k != "f16" or load.kv_type_v != "f16" or any((length or 0) % Q8_BLOCK for length in lengths):
        return None
    change = Change(settings={"kv_type_k": "q8_0", "kv_type_v": "q8_0"})
    if not load.flash_attention:  # values below f16 need it
        change = change.and_then(Change(settings={"flash_attention": "on"}))
    return Offer(title="Keep the KV cache as q8_0", change=change)


def _ubatch(attempt: Attempt) -> Iterator[Offer]:
    """The largest halving that fits; one more is tried for each."""
    tokens = _load(attempt).ubatch_tokens
    while (tokens := tokens // 2) >= LEAST_UBATCH_TOKENS:
        offer = _ubatch_offer(tokens)
        if attempt.fits(offer.change):
            yield offer
            return


def _small_ubatch(attempt: Attempt) -> Offer | None:
    return _ubatch_offer(SMALL_UBATCH_TOKENS) if _load(attempt).ubatch_tokens > SMALL_UBATCH_TOKENS else None


def _ubatch_offer(tokens: int) -> Offer:
    return Offer(title=f"Compute {tokens} prompt tokens at a time", change=Change(settings={"ubatch_tokens": tokens}))


def _projector(attempt: Attempt) -> Iterator[Offer]:
    offer = _projector_offer(attempt)
    if offer is not None and attempt.fits(offer.change):
        yield offer


def _projector_offer(attempt: Attempt) -> Offer | None:
    seeing = any(each.role == "vision" for each in _family(attempt).companions)
    if not seeing or not _load(attempt).gpu_layers or attempt.settings.get("mmproj_on_gpu") is False:
        return None
    return Offer(
        title="Look at images in main memory instead of on the card", change=Change(settings={"mmproj_on_gpu": False})
    )


def _experts(attempt: Attempt) -> Iterator[Offer]:
    """As few layers' experts as suffice."""
    family, load = _family(attempt), _load(attempt)
    if not load.gpu_layers or not any(family.weights.experts) or family.family == "llama-cpp-python":
        return
    layers = len(family.weights.layers)
    kept = attempt.largest(-layers, -load.cpu_expert_layers - 1, lambda n: Change(settings={"cpu_expert_layers": -n}))
    if kept is not None:
        yield Offer(
            title=f"Keep the experts of {-kept} layers in main memory",
            change=Change(settings={"cpu_expert_layers": -kept}),
        )


def _layers(attempt: Attempt) -> Iterator[Offer]:
    load, units = _load(attempt), len(_family(attempt).weights.layers) + OUTPUT
    if not load.gpu_layers:
        return
    layers = attempt.largest(1, load.gpu_layers - 1, lambda n: Change(settings={"gpu_layers": n}))
    if layers is not None:
        yield Offer(
            title=f"Put {layers} of {units} layers on the card, the rest in main memory",
            change=Change(settings={"gpu_layers": layers}),
        )
    elif attempt.fits(Change(settings={"gpu_layers": 0})):
        yield Offer(title="Run on the processor", change=Change(settings={"gpu_layers": 0}))


def _another_card(attempt: Attempt) -> Iterator[Offer]:
    """One card alone that is not what the load uses now; the one with most room first."""
    if not _load(attempt).gpu_layers:
        return
    used = tuple(room.card.uuid for room in attempt.rooms)
    for room in _by_room(attempt):
        change = Change(gpus=(room.card.uuid,), settings=_unsplit(attempt))
        if change.gpus != used and attempt.fits(change):
            yield Offer(title=f"Load it on {room.card.name} (card {room.card.index})", change=change)
            return


def _spread(attempt: Attempt) -> Iterator[Offer]:
    """Over the cards that are used now by the room of each, else over more cards."""
    if not _load(attempt).gpu_layers:
        return
    used = tuple(room.card.uuid for room in attempt.rooms)
    if len(used) > 1:
        shares = _shares_by_room(attempt, Change())
        change = Change(settings={"tensor_split": shares}) if shares else None
        if change is not None and attempt.fits(change):
            yield Offer(title=f"Spread it over the cards as {shares.replace(',', ' : ')}", change=change)
            return
    rooms = _by_room(attempt)
    for count in range(2, len(rooms) + 1):
        cards = sorted((room.card for room in rooms[:count]), key=lambda card: card.index)
        change = Change(gpus=tuple(card.uuid for card in cards), settings=_unsplit(attempt))
        if set(change.gpus) == set(used):
            continue
        if not attempt.fits(change):
            shares = _shares_by_room(attempt, change)
            change = change.and_then(Change(settings={"tensor_split": shares})) if shares else change
            if not shares or not attempt.fits(change):
                continue
        names = " and ".join(f"{card.name} (card {card.index})" for card in cards)
        yield Offer(title=f"Spread it over {names}", change=change)
        return


def _unsplit(attempt: Attempt) -> dict[str, Scalar]:
    """Shares that were said for other cards mean nothing for these."""
    return {"tensor_split": ""} if attempt.settings.get("tensor_split") else {}


def _by_room(attempt: Attempt) -> list[Room]:
    known = [room for room in attempt.all_rooms if room.available_bytes is not None]
    return sorted(known, key=lambda room: -(room.available_bytes or 0))


def _shares_by_room(attempt: Attempt, change: Change) -> str:
    """Per cent of the layers for each card, by what it has left beside what does not depend on its layers; "" = no room."""
    found = attempt.evaluated(change)
    rooms = []
    for device in found.devices:
        if device.device == "host":
            continue
        moved = sum(part.bytes for part in device.parts if part.name in ("weights", "kv_cache", "state"))
        rooms.append(max(0, (device.available_bytes or 0) - (device.high_bytes - moved)))
    total = sum(rooms)
    return ",".join(str(round(100 * room / total)) for room in rooms) if total else ""


def _lower(title: str) -> str:
    return title[:1].lower() + title[1:]


def _family(attempt: Attempt) -> LlamaPlan:
    return cast("LlamaPlan", attempt.family)


def _load(attempt: Attempt) -> Load:
    return _family(attempt).load(attempt.settings, attempt.rooms)


ROWS: tuple[Row, ...] = (
    Row(kind="slots", offers=_slots, most=_one_slot),
    Row(kind="context", offers=_context),
    Row(kind="kv_type", offers=_q8, most=_q8_offer),
    Row(kind="ubatch", offers=_ubatch, most=_small_ubatch),
    Row(kind="projector", offers=_projector, most=_projector_offer, moves_weights=True),
    Row(kind="experts", offers=_experts, moves_weights=True),
    Row(kind="layers", offers=_layers, moves_weights=True),
    Row(kind="card", offers=_another_card, moves_weights=True),
    Row(kind="cards", offers=_spread, moves_weights=True),
)
