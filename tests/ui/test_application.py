"""The window as a process: it paints before it imports, there is one of it, and it leaves cleanly when told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import json, sys
from pathlib import Path
from app.core.paths import Paths
from app.ui.application import run
folder = Path(sys.argv[1])
paths = Paths(config=folder / "c", data=folder / "d", state=folder / "s", cache=folder / "x", runtime=folder / "r")
def painted(window):
    heavy = [name for name in ("msgspec", "httpx", "qasync", "asyncio", "pydantic", "pygments", "pynvml") if name in sys.modules]
    print(json.dumps(heavy), flush=True)
    forward = window.come_forward
    window.come_forward = lambda token="": (print("forward", token, flush=True), forward())
sys.exit(run(paths, start_service=False, after_paint=painted))
"""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """`start()` opens the window as a process of its own."""
    begun: list[subprocess.Popen[str]] = []

    def one(**environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(tmp_path)],
            env={**os.environ, "QT_QPA_PLATFORM": "offscreen", "PYTHONPATH": str(ROOT), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        begun.append(process)
        return process

    yield one
    for process in begun:
        process.kill()
        process.communicate()


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def test_nothing_heavy_is_imported_before_the_first_paint(start: Start) -> None:
    assert json.loads(first_line(start())) == []


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT])
def test_it_leaves_at_once_and_quietly_when_told(start: Start, told: signal.Signals) -> None:
    window = start()
    first_line(window)
    window.send_signal(told)
    _, said = window.communicate(timeout=60)
    assert window.returncode == 0
    assert "Traceback" not in said
    assert "never retrieved" not in said


def test_a_second_start_raises_the_first_window_and_goes(start: Start) -> None:
    window = start()
    first_line(window)
    second = start(XDG_ACTIVATION_TOKEN="token-1")
    assert second.wait(30) == 0
    assert first_line(window).strip() == "forward token-1"
    assert window.poll() is None


def test_a_killed_window_does_not_stand_in_the_way_of_the_next(start: Start) -> None:
    window = start()
    first_line(window)
    window.kill()
    window.wait()
    assert json.loads(first_line(start())) == []
