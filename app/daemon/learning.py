"""Owns what launches and dry runs have taught about memory: kept in the database, told to everybody as one slice."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path

from app.core.memory.learning import WHOLE, Figure, Knowledge, Observed, Opinion, learn
from app.core.memory.plan_types import MemoryPlan
from app.core.snapshot import RunView
from app.daemon.database import MEMORY_KEPT, Database
from app.daemon.preparing import Prepared
from app.daemon.tasks import Tasks
from app.engines.memory_log import LOG_BYTES, figures_of
from app.engines.registry import engine_of, is_elsewhere

log = logging.getLogger(__name__)

LAUNCH, OPINION = "launch", "opinion"


class Learning:
    """All methods belong to the event loop; a log is read in a thread."""

    def __init__(self, database: Database, publish: Callable[[Knowledge], None]) -> None:
        self._database = database
        self._publish = publish
        self._launches: dict[str, Observed] = {}  # by run, newest first
        self._opinions: dict[str, Opinion] = {}  # by subject, newest first
        self._reading: set[str] = set()  # and what was read
        self._forgotten: frozenset[str] = frozenset()  # what was being read, or had been, when all was forgotten
        self._tasks = Tasks()
        self.knowledge = Knowledge()

    async def start(self) -> None:
        """Reads what is kept; without it plans are the formulas' own."""
        try:
            launches = await self._database.memory(LAUNCH, Observed)
            opinions = await self._database.memory(OPINION, Opinion)
        except Exception:
            log.exception("what was learnt about memory could not be read")
            return
        self._launches = {f"{number} {each.at_unix}": each for number, each in enumerate(launches)} | self._launches
        self._opinions = {each.subject: each for each in opinions} | self._opinions
        self._tell()

    async def close(self) -> None:
        await self._tasks.settle()

    def note(self, run: RunView, prepared: Prepared) -> None:
        """Called whenever a run is kept; it teaches once, when it is ready and measured."""
        if not run.measured_bytes or run.ended_at_unix is not None or run.id in self._reading:
            return
        if run.plan is None or not run.plan.subject or is_elsewhere(prepared.installation):
            return
        self._reading.add(run.id)
        self._tasks.start(self._observe(run, run.plan, prepared), f"learn from {run.id}")

    async def _observe(self, run: RunView, plan: MemoryPlan, prepared: Prepared) -> None:
        text = await asyncio.to_thread(_beginning, Path(run.log_path))
        cards = prepared.launch.gpu_uuids if prepared.launch is not None else ()
        printed = figures_of(run.engine, text, cards, prepared.profile.settings)
        sums = (Figure(device=at, part=WHOLE, bytes=size) for at, size in run.measured_bytes.items() if size > 0)
        found = Observed(
            subject=plan.subject,
            engine=engine_of(prepared.installation),
            at_unix=time.time(),
            predicted=formula_figures(plan),
            measured=(*printed, *sums),
        )
        if run.id in self._forgotten:
            return
        self._launches = {run.id: found, **self._launches}
        while len(self._launches) > MEMORY_KEPT:
            self._launches.popitem()
        self._tell()
        await self._keep(LAUNCH, run.id, found)

    def has_heard(self, subject: str) -> bool:
        return subject in self._opinions

    async def hear(self, opinion: Opinion) -> None:
        self._opinions = {opinion.subject: opinion, **self._opinions}
        while len(self._opinions) > MEMORY_KEPT:
            self._opinions.popitem()
        self._tell()
        await self._keep(OPINION, opinion.subject, opinion)

    async def forget(self) -> int:
        """Back to the formulas; how many launches were forgotten. What runs now does not teach again."""
        count = len(self._launches)
        self._launches, self._opinions = {}, {}
        self._forgotten = frozenset(self._reading)
        await self._database.forget_memory()
        self._tell()
        return count

    async def _keep(self, kind: str, name: str, value: Observed | Opinion) -> None:
        try:
            await self._database.keep_memory(kind, name, time.time(), value)
        except Exception as error:  # the database tells its own trouble
            log.warning("what was learnt about memory could not be written: %s", error)

    def _tell(self) -> None:
        self.knowledge = learn(tuple(self._launches.values()), tuple(self._opinions.values()))
        self._publish(self.knowledge)


def formula_figures(plan: MemoryPlan) -> tuple[Figure, ...]:
    """What the formulas alone said, whatever the plan rests on; parts of one name are one."""
    sums: dict[tuple[str, str], int] = {}
    for device in plan.devices:
        for part in device.parts:
            key = device.device, part.name
            sums[key] = sums.get(key, 0) + (part.bytes if part.formula_bytes is None else part.formula_bytes)
    return tuple(Figure(device=at, part=part, bytes=size) for (at, part), size in sums.items())


def _beginning(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return opened.read(LOG_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
