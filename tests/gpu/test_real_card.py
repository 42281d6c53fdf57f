"""The sampler on a real NVIDIA card: it sees the card, costs no VRAM, and opens no CUDA context."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from app.core.snapshot import DriverState, Gpus
from app.daemon.gpu import GpuSampler

pytestmark = pytest.mark.gpu


async def first_sample() -> Gpus:
    sampler = GpuSampler(lambda _: None, dict, time.monotonic, interval_seconds=0.1)
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        tasks.create_task(sampler.run())
        while sampler.latest.driver is DriverState.STARTING:
            await sampler.fresh(max_age_seconds=0.0)
        await sampler.close()
    return sampler.latest


def own_maps() -> str:
    return Path("/proc/self/maps").read_text()


async def test_the_sampler_sees_the_card_and_is_not_seen_on_it() -> None:
    """I4, I10"""
    gpus = await first_sample()
    if gpus.driver_version is None and gpus.driver in (DriverState.ABSENT, DriverState.OK):
        pytest.skip(f"needs an NVIDIA card: {gpus.message or 'the cards here are of another maker'}")
    assert gpus.driver is DriverState.OK, gpus.message
    assert gpus.driver_version
    for gpu in gpus.gpus:
        assert gpu.uuid.startswith(("GPU-", "MIG-"))
        if gpu.total_bytes is not None and gpu.used_bytes is not None and gpu.free_bytes is not None:
            assert 0 <= gpu.free_bytes <= gpu.total_bytes
            assert gpu.used_bytes + gpu.free_bytes + (gpu.reserved_bytes or 0) == gpu.total_bytes
        assert os.getpid() not in [process.pid for process in gpu.processes or ()]
    assert "libcuda" not in own_maps()
