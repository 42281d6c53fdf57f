"""One home in which daemons are killed, one after the other, and what must be true after each (I1)."""

import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from app.core import lifecycle
from tests.rig.custody import Process, end_all_of, keepers_of, processes_of
from tests.rig.daemon import Daemon
from tests.rig.engines import FakeEngine
from tests.rig.home import Home
from tests.rig.waiting import TooLate, eventually

WORKERS = 3
SURVIVAL_SECONDS = 15.0
ALONE = threading.Lock()
"""A starting daemon ends what any dead daemon of this account left behind, in other homes too: while one stage waits for
its keepers to have done their work, no daemon starts in another one, or a keeper's failure would be hidden."""

Session = Callable[[Daemon], None]


class Stage:
    """A home whose engines stop soon, and its daemons."""

    def __init__(self, folder: Path, furnish: Callable[[Home], None]) -> None:
        self.home = Home(folder)
        self.home.settings(supervision={"stop_grace_seconds": 0.3, "drain_seconds": 2})
        furnish(self.home)
        self.daemon = Daemon(self.home)

    def start(self, **environment: str) -> Daemon:
        with ALONE:
            return self.daemon.start(**environment)

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

    def die_at(self, session: Session, point: str) -> str:
        """A daemon that kills itself at `point` of the session; "" or what was wrong afterwards."""
        daemon = self.start(ENGINE_ROOM_DIE_AT=point)
        with contextlib.suppress(httpx.HTTPError, AssertionError, RuntimeError, OSError):
            session(daemon)
        try:
            code = daemon.wait_end(3)
        except subprocess.TimeoutExpired:
            return "the daemon did not reach this point"
        return self.after_death(code)

    def after_death(self, code: int) -> str:
        """Within 15 s no process with a run's marker is left in /proc, and every port that an engine had is free."""
        if code != -signal.SIGKILL:
            return f"the daemon ended by itself: {code}"
        return self.nothing_left()

    def nothing_left(self) -> str:
        try:
            with ALONE:
                eventually(lambda: not self.survivors(), SURVIVAL_SECONDS)
        except TooLate:
            return f"alive after {SURVIVAL_SECONDS:g} s: {'; '.join(map(str, self.survivors()))}"
        stream = self.daemon.slices_seen
        ports = {seat.run.port for seat in stream.seats_seen if seat.run and seat.run.port} if stream else set()
        for port in ports:
            with socket.socket() as again:
                again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    again.bind(("127.0.0.1", port))
                except OSError as error:
                    return f"port {port}: {error}"
        return ""

    def next_start(self) -> str:
        """The daemon comes up again and settles: what was wanted is there or on its way, or nothing was wanted."""
        daemon = self.start()
        calm = lifecycle.Ready | lifecycle.Idle | lifecycle.Failed
        try:
            eventually(lambda: isinstance(daemon.seat().phase, calm), 20)
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
            self.daemon.wait_end(10)

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


def chain(folder: Path, furnish: Callable[[Home], None], session: Session, points: Sequence[str]) -> list[str]:
    """Daemon after daemon in one home, each killed at its point: each start is the clean next start after the death
    before it, and the last one shows that what was wanted comes back."""
    wrong: list[str] = []
    stage = Stage(folder, furnish)
    for point in points:
        try:
            problem = stage.die_at(session, point)
        except Exception as error:  # the daemon did not come up
            problem = f"{type(error).__name__}: {error}"
        if problem:
            wrong.append(f"{point}: {problem}")
            left = stage.close()
            stage = Stage(folder.with_name(f"{folder.name}-after-{point.replace(':', '-')}"), furnish)
            wrong += [f"{point}: left at the end: {one}" for one in left]
        elif point != points[-1]:
            stage.forget_wanted()
    try:
        problem = stage.next_start() if stage.home.paths.database.exists() else ""
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
    wrong += [f"after {points[-1]}: {problem}"] if problem else []
    wrong += [f"left at the end: {one}" for one in stage.close()]
    return wrong


def side_by_side(jobs: Sequence[Callable[[], list[str]]]) -> list[str]:
    """What was wrong in any of them."""
    with ThreadPoolExecutor(WORKERS) as pool:
        return [problem for each in pool.map(lambda job: job(), jobs) for problem in each]


def dealt(points: Sequence[str], hands: int = WORKERS) -> Iterator[list[str]]:
    """The points, dealt out to the workers."""
    return (list(points[first::hands]) for first in range(hands) if points[first::hands])


def fake_engines(home: Home) -> None:
    rig = FakeEngine(home)
    for name in ("a", "b"):
        rig.profile(name, grandchild=True, load_seconds=0.1)
    rig.profile("slow", load_seconds=60, child=True)
    rig.profile("bad", crash_at=0.5, grandchild=True)
    rig.profile("deaf", ignore_term=True, grandchild=True)
