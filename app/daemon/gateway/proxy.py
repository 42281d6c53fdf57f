"""Carries one request to the engine and its answer back, byte for byte; each ends in exactly one outcome."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp
from aiohttp import web

from app.core.counting import Counts, StreamCounter, whole_answer
from app.core.redaction import masked_values
from app.core.settings import GatewaySettings
from app.core.snapshot import RequestView
from app.daemon.gateway.admission import Ticket
from app.daemon.gateway.answers import NO_STORE, Refused
from app.daemon.gateway.asks import Ask, Holding, Share, read_body, read_json
from app.daemon.gateway.assemble import Assembly
from app.daemon.gateway.changes import body_for_engine
from app.daemon.gateway.lanes import Lanes
from app.daemon.gateway.paths import ASSEMBLED, EnginePath
from app.daemon.gateway.traffic import Ledger
from app.daemon.gateway.upstream import Upstream, returned_headers

WHOLE_BYTES = 1024 * 1024  # an answer up to this size is taken whole, so that a broken one can still become a 502
EVENT_STREAM = "text/event-stream"
CHANGED = "X-Engine-Room-Changed"  # says what of a request's body was changed for the engine
LAST_WORD_SECONDS = 1.0  # how long a client may take to accept the last event of an answer that was cut
PROGRESS_SECONDS = 0.25


class Exchange:
    """One request from arrival to outcome."""

    __slots__ = (
        "answer",
        "counter",
        "counts",
        "cut_reason",
        "first_token_at",
        "headers",
        "id",
        "last_token_at",
        "model",
        "open_event",
        "outcome",
        "over",
        "path",
        "relayed",
        "request",
        "response",
        "run_id",
        "scope",
        "started",
        "started_unix",
        "status",
        "ticket",
    )

    def __init__(
        self, request: web.BaseRequest, path: str, headers: Mapping[str, str], now: float, number: int
    ) -> None:
        self.request = request
        self.path = path
        self.started = now
        self.started_unix = time.time()
        self.id = f"{int(self.started_unix * 1000):x}-{number}"
        self.headers = {**headers, "X-Request-Id": self.id}  # to add to every answer: the id it has in the request log
        self.run_id = ""
        self.model = ""
        self.status = 0
        self.outcome = "failed"
        self.over = False  # the engine has no more part in it
        self.ticket: Ticket | None = None
        self.scope: asyncio.Timeout | None = None
        self.cut_reason = ""
        self.answer: aiohttp.ClientResponse | None = None
        self.response: web.StreamResponse | None = None  # once its head has gone out
        self.relayed = False  # whether bytes of the engine have gone out
        self.open_event = False  # whether the last of them end inside an event
        self.counter: StreamCounter | None = None
        self.counts = Counts()
        self.first_token_at: float | None = None
        self.last_token_at: float | None = None

    def cut(self, reason: str) -> None:
        """Ends the exchange as its time limit would, but saying `reason`."""
        self.cut_reason = reason
        if self.scope is not None:
            with contextlib.suppress(RuntimeError):  # it is ending already
                self.scope.reschedule(asyncio.get_running_loop().time())


class Proxy:
    """All exchanges in flight, and how each is carried out."""

    def __init__(
        self,
        settings: GatewaySettings,
        clock: Callable[[], float],
        lanes: Lanes,
        ledger: Ledger,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._lanes = lanes
        self._ledger = ledger
        self._holding = Holding(4 * settings.max_body_bytes)
        self._numbers = itertools.count(1)
        self._progress_told: dict[str, float] = {}
        self.exchanges: set[Exchange] = set()
        self.on_progress: Callable[[str], None] | None = None

    async def forward(
        self, request: web.BaseRequest, path: str, query: str, where: EnginePath, headers: Mapping[str, str]
    ) -> web.StreamResponse:
        """The engine's answer, or an error in OpenAI's shape."""
        exchange = Exchange(request, path, headers, self._clock(), next(self._numbers))
        self.exchanges.add(exchange)
        try:
            with Share(self._holding) as share:
                body = await read_body(request, self._settings.max_body_bytes, share)
                plain = where.multipart and request.content_type != "application/json"
                ask = Ask(body=body) if plain else read_json(body)
                upstream = await self._admitted(exchange, ask, where)
                async with asyncio.timeout(self._settings.request_timeout_seconds) as exchange.scope:
                    return await self._relay(exchange, upstream, ask, query, where)
        except Refused as refused:
            return await self._end(exchange, refused)
        except TimeoutError:
            return await self._end(exchange, self._out_of_time(exchange))
        except (asyncio.CancelledError, ConnectionError):
            exchange.outcome = "cancelled"  # the client went; the engine hears of it in the next lines
            raise
        finally:
            exchange.scope = None
            if exchange.answer is not None and not exchange.answer.closed:
                exchange.answer.close()
            if exchange.ticket is not None:
                exchange.ticket.leave()
            self.exchanges.discard(exchange)
            self._finish(exchange)

    # --- before the engine ---------------------------------------------------------------------------------------

    async def _admitted(self, exchange: Exchange, ask: Ask, where: EnginePath) -> Upstream:
        """Waits for a place at a ready engine; a stream that waits long is kept open by comments."""
        while True:
            lane = self._lanes.of(ask.values.get("model") if ask.values is not None else None)
            ticket = exchange.ticket = lane.admission.arrive()
            if not ticket.granted.done() and ask.stream and where.generates:
                while not (await asyncio.wait({ticket.granted}, timeout=self._settings.keepalive_after_seconds))[0]:
                    await self._keep_open(exchange)
            run_id = await ticket.granted
            upstream = self._lanes.upstream(run_id)
            if upstream is not None:
                exchange.run_id, exchange.model = run_id, upstream.route.profile_id
                exchange.headers["X-Engine-Room-Run"] = run_id  # whose manifest says what made the answer
                return upstream
            ticket.leave()  # the engine went between the grant and now: nothing was sent, so wait again

    async def _keep_open(self, exchange: Exchange) -> None:
        if exchange.response is None:
            exchange.status = 200
            exchange.response = web.StreamResponse(headers={**_stream_headers(), **exchange.headers})
            exchange.response.content_type = EVENT_STREAM
            await exchange.response.prepare(exchange.request)
        await exchange.response.write(b": waiting for the engine\n\n")

    # --- the engine's answer -------------------------------------------------------------------------------------

    async def _relay(
        self, exchange: Exchange, upstream: Upstream, ask: Ask, query: str, where: EnginePath
    ) -> web.StreamResponse:
        traits = upstream.route.traits
        assembled = traits.always_stream and not ask.stream and exchange.path in ASSEMBLED and ask.values is not None
        body, changed = body_for_engine(ask, exchange.path, upstream.route, assembled=assembled)
        if changed:
            exchange.headers[CHANGED] = changed
        path = traits.paths.get(exchange.path, where.engine_path)
        answer = exchange.answer = await upstream.ask("POST", path, query, exchange.request.headers, body)
        if answer.headers.get("Content-Type", "").startswith(EVENT_STREAM):
            if assembled:
                return await self._assemble(exchange, answer, upstream)
            return await self._stream(exchange, answer, upstream, where.generates)
        return await self._pass_on(exchange, answer, upstream)

    async def _stream(
        self, exchange: Exchange, answer: aiohttp.ClientResponse, upstream: Upstream, tells_end: bool
    ) -> web.StreamResponse:
        never_empty = upstream.route.traits.empty_stream_is_error
        counter = exchange.counter = StreamCounter()
        content = answer.content
        piece = b""
        if never_empty and exchange.response is None:
            piece = await _next(answer)  # the head waits for it, so that an empty stream can be a proper error
            if not piece:
                raise _empty()
        response = exchange.response
        if response is None:
            headers = returned_headers(answer.headers, upstream.keys)
            headers.update(exchange.headers)
            for name, value in _stream_headers().items():
                headers.setdefault(name, value)
            headers["X-Accel-Buffering"] = "no"
            response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=headers)
            await response.prepare(exchange.request)
            exchange.response, exchange.status = response, answer.status
        write, feed, clock = response.write, counter.feed, self._clock
        try:
            while piece or (piece := await content.readany()):
                exchange.relayed = True
                await write(piece)
                if found := feed(piece):
                    self._tokens(exchange, found, clock())
                exchange.open_event = not piece.endswith((b"\n\n", b"\r\n\r\n"))
                piece = b""
        except aiohttp.ClientPayloadError as error:
            raise _cut_short() from error
        if tells_end and not counter.complete:
            raise _empty() if never_empty and not exchange.relayed else _cut_short()
        self._answered(exchange, counter.counts(), failed=counter.failed)
        await response.write_eof()
        return response

    async def _assemble(
        self, exchange: Exchange, answer: aiohttp.ClientResponse, upstream: Upstream
    ) -> web.StreamResponse:
        counter = exchange.counter = StreamCounter()
        assembly = Assembly(chat=exchange.path == "/v1/chat/completions")
        try:
            while piece := await _next(answer):
                if found := counter.feed(piece):
                    self._tokens(exchange, found, self._clock())
                assembly.feed(piece)
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise Refused(502, "The engine's stream is not made of answer chunks.", code="bad_answer") from error
        if assembly.error is not None:
            said = masked_values(_sentence(assembly.error).encode("utf-8", "replace"), upstream.keys).decode()
            raise Refused(502, said, code=str(assembly.error.get("code") or "engine_error"))
        if not assembly.chunks:
            raise _empty()
        if not counter.complete:
            raise _cut_short()
        exchange.status = 200
        self._answered(exchange, counter.counts())
        return web.Response(
            body=assembly.answer(), headers={**NO_STORE, **exchange.headers}, content_type="application/json"
        )

    async def _pass_on(
        self, exchange: Exchange, answer: aiohttp.ClientResponse, upstream: Upstream
    ) -> web.StreamResponse:
        """An answer in one piece. A small one is taken whole; a large one is passed on as it comes."""
        pieces: list[bytes] = []
        size = 0
        ended = False
        while size <= WHOLE_BYTES:
            piece = await _next(answer)
            if not piece:
                ended = True
                break
            pieces.append(piece)
            size += len(piece)
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if answer.status >= 400:
            body = masked_values(body, upstream.keys)  # some repeat the key that they refuse (I18); its length stays
        if answer.status in (404, 405) and _lacks_path(body):
            name = upstream.route.endpoint.engine if upstream.route.endpoint is not None else "the engine"
            raise Refused(501, f"{name} does not have {exchange.path}.", code="not_supported_by_engine")
        if exchange.response is not None:  # a stream that was kept open by comments gets an error instead of a stream
            raise Refused(answer.status, _sentence(_error_of(body)), code="engine_error")
        headers = returned_headers(answer.headers, upstream.keys)
        headers.update(exchange.headers)
        exchange.status = answer.status
        if ended:
            self._answered(exchange, whole_answer(body), failed=answer.status >= 400)
            return web.Response(status=answer.status, reason=answer.reason, body=body, headers=headers)
        if answer.content_length is not None:
            headers["Content-Length"] = str(answer.content_length)
        response = exchange.response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=headers)
        await response.prepare(exchange.request)
        exchange.relayed = True
        await response.write(body)
        while piece := await _next(answer):
            await response.write(piece)
        self._answered(exchange, Counts(), failed=answer.status >= 400)
        await response.write_eof()
        return response

    # --- outcomes ------------------------------------------------------------------------------------------------

    def _answered(self, exchange: Exchange, counts: Counts, *, failed: bool = False) -> None:
        """The engine is done with this request: its place is free though the client may still be reading."""
        exchange.counts = counts
        exchange.outcome = "failed" if failed else "answered"
        exchange.over = True
        if exchange.ticket is not None:
            exchange.ticket.leave()

    async def _end(self, exchange: Exchange, refused: Refused) -> web.StreamResponse:
        """Gives the client the reason: as an answer while there is none, as the last event of a stream, else by a cut."""
        exchange.outcome = "failed" if exchange.run_id else "refused"
        exchange.over = True
        if exchange.ticket is not None:
            exchange.ticket.leave()
        if exchange.answer is not None:
            exchange.answer.close()
        response = exchange.response
        if response is None:
            exchange.status = refused.status
            answer = refused.response()
            answer.headers.update(exchange.headers)
            return answer
        if response.headers.get("Content-Type", "").startswith(EVENT_STREAM):
            event = (b"\n\n" if exchange.open_event else b"") + refused.event(exchange.path)
            with contextlib.suppress(TimeoutError, ConnectionError):
                async with asyncio.timeout(LAST_WORD_SECONDS):
                    await response.write(event)
        if exchange.relayed:  # no proper end of the body either: a client that skips events must not take it for whole
            _hang_up(exchange.request)
        return response

    def _out_of_time(self, exchange: Exchange) -> Refused:
        if exchange.cut_reason:
            return Refused(503, exchange.cut_reason, code="engine_stopped", retry_after_seconds=5)
        return Refused(
            504,
            f"The answer took longer than {self._settings.request_timeout_seconds:.0f} s; "
            "the setting gateway.request_timeout_seconds allows more.",
            code="answer_timeout",
        )

    def _tokens(self, exchange: Exchange, count: int, now: float) -> None:
        if exchange.first_token_at is None:
            exchange.first_token_at = now
        exchange.last_token_at = now
        self._ledger.tokens(count, now)
        if self.on_progress is not None and now - self._progress_told.get(exchange.run_id, -1.0) >= PROGRESS_SECONDS:
            self._progress_told = {exchange.run_id: now}
            self.on_progress(exchange.run_id)

    def _finish(self, exchange: Exchange) -> None:
        now = self._clock()
        counts = exchange.counts
        if exchange.counter is not None and exchange.outcome != "answered":
            counts = exchange.counter.counts()
        first, last = exchange.first_token_at, exchange.last_token_at
        rate = counts.tokens_per_second
        if rate is None and first is not None and last is not None and last > first and counts.completion_tokens:
            rate = (counts.completion_tokens - 1) / (last - first)
        self._ledger.finished(
            RequestView(
                id=exchange.id,
                path=exchange.path,
                status=exchange.status,
                model=exchange.model,
                started_at_unix=exchange.started_unix,
                first_token_seconds=None if first is None else first - exchange.started,
                duration_seconds=now - exchange.started,
                prompt_tokens=counts.prompt_tokens,
                completion_tokens=counts.completion_tokens,
                tokens_per_second=rate,
                outcome=exchange.outcome,
            ),
            counts.prompt_tokens_per_second,
        )


async def _next(answer: aiohttp.ClientResponse) -> bytes:
    """The next bytes of the engine's answer, b"" at its end; raises Refused when it is broken off."""
    try:
        return await answer.content.readany()
    except aiohttp.ClientPayloadError as error:
        raise _cut_short() from error


def _stream_headers() -> dict[str, str]:
    return {"Cache-Control": "no-cache", "X-Accel-Buffering": "no", "Server": "engine-room"}


def _cut_short() -> Refused:
    return Refused(
        502,
        "The engine ended in the middle of its answer; what came before is not complete. "
        "Its log in Engine Room says more.",
        code="answer_cut_short",
    )


def _empty() -> Refused:
    return Refused(
        502,
        "The engine ended its answer without a single token. Mostly the prompt is longer than the model's context: "
        "shorten it, or load the model with a larger context.",
        code="empty_answer",
    )


def _lacks_path(body: bytes) -> bool:
    """Whether a 404 means that the engine has no such path, rather than no such model."""
    error = _error_of(body)
    return not error or error.get("message") in ("File Not Found", "Not Found") or error.get("detail") == "Not Found"


def _error_of(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(value, dict):
        return {}
    error = value.get("error", value)
    return error if isinstance(error, dict) else {"message": str(error)}


def _sentence(error: Mapping[str, Any]) -> str:
    return str(error.get("message") or error.get("detail") or "The engine refused the request.")


def _hang_up(request: web.BaseRequest) -> None:
    """Closes the client's connection after what is written has gone out, or by force when the client does not read."""
    transport = request.transport
    if transport is not None:
        transport.close()
        asyncio.get_running_loop().call_later(5.0, transport.abort)
