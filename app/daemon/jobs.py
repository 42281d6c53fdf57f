"""Owns the jobs: work that takes its time, each a program of its own under a keeper, followed, cancelled, never left over.

A job's files lie in the state folder: `ID.order` (what to do, 0600, gone when it is over), `ID.told` (its JSON lines) and
`ID.log` (all that its tools printed, kept when it failed). Its processes end with the daemon, as an engine's do. A download
can be paused (`ID.paused` says so) and keeps its order then, also over the daemon's end.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
from msgspec.structs import replace

from app.core.daemon_command import own_command
from app.core.errors import EngineBusy, NoSuchJob, NotWritable
from app.core.snapshot import Job, from_json, to_json
from app.core.snapshot import Jobs as JobsSlice
from app.daemon.engine_folders import clean
from app.daemon.job_program import Order, Told
from app.daemon.runs import RunHandle, Runs, RunSpec
from app.daemon.tasks import Tasks

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.1  # between looks at what a job has told
STOP_GRACE_SECONDS = 5.0
JOBS_KEPT = 20
LOG_BYTES_SHOWN = 4 * 1024**2
_INTERRUPTED = "The service ended while this was under way."
_GOES_ON = "Start it again: what was downloaded and compiled is kept, and it goes on from there."
RESUMABLE = ("pull",)  # kinds whose order stays good: they go on where they stopped


class Jobs:
    """All jobs of this daemon. `settled` is told each that is over, whatever its outcome."""

    def __init__(
        self,
        folder: Path,
        engines: Path,
        environment: Mapping[str, str],
        publish: Callable[[JobsSlice], None],
        settled: Callable[[Job], None],
    ) -> None:
        self._folder, self._engines = folder, engines
        self._environment = environment
        self._publish = publish
        self._settled = settled
        self._runs = Runs(folder)
        self._tasks = Tasks()
        self._jobs: dict[str, Job] = {}  # oldest first
        self._handles: dict[str, RunHandle] = {}
        self._followed: dict[str, asyncio.Task[None]] = {}
        self._busy: dict[str, frozenset[str]] = {}  # job → what nobody else may touch meanwhile
        self._cancelled: set[str] = set()
        self._resting: set[str] = set()  # they are being ended to go on later
        self._orders: dict[str, Order] = {}  # of those that can be resumed

    async def start(self) -> None:
        """Ends what an earlier daemon's jobs have left, removes what they left unfinished, and says which they were."""
        if any(self._folder.glob("*.order")):  # a job's processes are looked for only where one was cut off
            for leftover in await self._runs.end_leftovers():
                log.info("%s", leftover.sentence)
        await asyncio.to_thread(clean, self._engines)
        for file in sorted(self._folder.glob("*.order"), key=lambda file: file.stat().st_mtime):
            job = self._interrupted(file.stem)
            self._jobs[job.id] = job
            if (order := _order_in(file)) is not None and job.kind in RESUMABLE:
                self._orders[job.id] = order
                self._jobs[job.id] = replace(job, state="paused", error="", advice="", ended_at_unix=None, log_path="")
                self._forget_files(job, "told", "log")
            else:
                self._forget_files(job)
        self._drop_old_logs()
        self._show()

    def _interrupted(self, job_id: str) -> Job:
        told = (self._folder / f"{job_id}.title").read_text("utf-8") if self._has(job_id, "title") else job_id
        told, _, subject = told.partition("\n")
        kind = job_id.partition("-")[0]
        return Job(
            id=job_id,
            title=told,
            kind=kind,
            subject=subject,
            state="failed",
            error=_INTERRUPTED,
            advice=_GOES_ON if kind == "install" else "Start it again.",
            ended_at_unix=time.time(),
            log_path=str(self._folder / f"{job_id}.log") if self._has(job_id, "log") else "",
        )

    def _has(self, job_id: str, suffix: str) -> bool:
        return (self._folder / f"{job_id}.{suffix}").exists()

    async def close(self) -> None:
        """Ends every job and waits until its processes are gone; what can be resumed goes on at the next start."""
        for job_id in list(self._busy):
            if self._jobs[job_id].kind in RESUMABLE and job_id not in self._cancelled:
                self._rest(job_id)
            else:
                self.cancel(job_id)
        await self._tasks.settle()
        await self._runs.close()

    # --- what a person asks

    async def begin(
        self,
        kind: str,
        title: str,
        subject: str,
        order: Order,
        busy: frozenset[str],
        environment: Mapping[str, str] | None = None,
    ) -> str:
        """Starts a job and returns its id. `environment` is laid over the service's own, and written down nowhere.

        Raises EngineBusy when another one works on any of what is in `busy`.
        """
        job_id = f"{kind}-{secrets.token_hex(4)}"
        job = Job(id=job_id, title=title, kind=kind, subject=subject, state="running", started_at_unix=time.time())
        await self._launch(job, order, busy, environment or {})
        return job_id

    async def resume(self, job_id: str, busy: frozenset[str], environment: Mapping[str, str]) -> None:
        """Goes on with a job that was paused, cancelled or failed, under its old id, and when it is being ended as soon as
        it is over. One that runs goes on running."""
        job = self._known(job_id)
        if job_id in self._busy and job_id not in self._cancelled | self._resting:
            return
        if (ending := self._followed.get(job_id)) is not None:
            await asyncio.wait([ending])
            job = self._known(job_id)
        if job_id in self._busy or job.state == "done":  # somebody else's resume was first, or nothing is left to do
            return
        order = self._orders.get(job_id)
        if order is None:
            raise NoSuchJob(f"{job.title} cannot be gone on with.", "Start it again.")
        fresh = replace(job, state="running", error="", advice="", ended_at_unix=None, log_path="", detail="Going on …")
        await self._launch(fresh, order, busy, environment)
        if job_id not in self._resting:  # paused again meanwhile
            self._forget_files(job, "paused")

    async def _launch(self, job: Job, order: Order, busy: frozenset[str], environment: Mapping[str, str]) -> None:
        for other, theirs in self._busy.items():
            if busy & theirs:
                raise EngineBusy(
                    f"{self._jobs[other].title} is under way.", "Wait until it is over, or cancel it.", f"job {other}"
                )
        before = self._jobs.pop(job.id, None)
        self._jobs[job.id], self._busy[job.id] = job, busy
        try:
            self._write_order(job, order)
            self._forget_files(job, "told", "log")
            handle = await self._runs.launch(self._spec(job, environment))
        except BaseException:
            del self._jobs[job.id], self._busy[job.id]
            self._cancelled.discard(job.id)
            self._resting.discard(job.id)
            if before is not None:
                self._jobs[job.id] = before
            if before is None or before.state != "paused":  # what can be gone on with keeps its order
                self._forget_files(job)
            raise
        self._handles[job.id] = handle
        if job.kind in RESUMABLE:
            self._orders[job.id] = order
        if job.id in self._cancelled | self._resting:  # asked for while its process was being started
            handle.stop()
        self._show()
        self._followed[job.id] = self._tasks.start(self._follow(job.id, handle), f"job {job.id}")

    def _write_order(self, job: Job, order: Order) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for suffix, data in (("title", f"{job.title}\n{job.subject}".encode()), ("order", to_json(order))):
                place = self._folder / f"{job.id}.{suffix}"
                fresh = place.with_name(f"{place.name}.new")
                descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
                with os.fdopen(descriptor, "wb") as file:
                    file.write(data)
                fresh.replace(place)
        except OSError as error:
            raise NotWritable(
                f"{self._folder} cannot be written: {error.strerror}.", "Check its owner, permissions and room."
            ) from error

    def _spec(self, job: Job, environment: Mapping[str, str]) -> RunSpec:
        return RunSpec(
            id=job.id,
            profile_id="",
            title=job.title,
            engine="",
            model_path="",
            port=0,
            argv=(sys.executable, "-m", "app.daemon.job_program", str(self._folder / f"{job.id}.order")),
            environment={**own_command(self._environment).environment, **environment},
            cwd="/",
            log_path=str(self._folder / f"{job.id}.told"),
            grace_seconds=STOP_GRACE_SECONDS,
        )

    def cancel(self, job_id: str) -> None:
        """Ends the job with all its processes; it is over when nothing of it is left. A job that is over stays as it is."""
        self._known(job_id)
        if job_id in self._busy:
            self._cancelled.add(job_id)
            self._change(job_id, detail="Cancelling …")
            self._stop(job_id)
        elif self._jobs[job_id].state == "paused":
            self._forget_files(self._jobs[job_id], "order", "title", "paused")
            self._change(
                job_id, state="cancelled", detail=_left(self._jobs[job_id]), ended_at_unix=time.time(), **_NO_FIGURES
            )

    def pause(self, job_id: str) -> None:
        """Ends the job's processes; its order stays, also over the daemon's end. Only of what can be gone on with."""
        job = self._known(job_id)
        if job.kind not in RESUMABLE:
            raise NoSuchJob(f"{job.title} cannot be paused.", "Cancel it, or wait until it is over.")
        if job_id in self._busy and job_id not in self._cancelled:
            (self._folder / f"{job_id}.paused").touch(0o600)
            self._change(job_id, detail="Pausing …")
            self._rest(job_id)

    def _rest(self, job_id: str) -> None:
        self._resting.add(job_id)
        self._stop(job_id)

    def _stop(self, job_id: str) -> None:
        """One whose process is still being started is stopped as soon as it is there."""
        handle = self._handles.get(job_id)
        if handle is not None:
            handle.stop()

    def cut_off(self) -> tuple[str, ...]:
        """The jobs that ran when an earlier daemon ended, and were not paused by anybody."""
        paused = [job_id for job_id, job in self._jobs.items() if job.state == "paused"]
        return tuple(job_id for job_id in paused if not self._has(job_id, "paused"))

    def subject_of(self, job_id: str) -> str:
        return self._known(job_id).subject

    async def log_text(self, job_id: str) -> str:
        """The end of what the job's tools printed."""
        self._known(job_id)
        path = self._folder / f"{job_id}.log"

        def read() -> str:
            try:
                with path.open("rb") as file:
                    file.seek(max(0, path.stat().st_size - LOG_BYTES_SHOWN))
                    return file.read().decode("utf-8", "replace")
            except OSError:
                return ""

        return await asyncio.to_thread(read)

    def running(self, kind: str) -> bool:
        return any(self._jobs[job_id].kind == kind for job_id in self._busy)

    def _known(self, job_id: str) -> Job:
        job = self._jobs.get(job_id)
        if job is None:
            known = ", ".join(self._jobs) or "none yet"
            raise NoSuchJob(f"There is no job {job_id[:100]!r}.", f"Known are: {known}.")
        return job

    # --- following one

    async def _follow(self, job_id: str, handle: RunHandle) -> None:
        told = _Told(Path(handle.spec.log_path))
        loop = asyncio.get_running_loop()
        ended = loop.create_task(handle.ended())
        try:
            while not ended.done():
                await asyncio.wait([ended], timeout=LOOK_SECONDS)
                for line in await asyncio.to_thread(told.new):
                    self._heard(job_id, line)
        finally:
            ended.cancel()
        await self._runs.forgotten(handle)  # whoever hears that it is over may begin it anew at once
        last = await asyncio.to_thread(told.new)
        outcome = told.last
        for line in last:
            self._heard(job_id, line)
        if job_id.startswith(("install", "remove")):
            await asyncio.to_thread(clean, self._engines)  # killed in the middle, it could not do that itself
        self._end(job_id, outcome, told.other)

    def _heard(self, job_id: str, told: Told) -> None:
        if told.news is None:
            return
        news = told.news
        if job_id in self._cancelled or job_id in self._resting:  # how far it came is still of interest
            if news.bytes_done is not None:
                self._change(job_id, progress=news.progress, bytes_done=news.bytes_done, bytes_total=news.bytes_total)
            return
        self._change(
            job_id,
            detail=news.detail,
            progress=news.progress,
            bytes_done=news.bytes_done,
            bytes_total=news.bytes_total,
            steps_done=news.steps_done,
            steps_total=news.steps_total,
            eta_seconds=news.eta_seconds,
            notes=(*self._jobs[job_id].notes, news.detail) if news.kept else self._jobs[job_id].notes,
        )

    def _end(self, job_id: str, outcome: Told | None, words: str) -> None:
        figures = _NO_FIGURES
        log_path = str(self._folder / f"{job_id}.log") if self._has(job_id, "log") else ""
        if outcome is not None and outcome.done is not None:
            verdict = str(outcome.done.get("verdict", ""))
            detail = verdict or self._jobs[job_id].detail
            changes = {"state": "done", "progress": 1.0, "result": outcome.done, "detail": detail, "log_path": ""}
        elif job_id in self._cancelled:
            changes = {"state": "cancelled", "detail": _left(self._jobs[job_id]), "log_path": ""}
        elif outcome is not None and outcome.failed is not None:
            report = outcome.failed
            error = " ".join(part for part in (report.summary, report.evidence) if part)
            changes = {"state": "failed", "error": error, "advice": report.advice, "log_path": log_path}
        else:
            error = f"The job was ended from outside{': ' + words if words else ''}."
            changes = {"state": "failed", "error": error, "advice": _GOES_ON, "log_path": log_path}
        self._handles.pop(job_id, None)
        self._followed.pop(job_id, None)
        self._busy.pop(job_id, None)
        rested = (
            job_id in self._resting and job_id not in self._cancelled and not (outcome and outcome.done is not None)
        )
        self._cancelled.discard(job_id)
        self._resting.discard(job_id)
        if rested:
            self._forget_files(self._jobs[job_id], "told", "log")
            self._change(job_id, state="paused", detail="Paused.", eta_seconds=None)
            return
        if changes["state"] == "done":
            self._orders.pop(job_id, None)
        job = replace(self._jobs[job_id], **figures, **changes, ended_at_unix=time.time())
        self._jobs[job_id] = job
        self._forget_files(job)
        over = [key for key, each in self._jobs.items() if key not in self._handles and each.state != "paused"]
        for old in over[:-JOBS_KEPT]:
            del self._jobs[old]
            self._orders.pop(old, None)
        self._drop_old_logs()
        self._show()
        self._settled(job)

    def _change(self, job_id: str, **fields: object) -> None:
        self._jobs[job_id] = replace(self._jobs[job_id], **fields)
        self._show()

    def _show(self) -> None:
        self._publish(JobsSlice(jobs=tuple(reversed(self._jobs.values()))))

    def _forget_files(self, job: Job, *only: str) -> None:
        suffixes = ["order", "title", "told", "paused", *([] if job.log_path else ["log"])]
        for suffix in only or suffixes:
            (self._folder / f"{job.id}.{suffix}").unlink(missing_ok=True)

    def _drop_old_logs(self) -> None:
        logs = sorted(self._folder.glob("*.log"), key=lambda file: file.stat().st_mtime)
        for file in [file for file in logs if file.stem not in self._jobs][:-JOBS_KEPT]:
            file.unlink(missing_ok=True)


_NO_FIGURES: dict[str, float | None] = {
    "bytes_done": None,
    "bytes_total": None,
    "steps_done": None,
    "steps_total": None,
    "eta_seconds": None,
}


def _left(job: Job) -> str:
    if job.kind in RESUMABLE and job.bytes_done:
        return f"Cancelled; {job.bytes_done / 1e9:.2f} GB of it stay, so that another try goes on there."
    return "Cancelled; nothing of it is left."


def _order_in(file: Path) -> Order | None:
    try:
        return from_json(Order, file.read_bytes())  # type: ignore[arg-type]
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None


class _Told:
    """Reads the lines that a job's program appends; what is no line of ours is a fault's last words."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._rest = b""
        self.last: Told | None = None
        self.other = ""

    def new(self) -> list[Told]:
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except OSError:
            return []
        self._offset += len(data)
        *whole, self._rest = (self._rest + data).split(b"\n")
        lines = []
        for line in whole:
            try:
                told = msgspec.json.decode(line, type=Told)
            except (msgspec.DecodeError, UnicodeDecodeError):
                self.other = line.decode("utf-8", "replace").strip()[:300] or self.other
                continue
            lines.append(told)
            if told.news is None:
                self.last = told
        return lines
