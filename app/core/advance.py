"""Decides what happens to a seat: `advance(state, event, now, budgets) → (state, effects)`, pure.

Two facts instead of a queue: what is wanted, and which phase the seat is in. Clicking A, B, C collapses to C; cancelling
a load is wanting nothing. News of an engine names its run, so that news of a dead engine is ignored. Every end, asked
for or not, passes through ReleasingVram, where measured memory decides when the next load may begin. A failed switch
puts the previous model back once; a crash is answered by a bounded number of restarts.
"""

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
    Ready,
    ReleasingVram,
    Reserving,
    Spawning,
    Stalled,
    StopFailed,
    Stopping,
)
from app.core.memory.plan_types import MemoryPlan
from app.core.seat import (
    Admitted,
    Answered,
    AwaitDrain,
    AwaitRelease,
    Budgets,
    CutStreams,
    Drained,
    Ended,
    Event,
    Exited,
    Flowing,
    Heard,
    Inspect,
    Kill,
    LoadFailed,
    NotAdmitted,
    Quiet,
    Refuse,
    Released,
    Reserve,
    Restart,
    SeatState,
    Spawn,
    Spawned,
    SpawnFailed,
    Step,
    Stop,
    Survived,
    Tick,
    Want,
    Wanted,
)

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
        case _:
            if getattr(state.phase, "run_id", None) != event.run_id:
                return state, ()
            return _news(state, event, now, budgets)


def _want(state: SeatState, event: Want, now: float, budgets: Budgets) -> Step:
    wanted, phase, plan = event.wanted, state.phase, event.plan
    if wanted is None:
        return _want_nothing(state, now, budgets)
    if isinstance(phase, Ready | Stalled) and same_load(wanted, state.serving):
        return replace(state, wanted=wanted, notice="", last_failure=None), ()
    settled = isinstance(phase, Idle | Failed | Ready | Stalled | Backoff)
    if settled and plan is not None and not plan.is_admitted and not wanted.override:
        return state, (Refuse(does_not_fit(wanted.profile_id, plan, refused=True)),)
    state = replace(state, wanted=wanted, notice="", last_failure=None, port_attempts=0)
    if same_load(wanted, state.rollback_to):
        state = replace(state, rollback_to=None)
    match phase:
        case Idle() | Failed() | Backoff():
            return _begin_load(replace(state, ending=None, rollback_to=None, crashes=()), now)
        case Draining() if same_load(wanted, state.serving):
            return _ready_again(state, now), ()
        case Ready() | Stalled():
            return _begin_drain(replace(state, rollback_to=state.serving), now, budgets)
        case Reserving():
            return _begin_load(state, now)
        case Spawning() | Loading() if not same_load(wanted, state.serving):
            return _begin_kill(replace(state, ending=None), now, budgets)
    return state, ()


def _want_nothing(state: SeatState, now: float, budgets: Budgets) -> Step:
    state = replace(state, wanted=None, rollback_to=None, notice="", last_failure=None)
    match state.phase:
        case Idle() | Failed() | Backoff() | Reserving():
            return replace(state, phase=Idle(since=now), serving=None, ending=None), ()
        case Ready() | Stalled():
            return _begin_drain(state, now, budgets)
        case Spawning() | Loading():
            return _begin_kill(replace(state, ending=None), now, budgets)
    return state, ()


def _restart(state: SeatState, now: float, budgets: Budgets) -> Step:
    phase = state.phase
    match phase:
        case Ready() | Stalled():
            return _begin_drain(replace(state, wanted=state.serving, notice=""), now, budgets)
        case Spawning() | Loading() if state.wanted is not None:
            return _begin_kill(replace(state, ending=None, notice=""), now, budgets)
        case Backoff() if state.wanted is not None:
            return _begin_load(state, now)
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
            return _settle(replace(state, serving=state.wanted, ending=failure), now, budgets)
        case Spawning(), Spawned(run_id):
            loading = Loading(profile_id=phase.profile_id, run_id=run_id, since=now)
            return replace(state, phase=loading, heard_at=now, load_began_at=now), ()
        case Spawning(), SpawnFailed(_, failure):
            return _settle(replace(state, ending=failure), now, budgets)
        case Loading(), Heard():
            return replace(state, phase=_heard(phase, event), heard_at=now), ()
        case Loading(), Answered(run_id, endpoint):
            ready = Ready(profile_id=phase.profile_id, run_id=run_id, endpoint=endpoint, since=now)
            done = replace(state, phase=ready, endpoint=endpoint, ready_since=now, previous=state.serving)
            return replace(done, rollback_to=None, port_attempts=0), ()
        case Loading(), LoadFailed(_, failure):
            return _begin_kill(replace(state, ending=failure), now, budgets)
        case (Loading(), Exited(_, failure)):
            return _begin_kill(replace(state, ending=failure), now, budgets)
        case ((Ready() | Stalled()), Exited(_, failure)):
            return _begin_kill(replace(state, ending=failure, crashed=True), now, budgets)
        case ((Loading() | Spawning()), Ended(_, failure)):
            return _begin_release(replace(state, ending=failure), now, budgets)
        case ((Ready() | Stalled()), Ended(_, failure)):
            return _begin_release(replace(state, ending=failure, crashed=True), now, budgets)
        case ((Draining() | Stopping() | Killing() | StopFailed()), Ended()):
            return _begin_release(state, now, budgets)
        case ((Stopping() | Killing() | StopFailed()), Survived(run_id, processes)) if processes:
            failed = StopFailed(profile_id=phase.profile_id, run_id=run_id, processes=processes, since=now)
            return replace(state, phase=failed), ()
        case Killing(), SpawnFailed():
            return _begin_release(state, now, budgets)
        case Killing(), Survived():
            return _begin_release(state, now, budgets)
        case Draining(), Drained(run_id):
            return _begin_stop(state, now, budgets)
        case Ready(), Quiet(run_id):
            stalled = Stalled(profile_id=phase.profile_id, run_id=run_id, endpoint=phase.endpoint, since=now)
            return replace(state, phase=stalled), ()
        case Stalled(), Flowing():
            return _ready_again(state, now), ()
        case ReleasingVram(), Released(_, held):
            return _settle(replace(state, notice=held or state.notice), now, budgets)
    return state, ()


def _tick(state: SeatState, now: float, budgets: Budgets) -> Step:
    phase = state.phase
    match phase:
        case Reserving() if now > phase.since + budgets.reserve_seconds:
            return _settle(replace(state, serving=state.wanted, ending=_slow(phase, "the memory check")), now, budgets)
        case Spawning() if now > phase.since + budgets.spawn_seconds:
            return _begin_kill(replace(state, ending=_slow(phase, "starting the engine's process")), now, budgets)
        case Loading() if now > state.heard_at + budgets.load_stall_seconds:
            return _begin_kill(replace(state, ending=_no_progress(phase, budgets.load_stall_seconds)), now, budgets)
        case Loading() if now > state.load_began_at + budgets.load_limit_seconds:
            return _begin_kill(replace(state, ending=_slow(phase, "loading")), now, budgets)
        case Draining() if now >= phase.deadline:
            state, effects = _begin_stop(state, now, budgets)
            return state, (CutStreams(phase.run_id), *effects)
        case Stopping() if now >= phase.deadline:
            return _begin_kill(state, now, budgets)
        case Killing() if now >= phase.deadline:
            again = Killing(
                profile_id=phase.profile_id, run_id=phase.run_id, since=phase.since, deadline=now + INSPECT_SECONDS
            )
            return replace(state, phase=again), (Inspect(phase.run_id),)
        case ReleasingVram() if now >= phase.deadline:
            unconfirmed = "The memory of the previous model could not be confirmed free."
            return _settle(replace(state, notice=unconfirmed), now, budgets)
        case StopFailed() if now >= phase.since + INSPECT_SECONDS:
            return replace(state, phase=replace(phase, since=now)), (Inspect(phase.run_id),)
        case Backoff() if now >= phase.until and state.wanted is not None:
            return _begin_load(state, now)
    return state, ()


# --- steps that several arrows share ---------------------------------------------------------------------------------

INSPECT_SECONDS = 5.0
PORT_ATTEMPTS = 3  # further tries, each on another port, when somebody took it between choice and bind (I13)


def _begin_load(state: SeatState, now: float) -> Step:
    assert state.wanted is not None
    number = state.runs_begun + 1
    run_id = f"{state.run_prefix}-{number:04d}"
    phase = Reserving(profile_id=state.wanted.profile_id, run_id=run_id, since=now)
    state = replace(state, phase=phase, runs_begun=number, serving=None, endpoint=None, ending=None, crashed=False)
    return state, (Reserve(run_id, state.wanted),)  # type: ignore[arg-type]


def _begin_drain(state: SeatState, now: float, budgets: Budgets) -> Step:
    phase = state.phase
    assert isinstance(phase, Ready | Stalled)
    deadline = now + budgets.drain_seconds
    draining = Draining(profile_id=phase.profile_id, run_id=phase.run_id, since=now, deadline=deadline)
    return replace(state, phase=draining, ending=None, crashed=False), (AwaitDrain(phase.run_id),)


def _begin_stop(state: SeatState, now: float, budgets: Budgets) -> Step:
    phase = state.phase
    assert isinstance(phase, Draining)
    deadline = now + budgets.stop_grace_seconds + 1  # the keeper counts the grace itself; this is the watchdog
    stopping = Stopping(profile_id=phase.profile_id, run_id=phase.run_id, since=now, deadline=deadline)
    return replace(state, phase=stopping, endpoint=None), (Stop(phase.run_id),)


def _begin_kill(state: SeatState, now: float, budgets: Budgets) -> Step:
    phase = state.phase
    assert isinstance(phase, Spawning | Loading | Ready | Stalled | Stopping)
    deadline = now + budgets.kill_seconds
    killing = Killing(profile_id=phase.profile_id, run_id=phase.run_id, since=now, deadline=deadline)
    return replace(state, phase=killing, endpoint=None), (Kill(phase.run_id),)


def _begin_release(state: SeatState, now: float, budgets: Budgets) -> Step:
    phase = state.phase
    assert not isinstance(phase, Idle | Failed | Backoff | Reserving)
    deadline = now + budgets.vram_return_seconds + 5  # the watcher counts the budget itself; this is the watchdog
    releasing = ReleasingVram(profile_id=phase.profile_id, run_id=phase.run_id, since=now, deadline=deadline)
    return replace(state, phase=releasing, endpoint=None), (AwaitRelease(phase.run_id),)


def _settle(state: SeatState, now: float, budgets: Budgets) -> Step:
    """Where an end leads: the wanted load, a restart after a crash, the previous model, Failed or Idle."""
    failure, wanted = state.ending, state.wanted
    if state.crashed and failure is not None and wanted is not None and same_load(wanted, state.serving):
        return _after_crash(state, failure, now, budgets)
    if failure is None or not same_load(wanted, state.serving):
        if wanted is not None:
            return _begin_load(state, now)
        return replace(state, phase=Idle(since=now), serving=None, ending=None, crashed=False), ()
    if failure.kind == "port_taken" and state.port_attempts < PORT_ATTEMPTS:
        return _begin_load(replace(state, port_attempts=state.port_attempts + 1), now)
    if state.rollback_to is not None:
        back = state.rollback_to
        notice = f"{failure.profile_id or 'The model'} did not start; {back.profile_id} is put back with its settings."
        state = replace(state, wanted=back, rollback_to=None, last_failure=failure, notice=notice)
        return _begin_load(state, now)
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
    return replace(state, last_failure=failure), ()


def _ready_again(state: SeatState, now: float) -> SeatState:
    phase = state.phase
    assert isinstance(phase, Ready | Stalled | Draining)
    if isinstance(phase, Ready) or state.endpoint is None:
        return state
    ready = Ready(profile_id=phase.profile_id, run_id=phase.run_id, endpoint=state.endpoint, since=state.ready_since)
    return replace(state, phase=ready, rollback_to=None)


def _heard(phase: Loading, news: Heard) -> Loading:
    """A stage never goes back and progress never falls: late or repeated lines must not make the bar jump."""
    stage = news.stage if news.stage in STAGES and STAGES.index(news.stage) > STAGES.index(phase.stage) else phase.stage
    progress = max((p for p in (phase.progress, news.progress) if p is not None), default=None)
    return replace(phase, stage=stage, progress=progress, eta_seconds=news.eta_seconds or phase.eta_seconds)


def _slow(phase: Reserving | Spawning | Loading, what: str) -> Failure:
    return Failure(
        kind="load_timeout",
        profile_id=phase.profile_id,
        phase=type(phase).__name__.lower(),
        summary=f"{phase.profile_id} did not load: {what} took longer than its budget.",
        advice="Look at the log; the budgets are in the settings under supervision.",
    )


def _no_progress(phase: Loading, seconds: float) -> Failure:
    return Failure(
        kind="load_timeout",
        profile_id=phase.profile_id,
        phase=phase.stage,
        summary=f"{phase.profile_id} did not load: no sign of progress for {seconds:.0f} s while {STAGE_WORDS[phase.stage]}.",
        advice="Look at the log's last lines; a slow disk may need a larger supervision.load_stall_seconds.",
    )


# --- words -----------------------------------------------------------------------------------------------------------

STAGE_WORDS = {
    "starting": "starting the engine",
    "reading": "reading the model file",
    "weights": "loading the weights",
    "kv_cache": "making room for the KV cache",
    "compile": "compiling",
    "graphs": "capturing graphs",
    "warm_up": "warming up",
    "first_token": "waiting for a first token",
}
STAGES = tuple(STAGE_WORDS)


def does_not_fit(profile_id: str, plan: MemoryPlan, *, refused: bool = False) -> Failure:
    """`refused`: at the door, before anything was stopped."""
    advice = (
        "; or ".join(remedy.title for remedy in plan.remedies)
        or "Close what holds the memory, or choose a smaller model"
    )
    return Failure(
        kind="does_not_fit",
        profile_id=profile_id,
        phase="reserving",
        summary=plan.summary,
        advice=f"{advice}. Nothing was stopped." if refused else f"{advice}.",
        remedies=plan.remedies,
        plan=plan,
    )


def same_load(one: Wanted | None, other: Wanted | None) -> bool:
    """Whether both are the same model with the same settings; an override does not make a load another one."""
    if one is None or other is None:
        return one is other
    return (one.profile_id, one.settings, one.as_run) == (other.profile_id, other.settings, other.as_run)


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
        case ReleasingVram(deadline=deadline):
            return deadline
        case StopFailed(since=since):
            return since + INSPECT_SECONDS
        case Backoff(until=until):
            return until
    return None
