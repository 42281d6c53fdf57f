"""One home in which daemons are killed, one after the other, and what must be true after each (I1)."""

import contextlib
import os
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx

from app.core import lifecycle
from tests.rig.custody import Process, end_all_of, keepers_of, processes_of
from tests.rig.daemon import Daemon
from tests.rig.engines import FakeEngine
from tests.rig.home import Home
from tests.rig.ports import binds
from tests.rig.waiting import TooLate, eventually

WORKERS = 3
SURVIVAL_SECONDS = 15.0  # I1
Session = Callable[[Daemon], None]


class Stage:
    """A home whose engines stop soon, and its daemons."""

    def __init__(self, folder: Path, furnish: Callable[[Home], None]) -> None:
        self.home = Home(folder)
        self.home.settings(supervision={"stop_grace_seconds": 0.3, "drain_seconds": 2})
        furnish(self.home)
        self.daemon = Daemon(self.home)
        self.before: set[int] = set()  # the engines' processes just before a death

    def survivors(self) -> list[Process]:
        return processes_of(self.home, runs_only=True)

    def forget_wanted(self) -> None:
        """So that the next daemon begins with an empty seat. Nobody has the file open now."""
        with contextlib.closing(sqlite3.connect(self.home.paths.database)) as database, database:
            database.execute("DELETE FROM facts WHERE name LIKE 'wanted:%'")

    def close(self) -> list[str]:
        """Ends all of it; tells what had to be forced."""
        self.daemon.close()
        with contextlib.suppress(TooLate):
            eventually(lambda: not processes_of(self.home), SURVIVAL_SECONDS)
        left = [str(process) for process in end_all_of(self.home)]
        self.home.close()
        return left

    # --- one death ---

    def start(self, point: str = "") -> str:
        """A daemon that will kill itself at `point`."""
        self.daemon.start(**({"ENGINE_ROOM_DIE_AT": point} if point else {}))
        return ""

    def play(self, session: Session) -> str:
        """The session up to the daemon's death; "" or what was wrong."""
        with contextlib.suppress(httpx.HTTPError, AssertionError, RuntimeError, OSError):
            session(self.daemon)
        try:
            code = self.daemon.wait_end()
        except subprocess.TimeoutExpired:
            return "the daemon did not reach this point"
        return "" if code == -signal.SIGKILL else f"the daemon ended by itself: {code}"

    def nothing_left(self) -> str:
        """Soon no process with a run's marker is left in /proc, and every port that an engine had is free."""
        try:
            eventually(lambda: not self.survivors(), SURVIVAL_SECONDS)
        except TooLate:
            return f"alive after {SURVIVAL_SECONDS:g} s: {'; '.join(map(str, self.survivors()))}"
        stream = self.daemon.slices_seen
        ports = {seat.run.port for seat in stream.seats_seen if seat.run and seat.run.port} if stream else set()
        for port in ports:
            try:
                eventually(lambda port=port: binds(port), SURVIVAL_SECONDS)
            except TooLate:
                return f"port {port} is still taken"
        return ""

    def next_start(self) -> str:
        """The daemon comes up again and settles: what was wanted is there or on its way, or nothing was wanted."""
        daemon = self.daemon.start()
        calm = lifecycle.Ready | lifecycle.Idle | lifecycle.Failed
        try:
            eventually(lambda: isinstance(daemon.seat().phase, calm))
        except TooLate:
            return f"the next start did not settle: {daemon.seat().phase}"
        return ""

    # --- keepers ---

    def kill(self, which: str, daemon_too: bool) -> None:
        """Kills the outer, the inner or both keepers, perhaps the daemon with them; "none": the daemon alone."""
        keepers = keepers_of(self.home)
        chosen = {"outer": keepers[:1], "inner": keepers[1:2], "both": keepers, "none": []}[which]
        if daemon_too:
            for process in keepers if chosen else ():  # frozen first, so that none can act on another's death
                send(process, signal.SIGSTOP)
            self.daemon.signal(signal.SIGKILL)
        for process in chosen:
            send(process, signal.SIGKILL)
        for process in keepers if daemon_too and chosen else ():
            send(process, signal.SIGCONT)
        if daemon_too:
            self.daemon.wait_end()

    def recovered(self) -> bool:
        """The seat is Ready again, or says Failed; and exactly the processes of its own run are there."""
        seat = self.daemon.seat()
        runs = {process.run_id for process in self.survivors()}
        if isinstance(seat.phase, lifecycle.Ready):
            return runs == {seat.phase.run_id}
        return isinstance(seat.phase, lifecycle.Failed) and not runs


def send(process: Process, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, number)


def all_at_once(pool: ThreadPoolExecutor, acts: Mapping[str, Callable[[], str]]) -> list[str]:
    """Does all of it side by side and waits for all; what was wrong, with its label."""

    def told(label: str, act: Callable[[], str]) -> str:
        try:
            problem = act()
        except Exception as error:  # a daemon did not come up, a call was not answered
            problem = f"{type(error).__name__}: {error}"
        return f"{label}: {problem}" if problem else ""

    return [problem for problem in pool.map(lambda item: told(*item), acts.items()) if problem]


def sweep(folder: Path, furnish: Callable[[Home], None], session: Session, points: Sequence[str]) -> list[str]:
    """Daemon after daemon in a few homes, each killed at its point: each start is the clean next start after the death
    before it, and the last one shows that what was wanted comes back.

    The homes go in step, because a starting daemon ends what any dead daemon of this account left behind, in other homes
    too: no daemon starts between the deaths and the look at what is left, or a keeper's failure would be hidden."""
    stages = [Stage(folder / f"home-{number}", furnish) for number in range(WORKERS)]
    wrong: list[str] = []
    with ThreadPoolExecutor(WORKERS) as pool:
        for first in range(0, len(points), WORKERS):
            now = dict(zip(points[first : first + WORKERS], stages, strict=False))
            for step in (
                {point: partial(stage.start, point) for point, stage in now.items()},
                {point: partial(stage.play, session) for point, stage in now.items()},
                {point: stage.nothing_left for point, stage in now.items()},
            ):
                wrong += all_at_once(pool, step)
            if wrong:
                break  # the homes are spoilt
            if first + WORKERS < len(points):
                for stage in now.values():
                    stage.forget_wanted()
        else:
            wrong += all_at_once(pool, {f"after {point}": stage.next_start for point, stage in now.items()})
        for left in pool.map(Stage.close, stages):
            wrong += [f"left at the end: {one}" for one in left]
    return wrong


def fake_engines(home: Home) -> None:
    rig = FakeEngine(home)
    for name in ("a", "b"):
        rig.profile(name, grandchild=True, load_seconds=0.1)
    rig.profile("slow", load_seconds=60, child=True)
    rig.profile("bad", crash_at=0.5, grandchild=True)
    rig.profile("deaf", ignore_term=True, grandchild=True)
