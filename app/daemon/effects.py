"""Carries out what one seat's decision asks for, and tells what came of it as events; decides nothing itself."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from app.core import seat as step
from app.core.diagnosis import diagnose
from app.core.errors import EngineNotInstalled, EngineRoomError, ModelMissing
from app.core.ledger import HOST, Ledger, without
from app.core.lifecycle import Draining, Failure, Loading, Ready, Stalled, Waking
from app.core.load_time import LoadTimes, alike
from app.core.memory.plan_types import MemoryPlan
from app.core.profile_set import fallbacks_of
from app.core.release import expected_from, expected_unseen, holders, released
from app.core.seat import Budgets, SeatState, Wanted
from app.core.seat_words import does_not_fit
from app.core.settings import Settings
from app.core.snapshot import DriverState, Gpus
from app.daemon import kept_prompts, processes
from app.daemon.attaching import Attaching
from app.daemon.database import Database
from app.daemon.events import EventLog
from app.daemon.gateway import Gateway
from app.daemon.gpu import GpuSampler
from app.daemon.keys import Keys
from app.daemon.library import Library
from app.daemon.logtail import last_lines
from app.daemon.parking import Sleeper
from app.daemon.preflight import Preflight
from app.daemon.preparing import Preparation, Prepared, failure_of, first_view
from app.daemon.runbook import RunBook
from app.daemon.runs import RunExit, RunHandle
from app.daemon.runs import Runs as Custody
from app.daemon.second_opinion import SecondOpinion
from app.daemon.tasks import Tasks
from app.daemon.watching import held_by, measure, mentions, misplaced, watch_flow, watch_load, watch_ready

log = logging.getLogger(__name__)

RELEASE_POLL_SECONDS = 0.1
LAST_LOOK_SECONDS = 0.5


class Parts(NamedTuple):
    """What all seats share."""

    settings: Callable[[], Settings]
    library: Library
    preparation: Preparation
    preflight: Preflight
    sampler: GpuSampler
    custody: Custody
    gateway: Gateway
    database: Database
    events: EventLog
    book: RunBook
    ledger: Ledger
    keys: Keys
    clock: Callable[[], float]
    opinion: SecondOpinion


class Effects:
    """One seat's hands. `state` and `budgets` are the seat's at the moment; `tell` puts an event into its mailbox."""

    def __init__(
        self,
        seat: str,
        parts: Parts,
        state: Callable[[], SeatState],
        budgets: Callable[[], Budgets],
        tell: Callable[[step.Event], None],
    ) -> None:
        self._seat = seat
        self._parts = parts
        self._state = state
        self._budgets = budgets
        self._tell = tell
        self._tasks = Tasks()
        self.sleeper = Sleeper(seat, parts, state, budgets, tell, self._held_beside)
        self._attaching = Attaching(seat, parts, tell, self._tasks, lambda: budgets().stop_grace_seconds)

    # --- prices ---

    async def choices(self, wanted: Wanted) -> tuple[step.Choice, ...]:
        """The wish and its fallbacks, each priced now or with why it cannot be loaded at all. What is wrong with the wish
        itself is raised: UnknownProfile, SettingInvalid, …"""
        held, gpus = await self._held_beside(), await self._parts.sampler.fresh(max_age_seconds=0.0)
        first, *others = self._chain(wanted)
        found = []
        for each in (first, *others):
            try:
                prepared = await self._prepare_well(each, gpus, held, self._leaving_bytes(gpus))
                await self._parts.preflight.check(prepared)
                found.append(step.Choice(wanted=each, plan=prepared.plan))
            except EngineRoomError as error:
                if each is first and not isinstance(error, ModelMissing | EngineNotInstalled):
                    raise
                if each is first and not others:
                    raise
                found.append(step.Choice(wanted=each, failure=failure_of(error, each.profile_id, "reserving")))
        return tuple(found)

    def unpriced(self, wanted: Wanted) -> tuple[step.Choice, ...]:
        """The wish and its fallbacks, to be looked at when they are to be loaded; raises nothing."""
        try:
            return tuple(step.Choice(wanted=each) for each in self._chain(wanted))
        except EngineRoomError:
            return (step.Choice(wanted=wanted),)

    def _chain(self, wanted: Wanted) -> tuple[Wanted, ...]:
        card = self._parts.library.card(wanted.profile_id, wanted.as_run)
        wanted = replace(wanted, profile_id=card.profile.id)  # an alias is only another way to say it
        names = fallbacks_of(card.profile.id, self._parts.library.profiles)
        return (wanted, *(Wanted(profile_id=name) for name in names))

    async def price(self, wanted: Wanted) -> MemoryPlan:
        held, gpus = await self._held_beside(), await self._parts.sampler.fresh()
        return self._prepare(wanted, gpus, held, self._leaving_bytes(gpus)).plan

    def _prepare(self, wanted: Wanted, gpus: Gpus, held: Held, leaving_bytes: Mapping[str, int]) -> Prepared:
        """Priced against what is really free: less what other seats' loads have been promised and not yet taken (I4)."""
        card, profile, installation = self._parts.preparation.resolve(wanted)
        ours = tuple(self._parts.book.prepared)
        held = {run: {**held.get(run, {}), **held_by(run, gpus)} for run in self._parts.ledger.runs_beside(self._seat)}
        free = without(gpus, self._parts.ledger.outstanding(self._seat, gpus, held))
        plan = self._parts.preparation.plan(card, profile, installation, free, leaving_bytes, ours)
        prepared = Prepared(card, profile, installation, plan)
        prepared.before = gpus
        return prepared

    async def _prepare_well(self, wanted: Wanted, gpus: Gpus, held: Held, leaving_bytes: Mapping[str, int]) -> Prepared:
        """Before the formulas refuse, the engine itself is asked, as long as that takes a moment; what they admit goes on."""
        prepared = self._prepare(wanted, gpus, held, leaving_bytes)
        if not prepared.plan.is_admitted:
            launch_of = partial(
                self._parts.preparation.launch,
                *(prepared.card, prepared.profile, prepared.installation),
                run_id="dry run",
                port=0,
                gpus=gpus,
            )
            if await self._parts.opinion.heard(launch_of, prepared.plan, gpus):
                prepared = self._prepare(wanted, gpus, held, leaving_bytes)
        return prepared

    async def _held_beside(self) -> Held:
        """What the other seats' runs hold of main memory; asked before the sample, so that it is rather too little."""
        found = {}
        for run_id in self._parts.ledger.runs_beside(self._seat):
            prepared = self._parts.book.prepared.get(run_id)
            if prepared is not None and prepared.handle is not None:
                found[run_id] = {HOST: await asyncio.to_thread(_anonymous_bytes, prepared.handle)}
        return found

    def idle_unload_seconds(self) -> float:
        """How long the present model may be idle, by its profile as it is now and else by the setting; 0 = for ever."""
        phase = self._state().phase
        profile_id = phase.profile_id if isinstance(phase, Ready) else ""
        profile = self._parts.library.profiles.get(profile_id)
        if profile is not None and profile.keep_loaded:
            return 0.0
        own = profile.idle_unload_seconds if profile is not None else None
        return self._parts.settings().supervision.idle_unload_seconds if own is None else float(own)

    # --- what the decision asks for ---

    def do(self, effect: step.Effect) -> None:
        """Begins it; what comes of it is told as an event."""
        if self._attaching.takes(effect):
            self._attaching.do(effect)
            return
        match effect:
            case step.Reserve(run_id, wanted):
                self._tasks.start(self._reserve(run_id, wanted), f"reserve {run_id}")
            case step.LookForRoom(wanted):
                self._tasks.start(self._look_for_room(wanted), f"look for room for {wanted.profile_id}")
            case step.Spawn(run_id, _):
                self._tasks.start(self._spawn(run_id), f"spawn {run_id}")
            case step.AwaitDrain(run_id):
                self._tasks.start(self._await_drain(run_id), f"drain {run_id}")
            case step.CutStreams(run_id):
                self._tasks.start(self._parts.gateway.cut(run_id), f"cut {run_id}")
            case step.ParkEngine(run_id, level):
                self._tasks.start(self.sleeper.park(run_id, level), f"put {run_id} to sleep")
            case step.WakeEngine(run_id):
                waking = self._tasks.start(self.sleeper.wake(run_id), f"wake {run_id}")
                self._parts.book.prepared[run_id].load_watch.append(waking)
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
        earlier = await self._load_times(wanted.profile_id)
        try:
            await self._parts.preflight.check(self._prepare(wanted, await self._parts.sampler.fresh(), {}, {}))
            held, gpus = await self._held_beside(), await self._parts.sampler.fresh(max_age_seconds=0.0)
            prepared = await self._prepare_well(wanted, gpus, held, {})
        except Exception as error:  # whatever went wrong, the seat must hear of it (I7)
            if not isinstance(error, EngineRoomError):
                log.exception("the memory for %s could not be reserved", wanted.profile_id)
            self._tell(step.NotAdmitted(run_id, failure_of(error, wanted.profile_id, "reserving")))
            return
        if not prepared.plan.is_admitted and not wanted.override:
            self._tell(step.NotAdmitted(run_id, does_not_fit(wanted.profile_id, prepared.plan)))
            return
        if wanted.override:
            prepared.plan = replace(prepared.plan, overridden=True)
        if getattr(self._state().phase, "run_id", "") != run_id:
            return  # overtaken: nobody waits for this answer, and nothing may be left of it
        needs = {device.device: device.high_bytes for device in prepared.plan.devices}
        self._parts.ledger.promise(self._seat, run_id, needs)  # no wait between the price and the promise
        self._parts.book.note_environment(prepared.profile.id, prepared.profile.environment)
        prepared.earlier_loads = alike(
            earlier,
            engine_build=prepared.installation.build,
            model=prepared.card.model_path,
            settings=prepared.profile.settings,
        )
        self._parts.book.prepared[run_id] = prepared
        self._tell(step.Admitted(run_id))

    async def _look_for_room(self, wanted: Wanted) -> None:
        try:
            self._tell(step.Room(wanted, await self.price(wanted)))
        except EngineRoomError as error:  # the next look comes by itself
            log.info("there is no room for %s yet: %s", wanted.profile_id, error)

    async def _load_times(self, profile_id: str) -> tuple[LoadTimes, ...]:
        try:
            return await self._parts.database.load_times(profile_id)
        except Exception as error:
            log.warning("earlier load times could not be read: %s", error)
            return ()

    async def _spawn(self, run_id: str) -> None:
        prepared = self._parts.book.prepared[run_id]
        try:
            spec = self._parts.preparation.spec(run_id, prepared, self._parts.sampler.latest, secrets.token_urlsafe(24))
            self._parts.book.keep(replace(first_view(prepared, spec), seat=self._seat))
            handle = await self._parts.custody.launch(spec)
        except Exception as error:  # whatever went wrong, the seat must hear of it (I7)
            if not isinstance(error, EngineRoomError | OSError):
                log.exception("the run %s could not be launched", run_id)
            failure = failure_of(error, prepared.profile.id, "spawning")
            prepared.launch_failed = True
            self._parts.book.finish(run_id, "failed", failure)
            self._tell(step.SpawnFailed(run_id, failure))
            return
        prepared.handle = handle
        prepared.spawned_at = self._parts.clock()
        self._tasks.start(self._watch_end(run_id, handle), f"end of {run_id}")
        self._parts.book.keep(replace(self._parts.book.views[run_id], pid=handle.pid))
        if prepared.kill_when_spawned:
            handle.kill()
        self._tell(step.Spawned(run_id))
        load = watch_load(run_id, prepared, spec.log_path, self._parts.clock, self._tell)
        prepared.load_watch.append(self._tasks.start(load, f"load of {run_id}"))
        ready = self._watch_readiness(run_id, prepared)
        prepared.load_watch.append(self._tasks.start(ready, f"readiness of {run_id}"))

    async def _watch_readiness(self, run_id: str, prepared: Prepared) -> None:
        """What was kept of its conversations is back before anybody is answered."""
        last: list[step.Event] = []
        await watch_ready(
            run_id, prepared, lambda event: self._tell(event) if isinstance(event, step.Heard) else last.append(event)
        )
        if any(isinstance(event, step.Answered) for event in last):
            await kept_prompts.give_back(prepared, self._budgets().wake_seconds)
        for event in last:
            self._tell(event)

    async def _end(self, run_id: str, *, gently: bool) -> None:
        """Asks for the end, after a last look at what the run holds: that is what must come back (I4)."""
        prepared = self._parts.book.prepared[run_id]
        prepared.asked_to_stop = True
        if prepared.handle is None:
            prepared.kill_when_spawned = True
            return
        if prepared.last_seen is None and self._parts.sampler.latest.driver is DriverState.OK:
            self.note(await self._parts.sampler.fresh(max_age_seconds=0.0, timeout_seconds=LAST_LOOK_SECONDS))
        self._remember_expected(prepared)
        if gently:
            prepared.handle.stop()
        else:
            prepared.handle.kill()

    def note(self, gpus: Gpus) -> None:
        """Keeps the last sample in which the present run was seen; called with each sample."""
        run_id = getattr(self._state().phase, "run_id", "")
        prepared = self._parts.book.prepared.get(run_id)
        if prepared is not None and mentions(gpus, run_id):
            prepared.last_seen = gpus

    async def _watch_end(self, run_id: str, handle: RunHandle) -> None:
        exit_ = await handle.exited()
        prepared = self._parts.book.prepared[run_id]
        failure = None
        if not prepared.asked_to_stop:
            failure = await self._diagnosed(run_id, prepared, exit_)
            self._remember_expected(prepared)
            self._tell(step.Exited(run_id, failure))
        end = await handle.ended()
        if left := _left(end.survivors, end.container_left):
            self._tell(step.Survived(run_id, left))
            await handle.cleared()
        self._parts.book.finish(run_id, "stopped" if failure is None else "failed", failure)
        self._tell(step.Ended(run_id, failure))

    async def _diagnosed(self, run_id: str, prepared: Prepared, exit_: RunExit) -> Failure:
        try:
            return await asyncio.to_thread(self._diagnose, run_id, prepared, exit_.exit_code, exit_.signal)
        except Exception as error:
            log.exception("the end of %s could not be diagnosed", run_id)
            return failure_of(error, prepared.profile.id, "ended")

    def _diagnose(self, run_id: str, prepared: Prepared, exit_code: int | None, signal: int | None) -> Failure:
        phase = self._state().phase
        failure = diagnose(
            last_lines(Path(self._parts.book.views[run_id].log_path)),
            run_id=run_id,
            profile_id=prepared.profile.id,
            phase=phase.stage if isinstance(phase, Loading) else type(phase).__name__.lower(),
            exit_code=exit_code,
            signal=signal,
            asked_to_stop=False,
            patterns=prepared.family.failures,
        )
        return self._parts.book.redacted(run_id, failure)

    async def _inspect(self, run_id: str) -> None:
        """Ended is told by the end's own watcher; here who is left is looked at, and a launch that never was is ended."""
        prepared = self._parts.book.prepared.get(run_id)
        handle = prepared.handle if prepared is not None else None
        found = await asyncio.to_thread(handle.processes) if handle is not None else []
        if left := _left(found, handle.container_left if handle is not None else ""):
            self._tell(step.Survived(run_id, left))
        elif prepared is None or prepared.launch_failed or (handle is not None and handle.is_over):
            self._tell(step.Ended(run_id))

    async def _await_drain(self, run_id: str) -> None:
        await self._parts.gateway.drained(run_id)
        self._tell(step.Drained(run_id))

    async def _await_release(self, run_id: str) -> None:
        """Samples until the memory is measured back, or says who holds it; never a fixed wait (I4)."""
        prepared = self._parts.book.prepared.get(run_id)
        expected = prepared.expected if prepared else ()
        deadline = self._parts.clock() + self._budgets().vram_return_seconds
        while expected:
            gpus = await self._parts.sampler.fresh(max_age_seconds=0.0)
            if released(expected, gpus):
                break
            if self._parts.clock() >= deadline:
                self._tell(step.Released(run_id, holders(expected, gpus)))
                return
            await asyncio.sleep(RELEASE_POLL_SECONDS)
        self._tell(step.Released(run_id))

    # --- sleep ---

    def woke(self, run_id: str) -> None:
        prepared = self._parts.book.prepared[run_id]
        self._parts.book.keep(replace(self._parts.book.views[run_id], wake_seconds=prepared.wake_seconds))
        prepared.ready_watch = self._tasks.start(self._watch_ready(run_id, prepared), f"watch {run_id}")

    # --- one run ---

    def became_ready(self, run_id: str) -> None:
        prepared = self._parts.book.prepared[run_id]
        self._parts.book.keep(
            replace(self._parts.book.views[run_id], ready_seconds=round(self._parts.clock() - prepared.spawned_at, 3))
        )
        prepared.ready_watch = self._tasks.start(self._watch_ready(run_id, prepared), f"watch {run_id}")

    async def _watch_ready(self, run_id: str, prepared: Prepared) -> None:
        measured = await measure(run_id, prepared, self._parts.sampler)
        if run_id in self._parts.book.views:
            notice = misplaced(run_id, prepared, self._parts.sampler.latest)
            if notice:
                log.info("%s: %s", run_id, notice)
            view = replace(self._parts.book.views[run_id], measured_bytes=measured, notice=notice)
            self._parts.book.keep(view)
        await watch_flow(
            run_id, self._parts.gateway, lambda: self._parts.settings().supervision.stall_seconds, self._tell
        )

    def stop_watching(self, run_id: str) -> None:
        """What watches a load ends with the load, what watches an answering engine with its last answer."""
        prepared = self._parts.book.prepared.get(run_id)
        if prepared is None:
            return
        if not isinstance(self._state().phase, Loading | Waking):
            while prepared.load_watch:
                prepared.load_watch.pop().cancel()
        if prepared.ready_watch is not None and not isinstance(self._state().phase, Ready | Stalled | Draining):
            prepared.ready_watch.cancel()

    def _remember_expected(self, prepared: Prepared) -> None:
        handle, sample, before = prepared.handle, prepared.last_seen, prepared.before
        if handle is not None and sample is not None:
            prepared.expected = expected_from(sample, handle.spec.id, before)
        elif handle is not None and before is not None:
            planned_bytes = {device.device: device.likely_bytes for device in prepared.plan.devices}
            prepared.expected = expected_unseen(planned_bytes, before, () if handle.pid is None else (handle.pid,))

    def _leaving_bytes(self, gpus: Gpus) -> dict[str, int]:
        """What the present run would give back: measured now, else as measured when it became ready."""
        run_id = getattr(self._state().phase, "run_id", None)
        view = self._parts.book.views.get(run_id) if run_id else None
        if run_id is None or view is None:
            return {}
        return view.measured_bytes | held_by(run_id, gpus)

    async def close(self) -> None:
        await self._tasks.close()


Held = Mapping[str, Mapping[str, int]]  # run → device → bytes


def _anonymous_bytes(handle: RunHandle) -> int:
    return processes.anonymous_bytes([process.pid for process in handle.processes()])


def _left(found: Sequence[processes.ProcessView], container_left: str) -> tuple[str, ...]:
    """What would not end, in words."""
    return (*(describe(process) for process in found), *([container_left] if container_left else []))


def describe(process: processes.ProcessView) -> str:
    waiting = f", waiting in {process.wchan}" if process.wchan else ""
    return f"pid {process.pid} {process.name}, state {process.state}{waiting}"
