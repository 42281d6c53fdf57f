"""A download that is paused loses its order by nothing but its end: not by a resume that is refused, nor by the daemon's end."""

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.core.errors import EngineBusy
from app.core.hub import HubFile
from app.core.snapshot import Job
from app.core.snapshot import Jobs as JobsSlice
from app.daemon.hub_transfer import Pulling
from app.daemon.jobs import Jobs

OF_ONE_MODEL = frozenset(("hub acme/model",))


@pytest.fixture
def silent_hub() -> Iterator[str]:
    """An address that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


class Desk:
    def __init__(self, folder: Path, hub: str) -> None:
        self.shown: dict[str, Job] = {}
        self.changed = asyncio.Event()
        environment = {**os.environ, "HF_ENDPOINT": hub, "HF_HUB_DISABLE_TELEMETRY": "1"}
        self.jobs = Jobs(folder / "jobs", folder / "engines", environment, self._publish, lambda: None)
        self._cache = folder / "hub"

    def _publish(self, jobs: JobsSlice) -> None:
        self.shown = {job.id: job for job in jobs.jobs}
        self.changed.set()

    async def state(self, job_id: str, state: str) -> None:
        async with asyncio.timeout(60):
            while self.shown[job_id].state != state:
                self.changed.clear()
                await self.changed.wait()

    async def pull(self, title: str) -> str:
        file = HubFile(path=f"{title}.gguf", bytes=1_000, etag="a" * 64)
        order = Pulling(name="acme/model", commit="b" * 40, files=(file,), cache=str(self._cache))
        return await self.jobs.begin("pull", title, "acme/model", order, OF_ONE_MODEL)


async def test_a_resume_that_is_refused_costs_the_paused_download_nothing(tmp_path: Path, silent_hub: str) -> None:
    desk = Desk(tmp_path, silent_hub)
    await desk.jobs.start()
    first = await desk.pull("Q4_K_M")
    desk.jobs.pause(first)
    await desk.state(first, "paused")
    second = await desk.pull("Q8_0")
    with pytest.raises(EngineBusy, match="Q8_0 is under way"):
        await desk.jobs.resume(first, OF_ONE_MODEL, {})
    assert desk.shown[first].state == "paused"
    await desk.jobs.resume(second, OF_ONE_MODEL, {})
    assert desk.shown[second].state == "running", "one that runs goes on running"
    desk.jobs.cancel(second)
    await desk.state(second, "cancelled")
    await desk.jobs.close()

    again = Desk(tmp_path, silent_hub)
    await again.jobs.start()
    assert again.shown[first].state == "paused"
    assert again.jobs.cut_off() == (), "somebody had paused it, so it waits for a resume"
    await again.jobs.resume(first, OF_ONE_MODEL, {})
    await again.state(first, "running")
    await again.jobs.close()
    assert again.jobs.cut_off() == (first,), "and after a resume it goes on by itself"


async def test_what_is_clicked_while_a_job_begins_or_ends_is_done_and_not_swallowed(
    tmp_path: Path, silent_hub: str
) -> None:
    """A process takes its time to be there and to be gone; a click in between is answered as at any other moment."""
    desk = Desk(tmp_path, silent_hub)
    await desk.jobs.start()
    job = await desk.pull("Q4_K_M")
    desk.jobs.pause(job)
    async with asyncio.timeout(60):
        await desk.jobs.resume(job, OF_ONE_MODEL, {})  # it is being paused still
    assert desk.shown[job].state == "running"
    assert desk.shown[job].detail != "Pausing …"

    for click, becomes in ((desk.jobs.pause, "paused"), (desk.jobs.cancel, "cancelled")):
        desk.jobs.pause(job)
        await desk.state(job, "paused")
        async with asyncio.TaskGroup() as calls:
            calls.create_task(desk.jobs.resume(job, OF_ONE_MODEL, {}))
            await asyncio.sleep(0)  # its process is being started, which takes more than a turn of the loop
            click(job)
        await desk.state(job, becomes)
        await desk.jobs.resume(job, OF_ONE_MODEL, {})
    await desk.jobs.close()
