"""Finds and ends the processes of one test home, by what /proc says of them and never by name."""

import os
import re
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.daemon.procfs import all_processes, below
from tests.rig.descriptors import beside_tests
from tests.rig.home import Home

SHARED = Path("/dev/shm")
LOOK_SECONDS = 1.0  # an engine that has memory to share lives longer


@dataclass(frozen=True)
class Process:
    pid: int
    start_ticks: int
    state: str
    command: str
    run_id: str | None

    def __str__(self) -> str:
        return f"pid {self.pid} ({self.command}), state {self.state}, run {self.run_id or '-'}"


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def look_at(pid: int) -> Process | None:
    stat = _read(pid, "stat")
    if not stat:
        return None
    fields = stat.rpartition(b")")[2].split()
    environment = _read(pid, "environ").split(b"\0")
    marker = b"ENGINE_ROOM_RUN="
    run_id = next((entry[len(marker) :].decode() for entry in environment if entry.startswith(marker)), None)
    command = _read(pid, "cmdline").replace(b"\0", b" ").decode("utf-8", "replace").strip()
    return Process(pid, int(fields[19]), fields[0].decode(), command[:160] or "?", run_id)


def alive(pid: int) -> bool:
    found = look_at(pid)
    return found is not None and found.state not in "ZX"


def processes_of(home: Home, runs_only: bool = False) -> list[Process]:
    """Living processes of this home, oldest first: its path stands in their environment or command line, or one of its
    daemons is named there as owner (a keeper knows no more). `runs_only`: only those with a run's marker."""
    marks = [os.fsencode(home.folder), *(f"ENGINE_ROOM_OWNER={owner}".encode() for owner in home.owners)]
    found = []
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        pid = int(entry.name)
        words = _read(pid, "environ") + _read(pid, "cmdline")
        if not any(mark in words for mark in marks):
            continue
        process = look_at(pid)
        if process is not None and process.state not in "ZX" and (process.run_id or not runs_only):
            found.append(process)
    return sorted(found, key=lambda process: (process.start_ticks, process.pid))


def unheld_shared_files() -> set[Path]:
    """Files in shared memory that the dead left: no living process has them open or mapped, and none that is not below
    this test ever had (other tests run beside it). The first call begins to look at what the others have."""
    _others.start()
    there = set(SHARED.iterdir())  # before the holders: what is made in between is not there yet
    return {file for file in there - _others.files - _held_by(_all_pids()) if not _of_a_living_test(file)}


@contextmanager
def file_of_a_stranger() -> Iterator[Path]:
    """A file in shared memory that looks like a dead Python program's, and is nobody's of ours: it must stay. By its name
    the tests that run beside this one do not take it for left behind."""
    file = SHARED / f"psm_{os.getpid():08x}"
    file.write_bytes(b"kept")
    yield file
    assert file.read_bytes() == b"kept"
    file.unlink()


def _of_a_living_test(file: Path) -> bool:
    named = re.fullmatch(r"psm_([0-9a-f]{8})", file.name)
    return named is not None and alive(int(named[1], 16))


def _all_pids() -> set[int]:
    return {int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit()}


def _held_by(pids: Iterable[int]) -> set[Path]:
    held = set()
    for pid in pids:
        lines = _read(pid, "maps").splitlines()
        held |= {Path(os.fsdecode(line[line.index(b"/dev/shm/") :])) for line in lines if b"/dev/shm/" in line}
        try:
            held |= {entry.readlink() for entry in Path(f"/proc/{pid}/fd").iterdir()}
        except OSError:
            continue  # it ended, or a descriptor did
    return {file for file in held if file.parent == SHARED}


class _Others(threading.Thread):
    """Notes which files in shared memory are held by processes that are not below this one, and never were."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.files: set[Path] = set()
        self._below: dict[int, int] = {}  # pid → start ticks of all that were ever seen below us

    def start(self) -> None:
        if not self.is_alive():
            self._look()
            super().start()

    def run(self) -> None:
        while True:
            time.sleep(LOOK_SECONDS)
            with beside_tests:
                self._look()

    def _look(self) -> None:
        everybody = all_processes()
        known = {pid for pid, ticks in self._below.items() if pid in everybody and everybody[pid].start_ticks == ticks}
        ours = known | below(known | {os.getpid()}, everybody)
        self._below = {pid: everybody[pid].start_ticks for pid in ours}
        self.files |= _held_by(everybody.keys() - ours - {os.getpid()})


_others = _Others()


def keepers_of(home: Home) -> list[Process]:
    """The keepers of this home's runs: the outer ones (guards) come before their inner ones."""
    return [process for process in processes_of(home) if b"ENGINE_ROOM_KEEPER=" in _read(process.pid, "environ")]


def end(process: Process) -> None:
    """KILL for exactly this process: pid and start time must still match."""
    now = look_at(process.pid)
    if now is not None and now.start_ticks == process.start_ticks:
        try:
            os.kill(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def end_all_of(home: Home) -> list[Process]:
    """Ends whatever a failed test left in its home; returns what it was."""
    left = processes_of(home)
    for process in left:
        end(process)
    return left
