"""Owns one seat: reads its mailbox, asks `advance` what to do, and has the effects carried out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress

import msgspec
from msgspec.structs import replace

from app.core import seat as step
from app.core.advance import advance, due
from app.core.errors import DaemonUnreachable, DoesNotFit, EngineFailed, UnknownProfile
from app.core.lifecycle import Draining, Failure, Loading, Ready, Stalled
from app.core.memory.plan_types import MemoryPlan
from app.core.options import Scalar
from app.core.seat import Budgets, SeatState, Wanted
from app.core.settings import Settings
from app.core.snapshot import Gpus, SeatView
from app.daemon.effects import Effects, Parts
from app.daemon.gateway import Route
from app.daemon.tasks import Tasks

log = logging.getLogger(__name__)


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
    """Callers ask for outcomes (`want`, `unload`, `restart`); what happens is seen in `view`."""

    def __init__(self, seat: str, parts: Parts, run_prefix: str, changed: Callable[[], None]) -> None:
        """`changed` is called when `view` has."""
        self.seat = seat
        self._parts = parts
        self._changed = changed
        self._budgets = budgets_from(parts.settings())
        self._tasks = Tasks()
        self._mailbox: asyncio.Queue[tuple[step.Event, asyncio.Future[Failure | None] | None]] = asyncio.Queue()
        self._state = SeatState(run_prefix=run_prefix)
        self._effects = Effects(parts, lambda: self._state, lambda: self._budgets, self._tell)
        self._stopping = False
        self._idle = asyncio.Event()
        self._idle.set()
        self.view = SeatView(name=seat)

    # --- what callers ask ---

    async def want(
        self,
        profile_id: str,
        settings: Mapping[str, Scalar] | None = None,
        override: bool = False,
        as_run: str = "",
    ) -> str:
        """Returns the profile's id when the wish is taken; raises UnknownProfile, ModelMissing, EngineNotInstalled or
        DoesNotFit."""
        self._refuse_when_stopping()
        asked = Wanted(profile_id=profile_id, settings=dict(settings or {}), override=override, as_run=as_run)
        prepared, plan = await self._effects.priced(asked)
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
        _, plan = await self._effects.priced(Wanted(profile_id=profile_id, settings=dict(settings or {})))
        return plan

    async def restore(self) -> None:
        """After an unexpected end of the daemon: wants again what was wanted."""
        kept = await self._parts.database.recall(f"wanted:{self.seat}")
        if kept is None or not self._parts.settings().supervision.restore_last_profile:
            return
        wanted = wanted_from(kept)
        if wanted is not None:
            log.info("loading %s again: it was wanted when the service ended", wanted.profile_id)
            await self._ask(step.Want(wanted=wanted))

    @property
    def state(self) -> SeatState:
        """For display only: whoever wants a change asks for it."""
        return self._state

    def take_over(self) -> None:
        """Budgets and limits may change while running: the next decision uses them."""
        self._budgets = budgets_from(self._parts.settings())

    def note(self, gpus: Gpus) -> None:
        self._effects.note(gpus)

    # --- the owner ---

    async def run(self) -> None:
        """The one loop that owns the seat; ends by cancellation."""
        self.publish()
        while True:
            event, reply = await self._next()
            try:
                self._step(event, reply)
            except Exception:  # the owner must not die of one event: nobody else could end the seat's engine
                log.exception("the seat %s could not take %s", self.seat, type(event).__name__)
                if reply is not None and not reply.done():
                    reply.set_exception(EngineFailed("Engine Room made a mistake.", "Its own log has the details."))

    async def _next(self) -> tuple[step.Event, asyncio.Future[Failure | None] | None]:
        at = due(self._state, self._budgets)
        if at is None:
            return await self._mailbox.get()
        try:
            return await asyncio.wait_for(self._mailbox.get(), max(0.0, at - self._parts.clock()) + 0.001)
        except TimeoutError:
            return step.Tick(), None

    def _step(self, event: step.Event, reply: asyncio.Future[Failure | None] | None) -> None:
        before = self._state
        self._state, effects = advance(before, event, self._parts.clock(), self._budgets)
        moved = type(before.phase) is not type(self._state.phase)
        if moved:
            self._moved(before, event)
        refusal = None
        for effect in effects:
            if isinstance(effect, step.Refuse):
                refusal = effect.failure
            else:
                self._effects.do(effect)
        if moved:
            self._parts.events.done()
        if self._state.wanted != before.wanted:
            self._tasks.start(self._remember(self._state.wanted), f"remember what seat {self.seat} wants")
        if self._state != before:
            self.publish()
        if reply is not None and not reply.done():
            reply.set_result(refusal)

    def _moved(self, before: SeatState, event: step.Event) -> None:
        source, target = type(before.phase).__name__, type(self._state.phase).__name__
        run_id = getattr(self._state.phase, "run_id", "") or getattr(before.phase, "run_id", "")
        log.info("seat %s: %s → %s (%s) %s", self.seat, source, target, type(event).__name__, run_id)
        if isinstance(self._state.phase, Ready) and isinstance(before.phase, Loading):
            self._effects.became_ready(run_id)
        self._effects.stop_watching(run_id)
        self._parts.events.transition(self.seat, source, target, type(event).__name__, run_id)

    async def _remember(self, wanted: Wanted | None) -> None:
        """What is wanted must be known after a crash. A full disk must not stop a switch: it is only not remembered."""
        try:
            await self._parts.database.remember(f"wanted:{self.seat}", wanted_json(wanted) if wanted else None)
        except Exception as error:
            log.warning("what is wanted could not be remembered: %s", error)

    async def _ask(self, event: step.Event) -> Failure | None:
        reply: asyncio.Future[Failure | None] = asyncio.get_running_loop().create_future()
        self._mailbox.put_nowait((event, reply))
        return await reply

    def _tell(self, event: step.Event) -> None:
        self._mailbox.put_nowait((event, None))

    # --- telling ---

    def publish(self) -> None:
        state = self._state
        run_id = getattr(state.phase, "run_id", None)
        self.view = SeatView(
            name=self.seat,
            wanted=state.wanted.profile_id if state.wanted else None,
            phase=state.phase,
            run=self._parts.book.views.get(run_id) if run_id else None,
            previous=state.previous.profile_id if state.previous else None,
            notice=state.notice,
            last_failure=state.last_failure,
        )
        self._parts.gateway.set_route(self._route())
        self._changed()
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
            prepared = self._parts.book.prepared[phase.run_id]
            return Route(
                seat=self.seat,
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
                seat=self.seat,
                state="draining" if isinstance(phase, Draining) else "loading",
                profile_id=profile_id,
                run_id=run_id,
                reason=reason,
                eta_seconds=eta,
            )
        failure = state.last_failure
        reason = failure.summary if failure else "No model is loaded."
        return Route(seat=self.seat, state="none", profile_id="", run_id=run_id, reason=reason)

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
        await self._tasks.settle()
        await self._effects.close()
        await self._tasks.close()


# --- small decisions -------------------------------------------------------------------------------------------------


def wanted_json(wanted: Wanted) -> str:
    return msgspec.json.encode(wanted).decode()


def wanted_from(text: str) -> Wanted | None:
    try:
        return msgspec.json.decode(text, type=Wanted)
    except msgspec.DecodeError:
        return None
