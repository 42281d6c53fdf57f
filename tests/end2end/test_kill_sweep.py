"""Kills the daemon, its keepers, or both, before and after every transition of scripted sessions: nothing may survive (I1).

The points come from the event log: a first run of each session tells its transitions, then each is a point twice. The
daemon kills itself at the exact line (ENGINE_ROOM_DIE_AT), so no point depends on the machine's speed.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from app.core import lifecycle
from tests.end2end.sweep import SURVIVAL_SECONDS, Session, Stage, all_at_once, fake_engines, sweep
from tests.rig.daemon import Daemon, kill_verified
from tests.rig.waiting import TooLate, eventually

pytestmark = [
    pytest.mark.slow,
    # httpcore leaves its socket open when nobody listens, and here daemons die in the middle of a call
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

LEAST_POINTS = 60
ENDING = ("Draining", "Stopping")
MOMENTS = ("Loading", "Ready", *ENDING)


def load(daemon: Daemon) -> None:
    daemon.load("a")


def switch(daemon: Daemon) -> None:
    daemon.load("a")
    daemon.load("b")


def crash(daemon: Daemon) -> None:
    daemon.load("a")
    kill_verified(daemon.engine_pid(), daemon.home)
    daemon.wait_phase(lifecycle.Backoff)
    daemon.wait_phase(lifecycle.Ready, "a")


def cancel(daemon: Daemon) -> None:
    daemon.want("slow")
    daemon.wait_phase(lifecycle.Loading)
    daemon.unload()
    daemon.wait_idle()


def roll_back(daemon: Daemon) -> None:
    daemon.load("a")
    daemon.want("bad")
    daemon.wait_seat(lambda seat: seat.last_failure is not None)
    daemon.wait_phase(lifecycle.Ready, "a")


def stop_the_deaf(daemon: Daemon) -> None:
    daemon.load("deaf")
    daemon.unload()
    daemon.wait_idle()


SESSIONS: dict[str, Session] = {
    "load": load,
    "switch": switch,
    "crash": crash,
    "cancel": cancel,
    "roll back": roll_back,
    "stop the deaf": stop_the_deaf,
}


def transitions_of(folder: Path, session: Session) -> list[dict[str, object]]:
    stage = Stage(folder, fake_engines)
    try:
        session(stage.daemon.start())
        return stage.daemon.events()
    finally:
        assert stage.close() == []


@pytest.fixture(scope="module")
def points(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    folder = tmp_path_factory.mktemp("points")
    found: dict[str, list[str]] = {}
    seen: set[tuple[object, ...]] = set()
    for name, session in SESSIONS.items():
        events = transitions_of(folder / name.replace(" ", "-"), session)
        found[name] = []
        for number, event in enumerate(events, start=1):
            # the way to the first Ready is the same in all sessions: it is swept once
            key = (event["from"], event["to"], event["event"]) if number <= 4 else (name, number)
            if key not in seen:
                seen.add(key)
                found[name] += [f"before:{number}", f"after:{number}"]
    return found


def test_there_are_enough_points(points: dict[str, list[str]]) -> None:
    assert sum(map(len, points.values())) >= LEAST_POINTS, {name: len(each) for name, each in points.items()}


@pytest.mark.parametrize("name", SESSIONS)
def test_the_daemon_killed_at_each_transition_leaves_nothing(
    tmp_path: Path, points: dict[str, list[str]], name: str
) -> None:
    wrong = sweep(tmp_path, fake_engines, SESSIONS[name], points[name])
    assert not wrong, "\n".join(wrong)


# --- keepers ---------------------------------------------------------------------------------------------------------


def reach(stage: Stage, moment: str) -> str:
    """At the first transition into the moment, with what lives then noted in the stage."""
    daemon = stage.daemon
    seen = len(daemon.phases())
    daemon.want("a")
    if moment in ENDING:
        daemon.wait_phase(lifecycle.Ready, "a")
        daemon.unload()
    eventually(lambda: moment in daemon.phases()[seen:], 20, moment, every=0.001)
    return ""


def reach_and_kill(stage: Stage, moment: str, which: str, daemon_too: bool) -> str:
    reach(stage, moment)
    stage.before = {process.pid for process in stage.survivors()}
    stage.kill(which, daemon_too)
    return ""


def gone(stage: Stage) -> str:
    try:
        eventually(lambda: not stage.before & {process.pid for process in stage.survivors()}, SURVIVAL_SECONDS)
    except TooLate:
        return "; ".join(map(str, stage.survivors()))
    return ""


def recovers(stage: Stage) -> str:
    try:
        eventually(stage.recovered)
    except TooLate:
        return f"{stage.daemon.seat().phase}; {'; '.join(map(str, stage.survivors()))}"
    return ""


def clear(stage: Stage) -> str:
    """Nothing is loaded and no daemon runs; no engine is left of it."""
    if stage.daemon.running:
        stage.daemon.unload()
        stage.daemon.wait_idle()
        stage.daemon.terminate()
    problem = stage.nothing_left()
    stage.forget_wanted()
    return problem


@pytest.mark.parametrize("daemon_too", [False, True], ids=["keeper alone", "keeper and daemon"])
def test_killed_keepers_leave_nothing(tmp_path: Path, daemon_too: bool) -> None:
    """The outer, the inner or both keepers are killed at four moments, perhaps the daemon with them. When all have gone,
    nobody is left who could act: then the next start finds the engine by its marker."""
    stages = {which: Stage(tmp_path / which, fake_engines) for which in ("outer", "inner", "both")}
    wrong: list[str] = []
    with ThreadPoolExecutor(len(stages)) as pool:
        for moment in MOMENTS:
            helpless = {"both"} if daemon_too else set()
            look = recovers if not daemon_too and moment not in ENDING else gone
            for step in (
                {which: stage.start for which, stage in stages.items()},
                {which: partial(reach_and_kill, stage, moment, which, daemon_too) for which, stage in stages.items()},
                {which: partial(look, stage) for which, stage in stages.items() if which not in helpless},
                {which: stages[which].start for which in helpless},
                {which: partial(gone, stages[which]) for which in helpless},
                {which: partial(clear, stage) for which, stage in stages.items()},
            ):
                wrong += [f"{moment}: {problem}" for problem in all_at_once(pool, step)]
            if wrong:
                break
        for left in pool.map(Stage.close, stages.values()):
            wrong += [f"left at the end: {one}" for one in left]
    assert not wrong, "\n".join(wrong)
