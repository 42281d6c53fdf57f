"""Owns the manners of client connections: how long a head may take, how much framing may cost, how many there may be."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_server import Server

from app.daemon.gateway.answers import Refused
from app.daemon.gateway.checks import bad_framing
from app.daemon.gateway.peers import uid_of_peer

HEAD_SECONDS = 12.0  # from the first byte of a head (or the connection) to its end
IDLE_SECONDS = 75.0  # between two requests
LARGEST_HEAD_LINE_BYTES = 16 * 1024
CONNECTIONS = 1024
FRAMING_ALLOWANCE_BYTES = 16 * 1024  # chunk sizes and extensions of a body, beyond a few bytes for each byte of it

log = logging.getLogger(__name__)


class Connection(RequestHandler):
    """One client connection. aiohttp reads and frames it; the limits that it lacks are here."""

    __slots__ = (
        "_asked",
        "_body",
        "_framed_bytes",
        "_head_seconds",
        "_head_timer",
        "_peer_uid",
        "_spoken",
        "framed_too_much",
    )

    def __init__(self, manager: Server, *, head_seconds: float, **kwargs: Any) -> None:
        super().__init__(manager, **kwargs)
        self._head_seconds = head_seconds
        self._head_timer: asyncio.TimerHandle | None = None
        self._body: Any = None  # of the latest request on this connection
        self._framed_bytes = 0
        self.framed_too_much = False
        self._spoken = False  # whether a byte has come
        self._asked: bool = False  # whether the peer was looked up
        self._peer_uid: int | None = None

    def peer_uid(self) -> int | None:
        """The account at the other end; looked up once for a connection."""
        if not self._asked:
            self._asked = True
            peer, own = self.peername, self.sockname
            if isinstance(peer, tuple) and isinstance(own, tuple):
                self._peer_uid = uid_of_peer((str(peer[0]), int(peer[1])), (str(own[0]), int(own[1])))
        return self._peer_uid

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        manager = self._manager
        super().connection_made(transport)
        if manager is not None and len(manager.connections) > CONNECTIONS:
            self.force_close()
            return
        self._start_head_timer()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._stop_head_timer()
        self._body = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._spoken = True
        known = self._request_count
        in_a_body = self._body is not None and not self._body.is_eof()  # before this piece, which may be its last
        super().data_received(data)
        if self._request_count != known:
            if self._head_timer is not None:
                self._stop_head_timer()
            if self._messages:
                head, self._body = self._messages[-1]
                self._framed_bytes = len(data)
                if self._framed_bytes > FRAMING_ALLOWANCE_BYTES:  # else not even the sum of head and body could be
                    self._framed_bytes -= sum(len(k) + len(v) + 4 for k, v in getattr(head, "raw_headers", ()))
                    self.framed_too_much = self._too_much_framing()
        elif in_a_body:
            self._framed_bytes += len(data)
            if self._too_much_framing():
                self._turn_away(bad_framing())
        elif self._head_timer is None and data:
            self._start_head_timer()

    def _too_much_framing(self) -> bool:
        """Whether chunk sizes and extensions outweigh the body that they frame."""
        return self._framed_bytes > FRAMING_ALLOWANCE_BYTES + 8 * int(self._body.total_bytes)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answers what aiohttp could not parse, or a fault of ours, without a trace and without what was sent.

        A client that leaves while we write is neither.
        """
        left = isinstance(exc, ConnectionError) and (request.transport is None or request.transport.is_closing())
        if status >= 500 and exc is not None and not left:
            trace = exc.__traceback__
            while trace is not None and trace.tb_next is not None:
                trace = trace.tb_next
            where = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else "?"
            log.error("a request could not be answered: %s at %s", type(exc).__name__, where)
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun already")
        if status >= 500:
            return Refused(
                500, "Engine Room could not answer this request.", code="gateway_fault", close=True
            ).response()
        return Refused(status, "The request is not valid HTTP.", code="bad_request", close=True).response()

    def _start_head_timer(self) -> None:
        self._head_timer = self._loop.call_later(self._head_seconds, self._head_is_late)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        if not self._spoken:
            self.force_close()
            return
        if self._current_request is not None:  # an answer is under way, into which nothing may be written
            self._start_head_timer()
            return
        self._turn_away(Refused(408, "The request's head took too long.", code="request_timeout"))

    def _turn_away(self, refused: Refused) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(refused.raw())
        self.force_close()


class Connections(Server):
    """The server side of the TCP port; a handler is cancelled the moment its client goes."""

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        head_seconds: float = HEAD_SECONDS,
    ) -> None:
        super().__init__(handler, handler_cancellation=True)
        self._head_seconds = head_seconds

    def __call__(self) -> RequestHandler:
        return Connection(
            self,
            loop=self._loop,
            head_seconds=self._head_seconds,
            keepalive_timeout=IDLE_SECONDS,
            access_log=None,
            lingering_time=0.5,
            auto_decompress=False,
            max_line_size=LARGEST_HEAD_LINE_BYTES,
            max_field_size=LARGEST_HEAD_LINE_BYTES,
        )
