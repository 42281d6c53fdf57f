"""Defines what the planner asks of an engine family: what a load puts where, and what of it could be given up.

A family's branch is an object with the fields of `Family`. The planner holds it against live memory; `remedies.py` varies its
settings by the family's rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec

from app.core.memory.needs import Need
from app.core.memory.plan_types import DevicePlan, Verdict
from app.core.options import Scalar

if TYPE_CHECKING:  # the snapshot imports our types
    from app.core.snapshot import GpuSample


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """A card that may be used: what it is, what the leaving model gives back there, and what admission allows (may be
    negative; None = the card does not tell)."""

    card: GpuSample
    credit_bytes: int = 0
    available_bytes: int | None = None
    is_named: bool = False  # somebody chose it, so that all that are chosen share a model where an engine can


class Placed(msgspec.Struct, frozen=True, kw_only=True):
    """What a load puts where. `cards` has one need for each of the rooms it was asked about, None for one that stays
    untouched; all None = the load runs in main memory alone."""

    cards: tuple[Need | None, ...]
    host: Need
    refusal: str = ""  # a sentence: why the engine would not start like this, whatever is free
    context_tokens: int | None = None  # of the load, with the engine's default filled in
    notes: tuple[str, ...] = ()  # sentences: what was solved and what it trades
    is_doubtful: bool = False  # the engine likely starts like this, but not if its parts take their high bounds


class Reads(msgspec.Struct, frozen=True, kw_only=True):
    """What one generated token reads, in bytes, in a single conversation whose context is half full: weights that take part,
    and the cache. One entry for each of the rooms, and main memory's."""

    cards: tuple[int, ...]
    host: int
    weights_bytes: int = 0  # the weights' share of all: answers that are computed together read it once
    at_once: bool = False  # all cards read at the same time (tensor parallel), not one after the other


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What is tried in place of a load as it is. `gpus` () = the cards as they are."""

    settings: dict[str, Scalar] = {}
    gpus: tuple[str, ...] = ()

    def and_then(self, other: Change) -> Change:
        return Change(settings={**self.settings, **other.settings}, gpus=other.gpus or self.gpus)


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    title: str  # an imperative: "Shorten the context to 8,192 tokens"
    change: Change
    kind: str = ""  # where it is another than its row's


class Evaluated(msgspec.Struct, frozen=True, kw_only=True):
    """A load held against live memory."""

    placed: Placed
    devices: tuple[DevicePlan, ...]
    verdict: Verdict

    @property
    def spare_bytes(self) -> int:
        """What the tightest device has left under the high bound; negative = so much is missing."""
        if self.placed.refusal:
            return -1
        return min(((each.available_bytes or 0) - each.high_bytes for each in self.devices), default=0)


class Attempt(Protocol):
    """A load that a remedy row may vary."""

    @property
    def family(self) -> Family: ...

    @property
    def settings(self) -> Mapping[str, Scalar]:
        """With what was changed before."""

    def fits(self, change: Change) -> bool: ...

    def largest(self, least: int, most: int, change: Callable[[int], Change]) -> int | None:
        """The largest number from `least` to `most` whose change fits, where that is so up to some point; surely where
        there is one of which that can be said, else likely."""

    def evaluated(self, change: Change) -> Evaluated: ...

    @property
    def rooms(self) -> Sequence[Room]:
        """The cards that the load uses now."""

    @property
    def all_rooms(self) -> Sequence[Room]:
        """Every card of the machine."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of remedy. A family's rows stand in the order of least loss.

    `offers` yields what fits by this alone, best first. `most` is the step taken as far as it goes, for combinations; None
    for a kind that combinations solve by `offers` on top of the steps. `moves_weights`: the others are not even tried
    alone where the weights are already too much for a device.
    """

    kind: str
    offers: Callable[[Attempt], Iterator[Offer]]
    most: Callable[[Attempt], Offer | None] | None = None
    moves_weights: bool = False


class Family(Protocol):
    """One model on one engine family: everything about a load but its settings and the memory of the moment."""

    @property
    def rows(self) -> tuple[Row, ...]: ...

    def placed(self, settings: Mapping[str, Scalar], rooms: Sequence[Room]) -> Placed: ...

    def reads(self, settings: Mapping[str, Scalar], rooms: Sequence[Room]) -> Reads: ...

    def with_context(self, tokens: int) -> dict[str, Scalar]:
        """The settings that give a load a context of so many tokens."""

    @property
    def context_max(self) -> int | None:
        """The longest context that the model is made for."""
