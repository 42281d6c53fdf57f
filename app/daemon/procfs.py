"""Reads processes from /proc and signals one without ever missing; holds the names that mark a run's processes.

Standard library only: the keeper, a program of its own, loads it from beside itself; app.daemon.processes builds on it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal

RUN_MARK = "ENGINE_ROOM_RUN"  # =<run id>, in the environment of every process of a run
FOLDER_MARK = "ENGINE_ROOM_FOLDER"  # =<folder of the run's record>: another home's runs are not ours to end
OWNER_MARK = "ENGINE_ROOM_OWNER"  # =<pid>:<start ticks> of the daemon, beside it
KEEPER_MARK = "ENGINE_ROOM_KEEPER"  # =<run id>, in the keeper's own environment; never RUN_MARK, it must not end itself

ORPHAN_GRACE_SECONDS = 10.0  # longest grace once the daemon is gone: all must be over within 15 s
REST_SECONDS = 2.0  # what is left when the leader has gone gets so long
CLEANER_SECONDS = 1.5  # how much longer than the others a cleaner lives
END_COMMAND_SECONDS = 5.0  # the end command's time

_SYS_PIDFD_SEND_SIGNAL = 424  # the same on every architecture since Linux 5.3
_SYS_PIDFD_OPEN = 434

_libc = ctypes.CDLL(None, use_errno=True)


class Process:
    """One line of /proc/PID/stat; `start_ticks` (clock ticks since boot) makes the pid an identity within a boot."""

    __slots__ = ("group", "name", "parent", "pid", "session", "start_ticks", "state", "threads")

    def __init__(self, pid: int, line: bytes) -> None:
        opening, closing = line.index(b"("), line.rindex(b")")  # the name may hold anything, brackets too
        fields = line[closing + 2 :].split()
        self.pid = pid
        self.name = line[opening + 1 : closing].decode("utf-8", "replace")
        self.state = fields[0].decode("ascii", "replace")
        self.parent, self.group, self.session = int(fields[1]), int(fields[2]), int(fields[3])
        self.threads, self.start_ticks = int(fields[17]), int(fields[19])

    @property
    def dead(self) -> bool:
        """A zombie holds nothing any more, except when only its main thread has ended and others still run."""
        return self.state in ("Z", "X", "x") and self.threads <= 1


def read_file(path: str) -> bytes | None:
    """A whole file of /proc; None when the process has gone or is not ours to read."""
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 — pathlib would double the keeper's memory
            return file.read()
    except OSError:
        return None


def read_process(pid: int) -> Process | None:
    line = read_file(f"/proc/{pid}/stat")
    try:
        return Process(pid, line) if line else None
    except (ValueError, IndexError):
        return None


def all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208


def all_processes() -> dict[int, Process]:
    found = (read_process(pid) for pid in all_pids())
    return {process.pid: process for process in found if process is not None}


def below(roots: set[int], processes: dict[int, Process]) -> set[int]:
    """The pids of all descendants of `roots`, without the roots themselves."""
    children: dict[int, list[int]] = {}
    for process in processes.values():
        children.setdefault(process.parent, []).append(process.pid)
    found: set[int] = set()
    waiting = list(roots)
    while waiting:
        for pid in children.get(waiting.pop(), ()):
            if pid not in found and pid not in roots:
                found.add(pid)
                waiting.append(pid)
    return found


def carries_mark(pid: int, run_id: str) -> bool:
    """Whether the process was started with the run's marker; False too when its environment was overwritten."""
    environment = read_file(f"/proc/{pid}/environ") or b""
    return b"\0%b\0" % f"{RUN_MARK}={run_id}".encode() in b"\0" + environment + b"\0"


def is_cleaner(pid: int) -> bool:
    """Whether it is the process by which a Python program gives back its shared memory once the others have gone.

    It ends by itself then. Killed together with them, what they had in /dev/shm would stay for good, and nobody else
    could know whose it was.
    """
    return b"multiprocessing.resource_tracker" in (read_file(f"/proc/{pid}/cmdline") or b"")


def shared_files_of(pid: int) -> set[bytes]:
    """The files in /dev/shm that the process has mapped: named shared memory and semaphores."""
    found = set()
    for line in (read_file(f"/proc/{pid}/maps") or b"").splitlines():
        start = line.find(b" /dev/shm/")
        if start > 0 and not line.endswith(b" (deleted)"):
            found.add(line[start + 1 :])
    return found


def is_ours(pid: int) -> bool:
    """Whether /proc shows the process as this account's (one that hides its memory from us shows as root's)."""
    try:
        return os.stat(f"/proc/{pid}").st_uid == os.getuid()  # noqa: PTH116
    except OSError:
        return False


def wait_channel(pid: int) -> str:
    """The kernel function in which the process waits, "" when unknown."""
    text = (read_file(f"/proc/{pid}/wchan") or b"").decode("ascii", "replace")
    return "" if text == "0" else text


def signal_process(pid: int, start_ticks: int, number: int) -> bool:
    """Signals exactly that process: a handle is taken first, then its start time is compared, then the handle is used.

    False when it is another process by now, has gone, or may not be signalled. Never touches pid 1 or below.
    """
    if pid <= 1:
        return False
    handle = -1
    try:
        handle = _pidfd_open(pid)
        current = read_process(pid)
        if current is None or current.start_ticks != start_ticks:
            return False
        if handle >= 0:
            _pidfd_send_signal(handle, number)
        else:  # a sandbox without the call: the comparison above is the most that can be had
            os.kill(pid, number)
    except OSError:
        return False
    finally:
        if handle >= 0:
            os.close(handle)
    return True


class SharedFiles:
    """What the killed processes of one run had in /dev/shm: a cleaner knows only what it was told in time."""

    def __init__(self) -> None:
        self._files: set[bytes] = set()
        self._noted: set[int] = set()

    def note(self, processes: list[Process]) -> None:
        """To be called just before these are killed; they are stopped first, so that nothing is added in between."""
        new = [process for process in processes if process.pid not in self._noted]
        for process in new:
            if not is_cleaner(process.pid):
                signal_process(process.pid, process.start_ticks, signal.SIGSTOP)
        for process in new:
            self._noted.add(process.pid)
            self._files |= shared_files_of(process.pid)

    def remove(self) -> None:
        """Removes those that no living process has mapped: whoever else uses one keeps it."""
        files, self._files = self._files, set()
        for pid in all_pids() if files else ():
            files = files - shared_files_of(pid)
        for file in files:
            try:
                os.unlink(file)  # noqa: PTH108
            except OSError:
                continue  # its own cleaner was quicker


def _pidfd_open(pid: int) -> int:
    """-1 where the kernel or a sandbox does not offer it. By number: portable interpreter builds lack os.pidfd_open."""
    handle = int(_libc.syscall(ctypes.c_long(_SYS_PIDFD_OPEN), ctypes.c_long(pid), ctypes.c_long(0)))
    if handle < 0 and ctypes.get_errno() not in (errno.ENOSYS, errno.EPERM):
        raise OSError(ctypes.get_errno(), "pidfd_open")
    return handle


def _pidfd_send_signal(handle: int, number: int) -> None:
    arguments = (ctypes.c_long(value) for value in (_SYS_PIDFD_SEND_SIGNAL, handle, number, 0, 0))
    if _libc.syscall(*arguments) < 0:
        raise OSError(ctypes.get_errno(), "pidfd_send_signal")
