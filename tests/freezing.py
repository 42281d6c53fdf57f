"""Runs pytest while processes below it stand still at random moments: `python -m tests.freezing SEED [PYTEST ARGUMENT …]`.

What depends on who is quicker shows itself so, far more than on a machine that is merely busy. Only what this program started
is stopped, each for at most a second, and a process that a test has stopped itself is left alone.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

from app.daemon.processes import signal_process
from app.daemon.procfs import Process, all_processes

MEAN_SECONDS, MOST_SECONDS = 0.17, 1.0
AT_ONCE = (1, 1, 2, 3)


def below(root: int) -> list[Process]:
    """The living descendants of `root` that do not stand still already."""
    children: dict[int, list[Process]] = {}
    for process in all_processes().values():
        children.setdefault(process.parent, []).append(process)
    found: list[Process] = []
    left = [root]
    while left:
        new = children.get(left.pop(), [])
        found += new
        left += [process.pid for process in new]
    return [process for process in found if process.state not in "TtZX"]


def freeze(chosen: list[Process], seconds: float) -> None:
    stopped = [process for process in chosen if signal_process(process.pid, process.start_ticks, signal.SIGSTOP)]
    try:
        time.sleep(seconds)
    finally:  # whoever interrupts this leaves nobody standing
        for process in stopped:
            signal_process(process.pid, process.start_ticks, signal.SIGCONT)


def main() -> int:
    dice = random.Random(int(sys.argv[1]))
    # A stopped program loses the rest of a long print when its output is not buffered: Python's own doing.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    tests = subprocess.Popen([sys.executable, "-m", "pytest", *sys.argv[2:]], env=environment)
    while tests.poll() is None:
        if candidates := below(tests.pid):
            chosen = dice.sample(candidates, min(len(candidates), dice.choice(AT_ONCE)))
            freeze(chosen, min(MOST_SECONDS, dice.expovariate(1 / MEAN_SECONDS)))
        time.sleep(dice.uniform(0.0, 0.1))
    return tests.returncode


if __name__ == "__main__":
    sys.exit(main())
