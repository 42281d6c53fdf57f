"""Measures once how fast main memory is, by copying a little of it: what an answer's speed on the processor depends on."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from app.daemon import processes
from app.daemon.database import Database
from app.daemon.gpu import GpuSampler

log = logging.getLogger(__name__)

NAME = "memory_bandwidth"
PIECE_BYTES = 32 * 1024**2  # larger than what most processors cache
MOST_THREADS = 8
SECONDS = 0.15
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class MemorySpeed:
    """Kept with the boot that it was measured in. The sampler's host figures carry it from then on."""

    def __init__(self, database: Database, sampler: GpuSampler) -> None:
        self._database = database
        self._sampler = sampler
        self._once = asyncio.Lock()

    async def known(self) -> float | None:
        """Bytes per second; measured at the first call, which takes a fifth of a second. None where it cannot be."""
        host = self._sampler.host
        async with self._once:
            if host.bandwidth_bytes_per_second is None:
                boot = await asyncio.to_thread(_boot)
                host.bandwidth_bytes_per_second = await self._remembered(boot)
                if host.bandwidth_bytes_per_second is None:
                    host.bandwidth_bytes_per_second = await self._measured(boot)
                await self._sampler.fresh(max_age_seconds=0.0)  # whoever asked finds it in the next sample
        return host.bandwidth_bytes_per_second

    async def _remembered(self, boot: str) -> float | None:
        try:
            kept = await self._database.recall(NAME)
            when, _, rate = (kept or "").partition(" ")
            return float(rate) if boot and when == boot else None
        except Exception:  # a database in trouble is told elsewhere; here it only means to measure again
            return None

    async def _measured(self, boot: str) -> float | None:
        try:
            rate = await asyncio.to_thread(measured_bandwidth)
            await self._database.remember(NAME, f"{boot} {rate:.0f}")
        except Exception:
            log.exception("main memory could not be measured")
            return None
        log.info("main memory copies %.1f GB/s", rate / 1e9)
        return rate


def measured_bandwidth(seconds: float = SECONDS, threads: int | None = None) -> float:
    """Bytes per second that are read and written together while all threads copy; the best of two rounds, because a busy
    machine can only make it look slower. Takes twice `seconds` and 64 MiB for each thread."""
    count = threads or max(1, min(processes.physical_cores(), MOST_THREADS))
    with ThreadPoolExecutor(count) as pool:
        pairs = list(pool.map(lambda _: _pair(), range(count)))
        rounds = [sum(pool.map(lambda pair: _copied(pair, seconds), pairs)) for _ in range(2)]
    return 2 * max(rounds)


def _pair() -> tuple[ctypes.Array[ctypes.c_char], ctypes.Array[ctypes.c_char]]:
    pair = (ctypes.create_string_buffer(PIECE_BYTES), ctypes.create_string_buffer(PIECE_BYTES))
    for each in pair:
        ctypes.memset(each, 1, PIECE_BYTES)  # until it is written to, a page is not there
    return pair


def _copied(pair: tuple[ctypes.Array[ctypes.c_char], ctypes.Array[ctypes.c_char]], seconds: float) -> float:
    """Bytes copied per second; other threads run meanwhile, because a foreign call lets go of the interpreter."""
    began, pieces = time.perf_counter(), 0
    while (now := time.perf_counter()) < began + seconds or not pieces:
        ctypes.memmove(pair[0], pair[1], PIECE_BYTES)
        pieces += 1
    now = time.perf_counter()
    return pieces * PIECE_BYTES / (now - began)


def _boot() -> str:
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""
