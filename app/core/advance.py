"""Decides what happens to a seat: `advance(state, event, now, budgets) → (state, effects)`, pure.

Two facts instead of a queue: what is wanted, and which phase the seat is in. Clicking A, B, C collapses to C; cancelling
a load is wanting nothing. News of an engine names its run, so that news of a dead engine is ignored. Every end, asked
for or not, passes through ReleasingVram, where measured memory decides when the next load may begin. A failed switch
puts the previous model back once; a crash is answered by a bounded number of restarts.
"""

from __future__ import annotations

from collections.abc import Sequence

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
    StopFailed,
    Stopping,
    Waking,
)
from app.core.resting import on_rest, over_time, rest_due
from app.core.seat import (
    Admitted,
    Answered,
    Budgets,
    Choice,
    CutStreams,
    Drained,
    Ended,
    Event,
    Exited,
    Flowing,
    GiveBack,
    Heard,
    Inspect,
    InUse,
    Lend,
    LoadFailed,
    NotAdmitted,
    Park,
    Parked,
    ParkFailed,
    Quiet,
    Refuse,
    Released,
    Rest,
    Restart,
    Room,
    SeatState,
    Spawn,
    Spawned,
    SpawnFailed,
    Step,
    Survived,
    Suspended,
    Tick,
    WakeFailed,
    Want,
)
from app.core.seat_steps import (
    INSPECT_SECONDS,
    begin_drain,
    begin_kill,
    begin_load,
    begin_park,
    begin_release,
    begin_stop,
    begin_wake,
    heard,
    parked,
    ready_again,
    same_load,
    settle,
)
from app.core.seat_words import STAGE_WORDS as STAGE_WORDS
from app.core.seat_words import does_not_fit, in_its_place, no_progress, slow

NOT_AWAKE = "It did not wake in time; it is loaded again."

# --- the decision


def advance(state: SeatState, event: Event, now: float, budgets: Budgets) -> Step:
    """The seat after `event` at `now` (monotonic seconds), and what must be done. Unexpected news changes nothing."""
    match event:
        case Want():
            return _want(state, event, now, budgets)
        case Restart():
            return _restart(state, now, budgets)
        case Tick():
            return _tick(state, now, budgets)
        case Lend() | Park() | GiveBack() | Rest() | InUse() | Room() | Suspended():
            return on_rest(state, event, now, budgets)
        case _:
            if getattr(state.phase, "run_id", None) != event.run_id:
                return state, ()
            return _news(state, event, now, budgets)


def _want(state: SeatState, event: Want, now: float, budgets: Budgets) -> Step:
    if event.number < state.asked:  # a later wish was quicker
        return state, ()
    before, state = state, replace(state, asked=event.number)
    if not event.choices:
        return _want_nothing(state, now, budgets)
    phase, first = state.phase, event.choices[0].wanted
    if isinstance(phase, Ready | Stalled) and same_load(first, state.serving):
        return replace(state, wanted=first, notice="", last_failure=None), ()
    if isinstance(phase, Sleeping) and same_load(first, state.serving):
        return begin_wake(replace(state, wanted=first, resting=None, returning=False), now, budgets)
    settled = isinstance(phase, Idle | Failed | Ready | Stalled | Sleeping | Backoff)
    chosen, refusal = _choose(event.choices, priced=settled)
    if chosen is None:
        return before, (Refuse(refusal),) if refusal is not None else ()
    wanted, *others = (choice.wanted for choice in event.choices[chosen:])
    notice = in_its_place(refusal, wanted.profile_id) if refusal is not None else ""
    state = replace(state, wanted=wanted, fallbacks=tuple(others), notice=notice, last_failure=None, port_attempts=0)
    state = replace(state, resting=None, returning=False)
    if same_load(wanted, state.rollback_to):
        state = replace(state, rollback_to=None)
    if isinstance(phase, Ready | Stalled) and same_load(wanted, state.serving):  # the fallback is what is there
        return state, ()
    match phase:
        case Idle() | Failed() | Backoff():
            return begin_load(replace(state, ending=None, rollback_to=None, crashes=()), now)
        case Draining() if same_load(wanted, state.serving):
            return ready_again(state, now), ()
        case Ready() | Stalled():
            return begin_drain(replace(state, rollback_to=state.serving), now, budgets)
        case Sleeping():
            return begin_stop(replace(state, rollback_to=state.serving), now, budgets)
        case Reserving():
            return begin_load(state, now)
        case Spawning() | Loading() | Waking() if not same_load(wanted, state.serving):
            return begin_kill(replace(state, ending=None), now, budgets)
        case Stopping() | Killing() | StopFailed() | ReleasingVram():
            return _asked_anew(state), ()
    return state, ()


def _asked_anew(state: SeatState) -> SeatState:
    """What is wanted is loaded when the present end is over: why that one ends is of before the wish, and no answer to it."""
    return replace(state, ending=None, crashed=False)


def _choose(choices: Sequence[Choice], *, priced: bool) -> tuple[int | None, Failure | None]:
    """(which choice can be loaded, why the first one cannot). While something else is under way plans say nothing."""
    refusal = None
    for number, choice in enumerate(choices):
        problem = choice.failure
        if problem is None and priced and choice.plan is not None and not choice.wanted.override:
            fits = choice.plan.is_admitted
            problem = None if fits else does_not_fit(choice.wanted.profile_id, choice.plan, refused=True)
        if problem is None:
            return number, refusal
        refusal = refusal or problem
    return None, refusal


def _want_nothing(state: SeatState, now: float, budgets: Budgets) -> Step:
    state = replace(state, wanted=None, fallbacks=(), rollback_to=None, notice="", last_failure=None)
    state = replace(state, resting=None, returning=False)
    match state.phase:
        case Idle() | Failed() | Backoff() | Reserving():
            return replace(state, phase=Idle(since=now), serving=None, ending=None), ()
        case Ready() | Stalled():
            return begin_drain(state, now, budgets)
        case Sleeping():
            return begin_stop(state, now, budgets)
        case Spawning() | Loading() | Waking():
            return begin_kill(replace(state, ending=None), now, budgets)
    return state, ()


def _restart(state: SeatState, now: float, budgets: Budgets) -> Step:
    phase = state.phase
    lent = state.resting is not None and state.resting.reason == "lent"
    match phase:
        case Ready() | Stalled():
            return begin_drain(replace(state, wanted=state.serving, notice=""), now, budgets)
        case Parking() | Sleeping() if not lent:
            state = replace(state, wanted=state.wanted or state.serving, resting=None, parking=0, notice="")
            return begin_stop(state, now, budgets)
        case Spawning() | Loading() | Waking() if state.wanted is not None:
            return begin_kill(replace(state, ending=None, notice=""), now, budgets)
        case Backoff() if state.wanted is not None:
            return begin_load(state, now)
        case Reserving() | Draining() | Stopping() | Killing() | ReleasingVram() if (
            state.wanted is not None and not lent
        ):
            return _asked_anew(replace(state, resting=None, parking=0)), ()
    refusal = Failure(
        kind="nothing_loaded", summary="There is no loaded model to load again.", advice="Load one first."
    )
    return state, (Refuse(refusal),)


def _news(state: SeatState, event: Event, now: float, budgets: Budgets) -> Step:
    phase = state.phase
    match phase, event:
        case Reserving(), Admitted(run_id) if state.wanted is not None:
            phase = Spawning(profile_id=phase.profile_id, run_id=run_id, since=now)
            return replace(state, phase=phase, serving=state.wanted), (Spawn(run_id, state.wanted),)
        case Reserving(), NotAdmitted(_, failure):
            return settle(replace(state, serving=state.wanted, ending=failure), now, budgets)
        case Spawning(), Spawned(run_id):
            loading = Loading(profile_id=phase.profile_id, run_id=run_id, since=now)
            return replace(state, phase=loading, heard_at=now, load_began_at=now), ()
        case Spawning(), SpawnFailed(_, failure):
            return settle(replace(state, ending=failure), now, budgets)
        case Loading(), Heard():
            return replace(state, phase=heard(phase, event), heard_at=now), ()
        case Loading(), Answered(run_id, endpoint):
            ready = Ready(profile_id=phase.profile_id, run_id=run_id, endpoint=endpoint, since=now)
            done = replace(state, phase=ready, endpoint=endpoint, ready_since=now, previous=state.serving)
            return replace(done, fallbacks=(), returning=False, rollback_to=None, port_attempts=0), ()
        case Loading(), LoadFailed(_, failure):
            return begin_kill(replace(state, ending=failure), now, budgets)
        case Draining(), Exited():  # nobody can be answered any more, and a change of mind must not make it ready again
            return begin_kill(state, now, budgets)
        case (Loading(), Exited(_, failure)):
            return begin_kill(replace(state, ending=failure), now, budgets)
        case ((Ready() | Stalled()), Exited(_, failure)):
            return begin_kill(replace(state, ending=failure, crashed=True), now, budgets)
        case ((Loading() | Spawning()), Ended(_, failure)):
            return begin_release(replace(state, ending=failure), now, budgets)
        case ((Ready() | Stalled()), Ended(_, failure)):
            return begin_release(replace(state, ending=failure, crashed=True), now, budgets)
        case ((Draining() | Stopping() | Killing() | StopFailed()), Ended()):
            return begin_release(state, now, budgets)
        case ((Stopping() | Killing() | StopFailed()), Survived(run_id, processes)) if processes:
            failed = StopFailed(profile_id=phase.profile_id, run_id=run_id, processes=processes, since=now)
            return replace(state, phase=failed), ()
        case Killing(), SpawnFailed():
            return begin_release(state, now, budgets)
        case Killing(), Survived():
            return begin_release(state, now, budgets)
        case Draining(), Drained(run_id):
            return begin_park(state, now, budgets)
        case Parking(), Parked(_, freed_bytes):
            return parked(state, freed_bytes, now, budgets)
        case Waking(), Answered(run_id, endpoint):
            ready = Ready(profile_id=phase.profile_id, run_id=run_id, endpoint=endpoint, since=now)
            return replace(state, phase=ready, endpoint=endpoint, ready_since=now, returning=False), ()
        case Parking(), ParkFailed(_, why):
            return begin_stop(replace(state, notice=why), now, budgets)
        case Waking(), WakeFailed(_, why):
            return begin_stop(replace(state, notice=why), now, budgets)
        case ((Parking() | Sleeping() | Waking()), Exited(_, failure)):
            state = replace(state, ending=failure, crashed=isinstance(phase, Waking), last_failure=failure)
            return begin_kill(state, now, budgets)
        case ((Parking() | Sleeping() | Waking()), Ended(_, failure)):
            state = replace(state, ending=failure, crashed=isinstance(phase, Waking), last_failure=failure)
            return begin_release(state, now, budgets)
        case Ready(), Quiet(run_id):
            stalled = Stalled(profile_id=phase.profile_id, run_id=run_id, endpoint=phase.endpoint, since=now)
            return replace(state, phase=stalled), ()
        case Stalled(), Flowing():
            return ready_again(state, now), ()
        case ReleasingVram(), Released(_, held):
            return settle(replace(state, notice=held or state.notice), now, budgets)
    return state, ()


def _tick(state: SeatState, now: float, budgets: Budgets) -> Step:
    phase = state.phase
    rest_at = rest_due(state, budgets)
    if rest_at is not None and now >= rest_at:
        return over_time(state, now, budgets)
    match phase:
        case Reserving() if now > phase.since + budgets.reserve_seconds:
            return settle(replace(state, serving=state.wanted, ending=slow(phase, "the memory check")), now, budgets)
        case Spawning() if now > phase.since + budgets.spawn_seconds:
            return begin_kill(replace(state, ending=slow(phase, "starting the engine's process")), now, budgets)
        case Loading() if now > state.heard_at + budgets.load_stall_seconds:
            return begin_kill(replace(state, ending=no_progress(phase, budgets.load_stall_seconds)), now, budgets)
        case Loading() if now > state.load_began_at + budgets.load_limit_seconds:
            return begin_kill(replace(state, ending=slow(phase, "loading")), now, budgets)
        case Draining() if now >= phase.deadline:
            state, effects = begin_park(state, now, budgets)
            return state, (CutStreams(phase.run_id), *effects)
        case Parking() if now >= phase.deadline:
            late = "It did not go to sleep in time and was unloaded."
            return begin_stop(replace(state, notice=late), now, budgets)
        case Waking() if now >= phase.deadline:
            return begin_kill(replace(state, ending=None, notice=NOT_AWAKE), now, budgets)
        case Stopping() if now >= phase.deadline:
            return begin_kill(state, now, budgets)
        case Killing() if now >= phase.deadline:
            again = Killing(
                profile_id=phase.profile_id, run_id=phase.run_id, since=phase.since, deadline=now + INSPECT_SECONDS
            )
            return replace(state, phase=again), (Inspect(phase.run_id),)
        case ReleasingVram() if now >= phase.deadline:
            unconfirmed = "The memory of the previous model could not be confirmed free."
            return settle(replace(state, notice=unconfirmed), now, budgets)
        case StopFailed() if now >= phase.since + INSPECT_SECONDS:
            return replace(state, phase=replace(phase, since=now)), (Inspect(phase.run_id),)
        case Backoff() if now >= phase.until and state.wanted is not None:
            return begin_load(state, now)
    return state, ()


def due(state: SeatState, budgets: Budgets) -> float | None:
    """When the next Tick is needed, so that every wait has a wake (I7); None while nothing can run out."""
    match state.phase:
        case Reserving(since=since):
            return since + budgets.reserve_seconds
        case Spawning(since=since):
            return since + budgets.spawn_seconds
        case Loading():
            return min(state.heard_at + budgets.load_stall_seconds, state.load_began_at + budgets.load_limit_seconds)
        case Draining(deadline=deadline) | Stopping(deadline=deadline) | Killing(deadline=deadline):
            return deadline
        case Parking(deadline=deadline) | Waking(deadline=deadline):
            return deadline
        case ReleasingVram(deadline=deadline):
            return deadline
        case StopFailed(since=since):
            return since + INSPECT_SECONDS
        case Backoff(until=until):
            return until
    return rest_due(state, budgets)
