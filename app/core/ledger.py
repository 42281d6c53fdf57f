"""Owns which memory is promised to loads under way, so that two seats can never be admitted against the same free bytes."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from app.core.snapshot import Gpus, GpuSample

HOST = "host"


class Promise(msgspec.Struct, frozen=True, kw_only=True):
    """What an admitted run may come to hold, in bytes per device (a card's uuid or "host")."""

    run_id: str
    bytes: Mapping[str, int]
    settled_at: float | None = None  # monotonic seconds when it was ready: later samples show what it holds of a card


class Ledger:
    """At most one promise per seat (I3). All amounts are bytes and signed: a sample may be late, a program may grow."""

    def __init__(self) -> None:
        self._promises: dict[str, Promise] = {}

    def promise(self, seat: str, run_id: str, needs: Mapping[str, int]) -> None:
        self._promises[seat] = Promise(run_id=run_id, bytes=dict(needs))

    def settle(self, seat: str, run_id: str, now: float) -> None:
        """The run is ready: it has taken what it wants of the cards. Main memory goes on being promised, for an engine's
        file pages count as available for as long as nobody asks for them."""
        found = self._promises.get(seat)
        if found is not None and found.run_id == run_id and found.settled_at is None:
            self._promises[seat] = replace(found, settled_at=now)

    def keep(self, seat: str, run_id: str | None) -> None:
        """The seat has this run now and no other: what was promised to another one is free again."""
        found = self._promises.get(seat)
        if found is not None and found.run_id != run_id:
            del self._promises[seat]

    def runs_beside(self, seat: str) -> tuple[str, ...]:
        """The runs of the other seats to which something is promised."""
        return tuple(promise.run_id for name, promise in self._promises.items() if name != seat)

    def outstanding(self, seat: str, gpus: Gpus, held: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
        """Device → bytes that the other seats' runs may still take beyond what the sample shows them to hold.

        `held` is run → device → bytes, seen no later than the sample; what is not known counts as nothing.
        """
        found: dict[str, int] = {}
        for name, promise in self._promises.items():
            if name == seat:
                continue
            shown = promise.settled_at is not None and gpus.taken_at > promise.settled_at
            for device, size in promise.bytes.items():
                if device == HOST or not shown:
                    rest = size - held.get(promise.run_id, {}).get(device, 0)
                    found[device] = found.get(device, 0) + max(0, rest)
        return found


def without(gpus: Gpus, taken: Mapping[str, int]) -> Gpus:
    """The sample as it would be, were `taken` (device → bytes) held already."""
    if not any(taken.values()):
        return gpus
    host = gpus.host
    if host is not None and taken.get(HOST):
        host = replace(host, available_bytes=host.available_bytes - taken[HOST])
    return replace(gpus, gpus=tuple(_card(card, taken.get(card.uuid, 0)) for card in gpus.gpus), host=host)


def _card(card: GpuSample, taken: int) -> GpuSample:
    if not taken:
        return card
    return replace(
        card,
        free_bytes=None if card.free_bytes is None else card.free_bytes - taken,
        used_bytes=None if card.used_bytes is None else card.used_bytes + taken,
    )
