"""Keeps one container for the stand-in service: its first process and all below it, whatever becomes of the service.

`shim.py FOLDER`: the folder has container.json; started.json is written when the first process runs, exit.json when it has
ended. As in a real container, nothing of it outlives its first process.
"""

# ruff: noqa: PTH118, PTH123
import ctypes
import json
import os
import signal
import sys

SUBREAPER = 36


def main():
    folder = sys.argv[1]
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    with open(os.path.join(folder, "container.json")) as file:
        spec = json.load(file)
    child = os.fork()
    if child == 0:
        os.setsid()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for descriptor, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(os.path.join(folder, name), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), descriptor)
        os.execve(spec["argv"][0], spec["argv"], spec["environment"])
    tell(folder, "started.json", {"pid": child})
    code = None
    while True:
        try:
            pid, status = os.wait()
        except ChildProcessError:
            break
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
        if code is not None:
            for pid in below(os.getpid()):
                os.kill(pid, signal.SIGKILL)
    tell(folder, "exit.json", {"code": 128 - code if code < 0 else code})


def below(top):
    parents = {}
    for name in os.listdir("/proc"):  # noqa: PTH208
        try:
            with open(f"/proc/{name}/stat") as file:
                parents[int(name)] = int(file.read().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
    found = {top}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {top}


def tell(folder, name, value):
    path = os.path.join(folder, name)
    with open(path + ".new", "w") as file:
        json.dump(value, file)
    os.replace(path + ".new", path)  # noqa: PTH105


main()
