"""Draws seats, lending, sleep and idle hints: `python -m tests.ui.gallery_seats FOLDER [name-part …]`."""

from __future__ import annotations

import time
from collections.abc import Iterator

import msgspec

from app.core import lifecycle as phases
from app.core.snapshot import Seats, SeatView
from tests.ui import worlds
from tests.ui.drawing import Shot, dark_and_light, draw
from tests.ui.test_seats_ui import FREE, READY, loading_on_second


def on_seat(phase: phases.Phase, **more: object) -> SeatView:
    return msgspec.structs.replace(READY, phase=phase, **more)


NOW = worlds.NOW
HERE = {"profile_id": READY.phase.profile_id, "run_id": READY.phase.run_id, "since": NOW - 4}  # type: ignore[union-attr]
STATES: dict[str, tuple[SeatView, ...]] = {
    "one": (READY,),
    "two_free": (READY, FREE),
    "two_loading": (READY, loading_on_second()),
    "lent": (SeatView(name="main", wanted="qwen3-32b", resting="lent", lent_until_unix=time.time() + 1500),),
    "idle_hint": (msgspec.structs.replace(READY, idle_unload_at_unix=time.time() + 200),),
    "resting": (SeatView(name="main", wanted="qwen3-32b", resting="idle"), loading_on_second()),
    "outdated": (msgspec.structs.replace(READY, outdated=True),),
    "parking": (on_seat(phases.Parking(**HERE, level=1, deadline=NOW + 60)),),
    "asleep": (on_seat(phases.Sleeping(**HERE, level=1, freed_bytes=36 * worlds.GIB), resting="parked"),),
    "waking": (on_seat(phases.Waking(**HERE, deadline=NOW + 60)),),
    "draining": (on_seat(phases.Draining(**HERE, deadline=NOW + 60)),),
}


def shots() -> Iterator[Shot]:
    for state, seats in STATES.items():
        world = msgspec.structs.replace(worlds.WORLDS["ready"], seats=Seats(seats=seats))
        yield from dark_and_light(Shot(f"seats-{state}", world))


if __name__ == "__main__":
    draw(shots())
