"""Small engines that make trouble, as real programs: each tells "ready PID" in its log for every process that stays."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from app.daemon import processes
from app.daemon.runs import RunSpec
from tests.rig.waiting import TooLate, eventually

ROOT = Path(__file__).resolve().parents[2]

_PRELUDE = """
import os, signal, sys, time
def stay():
    os.write(1, b"ready %d\\n" % os.getpid())
    while True: signal.pause()
def deaf(): signal.signal(signal.SIGTERM, signal.SIG_IGN)
def new_titles():
    import ctypes
    fields = open("/proc/self/stat").read().rpartition(")")[2].split()
    start, end = int(fields[47]), int(fields[48])
    ctypes.memset(start, 0, end - start)
"""

PROGRAMS = {
    "plain": "stay()",
    "deaf": "deaf(); stay()",
    "slow_to_term": """
def bye(*_):
    time.sleep(0.2); os.write(1, b"bye\\n"); os._exit(3)
signal.signal(signal.SIGTERM, bye); stay()""",
    "wrapper": """
if os.fork() == 0: stay()
while b"ready" not in open(sys.argv[1], "rb").read(): time.sleep(0.01)""",
    "crashes_with_workers": """
if os.fork() == 0: deaf(); stay()
if os.fork() == 0: os.setsid(); deaf(); stay()
while open(sys.argv[1], "rb").read().count(b"ready") < 2: time.sleep(0.01)
os._exit(7)""",
    "own_session": """
if os.fork() == 0: os.setsid(); deaf(); stay()
stay()""",
    "double_fork": """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0: deaf(); stay()
    os._exit(0)
os.wait(); stay()""",
    "vllm_like": """
if os.fork() == 0:
    if os.fork() == 0: new_titles(); deaf(); stay()
    new_titles(); deaf(); stay()
stay()""",
    "escapes_everything": """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0: new_titles(); deaf(); stay()
    os._exit(0)
os.wait(); stay()""",
    "shares_memory": """
from multiprocessing import shared_memory
kept = shared_memory.SharedMemory(create=True, size=65536)
os.write(1, b"shares %s\\n" % kept.name.encode())
if os.fork() == 0: deaf(); stay()
deaf(); stay()""",
    "shares_untold": """
import mmap
path = "/dev/shm/sem.mp-test-%d" % os.getpid()
descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
os.truncate(descriptor, 1 << 16)
shared = mmap.mmap(descriptor, 1 << 16)
os.write(1, b"shares %s\\n" % os.path.basename(path).encode())
if os.fork() == 0: deaf(); stay()
deaf(); stay()""",
    "leaves_files": """
import socket
place = os.environ["TMPDIR"]
os.makedirs(place + "/below/that")
open(place + "/below/that/file", "w").close()
os.symlink("/etc", place + "/link")
left = socket.socket(socket.AF_UNIX)
left.bind(place + "/01234567-89ab-cdef-0123-456789abcdef")
if os.fork() == 0: deaf(); stay()
deaf(); stay()""",
    "forks_at_term": """
def more(*_):
    if os.fork() == 0: os.setsid(); deaf(); stay()
signal.signal(signal.SIGTERM, more); stay()""",
    "tells_how_it_was_started": """
import json
found = {
    "record": os.path.exists(sys.argv[2]),
    "stdin": os.readlink("/proc/self/fd/0"),
    "descriptors": sorted(int(n) for n in os.listdir("/proc/self/fd"))[:4],
    "session": os.getsid(0) == os.getpid(),
    "run": os.environ.get("ENGINE_ROOM_RUN"), "owner": os.environ.get("ENGINE_ROOM_OWNER"),
    "own": os.environ.get("OWN"), "names": sorted(os.environ),
    "oom": int(open("/proc/self/oom_score_adj").read()),
    "ignored": next(l.split()[1] for l in open("/proc/self/status") if l.startswith("SigIgn")),
    "blocked": next(l.split()[1] for l in open("/proc/self/status") if l.startswith("SigBlk")),
    "cwd": os.getcwd(),
}
os.write(1, json.dumps(found).encode() + b"\\n"); stay()""",
}
EXPECTED = {
    "own_session": 2,
    "double_fork": 2,
    "vllm_like": 3,
    "escapes_everything": 2,
    "crashes_with_workers": 2,
    "shares_memory": 2,
    "shares_untold": 2,
    "leaves_files": 2,
}


# A keeper ends whatever bears its run's name, anywhere on the machine: tests that run beside each other must not share one.
RUN = f"run-{os.getpid()}"


def spec_for(program: str, folder: Path, run_id: str = RUN, **changes: Any) -> RunSpec:
    """The spec of a run of that program; its log is its first argument, its record the second."""
    log = folder / f"{run_id}.log"
    argv = (sys.executable, "-I", "-S", "-c", _PRELUDE + PROGRAMS[program], str(log), str(folder / f"{run_id}.json"))
    values: dict[str, Any] = {
        "id": run_id,
        "profile_id": "demo",
        "title": "Demo",
        "engine": "fake",
        "model_path": "/models/demo.gguf",
        "port": 0,
        "argv": argv,
        "environment": {"PATH": os.environ["PATH"], "OWN": "yes"},
        "cwd": "/",
        "log_path": str(log),
        "grace_seconds": 0.3,
    }
    return RunSpec(**(values | changes))


def said(log: Path) -> list[processes.ProcessIdentity]:
    """The processes that have told in the log that they are there."""
    text = log.read_text() if log.exists() else ""
    found = (processes.identity(int(pid)) for pid in re.findall(r"ready (\d+)\n", text))
    return [known for known in found if known is not None]


async def until(condition: Callable[[], Any], deadline: float = 60.0, what: str = "") -> Any:
    """Like `eventually`, for a coroutine."""
    end = time.monotonic() + deadline
    while not (value := condition()):
        if time.monotonic() > end:
            raise TooLate(f"not within {deadline:g} s: {what or condition}")
        await asyncio.sleep(0.01)
    return value


async def all_ready(spec: RunSpec, program: str) -> list[processes.ProcessIdentity]:
    count = EXPECTED.get(program, 1)
    return await until(lambda: found if len(found := said(Path(spec.log_path))) >= count else None, what="engine ready")


async def within(seconds: float, work: Awaitable[Any]) -> Any:
    return await asyncio.wait_for(work, seconds)


def nobody(known: list[processes.ProcessIdentity]) -> bool:
    return not any(processes.alive(each) for each in known)


_DAEMON = """
import asyncio, json, sys
from pathlib import Path
import msgspec, uvloop
from app.daemon.runs import Runs, RunSpec
async def main():
    runs = Runs(Path(sys.argv[1]), kill_seconds=30)
    handle = await runs.launch(msgspec.json.decode(sys.stdin.buffer.readline(), type=RunSpec))
    print(json.dumps([[k.pid, k.start_ticks, k.boot_id] for k in handle.keepers]), flush=True)
    await asyncio.Event().wait()
uvloop.run(main())
"""


class OtherDaemon:
    """A daemon process of its own (on uvloop, as the real one) that has launched one run and waits."""

    def __init__(self, folder: Path, spec: RunSpec) -> None:
        command = [sys.executable, "-c", _DAEMON, str(folder)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        import msgspec

        self.process.stdin.write(msgspec.json.encode(spec) + b"\n")
        self.process.stdin.flush()
        self.keepers = [processes.ProcessIdentity(*each) for each in json.loads(self.process.stdout.readline())]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


def kill_together(known: list[processes.ProcessIdentity]) -> None:
    """SIGKILL for all before any of them can react to another's end."""
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for each in known:
            processes.signal_verified(each, number)


_HOLDER = """
import ctypes, sys, os
libc = ctypes.CDLL(None, use_errno=True)
SEIZE, TRACE_EXIT = 0x4206, 0x40
libc.ptrace.argtypes = [ctypes.c_long] * 4
if libc.ptrace(SEIZE, int(sys.argv[1]), 0, TRACE_EXIT) != 0:
    print("refused", os.strerror(ctypes.get_errno()), flush=True)
else:
    print("held", flush=True)
sys.stdin.read()
"""


class Holder:
    """Makes a process that SIGKILL cannot end for the time being, as a hung driver does: a tracer stops it at its exit."""

    def __init__(self, pid: int) -> None:
        command = [sys.executable, "-I", "-S", "-c", _HOLDER, str(pid)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        self.answer = self.process.stdout.readline().decode().strip()

    def let_go(self) -> None:
        self.process.communicate()


__all__ = ["eventually"]
