"""Owns the endpoint: one TCP port and one handler for the control socket, the present route, and what is in flight."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path

import aiohttp
import msgspec
from aiohttp import web

from app.core.scheduling import Limits
from app.core.settings import GatewaySettings
from app.core.snapshot import RequestView, Traffic
from app.daemon.gateway import answers
from app.daemon.gateway.answers import Refused
from app.daemon.gateway.checks import Rules, bad_framing, cors_headers, not_found, other_account, preflight_headers
from app.daemon.gateway.connections import HEAD_SECONDS, Connection, Connections
from app.daemon.gateway.gauges import watch_kv_cache
from app.daemon.gateway.lanes import Lane, Lanes
from app.daemon.gateway.paths import OWN, POSTS, methods_of, model_asked, split_target
from app.daemon.gateway.proxy import Proxy
from app.daemon.gateway.traffic import Ledger
from app.daemon.gateway.upstream import Route, returned_headers
from app.daemon.processes import listener_owner
from app.daemon.tasks import Tasks

HOST = "127.0.0.1"
_OWN_UID = os.getuid()
CUT_SECONDS = 3.0


class Bound(msgspec.Struct, frozen=True, kw_only=True):
    """Where the endpoint listens. `notice` is a sentence when that is not the wished port."""

    url: str  # "http://127.0.0.1:7000/v1"
    port: int
    notice: str = ""


class Gateway:
    """All methods belong to the loop's thread."""

    def __init__(
        self,
        settings: GatewaySettings,
        clock: Callable[[], float],
        publish: Callable[[Traffic], None],
        *,
        on_finished: Callable[[RequestView], None] | None = None,
        head_seconds: float = HEAD_SECONDS,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._head_seconds = head_seconds
        self._ledger = Ledger(clock, publish, on_finished)
        self._tasks = Tasks()
        limits = Limits(
            concurrency=settings.concurrency,
            queue_length=settings.queue_length,
            loading_wait_seconds=settings.loading_wait_seconds,
            queue_wait_seconds=settings.loading_wait_seconds + settings.request_timeout_seconds,
        )
        self._lanes = Lanes(limits, clock, self._ledger.changed, self._tasks)
        self._ledger.watch(lambda: (self._lanes.granted, self._lanes.queued))
        self._proxy = Proxy(settings, clock, self._lanes, self._ledger)
        self._rules: Rules | None = None
        self._connections: Connections | None = None
        self._listener: asyncio.Server | None = None

    # --- what the supervisor says and asks ---------------------------------------------------------------------------

    def set_route(self, route: Route) -> None:
        """What stands behind a seat from now on; called at each change, with everything."""
        self._lanes.set_route(route)

    @property
    def on_use(self) -> Callable[[str, bool], None]:
        """Called with a seat's name when a first request comes to it (True) and when its last one is over (False)."""
        return self._lanes.on_use

    @on_use.setter
    def on_use(self, told: Callable[[str, bool], None]) -> None:
        self._lanes.on_use = told

    def in_flight(self, run_id: str) -> int:
        return self._lanes.in_flight(run_id)

    async def drained(self, run_id: str) -> None:
        """Returns when nothing is in flight to that run."""
        await self._lanes.drained(run_id)

    async def cut(self, run_id: str, reason: str = "The model was unloaded before the answer was complete.") -> None:
        """Ends all that is in flight to that run: streams by an error event, others by an error. Returns when none is."""
        for exchange in [one for one in self._proxy.exchanges if one.run_id == run_id]:
            exchange.cut(reason)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._lanes.drained(run_id), CUT_SECONDS)

    def quiet_seconds(self, run_id: str) -> float | None:
        """The longest time since the last token among running answers that had one; None when there is no such answer."""
        now = self._clock()
        quiet = [
            now - one.last_token_at
            for one in self._proxy.exchanges
            if one.run_id == run_id and one.last_token_at is not None and not one.over
        ]
        return max(quiet, default=None)

    @property
    def on_progress(self) -> Callable[[str], None] | None:
        """Called with a run's id when tokens pass, at most four times a second."""
        return self._proxy.on_progress

    @on_progress.setter
    def on_progress(self, told: Callable[[str], None] | None) -> None:
        self._proxy.on_progress = told

    @property
    def traffic(self) -> Traffic:
        return self._ledger.view()

    @property
    def log(self) -> tuple[RequestView, ...]:
        """The latest requests, newest first, at most 500."""
        return tuple(reversed(self._ledger.log))

    # --- listening -----------------------------------------------------------------------------------------------

    async def start(self, port: int, *, fallback: int | None = None) -> Bound:
        """Listens on 127.0.0.1. A taken port is not fought for: its holder is named and another one used."""
        self._connections = Connections(self._tcp, self._head_seconds)
        notice = ""
        listening = _listen(port)
        if listening is None:
            holder = _holder(port)
            listening = _listen(fallback) if fallback else None
            listening = listening or _listen(0)
            assert listening is not None
            notice = f"Port {port} is held by {holder}; the endpoint uses {listening.getsockname()[1]}."
        used = int(listening.getsockname()[1])
        self._rules = Rules(used, self._settings.allowed_origins)
        self._tasks.start(watch_kv_cache(self._lanes, self._ledger), "kv cache")
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(self._connections, sock=listening, backlog=256)
        return Bound(url=f"http://{HOST}:{used}/v1", port=used, notice=notice)

    async def close(self) -> None:
        """Stops listening, refuses who waits, ends what runs with a reason, and lets the connections go."""
        if self._listener is not None:
            self._listener.close()
        self._lanes.refuse_all()
        for run_id in {exchange.run_id for exchange in self._proxy.exchanges if exchange.run_id}:
            await self.cut(run_id, "Engine Room is shutting down.")
        if self._connections is not None:
            self._connections.pre_shutdown()
            await self._connections.shutdown(1.0)
        if self._listener is not None:
            await self._listener.wait_closed()
        await self._lanes.close()
        await self._tasks.close()
        self._ledger.close()

    # --- requests ------------------------------------------------------------------------------------------------

    async def _tcp(self, request: web.BaseRequest) -> web.StreamResponse:
        """A request from the TCP port: checked first, on the raw path, before anything else is looked at."""
        assert self._rules is not None
        try:
            target = request.raw_path
            self._check_connection(request)
            origin = self._rules.check(request.method, target, request.headers)
        except Refused as refused:
            self._ledger.turned_away(refused.code)
            return refused.response()
        if origin is None:
            return await self._route_request(request, target, {})
        if request.method == "OPTIONS":
            asked = request.headers.getall("Access-Control-Request-Headers", ())
            private = request.headers.get("Access-Control-Request-Private-Network") == "true"
            return web.Response(status=204, headers={**answers.NO_STORE, **preflight_headers(origin, asked, private)})
        return await self._route_request(request, target, cors_headers(origin))

    async def handler(self, request: web.BaseRequest) -> web.StreamResponse:
        """For /v1/* on the control socket, which only our own account can open.

        Its server must run with handler_cancellation=True, as the TCP port's does.
        """
        target = request.raw_path
        methods = methods_of(split_target(target)[0])
        if not methods:
            return not_found().response()
        if request.method not in methods:
            return Refused(405, f"This path takes {methods[0]}.", code="method_not_allowed").response()
        return await self._route_request(request, target, {})

    async def _route_request(
        self, request: web.BaseRequest, target: str, headers: dict[str, str]
    ) -> web.StreamResponse:
        path, query = split_target(target)
        where = POSTS.get(path)
        if where is not None:
            return await self._proxy.forward(request, path, query, where, headers)
        try:
            answer = await self._own(request, path)
        except Refused as refused:
            answer = refused.response()
        answer.headers.update(headers)
        return answer

    async def _own(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        """The paths that are answered by the gateway itself."""
        if path == "/health":
            return self._health()
        if path == "/metrics":
            return web.Response(
                text=self._ledger.metrics(),
                headers={**answers.NO_STORE, "Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
            )
        if path in OWN:
            return await self._models(request)
        asked = model_asked(path)
        if asked is not None and any(asked in lane.route.names for lane in self._lanes.shown()):
            return answers.from_json(answers.model_object(asked))
        raise Refused(404, "That model is not loaded.", code="model_not_found", kind="not_found_error")

    async def _models(self, request: web.BaseRequest) -> web.StreamResponse:
        """The engine's own list where one engine is there, byte for byte; of several seats their lists as one."""
        lanes = self._lanes.shown()
        if len(lanes) > 1:
            lists = [await self._list_of(lane, request) for lane in lanes]
            entries = [answers.models_in(found[1]) if found is not None else [] for found in lists]
            own = [[answers.model_object(name) for name in lane.route.names[:1]] for lane in lanes]
            whole = [entry for found, names in zip(entries, own, strict=True) for entry in found or names]
            return answers.from_json({"object": "list", "data": whole})
        found = await self._list_of(lanes[0], request) if lanes else None
        if found is None:
            return answers.model_list(lanes[0].route.names[:1] if lanes else [])
        answer, body = found
        return web.Response(
            status=answer.status, body=body, headers=returned_headers(answer.headers, (lanes[0].route.api_key,))
        )

    async def _list_of(self, lane: Lane, request: web.BaseRequest) -> tuple[aiohttp.ClientResponse, bytes] | None:
        """The engine's own list while it is ready; None while it is not, or where asking would disturb an answer."""
        upstream = self._lanes.upstream(lane.route.run_id)
        traits = lane.route.traits
        if (
            upstream is None or traits.concurrency is not None or traits.model_by_name
        ):  # others of its models are not here
            return None
        ticket = lane.admission.arrive(light=True)
        try:
            await ticket.granted
            async with asyncio.timeout(10):
                answer = await upstream.ask("GET", "/v1/models", "", request.headers, None)
                async with answer:
                    return answer, await answer.read()
        except (Refused, aiohttp.ClientError, TimeoutError, OSError):
            return None
        finally:
            ticket.leave()

    def _health(self) -> web.Response:
        """200 only when a request would be answered now, with the same word for the state that the window shows. A model
        that rests until somebody asks for it would be: it is loaded then."""
        lanes = self._lanes.shown()
        route = next((lane.route for lane in lanes if lane.route.state == "ready"), self._lanes.main.route)
        answered = route.state in ("ready", "resting")
        value: dict[str, object] = {
            "status": "ok" if route.state == "ready" else route.state,
            "model": route.title or route.profile_id or None,
            "reason": "" if answered else route.reason or "No model is loaded.",
        }
        if len(lanes) > 1:
            value["seats"] = {lane.route.seat: lane.route.state for lane in lanes}
        return answers.from_json(value, 200 if answered else 503)

    # --- own affairs ---------------------------------------------------------------------------------------------

    def _check_connection(self, request: web.BaseRequest) -> None:
        connection = request.protocol
        assert isinstance(connection, Connection)
        if not self._settings.allow_other_accounts and connection.peer_uid() != _OWN_UID:
            raise other_account()
        if connection.framed_too_much:
            raise bad_framing()


def _listen(port: int) -> socket.socket | None:
    """A listening socket on the loopback address; None when the port is taken or not ours to take."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((HOST, port))
        listening.listen(256)
    except OSError as error:
        listening.close()
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            return None
        raise
    listening.setblocking(False)
    return listening


def _holder(port: int) -> str:
    """Who listens on that port, in words."""
    pid = listener_owner(port)
    if pid is None:
        return "another program"
    try:
        return f"{Path(f'/proc/{pid}/comm').read_text('utf-8', 'replace').strip()} (process {pid})"
    except OSError:
        return f"process {pid}"
