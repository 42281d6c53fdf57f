"""Runs the real GpuSampler in a process of its own, under whatever driver its environment gives, and says what it publishes.

stdin: one JSON command per line; stdout: one JSON line per published sample and per answer. See GpuProbe for the commands.
"""

import asyncio
import json
import resource
import sys
import threading
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from app.core.snapshot import Gpus, to_json
from app.daemon.gpu import GpuSampler


def say(**line: Any) -> None:
    print(json.dumps(line), flush=True)


def plain(gpus: Gpus) -> Any:
    return json.loads(to_json(gpus))


def facts(stalls: list[float]) -> dict[str, Any]:
    maps = Path("/proc/self/maps").read_text()
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "libcuda": "libcuda" in maps,
        "threads": [thread.name for thread in threading.enumerate()],
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "longest_stall_seconds": max(stalls, default=0.0),
    }


async def measure_stalls(stalls: list[float]) -> None:
    while True:
        began = time.monotonic()
        await asyncio.sleep(0.01)
        stalls.append(time.monotonic() - began - 0.01)


async def main() -> None:
    options = json.loads(sys.argv[1])
    mute = options.pop("mute", False)
    drm = Path(options.pop("drm", "/nowhere"))  # real cards of the developer's machine stay out of the picture
    kernel_cards = Path(options.pop("kernel_cards", "/nowhere"))
    runs: dict[int, str] = {}
    stalls: list[float] = []

    def resident(pids: Collection[int]) -> int:
        return 1000 * len(pids)

    def published(gpus: Gpus) -> None:
        if not mute:
            say(sample=plain(gpus))

    sampler = GpuSampler(
        published, lambda: runs, time.monotonic, resident_bytes=resident, drm=drm, kernel_cards=kernel_cards, **options
    )
    loop = asyncio.get_running_loop()
    commands: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()

    def read() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(commands.put_nowait, json.loads(line))
        loop.call_soon_threadsafe(commands.put_nowait, None)

    threading.Thread(target=read, name="stdin", daemon=True).start()
    async with asyncio.TaskGroup() as tasks:
        run = tasks.create_task(sampler.run())
        pulse = tasks.create_task(measure_stalls(stalls)) if options.get("interval_seconds", 1) < 1 else None
        while (command := await commands.get()) is not None:
            match command:
                case {"runs": dict(named)}:
                    runs = {int(pid): run_id for pid, run_id in named.items()}
                case {"fresh": max_age, "timeout": timeout}:
                    asked = time.monotonic()
                    say(fresh=plain(await sampler.fresh(max_age, timeout)), asked_at=asked)
                case {"facts": True}:
                    say(facts=facts(stalls))
        await sampler.close()
        await run
        if pulse:
            pulse.cancel()
    say(closed=True)


asyncio.run(main())
