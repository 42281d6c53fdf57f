"""Measures the window: first paint against a bare PySide6 window, resident memory, idle processor time; prints JSON.

`python -m tests.bench.window [--runs N] [--idle SECONDS] [--platform offscreen|xcb]`. Idle is measured connected to a small
service that sends a GPU sample and traffic each second, as the real one does.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

BARE = """
import time
from PySide6.QtWidgets import QApplication, QMainWindow
class Bare(QMainWindow):
    def paintEvent(self, event):
        super().paintEvent(event)
        print("painted", time.monotonic(), flush=True)
        app.quit()
app = QApplication([])
app.setStyle("Fusion")
window = Bare()
window.resize(1280, 800)
window.show()
app.exec()
"""

OURS = """
import os, sys, time
from pathlib import Path
from app.core.paths import Paths
from app.ui.application import run
folder = Path(sys.argv[1])
paths = Paths(config=folder / "c", data=folder / "d", state=folder / "s", cache=folder / "x", runtime=folder / "r")
def painted(window):
    print("painted", time.monotonic(), flush=True)
    if sys.argv[2] == "once":
        os._exit(0)
run(paths, start_service=False, after_paint=painted)
"""

SERVICE = """
import asyncio, itertools, sys, time
from pathlib import Path
import msgspec
from aiohttp import web
from app.core.snapshot import API_VERSION, Hello, slice_event, to_json
from tests.ui import stage, worlds
world = worlds.WORLDS["ready"]
async def hello(_):
    return web.Response(body=to_json(Hello(product="x", version="1", api=API_VERSION, pid=1, started_at=0, state_folder="/")))
async def history(_):
    return web.Response(body=to_json(worlds.HISTORY))
async def stream(request):
    answer = web.StreamResponse()
    await answer.prepare(request)
    for name in ("library", "service", "seats"):
        await answer.write(slice_event(name, getattr(world, name), time.monotonic()))
    for beat in itertools.count():
        gpus = [msgspec.structs.replace(g, utilisation=0.5 + 0.01 * (beat % 40), power_watts=200.0 + beat % 60) for g in world.gpus.gpus]
        await answer.write(slice_event("gpus", msgspec.structs.replace(world.gpus, gpus=tuple(gpus)), time.monotonic()))
        await answer.write(slice_event("traffic", msgspec.structs.replace(world.traffic, in_flight=beat % 9), time.monotonic()))
        await asyncio.sleep(1)
app = web.Application()
app.router.add_get("/control/hello", hello)
app.router.add_get("/control/history", history)
app.router.add_get("/control/stream", stream)
Path(sys.argv[1]).parent.mkdir(parents=True, exist_ok=True)
web.run_app(app, path=sys.argv[1], print=None)
"""


def environment(platform: str) -> dict[str, str]:
    return {**os.environ, "QT_QPA_PLATFORM": platform, "PYTHONPATH": str(ROOT)}


def first_paint(script: str, *arguments: str, platform: str) -> float:
    """Seconds from exec to the end of the first paint."""
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        env=environment(platform),
        timeout=60,
    )
    found = re.search(r"painted ([\d.]+)", done.stdout)
    assert found, done.stderr[-2000:]
    return float(found[1]) - begun


def ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def resident(pid: int) -> int:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) * 1024


def at_rest(platform: str, seconds: float, page: str) -> tuple[float, float]:
    """(resident MB, share of a core) of a connected window showing `page`."""
    with tempfile.TemporaryDirectory() as folder:
        socket = Path(folder) / "r" / "control.sock"
        (Path(folder) / "c").mkdir()
        (Path(folder) / "c" / "window.json").write_text(json.dumps({"page": page}))
        service = subprocess.Popen(
            [sys.executable, "-c", SERVICE, str(socket)], env=environment("offscreen"), stderr=subprocess.DEVNULL
        )
        window = subprocess.Popen(
            [sys.executable, "-c", OURS, folder, "stay"],
            env=environment(platform),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            time.sleep(8)  # imports, connection, first samples: what follows is rest
            before, begun = ticks(window.pid), time.monotonic()
            time.sleep(seconds)
            used = (ticks(window.pid) - before) / os.sysconf("SC_CLK_TCK")
            return resident(window.pid) / 1e6, used / (time.monotonic() - begun)
        finally:
            for process in (window, service):
                process.terminate()
                process.wait(20)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--idle", type=float, default=15)
    parser.add_argument("--platform", default="offscreen")
    asked = parser.parse_args()
    bare, ours = [], []
    for _ in range(
        asked.runs + 1
    ):  # interleaved, so that both see the same machine; the first of each warms the disk cache
        with tempfile.TemporaryDirectory() as folder:
            bare.append(first_paint(BARE, platform=asked.platform))
            ours.append(first_paint(OURS, folder, "once", platform=asked.platform))
    bare_median, ours_median = statistics.median(bare[1:]), statistics.median(ours[1:])
    models_mb, models_cpu = at_rest(asked.platform, asked.idle, "models")
    monitor_mb, monitor_cpu = at_rest(asked.platform, asked.idle, "monitor")
    print(
        json.dumps(
            {
                "platform": asked.platform,
                "load": os.getloadavg()[0],
                "first_paint_bare_seconds": round(bare_median, 4),
                "first_paint_window_seconds": round(ours_median, 4),
                "first_paint_ratio": round(
                    statistics.median(o / b for o, b in zip(ours[1:], bare[1:], strict=True)), 3
                ),
                "first_paint_ratio_of_best_runs": round(min(ours[1:]) / min(bare[1:]), 3),  # least disturbed by others
                "resident_mb": {"models": round(models_mb, 1), "monitor": round(monitor_mb, 1)},
                "idle_core_share": {"models": round(models_cpu, 4), "monitor": round(monitor_cpu, 4)},
                "goals": {"first_paint_ratio": 1.7, "resident_mb": 140, "idle_core_share": 0.01},
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
