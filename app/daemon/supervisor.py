"""Owns one seat: reads its mailbox, asks `advance` what to do, and carries the effects out."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec
from msgspec.structs import replace

from app.core import advance as step
from app.core.advance import Budgets, SeatState, Wanted, due
from app.core.diagnosis import diagnose
from app.core.errors import DoesNotFit, EngineNotInstalled, EngineRoomError, ModelMissing
from app.core.lifecycle import Draining, Failure, Loading, Ready, Stalled
from app.core.memory import plan as plan_memory
from app.core.memory.plan_types import MemoryPlan, Verdict
from app.core.options import Scalar
from app.core.profiles import Profile
from app.core.redaction import masked, masked_environment, secrets_of
from app.core.release import Expected, expected_from, holders, released
from app.core.settings import Settings
from app.core.snapshot import DriverState, Gpus, ProfileCard, Runs, RunView, Seats, SeatView
from app.daemon import processes
from app.daemon.board import Board
from app.daemon.database import Database
from app.daemon.events import EventLog
from app.daemon.gateway import Gateway, Route
from app.daemon.gpu import GpuSampler
from app.daemon.installations import Installations
from app.daemon.library import Library
from app.daemon.logtail import LogTail, last_lines
from app.daemon.probe import Probe, WrongEngine
from app.daemon.runs import RunEnd, RunHandle, RunSpec
from app.daemon.runs import Runs as Custody
from app.daemon.tasks import Tasks
from app.engines.base import Command, EngineFamily, Installation, Launch
from app.engines.registry import FAMILIES

log = logging.getLogger(__name__)

LOG_POLL_SECONDS = 0.05
SIGN_OF_LIFE_SECONDS = 1.0
RELEASE_POLL_SECONDS = 0.1
QUIET_POLL_SECONDS = 1.0
ETA_SECONDS = 0.5
PORT_ATTEMPTS = 3


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


class _Prepared:
    """What a run needs between admission and its end; one per run id."""

    def __init__(self, card: ProfileCard, profile: Profile, installation: Installation, plan: MemoryPlan) -> None:
        self.card = card
        self.profile = profile
        self.installation = installation
        self.plan = plan
        self.before: Gpus | None = None
        self.last_seen: Gpus | None = None
        self.launch: Launch | None = None
        self.command: Command | None = None
        self.handle: RunHandle | None = None
        self.kill_when_spawned = False
        self.asked_to_stop = False
        self.watch: list[asyncio.Task[None]] = []
        self.spawned_at = 0.0
        self.usual_ready_seconds: float | None = None
        self.expected: tuple[Expected, ...] = ()


class Supervisor:
    """Callers ask for outcomes (`want`, `unload`, `restart`); what happens is seen on the board."""

    def __init__(
        self,
        *,
        seat: str,
        settings: Settings,
        library: Library,
        installations: Installations,
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
        self._library = library
        self._installations = installations
        self._sampler = sampler
        self._custody = custody
        self._gateway = gateway
        self._board = board
        self._database = database
        self._events = events
        self._runs_folder = runs_folder
        self._clock = clock
        self._tasks = Tasks()
        self._mailbox: asyncio.Queue[tuple[step.Event, asyncio.Future[Failure | None] | None]] = asyncio.Queue()
        prefix = time.strftime("%Y%m%d-%H%M%S-") + secrets.token_hex(2)
        self._state = SeatState(run_prefix=prefix)
        self._prepared: dict[str, _Prepared] = {}
        self._views: dict[str, RunView] = {}
        self._idle = asyncio.Event()
        self._idle.set()

    # --- what callers ask ---

    async def want(self, profile_id: str, settings: Mapping[str, Scalar] | None = None, override: bool = False) -> None:
        """Returns when the wish is taken; raises UnknownProfile, ModelMissing, EngineNotInstalled or DoesNotFit."""
        wanted = Wanted(profile_id=profile_id, settings=dict(settings or {}), override=override)
        card, profile, installation = self._resolve(wanted)
        plan = await self._plan(card, profile, installation, await self._sampler.fresh(), leaving=True)
        refusal = await self._ask(step.Want(wanted=wanted, plan=plan))
        if refusal is not None:
            raise DoesNotFit(refusal.summary, refusal.advice)
        await self._database.remember(f"wanted:{self._seat}", wanted_json(wanted))

    async def unload(self) -> None:
        await self._database.remember(f"wanted:{self._seat}", None)
        await self._ask(step.Want(wanted=None))

    async def restart(self) -> None:
        await self._ask(step.Restart())

    async def price(self, profile_id: str, settings: Mapping[str, Scalar] | None = None) -> MemoryPlan:
        """The plan of a load as it would be admitted now, with the leaving model credited; starts nothing."""
        card, profile, installation = self._resolve(Wanted(profile_id=profile_id, settings=dict(settings or {})))
        return await self._plan(card, profile, installation, await self._sampler.fresh(), leaving=True)

    def command_of(self, profile_id: str) -> tuple[Command, Profile]:
        """The exact argv and environment of a launch; the port, chosen at launch, is 0."""
        card, profile, installation = self._resolve(Wanted(profile_id=profile_id))
        family = FAMILIES[profile.engine]
        return family.command(self._launch(card, profile, installation, "command", 0)), profile

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
        return self._views.get(run_id)

    def secrets_of(self, run_id: str) -> tuple[str, ...]:
        prepared = self._prepared.get(run_id)
        if prepared is None or prepared.command is None:
            return ()
        return (*prepared.command.secrets, *secrets_of(prepared.profile.environment))

    def take_over(self, settings: Settings) -> None:
        """Budgets and limits may change while running: the next decision uses them."""
        self._settings = settings
        self._budgets = budgets_from(settings)

    # --- the owner ---

    async def run(self) -> None:
        """The one loop that owns the seat; ends by cancellation."""
        for run in reversed(await self._database.runs()):
            self._views[run.id] = run
        self._publish()
        while True:
            event, reply = await self._next()
            self._step(event, reply)

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
        self._state, effects = step.advance(before, event, self._clock(), self._budgets)
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
        if not isinstance(self._state.phase, Loading):
            self._stop_watching(run_id, keep_ready=isinstance(self._state.phase, Ready | Stalled | Draining))
        self._events.transition(self._seat, source, target, type(event).__name__, run_id)

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
                self._end(run_id, gently=True)
            case step.Kill(run_id):
                self._end(run_id, gently=False)
            case step.Inspect(run_id):
                self._tasks.start(self._inspect(run_id), f"inspect {run_id}")
            case step.AwaitRelease(run_id):
                self._tasks.start(self._await_release(run_id), f"release {run_id}")
            case step.Refuse():
                pass

    async def _reserve(self, run_id: str, wanted: Wanted) -> None:
        try:
            card, profile, installation = self._resolve(wanted)
            gpus = await self._sampler.fresh()
            plan = await self._plan(card, profile, installation, gpus, leaving=False)
        except EngineRoomError as error:
            self._tell(step.NotAdmitted(run_id, failure_of(error, wanted.profile_id, "reserving")))
            return
        if plan.verdict is Verdict.DOES_NOT_FIT and not wanted.override:
            self._tell(step.NotAdmitted(run_id, step.does_not_fit(wanted.profile_id, plan)))
            return
        if wanted.override:
            plan = replace(plan, overridden=True)
        prepared = _Prepared(card, profile, installation, plan)
        prepared.before = gpus
        prepared.usual_ready_seconds = await self._database.ready_seconds(wanted.profile_id)
        self._prepared[run_id] = prepared
        self._tell(step.Admitted(run_id))

    async def _spawn(self, run_id: str) -> None:
        prepared = self._prepared[run_id]
        try:
            spec = self._spec(run_id, prepared)
            self._keep(run_id, self._first_view(run_id, prepared, spec))
            handle = await self._custody.launch(spec)
        except (EngineRoomError, OSError) as error:
            failure = failure_of(error, prepared.profile.id, "spawning")
            self._finish_view(run_id, "failed", failure)
            self._tell(step.SpawnFailed(run_id, failure))
            return
        prepared.handle = handle
        prepared.spawned_at = self._clock()
        self._tasks.start(self._watch_end(run_id, handle), f"end of {run_id}")
        self._keep(run_id, replace(self._views[run_id], pid=handle.pid))
        if prepared.kill_when_spawned:
            handle.kill()
        self._tell(step.Spawned(run_id))
        for work, name in ((self._watch_log(run_id), "log"), (self._watch_probe(run_id), "probe")):
            prepared.watch.append(self._tasks.start(work, f"{name} of {run_id}"))

    def _end(self, run_id: str, *, gently: bool) -> None:
        prepared = self._prepared[run_id]
        prepared.asked_to_stop = True
        self._remember_expected(run_id)
        if prepared.handle is None:
            prepared.kill_when_spawned = True
        elif gently:
            prepared.handle.stop()
        else:
            prepared.handle.kill()

    async def _watch_end(self, run_id: str, handle: RunHandle) -> None:
        end = await handle.ended()
        self._ended(run_id, end)

    def _ended(self, run_id: str, end: RunEnd) -> None:
        if end.survivors:
            self._tell(step.Survived(run_id, tuple(describe(process) for process in end.survivors)))
            return
        prepared = self._prepared[run_id]
        phase = self._state.phase
        lines = last_lines(Path(self._views[run_id].log_path))
        failure = None
        if not prepared.asked_to_stop:
            failure = diagnose(
                lines,
                run_id=run_id,
                profile_id=prepared.profile.id,
                phase=phase.stage if isinstance(phase, Loading) else type(phase).__name__.lower(),
                exit_code=end.exit_code,
                signal=end.signal,
                asked_to_stop=False,
                patterns=FAMILIES[prepared.profile.engine].failures,
            )
            failure = self._masked_failure(run_id, failure)
            self._remember_expected(run_id)
        self._finish_view(run_id, "stopped" if failure is None else "failed", failure)
        self._tell(step.Ended(run_id, failure))

    async def _inspect(self, run_id: str) -> None:
        found = await asyncio.to_thread(processes.of_run, run_id)
        if found:
            self._tell(step.Survived(run_id, tuple(describe(process) for process in found)))
        else:
            self._tell(step.Ended(run_id))

    async def _await_drain(self, run_id: str) -> None:
        await self._gateway.drained(run_id)
        self._tell(step.Drained(run_id))

    async def _await_release(self, run_id: str) -> None:
        """Samples until the memory is measured back, or says who holds it; never a fixed wait (I4)."""
        prepared = self._prepared.get(run_id)
        expected = prepared.expected if prepared else ()
        deadline = self._clock() + self._budgets.vram_return_seconds
        while expected:
            gpus = await self._sampler.fresh(max_age_seconds=0.0)
            if released(expected, gpus, run_id):
                break
            if self._clock() >= deadline:
                self._tell(step.Released(run_id, holders(expected, gpus, run_id)))
                return
            await asyncio.sleep(RELEASE_POLL_SECONDS)
        self._tell(step.Released(run_id))

    # --- watching one run ---

    async def _watch_log(self, run_id: str) -> None:
        """News of a load: its stages, any growth of its log, any work of its processes (I12: slow is not dead)."""
        prepared = self._prepared[run_id]
        family = FAMILIES[prepared.profile.engine]
        tail = LogTail(Path(self._views[run_id].log_path))
        looked_at, resident, told = self._clock(), -1, -1.0
        while True:
            stage, progress, alive = None, None, False
            for _, line in tail.lines():
                alive = True
                news = family.stage_of(line)
                if news is not None:
                    stage, progress = news.name, news.progress if news.progress is not None else progress
            now = self._clock()
            if now - looked_at >= SIGN_OF_LIFE_SECONDS:
                looked_at = now
                grown = await asyncio.to_thread(self._resident, run_id)
                alive, resident = alive or grown != resident, grown
            if alive or now - told >= ETA_SECONDS:
                told = now
                estimate, eta = self._estimate(prepared, progress)
                if alive:
                    self._tell(step.Heard(run_id=run_id, stage=stage, progress=estimate, eta_seconds=eta))
            await asyncio.sleep(LOG_POLL_SECONDS)

    def _estimate(self, prepared: _Prepared, progress: float | None) -> tuple[float | None, float | None]:
        """Progress and time left, learnt from earlier starts of the profile; the log's own progress where there is none."""
        usual = prepared.usual_ready_seconds
        if usual is None:
            return progress, None
        elapsed = self._clock() - prepared.spawned_at
        return min(0.97, elapsed / usual) if usual > 0 else progress, max(0.0, usual - elapsed)

    def _resident(self, run_id: str) -> int:
        return processes.resident_bytes([process.pid for process in processes.of_run(run_id)])

    async def _watch_probe(self, run_id: str) -> None:
        prepared = self._prepared[run_id]
        assert prepared.launch is not None

        async def owner(port: int) -> int | None:
            return await asyncio.to_thread(processes.listener_owner, port)

        async def is_ours(pid: int) -> bool:
            found = await asyncio.to_thread(processes.of_run, run_id)
            return pid in {process.pid for process in found}

        probe = Probe(
            prepared.launch,
            FAMILIES[prepared.profile.engine],
            owner,
            is_ours,
            heard=lambda stage: self._tell(step.Heard(run_id=run_id, stage=stage)),
        )
        try:
            endpoint = await probe.ready()
        except WrongEngine as error:
            self._tell(step.LoadFailed(run_id, error.failure))
            return
        self._tell(step.Answered(run_id, endpoint))

    def _became_ready(self, run_id: str) -> None:
        prepared = self._prepared[run_id]
        view = replace(self._views[run_id], ready_seconds=round(self._clock() - prepared.spawned_at, 3))
        self._keep(run_id, view)
        prepared.watch.append(self._tasks.start(self._watch_ready(run_id), f"watch {run_id}"))

    async def _watch_ready(self, run_id: str) -> None:
        """Measures what the run holds, and notices when an answer stops flowing (shown, never killed for it: I10)."""
        prepared = self._prepared[run_id]
        measured = await self._measure(run_id)
        if run_id in self._views:
            self._keep(run_id, replace(self._views[run_id], measured_bytes=measured))
        while True:
            await asyncio.sleep(QUIET_POLL_SECONDS)
            prepared.last_seen = self._sampler.latest
            quiet = self._gateway.quiet_seconds(run_id)
            stalled = isinstance(self._state.phase, Stalled)
            if quiet is not None and quiet > self._settings.supervision.stall_seconds and not stalled:
                self._tell(step.Quiet(run_id))
            elif stalled and (quiet is None or quiet < QUIET_POLL_SECONDS * 2):
                self._tell(step.Flowing(run_id))

    async def _measure(self, run_id: str) -> dict[str, int]:
        gpus = await self._sampler.fresh()
        self._prepared[run_id].last_seen = gpus
        measured = {"host": await asyncio.to_thread(self._resident, run_id)}
        for gpu in gpus.gpus:
            ours = [p.bytes for p in gpu.processes or () if p.run_id == run_id and p.bytes is not None]
            if ours:
                measured[gpu.uuid] = sum(ours)
        return measured

    def _remember_expected(self, run_id: str) -> None:
        """What must come back: from the last sample in which the run was still there."""
        prepared = self._prepared[run_id]
        latest = self._sampler.latest
        sample = latest if _mentions(latest, run_id) else prepared.last_seen
        if sample is not None and sample.driver is DriverState.OK:
            prepared.expected = expected_from(sample, run_id, prepared.before)

    def _stop_watching(self, run_id: str, *, keep_ready: bool) -> None:
        prepared = self._prepared.get(run_id)
        if prepared is None:
            return
        for task in prepared.watch:
            if not keep_ready or not task.get_name().startswith("watch"):
                task.cancel()
        prepared.watch = [task for task in prepared.watch if not task.done() and not task.cancelling()]

    # --- building values ---

    def _resolve(self, wanted: Wanted) -> tuple[ProfileCard, Profile, Installation]:
        card = self._library.card(wanted.profile_id)
        profile = self._library.merged(card, wanted.settings)
        if not card.available:
            problem = card.problem
            raise ModelMissing(
                problem.summary if problem else f"The model of {profile.id} is not on this machine.",
                problem.advice if problem else "Put the file there, or choose another profile.",
            )
        family = FAMILIES[profile.engine]
        installation = self._installations.find(family.id)
        if installation is None:
            raise EngineNotInstalled(f"{family.title} is not installed.", family.how_to_get())
        return card, profile, installation

    async def _plan(
        self, card: ProfileCard, profile: Profile, installation: Installation, gpus: Gpus, *, leaving: bool
    ) -> MemoryPlan:
        return plan_memory(
            card.facts,
            profile.settings,
            family=profile.engine,
            accelerator=installation.accelerator,
            gpus=gpus,
            headroom_bytes=self._settings.memory.headroom_bytes,
            host_headroom_bytes=self._settings.memory.host_headroom_bytes,
            threshold=self._settings.memory.threshold,
            leaving_bytes=self._leaving_bytes(gpus) if leaving else {},
            our_run_ids=tuple(self._prepared),
        )

    def _leaving_bytes(self, gpus: Gpus) -> dict[str, int]:
        """What the present run would give back: measured now, else as measured when it became ready."""
        run_id = getattr(self._state.phase, "run_id", None)
        view = self._views.get(run_id) if run_id else None
        if run_id is None or view is None:
            return {}
        found = dict(view.measured_bytes)
        for gpu in gpus.gpus:
            ours = [p.bytes for p in gpu.processes or () if p.run_id == run_id and p.bytes is not None]
            if ours:
                found[gpu.uuid] = sum(ours)
        return found

    def _launch(
        self, card: ProfileCard, profile: Profile, installation: Installation, run_id: str, port: int
    ) -> Launch:
        gpus = self._sampler.latest.gpus
        return Launch(
            profile=profile,
            model_path=card.model_path,
            installation=installation,
            port=port,
            run_id=run_id,
            model_name=profile.id,
            facts=card.facts,
            gpu_uuids=profile.gpus or tuple(gpu.uuid for gpu in gpus),
            physical_cores=processes.physical_cores(),
        )

    def _spec(self, run_id: str, prepared: _Prepared) -> RunSpec:
        port = free_port()
        launch = self._launch(prepared.card, prepared.profile, prepared.installation, run_id, port)
        command = FAMILIES[prepared.profile.engine].command(launch)
        prepared.launch, prepared.command = launch, command
        return RunSpec(
            id=run_id,
            profile_id=prepared.profile.id,
            title=prepared.profile.title,
            engine=prepared.profile.engine,
            model_path=prepared.card.model_path,
            port=port,
            argv=command.argv,
            environment=engine_environment(os.environ, command, prepared.profile),
            cwd="/",
            log_path=str(self._runs_folder / f"{run_id}.log"),
            grace_seconds=self._settings.supervision.stop_grace_seconds,
        )

    def _first_view(self, run_id: str, prepared: _Prepared, spec: RunSpec) -> RunView:
        assert prepared.command is not None
        shown = prepared.command.environment | prepared.profile.environment
        return RunView(
            id=run_id,
            profile_id=prepared.profile.id,
            title=prepared.profile.title,
            engine=prepared.profile.engine,
            engine_build=prepared.installation.build,
            argv=tuple(masked(word.encode()).decode() for word in spec.argv),
            environment=masked_environment(shown),
            log_path=spec.log_path,
            started_at_unix=time.time(),
            port=spec.port,
            plan=prepared.plan,
        )

    def _finish_view(self, run_id: str, outcome: str, failure: Failure | None) -> None:
        view = self._views.get(run_id)
        if view is not None and view.ended_at_unix is None:
            self._keep(run_id, replace(view, outcome=outcome, failure=failure, ended_at_unix=time.time()))

    def _masked_failure(self, run_id: str, failure: Failure) -> Failure:
        """A failure travels and is kept: what it quotes of the log is redacted here, at its birth (I18)."""
        hidden = self.secrets_of(run_id)

        def clean(text: str) -> str:
            return masked(text.encode(), hidden).decode("utf-8", "replace")

        evidence = failure.evidence
        return replace(
            failure,
            summary=clean(failure.summary),
            advice=clean(failure.advice),
            last_lines=tuple(clean(line) for line in failure.last_lines),
            evidence=None if evidence is None else replace(evidence, line=clean(evidence.line)),
        )

    def _keep(self, run_id: str, view: RunView) -> None:
        self._views[run_id] = view
        for old in list(self._views)[: -self._settings.logs.runs_kept]:
            del self._views[old]
        self._tasks.start(self._database.keep_run(view), f"keep {run_id}")
        self._publish()

    # --- telling ---

    def _publish(self) -> None:
        state = self._state
        run_id = getattr(state.phase, "run_id", None)
        view = SeatView(
            name=self._seat,
            wanted=state.wanted.profile_id if state.wanted else None,
            phase=state.phase,
            run=self._views.get(run_id) if run_id else None,
            previous=state.previous.profile_id if state.previous else None,
            notice=state.notice,
            last_failure=state.last_failure,
        )
        self._gateway.set_route(self._route())
        self._board.publish("seats", Seats(seats=(view,)))
        self._board.publish("runs", Runs(runs=tuple(reversed(self._views.values()))))
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
            prepared = self._prepared[phase.run_id]
            family: EngineFamily = FAMILIES[prepared.profile.engine]
            return Route(
                seat=self._seat,
                state="ready",
                profile_id=prepared.profile.id,
                run_id=phase.run_id,
                title=prepared.profile.title,
                aliases=prepared.profile.aliases,
                endpoint=phase.endpoint,
                traits=family.traits,
            )
        run_id = getattr(phase, "run_id", "")
        if state.wanted is not None:
            kind = "draining" if isinstance(phase, Draining) else "loading"
            eta = phase.eta_seconds if isinstance(phase, Loading) else None
            reason = f"{profile_id} is loading."
            return Route(
                seat=self._seat, state=kind, profile_id=profile_id, run_id=run_id, reason=reason, eta_seconds=eta
            )
        failure = state.last_failure
        reason = failure.summary if failure else "No model is loaded."
        return Route(seat=self._seat, state="none", profile_id="", run_id=run_id, reason=reason)

    async def close(self) -> None:
        """Unloads and waits until nothing is left; the wish is forgotten, for this end is asked for."""
        await self.unload()
        budget = (
            self._budgets.drain_seconds
            + self._budgets.stop_grace_seconds
            + self._budgets.kill_seconds
            + self._budgets.vram_return_seconds
            + 5
        )
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), budget)
        await self._tasks.close()


# --- small decisions -------------------------------------------------------------------------------------------------


def engine_environment(inherited: Mapping[str, str], command: Command, profile: Profile) -> dict[str, str]:
    """What the engine sees: ours over the inherited one less what would change it unseen; the profile's own comes last."""
    kept = {
        name: value
        for name, value in inherited.items()
        if not any(fnmatchcase(name, pattern) for pattern in command.scrub)
    }
    return kept | command.environment | profile.environment


def free_port() -> int:
    """A port of the loopback that nobody listens on now; the readiness check proves later that it became ours."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def failure_of(error: BaseException, profile_id: str, phase: str) -> Failure:
    if isinstance(error, EngineRoomError):
        return Failure(kind=error.kind, profile_id=profile_id, phase=phase, summary=error.summary, advice=error.advice)
    return Failure(
        kind="crashed",
        profile_id=profile_id,
        phase=phase,
        summary=f"{profile_id} could not be started: {error}.",
        advice="Look at the service's own log; `engine-room doctor` names it.",
    )


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


def _mentions(gpus: Gpus, run_id: str) -> bool:
    return any(process.run_id == run_id for gpu in gpus.gpus for process in gpu.processes or ())
