"""Owns the daemon's life: takes the instance lock, starts the parts in order, ends leftovers, stops without remains."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Callable, Mapping
from pathlib import Path
from typing import Protocol

import msgspec
from aiohttp import web
from msgspec.structs import replace

from app import PRODUCT_NAME, __version__
from app.core import control
from app.core.errors import NotWritable
from app.core.memory.learning import Knowledge
from app.core.paths import Paths
from app.core.redaction import shown_profile
from app.core.settings import Settings
from app.core.settings_view import APPLIED_AT_ONCE, NOT_AT_ONCE, without
from app.core.snapshot import (
    API_VERSION,
    Engines,
    Gpus,
    Hello,
    History,
    Job,
    Problem,
    RunView,
    Traffic,
)
from app.core.snapshot import (
    Keys as KeyNames,
)
from app.core.snapshot import (
    Library as LibrarySlice,
)
from app.core.snapshot import (
    Service as ServiceSlice,
)
from app.daemon import processes
from app.daemon.attached_work import AttachedWork
from app.daemon.benches import Benches
from app.daemon.board import Board
from app.daemon.control_server import ControlServer
from app.daemon.database import Database
from app.daemon.doctor import checks, keys_check
from app.daemon.engine_registry import EngineRegistry
from app.daemon.engine_work import EngineWork, offered
from app.daemon.events import EventLog
from app.daemon.flag_check import warning_for
from app.daemon.gateway import Gateway
from app.daemon.gpu import GpuSampler
from app.daemon.history import HistoryRing
from app.daemon.hub import Hub
from app.daemon.installer import accelerators_here
from app.daemon.instance import InstanceLock
from app.daemon.jobs import Jobs
from app.daemon.keys import Keys
from app.daemon.learning import Learning
from app.daemon.library import Library
from app.daemon.manifests import Manifests
from app.daemon.memory_speed import MemorySpeed
from app.daemon.notifying import tell_systemd
from app.daemon.preparing import Prepared
from app.daemon.pricing import Pricing
from app.daemon.profile_desk import ProfileDesk
from app.daemon.runlog import cap_log
from app.daemon.runs import Runs
from app.daemon.seat_work import SeatWork
from app.daemon.seats import Seats
from app.daemon.second_opinion import SecondOpinion
from app.daemon.settings_file import SettingsFile
from app.daemon.tasks import Tasks
from app.engines.registry import FAMILIES, options_view

log = logging.getLogger(__name__)

HISTORY_SECONDS = 1.0
LOG_CAP_SECONDS = 5.0
IDLE_LEAVE_SECONDS = 2.0


class _Part(Protocol):
    async def close(self) -> None: ...


class Service:
    """The parts and how they are wired at run time; `serve` returns when somebody asked it to leave."""

    def __init__(
        self,
        paths: Paths,
        settings: Settings,
        environment: Mapping[str, str],
        clock: Callable[[], float],
        exit_when_idle: bool = False,
    ) -> None:
        self._paths = paths
        self._settings = settings
        self._environment = environment
        self.clock = clock
        self._exit_when_idle = exit_when_idle
        self._started_at = clock()
        self._started = False
        self._supervising = False
        self._lock = InstanceLock(paths.lock)
        self._leave = asyncio.Event()
        self._tasks = Tasks(self._part_failed)
        self._settings_file = SettingsFile(paths.settings_file, environment)
        self._problems: tuple[Problem, ...] = ()
        self._gateway_url = ""
        self._gateway_notice = ""
        self._board = Board()
        self._history = HistoryRing(clock)
        self._database = Database(paths.database, settings.logs.runs_kept, self._storage_trouble)
        self._learning = Learning(self._database, self._learnt)
        self._custody = Runs(paths.runs, kill_seconds=settings.supervision.kill_seconds)
        self._sampler = GpuSampler(self._sampled, self._pids_of_runs, clock, resident_bytes=processes.resident_bytes)
        self.keys = Keys(
            paths.data / "keys.json", changed=lambda names: self._board.publish("keys", KeyNames(keys=names))
        )
        self._gateway = Gateway(settings.gateway, clock, self._traffic)
        self._engines = EngineRegistry(
            paths,
            environment,
            self._engines_told,
            offers=offered,
            accelerators=accelerators_here(),
        )
        self._board.follow("seats", self._engines.seats_changed)
        self._library = Library(
            paths,
            settings,
            self._listed,
            find_engine=self._engines.need,
            knowledge=lambda: self._learning.knowledge,
        )
        self._opinion = SecondOpinion(self._learning, self._engines.known_flags)
        self._board.follow("engines", lambda _: self._show_library(self._library.current))  # what they know has changed
        self._desk = ProfileDesk(paths, FAMILIES, self._library.card, self._library.rescan)
        self._seats = Seats(
            names=settings.supervision.seats,
            settings=settings,
            library=self._library,
            find_engine=self._engines.need,
            sampler=self._sampler,
            custody=self._custody,
            gateway=self._gateway,
            board=self._board,
            database=self._database,
            events=EventLog(paths.state / "events.jsonl", environment.get("ENGINE_ROOM_DIE_AT", "")),
            runs_folder=paths.runs,
            keys=self.keys,
            clock=clock,
            opinion=self._opinion,
            lost=self.leave,  # without a seat's owner the service is no use: it starts again
        )
        self._pricing = Pricing(
            self._library,
            self._seats,
            self._board,
            paths.profiles,
            MemorySpeed(self._database, self._sampler),
            known_flags=self._engines.known_flags,
            opinion=self._opinion,
            limits=lambda: self._settings.memory,
        )
        self._manifests = Manifests(
            self._database,
            self._library,
            find_engine=self._engines.need,
        )
        self._seats.book.on_kept = self._kept
        self._jobs = Jobs(
            paths.state / "jobs",
            paths.engines,
            environment,
            lambda jobs: self._board.publish("jobs", jobs),
            settled=self._job_over,
        )
        self.benches = Benches(
            self._jobs,
            self._board,
            self._database,
            paths.socket,
            traffic=lambda: self._gateway.traffic,
            manifest=self._manifests.of,
        )
        self.attached_work = AttachedWork(self.keys, self._jobs, self._engines.find)
        self.engine_work = EngineWork(
            self._jobs, paths, environment, finder=self._engines, shelf=self._library, board=self._board
        )
        self.seat_work = SeatWork(
            self._seats,
            self._library,
            self._pricing,
            self._manifests,
            self.engine_work,
            known_flags=self._engines.known_flags,
        )
        self.hub = Hub(
            self._jobs,
            environment,
            self.keys,
            self._board,
            self._library.price_of,
            self._library.look_soon,
        )
        self._server = ControlServer(paths.socket, self)

    # --- life ---

    async def serve(self) -> None:
        self._lock.take()
        try:
            await self._start()
            await self._leave.wait()
        finally:
            await self._stop()
            self._lock.release()

    async def _start(self) -> None:
        self._make_folders()
        await self._database.open()
        await self._learning.start()
        await self._server.start()  # first, so that a window sees what happens
        self._tasks.start(self._server.keep(), "keep the control socket")
        for leftover in await self._custody.end_leftovers():
            level = logging.INFO if leftover.outcome in ("left_alone", "gone") else logging.WARNING
            log.log(level, "%s", leftover.sentence)
        await self._jobs.start()  # first: what an installation left unfinished is removed before anybody looks
        await self._engines.start()
        self._library.start()
        self._tasks.start(self._sampler.run(), "gpu sampler")
        await self._seats.start()
        self._supervising = True
        await self._library.listed()  # what is shown meanwhile can be loaded; requests and restoring need all of it
        await self._open_gateway()
        self._publish()
        self._board.publish("keys", KeyNames(keys=await self.keys.names()))
        self._tasks.start(self._remember(), "history")
        self._tasks.start(self._cap_logs(), "log cap")
        if self._exit_when_idle:
            self._tasks.start(self._leave_when_idle(), "leave when idle")
        await self.hub.start()
        await self._manifests.recall_wanted()
        await self._seats.restore()
        self._started = True
        tell_systemd("READY=1", self._environment)

    def _make_folders(self) -> None:
        for folder in (self._paths.config, self._paths.data, self._paths.state, self._paths.runs, self._paths.profiles):
            try:
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            except OSError as error:
                raise NotWritable(
                    f"{folder} cannot be made: {error.strerror}.",
                    "Check the owner and permissions of its parent folder.",
                ) from error

    async def _open_gateway(self) -> None:
        kept = await self._database.recall("gateway_fallback_port")
        bound = await self._gateway.start(self._settings.gateway.port, fallback=int(kept) if kept else None)
        self._gateway_url, self._gateway_notice = bound.url, bound.notice
        if bound.notice:
            log.warning("%s", bound.notice)
            await self._database.remember("gateway_fallback_port", str(bound.port))

    async def _stop(self) -> None:
        log.info("the service stops")
        tell_systemd("STOPPING=1", self._environment)
        parts: list[_Part] = [
            self._tasks,
            self._gateway,
            self._server,
            self._library,
            self._jobs,
            self.benches,
            self.hub,
            self._engines,
            self._sampler,
            self._custody,
            self._manifests,
            self._opinion,
            self._learning,
            self._database,
        ]
        if self._supervising:  # a start that failed has no engine, and must not forget what was wanted
            parts.insert(0, self._seats)
        for part in parts:
            try:
                await part.close()
            except Exception:  # one part's trouble must not keep the others from being closed
                log.exception("%s could not be closed in order", type(part).__name__)

    def _part_failed(self, name: str, error: BaseException) -> None:
        """A part that works without end has ended."""
        self._problems = (*self._problems, Problem(where=name, summary=f"A part of the service failed: {error}."))
        self._publish()

    def leave(self) -> None:
        self._leave.set()

    def _job_over(self, job: Job) -> None:
        self.benches.settled(job)
        self._engines.look_again()
        self._library.look_soon()  # a download may have brought a model

    # --- publishing ---

    def _pids_of_runs(self) -> dict[int, str]:
        return {**self._custody.pids_of_runs(), **self._seats.attached_pids()}

    def _sampled(self, gpus: Gpus) -> None:
        self._board.publish("gpus", gpus)
        self._seats.note(gpus)
        self._library.reprice(gpus, runs_of_seats=self._seats.runs_of_seats())

    def _kept(self, run: RunView, prepared: Prepared) -> None:
        self._manifests.note(run, prepared)
        self._learning.note(run, prepared)

    def _learnt(self, knowledge: Knowledge) -> None:
        self._board.publish("learnt", knowledge)
        self._library.price_anew()

    def _traffic(self, traffic: Traffic) -> None:
        self._board.publish("traffic", traffic)

    def _listed(self, library: LibrarySlice) -> None:
        """A profile may hold keys: the slice that everybody sees has them masked, the library's own cards do not (I18)."""
        self._show_library(library)
        self._seats.profiles_changed()

    def _engines_told(self, engines: Engines) -> None:
        """What an engine has just said of its flags may be a warning on a card."""
        self._board.publish("engines", engines)
        self._show_library(self._library.current)

    def _show_library(self, library: LibrarySlice) -> None:
        engines = self._engines
        shown = tuple(
            replace(
                card,
                profile=shown_profile(card.profile),
                warning=warning_for(card, engines.need, engines.known_flags),
            )
            for card in library.profiles
        )
        self._board.publish("library", replace(library, profiles=shown))

    def _storage_trouble(self, trouble: str) -> None:
        if trouble:
            log.warning("%s", trouble)
            advice = "Free some space; nothing else is needed."
            self._problems = (Problem(where=str(self._paths.database), summary=trouble, advice=advice),)
        else:
            self._problems = ()
        self._publish()

    def _publish(self) -> None:
        self._board.publish(
            "service",
            ServiceSlice(
                version=__version__,
                gateway_url=self._gateway_url,
                gateway_notice=self._gateway_notice,
                problems=self._problems,
                settings=self._settings.model_dump(),
            ),
        )

    async def _remember(self) -> None:
        while True:
            await asyncio.sleep(HISTORY_SECONDS)
            gpus, traffic = self._board.get("gpus"), self._board.get("traffic")
            assert isinstance(gpus, Gpus)
            assert isinstance(traffic, Traffic)
            self._history.add(gpus, traffic)

    async def _cap_logs(self) -> None:
        """Engines write what they like; their files keep a size, and offsets stay valid (holes at the front)."""
        while True:
            await asyncio.sleep(LOG_CAP_SECONDS)
            for run in self._seats.live_runs():
                await asyncio.to_thread(cap_log, Path(run.log_path), self._settings.logs.run_log_bytes)

    async def _leave_when_idle(self) -> None:
        """For tests: leaves when nobody has been connected and nothing was wanted for a while."""
        quiet_since = self.clock()
        while True:
            await asyncio.sleep(0.2)
            if self._board.listeners or self._seats.anything_wanted:
                quiet_since = self.clock()
            elif self.clock() - quiet_since > IDLE_LEAVE_SECONDS:
                self.leave()

    # --- control calls ---

    def hello(self) -> Hello:
        return Hello(
            product=PRODUCT_NAME,
            version=__version__,
            api=API_VERSION,
            pid=os.getpid(),
            started_at=self._started_at,
            state_folder=str(self._paths.state),
            started=self._started,
        )

    def slices(self) -> dict[str, msgspec.Struct]:
        return self._board.all()

    def changes(self, alive_seconds: float) -> AsyncGenerator[list[tuple[str, msgspec.Struct]], None]:
        return self._board.changes(alive_seconds)

    async def forget_memory(self, _: control.ForgetMemory) -> control.Accepted:
        count = await self._learning.forget()
        return control.Accepted(note=f"What {count} launches had taught about memory is forgotten; the formulas count.")

    async def pin_engine(self, wish: control.Pin) -> control.Accepted:
        return await self._engines.pin(wish)

    async def add_engine(self, wish: control.AddEngine) -> control.Accepted:
        return await self._engines.add(wish)

    async def refresh_engines(self, _: control.Refresh) -> Engines:
        return await self._engines.refresh()

    def history(self) -> History:
        return self._history.view()

    def run_of(self, run_id: str) -> RunView | None:
        return self._seats.view_of(run_id)

    def run_secrets(self, run_id: str) -> tuple[str, ...]:
        return self._seats.secrets_of(run_id)

    async def settings(self) -> control.SettingsView:
        return await self._settings_file.view(self._settings)

    async def change_settings(self, change: control.SettingsChange) -> control.SettingsView:
        self._take_over(await self._settings_file.change(change.values))
        return await self.settings()

    def _take_over(self, settings: Settings) -> None:
        """What can change while running does; the rest waits for the next start and is shown as waiting."""
        groups = {prefix.rstrip("."): getattr(settings, prefix.rstrip(".")) for prefix in APPLIED_AT_ONCE}
        self._settings = without(NOT_AT_ONCE, self._settings.model_copy(update=groups), kept_from=self._settings)
        self._seats.take_over(self._settings)
        self._library.take_over(self._settings)
        self._publish()

    def options(self) -> control.OptionsView:
        return options_view()

    async def profile_text(self, profile_id: str) -> control.ProfileText:
        return await self._desk.text(profile_id)

    async def save_profile(self, wish: control.ProfileText) -> control.ProfileText:
        return await self._desk.save(wish)

    async def remove_profile(self, wish: control.ProfileOf) -> control.Accepted:
        return await self._desk.remove(wish.profile)

    async def doctor(self) -> control.Report:
        gpus = self._board.get("gpus")
        assert isinstance(gpus, Gpus)
        found = await asyncio.to_thread(
            checks,
            self._paths,
            gpus,
            self._engines.slice().families,
            self._gateway_url,
        )
        return control.Report(checks=(*found, keys_check(await self.keys.names())))

    async def shutdown(self, wish: control.Shutdown) -> control.Accepted:
        log.info("asked to leave: %s", wish.reason or "no reason given")
        asyncio.get_running_loop().call_later(0.05, self.leave)
        return control.Accepted(note="The model is unloaded, then the service leaves.")

    async def gateway(self, request: web.Request) -> web.StreamResponse:
        return await self._gateway.handler(request)
