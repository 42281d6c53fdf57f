"""Kills the daemon, its keepers, or both, before and after every transition of scripted sessions: nothing may survive (I1).

The points come from the event log: a first run of each session tells its transitions, then each is a point twice. The
daemon kills itself at the exact line (ENGINE_ROOM_DIE_AT), so no point depends on the machine's speed.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from app.core import lifecycle
from tests.end2end.sweep import (
    ALONE,
    SURVIVAL_SECONDS,
    Session,
    Stage,
    chain,
    dealt,
    fake_engines,
    side_by_side,
)
from tests.rig.daemon import Daemon, kill_verified
from tests.rig.waiting import TooLate, eventually

pytestmark = [
    pytest.mark.slow,
    # httpcore leaves its socket open when nobody listens, and here daemons die in the middle of a call
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

LEAST_POINTS = 60
MOMENTS = ("Loading", "Ready", "Draining", "Stopping")


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
        session(stage.start())
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
    jobs = [
        partial(chain, tmp_path / f"hand-{number}", fake_engines, SESSIONS[name], hand)
        for number, hand in enumerate(dealt(points[name]))
    ]
    wrong = side_by_side(jobs)
    assert not wrong, "\n".join(wrong)


# --- keepers ---------------------------------------------------------------------------------------------------------


def kill_keepers(folder: Path, which: str, daemon_too: bool, moments: tuple[str, ...]) -> list[str]:
    """At the first transition into each moment: kill the outer, the inner or both keepers, perhaps the daemon with them."""
    stage = Stage(folder, fake_engines)
    wrong = []
    for moment in moments:
        try:
            problem = kill_keepers_at(stage, which, daemon_too, moment)
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
        if problem:
            wrong.append(f"{which} at {moment}: {problem}")
            break  # the stage is spoilt
    return wrong + [f"left at the end: {one}" for one in stage.close()]


def kill_keepers_at(stage: Stage, which: str, daemon_too: bool, moment: str) -> str:
    daemon = stage.daemon if stage.daemon.running else stage.start()
    seen = len(daemon.phases())
    daemon.want("a")
    ending = moment in ("Draining", "Stopping")
    if ending:
        daemon.wait_phase(lifecycle.Ready, "a")
        daemon.unload()
    eventually(lambda: moment in daemon.phases()[seen:], 20, moment, every=0.001)
    before = {process.pid for process in stage.survivors()}
    stage.kill(which, daemon_too)
    if daemon_too and which == "both":
        stage.forget_wanted()
        stage.start()  # nobody is left who could act: the next start finds the engine by its marker

    def gone() -> bool:
        return not before & {process.pid for process in stage.survivors()}

    over: Callable[[], bool] = stage.recovered if not daemon_too and not ending else gone
    try:
        with ALONE:
            eventually(over, 30 if over == stage.recovered else SURVIVAL_SECONDS)
    except TooLate:
        return "; ".join(map(str, stage.survivors()))
    if daemon.running:
        daemon.unload()
        daemon.wait_idle()
    else:
        stage.forget_wanted()
    return stage.nothing_left()


@pytest.mark.parametrize("daemon_too", [False, True], ids=["keeper alone", "keeper and daemon"])
def test_killed_keepers_leave_nothing(tmp_path: Path, daemon_too: bool) -> None:
    jobs = [partial(kill_keepers, tmp_path / which, which, daemon_too, MOMENTS) for which in ("outer", "inner", "both")]
    wrong = side_by_side(jobs)
    assert not wrong, "\n".join(wrong)
