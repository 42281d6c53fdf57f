"""Kills the daemon, its keepers, or both, before and after every transition of scripted sessions: nothing may survive (I1).

The points come from the event log: a first run of each session tells its transitions, then each is a point twice. The
daemon kills itself at the exact line (ENGINE_ROOM_DIE_AT), so no point depends on the machine's speed.
"""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from app.core import lifecycle
from tests.rig.custody import Process, end_all_of, keepers_of, processes_of
from tests.rig.daemon import Daemon, kill_verified
from tests.rig.engines import FakeEngine
from tests.rig.home import Home
from tests.rig.waiting import TooLate, eventually

pytestmark = [
    pytest.mark.slow,
    # httpcore leaves its socket open when nobody listens, and here daemons die in the middle of a call
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

WORKERS = 3
SURVIVAL_SECONDS = 15.0
LEAST_POINTS = 60
Session = Callable[[Daemon], None]


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


@dataclass
class Stage:
    """One home with one daemon, made for one point and thrown away."""

    home: Home
    daemon: Daemon

    @classmethod
    def build(cls, folder: Path) -> "Stage":
        home = Home(folder)
        rig = FakeEngine(home)
        home.settings(supervision={"stop_grace_seconds": 1, "drain_seconds": 2})
        for name in ("a", "b"):
            rig.profile(name, grandchild=True, load_seconds=0.1)
        rig.profile("slow", load_seconds=60, child=True)
        rig.profile("bad", crash_at=0.5, grandchild=True)
        rig.profile("deaf", ignore_term=True, grandchild=True)
        return cls(home, Daemon(home))

    def survivors(self) -> list[Process]:
        return processes_of(self.home, runs_only=True)

    def close(self) -> list[str]:
        self.daemon.close()
        with contextlib.suppress(TooLate):
            eventually(lambda: not processes_of(self.home), SURVIVAL_SECONDS)
        left = [str(process) for process in end_all_of(self.home)]
        self.home.close()
        return left


def transitions_of(folder: Path, session: Session) -> list[dict[str, object]]:
    stage = Stage.build(folder)
    try:
        stage.daemon.start()
        session(stage.daemon)
        return stage.daemon.events()
    finally:
        assert stage.close() == []


def on_a_stage(folder: Path, label: str, act: Callable[[Stage], str]) -> str:
    """Builds a stage, lets `act` say what was wrong with it ("" for nothing), and clears it away whatever happens."""
    stage = Stage.build(folder)
    try:
        problem = act(stage)
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
    left = stage.close()
    if left and not problem:
        problem = f"left at the end: {left}"
    return f"{label}: {problem}" if problem else ""


def die_at(folder: Path, session: Session, point: str) -> str:
    """Runs the session in a daemon that kills itself at `point`; says what was wrong afterwards."""

    def act(stage: Stage) -> str:
        daemon = stage.daemon
        with contextlib.suppress(httpx.HTTPError, AssertionError, RuntimeError, OSError):
            daemon.start(ENGINE_ROOM_DIE_AT=point)
            session(daemon)
        try:
            code = daemon.wait_end(3)
        except subprocess.TimeoutExpired:
            return "the daemon did not reach this point"
        if code != -signal.SIGKILL:
            return f"the daemon ended by itself: {code}"
        try:
            eventually(lambda: not stage.survivors(), SURVIVAL_SECONDS)
        except TooLate:
            return f"alive after {SURVIVAL_SECONDS:g} s: {'; '.join(map(str, stage.survivors()))}"
        for line in FakeEngine(stage.home).journal("listening"):
            with socket.socket() as again:
                again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                again.bind(("127.0.0.1", int(str(line["port"]))))
        return clean_next_start(stage)

    return on_a_stage(folder, point, act)


def clean_next_start(stage: Stage) -> str:
    """The daemon comes up again and settles: the wanted model is there, or nothing was wanted."""
    daemon = stage.daemon.start()

    def settled() -> bool:
        return isinstance(daemon.seat().phase, lifecycle.Ready | lifecycle.Idle | lifecycle.Failed | lifecycle.Loading)

    try:
        eventually(settled, 20)
    except TooLate:
        return f"the next start did not settle: {daemon.seat().phase}"
    return ""


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
    with ThreadPoolExecutor(WORKERS) as pool:
        jobs = [
            pool.submit(die_at, tmp_path / point.replace(":", "-"), SESSIONS[name], point) for point in points[name]
        ]
        wrong = [problem for job in jobs if (problem := job.result())]
    assert not wrong, "\n".join(wrong)


# --- keepers ---------------------------------------------------------------------------------------------------------


def kill_keepers(folder: Path, moment: str, which: str, daemon_too: bool) -> str:
    """At the first transition into `moment`: kill the outer, the inner or both keepers, perhaps the daemon with them."""

    def act(stage: Stage) -> str:
        daemon = stage.daemon.start()
        daemon.want("a")
        ending = moment in ("Draining", "Stopping")
        if ending:
            daemon.wait_phase(lifecycle.Ready, "a")
            daemon.unload()
        eventually(lambda: moment in daemon.phases(), 20, moment, every=0.001)
        before = {process.pid for process in stage.survivors()}
        keepers = keepers_of(stage.home)
        chosen = {"outer": keepers[:1], "inner": keepers[1:2], "both": keepers}[which]
        if daemon_too:
            for process in keepers:  # frozen first, so that none can act on another's death before its own
                send(process, signal.SIGSTOP)
            daemon.signal(signal.SIGKILL)
        for process in chosen:
            send(process, signal.SIGKILL)
        for process in keepers if daemon_too else ():
            send(process, signal.SIGCONT)
        if daemon_too:
            daemon.wait_end(10)
            if which == "both":
                daemon.start()  # nobody is left who could act: the next start finds the engine by its marker
        over = recovered if not daemon_too and not ending else gone(before)
        try:
            eventually(lambda: over(stage), 30 if over is recovered else SURVIVAL_SECONDS)
        except TooLate:
            return "; ".join(map(str, stage.survivors()))
        return ""

    return on_a_stage(folder, f"{which} at {moment}", act)


def send(process: Process, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, number)


def gone(before: set[int]) -> Callable[[Stage], bool]:
    return lambda stage: not before & {process.pid for process in stage.survivors()}


def recovered(stage: Stage) -> bool:
    """The seat is Ready again, or says Failed; and exactly the processes of its own run are there."""
    seat = stage.daemon.seat()
    runs = {process.run_id for process in stage.survivors()}
    if isinstance(seat.phase, lifecycle.Ready):
        return runs == {seat.phase.run_id}
    return isinstance(seat.phase, lifecycle.Failed) and not runs


@pytest.mark.parametrize("daemon_too", [False, True], ids=["keeper alone", "keeper and daemon"])
@pytest.mark.parametrize("which", ["outer", "inner", "both"])
def test_killed_keepers_leave_nothing(tmp_path: Path, which: str, daemon_too: bool) -> None:
    moments = ("Loading", "Ready", "Draining", "Stopping")
    begun = time.monotonic()
    with ThreadPoolExecutor(WORKERS) as pool:
        jobs = [pool.submit(kill_keepers, tmp_path / moment, moment, which, daemon_too) for moment in moments]
        wrong = [problem for job in jobs if (problem := job.result())]
    assert not wrong, f"{time.monotonic() - begun:.0f} s\n" + "\n".join(wrong)
