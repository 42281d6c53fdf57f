"""Brings an engine into the world for the keeper: its log, its durable record, and the child between fork and exec."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import stat
from typing import NoReturn

OOM_SCORE_ADDED = 500  # the kernel shall take an engine before the desktop

_PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


class StepFailed(Exception):
    """What could not be done, and the errno."""

    def __init__(self, step: str, number: int) -> None:
        super().__init__(step, number)
        self.step, self.number = step, number


def become_engine(spec: dict[str, object], log: int, gate: int, birth: int, keeper: int) -> NoReturn:
    """The child between fork and exec; never returns."""
    step = "fork"
    try:
        os.setsid()
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        _raise_oom_score()
        plain_signals()
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        if os.getppid() != keeper or os.read(gate, 1) != b"!":
            os._exit(127)
        step = "folder"
        os.chdir(str(spec["cwd"]))
        step = "exec"
        argv: list[str] = spec["argv"]  # type: ignore[assignment]
        os.execvpe(argv[0], argv, spec["environment"])  # type: ignore[arg-type]
    except OSError as error:
        os.write(birth, f"{step} {error.errno}".encode())
    except ValueError:  # a NUL byte in an argument
        os.write(birth, f"{step} {errno.EINVAL}".encode())
    finally:
        os._exit(127)


def start_end_command(spec: dict[str, object]) -> int:
    """Starts what ends a container, with the engine's environment but not as a part of the run; returns its pid."""
    pid = os.fork()
    if pid:
        return pid
    try:
        plain_signals()
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nothing, descriptor)
        argv: list[str] = spec["end_argv"]  # type: ignore[assignment]
        environment: dict[str, str] = spec["environment"]  # type: ignore[assignment]
        os.execvpe(argv[0], argv, {name: value for name, value in environment.items() if name != "ENGINE_ROOM_RUN"})
    finally:
        os._exit(127)


def plain_signals() -> None:
    """Every signal as a fresh program expects it: an inherited ignored SIGINT would make a loading vLLM unstoppable."""
    for number in range(1, 32):
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _raise_oom_score() -> None:
    try:
        with open("/proc/self/oom_score_adj", "r+") as file:  # noqa: PTH123
            score = min(1000, int(file.read()) + OOM_SCORE_ADDED)
            file.seek(0)
            file.write(str(score))
    except (OSError, ValueError):
        pass  # a sandbox may forbid it; the engine runs all the same


def open_log(path: str) -> int:
    """The run's log for appending: 0600, never through a link, never a pipe or a device."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o600)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a plain file")
        os.fchmod(descriptor, 0o600)
        os.set_blocking(descriptor, True)
    except OSError as error:
        raise StepFailed("log", error.errno or 0) from error
    return descriptor


def write_record(path: str, record: dict[str, object]) -> None:
    """Durable when this returns: file and folder are on disk, and nobody ever sees half of it."""
    draft = f"{path}.{os.getpid()}.draft"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(draft, flags, 0o600)
    try:
        data = json.dumps(record).encode()
        while data:
            data = data[os.write(descriptor, data) :]
        os.fsync(descriptor)
        os.rename(draft, path)  # noqa: PTH104
    except OSError:
        os.unlink(draft)  # noqa: PTH108
        raise
    finally:
        os.close(descriptor)
    folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)  # noqa: PTH120
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
