"""Knows what a vLLM load can give up for memory, in the order of least loss."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from app.core.memory.case import Attempt, Change, Offer, Room, Row
from app.core.memory.vllm_load import MIB
from app.core.memory.vllm_solve import LEAST_CONTEXT_TOKENS, LEAST_SEQUENCES, Solved, share_of
from app.core.memory.vllm_solve import Card as VllmCard

if TYPE_CHECKING:
    from app.core.memory.vllm_plan import VllmPlan

CONTEXT_STEP_TOKENS = 256
LEAST_BATCH_TOKENS = 512
PLAIN_KV = ("bfloat16", "float16", "float32", "half")


def _utilisation(attempt: Attempt) -> Iterator[Offer]:
    """What can be taken now, where the profile says another share (too much for what is free, or too little to start)."""
    offer = _share_offer(attempt)
    if offer is not None and attempt.fits(offer.change):
        yield offer


def _share_offer(attempt: Attempt) -> Offer | None:
    said = attempt.settings.get("gpu_memory_utilisation")
    load = _solved(attempt).load
    cards = [
        VllmCard(total_bytes=room.card.total_bytes, usable_bytes=room.available_bytes)
        for room in attempt.rooms[: load.ranks]
    ]
    share = share_of(cards)
    if load.on_cpu or said is None or share is None or share == said:
        return None
    title = f"Take {share:.0%} of the card, which is free now"
    return Offer(title=title, change=Change(settings={"gpu_memory_utilisation": share}))


def _kv_bytes(attempt: Attempt) -> Iterator[Offer]:
    """Where the profile says how many bytes the KV cache gets: the least that hold one conversation where they were too
    few, else the most for which there is room."""
    said = attempt.settings.get("kv_cache_mib")
    found = _solved(attempt)
    if not isinstance(said, int) or found.layout is None:
        return
    least = -(-found.request_bytes // MIB)
    if said < least:
        enough = _kv_bytes_offer(least)
        if attempt.fits(enough.change):
            yield enough
        return
    mib = attempt.largest(least, said - 1, lambda n: _kv_bytes_offer(n).change)
    if mib is not None:
        yield _kv_bytes_offer(mib)


def _kv_bytes_offer(mib: int) -> Offer:
    return Offer(title=f"Give the KV cache {mib:,} MiB", change=Change(settings={"kv_cache_mib": mib}))


def _sequences(attempt: Attempt) -> Iterator[Offer]:
    sequences = _solved(attempt).load.sequences
    while (sequences := sequences // 2) >= LEAST_SEQUENCES:
        offer = _sequences_offer(sequences)
        if attempt.fits(offer.change):
            yield offer
            return


def _few_sequences(attempt: Attempt) -> Offer | None:
    load = _solved(attempt).load
    return _sequences_offer(LEAST_SEQUENCES) if load.sequences > LEAST_SEQUENCES and not load.on_cpu else None


def _sequences_offer(sequences: int) -> Offer:
    return Offer(title=f"Answer {sequences} requests at once", change=Change(settings={"max_sequences": sequences}))


def _context(attempt: Attempt) -> Iterator[Offer]:
    step = CONTEXT_STEP_TOKENS
    most = (_solved(attempt).load.context_tokens - 1) // step
    steps = attempt.largest(LEAST_CONTEXT_TOKENS // step, most, lambda n: Change(settings={"context_tokens": n * step}))
    if steps is not None:
        tokens = steps * step
        yield Offer(
            title=f"Shorten the context to {tokens:,} tokens", change=Change(settings={"context_tokens": tokens})
        )


def _fp8(attempt: Attempt) -> Iterator[Offer]:
    offer = _fp8_offer(attempt)
    if offer is not None and attempt.fits(offer.change):
        yield offer


def _fp8_offer(attempt: Attempt) -> Offer | None:
    load = _solved(attempt).load
    if load.kv_type not in PLAIN_KV or load.on_cpu:
        return None
    return Offer(title="Keep the KV cache as fp8", change=Change(settings={"kv_type": "fp8"}))


def _batch(attempt: Attempt) -> Iterator[Offer]:
    tokens = _solved(attempt).load.batch_tokens
    while (tokens := tokens // 2) >= LEAST_BATCH_TOKENS:
        offer = _batch_offer(tokens)
        if attempt.fits(offer.change):
            yield offer
            return


def _small_batch(attempt: Attempt) -> Offer | None:
    load = _solved(attempt).load
    return _batch_offer(LEAST_BATCH_TOKENS) if load.batch_tokens > LEAST_BATCH_TOKENS and not load.on_cpu else None


def _batch_offer(tokens: int) -> Offer:
    return Offer(title=f"Compute {tokens:,} tokens in a step", change=Change(settings={"batch_tokens": tokens}))


def _eager(attempt: Attempt) -> Iterator[Offer]:
    offer = _eager_offer(attempt)
    if offer is not None and attempt.fits(offer.change):
        yield offer


def _eager_offer(attempt: Attempt) -> Offer | None:
    if _solved(attempt).load.eager:
        return None
    return Offer(title="Record no graphs (it answers more slowly)", change=Change(settings={"eager": True}))


def _another_card(attempt: Attempt) -> Iterator[Offer]:
    load = _solved(attempt).load
    if load.on_cpu or load.ranks > 1:
        return
    used = tuple(room.card.uuid for room in attempt.rooms[:1])
    for room in _by_room(attempt):
        change = Change(gpus=(room.card.uuid,))
        if change.gpus != used and attempt.fits(change):
            yield Offer(title=f"Load it on {room.card.name} (card {room.card.index})", change=change)
            return


def _more_cards(attempt: Attempt) -> Iterator[Offer]:
    """Each layer on two cards, or four, or eight; as many as divide the attention heads."""
    facts, load = _family(attempt).facts, _solved(attempt).load
    rooms = _by_room(attempt)
    for count in (2, 4, 8):
        if load.on_cpu or count <= load.tensor_parallel or count > len(rooms) or (facts.heads or 0) % count:
            continue
        cards = sorted((room.card for room in rooms[:count]), key=lambda card: card.index)
        change = Change(gpus=tuple(card.uuid for card in cards), settings={"tensor_parallel": count})
        if attempt.fits(change):
            names = " and ".join(f"{card.name} (card {card.index})" for card in cards)
            yield Offer(title=f"Share each layer between {names}", change=change)
            return


def _by_room(attempt: Attempt) -> list[Room]:
    known = [room for room in attempt.all_rooms if room.available_bytes is not None]
    return sorted(known, key=lambda room: -(room.available_bytes or 0))


def _family(attempt: Attempt) -> VllmPlan:
    return cast("VllmPlan", attempt.family)


def _solved(attempt: Attempt) -> Solved:
    return _family(attempt).solved(attempt.settings, attempt.rooms)


ROWS: tuple[Row, ...] = (
    Row(kind="utilisation", offers=_utilisation, most=_share_offer),
    Row(kind="kv_bytes", offers=_kv_bytes),
    Row(kind="sequences", offers=_sequences, most=_few_sequences),
    Row(kind="context", offers=_context),
    Row(kind="kv_type", offers=_fp8, most=_fp8_offer),
    Row(kind="batch", offers=_batch, most=_small_batch),
    Row(kind="eager", offers=_eager, most=_eager_offer),
    Row(kind="card", offers=_another_card, moves_weights=True),
    Row(kind="cards", offers=_more_cards, moves_weights=True),
)
