"""A small service on a real Unix socket that answers chats as a test tells it to, and a chat page in front of it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from app.core.snapshot import Traffic
from app.ui.link import Link
from app.ui.pages.chat import ChatPage
from app.ui.store import Connection, Store
from app.ui.tasks import Tasks
from app.ui.theme import Theme
from tests.ui import stage, worlds

Script = Callable[["Asked"], Awaitable[None]]


class Asked:
    """One request: what it asked for, and the stream of the answer to it."""

    def __init__(self, body: dict[str, Any], request: web.Request, request_id: str) -> None:
        self.body, self.id = body, request_id
        self.gone = asyncio.Event()
        self._request = request
        self.stream = web.StreamResponse(headers={"content-type": "text/event-stream", "X-Request-Id": request_id})

    async def say(self, *pieces: str, **delta: str) -> None:
        if not self.stream.prepared:
            await self.stream.prepare(self._request)
        for piece in pieces:
            await self.event({"choices": [{"index": 0, "delta": {"content": piece}}]})
        if delta:
            await self.event({"choices": [{"index": 0, "delta": delta}]})

    async def event(self, value: object) -> None:
        if not self.stream.prepared:
            await self.stream.prepare(self._request)
        await self.stream.write(
            b"data: " + (value if isinstance(value, bytes) else json.dumps(value).encode()) + b"\n\n"
        )

    async def end(self, finish: str = "stop", **usage: int) -> None:
        await self.event({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}], "usage": usage or None})
        await self.event(b"[DONE]")

    def break_off(self) -> None:
        assert self._request.transport is not None
        self._request.transport.abort()


class Service:
    """`script` answers each request; `asked` are those that came."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self.script: Script = answer("Hello.")
        self.refusal: tuple[int, str] | None = None
        self.asked: list[Asked] = []
        self.routes: list[web.RouteDef] = []
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_routes(self.routes)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        self._socket.parent.mkdir(parents=True, exist_ok=True)
        await web.UnixSite(self._runner, str(self._socket)).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        asked = Asked(await request.json(), request, f"r-{len(self.asked) + 1}")
        self.asked.append(asked)
        if self.refusal is not None:
            status, message = self.refusal
            return web.json_response({"error": {"message": message}}, status=status, headers={"X-Request-Id": asked.id})
        try:
            await self.script(asked)
        except (asyncio.CancelledError, ConnectionError):
            asked.gone.set()
            raise
        return asked.stream


def answer(*pieces: str, finish: str = "stop") -> Script:
    async def script(asked: Asked) -> None:
        await asked.say(*pieces)
        await asked.end(finish)

    return script


def first_then_wait(piece: str) -> Script:
    async def script(asked: Asked) -> None:
        await asked.say(piece)
        await asyncio.Event().wait()

    return script


async def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.005)


class Room:
    """A page with its store, and the service that it speaks to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store, self.tasks = Store(), Tasks()
        self.paths = stage.paths_in(folder)
        self.link = Link(self.store, self.paths, self.tasks)
        self.service = Service(self.paths.socket)
        stage.tell(self.store, worlds.WORLDS["ready"])
        self.store.set_connection(Connection.CONNECTED)
        self.theme = Theme("dark")
        self.page = ChatPage(self.store, self.link, self.theme)

    async def open(self) -> None:
        await self.service.start()
        self.page.resize(1000, 700)
        self.page.show()
        await until(lambda: self.page.session.loaded)

    async def close(self) -> None:
        await self.tasks.close()
        await self.link.close()
        self.page.session.close()
        await self.service.stop()
        self.page.hide()

    def log(self, **figures: object) -> None:
        """The request log tells of a finished request."""
        entry = msgspec.structs.replace(worlds.RECENT[0], **figures)
        self.store.put("traffic", Traffic(recent=(entry, *worlds.RECENT)))

    @property
    def last(self):  # type: ignore[no-untyped-def]
        return self.page.session.messages[-1]

    async def say(self, text: str) -> None:
        """Types and sends, and waits until the answer has ended."""
        self.page.composer.field.setPlainText(text)
        self.page.composer.field.sent.emit()
        assert self.page.session.is_sending
        await until(lambda: not self.page.session.is_sending)
