"""Owns one seat: reads its mailbox, asks `advance` what to do, and has the effects carried out."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Literal, NamedTuple

import msgspec
from msgspec.structs import replace

from app.core import seat as step
from app.core.advance import advance, due
from app.core.errors import DaemonUnreachable, EngineFailed, EngineRoomError, ErrorReport, UnknownProfile, raised_from
from app.core.lifecycle import (
    AttachedState,
    Draining,
    Failure,
    Killing,
    Loading,
    Parking,
    Ready,
    Reserving,
    Spawning,
    Stalled,
    StopFailed,
    Stopping,
    Waking,
)
from app.core.memory.plan_types import MemoryPlan
from app.core.options import Scalar
from app.core.profiles import launches_alike
from app.core.resting import rest_due
from app.core.seat import Budgets, Resting, SeatState, Wanted
from app.core.seat_steps import WOKEN_BY_A_REQUEST, longest_end_seconds
from app.core.settings import Settings
from app.core.snapshot import Gpus, SeatView
from app.daemon.effects import Effects, Parts
from app.daemon.routing import route_of
from app.daemon.tasks import Tasks

log = logging.getLogger(__name__)

LENT_LOOK_SECONDS = (
    30.0  # no timer tells that the machine was suspended: as late may what was lent come back after that
)


def suspended_seconds() -> float:
    """How long the machine has been suspended since it was started."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)


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
        park_seconds=chosen.park_seconds,
        wake_seconds=chosen.wake_seconds,
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
        self._wishes = itertools.count(1)
        self._mailbox: asyncio.Queue[tuple[step.Event, asyncio.Future[Said] | None]] = asyncio.Queue()
        self._state = SeatState(run_prefix=run_prefix)
        self._effects = Effects(seat, parts, lambda: self._state, lambda: self._budgets, self._tell)
        self._stopping = False
        self._suspended_before = suspended_seconds()
        self._over = asyncio.Event()  # nothing is wanted, and nothing is left or what is left would not end
        self._over.set()
        self._idle_shown = (0.0, 0.0)
        self.view = SeatView(name=seat)

    # --- what callers ask ---

    async def want(
        self,
        profile_id: str,
        settings: Mapping[str, Scalar] | None = None,
        override: bool = False,
        as_run: str = "",
        gpus: tuple[str, ...] = (),
    ) -> str:
        """Returns the profile's id when the wish is taken, or that of a later wish which overtook it; raises UnknownProfile,
        ModelMissing, EngineNotInstalled or DoesNotFit."""
        self._refuse_when_stopping()
        asked = Wanted(
            profile_id=profile_id, settings=dict(settings or {}), override=override, as_run=as_run, gpus=gpus
        )
        number = next(self._wishes)
        choices = await self._effects.choices(asked)
        self._refuse_when_stopping()  # that took its time: nothing is begun behind the last unload
        said = await self._ask(step.Want(choices=choices, number=number))
        if said.refusal is not None:
            raise _error_of(said.refusal)
        return said.wanted or profile_id

    async def begin(self, profile_id: str) -> None:
        """Wants the profile whatever stands in its way: that is then seen as the seat's failure."""
        await self._ask(step.Want(choices=self._effects.unpriced(Wanted(profile_id=profile_id))))

    async def unload(self) -> None:
        await self._ask(step.Want(number=next(self._wishes)))

    async def restart(self) -> None:
        self._refuse_when_stopping()
        self._raise(await self._ask(step.Restart()))

    async def lend(self, seconds: float) -> float:
        """Frees the memory for so long; returns until when (Unix seconds). Raises UnknownProfile when nothing is loaded."""
        self._refuse_when_stopping()
        until_unix = time.time() + seconds
        self._raise(await self._ask(step.Lend(self._parts.clock() + seconds, until_unix)))
        return until_unix

    async def park(self, level: int | None) -> int:
        """Puts the model to sleep, or unloads it where its engine cannot sleep; a request brings it back. Returns the level,
        0 = unloaded. Raises UnknownProfile when nothing is ready, DoesNotFit or BadRequest for a level that cannot be."""
        self._refuse_when_stopping()
        level = self._effects.sleeper.park_level(level)
        self._raise(await self._ask(step.Park(level)))
        return level

    async def give_back(self) -> str:
        """What rests comes back now; returns its profile. Raises UnknownProfile when nothing rests."""
        self._refuse_when_stopping()
        said = await self._ask(step.GiveBack())
        self._raise(said)
        return said.wanted

    def _raise(self, said: Said) -> None:
        if said.refusal is not None:
            raise _error_of(said.refusal)

    def _refuse_when_stopping(self) -> None:
        if self._stopping:
            raise DaemonUnreachable("The service is stopping.", "Start Engine Room again in a moment.")

    async def price(self, wanted: Wanted) -> MemoryPlan:
        """The plan of a load as it would be admitted now, with the leaving model credited; starts nothing."""
        return await self._effects.price(wanted)

    async def restore(self) -> bool:
        """After an unexpected end of the daemon: wants again what was wanted; what was lent before any end goes on being
        lent, and the time that has passed counts. Returns whether there was something."""
        text = await self._parts.database.recall(f"wanted:{self.seat}")
        kept = kept_from(text) if text is not None else None
        if kept is None or not (self._parts.settings().supervision.restore_last_profile or kept.resting == "lent"):
            return False
        wanted = Wanted(
            profile_id=kept.profile_id,
            settings=kept.settings,
            override=kept.override,
            as_run=kept.as_run,
            gpus=kept.gpus,
        )
        if kept.resting:
            log.info("%s goes on resting (%s)", wanted.profile_id, kept.resting)
            left = (kept.until_unix or 0.0) - time.time()
            until = None if kept.resting in WOKEN_BY_A_REQUEST else self._parts.clock() + max(0.0, left)
            await self._ask(step.Rest(wanted, Resting(reason=kept.resting, until=until, until_unix=kept.until_unix)))
        else:
            log.info("loading %s again: it was wanted when the service ended", wanted.profile_id)
            await self._ask(step.Want(choices=self._effects.unpriced(wanted)))
        return True

    @property
    def state(self) -> SeatState:
        """For display only: whoever wants a change asks for it."""
        return self._state

    def take_over(self) -> None:
        """Budgets and limits may change while running: the next decision uses them."""
        self._budgets = budgets_from(self._parts.settings())
        self.look_again()

    def look_again(self) -> None:
        """What a profile or a setting says of idle models may have changed."""
        self._tell(step.Tick())

    def in_use(self, busy: bool) -> None:
        """The gateway: a first request has come, or the last one is over."""
        self._tell(step.InUse(busy))

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

    async def _next(self) -> tuple[step.Event, asyncio.Future[Said] | None]:
        suspended = suspended_seconds() - self._suspended_before
        if suspended > 1.0:
            self._suspended_before += suspended
            return step.Suspended(suspended), None
        at = due(self._state, self._budgets_now())
        if at is None:
            return await self._mailbox.get()
        if self._state.resting is not None and self._state.resting.reason == "lent":
            at = min(at, self._parts.clock() + LENT_LOOK_SECONDS)
        try:
            async with asyncio.timeout(max(0.0, at - self._parts.clock()) + 0.001):
                return await self._mailbox.get()
        except TimeoutError:
            return step.Tick(), None

    def _step(self, event: step.Event, reply: asyncio.Future[Said] | None) -> None:
        before = self._state
        self._state, effects = advance(before, event, self._parts.clock(), self._budgets_now())
        moved = type(before.phase) is not type(self._state.phase)
        if moved:
            self._moved(before, event)
        if (self._state.wanted, self._state.resting) != (before.wanted, before.resting):
            # Before the effects: a reservation asks the database too, and so no engine is spawned for a wish that a
            # killed service would forget.
            self._tasks.start(self._remember(kept_json(self._state)), f"remember what seat {self.seat} wants")
        refusal = None
        for effect in effects:
            if isinstance(effect, step.Refuse):
                refusal = effect.failure
            else:
                self._effects.do(effect)
        if moved:
            self._parts.events.done()
        phase = self._state.phase
        self._parts.ledger.keep(self.seat, phase.run_id if isinstance(phase, MAY_TAKE_MEMORY) else None)
        if self._state != before or isinstance(event, step.Tick):
            self.publish()
        if reply is not None and not reply.done():
            wanted = self._state.wanted
            reply.set_result(Said(refusal, wanted.profile_id if wanted is not None else ""))

    def _budgets_now(self) -> Budgets:
        """Asked before every event, so it raises nothing: a profile that nobody can read must not hold the seat."""
        effects = self._effects
        try:
            idle_seconds, level = effects.idle_unload_seconds(), effects.sleeper.idle_parking()
        except Exception:
            log.exception("how long %s may be idle is not known", self.seat)
            return self._budgets
        return replace(self._budgets, idle_unload_seconds=idle_seconds, idle_parking=level)

    def _moved(self, before: SeatState, event: step.Event) -> None:
        source, target = type(before.phase).__name__, type(self._state.phase).__name__
        run_id = getattr(self._state.phase, "run_id", "") or getattr(before.phase, "run_id", "")
        log.info("seat %s: %s → %s (%s) %s", self.seat, source, target, type(event).__name__, run_id)
        if isinstance(self._state.phase, Ready) and isinstance(before.phase, Loading):
            self._effects.became_ready(run_id)
            self._parts.ledger.settle(self.seat, run_id, self._parts.clock())
        if isinstance(self._state.phase, Ready) and isinstance(before.phase, Waking):
            self._effects.woke(run_id)
            self._parts.ledger.settle(self.seat, run_id, self._parts.clock())
        self._effects.stop_watching(run_id)
        self._parts.events.transition(self.seat, source, target, type(event).__name__, run_id)

    async def _remember(self, kept: str | None) -> None:
        """What is wanted must be known after a crash. A full disk must not stop a switch: it is only not remembered."""
        try:
            await self._parts.database.remember(f"wanted:{self.seat}", kept)
        except Exception as error:
            log.warning("what is wanted could not be remembered: %s", error)

    async def _ask(self, event: step.Event) -> Said:
        reply: asyncio.Future[Said] = asyncio.get_running_loop().create_future()
        self._mailbox.put_nowait((event, reply))
        return await reply

    def _tell(self, event: step.Event) -> None:
        self._mailbox.put_nowait((event, None))

    # --- telling ---

    def publish(self) -> None:
        state, resting = self._state, self._state.resting
        run_id = getattr(state.phase, "run_id", None)
        run = self._parts.book.views.get(run_id) if run_id else None
        self.view = SeatView(
            name=self.seat,
            wanted=state.wanted.profile_id if state.wanted else None,
            phase=state.phase,
            run=run,
            previous=state.previous.profile_id if state.previous else None,
            notice=state.notice or (run.notice if run is not None else ""),
            last_failure=state.last_failure,
            lent_until_unix=resting.until_unix if resting is not None else None,
            outdated=self._outdated(run_id),
            idle_unload_at_unix=self._idle_unload_at_unix(),
            resting=resting.reason if resting is not None else "",
            attached=self._attached(run_id),
        )
        self._parts.gateway.set_route(route_of(self.seat, state, self._parts))
        self._changed()
        if state.wanted is None and (not run_id or isinstance(state.phase, StopFailed)):
            self._over.set()
        else:
            self._over.clear()

    def _attached(self, run_id: str | None) -> AttachedState | None:
        prepared = self._parts.book.prepared.get(run_id) if run_id else None
        hold = prepared.hold if prepared is not None else None
        return hold.watched.state if hold is not None else None

    def _outdated(self, run_id: str | None) -> bool:
        """Whether the profile would start the engine otherwise now; a run that repeats an earlier one is as it was meant."""
        prepared = self._parts.book.prepared.get(run_id) if run_id else None
        wanted = self._state.wanted
        if prepared is None or wanted is None or wanted.as_run:
            return False
        now = self._parts.library.profiles.get(prepared.profile.id)
        return now is not None and not launches_alike(prepared.card.profile, now)

    def _idle_unload_at_unix(self) -> float | None:
        """The wall clock's time of it, the same one for as long as the moment is the same."""
        at = rest_due(self._state, self._budgets_now()) if isinstance(self._state.phase, Ready) else None
        if at is None:
            return None
        if self._idle_shown[0] != at:
            self._idle_shown = (at, time.time() + at - self._parts.clock())
        return self._idle_shown[1]

    async def close(self) -> None:
        """Unloads and waits until nothing is left, or what is left would not end; the wish is forgotten, for this end is asked for."""
        self._stopping = True
        lent = self._state.resting is not None and self._state.resting.reason == "lent"
        kept = kept_json(self._state) if lent else None  # a lending is a promise: its model comes back after any end
        with suppress(TimeoutError):
            async with asyncio.timeout(longest_end_seconds(self._budgets)):
                await self.unload()
                await self._over.wait()
        await self._remember(kept)
        await self._tasks.settle()
        await self._effects.close()
        await self._tasks.close()


# --- small decisions -------------------------------------------------------------------------------------------------

MAY_TAKE_MEMORY = (
    *(Reserving, Spawning, Loading, Ready, Stalled, Draining, Parking, Waking, Stopping, Killing, StopFailed),
)


class Said(NamedTuple):
    """What the seat says to an event: why not, and what it wants now."""

    refusal: Failure | None
    wanted: str


class Kept(Wanted, frozen=True, kw_only=True):
    """What is wanted, as it is kept for the next start."""

    resting: Literal["", "idle", "parked", "lent", "memory"] = ""
    until_unix: float | None = None


def kept_json(state: SeatState) -> str | None:
    if state.wanted is None:
        return None
    kept = Kept(**msgspec.structs.asdict(state.wanted))
    if state.resting is not None:
        kept = replace(kept, resting=state.resting.reason, until_unix=state.resting.until_unix)
    return msgspec.json.encode(kept).decode()


def kept_from(text: str) -> Kept | None:
    try:
        return msgspec.json.decode(text, type=Kept)
    except msgspec.DecodeError:
        return None


def _error_of(refusal: Failure) -> EngineRoomError:
    if refusal.kind == "nothing_loaded":
        return UnknownProfile(refusal.summary, refusal.advice)
    return raised_from(ErrorReport(kind=refusal.kind, summary=refusal.summary, advice=refusal.advice))
