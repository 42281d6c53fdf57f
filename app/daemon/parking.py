"""Puts an engine to sleep and wakes it: asks its own port, and believes the measured memory rather than the answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import aiohttp

from app.core import seat as step
from app.core.errors import BadRequest
from app.core.ledger import without
from app.core.lifecycle import Ready
from app.core.parking import PROMPTS_KEPT, freed_bytes, is_asleep, level_for, no_room_to_wake
from app.core.seat import Budgets, SeatState
from app.core.snapshot import DriverState
from app.daemon import kept_prompts
from app.daemon.gpu import GpuSampler
from app.daemon.preparing import Prepared
from app.daemon.watching import held_by, watch_ready
from app.engines.base import Launch
from app.engines.sleeping import Ask, Sleep, sleep_of

if TYPE_CHECKING:
    from app.daemon.effects import Parts  # which carries sleep out by this module

log = logging.getLogger(__name__)

POLL_SECONDS = 0.1


class NotDone(Exception):
    """Why it could not be put to sleep or woken: a sentence."""


class Sleeper:
    """Carries out for one seat what has to do with sleep, and tells what came of it."""

    def __init__(
        self,
        seat: str,
        parts: Parts,
        state: Callable[[], SeatState],
        budgets: Callable[[], Budgets],
        tell: Callable[[step.Event], None],
        held_beside: Callable[[], Awaitable[Mapping[str, Mapping[str, int]]]],
    ) -> None:
        self._seat = seat
        self._parts = parts
        self._state = state
        self._budgets = budgets
        self._tell = tell
        self._held_beside = held_beside

    def park_level(self, asked: int | None) -> int:
        """How deep the present model would sleep, 0 = it is unloaded; raises BadRequest or DoesNotFit."""
        prepared = self._parts.book.prepared.get(getattr(self._state().phase, "run_id", ""))
        if prepared is None:
            return 0
        if sleep_calls(prepared) is None:
            if asked:
                raise BadRequest(
                    f"{prepared.profile.title} cannot sleep: its engine has no sleep, or was loaded without `sleep_mode`.",
                    "Without a level it is unloaded, and the next request loads it again.",
                )
            return PROMPTS_KEPT if kept_prompts.folder_of(prepared) is not None else 0
        weights = prepared.card.facts.weights_bytes if prepared.card.facts is not None else 0
        headroom = self._parts.settings().memory.host_headroom_bytes
        return level_for(asked, weights, self._parts.sampler.latest.host, headroom)

    def idle_parking(self) -> int:
        """The level at which the present model sleeps when it is idle; 0 = it is unloaded."""
        if not isinstance(self._state().phase, Ready):
            return 0
        level = self.park_level(None)
        return level if level == PROMPTS_KEPT or self._parts.settings().supervision.park_when_idle else 0

    async def park(self, run_id: str, level: int) -> None:
        prepared, budget = self._parts.book.prepared[run_id], self._budgets().park_seconds
        if level == PROMPTS_KEPT:
            await kept_prompts.keep(prepared, budget)
            self._tell(step.ParkFailed(run_id, ""))
            return
        try:
            freed = await put_to_sleep(run_id, prepared, level, self._parts.sampler, self._parts.clock, budget)
        except NotDone as error:
            self._tell(step.ParkFailed(run_id, str(error)))
            return
        except Exception:  # whatever went wrong, the seat must hear of it (I7)
            log.exception("%s could not be put to sleep", run_id)
            self._tell(step.ParkFailed(run_id, "It could not be put to sleep and was unloaded."))
            return
        self._tell(step.Parked(run_id, freed))

    async def wake(self, run_id: str) -> None:
        """Only into memory that is free now (I4); what cannot be woken is loaded anew, by the rules of a load."""
        prepared, began, ledger = self._parts.book.prepared[run_id], self._parts.clock(), self._parts.ledger
        held, gpus = await self._held_beside(), await self._parts.sampler.fresh(max_age_seconds=0.0)
        held = {run: {**held.get(run, {}), **held_by(run, gpus)} for run in ledger.runs_beside(self._seat)}
        free = without(gpus, ledger.outstanding(self._seat, gpus, held))
        headroom = self._parts.settings().memory.headroom_bytes
        why = no_room_to_wake(prepared.awake_bytes, held_by(run_id, gpus), free, headroom)
        if why:
            self._tell(step.WakeFailed(run_id, f"{why} It is loaded again as soon as it fits."))
            return
        ledger.promise(self._seat, run_id, prepared.awake_bytes)
        try:
            await _ask_to_wake(prepared, self._budgets().wake_seconds)
        except NotDone as error:
            self._tell(step.WakeFailed(run_id, str(error)))
            return

        def told(event: step.Event) -> None:
            if isinstance(event, step.Answered):
                prepared.wake_seconds = round(self._parts.clock() - began, 3)
                self._tell(event)
            elif isinstance(event, step.LoadFailed):
                self._tell(step.WakeFailed(run_id, event.failure.summary))

        await watch_ready(run_id, prepared, told)


def sleep_calls(prepared: Prepared) -> Sleep | None:
    """How this run sleeps; None where its engine cannot, or was not started so that it can."""
    if prepared.launch is None or prepared.installation.accelerator == "cpu":
        return None
    return sleep_of(
        prepared.family.id, prepared.profile.settings
    )  # asked at each event of a seat: nothing is solved here


async def put_to_sleep(
    run_id: str, prepared: Prepared, level: int, sampler: GpuSampler, clock: Callable[[], float], seconds: float
) -> int:
    """Returns how many bytes of the cards came back, measured. Raises NotDone when they did not within `seconds`."""
    calls = sleep_calls(prepared)
    if calls is None or level not in calls.sleep or prepared.launch is None:
        raise NotDone("It cannot sleep and was unloaded.")
    gpus = await sampler.fresh(max_age_seconds=0.0)
    awake = held_by(run_id, gpus)
    deadline = clock() + seconds
    try:
        await ask(prepared.launch, calls.sleep[level], seconds)
    except NotDone as error:
        raise NotDone(f"It could not be put to sleep and was unloaded: {error}") from error
    while gpus.driver is DriverState.OK:
        gpus = await sampler.fresh(max_age_seconds=0.0)
        held = held_by(run_id, gpus)
        if is_asleep(awake, held):
            break
        if clock() >= deadline:
            raise NotDone("It was asked to sleep but kept its memory, so it was unloaded.")
        await asyncio.sleep(POLL_SECONDS)
    prepared.awake_bytes, prepared.sleep_level = awake, level
    return freed_bytes(awake, held_by(run_id, gpus))


async def _ask_to_wake(prepared: Prepared, seconds: float) -> None:
    """Returns when the engine has done all that waking takes; whether it answers is another question."""
    calls = sleep_calls(prepared)
    if calls is None or prepared.launch is None:
        raise NotDone("It cannot be woken; it is loaded again.")
    try:
        await ask(prepared.launch, calls.wake[prepared.sleep_level], seconds)
    except NotDone as error:
        raise NotDone(f"It could not be woken and is loaded again: {error}") from error


async def ask(launch: Launch, asks: Iterable[Ask], seconds: float) -> None:
    """Each request after the answer of the one before; raises NotDone with the engine's own words."""
    headers = {"Authorization": f"Bearer {launch.api_key}"} if launch.api_key else {}
    timeout = aiohttp.ClientTimeout(total=seconds)
    async with aiohttp.ClientSession(headers=headers, timeout=timeout, trust_env=False) as session:
        for each in asks:
            try:
                url = f"http://{launch.host}:{launch.port}{each.path}"
                async with session.post(url, json=each.body or None, allow_redirects=False) as answer:
                    said = (await answer.content.read(2_000)).decode("utf-8", "replace").strip()
                    if answer.status != 200:
                        raise NotDone(f"the engine answered {answer.status} to {each.path}. {said[:200]}".strip())
            except TimeoutError as error:
                raise NotDone(f"the engine did not answer {each.path} within {seconds:.0f} s.") from error
            except (aiohttp.ClientError, OSError) as error:
                raise NotDone(f"the engine did not answer {each.path} ({type(error).__name__}).") from error
