"""Measures what 100,000 requests leave in the daemon: `python -m tests.bench.soak [--requests N] [--out FILE]`, prints JSON.

The daemon, the engine (the stand-in) and this client are three processes. A third of the requests are streamed, one in twenty
is given up by its client; every tenth of the way the daemon's resident memory and descriptors are read. The first tenth fills
what is kept by design (request log, counters, pools); the slope is what the other nine add.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp

from tests.bench.daemon import cpu_seconds, resident_mib
from tests.rig.daemon import Daemon, chat_body
from tests.rig.engines import FakeEngine
from tests.rig.home import Home

GOAL_SLOPE_PERCENT = 5.0
CLIENTS = 16
TENTHS = 10


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


async def talk(url: str, requests: int, seed: int) -> dict[str, int]:
    """So many requests by some clients at once; how they ended."""
    ended = {"answered": 0, "given up": 0, "other": 0}

    async def client(count: int, chance: random.Random) -> None:
        async with aiohttp.ClientSession() as session:
            for _ in range(count):
                leaves, stream = chance.random() < 0.05, chance.random() < 0.33
                body = chat_body("steady", max_tokens=4, stream=stream or leaves)
                async with session.post(f"{url}/chat/completions", json=body) as answer:
                    if leaves:
                        answer.close()
                        ended["given up"] += 1
                        continue
                    await answer.read()
                    ended["answered" if answer.status == 200 else "other"] += 1

    await asyncio.gather(*(client(requests // CLIENTS, random.Random(seed * CLIENTS + one)) for one in range(CLIENTS)))
    return ended


def measure(requests: int, folder: Path) -> dict[str, Any]:
    home = Home(folder)
    FakeEngine(home).profile("steady", load_seconds=0.0, load_steps=1, tokens=4)
    daemon = Daemon(home)
    try:
        daemon.start()
        daemon.load("steady")
        points: list[dict[str, float]] = []
        ended: dict[str, int] = {}
        for tenth in range(TENTHS):
            began, used = time.monotonic(), cpu_seconds(daemon.pid)
            for how, count in asyncio.run(talk(daemon.gateway_url, requests // TENTHS, tenth)).items():
                ended[how] = ended.get(how, 0) + count
            daemon.wait_slice("traffic", lambda traffic: not traffic.in_flight, what="nothing is in flight")
            points.append(
                {
                    "requests": sum(ended.values()),
                    "resident_mib": round(resident_mib(daemon.pid), 2),
                    "descriptors": descriptors(daemon.pid),
                    "seconds": round(time.monotonic() - began, 1),
                    "daemon_cpu_ms_per_request": round(
                        1000 * (cpu_seconds(daemon.pid) - used) / (requests // TENTHS), 3
                    ),
                }
            )
    finally:
        daemon.close()
    first, last = points[0]["resident_mib"], points[-1]["resident_mib"]
    return {
        "requests": sum(ended.values()),
        "ended": ended,
        "slope_percent": round(100 * (last - first) / first, 2),
        "goal_slope_percent": GOAL_SLOPE_PERCENT,
        "points": points,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.soak", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="er-soak-") as folder:
        figures = measure(chosen.requests, Path(folder))
    text = json.dumps(figures)
    if chosen.out:
        chosen.out.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
