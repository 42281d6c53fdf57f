"""Owns the connection to the service: calls, the stream with reconnecting, and starting the service when nobody answers.

States that it tells the store: connecting → starting → connected → gone (keeps trying) · misfit (another version answers).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, TypeVar

import msgspec
from PySide6.QtCore import QObject, Signal

from app.core import control
from app.core.errors import DaemonTooOld, DaemonUnreachable, EngineRoomError, ErrorReport, raised_from
from app.core.paths import Paths
from app.core.snapshot import API_VERSION, SLICES, Hello, from_json, to_json
from app.core.sse import Event, EventTooLong, Parser
from app.ui.service import ServiceProcess
from app.ui.store import Connection, Store
from app.ui.tasks import Tasks

if TYPE_CHECKING:
    import httpx

log = logging.getLogger(__name__)
T = TypeVar("T")

RETRY_SECONDS = (0.1, 0.2, 0.4, 0.8, 1.5, 3.0, 5.0)
SILENCE_SECONDS = 25.0  # the service says ": alive" every 10 s
CALL_SECONDS = 30.0


class Link(QObject):
    """For the window to show: `refused` carries an EngineRoomError that a command met, `told` a sentence on what was done."""

    refused = Signal(object)
    told = Signal(str)

    def __init__(self, store: Store, paths: Paths, tasks: Tasks, service: ServiceProcess | None = None) -> None:
        """`service` starts the daemon when nobody answers; None never starts one."""
        super().__init__()
        self.store = store
        self.paths = paths
        self.tasks = tasks
        self._service = service
        self._client: httpx.AsyncClient | None = None
        self._hurry = asyncio.Event()
        self._leaving = False

    @property
    def client(self) -> httpx.AsyncClient:
        """The one HTTP client: everything goes through the control socket, `/v1` too. Base URL `http://engine-room`."""
        if self._client is None:
            import httpx

            self._client = httpx.AsyncClient(
                transport=httpx.AsyncHTTPTransport(
                    uds=str(self.paths.socket),
                    verify=False,  # no TLS on a socket of our own; making its context would cost 80 ms
                    limits=httpx.Limits(max_connections=64),
                ),
                base_url="http://engine-room",
                timeout=httpx.Timeout(CALL_SECONDS, connect=2.0),
                trust_env=False,
            )
        return self._client

    def start(self) -> None:
        self.tasks.start(self._stay_connected(), "link")

    def retry_now(self) -> None:
        """Tries again at once, and may start the service again."""
        if self._service is not None:
            self._service.allow()
        self._hurry.set()

    async def close(self) -> None:
        """To be called after the tasks have ended."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    # --- calls -------------------------------------------------------------------------------------------------------

    async def get(self, path: str, kind: type[T]) -> T:
        """Raises DaemonUnreachable, or the error that the service answered."""
        return await self._call("GET", path, b"", kind)

    async def post(self, path: str, value: msgspec.Struct, kind: type[T]) -> T:
        return await self._call("POST", path, to_json(value), kind)

    async def text(self, path: str) -> str:
        """A text as it is; raises as `get`."""
        return (await self._asked("GET", path, b"")).decode("utf-8", "replace")

    def send(self, path: str, value: msgspec.Struct, kind: type[object] = control.Accepted) -> None:
        """A command whose outcome is seen on the board; a refusal is told by `refused`."""

        async def run() -> None:
            try:
                await self.post(path, value, kind)
            except EngineRoomError as error:
                self.refused.emit(error)

        self.tasks.start(run(), f"send {path}")

    async def leave_and_unload(self) -> None:
        """Asks the service to unload everything and go; it is not started again by this window."""
        self._leaving = True
        try:
            await self.post("/control/shutdown", control.Shutdown(reason="quit and unload"), control.Accepted)
        except EngineRoomError:
            self._leaving = False
            raise

    async def _asked(self, method: str, path: str, body: bytes) -> bytes:
        import httpx

        headers = {"content-type": "application/json"} if method == "POST" else {}
        try:
            answer = await self.client.request(method, path, content=body or None, headers=headers)
        except httpx.HTTPError as error:
            raise DaemonUnreachable(
                "The Engine Room service does not answer.", "It is started again by itself; try once more in a moment."
            ) from error
        if answer.status_code >= 400:
            raise _refusal(answer.status_code, answer.content)
        return answer.content

    async def _call(self, method: str, path: str, body: bytes, kind: type[T]) -> T:
        content = await self._asked(method, path, body)
        try:
            return from_json(kind, content)
        except msgspec.DecodeError as error:
            raise DaemonTooOld(
                f"The service's answer to {path} has another form than this window knows.",
                "Service and window are of different versions: quit Engine Room and start it again.",
            ) from error

    # --- the stream --------------------------------------------------------------------------------------------------

    async def _stay_connected(self) -> None:
        failures = 0
        while True:
            try:
                await self._check_version()
                failures = 0
                await self._listen()
            except DaemonTooOld as error:
                self.store.set_connection(Connection.MISFIT, str(error))
                failures = len(RETRY_SECONDS)
            except DaemonUnreachable as error:
                log.info("no connection: %s", error)
                failures += 1
                await self._not_there(failures)
            except EngineRoomError as error:  # it is there and refuses: starting another would not help
                failures += 1
                self.store.set_connection(Connection.GONE, str(error))
            await self._pause(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])

    async def _check_version(self) -> None:
        hello = await self.get("/control/hello", Hello)
        if hello.api != API_VERSION:
            older = "window" if hello.api > API_VERSION else "running service"
            raise DaemonTooOld(
                f"The running service is version {hello.version} and does not fit this window.",
                f"The {older} is older: quit Engine Room everywhere and start it again.",
            )

    async def _listen(self) -> None:
        import httpx

        timeout = httpx.Timeout(SILENCE_SECONDS, connect=2.0)
        try:
            async with self.client.stream("GET", "/control/stream", timeout=timeout) as answer:
                if answer.status_code != 200:
                    raise _refusal(answer.status_code, await answer.aread())
                self.store.set_connection(Connection.CONNECTED)
                if self._service is not None:
                    self._service.answered()
                parser = Parser()
                async with contextlib.aclosing(answer.aiter_raw()) as pieces:
                    async for piece in pieces:
                        for event in parser.feed(piece):
                            self._take(event)
        except (httpx.HTTPError, EventTooLong) as error:
            raise DaemonUnreachable("The connection to the Engine Room service broke.") from error
        raise DaemonUnreachable("The Engine Room service ended the connection.")

    def _take(self, event: Event) -> None:
        kind = SLICES.get(event.event)
        if kind is None:
            return  # a newer service may know more
        try:
            value = from_json(kind, event.data)
        except msgspec.DecodeError as error:
            raise DaemonTooOld(
                f"The service sends {event.event} in a form that this window does not know.",
                "Service and window are of different versions: quit Engine Room and start it again.",
            ) from error
        try:
            sent_at: float | None = float(event.id)
        except ValueError:
            sent_at = None
        self.store.put(event.event, value, sent_at)

    async def _not_there(self, failures: int) -> None:
        if self._leaving:
            self.store.set_connection(Connection.GONE, "Engine Room has been quit.")
            return
        if self._service is None:
            if failures > 2 or self.store.connected:
                self.store.set_connection(Connection.GONE, "The Engine Room service is not running.")
            return
        trouble = await asyncio.get_running_loop().run_in_executor(None, self._service.ensure, time.monotonic())
        if trouble:
            self.store.set_connection(Connection.GONE, trouble)
        else:
            self.store.set_connection(Connection.STARTING, "The Engine Room service is being started.")

    async def _pause(self, seconds: float) -> None:
        if self._service is not None and self._service.is_young(time.monotonic()):
            seconds = min(seconds, 0.1)
        try:
            await asyncio.wait_for(self._hurry.wait(), seconds)
        except TimeoutError:
            pass
        self._hurry.clear()


def _refusal(status: int, body: bytes) -> EngineRoomError:
    try:
        return raised_from(from_json(ErrorReport, body))
    except msgspec.DecodeError:
        return EngineRoomError(f"The service refused with status {status}.", "Look at the service's log for the cause.")
