"""Puts an engine to sleep and wakes it: asks its own port, and believes the measured memory rather than the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import aiohttp

from app.core.parking import freed_bytes, is_asleep
from app.core.snapshot import DriverState
from app.daemon.gpu import GpuSampler
from app.daemon.preparing import Prepared
from app.daemon.watching import held_by
from app.engines.base import Launch
from app.engines.sleeping import Ask, Sleep, sleep_of

POLL_SECONDS = 0.1


class NotDone(Exception):
    """Why it could not be put to sleep or woken: a sentence."""


def sleep_calls(prepared: Prepared) -> Sleep | None:
    """How this run sleeps; None where its engine cannot, or was not started so that it can."""
    if prepared.launch is None:
        return None
    return sleep_of(prepared.family.id, prepared.family.effective_settings(prepared.launch))


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


async def wake(prepared: Prepared, seconds: float) -> None:
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
            except (aiohttp.ClientError, OSError) as error:
                raise NotDone(f"the engine did not answer {each.path} ({type(error).__name__}).") from error
            except TimeoutError as error:
                raise NotDone(f"the engine did not answer {each.path} within {seconds:.0f} s.") from error
