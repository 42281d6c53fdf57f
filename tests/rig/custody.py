"""Finds and ends the processes of one test home, by what /proc says of them and never by name."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path

from tests.rig.home import Home


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
    """Files in shared memory that no living process has open or mapped: the dead left them, of whatever home."""
    held = set()
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        lines = _read(int(process.name), "maps").splitlines()
        held |= {Path(os.fsdecode(line[line.index(b"/dev/shm/") :])) for line in lines if b"/dev/shm/" in line}
        try:
            held |= {entry.readlink() for entry in (process / "fd").iterdir()}
        except OSError:
            continue  # it ended, or a descriptor did
    return {file for file in Path("/dev/shm").iterdir() if file not in held}


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
