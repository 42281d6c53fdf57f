"""Owns one seat: reads its mailbox, asks `advance` what to do, and carries the effects out."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec.structs import replace

from app.core import seat as step
from app.core.advance import advance, does_not_fit, due
from app.core.diagnosis import diagnose
from app.core.errors import DaemonUnreachable, DoesNotFit, EngineFailed, EngineRoomError, UnknownProfile
from app.core.lifecycle import Draining, Failure, Loading, Ready, Stalled
from app.core.memory.plan_types import MemoryPlan
from app.core.options import Scalar
from app.core.profiles import Profile
from app.core.release import expected_from, holders, released
from app.core.seat import Budgets, SeatState, Wanted
from app.core.settings import Settings
from app.core.snapshot import DriverState, Gpus, Runs, RunView, Seats, SeatView
from app.daemon import processes
from app.daemon.board import Board
from app.daemon.database import Database
from app.daemon.events import EventLog
from app.daemon.gateway import Gateway, Route
from app.daemon.gpu import GpuSampler
from app.daemon.library import Library
from app.daemon.logtail import last_lines
from app.daemon.preparing import FindEngine, Preparation, Prepared, failure_of, first_view
from app.daemon.runbook import RunBook
from app.daemon.runs import RunExit, RunHandle
from app.daemon.runs import Runs as Custody
from app.daemon.tasks import Tasks
from app.daemon.watching import held_by, measure, mentions, watch_flow, watch_load, watch_ready
from app.engines.base import Command
from app.engines.registry import FAMILIES

log = logging.getLogger(__name__)

RELEASE_POLL_SECONDS = 0.1
LAST_LOOK_SECONDS = 0.5


def budgets_from(settings: Settings) -> Budgets:
    chosen = settings.supervision
    return Budgets(
        drain_seconds=chosen.drain_seconds,
        stop_grace_seconds=chosen.stop_grace_seconds,
        kill_seconds=chosen.kill_seconds,
        load_stall_seconds=chosen.load_stall_seconds,
        load_limit_seconds=chosen.load_limit_seconds,
        vram_return_seconds=chosen.vram_return_seconds,
        restarts=chosen.restarts,
    )


class Supervisor:
    """Callers ask for outcomes (`want`, `unload`, `restart`); what happens is seen on the board."""

    def __init__(
        self,
        *,
        seat: str,
        settings: Settings,
        library: Library,
        find_engine: FindEngine,
        sampler: GpuSampler,
        custody: Custody,
        gateway: Gateway,
        board: Board,
        database: Database,
        events: EventLog,
        runs_folder: Path,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seat = seat
        self._settings = settings
        self._budgets = budgets_from(settings)
        self._preparation = Preparation(lambda: self._settings, library, find_engine, runs_folder)
        self._sampler = sampler
        self._custody = custody
        self._gateway = gateway
        self._board = board
        self._database = database
        self._events = events
        self._clock = clock
        self._tasks = Tasks()
        self._mailbox: asyncio.Queue[tuple[step.Event, asyncio.Future[Failure | None] | None]] = asyncio.Queue()
        prefix = time.strftime("%Y%m%d-%H%M%S-") + secrets.token_hex(2)
        self._state = SeatState(run_prefix=prefix)
        self._book = RunBook(database, runs_folder, lambda: self._settings.logs.runs_kept, self._publish)
        self._stopping = False
        self._idle = asyncio.Event()
        self._idle.set()

    # --- what callers ask ---

    async def want(self, profile_id: str, settings: Mapping[str, Scalar] | None = None, override: bool = False) -> str:
        """Returns the profile's id when the wish is taken; raises UnknownProfile, ModelMissing, EngineNotInstalled or
        DoesNotFit."""
        self._refuse_when_stopping()
        asked = Wanted(profile_id=profile_id, settings=dict(settings or {}), override=override)
        prepared, plan = await self._priced(asked)
        wanted = replace(asked, profile_id=prepared.card.profile.id)  # an alias is only another way to say it
        refusal = await self._ask(step.Want(wanted=wanted, plan=plan))
        if refusal is not None:
            raise DoesNotFit(refusal.summary, refusal.advice)
        return wanted.profile_id

    async def unload(self) -> None:
        await self._ask(step.Want(wanted=None))

    async def restart(self) -> None:
        self._refuse_when_stopping()
        refusal = await self._ask(step.Restart())
        if refusal is not None:
            raise UnknownProfile(refusal.summary, refusal.advice)

    def _refuse_when_stopping(self) -> None:
        if self._stopping:
            raise DaemonUnreachable("The service is stopping.", "Start Engine Room again in a moment.")

    async def price(self, profile_id: str, settings: Mapping[str, Scalar] | None = None) -> MemoryPlan:
        """The plan of a load as it would be admitted now, with the leaving model credited; starts nothing."""
        _, plan = await self._priced(Wanted(profile_id=profile_id, settings=dict(settings or {})))
        return plan

    async def _priced(self, wanted: Wanted) -> tuple[Prepared, MemoryPlan]:
        gpus = await self._sampler.fresh()
        prepared = self._prepare(wanted, gpus, self._leaving_bytes(gpus))
        return prepared, prepared.plan

    def _prepare(self, wanted: Wanted, gpus: Gpus, leaving_bytes: Mapping[str, int]) -> Prepared:
        card, profile, installation = self._preparation.resolve(wanted)
        ours = tuple(self._book.prepared)
        plan = self._preparation.plan(card, profile, installation, gpus, leaving_bytes, ours)
        prepared = Prepared(card, profile, installation, plan)
        prepared.before = gpus
        return prepared

    def command_of(self, profile_id: str) -> tuple[Command, Profile]:
        """The exact argv and environment of a launch; the port, chosen at launch, is 0."""
        card, profile, installation = self._preparation.resolve(Wanted(profile_id=profile_id))
        gpus = self._sampler.latest
        launch = self._preparation.launch(card, profile, installation, run_id="command", port=0, gpus=gpus)
        return FAMILIES[profile.engine].command(launch), profile

    async def restore(self) -> None:
        """After an unexpected end of the daemon: wants again what was wanted."""
        kept = await self._database.recall(f"wanted:{self._seat}")
        if kept is None or not self._settings.supervision.restore_last_profile:
            return
        wanted = wanted_from(kept)
        if wanted is not None:
            log.info("loading %s again: it was wanted when the service ended", wanted.profile_id)
            await self._ask(step.Want(wanted=wanted))

    @property
    def state(self) -> SeatState:
        """For display only: whoever wants a change asks for it."""
        return self._state

    def view_of(self, run_id: str) -> RunView | None:
        return self._book.views.get(run_id)

    def secrets_of(self, run_id: str) -> tuple[str, ...]:
        return self._book.secrets_of(run_id)

    def take_over(self, settings: Settings) -> None:
        """Budgets and limits may change while running: the next decision uses them."""
        self._settings = settings
        self._budgets = budgets_from(settings)

    # --- the owner ---

    async def run(self) -> None:
        """The one loop that owns the seat; ends by cancellation."""
        try:
            await self._book.open()
        except Exception:
            log.exception("the earlier runs could not be read")
        self._publish()
        while True:
            event, reply = await self._next()
            try:
                self._step(event, reply)
            except Exception:  # the owner must not die of one event: nobody else could end the seat's engine
                log.exception("the seat %s could not take %s", self._seat, type(event).__name__)
                if reply is not None and not reply.done():
                    reply.set_exception(EngineFailed("Engine Room made a mistake.", "Its own log has the details."))

    async def _next(self) -> tuple[step.Event, asyncio.Future[Failure | None] | None]:
        at = due(self._state, self._budgets)
        if at is None:
            return await self._mailbox.get()
        try:
            return await asyncio.wait_for(self._mailbox.get(), max(0.0, at - self._clock()) + 0.001)
        except TimeoutError:
            return step.Tick(), None

    def _step(self, event: step.Event, reply: asyncio.Future[Failure | None] | None) -> None:
        before = self._state
        self._state, effects = advance(before, event, self._clock(), self._budgets)
        moved = type(before.phase) is not type(self._state.phase)
        if moved:
            self._moved(before, event)
        refusal = None
        for effect in effects:
            if isinstance(effect, step.Refuse):
                refusal = effect.failure
            else:
                self._do(effect)
        if moved:
            self._events.done()
        if self._state.wanted != before.wanted:
            self._tasks.start(self._remember(self._state.wanted), f"remember what seat {self._seat} wants")
        if self._state != before:
            self._publish()
        if reply is not None and not reply.done():
            reply.set_result(refusal)

    def _moved(self, before: SeatState, event: step.Event) -> None:
        source, target = type(before.phase).__name__, type(self._state.phase).__name__
        run_id = getattr(self._state.phase, "run_id", "") or getattr(before.phase, "run_id", "")
        log.info("seat %s: %s → %s (%s) %s", self._seat, source, target, type(event).__name__, run_id)
        if isinstance(self._state.phase, Ready) and isinstance(before.phase, Loading):
            self._became_ready(run_id)
        self._stop_watching(run_id)
        self._events.transition(self._seat, source, target, type(event).__name__, run_id)

    async def _remember(self, wanted: Wanted | None) -> None:
        """What is wanted must be known after a crash. A full disk must not stop a switch: it is only not remembered."""
        try:
            await self._database.remember(f"wanted:{self._seat}", wanted_json(wanted) if wanted else None)
        except Exception as error:
            log.warning("what is wanted could not be remembered: %s", error)

    async def _ask(self, event: step.Event) -> Failure | None:
        reply: asyncio.Future[Failure | None] = asyncio.get_running_loop().create_future()
        self._mailbox.put_nowait((event, reply))
        return await reply

    def _tell(self, event: step.Event) -> None:
        self._mailbox.put_nowait((event, None))

    # --- effects ---

    def _do(self, effect: step.Effect) -> None:
        match effect:
            case step.Reserve(run_id, wanted):
                self._tasks.start(self._reserve(run_id, wanted), f"reserve {run_id}")
            case step.Spawn(run_id, _):
                self._tasks.start(self._spawn(run_id), f"spawn {run_id}")
            case step.AwaitDrain(run_id):
                self._tasks.start(self._await_drain(run_id), f"drain {run_id}")
            case step.CutStreams(run_id):
                self._tasks.start(self._gateway.cut(run_id), f"cut {run_id}")
            case step.Stop(run_id):
                self._tasks.start(self._end(run_id, gently=True), f"stop {run_id}")
            case step.Kill(run_id):
                self._tasks.start(self._end(run_id, gently=False), f"kill {run_id}")
            case step.Inspect(run_id):
                self._tasks.start(self._inspect(run_id), f"inspect {run_id}")
            case step.AwaitRelease(run_id):
                self._tasks.start(self._await_release(run_id), f"release {run_id}")
            case step.Refuse():
                pass

    async def _reserve(self, run_id: str, wanted: Wanted) -> None:
        try:
            prepared = self._prepare(wanted, await self._sampler.fresh(max_age_seconds=0.0), {})
        except EngineRoomError as error:
            self._tell(step.NotAdmitted(run_id, failure_of(error, wanted.profile_id, "reserving")))
            return
        if not prepared.plan.is_admitted and not wanted.override:
            self._tell(step.NotAdmitted(run_id, does_not_fit(wanted.profile_id, prepared.plan)))
            return
        if wanted.override:
            prepared.plan = replace(prepared.plan, overridden=True)
        self._book.note_environment(prepared.profile.id, prepared.profile.environment)
        prepared.usual_ready_seconds = await self._usual_ready_seconds(wanted.profile_id)
        self._book.prepared[run_id] = prepared
        self._tell(step.Admitted(run_id))

    async def _usual_ready_seconds(self, profile_id: str) -> float | None:
        try:
            return await self._database.ready_seconds(profile_id)
        except Exception as error:
            log.warning("earlier load times could not be read: %s", error)
            return None

    async def _spawn(self, run_id: str) -> None:
        prepared = self._book.prepared[run_id]
        try:
            spec = self._preparation.spec(run_id, prepared, self._sampler.latest, secrets.token_urlsafe(24))
            self._book.keep(first_view(prepared, spec))
            handle = await self._custody.launch(spec)
        except Exception as error:  # whatever went wrong, the seat must hear of it (I7)
            if not isinstance(error, EngineRoomError | OSError):
                log.exception("the run %s could not be launched", run_id)
            failure = failure_of(error, prepared.profile.id, "spawning")
            prepared.launch_failed = True
            self._book.finish(run_id, "failed", failure)
            self._tell(step.SpawnFailed(run_id, failure))
            return
        prepared.handle = handle
        prepared.spawned_at = self._clock()
        self._tasks.start(self._watch_end(run_id, handle), f"end of {run_id}")
        self._book.keep(replace(self._book.views[run_id], pid=handle.pid))
        if prepared.kill_when_spawned:
            handle.kill()
        self._tell(step.Spawned(run_id))
        load = watch_load(run_id, prepared, spec.log_path, self._clock, self._tell)
        prepared.load_watch.append(self._tasks.start(load, f"load of {run_id}"))
        ready = watch_ready(run_id, prepared, self._tell)
        prepared.load_watch.append(self._tasks.start(ready, f"readiness of {run_id}"))

    async def _end(self, run_id: str, *, gently: bool) -> None:
        """Asks for the end, after a last look at what the run holds: that is what must come back (I4)."""
        prepared = self._book.prepared[run_id]
        prepared.asked_to_stop = True
        if prepared.handle is None:
            prepared.kill_when_spawned = True
            return
        if prepared.last_seen is None and self._sampler.latest.driver is DriverState.OK:
            self.note(await self._sampler.fresh(max_age_seconds=0.0, timeout_seconds=LAST_LOOK_SECONDS))
        self._remember_expected(prepared)
        if gently:
            prepared.handle.stop()
        else:
            prepared.handle.kill()

    def note(self, gpus: Gpus) -> None:
        """Keeps the last sample in which the present run was seen; called with each sample."""
        run_id = getattr(self._state.phase, "run_id", "")
        prepared = self._book.prepared.get(run_id)
        if prepared is not None and mentions(gpus, run_id):
            prepared.last_seen = gpus

    async def _watch_end(self, run_id: str, handle: RunHandle) -> None:
        exit_ = await handle.exited()
        prepared = self._book.prepared[run_id]
        failure = None
        if not prepared.asked_to_stop:
            failure = await self._diagnosed(run_id, prepared, exit_)
            self._remember_expected(prepared)
            self._tell(step.Exited(run_id, failure))
        end = await handle.ended()
        if end.survivors:
            self._tell(step.Survived(run_id, tuple(describe(process) for process in end.survivors)))
            await handle.cleared()
        self._book.finish(run_id, "stopped" if failure is None else "failed", failure)
        self._tell(step.Ended(run_id, failure))

    async def _diagnosed(self, run_id: str, prepared: Prepared, exit_: RunExit) -> Failure:
        try:
            return await asyncio.to_thread(self._diagnose, run_id, prepared, exit_.exit_code, exit_.signal)
        except Exception as error:
            log.exception("the end of %s could not be diagnosed", run_id)
            return failure_of(error, prepared.profile.id, "ended")

    def _diagnose(self, run_id: str, prepared: Prepared, exit_code: int | None, signal: int | None) -> Failure:
        phase = self._state.phase
        failure = diagnose(
            last_lines(Path(self._book.views[run_id].log_path)),
            run_id=run_id,
            profile_id=prepared.profile.id,
            phase=phase.stage if isinstance(phase, Loading) else type(phase).__name__.lower(),
            exit_code=exit_code,
            signal=signal,
            asked_to_stop=False,
            patterns=prepared.family.failures,
        )
        return self._book.redacted(run_id, failure)

    async def _inspect(self, run_id: str) -> None:
        """Ended is told by the end's own watcher; here who is left is looked at, and a launch that never was is ended."""
        prepared = self._book.prepared.get(run_id)
        handle = prepared.handle if prepared is not None else None
        found = await asyncio.to_thread(handle.processes) if handle is not None else []
        if found:
            self._tell(step.Survived(run_id, tuple(describe(process) for process in found)))
        elif prepared is None or prepared.launch_failed or (handle is not None and handle.is_over):
            self._tell(step.Ended(run_id))

    async def _await_drain(self, run_id: str) -> None:
        await self._gateway.drained(run_id)
        self._tell(step.Drained(run_id))

    async def _await_release(self, run_id: str) -> None:
        """Samples until the memory is measured back, or says who holds it; never a fixed wait (I4)."""
        prepared = self._book.prepared.get(run_id)
        expected = prepared.expected if prepared else ()
        deadline = self._clock() + self._budgets.vram_return_seconds
        while expected:
            gpus = await self._sampler.fresh(max_age_seconds=0.0)
            if released(expected, gpus):
                break
            if self._clock() >= deadline:
                self._tell(step.Released(run_id, holders(expected, gpus)))
                return
            await asyncio.sleep(RELEASE_POLL_SECONDS)
        self._tell(step.Released(run_id))

    # --- one run ---

    def _became_ready(self, run_id: str) -> None:
        prepared = self._book.prepared[run_id]
        self._book.keep(replace(self._book.views[run_id], ready_seconds=round(self._clock() - prepared.spawned_at, 3)))
        prepared.ready_watch = self._tasks.start(self._watch_ready(run_id, prepared), f"watch {run_id}")

    async def _watch_ready(self, run_id: str, prepared: Prepared) -> None:
        measured = await measure(run_id, prepared, self._sampler)
        if run_id in self._book.views:
            self._book.keep(replace(self._book.views[run_id], measured_bytes=measured))
        await watch_flow(run_id, self._gateway, lambda: self._settings.supervision.stall_seconds, self._tell)

    def _stop_watching(self, run_id: str) -> None:
        """What watches a load ends with the load, what watches an answering engine with its last answer."""
        prepared = self._book.prepared.get(run_id)
        if prepared is None:
            return
        if not isinstance(self._state.phase, Loading):
            while prepared.load_watch:
                prepared.load_watch.pop().cancel()
        if prepared.ready_watch is not None and not isinstance(self._state.phase, Ready | Stalled | Draining):
            prepared.ready_watch.cancel()

    def _remember_expected(self, prepared: Prepared) -> None:
        sample = prepared.last_seen
        if sample is not None and prepared.handle is not None:
            prepared.expected = expected_from(sample, prepared.handle.spec.id, prepared.before)

    def _leaving_bytes(self, gpus: Gpus) -> dict[str, int]:
        """What the present run would give back: measured now, else as measured when it became ready."""
        run_id = getattr(self._state.phase, "run_id", None)
        view = self._book.views.get(run_id) if run_id else None
        if run_id is None or view is None:
            return {}
        return view.measured_bytes | held_by(run_id, gpus)

    # --- telling ---

    def _publish(self) -> None:
        state = self._state
        run_id = getattr(state.phase, "run_id", None)
        view = SeatView(
            name=self._seat,
            wanted=state.wanted.profile_id if state.wanted else None,
            phase=state.phase,
            run=self._book.views.get(run_id) if run_id else None,
            previous=state.previous.profile_id if state.previous else None,
            notice=state.notice,
            last_failure=state.last_failure,
        )
        self._gateway.set_route(self._route())
        self._board.publish("seats", Seats(seats=(view,)))
        self._board.publish("runs", Runs(runs=tuple(reversed(self._book.views.values()))))
        if state.wanted is None and not run_id:
            self._idle.set()
        else:
            self._idle.clear()

    def _route(self) -> Route:
        """What the gateway may do with requests for this seat now; it routes only by (run, Ready)."""
        state, phase = self._state, self._state.phase
        wanted = state.wanted or state.serving
        profile_id = wanted.profile_id if wanted else ""
        if isinstance(phase, Ready | Stalled):
            prepared = self._book.prepared[phase.run_id]
            return Route(
                seat=self._seat,
                state="ready",
                profile_id=prepared.profile.id,
                run_id=phase.run_id,
                title=prepared.profile.title,
                aliases=prepared.profile.aliases,
                endpoint=phase.endpoint,
                traits=prepared.family.traits,
                api_key=prepared.launch.api_key if prepared.launch else "",
            )
        run_id = getattr(phase, "run_id", "")
        if state.wanted is not None:
            eta = phase.eta_seconds if isinstance(phase, Loading) else None
            reason = f"{profile_id} is loading."
            return Route(
                seat=self._seat,
                state="draining" if isinstance(phase, Draining) else "loading",
                profile_id=profile_id,
                run_id=run_id,
                reason=reason,
                eta_seconds=eta,
            )
        failure = state.last_failure
        reason = failure.summary if failure else "No model is loaded."
        return Route(seat=self._seat, state="none", profile_id="", run_id=run_id, reason=reason)

    async def close(self) -> None:
        """Unloads and waits until nothing is left; the wish is forgotten, for this end is asked for."""
        self._stopping = True
        budgets = self._budgets
        seconds = (
            budgets.drain_seconds + budgets.stop_grace_seconds + budgets.kill_seconds + budgets.vram_return_seconds
        )
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds + 5):
                await self.unload()
                await self._idle.wait()
        await self._remember(None)
        with suppress(TimeoutError):
            async with asyncio.timeout(5):
                await self._book.close()
        await self._tasks.close()


# --- small decisions -------------------------------------------------------------------------------------------------


def describe(process: processes.ProcessView) -> str:
    waiting = f", waiting in {process.wchan}" if process.wchan else ""
    return f"pid {process.pid} {process.name}, state {process.state}{waiting}"


def wanted_json(wanted: Wanted) -> str:
    return msgspec.json.encode(wanted).decode()


def wanted_from(text: str) -> Wanted | None:
    try:
        return msgspec.json.decode(text, type=Wanted)
    except msgspec.DecodeError:
        return None
