"""Runs a foreign program briefly to hear what it says: with a deadline, a bound, and nothing of it left afterwards.

The program may hang, print without end, or leave children and files. It runs in a session of its own that is killed as a
whole, dies with us, sees only an environment of plain names, and has a folder for temporary files that goes with it.
"""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from app.daemon import temporary

ANSWER_BYTES = 1024**2  # a real help has 60 KB
ANSWER_SECONDS = 20.0  # a Python engine imports for seconds on a busy machine, a driver with many cards wakes up slowly
_LOOK_SECONDS = 0.1
_LOOKED_AT_BYTES = 131_072  # of what was said, for `until`: more than comes at once

# What an engine needs to start; nothing that could hold a secret or change what it says.
_PASSED = frozenset(
    [
        *("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "XDG_RUNTIME_DIR"),
        *("DOCKER_HOST", "DOCKER_CONFIG", "DOCKER_CONTEXT", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY"),
    ]
)

# The child asks the kernel to end it when the thread that waits for it ends, then becomes the engine.
_START = (
    "import ctypes, os, resource, sys\n"
    "limit = int(sys.argv[2])\n"
    "if limit: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))\n"
    "ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)\n"
    "if os.getppid() != int(sys.argv[1]): os._exit(125)\n"
    "try: os.execv(sys.argv[3], sys.argv[3:])\n"
    "except OSError as error: print(f'it cannot be executed: {error.strerror}', flush=True); os._exit(127)\n"
)


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a program said, stdout and stderr as they came. `code` is None when it had to be killed, and `why` says so."""

    text: str
    code: int | None
    why: str = ""


class Stopped(Exception):
    """The asking was ended from outside; nothing was learnt."""


def ask(
    argv: Iterable[str],
    environment: Mapping[str, str],
    *,
    seconds: float = ANSWER_SECONDS,
    limit_bytes: int = ANSWER_BYTES,
    stop: threading.Event | None = None,
    until: re.Pattern[bytes] | None = None,
    added: Mapping[str, str] | None = None,
    memory_bytes: int = 0,
) -> Answer:
    """Runs a program to its end, or to the deadline, or to the bound; then nothing of its session is left.

    `until`: it is ended as soon as it has said this. `added` reaches it as it is. `memory_bytes` bounds what it may allocate
    for itself (0 = nothing does).

    Raises Stopped when `stop` is set meanwhile, OSError when no process can be started now.
    """
    folder = temporary.make_for_a_question(environment)
    try:
        return _asked(argv, environment, folder, seconds, limit_bytes, stop, until, added, memory_bytes)
    finally:
        temporary.remove(folder)


def _asked(
    argv: Iterable[str],
    environment: Mapping[str, str],
    folder: Path,
    seconds: float,
    limit_bytes: int,
    stop: threading.Event | None,
    until: re.Pattern[bytes] | None,
    added: Mapping[str, str] | None,
    memory_bytes: int,
) -> Answer:
    wrapped = [sys.executable, "-I", "-S", "-c", _START, str(os.getpid()), str(memory_bytes), *argv]
    process = subprocess.Popen(
        wrapped,
        env={name: value for name, value in environment.items() if name in _PASSED}
        | {"GGML_NO_BACKTRACE": "1", "PYTHONDONTWRITEBYTECODE": "1", "NO_COLOR": "1"}
        | {name: value for name, value in environment.items() if name == "LLAMA_CPP_LIB_PATH"}
        | {temporary.VARIABLE: str(folder)}
        | dict(added or {}),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    assert process.stdout is not None
    output, ended = process.stdout.fileno(), -1
    said = bytearray()
    why = ""
    deadline = time.monotonic() + seconds
    try:
        ended = os.pidfd_open(process.pid)
        os.set_blocking(output, False)
        listened = select.poll()  # not select.select: it takes no descriptor above 1023, and a service has many
        for descriptor in (output, ended):
            listened.register(descriptor, select.POLLIN)
        while not why:
            ready = [descriptor for descriptor, _ in listened.poll(_LOOK_SECONDS * 1000)]
            if output in ready and not _took(output, said):
                listened.unregister(output)  # it may close its output before it ends
            elif ended in ready and output not in ready:
                break  # whoever still holds the pipe is not the program that was asked
            if until is not None and until.search(said, max(0, len(said) - _LOOKED_AT_BYTES)):
                break
            if len(said) > limit_bytes:
                why = f"it printed more than {limit_bytes // 1024} KiB"
            elif time.monotonic() > deadline:
                why = f"it did not answer within {seconds:.0f} seconds"
            elif stop is not None and stop.is_set():
                raise Stopped
    finally:
        # Its number cannot be another's yet: nobody has waited for it. What it may have left in its session goes too.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        if ended >= 0:
            os.close(ended)
    text = bytes(said[:limit_bytes]).decode("utf-8", "replace")
    return Answer(text=text, code=None if why else process.returncode, why=why)


def _took(output: int, said: bytearray) -> bool:
    """Whether there was something to read, and there may be more."""
    try:
        piece = os.read(output, 65_536)
    except BlockingIOError:
        return True
    said += piece
    return bool(piece)
