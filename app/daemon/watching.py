"""Watches one run: the news of its load, whether it is ready, what it holds, and whether its answers still flow."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path

from app.core import seat as step
from app.core.load_time import estimate
from app.core.snapshot import DriverState, Gpus
from app.daemon import processes
from app.daemon.gateway import Gateway
from app.daemon.gpu import GpuSampler
from app.daemon.logtail import LogTail
from app.daemon.ollama_probe import OllamaProbe
from app.daemon.preparing import Prepared, failure_of
from app.daemon.probe import Probe, WrongEngine
from app.engines.placement import placement_notice

LOG_POLL_SECONDS = 0.05
SIGN_OF_LIFE_SECONDS = 1.0
QUIET_POLL_SECONDS = 1.0
OUR_CONTAINER = 0  # in the place of a pid
CARD_VARIABLES = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")

log = logging.getLogger(__name__)

Tell = Callable[[step.Event], None]


async def watch_load(run_id: str, prepared: Prepared, log_path: str, clock: Callable[[], float], tell: Tell) -> None:
    """Any growth of the log and any work of the processes is a sign of life (I12: slow is not dead)."""
    tail = LogTail(Path(log_path))
    looked_at, resident = clock(), -1
    while True:
        stage, progress, alive = None, None, False
        for _, line in tail.lines():
            alive = True
            news = prepared.family.stage_of(line)
            if news is not None:
                stage, progress = news.name, news.progress if news.progress is not None else progress
                prepared.stages.setdefault(news.name, round(clock() - prepared.spawned_at, 3))
        now = clock()
        if now - looked_at >= SIGN_OF_LIFE_SECONDS:
            looked_at = now
            grown = await asyncio.to_thread(signs_of_work, prepared)
            alive, resident = alive or grown != resident, grown
        if alive:
            share, eta = estimate(prepared.earlier_loads, prepared.stages, now - prepared.spawned_at, progress)
            tell(step.Heard(run_id=run_id, stage=stage, progress=share, eta_seconds=eta))
        await asyncio.sleep(LOG_POLL_SECONDS)


def signs_of_work(prepared: Prepared) -> int:
    """A number that changes while an engine loads: its memory; of a container also the time that its client computes,
    because a download of gigabytes prints nothing and grows nobody."""
    found = prepared.handle.processes() if prepared.handle is not None else []
    pids = [process.pid for process in found]
    in_container = prepared.command is not None and prepared.command.container is not None
    return processes.resident_bytes(pids) + (processes.cpu_ticks(pids) if in_container else 0)


def probe_of(engine: str) -> type[Probe]:
    return OllamaProbe if engine == "ollama" else Probe


async def watch_ready(run_id: str, prepared: Prepared, tell: Tell, clock: Callable[[], float] = time.monotonic) -> None:
    """Ends with Answered or LoadFailed; a silent engine is ended by the seat's budgets."""
    assert prepared.launch is not None

    custody = prepared.handle.custody if prepared.handle is not None else None
    stranger = "a program of another account" if custody is None else "something that is not our container"

    async def owner(port: int) -> int | None:
        if custody is not None:  # the port is held by the container engine: it alone knows where it leads
            return OUR_CONTAINER if await asyncio.to_thread(custody.answers_on, port) else None
        return await asyncio.to_thread(processes.listener_owner, port)

    async def is_ours(pid: int) -> bool:
        if pid == OUR_CONTAINER:
            return True
        found = await asyncio.to_thread(prepared.handle.processes) if prepared.handle is not None else []
        return pid in {process.pid for process in found}

    def heard(stage: str) -> None:
        prepared.stages.setdefault(stage, round(clock() - prepared.spawned_at, 3))
        tell(step.Heard(run_id=run_id, stage=stage))

    try:
        endpoint = await probe_of(prepared.profile.engine)(
            prepared.launch, prepared.family, owner, is_ours, heard, stranger
        ).ready()
    except WrongEngine as error:
        tell(step.LoadFailed(run_id, error.failure))
        return
    except Exception as error:  # a fault of ours must not leave a load that nobody watches (I7)
        log.exception("the readiness of %s could not be told", run_id)
        tell(step.LoadFailed(run_id, failure_of(error, prepared.profile.id, "loading")))
        return
    tell(step.Answered(run_id, endpoint))


async def watch_flow(run_id: str, gateway: Gateway, stall_seconds: Callable[[], float], tell: Tell) -> None:
    """Notices when an answer stops flowing: shown, never killed for it (I10)."""
    stalled = False
    while True:
        await asyncio.sleep(QUIET_POLL_SECONDS)
        quiet = gateway.quiet_seconds(run_id)
        if quiet is not None and quiet > stall_seconds() and not stalled:
            stalled = True
            tell(step.Quiet(run_id))
        elif stalled and (quiet is None or quiet < stall_seconds()):
            stalled = False
            tell(step.Flowing(run_id))


async def measure(run_id: str, prepared: Prepared, sampler: GpuSampler) -> dict[str, int]:
    """Bytes that the run holds and would give back: "host" (without file pages) and one entry per card, as far as told."""
    gpus = await sampler.fresh(max_age_seconds=0.0)
    if mentions(gpus, run_id):
        prepared.last_seen = gpus
    handle = prepared.handle
    pids = [process.pid for process in await asyncio.to_thread(handle.processes)] if handle is not None else []
    measured = {"host": processes.anonymous_bytes(pids)}
    return measured | held_by(run_id, gpus)


def misplaced(run_id: str, prepared: Prepared, gpus: Gpus) -> str:
    """A sentence when the engine lies on other cards than it was told to use; "" when it was told none, or nobody knows."""
    told = prepared.command.environment if prepared.command is not None else {}
    selected = next((told[name] for name in CARD_VARIABLES if told.get(name)), "")
    if gpus.driver is not DriverState.OK:
        return ""
    return placement_notice(selected.split(",") if selected else (), run_id, prepared.before, gpus)


def held_by(run_id: str, gpus: Gpus) -> dict[str, int]:
    found = {}
    for gpu in gpus.gpus:
        ours = [p.bytes for p in gpu.processes or () if p.run_id == run_id and p.bytes is not None]
        if ours:
            found[gpu.uuid] = sum(ours)
    return found


def mentions(gpus: Gpus, run_id: str) -> bool:
    return gpus.driver is DriverState.OK and any(p.run_id == run_id for gpu in gpus.gpus for p in gpu.processes or ())
