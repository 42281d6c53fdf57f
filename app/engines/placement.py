"""Decides whether a model can be spread over cards as a profile wants it; pure, before anything is started.

vLLM itself checks the same a minute into the load, rank by rank, and ends with an assertion. What memory each rank needs is
the memory plan's matter.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

from app.core.catalog.facts import ModelFacts
from app.core.errors import SettingInvalid

if TYPE_CHECKING:
    from app.core.snapshot import Gpus, GpuSample

VOCABULARY_PADDING = 64  # vLLM pads the vocabulary to a multiple of it before it is divided
MOST_TRIED = 64


def check_split(where: str, facts: ModelFacts | None, *, each: int, groups: int) -> None:
    """`each`: cards for each layer (tensor parallel), `groups`: groups of layers (pipeline parallel). Raises SettingInvalid.

    `where` begins the sentence. What the model's facts do not tell is not checked.
    """
    if facts is None:
        return
    reason = next(_obstacles(facts, each), "")
    if reason:
        possible = ", ".join(str(n) for n in range(1, MOST_TRIED + 1) if not any(_obstacles(facts, n)))
        raise SettingInvalid(
            f"{where}: settings.tensor_parallel: the model has {reason}, which {each} cards cannot share.",
            f"Take one of {possible}, or divide the layers by pipeline_parallel.",
        )
    if facts.layers and groups > facts.layers:
        raise SettingInvalid(
            f"{where}: settings.pipeline_parallel: the model has only {facts.layers} layers.",
            "Take fewer groups of layers.",
        )


def _obstacles(facts: ModelFacts, each: int) -> Iterator[str]:
    """What of the model does not divide by so many cards."""
    if facts.heads and facts.heads % each:
        yield f"{facts.heads} attention heads"
    for count in sorted({count for count in facts.kv_heads if count > 1}):  # fewer than cards are repeated on them
        if (count % each if count >= each else each % count) and not facts.latent_kv:
            yield f"{count} KV heads"
    if facts.vocabulary:
        padded = -(-facts.vocabulary // VOCABULARY_PADDING) * VOCABULARY_PADDING
        if padded % each:
            yield f"a vocabulary of {facts.vocabulary:,} tokens ({padded:,} when padded)"
    if facts.feed_forward_length and not facts.experts and facts.feed_forward_length % each:
        yield f"feed-forward layers of {facts.feed_forward_length:,} values"


def check_ranks(where: str, cards: Sequence[str], ranks: int, *, elsewhere: bool) -> None:
    """`cards` are those that may be used; `elsewhere`: others may come from other machines. Raises SettingInvalid."""
    if cards and ranks > len(cards) and not elsewhere:
        raise SettingInvalid(
            f"{where}: settings.tensor_parallel: {ranks} cards are needed (tensor x pipeline parallel), and {len(cards)}"
            " can be used.",
            "Take fewer, name more cards in the profile, or let Ray use those of other machines (executor = ray).",
        )
    slices = [card for card in cards[:ranks] if card.startswith("MIG-")]
    if ranks > 1 and slices:
        raise SettingInvalid(
            f"{where}: settings.tensor_parallel: {slices[0]} is a slice of a card (MIG), and a model cannot be spread over"
            " slices.",
            "Name whole cards in `gpus`, or use one slice with tensor_parallel = 1.",
        )


def whole_cards(gpus: Gpus) -> tuple[str, ...]:
    """The cards that a profile without any means, in the driver's order: a card that is divided (MIG) is none itself, and
    whole cards come before slices."""
    divided = {card.mig_parent for card in gpus.gpus if card.mig_parent}
    usable = [card for card in gpus.gpus if card.uuid not in divided]
    return tuple(card.uuid for card in sorted(usable, key=lambda card: card.mig_parent is not None))


def check_known(where: str, wanted: Collection[str], gpus: Gpus) -> None:
    """Raises SettingInvalid for a card of the profile that the driver does not show, or one that is divided (of which the
    driver may show the slices alone)."""
    here = {card.uuid: card for card in gpus.gpus}
    divided = {card.mig_parent for card in gpus.gpus if card.mig_parent}
    for uuid in wanted:
        if uuid in divided:
            slices = ", ".join(card.uuid for card in gpus.gpus if card.mig_parent == uuid)
            raise SettingInvalid(
                f"{where}: gpus: the card {uuid} is divided into slices (MIG) and cannot be used as a whole.",
                f"Name one of its slices: {slices}.",
            )
        if here and uuid not in here:
            there = "; ".join(f"{card.uuid} ({card.name})" for card in here.values())
            raise SettingInvalid(f"{where}: gpus: there is no card {uuid} on this machine.", f"There are: {there}.")


# --- what really happened ---------------------------------------------------------------------------------------------

MIB = 1024**2
NOTED_BYTES = 256 * MIB  # a driver's context of a few hundred MiB on another card is what must be seen; noise must not


def placement_notice(selected: Sequence[str], run_id: str, before: Gpus | None, now: Gpus) -> str:
    """A sentence when a card that was not selected took memory of this run, or a selected one took none; else "".

    `before` is from before the launch. Where the driver names processes, only the run's own count; elsewhere the card's
    growth does, which can be somebody else's: then it says so.
    """
    if not selected or not any(card.uuid in selected for card in now.gpus):
        return ""
    earlier = {card.uuid: card for card in before.gpus} if before is not None else {}
    strayed = []
    for card in now.gpus:
        if card.uuid in selected or _parent_of_selected(card, selected, now):
            continue
        known = card.processes is not None and all(process.bytes is not None for process in card.processes)
        grown = held_on(card, run_id) if known else _growth(earlier.get(card.uuid), card)
        if grown >= NOTED_BYTES:
            who = "" if known else " (of whom, the driver does not tell)"
            strayed.append(f"{card.name} {card.uuid} took {grown / 1024**3:.1f} GiB{who}")
    if strayed:
        return f"Cards that were not selected were used: {'; '.join(strayed)}."
    idle = [
        card
        for card in now.gpus
        if card.uuid in selected and card.processes is not None and not any(p.run_id == run_id for p in card.processes)
    ]
    seen = any(process.run_id == run_id for card in now.gpus for process in card.processes or ())
    if idle and seen:
        names = "; ".join(f"{card.name} {card.uuid}" for card in idle)
        return f"Cards that were selected hold nothing of this model: {names}."
    return ""


def held_on(card: GpuSample, run_id: str) -> int:
    return sum(process.bytes or 0 for process in card.processes or () if process.run_id == run_id)


def _growth(earlier: GpuSample | None, card: GpuSample) -> int:
    if earlier is None or earlier.used_bytes is None or card.used_bytes is None:
        return 0
    return card.used_bytes - earlier.used_bytes


def _parent_of_selected(card: GpuSample, selected: Sequence[str], now: Gpus) -> bool:
    return any(piece.mig_parent == card.uuid and piece.uuid in selected for piece in now.gpus)
