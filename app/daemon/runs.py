"""Owns the engines' processes as the daemon sees them: launches each under a keeper, tells its end once, leaves nothing.

The work is the keeper's (app.daemon.keeper); a handle only speaks to it. When keeper and guard are both killed, the
handle ends what is left itself, by verified identity.
"""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from app.core.errors import EngineFailed
from app.core.redaction import masked_arguments
from app.core.values import from_values
from app.daemon import docker, docker_custody, leftovers, processes, procfs, temporary
from app.daemon.docker_custody import ContainerCustody
from app.daemon.leftovers import Leftover
from app.daemon.processes import ProcessIdentity, ProcessView, RunTrace
from app.daemon.runlog import LogSpan, cap_log, log_span
from app.daemon.runspec import RunSpec, refusal, storage_error
from app.daemon.tasks import Tasks

__all__ = [
    "Leftover",
    "LogSpan",
    "RunEnd",
    "RunExit",
    "RunHandle",
    "RunSpec",
    "Runs",
    "cap_log",
    "log_span",
]

log = logging.getLogger(__name__)

KEEPER = Path(__file__).with_name("keeper.py")
LAUNCH_SECONDS = 30.0  # from the request to the engine's first instruction; only a dying disk takes longer
LEFTOVER_SECONDS = 5.0  # between looks after a container that an earlier service has left and Docker says nothing of;
LEFTOVER_MOST_SECONDS = 60.0  # in the end: it may be uninstalled
OVERDUE_SECONDS = 4.0  # a keeper that is silent so long after its own deadlines is stuck


class RunExit(msgspec.Struct, frozen=True):
    """How the engine's first process ended; both None when that could not be seen."""

    exit_code: int | None = None
    signal: int | None = None


class RunEnd(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a run. With `survivors` it is not over: these did not go when killed, and the seat stays taken. So it is with
    `container_left`, a sentence on the container that could not be ended."""

    exit_code: int | None = None
    signal: int | None = None
    survivors: tuple[ProcessView, ...] = ()
    container_left: str = ""
    keeper_died: bool = False


class RunHandle:
    """One run, from launch to its end. `stop` and `kill` return at once and may be called at any time, any number of times."""

    def __init__(self, spec: RunSpec, program: subprocess.Popen[bytes], kill_seconds: float, overdue: float) -> None:
        loop = asyncio.get_running_loop()
        self.spec = spec
        self.pid: int | None = None
        self.leader: ProcessIdentity | None = None
        self.keepers: tuple[ProcessIdentity, ...] = ()
        self.custody = ContainerCustody(spec) if spec.container is not None else None
        self.temporary: Path | None = None  # the run's own folder for temporary files
        self._program = program
        self._kill_seconds = kill_seconds
        self._overdue_seconds = overdue
        self._lifeline: asyncio.WriteTransport | None = None
        self._born: asyncio.Future[None] = loop.create_future()
        self._exited: asyncio.Future[RunExit] = loop.create_future()
        self._ended: asyncio.Future[RunEnd] = loop.create_future()
        self._cleared: asyncio.Future[None] = loop.create_future()
        self._unsaid = b""  # asked for before the keeper could be spoken to
        self._keeper_died = False
        self._all_ended = False  # every process of ours; a container may still be there
        self._fault = ""
        self._asked = ""  # "" · "stop" · "kill"
        self._watchdog: asyncio.TimerHandle | None = None

    # -- what the supervisor asks

    async def exited(self) -> RunExit:
        """When the engine's first process has ended: told at once, while the rest may still be ending."""
        return await asyncio.shield(self._exited)

    async def ended(self) -> RunEnd:
        """When nothing of the run is left, or when something would not go (then `cleared` tells whether it ever does)."""
        return await asyncio.shield(self._ended)

    async def cleared(self) -> None:
        """When nothing of the run is left."""
        await asyncio.shield(self._cleared)

    def processes(self) -> list[ProcessView]:
        """Every living process of the run, its first one first; exact, whatever they call themselves. Blocks shortly."""
        found = processes.of_run(self._trace, tuple(known.pid for known in self.keepers))
        return found if self.custody is None else [*found, *self.custody.processes()]

    @property
    def _trace(self) -> RunTrace:
        return RunTrace(run_id=self.spec.id, leader=self.leader, log_path=self.spec.log_path)

    @property
    def is_over(self) -> bool:
        return self._cleared.done()

    @property
    def has_survivors(self) -> bool:
        """Whether something would not go and is still there."""
        return self._ended.done() and not self._ended.cancelled() and not self.is_over

    @property
    def container_left(self) -> str:
        """A sentence on the container that could not be ended so far; "" when there is none."""
        return "" if self.custody is None or self.is_over else self.custody.left

    def stop(self) -> None:
        """TERM, the spec's grace, KILL; a second call never begins anew."""
        if not self._asked:
            self._asked = "stop"
            self._say({"stop": self.spec.grace_seconds}, self.spec.grace_seconds)

    def kill(self) -> None:
        """KILL now, also in the middle of a stop's grace."""
        if self._asked != "kill":
            self._asked = "kill"
            self._say({"kill": True}, 0.0)

    def _say(self, command: dict[str, object], grace_seconds: float) -> None:
        line = json.dumps(command).encode() + b"\n"
        if self._lifeline is None:
            self._unsaid += line
        elif not self._lifeline.is_closing():
            self._lifeline.write(line)
        end_command = procfs.END_COMMAND_SECONDS if self.spec.end_argv else 0.0
        self._watch_for(grace_seconds + self._kill_seconds + end_command + self._overdue_seconds)

    def _watch_for(self, seconds: float) -> None:
        """The keeper must have spoken by then, else it is stuck and is replaced by ourselves (I2)."""
        if self._watchdog is not None:
            self._watchdog.cancel()
        self._watchdog = asyncio.get_running_loop().call_later(seconds, self._end_keepers)

    def _end_keepers(self) -> None:
        for known in self.keepers:
            processes.signal_verified(known, signal.SIGKILL)
        if not self.keepers:
            self._program.kill()

    # -- the keeper's side

    async def _converse(self, first_line: bytes) -> None:
        """Speaks with the keeper until it has gone; the run's one background task."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        status, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), self._program.stdout)
        self._lifeline, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, self._program.stdin)
        try:
            self._lifeline.write(first_line + self._unsaid)
            if not self._asked:
                self._watch_for(LAUNCH_SECONDS)
            while line := await reader.readline():
                self._heard(json.loads(line))
            if not self._cleared.done() and not self._all_ended:  # both halves of the keeper were killed
                self._keeper_died = True
                await self._end_by_ourselves()
            if self.custody is not None:
                await self._end_container(self.custody)
            await asyncio.to_thread(self._program.wait)
        finally:
            self._lifeline.close()  # for a keeper that still lives: the daemon is gone
            status.close()
            if self._watchdog is not None:
                self._watchdog.cancel()
            for waiting in (self._born, self._exited, self._ended, self._cleared):
                waiting.cancel()
            if self._program.poll() is None:
                self._program.returncode = 0  # it outlives us on purpose, watching what would not go: no warning
            await asyncio.sleep(0)  # the transports close their descriptors in the loop's next turn

    def _heard(self, news: dict[str, Any]) -> None:
        match news:
            case {"started": {"pid": pid, "start_ticks": start_ticks, "keeper": inner, "guard": outer}}:
                self.pid = pid
                self.leader = ProcessIdentity(pid, start_ticks, processes.boot_id())
                self.keepers = tuple(
                    ProcessIdentity(each, ticks, processes.boot_id()) for each, ticks in (inner, outer)
                )
                if self._watchdog is not None and not self._asked:
                    self._watchdog.cancel()
                _resolve(self._born, None)
            case {"failed": {"step": step, "errno": number}}:
                if not self._born.done():
                    self._born.set_exception(refusal(self.spec, step, number))
                if self.custody is not None:
                    self.custody.never_made()
                self._over()
            case {"exited": {"code": code, "signal": number}}:
                _resolve(self._exited, RunExit(code, number))
            case {"survivors": list(found)}:
                self._tell_end(tuple(from_values(ProcessView, each) for each in found))
            case {"keeper_died": True}:
                self._keeper_died = True
                self._watch_for(self._kill_seconds + self._overdue_seconds)
            case {"fault": str(fault)}:
                self._fault = fault
            case {"gone": True}:
                self._over()

    async def _end_container(self, custody: ContainerCustody) -> None:
        """Whatever became of the client and of the command that ends it: the run is over when the container is gone."""
        _resolve(self._exited, RunExit())  # that it has gone is certain here, even where nobody saw how
        code = self._exited.result().exit_code
        while not await asyncio.to_thread(custody.end, code):
            self._tell_end(tuple(await asyncio.to_thread(custody.seen)), custody.left)
            await asyncio.sleep(2)
        self._all_over()

    def _over(self) -> None:
        """Nothing of the run is left below us."""
        self._all_ended = True
        if self._watchdog is not None:
            self._watchdog.cancel()
        if self.custody is None:
            self._all_over()

    def _all_over(self) -> None:
        self._tell_end(())
        _resolve(self._cleared, None)

    def _tell_end(self, survivors: tuple[ProcessView, ...], container_left: str = "") -> None:
        if self._watchdog is not None:
            self._watchdog.cancel()
        how = self._exited.result() if self._exited.done() else RunExit()
        if not survivors and not container_left:
            _resolve(self._exited, how)
        if not self._born.done():
            why = f"The keeper said: {self._fault}." if self._fault else ""
            self._born.set_exception(
                EngineFailed(f"{self.spec.title} was ended before it had started.", "Load it again.", why)
            )
        end = RunEnd(
            exit_code=how.exit_code,
            signal=how.signal,
            survivors=survivors,
            container_left=container_left,
            keeper_died=self._keeper_died,
        )
        _resolve(self._ended, end)

    async def _end_by_ourselves(self) -> None:
        find = functools.partial(processes.of_run, self._trace)
        survivors = await asyncio.to_thread(processes.end_processes, find, 0.0, self._kill_seconds)
        while survivors:
            self._tell_end(survivors)
            await asyncio.sleep(2)
            survivors = await asyncio.to_thread(processes.end_processes, find, 0.0, 0.5)
        if self.temporary is not None:
            await asyncio.to_thread(temporary.remove, self.temporary)
        self._over()


def _resolve(future: asyncio.Future[Any], value: object) -> None:
    if not future.done():
        future.set_result(value)


class Runs:
    """All runs of this daemon. `folder` holds one record per run, and is private to this account."""

    def __init__(
        self,
        folder: Path,
        *,
        kill_seconds: float = 10.0,
        overdue_seconds: float = OVERDUE_SECONDS,
        interpreter: Sequence[str] = (sys.executable, "-I", "-S"),
    ) -> None:
        self._folder = folder
        self._kill_seconds = kill_seconds
        self._overdue_seconds = overdue_seconds
        self._interpreter = tuple(interpreter)
        self._tasks = Tasks()
        self._owner = processes.own_identity()
        self._members = processes.RunMembers(self._keeper_pids)
        self._attending: dict[RunHandle, asyncio.Task[None]] = {}
        self._members.heads = self._container_heads
        self.handles: dict[str, RunHandle] = {}  # every run that is not over, also one whose launch was cancelled

    async def launch(self, spec: RunSpec) -> RunHandle:
        """Returns when the engine's program runs and its record is durable.

        Raises EngineNotInstalled or EngineFailed when it cannot be executed, NotWritable or DiskFull when its log or
        record cannot be written. A cancelled launch leaves nothing: its handle stays in `handles` until all has gone.
        """
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", spec.id) or spec.id in self.handles:
            raise ValueError(f"{spec.id!r} cannot be the name of a new run")
        self._make_folders(spec)
        self._mark_container(spec)
        own = self._make_temporary(spec)
        try:
            program = self._start_keeper(spec)
        except EngineFailed:
            if own is not None:
                temporary.remove(own)
            raise
        handle = RunHandle(spec, program, self._kill_seconds, self._overdue_seconds)
        handle.temporary = own
        self.handles[spec.id] = handle
        line = json.dumps(self._keeper_spec(spec, own)).encode() + b"\n"
        self._attending[handle] = self._tasks.start(self._attend(handle, line), name=f"run {spec.id}")
        try:
            await asyncio.shield(handle._born)
        except asyncio.CancelledError:
            handle.kill()
            handle._born.cancel()  # nobody will read why it failed
            raise
        return handle

    async def forgotten(self, handle: RunHandle) -> None:
        """To be awaited after the run's end: then its name may be given to another. With survivors it stays taken."""
        attending = self._attending.get(handle)
        if attending is not None and not handle.has_survivors:
            await asyncio.wait([attending])

    async def _attend(self, handle: RunHandle, line: bytes) -> None:
        try:
            await handle._converse(line)
        finally:
            self._attending.pop(handle, None)
            self.handles.pop(handle.spec.id, None)
            if handle.is_over and not handle._cleared.cancelled():
                if handle.custody is not None and handle.custody.certainly_gone:
                    docker.unmark(self._folder, handle.custody.container)
                (self._folder / f"{handle.spec.id}.json").unlink(missing_ok=True)  # the keeper's work, if it could

    def _mark_container(self, spec: RunSpec) -> None:
        if spec.container is not None:
            try:
                docker.mark(self._folder, spec.container)
            except OSError as error:
                raise storage_error(f"The record of run {spec.id} cannot be written", error.errno or 0) from error

    def _make_folders(self, spec: RunSpec) -> None:
        for folder in (self._folder, Path(spec.log_path).parent):
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise storage_error(f"The folder {folder} cannot be made", error.errno or 0) from error

    def _make_temporary(self, spec: RunSpec) -> Path | None:
        if not spec.own_temporary:
            return None
        try:
            return temporary.make(self._folder, spec.id, spec.environment)
        except OSError as error:
            what = f"The folder {error.filename} for temporary files cannot be made"
            raise storage_error(what, error.errno or 0) from error

    def _start_keeper(self, spec: RunSpec) -> subprocess.Popen[bytes]:
        """A plain Popen on our pipes: asyncio's transport would kill the guard when it is closed or forgotten."""
        marks = {
            procfs.KEEPER_MARK: spec.id,
            procfs.OWNER_MARK: self._owner_mark,
            procfs.FOLDER_MARK: str(self._folder),
        }
        try:
            return subprocess.Popen(  # spawns as asyncio does, from this thread, within milliseconds
                [*self._interpreter, str(KEEPER)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                cwd="/",
                env=marks,
                start_new_session=True,
            )
        except OSError as error:
            raise EngineFailed(
                f"{spec.title} could not be started: {self._interpreter[0]}: {os.strerror(error.errno or 0)}.",
                "Engine Room's own interpreter is missing or the machine has no room for a process: start it again.",
            ) from error

    @property
    def _owner_mark(self) -> str:
        return f"{self._owner.pid}:{self._owner.start_ticks}"

    def _keeper_spec(self, spec: RunSpec, own_temporary: Path | None) -> dict[str, object]:
        environment = {name: value for name, value in spec.environment.items() if name != procfs.KEEPER_MARK}
        environment |= {procfs.RUN_MARK: spec.id, procfs.OWNER_MARK: self._owner_mark}
        environment |= {procfs.FOLDER_MARK: str(self._folder)}
        if own_temporary is not None:
            environment[temporary.VARIABLE] = str(own_temporary)
        record = {
            "run_id": spec.id,
            "profile_id": spec.profile_id,
            "title": spec.title,
            "family": spec.engine,
            "model_path": spec.model_path,
            "port": spec.port,
            "argv": masked_arguments(spec.argv, spec.secrets),
            "owner": {"pid": self._owner.pid, "start_ticks": self._owner.start_ticks},
            "boot_id": processes.boot_id(),
            "log_path": spec.log_path,
            "grace_seconds": spec.grace_seconds,
        }
        return {
            "run_id": spec.id,
            "argv": spec.argv,
            "environment": environment,
            "cwd": spec.cwd,
            "log_path": spec.log_path,
            "grace_seconds": spec.grace_seconds,
            "kill_seconds": self._kill_seconds,
            "end_argv": spec.end_argv,
            "temporary": "" if own_temporary is None else str(own_temporary),
            "record_path": str(self._folder / f"{spec.id}.json"),
            "record": record,
        }

    async def end_leftovers(self) -> tuple[Leftover, ...]:
        """Ends what earlier daemons left behind; to be called once, before the first launch."""
        skip = frozenset(self.handles)
        ended = await asyncio.to_thread(leftovers.end_leftovers, self._folder, self._kill_seconds, skip)
        living = {each.run_id for each in ended if each.outcome in ("left_alone", "survived")} | skip
        await asyncio.to_thread(temporary.remove_left, self._folder, os.environ, living)
        containers = await asyncio.to_thread(docker_custody.end_leftovers, self._folder, os.environ, skip)
        if any(each.outcome == "survived" for each in containers):
            left = {file.stem for file in docker.marked(self._folder)} - skip  # none of ours: nothing was launched yet
            self._tasks.start(self._end_containers_later(left), "containers of an earlier service")
        return (*ended, *containers)

    async def _end_containers_later(self, left: set[str]) -> None:
        """Docker did not answer at the start: it is asked again until each of these runs is known to be over (I1)."""
        told, seconds = "", LEFTOVER_SECONDS
        while left:
            await asyncio.sleep(seconds)
            seconds = min(2 * seconds, LEFTOVER_MOST_SECONDS)
            for each in await asyncio.to_thread(docker_custody.end_leftovers, self._folder, os.environ, (), left):
                if each.sentence != told:
                    log.warning("%s", each.sentence)
                told = each.sentence
            left &= {file.stem for file in docker.marked(self._folder)}

    def pids_of_runs(self) -> dict[int, str]:
        """pid → run id of every living process of our runs; cheap, for the sampler."""
        return self._members.pids_of_runs()

    def _container_heads(self) -> dict[int, str]:
        """The first process of each container that the kernel shows us → its run."""
        found = {run_id: handle.custody.head for run_id, handle in list(self.handles.items()) if handle.custody}
        return {head.pid: run_id for run_id, head in found.items() if head is not None and processes.alive(head)}

    def _keeper_pids(self) -> dict[str, tuple[int, ...]]:
        return {run_id: tuple(known.pid for known in handle.keepers) for run_id, handle in list(self.handles.items())}

    async def close(self) -> None:
        """Stops every run and waits for its end; a survivor stays in its keeper's watch."""
        attending = dict(self._attending)
        for handle in attending:
            handle.stop()
        await asyncio.gather(*(handle.ended() for handle in attending), return_exceptions=True)
        ending = [task for handle, task in attending.items() if not handle.has_survivors]
        await asyncio.gather(*ending, return_exceptions=True)
        await self._tasks.close()
