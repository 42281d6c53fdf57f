"""Carries out what a seat's decision asks for where the engine was not started by us: the same events, and no process in them.

Spawn attaches, Stop and Kill let go; there is nothing to end, so that is also all that a Kill can do (I5). Meanwhile the
engine is looked at: one that has gone keeps its requests waiting, and is made sure of anew when it is back (I13).
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from msgspec.structs import replace

from app.core import attached
from app.core import seat as step
from app.core.attached import Watched
from app.core.lifecycle import AttachedState, Endpoint
from app.core.release import expected_from
from app.core.snapshot import DriverState, RunView
from app.daemon.attachment import Attachment, Hold, Unfit
from app.daemon.ollama_attachment import OllamaAttachment
from app.daemon.preparing import Prepared, failure_of
from app.daemon.remote_attachment import RemoteAttachment
from app.daemon.tasks import Tasks
from app.engines.base import Launch
from app.engines.registry import FAMILIES

if TYPE_CHECKING:
    from app.daemon.effects import Parts

log = logging.getLogger(__name__)

SIGN_OF_LIFE_SECONDS = 1.0
LAST_LOOK_SECONDS = 0.5
LOOK_LIMIT_SECONDS = 120.0  # longer than all that a look may ask, one after another


class Attaching:
    """One seat's hands for engines that are not ours. `tell` puts an event into its mailbox."""

    def __init__(
        self, seat: str, parts: Parts, tell: Callable[[step.Event], None], tasks: Tasks, grace: Callable[[], float]
    ) -> None:
        """`grace`: seconds that an engine may take to give up a model."""
        self._seat = seat
        self._parts = parts
        self._tell = tell
        self._tasks = tasks
        self._grace = grace

    def takes(self, effect: step.Effect) -> bool:
        """Whether the effect is about a run of ours on an engine that is not."""
        if not isinstance(effect, step.Spawn | step.Stop | step.Kill | step.Inspect):
            return False
        prepared = self._parts.book.prepared.get(effect.run_id)
        return prepared is not None and prepared.installation.is_address

    def do(self, effect: step.Effect) -> None:
        match effect:
            case step.Spawn(run_id, _):
                self._tasks.start(self._attach(run_id), f"attach {run_id}")
            case step.Stop(run_id) | step.Kill(run_id):
                self._tasks.start(self._let_go(run_id), f"let go {run_id}")
            case step.Inspect(run_id):
                self._tell(step.Ended(run_id))  # nothing of ours is there that could be left

    # --- taking hold ---

    async def _attach(self, run_id: str) -> None:
        prepared = self._parts.book.prepared[run_id]
        try:
            attachment = await self._hold(run_id, prepared)
        except Exception as error:  # whatever went wrong, the seat must hear of it (I7)
            failure = failure_of(error, prepared.profile.id, "spawning")
            prepared.launch_failed = True
            self._parts.book.finish(run_id, "failed", failure)
            self._tell(step.SpawnFailed(run_id, failure))
            return
        if prepared.asked_to_stop:  # let go before it was held: nothing was asked of it, and its end is told already
            self._parts.book.finish(run_id, "stopped", None)
            return
        watched = Watched(state=AttachedState(state="probing", where=attachment.where, since=self._parts.clock()))
        hold = prepared.hold = Hold(attachment, watched)
        prepared.spawned_at = self._parts.clock()
        self._tell(step.Spawned(run_id))
        prepared.load_watch.append(self._tasks.start(self._first_greeting(run_id, prepared, hold), f"greet {run_id}"))

    async def _hold(self, run_id: str, prepared: Prepared) -> Attachment:
        preparation = self._parts.preparation
        launch = preparation.launch(
            prepared.card,
            prepared.profile,
            prepared.installation,
            run_id=run_id,
            port=0,
            gpus=self._parts.sampler.latest,
        )
        key = await self._key_of(launch)
        prepared.launch = replace(launch, api_key=key)
        attachment: Attachment = (
            RemoteAttachment(launch, key)
            if launch.profile.engine == "remote"
            else OllamaAttachment(launch, launch.installation.executable)
        )
        view = RunView(
            id=run_id,
            profile_id=prepared.profile.id,
            title=prepared.profile.title,
            engine=prepared.profile.engine,
            engine_build=prepared.installation.build,
            argv=(),
            environment={},
            log_path=str(preparation.log_of(run_id)),
            started_at_unix=time.time(),
            seat=self._seat,
            plan=prepared.plan,
        )
        await asyncio.to_thread(_note, view.log_path, f"{prepared.profile.model} at {attachment.where}")
        self._parts.book.keep(view)
        return attachment

    async def _key_of(self, launch: Launch) -> str:
        name = str(FAMILIES[launch.profile.engine].effective_settings(launch).get("key_name", ""))
        return await self._parts.keys.need(name, f"Profile {launch.profile.id}") if name else ""

    async def _first_greeting(self, run_id: str, prepared: Prepared, hold: Hold) -> None:
        alive = self._tasks.start(self._signs_of_life(run_id), f"signs of life of {run_id}")
        try:
            endpoint = await self._greeted(run_id, prepared, hold)
        except Unfit as unfit:
            self._tell(step.LoadFailed(run_id, unfit.failure))
            return
        finally:
            alive.cancel()
        hold.watch = self._tasks.start(self._watch(run_id, prepared, hold), f"look at {hold.attachment.where}")
        self._tell(step.Answered(run_id, endpoint))

    async def _greeted(self, run_id: str, prepared: Prepared, hold: Hold) -> Endpoint:
        def heard(stage: str) -> None:
            prepared.stages.setdefault(stage, round(self._parts.clock() - prepared.spawned_at, 3))
            self._tell(step.Heard(run_id=run_id, stage=stage))
            self._say(run_id, stage)

        try:
            endpoint = await hold.attachment.greet(heard)
        except Unfit as unfit:
            hold.failure = unfit.failure
            self._say(run_id, unfit.failure.summary)
            raise
        except Exception as error:  # a fault of ours must not leave a load that nobody watches (I7)
            log.exception("%s could not be greeted", hold.attachment.where)
            hold.failure = failure_of(error, prepared.profile.id, "loading")
            raise Unfit(hold.failure) from error
        hold.failure = None
        self._show(run_id, hold, attached.after(hold.watched, "is_ours", self._parts.clock()))
        self._say(run_id, f"answers as {endpoint.model_name}")
        return endpoint

    async def _signs_of_life(self, run_id: str) -> None:
        """The load is a request that has no answer yet, and its connection stands: as long as it does, it lives (I12)."""
        while True:
            await asyncio.sleep(SIGN_OF_LIFE_SECONDS)
            self._tell(step.Heard(run_id=run_id))

    # --- while it is held ---

    async def _watch(self, run_id: str, prepared: Prepared, hold: Hold) -> None:
        told = ""
        while True:
            await asyncio.sleep(hold.attachment.look_seconds)
            news, sentence = await self._looked(hold)
            if sentence and sentence != told:
                self._say(run_id, sentence)
            told = sentence
            self._show(run_id, hold, attached.after(hold.watched, news, self._parts.clock(), sentence))
            if hold.watched.state.state != "probing":
                continue
            try:
                async with asyncio.timeout(self._parts.settings().supervision.load_limit_seconds):
                    await self._greeted(run_id, prepared, hold)
            except TimeoutError:
                late = f"{hold.attachment.where} has not loaded the model again in time."
                self._show(run_id, hold, attached.after(hold.watched, "silent", self._parts.clock(), late))
            except Unfit as unfit:
                if unfit.failure.kind != "unreachable":
                    self._tell(step.Exited(run_id, unfit.failure))
                    return
                self._show(
                    run_id, hold, attached.after(hold.watched, "silent", self._parts.clock(), unfit.failure.summary)
                )

    async def _looked(self, hold: Hold) -> tuple[Literal["answers", "changed", "silent"], str]:
        """Whatever goes wrong with a look, there is a next one: nobody else looks (I10)."""
        where = hold.attachment.where
        try:
            async with asyncio.timeout(LOOK_LIMIT_SECONDS):
                return await hold.attachment.look()
        except TimeoutError:
            return "silent", f"{where} does not answer."
        except Exception:
            log.exception("%s could not be looked at", where)
            return "silent", f"{where} could not be looked at."

    def _show(self, run_id: str, hold: Hold, watched: Watched) -> None:
        """Seat and route are told anew when the state is another one."""
        before, hold.watched = hold.watched.state, watched
        if watched.state != before:
            log.info("%s at %s: %s %s", run_id, watched.state.where, watched.state.state, watched.state.reason)
            self._tell(step.Tick())

    def _say(self, run_id: str, sentence: str) -> None:
        view = self._parts.book.views.get(run_id)
        if view is not None:
            self._tasks.start(asyncio.to_thread(_note, view.log_path, sentence), f"log of {run_id}")

    # --- letting go ---

    async def _let_go(self, run_id: str) -> None:
        """After a last look at what the model holds here: that is what must come back (I4). A second call ends the wait."""
        prepared = self._parts.book.prepared[run_id]
        hold = prepared.hold
        if prepared.asked_to_stop:
            if hold is not None and hold.letting_go is not None:
                hold.letting_go.cancel()
            return
        prepared.asked_to_stop = True
        while prepared.load_watch:
            prepared.load_watch.pop().cancel()
        if hold is not None:
            if hold.watch is not None:
                hold.watch.cancel()
            await self._measure(run_id, prepared)
            trouble = await self._asked_to_give_up(hold)
            self._say(run_id, trouble or "let go")
            hold.is_over = True
        failure = hold.failure if hold is not None else None
        self._parts.book.finish(run_id, "stopped" if failure is None else "failed", failure)
        self._tell(step.Ended(run_id, failure))

    async def _asked_to_give_up(self, hold: Hold) -> str:
        """A sentence when it did not work."""
        where = hold.attachment.where
        asked = self._tasks.start(hold.attachment.let_go(self._grace()), f"let go of {where}")
        hold.letting_go = asked
        try:
            await asyncio.wait([asked])
        finally:
            asked.cancel()
        if asked.cancelled():
            trouble = f"{where} was not waited for any longer."
        elif asked.exception() is not None:
            trouble = f"{where} could not be asked to give the model up."
        else:
            trouble = asked.result()
        if trouble:
            log.info("%s", trouble)
        return trouble

    async def _measure(self, run_id: str, prepared: Prepared) -> None:
        if self._parts.sampler.latest.driver is not DriverState.OK:
            return
        sample = await self._parts.sampler.fresh(max_age_seconds=0.0, timeout_seconds=LAST_LOOK_SECONDS)
        if any(process.run_id == run_id for gpu in sample.gpus for process in gpu.processes or ()):
            prepared.last_seen = sample
        if prepared.last_seen is not None:
            prepared.expected = expected_from(prepared.last_seen, run_id, prepared.before)


def attached_pids(prepared: Mapping[str, Prepared]) -> dict[int, str]:
    """pid → run of every process that holds memory for an attached run: to be measured, never to be signalled."""
    found: dict[int, str] = {}
    for run_id, each in list(prepared.items()):
        if each.hold is not None and not each.hold.is_over:
            found |= dict.fromkeys(each.hold.attachment.pids(), run_id)
    return found


def _note(path: str, sentence: str) -> None:
    """A line of ours in the run's log: the engine's own log is not ours to read."""
    try:
        descriptor = os.open(Path(path), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "a") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {sentence}\n")
    except OSError as error:
        log.warning("%s cannot be written: %s", path, error.strerror)
