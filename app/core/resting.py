"""Decides when what is wanted may be away from its seat, and what brings it back: being idle, parked or lent, lacking room.

The wish stays: whoever looks sees what is wanted and why it is not there. A rest that is decided while an engine still runs
takes hold when that engine's end is complete; one that is called off while answers are drained costs nothing.
"""

from __future__ import annotations

from msgspec.structs import replace

from app.core.lifecycle import Backoff, Failure, Idle, Loading, Ready, Reserving, Sleeping, Spawning, Stalled, Waking
from app.core.seat import (
    Budgets,
    GiveBack,
    InUse,
    Lend,
    LookForRoom,
    Park,
    Refuse,
    Rest,
    Resting,
    Room,
    SeatState,
    Step,
    Suspended,
)
from app.core.seat_steps import WOKEN_BY_A_REQUEST, begin_drain, begin_kill, begin_stop, come_back, rest

RestEvent = Lend | Park | GiveBack | Rest | InUse | Room | Suspended


def on_rest(state: SeatState, event: RestEvent, now: float, budgets: Budgets) -> Step:
    match event:
        case Lend():
            return _lend(state, event, now, budgets)
        case Park(level):
            return _park(state, level, now, budgets)
        case GiveBack():
            return come_back(state, now, budgets) if state.resting is not None else (state, (Refuse(_nothing_rests()),))
        case Rest(wanted, resting):
            fresh = isinstance(state.phase, Idle) and state.wanted is None
            return (replace(state, wanted=wanted, resting=resting) if fresh else state), ()
        case InUse(busy):
            state = replace(state, in_use=busy, idle_since=state.idle_since if busy else now)
            if busy and state.resting is not None and state.resting.reason in WOKEN_BY_A_REQUEST:
                return come_back(state, now, budgets)
            return state, ()
        case Suspended(seconds):
            lent = state.resting
            if lent is None or lent.reason != "lent" or lent.until is None:
                return state, ()  # an idle model's clock stands still too: nobody could have asked it meanwhile
            return replace(state, resting=replace(lent, until=lent.until - seconds)), ()
        case Room(wanted, plan):
            waits = state.resting is not None and state.resting.reason == "memory" and state.wanted == wanted
            return come_back(state, now, budgets) if waits and plan.is_admitted else (state, ())


def _park(state: SeatState, level: int, now: float, budgets: Budgets) -> Step:
    if not isinstance(state.phase, Ready | Stalled):
        return state, (Refuse(_nothing_to_park()),)
    resting = Resting(reason="parked")
    state = replace(state, wanted=state.serving, resting=resting, parking=level, rollback_to=None, notice="")
    return begin_drain(replace(state, last_failure=None), now, budgets)


def _lend(state: SeatState, event: Lend, now: float, budgets: Budgets) -> Step:
    if state.wanted is None:
        return state, (Refuse(_nothing_to_lend()),)
    resting = Resting(reason="lent", until=event.until, until_unix=event.until_unix)
    state = replace(state, resting=resting, parking=0, rollback_to=None, notice="", last_failure=None)
    match state.phase:
        case Idle() | Backoff() | Reserving():
            return rest(state, now)
        case Ready() | Stalled():
            return begin_drain(state, now, budgets)
        case Sleeping():
            return begin_stop(state, now, budgets)
        case Spawning() | Loading() | Waking():
            return begin_kill(replace(state, ending=None), now, budgets)
    return state, ()


def over_time(state: SeatState, now: float, budgets: Budgets) -> Step:
    """A rest's moment has come, or an idle model's."""
    resting = state.resting
    if isinstance(state.phase, Ready):
        idle = replace(state, resting=Resting(reason="idle"), parking=budgets.idle_parking)
        return begin_drain(idle, now, budgets)
    if resting is not None and resting.reason == "memory" and state.wanted is not None:
        again = replace(resting, until=now + budgets.room_seconds)
        return replace(state, resting=again), (LookForRoom(state.wanted),)
    return come_back(state, now, budgets)


def rest_due(state: SeatState, budgets: Budgets) -> float | None:
    """When `over_time` is to be decided; None = nothing of the kind is under way (I9: the clock of an idle model runs only
    while nothing is in flight and nothing waits)."""
    match state.phase:
        case Ready() if budgets.idle_unload_seconds > 0 and not state.in_use:
            return max(state.ready_since, state.idle_since) + budgets.idle_unload_seconds
        case Idle() if state.resting is not None:
            return state.resting.until
    return None


def _nothing_to_lend() -> Failure:
    return Failure(
        kind="nothing_loaded", summary="No model is loaded, so its memory cannot be lent.", advice="It is free already."
    )


def _nothing_to_park() -> Failure:
    return Failure(
        kind="nothing_loaded", summary="No model is ready, so none can be put to sleep.", advice="Load one first."
    )


def _nothing_rests() -> Failure:
    return Failure(
        kind="nothing_loaded", summary="Nothing is lent, so nothing can come back.", advice="Load a model instead."
    )
