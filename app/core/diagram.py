"""Draws the seat's state machine from the code that runs it, for ARCHITECTURE.md."""

from __future__ import annotations

from app.core.advance import advance
from app.core.lifecycle import (
    Backoff,
    Draining,
    Endpoint,
    Failed,
    Failure,
    Idle,
    Killing,
    Loading,
    Parking,
    Phase,
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
from app.core.seat import (
    Admitted,
    Answered,
    Budgets,
    Drained,
    Ended,
    Event,
    Exited,
    Flowing,
    GiveBack,
    Lend,
    LoadFailed,
    NotAdmitted,
    Park,
    Parked,
    ParkFailed,
    Quiet,
    Released,
    Restart,
    Resting,
    SeatState,
    Spawned,
    SpawnFailed,
    Survived,
    Tick,
    WakeFailed,
    Wanted,
    want,
)


def transitions() -> list[tuple[str, str, str]]:
    """Every (phase, event, phase) that `advance` can take, found by trying each event on a sample of each phase."""
    one, other = Wanted(profile_id="one"), Wanted(profile_id="other")
    failure = Failure(kind="crashed", summary="", profile_id="one")
    at = Endpoint(base_url="", model_name="one", engine="")
    run = "r"
    phases: list[Phase] = [
        Idle(),
        Reserving(profile_id="one", run_id=run),
        Spawning(profile_id="one", run_id=run),
        Loading(profile_id="one", run_id=run),
        Ready(profile_id="one", run_id=run, endpoint=at),
        Stalled(profile_id="one", run_id=run, endpoint=at),
        Draining(profile_id="one", run_id=run, deadline=1e3),
        Parking(profile_id="one", run_id=run, level=1, deadline=1e3),
        Sleeping(profile_id="one", run_id=run, level=1),
        Waking(profile_id="one", run_id=run, deadline=1e3),
        Stopping(profile_id="one", run_id=run, deadline=1e3),
        Killing(profile_id="one", run_id=run, deadline=1e3),
        ReleasingVram(profile_id="one", run_id=run, deadline=1e3),
        Backoff(profile_id="one", attempt=1, until=1e3),
        Failed(failure=failure),
        StopFailed(profile_id="one", run_id=run, processes=("pid 1",)),
    ]
    events: list[tuple[str, Event, float]] = [
        ("want", want(one), 0),
        ("want another", want(other), 0),
        ("want nothing", want(None), 0),
        ("restart", Restart(), 0),
        ("lend", Lend(1e4, 1e4), 0),
        ("park", Park(1), 0),
        ("asked for or given back", GiveBack(), 0),
        ("admitted", Admitted(run), 0),
        ("no room", NotAdmitted(run, failure), 0),
        ("exec ok", Spawned(run), 0),
        ("exec failed", SpawnFailed(run, failure), 0),
        ("one token", Answered(run, at), 0),
        ("load failed", LoadFailed(run, failure), 0),
        ("exited", Exited(run, failure), 0),
        ("ended", Ended(run, failure), 0),
        ("survivors", Survived(run, ("pid 1",)), 0),
        ("drained", Drained(run), 0),
        ("asleep", Parked(run), 0),
        ("cannot sleep", ParkFailed(run, ""), 0),
        ("cannot wake", WakeFailed(run, ""), 0),
        ("no token for long", Quiet(run), 0),
        ("token", Flowing(run), 0),
        ("memory is back", Released(run), 0),
        ("budget over", Tick(), 1e9),
    ]
    usual: dict[str, object] = {"wanted": one, "serving": one, "endpoint": at}
    ends = [  # only the end of a run has several ways on: what was wanted, why it ended, what can be put back
        usual | {"ending": failure},
        usual | {"ending": failure, "crashed": True},
        usual | {"wanted": None},
        usual | {"wanted": other},
        usual | {"resting": Resting(reason="idle")},
    ]
    rests = usual | {"resting": Resting(reason="lent", until=1e3)}
    parks = usual | {"resting": Resting(reason="parked"), "parking": 1}
    situations: dict[type, list[dict[str, object]]] = {
        ReleasingVram: ends,
        Idle: [{}, rests],
        Draining: [usual, rests, parks],
        Parking: [usual, parks],
        Sleeping: [parks],
    }
    found: dict[tuple[str, str], list[str]] = {}
    for phase in phases:
        for situation in situations.get(type(phase), [usual]):
            for name, event, now in events:
                after, _ = advance(SeatState(phase=phase, **situation), event, now, Budgets(idle_unload_seconds=60))  # type: ignore[arg-type]
                arrow = (type(phase).__name__, type(after.phase).__name__)
                if arrow[0] != arrow[1] and name not in found.setdefault(arrow, []):
                    found[arrow].append(name)
    return [(source, " | ".join(names), target) for (source, target), names in found.items()]


def diagram() -> str:
    """The state machine as Mermaid text, for ARCHITECTURE.md; a test fails when the committed one differs."""
    rows = [f"    {source} --> {target}: {name}" for source, name, target in transitions()]
    return "\n".join(["stateDiagram-v2", "    [*] --> Idle", *rows])
