"""The link on a real Unix socket: it follows the stream, survives the service's end, starts it, and says what is wrong."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from aiohttp import web

from app.core.control import Accepted, Want
from app.core.errors import DaemonTooOld, DaemonUnreachable, DoesNotFit
from app.core.paths import Paths
from app.core.snapshot import API_VERSION, Hello, Traffic, slice_event, to_json
from app.ui.link import Link
from app.ui.service import ServiceProcess
from app.ui.store import Connection, Store
from app.ui.tasks import Tasks
from tests.ui.stage import paths_in


async def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.01)


class SmallService:
    """Speaks the control API's first words on a real socket; `say` sends an event to who listens."""

    def __init__(self, socket: Path, api: int = API_VERSION) -> None:
        self._socket, self._api = socket, api
        self.listeners: list[web.StreamResponse] = []
        self.wants: list[bytes] = []
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/control/hello", self._hello)
        app.router.add_get("/control/stream", self._stream)
        app.router.add_post("/control/want", self._want)
        app.router.add_get("/control/garbage", self._garbage)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        self._socket.parent.mkdir(parents=True, exist_ok=True)
        await web.UnixSite(self._runner, str(self._socket)).start()

    async def stop(self) -> None:
        if self._runner is not None:
            for listener in self.listeners:
                listener.force_close()
                if listener._req is not None and listener._req.transport is not None:
                    listener._req.transport.close()
            self.listeners.clear()
            await self._runner.cleanup()
            self._runner = None
            self._socket.unlink(missing_ok=True)

    async def say(self, data: bytes) -> None:
        for listener in self.listeners:
            await listener.write(data)

    async def _hello(self, _: web.Request) -> web.Response:
        hello = Hello(product="Engine Room", version="9.9", api=self._api, pid=1, started_at=0.0, state_folder="/s")
        return web.Response(body=to_json(hello), content_type="application/json")

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await answer.prepare(request)
        self.listeners.append(answer)
        await answer.write(slice_event("traffic", Traffic(in_flight=len(self.wants)), 500.0))
        await asyncio.Event().wait()
        return answer

    async def _want(self, request: web.Request) -> web.Response:
        self.wants.append(await request.read())
        report = DoesNotFit("Needs 71 GiB; 52 GiB may be used.", "Choose a shorter context.").report()
        return web.Response(status=409, body=to_json(report), content_type="application/json")

    async def _garbage(self, _: web.Request) -> web.Response:
        return web.Response(body=b"<html>")


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return paths_in(tmp_path)


@pytest.fixture
async def service(paths: Paths) -> AsyncIterator[SmallService]:
    made = SmallService(paths.socket)
    yield made
    await made.stop()


@pytest.fixture
async def link(paths: Paths) -> AsyncIterator[Link]:
    tasks = Tasks()
    made = Link(Store(), paths, tasks)
    yield made
    await tasks.close()
    await made.close()


async def test_slices_arrive_whole_with_the_services_clock(service: SmallService, link: Link) -> None:
    await service.start()
    link.start()
    await until(lambda: link.store.connected and "traffic" in link.store.known)
    await service.say(slice_event("traffic", Traffic(in_flight=7), 1234.5))
    await until(lambda: link.store.traffic.in_flight == 7)
    assert 1234.5 <= link.store.daemon_now() < 1240


async def test_unknown_slices_and_comments_are_passed_over(service: SmallService, link: Link) -> None:
    await service.start()
    link.start()
    await until(lambda: link.store.connected)
    await service.say(b": alive\n\nevent: something_new\ndata: {}\n\n" + slice_event("traffic", Traffic(queued=3), 1.0))
    await until(lambda: link.store.traffic.queued == 3)


async def test_a_killed_service_is_noticed_and_its_return_too(service: SmallService, link: Link) -> None:
    states: list[Connection] = []
    link.store.connection_changed.connect(lambda: states.append(link.store.connection))
    await service.start()
    link.start()
    await until(lambda: link.store.connected)
    await service.stop()
    await until(lambda: link.store.connection is Connection.GONE)
    assert "not running" in link.store.connection_message
    await service.start()
    link.retry_now()
    await until(lambda: link.store.connected)
    assert states == [Connection.CONNECTED, Connection.GONE, Connection.CONNECTED]


async def test_another_version_is_said_and_not_spoken_to(paths: Paths, link: Link) -> None:
    newer = SmallService(paths.socket, api=API_VERSION + 1)
    await newer.start()
    link.start()
    await until(lambda: link.store.connection is Connection.MISFIT)
    assert "version 9.9" in link.store.connection_message
    assert "The window is older" in link.store.connection_message
    assert newer.listeners == []
    await newer.stop()


async def test_a_refused_command_comes_back_as_the_services_own_error(service: SmallService, link: Link) -> None:
    await service.start()
    with pytest.raises(DoesNotFit, match="71 GiB"):
        await link.post("/control/want", Want(profile="demo"), Accepted)
    told: list[object] = []
    link.refused.connect(told.append)
    link.send("/control/want", Want(profile="demo"))
    await until(lambda: bool(told))
    assert isinstance(told[0], DoesNotFit)
    assert told[0].advice == "Choose a shorter context."


async def test_calls_without_a_service_and_with_nonsense_are_sentences(service: SmallService, link: Link) -> None:
    with pytest.raises(DaemonUnreachable, match="does not answer"):
        await link.get("/control/hello", Hello)
    await service.start()
    with pytest.raises(DaemonTooOld, match="another form"):
        await link.get("/control/garbage", Hello)


async def test_nonsense_in_the_stream_does_not_end_the_link(service: SmallService, link: Link) -> None:
    await service.start()
    link.start()
    await until(lambda: link.store.connected)
    await service.say(b"event: traffic\nid: 1\ndata: {nonsense\n\n")
    await until(lambda: link.store.connection is Connection.MISFIT)
    link.retry_now()
    await until(lambda: link.store.connected)


ROOT = str(Path(__file__).resolve().parents[2])
STARTED = """
import asyncio, sys
sys.path.insert(0, {root!r})
from pathlib import Path
from tests.ui.test_link import SmallService
async def main():
    service = SmallService(Path({socket!r}))
    await service.start()
    await asyncio.sleep(60)
asyncio.run(main())
"""


async def test_the_window_starts_the_service_when_nobody_answers(paths: Paths) -> None:
    script = STARTED.format(root=ROOT, socket=str(paths.socket))
    process = ServiceProcess(paths, (sys.executable, "-c", script))
    tasks = Tasks()
    link = Link(Store(), paths, tasks, process)
    link.start()
    try:
        await until(lambda: link.store.connection is Connection.STARTING)
        await until(lambda: link.store.connected)
        assert paths.daemon_output.stat().st_mode & 0o777 == 0o600
    finally:
        await tasks.close()
        await link.close()
        assert process._process is not None
        process._process.kill()
        process._process.wait()


async def test_a_service_that_will_not_live_is_told_with_its_last_words(paths: Paths) -> None:
    process = ServiceProcess(paths, (sys.executable, "-c", "import sys; sys.exit('the disk is full')"))
    tasks = Tasks()
    link = Link(Store(), paths, tasks, process)
    link.start()
    try:
        await until(lambda: link.store.connection is Connection.GONE)
    finally:
        await tasks.close()
        await link.close()
    assert "ended 3 times within a minute (exit code 1)" in link.store.connection_message
    assert "the disk is full" in link.store.connection_message


async def test_closing_ends_every_task(service: SmallService, paths: Paths) -> None:
    await service.start()
    tasks = Tasks()
    link = Link(Store(), paths, tasks)
    link.start()
    await until(lambda: link.store.connected)
    await tasks.close()
    await link.close()
    assert tasks.start(asyncio.sleep(0), "too late") is None
    assert [task for task in asyncio.all_tasks() if task.get_name() == "link"] == []
