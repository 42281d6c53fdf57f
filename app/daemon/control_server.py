"""Serves the control API on the Unix socket: checks the form of each call, asks the owner, answers with values."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec
from aiohttp import web

from app.core import control
from app.core.errors import BadRequest, EngineRoomError, NotWritable, SocketPathTooLong, UnknownProfile
from app.core.paths import SOCKET_PATH_LIMIT
from app.core.snapshot import Engines, Hello, History, RunView, slice_event, to_json
from app.daemon.attached_work import AttachedWork
from app.daemon.benches import Benches
from app.daemon.engine_work import EngineWork
from app.daemon.hub import Hub
from app.daemon.logpiece import readable_end, redacted_piece
from app.daemon.seat_work import SeatWork

log = logging.getLogger(__name__)

T = TypeVar("T")
ALIVE_SECONDS = 10.0
LOG_PIECE_BYTES = 4 * 1024**2
LOG_WAIT_SECONDS = 30.0
LOG_POLL_SECONDS = 0.1
KEEP_SECONDS = 2.0
BODY_BYTES = 1024**2


class Controls(Protocol):
    """What the server may ask; implemented by the service, so that this module knows no parts."""

    @property
    def clock(self) -> Callable[[], float]: ...
    def hello(self) -> Hello: ...
    def slices(self) -> dict[str, msgspec.Struct]: ...
    def changes(self, alive_seconds: float) -> AsyncGenerator[list[tuple[str, msgspec.Struct]], None]: ...
    async def forget_memory(self, _: control.ForgetMemory) -> control.Accepted: ...
    async def pin_engine(self, wish: control.Pin) -> control.Accepted: ...
    async def add_engine(self, wish: control.AddEngine) -> control.Accepted: ...
    async def refresh_engines(self, wish: control.Refresh) -> Engines: ...
    @property
    def seat_work(self) -> SeatWork: ...
    @property
    def engine_work(self) -> EngineWork: ...
    @property
    def hub(self) -> Hub: ...
    @property
    def benches(self) -> Benches: ...
    @property
    def attached_work(self) -> AttachedWork: ...
    def history(self) -> History: ...
    def run_of(self, run_id: str) -> RunView | None: ...
    def run_secrets(self, run_id: str) -> tuple[str, ...]: ...
    async def settings(self) -> control.SettingsView: ...
    async def change_settings(self, change: control.SettingsChange) -> control.SettingsView: ...
    def options(self) -> control.OptionsView: ...
    async def profile_text(self, profile_id: str) -> control.ProfileText: ...
    async def save_profile(self, wish: control.ProfileText) -> control.ProfileText: ...
    async def remove_profile(self, wish: control.ProfileOf) -> control.Accepted: ...
    async def doctor(self) -> control.Report: ...
    async def shutdown(self, wish: control.Shutdown) -> control.Accepted: ...
    async def gateway(self, request: web.Request) -> web.StreamResponse: ...


class ControlServer:
    """Reachable by our own account only: the socket is 0600 in a folder that is 0700. No port, no token."""

    def __init__(self, socket_path: Path, controls: Controls) -> None:
        self._path = socket_path
        self._controls = controls
        self._runner: web.AppRunner | None = None
        self._site: web.UnixSite | None = None
        self._streams: set[asyncio.Task[Any]] = set()
        self._closing = False

    async def start(self) -> None:
        app = web.Application(client_max_size=BODY_BYTES, middlewares=[_speak])
        c = self._controls
        app.router.add_get("/control/hello", self._value(c.hello))
        app.router.add_get("/control/slices", self._slices)
        app.router.add_get("/control/stream", self._stream)
        app.router.add_post("/control/want", self._call(control.Want, c.seat_work.want))
        app.router.add_post("/control/unload", self._call(control.Unload, c.seat_work.unload))
        app.router.add_post("/control/restart", self._call(control.Unload, c.seat_work.restart))
        app.router.add_post("/control/lend", self._call(control.Lend, c.seat_work.lend))
        app.router.add_post("/control/lend/return", self._call(control.Unload, c.seat_work.give_back))
        app.router.add_post("/control/park", self._call(control.Park, c.seat_work.park))
        app.router.add_post("/control/plan", self._call(control.Want, c.seat_work.plan))
        app.router.add_post("/control/memory/forget", self._call(control.ForgetMemory, c.forget_memory))
        app.router.add_post("/control/command", self._call(control.CommandOf, c.seat_work.command))
        app.router.add_post("/control/engines/pin", self._call(control.Pin, c.pin_engine))
        app.router.add_post("/control/engines/add", self._call(control.AddEngine, c.add_engine))
        app.router.add_post("/control/engines/refresh", self._call(control.Refresh, c.refresh_engines))
        app.router.add_post("/control/engines/install", self._call(control.Install, c.engine_work.install))
        app.router.add_post("/control/engines/remove", self._call(control.EngineOf, c.engine_work.remove))
        app.router.add_post("/control/engines/canary", self._call(control.Canary, c.engine_work.canary))
        app.router.add_post("/control/bench", self._call(control.BenchOf, c.benches.begin))
        app.router.add_get("/control/benches", self._ask(c.benches.list))
        app.router.add_post("/control/jobs/cancel", self._call(control.JobOf, c.engine_work.cancel))
        app.router.add_get("/control/jobs/{id}/log", self._job_log)
        app.router.add_get("/control/keys", self._ask(c.attached_work.keys))
        app.router.add_post("/control/keys", self._call(control.GivenKey, c.attached_work.set_key))
        app.router.add_post("/control/keys/remove", self._call(control.KeyOf, c.attached_work.remove_key))
        app.router.add_post("/control/ollama/pull", self._call(control.OllamaPull, c.attached_work.pull))
        app.router.add_get("/control/caches", self._ask(c.engine_work.caches))
        app.router.add_post("/control/jobs/pause", self._call(control.JobOf, c.hub.pause))
        app.router.add_post("/control/jobs/resume", self._call(control.JobOf, c.hub.resume))
        app.router.add_post("/control/hub/search", self._call(control.HubSearch, c.hub.search))
        app.router.add_post("/control/hub/files", self._call(control.HubOf, c.hub.files))
        app.router.add_post("/control/hub/pull", self._call(control.Pull, c.hub.pull))
        app.router.add_get("/control/hub/downloads", self._ask(c.hub.downloads))
        app.router.add_post("/control/hub/updates", self._call(control.Refresh, c.hub.updates))
        app.router.add_post("/control/hub/delete", self._call(control.DeleteModel, c.hub.delete))
        app.router.add_post("/control/hub/restore", self._call(control.TrashOf, c.hub.restore))
        app.router.add_post("/control/hub/empty", self._call(control.TrashOf, c.hub.empty))
        app.router.add_post("/control/hub/token", self._call(control.HubToken, c.hub.keep_token))
        app.router.add_post("/control/caches/clear", self._call(control.CacheOf, c.engine_work.clear))
        app.router.add_get("/control/history", self._value(c.history))
        app.router.add_get("/control/runs/{id}", self._run)
        app.router.add_get("/control/runs/{id}/log", self._log)
        app.router.add_get("/control/runs/{id}/manifest", self._manifest)
        app.router.add_post("/control/runs/again", self._call(control.RunOf, c.seat_work.again))
        app.router.add_post("/control/export", self._call(control.ExportOf, c.seat_work.export))
        app.router.add_get("/control/engines/options", self._value(c.options))
        app.router.add_get("/control/profiles/{id}", self._profile)
        app.router.add_post("/control/profiles", self._call(control.ProfileText, c.save_profile))
        app.router.add_post("/control/profiles/remove", self._call(control.ProfileOf, c.remove_profile))
        app.router.add_get("/control/settings", self._ask(c.settings))
        app.router.add_post("/control/settings", self._call(control.SettingsChange, c.change_settings))
        app.router.add_get("/control/doctor", self._ask(c.doctor))
        app.router.add_post("/control/shutdown", self._call(control.Shutdown, c.shutdown))
        app.router.add_route("*", "/v1/{path:.*}", c.gateway)
        app.on_shutdown.append(self._end_streams)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
        await self._runner.setup()
        await self._listen()

    async def _listen(self) -> None:
        assert self._runner is not None
        if len(bytes(self._path)) > SOCKET_PATH_LIMIT:
            raise SocketPathTooLong(
                f"The control socket's path is too long for this system: {self._path}.",
                "Set XDG_RUNTIME_DIR to a shorter folder.",
            )
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise NotWritable(
                f"{self._path.parent} cannot be made: {error.strerror}.",
                "Remove what is in its place, or set XDG_RUNTIME_DIR to another folder.",
            ) from error
        owner = self._path.parent.stat()
        if owner.st_uid != os.getuid():
            raise EngineRoomError(
                f"{self._path.parent} belongs to another account.",
                "Remove it, or set XDG_RUNTIME_DIR to a folder of yours.",
            )
        self._path.parent.chmod(0o700)
        self._path.unlink(missing_ok=True)  # a dead daemon's: the instance lock is ours by now
        self._site = web.UnixSite(self._runner, str(self._path))
        before = os.umask(0o177)
        try:
            await self._site.start()
        finally:
            os.umask(before)

    async def keep(self) -> None:
        """Makes the socket again when its folder was cleaned away (a runtime folder can vanish at logout)."""
        told = False
        while True:
            await asyncio.sleep(KEEP_SECONDS)
            if self._path.exists():
                told = False
                continue
            if not told:
                log.warning(
                    "the control socket %s was removed; it is made again as soon as its folder can be", self._path
                )
            told = True
            try:
                if self._site is not None:
                    site, self._site = self._site, None
                    await site.stop()
                await self._listen()
            except (OSError, EngineRoomError) as error:
                log.info("not yet: %s", error)  # at logout the folder above is gone too, and comes back at login

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        with suppress(OSError):  # its folder may be gone, or never have been one
            self._path.unlink()

    async def _end_streams(self, _: web.Application) -> None:
        """A window that listens must not hold the service for the time that a running call gets."""
        self._closing = True
        for stream in self._streams:
            stream.cancel()

    # --- forms of calls ---

    def _value(self, get: Callable[[], msgspec.Struct]) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handler(_: web.Request) -> web.StreamResponse:
            return _answer(get())

        return handler

    def _ask(
        self, ask: Callable[[], Awaitable[msgspec.Struct]]
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handler(_: web.Request) -> web.StreamResponse:
            return _answer(await ask())

        return handler

    def _call(
        self, kind: type[T], act: Callable[[T], Awaitable[msgspec.Struct]]
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handler(request: web.Request) -> web.StreamResponse:
            try:
                value = msgspec.json.decode(await request.read() or b"{}", type=kind)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise BadRequest(f"The call's body is not a {kind.__name__}: {error}.") from error
            return _answer(await act(value))

        return handler

    # --- streams ---

    async def _slices(self, _: web.Request) -> web.StreamResponse:
        return _answer(self._controls.slices())

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        await answer.prepare(request)
        changes = self._controls.changes(ALIVE_SECONDS)
        stream = asyncio.current_task()
        assert stream is not None
        self._streams.add(stream)
        try:
            async for changed in changes:
                now = self._controls.clock()
                pieces = [slice_event(name, value, now) for name, value in changed]
                await answer.write(b"".join(pieces) or b": alive\n\n")
        except ConnectionError:
            pass
        except asyncio.CancelledError:
            if not self._closing:
                raise
        finally:
            self._streams.discard(stream)
            await changes.aclose()
        return answer

    async def _profile(self, request: web.Request) -> web.StreamResponse:
        return _answer(await self._controls.profile_text(request.match_info["id"]))

    async def _job_log(self, request: web.Request) -> web.StreamResponse:
        return web.Response(text=await self._controls.engine_work.log_text(request.match_info["id"]))

    async def _run(self, request: web.Request) -> web.StreamResponse:
        return _answer(self._known_run(request))

    async def _manifest(self, request: web.Request) -> web.StreamResponse:
        return _answer(await self._controls.seat_work.manifest(self._known_run(request)))

    def _known_run(self, request: web.Request) -> RunView:
        run = self._controls.run_of(request.match_info["id"])
        if run is None:
            raise UnknownProfile(f"There is no run {request.match_info['id']}.", "`engine-room status` names the runs.")
        return run

    async def _log(self, request: web.Request) -> web.StreamResponse:
        run = self._known_run(request)
        start = _number(request, "from", 0, maximum=2**62)
        limit = int(_number(request, "limit", LOG_PIECE_BYTES, maximum=LOG_PIECE_BYTES))
        wait = min(_number(request, "wait", 0, maximum=LOG_WAIT_SECONDS), LOG_WAIT_SECONDS)
        path = Path(run.log_path)
        deadline = self._controls.clock() + wait
        secrets = self._controls.run_secrets(run.id)
        written, size = -1, 0
        while True:
            over = self._over(run.id)  # asked before the size: what was written until then is in the size
            if over:
                size = _size(path)
            elif (now := _size(path)) != written:  # of a living run only whole lines: the rest may be half a secret
                written, size = now, await asyncio.to_thread(readable_end, path, now, secrets)
            if size > start or over or self._closing or self._controls.clock() >= deadline:
                break
            await asyncio.sleep(LOG_POLL_SECONDS)
        at, data = await asyncio.to_thread(redacted_piece, path, int(start), size, limit, secrets)
        headers = {
            "X-Log-Start": str(at),
            "X-Log-End": str(at + len(data)),
            "X-Log-Size": str(size),
            "X-Log-Over": "1" if over else "0",
        }
        return web.Response(body=data, headers=headers, content_type="application/octet-stream")

    def _over(self, run_id: str) -> bool:
        run = self._controls.run_of(run_id)
        return run is None or run.ended_at_unix is not None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _number(request: web.Request, name: str, default: float, maximum: float) -> float:
    text = request.query.get(name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError as error:
        raise BadRequest(f"{name} must be a number, not {text[:40]!r}.") from error
    if not 0 <= value <= maximum:
        raise BadRequest(f"{name} must be between 0 and {maximum:g}.")
    return value


def _answer(value: object) -> web.Response:
    return web.Response(body=to_json(value), content_type="application/json")


@web.middleware
async def _speak(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Every refusal is an ErrorReport; what nobody expected is logged with its trace and answered with a sentence."""
    if request.path.startswith("/v1/"):
        return await handler(request)
    try:
        return await handler(request)
    except EngineRoomError as error:
        return web.Response(status=error.http_status, body=to_json(error.report()), content_type="application/json")
    except web.HTTPException as error:
        report = BadRequest(f"{request.method} {request.path}: {error.reason}.").report()
        return web.Response(status=error.status, body=to_json(report), content_type="application/json")
    except asyncio.CancelledError:
        raise
    except Exception:
        log.exception("a control call failed: %s %s", request.method, request.path)
        report = EngineRoomError(
            "Engine Room made a mistake in this call.",
            "Its own log has the details; `engine-room doctor` names the file.",
        ).report()
        return web.Response(status=500, body=to_json(report), content_type="application/json")
