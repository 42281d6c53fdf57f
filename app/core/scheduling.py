"""Decides which request may go to the engine now: `advance(state, event, now) → (state, effects)`, pure.

A request arrives once and leaves once. In between it waits, is granted a run or is rejected; a grant counts from the
effect until the request leaves, whether or not it was ever delivered, so a slot can neither leak nor be returned twice.
"""

from __future__ import annotations

import enum
import math

import msgspec


class Phase(enum.Enum):
    """What stands behind the endpoint."""

    READY = "ready"
    LOADING = "loading"
    DRAINING = "draining"
    NONE = "none"
    LENT = "lent"


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    concurrency: int
    queue_length: int
    loading_wait_seconds: float  # without a ready engine, from arrival or from the moment the engine went
    queue_wait_seconds: float  # in all


class Waiter(msgspec.Struct, frozen=True):
    id: int
    arrived_at: float
    light: bool


class Granted(msgspec.Struct, frozen=True):
    run_id: str
    light: bool


class State(msgspec.Struct, frozen=True, kw_only=True):
    limits: Limits
    phase: Phase = Phase.NONE
    run_id: str = ""
    concurrency: int = 0  # of the present run: the smaller of the settings' and the engine's own
    reason: str = ""  # a sentence: why no engine is there
    eta_seconds: float | None = None
    until: float | None = None  # while lent: when the model comes back
    unready_since: float = 0.0
    waiting: tuple[Waiter, ...] = ()  # first come, first served
    granted: dict[int, Granted] = {}  # never changed in place


# --- events ----------------------------------------------------------------------------------------------------------


class Arrive(msgspec.Struct, frozen=True):
    """A request wants the engine. A light one (a list, no generation) does not count towards the concurrency."""

    id: int
    light: bool = False


class RouteChanged(msgspec.Struct, frozen=True, kw_only=True):
    phase: Phase
    run_id: str = ""
    concurrency: int | None = None  # the engine's own limit
    reason: str = ""
    eta_seconds: float | None = None
    until: float | None = None


class Left(msgspec.Struct, frozen=True):
    """The request is over: answered, failed, cancelled; granted or still waiting. Telling it twice changes nothing."""

    id: int


class Tick(msgspec.Struct, frozen=True):
    """Time has passed; see `next_deadline`."""


Event = Arrive | RouteChanged | Left | Tick


# --- effects ---------------------------------------------------------------------------------------------------------


class Grant(msgspec.Struct, frozen=True):
    id: int
    run_id: str


class Why(enum.Enum):
    NO_MODEL = "no_model_loaded"
    LENT = "memory_lent"
    QUEUE_FULL = "queue_full"
    LOADING = "model_loading"  # waited as long as a request waits for a model
    BUSY = "engine_busy"  # waited as long as a request waits at all


class Reject(msgspec.Struct, frozen=True):
    id: int
    why: Why
    retry_after_seconds: int


Effect = Grant | Reject


def start(limits: Limits) -> State:
    return State(limits=limits)


def advance(state: State, event: Event, now: float) -> tuple[State, tuple[Effect, ...]]:
    """The next state, and what must be told to whom. `now` is monotonic seconds and never goes back."""
    newcomer: int | None = None
    if isinstance(event, Left) and not state.waiting:  # the common case, without a walk through the rest
        return _without(state, event.id), ()
    match event:
        case Arrive(id, light):
            newcomer = id
            state = msgspec.structs.replace(state, waiting=(*state.waiting, Waiter(id, now, light)))
        case Left(id):
            state = _without(state, id)
        case RouteChanged():
            state = _on_route(state, event, now)
        case Tick():
            pass
    return _settle(state, now, newcomer)


def next_deadline(state: State) -> float | None:
    """When a `Tick` is due at the latest; None while nobody waits. The first in the queue always expires first."""
    return _deadline(state, state.waiting[0])[0] if state.waiting else None


def in_flight(state: State, run_id: str) -> int:
    return sum(granted.run_id == run_id for granted in state.granted.values())


def in_use(state: State) -> bool:
    """Whether anybody is answered or waits for an answer; a list that is asked for does not count."""
    return any(not one.light for one in state.waiting) or any(not one.light for one in state.granted.values())


def busy_with(state: State) -> int:
    """How many places of the present run are taken."""
    return sum([one.run_id == state.run_id and not one.light for one in state.granted.values()])


def _without(state: State, id: int) -> State:
    if id in state.granted:
        granted = dict(state.granted)
        del granted[id]
        return msgspec.structs.replace(state, granted=granted)
    return msgspec.structs.replace(state, waiting=tuple(waiter for waiter in state.waiting if waiter.id != id))


def _on_route(state: State, event: RouteChanged, now: float) -> State:
    was_ready = state.phase is Phase.READY
    limit = state.limits.concurrency
    return msgspec.structs.replace(
        state,
        phase=event.phase,
        run_id=event.run_id if event.phase is Phase.READY else "",
        concurrency=limit if event.concurrency is None else min(limit, event.concurrency),
        reason=event.reason,
        eta_seconds=event.eta_seconds,
        until=event.until,
        unready_since=now if was_ready and event.phase is not Phase.READY else state.unready_since,
    )


def _settle(state: State, now: float, newcomer: int | None) -> tuple[State, tuple[Effect, ...]]:
    """Grants what may run, rejects what may not wait longer; leaves the rest in its order."""
    if not state.waiting:
        return state, ()
    effects: list[Effect] = []
    waiting: list[Waiter] = []
    granted = dict(state.granted)
    busy = busy_with(state)
    for waiter in state.waiting:
        deadline, late = _deadline(state, waiter)
        if state.phase is Phase.NONE:
            effects.append(Reject(waiter.id, Why.NO_MODEL, 10))
        elif state.phase is Phase.LENT:
            effects.append(Reject(waiter.id, Why.LENT, max(1, math.ceil((state.until or now) - now))))
        elif state.phase is Phase.READY and (waiter.light or busy < state.concurrency):
            granted[waiter.id] = Granted(state.run_id, waiter.light)
            busy += not waiter.light
            effects.append(Grant(waiter.id, state.run_id))
        elif now >= deadline:
            effects.append(Reject(waiter.id, late, _retry_after(state)))
        elif waiter.id == newcomer and len(waiting) >= state.limits.queue_length:
            effects.append(Reject(waiter.id, Why.QUEUE_FULL, _retry_after(state)))
        else:
            waiting.append(waiter)
    return msgspec.structs.replace(state, waiting=tuple(waiting), granted=granted), tuple(effects)


def _deadline(state: State, waiter: Waiter) -> tuple[float, Why]:
    """Until when this request may wait as things are, and what its refusal then says."""
    in_all = waiter.arrived_at + state.limits.queue_wait_seconds
    if state.phase is Phase.READY:
        return in_all, Why.BUSY
    loading = max(waiter.arrived_at, state.unready_since) + state.limits.loading_wait_seconds
    return (loading, Why.LOADING) if loading <= in_all else (in_all, Why.LOADING)


def _retry_after(state: State) -> int:
    """A guess that helps: the learnt time to ready where there is one."""
    if state.phase is Phase.READY or state.eta_seconds is None:
        return 5
    return max(1, min(600, math.ceil(state.eta_seconds)))
