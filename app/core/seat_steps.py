"""Takes the steps that several of the seat's arrows share: begin a load, a drain, a stop; where the end of a run leads."""

from __future__ import annotations

from msgspec.structs import replace

from app.core.lifecycle import (
    Backoff,
    Draining,
    Failed,
    Failure,
    Idle,
    Killing,
    Loading,
    Parking,
    Ready,
    ReleasingVram,
    Reserving,
    Sleeping,
    Spawning,
    Stalled,
    Stopping,
    Waking,
)
from app.core.seat import (
    AwaitDrain,
    AwaitRelease,
    Budgets,
    Heard,
    Kill,
    ParkEngine,
    Reserve,
    Resting,
    SeatState,
    Step,
    Stop,
    WakeEngine,
    Wanted,
)
from app.core.seat_words import STAGES, in_its_place, no_room_yet

INSPECT_SECONDS = 5.0
WOKEN_BY_A_REQUEST = ("idle", "parked")
PORT_ATTEMPTS = 3  # further tries, each on another port, when somebody took it between choice and bind (I13)


def begin_load(state: SeatState, now: float) -> Step:
    assert state.wanted is not None
    number = state.runs_begun + 1
    run_id = f"{state.run_prefix}-{number:04d}"
    phase = Reserving(profile_id=state.wanted.profile_id, run_id=run_id, since=now)
    state = replace(state, phase=phase, runs_begun=number, serving=None, endpoint=None, ending=None, crashed=False)
    return replace(state, resting=None), (Reserve(run_id, state.wanted),)  # type: ignore[arg-type]


def rest(state: SeatState, now: float) -> Step:
    """Nothing runs and something rests: what it was and how it ended does not matter any more."""
    if awaited(state):
        return begin_load(replace(state, returning=True), now)
    state = replace(state, phase=Idle(since=now), serving=None, endpoint=None, ending=None, crashed=False)
    return replace(state, rollback_to=None, returning=False), ()


def come_back(state: SeatState, now: float, budgets: Budgets) -> Step:
    """The rest is over: at once where nothing is left of the engine, else as soon as its end is complete."""
    state = replace(state, resting=None, returning=True)
    match state.phase:
        case Idle():
            return begin_load(state, now)
        case Sleeping():
            return begin_wake(state, now, budgets)
        case Draining() if same_load(state.wanted, state.serving):
            return ready_again(state, now), ()
    return state, ()


def awaited(state: SeatState) -> bool:
    """Whether a request waits for what rests: one that came before its rest was complete is no news any more."""
    return state.in_use and state.resting is not None and state.resting.reason in WOKEN_BY_A_REQUEST


def begin_drain(state: SeatState, now: float, budgets: Budgets) -> Step:
    phase = state.phase
    assert isinstance(phase, Ready | Stalled)
    deadline = now + budgets.drain_seconds
    draining = Draining(profile_id=phase.profile_id, run_id=phase.run_id, since=now, deadline=deadline)
    return replace(state, phase=draining, ending=None, crashed=False), (AwaitDrain(phase.run_id),)


def begin_park(state: SeatState, now: float, budgets: Budgets) -> Step:
    """Nothing is answered any more: what rests with its process sleeps, everything else is stopped."""
    phase, resting = state.phase, state.resting
    assert isinstance(phase, Draining)
    if not state.parking or resting is None or resting.reason not in WOKEN_BY_A_REQUEST:
        return begin_stop(state, now, budgets)
    parking = Parking(
        profile_id=phase.profile_id,
        run_id=phase.run_id,
        level=state.parking,
        since=now,
        deadline=now + budgets.park_seconds + 5,  # who measures counts the budget itself; this is the watchdog
    )
    return replace(state, phase=parking), (ParkEngine(phase.run_id, state.parking),)


def parked(state: SeatState, freed_bytes: int | None, now: float, budgets: Budgets) -> Step:
    """It sleeps. Who changed their mind meanwhile gets what they want now."""
    phase, resting = state.phase, state.resting
    assert isinstance(phase, Parking)
    asleep = Sleeping(
        profile_id=phase.profile_id, run_id=phase.run_id, level=phase.level, freed_bytes=freed_bytes, since=now
    )
    state = replace(state, phase=asleep, parking=0)
    if awaited(state):
        state, resting = replace(state, resting=None, returning=True), None
    if resting is not None and resting.reason in WOKEN_BY_A_REQUEST:
        return state, ()
    if resting is None and same_load(state.wanted, state.serving):
        return begin_wake(state, now, budgets)
    return begin_stop(state, now, budgets)


def begin_wake(state: SeatState, now: float, budgets: Budgets) -> Step:
    phase = state.phase
    assert isinstance(phase, Sleeping)
    waking = Waking(profile_id=phase.profile_id, run_id=phase.run_id, since=now, deadline=now + budgets.wake_seconds)
    return replace(state, phase=waking, notice="", last_failure=None), (WakeEngine(phase.run_id),)


def begin_stop(state: SeatState, now: float, budgets: Budgets) -> Step:
    phase = state.phase
    assert isinstance(phase, Draining | Parking | Sleeping | Waking)
    deadline = now + budgets.stop_grace_seconds + 1  # the keeper counts the grace itself; this is the watchdog
    stopping = Stopping(profile_id=phase.profile_id, run_id=phase.run_id, since=now, deadline=deadline)
    return replace(state, phase=stopping, endpoint=None), (Stop(phase.run_id),)


def begin_kill(state: SeatState, now: float, budgets: Budgets) -> Step:
    phase = state.phase
    assert isinstance(phase, Spawning | Loading | Ready | Stalled | Draining | Parking | Sleeping | Waking | Stopping)
    deadline = now + budgets.kill_seconds
    killing = Killing(profile_id=phase.profile_id, run_id=phase.run_id, since=now, deadline=deadline)
    return replace(state, phase=killing, endpoint=None), (Kill(phase.run_id),)


def begin_release(state: SeatState, now: float, budgets: Budgets) -> Step:
    phase = state.phase
    assert not isinstance(phase, Idle | Failed | Backoff | Reserving)
    deadline = now + budgets.vram_return_seconds + 5  # the watcher counts the budget itself; this is the watchdog
    releasing = ReleasingVram(profile_id=phase.profile_id, run_id=phase.run_id, since=now, deadline=deadline)
    return replace(state, phase=releasing, endpoint=None), (AwaitRelease(phase.run_id),)


def longest_end_seconds(budgets: Budgets) -> float:
    """How long an end may take that is asked for at any moment, until the seat is idle or says what would not end: every
    deadline above, one after another."""
    parts = (
        *(budgets.drain_seconds, budgets.park_seconds + 5, budgets.stop_grace_seconds + 1, budgets.kill_seconds),
        *(INSPECT_SECONDS, budgets.vram_return_seconds + 5),
    )
    return sum(parts)


def settle(state: SeatState, now: float, budgets: Budgets) -> Step:
    """Where an end leads: the wanted load, rest, a restart after a crash, the previous model, a fallback, Failed or Idle."""
    failure, wanted = state.ending, state.wanted
    if state.resting is not None:
        return rest(state, now)
    if state.crashed and failure is not None and wanted is not None and same_load(wanted, state.serving):
        return _after_crash(state, failure, now, budgets)
    if failure is None or not same_load(wanted, state.serving):
        if wanted is not None:
            return begin_load(state, now)
        return replace(state, phase=Idle(since=now), serving=None, ending=None, crashed=False), ()
    if failure.kind == "port_taken" and state.port_attempts < PORT_ATTEMPTS:
        return begin_load(replace(state, port_attempts=state.port_attempts + 1), now)
    if state.returning and failure.kind == "does_not_fit":
        waiting = Resting(reason="memory", until=now + budgets.room_seconds)
        return rest(replace(state, resting=waiting, last_failure=failure, notice=no_room_yet(failure)), now)
    if state.rollback_to is not None:
        back = state.rollback_to
        notice = f"{failure.profile_id or 'The model'} did not start; {back.profile_id} is put back with its settings."
        state = replace(state, wanted=back, fallbacks=(), rollback_to=None, last_failure=failure, notice=notice)
        return begin_load(state, now)
    if state.fallbacks:
        other, *further = state.fallbacks
        state = replace(state, wanted=other, fallbacks=tuple(further), port_attempts=0, last_failure=failure)
        return begin_load(replace(state, returning=False, notice=in_its_place(failure, other.profile_id)), now)
    return _fail(state, failure, now)


def _after_crash(state: SeatState, failure: Failure, now: float, budgets: Budgets) -> Step:
    crashes = (*(t for t in state.crashes if now - t < budgets.restart_window_seconds), now)
    state = replace(state, crashes=crashes, last_failure=failure)
    attempt = len(crashes)
    if attempt > budgets.restarts:
        return _fail(state, failure, now)
    until = now + budgets.backoff_seconds * 2 ** (attempt - 1)
    assert state.wanted is not None
    phase = Backoff(profile_id=state.wanted.profile_id, attempt=attempt, until=until, since=now)
    notice = f"{failure.summary} It is started again (attempt {attempt})."
    return replace(state, phase=phase, serving=None, ending=None, crashed=False, notice=notice), ()


def _fail(state: SeatState, failure: Failure, now: float) -> Step:
    failed = Failed(failure=failure, since=now)
    state = replace(state, phase=failed, wanted=None, serving=None, ending=None, crashed=False, rollback_to=None)
    return replace(state, fallbacks=(), returning=False, last_failure=failure), ()


def ready_again(state: SeatState, now: float) -> SeatState:
    phase = state.phase
    assert isinstance(phase, Ready | Stalled | Draining)
    if isinstance(phase, Ready) or state.endpoint is None:
        return state
    ready = Ready(profile_id=phase.profile_id, run_id=phase.run_id, endpoint=state.endpoint, since=state.ready_since)
    return replace(state, phase=ready, rollback_to=None, returning=False, parking=0)


def heard(phase: Loading, news: Heard) -> Loading:
    """A stage never goes back and progress never falls: late or repeated lines must not make the bar jump."""
    stage = news.stage if news.stage in STAGES and STAGES.index(news.stage) > STAGES.index(phase.stage) else phase.stage
    progress = max((p for p in (phase.progress, news.progress) if p is not None), default=None)
    eta = phase.eta_seconds if news.eta_seconds is None else news.eta_seconds
    return replace(phase, stage=stage, progress=progress, eta_seconds=eta)


def same_load(one: Wanted | None, other: Wanted | None) -> bool:
    """Whether both are the same model with the same settings on the same cards; an override makes no other load of it."""
    if one is None or other is None:
        return one is other
    return replace(one, override=False) == replace(other, override=False)
