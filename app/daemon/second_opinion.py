"""Asks an engine what a load would take without loading it, one at a time, in the background or for a moment.

Of each profile one load waits for its turn, the latest: whoever turns a dial has no use for what it passed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import threading
from collections.abc import Callable

from msgspec.structs import replace

from app.core.errors import EngineRoomError
from app.core.memory.learning import Opinion
from app.core.memory.plan_types import MemoryPlan, Verdict
from app.core.snapshot import Gpus
from app.daemon.asking import Stopped, ask
from app.daemon.flag_check import KnownFlags
from app.daemon.learning import Learning
from app.daemon.tasks import Tasks
from app.engines.base import Command, Launch
from app.engines.dry_run import LOADS_REALLY, SAID_ALL, dry_run_command
from app.engines.memory_log import dry_figures_of
from app.engines.registry import FAMILIES, engine_of

log = logging.getLogger(__name__)

WAITED_SECONDS = 1.0  # by a plan or a load; the answer that comes later is for the next one
DRY_RUN_SECONDS = 20.0  # on a busy machine; alone it takes tenths of a second
DRY_RUN_BYTES = 16 * 1024**2  # a large vocabulary is printed word by word at that level
DRY_RUN_MEMORY_BYTES = 4 * 1024**3  # of its own; it maps the model's file beside
CARD_BYTES = 1024**3  # a context on the card takes some hundred MiB for the moment, and must not take the last
SILENT_KEPT = 256
MOST_WAITING = 16  # profiles; the one that has waited longest is not asked for then


class SecondOpinion:
    """All methods belong to the event loop; the engine is asked in a thread."""

    def __init__(self, learning: Learning, known_flags: KnownFlags) -> None:
        self._learning = learning
        self._known_flags = known_flags
        self._asking: dict[str, asyncio.Task[None]] = {}  # by subject: the one under way, and those that wait
        self._waiting: dict[str, asyncio.Task[None]] = {}  # by profile, oldest first
        self._silent: dict[str, None] = {}  # subjects of which nothing was heard
        self._stop = threading.Event()
        self._turn = asyncio.Lock()
        self._tasks = Tasks()

    async def close(self) -> None:
        self._stop.set()
        await self._tasks.close()

    async def heard(self, launch_of: Callable[[], Launch], plan: MemoryPlan, gpus: Gpus) -> bool:
        """Whether something was heard of this load that `plan` does not know yet; returns within WAITED_SECONDS.

        Asks once for each load; what comes too late is told by the knowledge's slice.
        """
        subject = plan.subject
        if (
            not subject
            or plan.verdict is Verdict.UNKNOWN
            or self._learning.has_heard(subject)
            or subject in self._silent
        ):
            return False
        task = self._asking.get(subject)
        if task is None:
            try:
                launch = replace(launch_of(), api_key=secrets.token_urlsafe(16))
                command = self._command(launch, gpus)
            except EngineRoomError:
                return False
            if command is None:
                return False
            task = self._asking[subject] = self._tasks.start(self._ask(subject, launch, command), f"dry run {subject}")
            task.add_done_callback(lambda _: self._asking.pop(subject, None))
            self._line_up(launch.profile.id, task)
        await asyncio.wait({task}, timeout=WAITED_SECONDS)
        return self._learning.has_heard(subject)

    def _line_up(self, profile_id: str, task: asyncio.Task[None]) -> None:
        if (passed := self._waiting.pop(profile_id, None)) is not None:
            passed.cancel()
        self._waiting[profile_id] = task
        while len(self._waiting) > MOST_WAITING:
            self._waiting.pop(next(iter(self._waiting))).cancel()

    def _command(self, launch: Launch, gpus: Gpus) -> Command | None:
        if launch.installation.accelerator != "cpu":
            used = [card for card in gpus.gpus if card.uuid in launch.gpu_uuids]
            if any((card.free_bytes or 0) < CARD_BYTES for card in used):
                return None
        return dry_run_command(FAMILIES[launch.profile.engine], launch, self._known_flags(launch.installation))

    async def _ask(self, subject: str, launch: Launch, command: Command) -> None:
        async with self._turn:
            if self._waiting.get(launch.profile.id) is asyncio.current_task():
                del self._waiting[launch.profile.id]  # from here on it is not called off
            try:
                opinion = await asyncio.to_thread(self._answer, subject, launch, command)
            except Stopped:
                return
        if opinion.parts:
            await self._learning.hear(opinion)
            return
        log.info("%s said nothing about the memory of %s", opinion.engine, launch.profile.id)
        self._silent[subject] = None
        while len(self._silent) > SILENT_KEPT:
            self._silent.pop(next(iter(self._silent)))

    def _answer(self, subject: str, launch: Launch, command: Command) -> Opinion:
        nothing = Opinion(subject=subject, engine=engine_of(launch.installation))
        on_processor = launch.installation.accelerator == "cpu"
        try:
            answer = ask(
                command.argv,
                os.environ,
                seconds=DRY_RUN_SECONDS,
                limit_bytes=DRY_RUN_BYTES,
                stop=self._stop,
                until=SAID_ALL,
                added=command.environment,
                memory_bytes=DRY_RUN_MEMORY_BYTES if on_processor else 0,
            )
        except OSError as error:
            log.info("%s cannot be asked: %s", launch.installation.executable, error)
            return nothing
        said = SAID_ALL.search(answer.text.encode())
        if said is None or LOADS_REALLY.search(said.string[: said.end()]):
            return nothing
        text = said.string[: said.end()].decode()
        return replace(nothing, parts=dry_figures_of(text, launch.gpu_uuids if not on_processor else ()))
