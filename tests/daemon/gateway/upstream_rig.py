"""A scriptable engine on a raw asyncio protocol: it answers exactly the bytes that a test says and notes what it saw."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

JSON = "application/json"
SSE = "text/event-stream"


def head(status: int = 200, content_type: str = JSON, length: int | None = None, extra: str = "") -> bytes:
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return f"HTTP/1.1 {status} Whatever\r\nContent-Type: {content_type}\r\n{framing}\r\n{extra}\r\n".encode()


def whole(body: bytes, status: int = 200, content_type: str = JSON, extra: str = "") -> bytes:
    return head(status, content_type, len(body), extra) + body


def chunk(body: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(body), body)


END = b"0\r\n\r\n"
DONE = b"data: [DONE]\n\n"


def token(text: str, **more: object) -> bytes:
    value = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "demo"}
    value["choices"] = [{"index": 0, "delta": {"content": text}, "finish_reason": None}]
    return b"data: " + json.dumps({**value, **more}, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"


def finish(reason: str = "stop", **more: object) -> bytes:
    value = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "demo"}
    value["choices"] = [{"index": 0, "delta": {}, "finish_reason": reason}]
    return b"data: " + json.dumps({**value, **more}, separators=(",", ":")).encode() + b"\n\n"


@dataclass
class Call:
    """One request as the engine saw it."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes
    writer: asyncio.StreamWriter
    reader: asyncio.StreamReader
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    wrote: int = 0

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()
        self.wrote += 1

    def abort(self) -> None:
        self.writer.transport.abort()


Script = Callable[[Call], Awaitable[None]]


class Engine:
    """Answers each request by `script`; keeps every `Call` in order of arrival."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.calls: list[Call] = []
        self.arrived = asyncio.Condition()
        self.connections = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Engine:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=256 * 1024)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def call(self, number: int = 0) -> Call:
        """The call of that number, waited for."""
        async with self.arrived:
            await asyncio.wait_for(self.arrived.wait_for(lambda: len(self.calls) > number), 60)
        return self.calls[number]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            while (call := await self._read(reader, writer)) is not None:
                self.calls.append(call)
                async with self.arrived:
                    self.arrived.notify_all()
                watch = asyncio.get_running_loop().create_task(self._watch(call))
                try:
                    await self.script(call)
                finally:
                    watch.cancel()
                    await asyncio.gather(watch, return_exceptions=True)
        except (ConnectionError, asyncio.IncompleteReadError):
            if self.calls:
                for call in self.calls:
                    if call.writer is writer:
                        call.gone.set()
        except asyncio.CancelledError:
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    @staticmethod
    async def _watch(call: Call) -> None:
        """Notes when the other side goes away; the gateway never pipelines, so nothing else can arrive."""
        try:
            while not call.reader.at_eof():
                await asyncio.wait_for(call.reader._wait_for_data("watch"), 60)  # type: ignore[attr-defined]
                if call.reader._buffer:  # type: ignore[attr-defined]
                    return
        except ConnectionError:
            pass
        call.gone.set()

    @staticmethod
    async def _read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Call | None:
        try:
            raw = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        lines = raw.decode("latin-1").split("\r\n")
        method, target, _ = lines[0].split(" ", 2)
        headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines[1:] if line)]
        call = Call(method, target, headers, b"", writer, reader)
        length = int(call.header("Content-Length") or 0)
        call.body = await reader.readexactly(length)
        return call


async def read_answer(reader: asyncio.StreamReader, seconds: float = 60.0) -> tuple[int, dict[str, str], bytes, bool]:
    """Status, headers (lower case), body without framing, and whether it ended as its framing promised."""
    async with asyncio.timeout(seconds):
        raw = await reader.readuntil(b"\r\n\r\n")
        lines = raw.decode("latin-1").split("\r\n")
        status = int(lines[0].split(" ")[1])
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)
        }
        body = b""
        if status == 204:
            return status, headers, body, True
        if headers.get("transfer-encoding") == "chunked":
            try:
                while True:
                    size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
                    body += (await reader.readexactly(size + 2))[:-2]
                    if size == 0:
                        return status, headers, body, True
            except (asyncio.IncompleteReadError, ConnectionError):
                return status, headers, body, False
        if "content-length" in headers:
            try:
                return status, headers, await reader.readexactly(int(headers["content-length"])), True
            except asyncio.IncompleteReadError as cut:
                return status, headers, cut.partial, False
        return status, headers, await reader.read(), True


def post(path: str, body: bytes, port: int, extra: str = "") -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n{extra}\r\n"
    ).encode() + body


async def ask(port: int, raw: bytes, seconds: float = 60.0) -> tuple[int, dict[str, str], bytes, bool]:
    """Sends raw bytes on a connection of its own and reads the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=256 * 1024 * 1024)
    try:
        writer.write(raw)
        return await read_answer(reader, seconds)
    finally:
        writer.transport.abort()
