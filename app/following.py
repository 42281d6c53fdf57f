"""Follows a job to its end for the command line: notes as lines, figures in one line that is redrawn, Ctrl+C cancels it."""

from __future__ import annotations

import sys

from app.client import Client
from app.core import control
from app.core.errors import EngineFailed, HubError, NoSuchJob
from app.core.snapshot import Job, Jobs
from app.outcomes import Cancelled


def follow(client: Client, job_id: str, quiet: bool, pausing: bool = False) -> Job:
    """The job when it is done. Raises EngineFailed with its error and where its log is, or Cancelled.

    `pausing`: Ctrl+C pauses it, so that the same command goes on with it.
    """
    try:
        job = _wait(client, job_id, None if quiet else Line())
    except KeyboardInterrupt:
        verb = "pause" if pausing else "cancel"
        client.post(f"/control/jobs/{verb}", control.JobOf(job=job_id), control.Accepted)
        ended = _wait(client, job_id, None)
        said = "Paused: the same command goes on with it." if ended.state == "paused" else ended.detail
        raise Cancelled(said) from None
    if job.state in ("cancelled", "paused"):
        raise Cancelled(f"{job.title}: {job.detail}")
    if job.state == "failed" and pausing:
        raise HubError(job.error, job.advice)
    if job.state == "failed":
        log = f"Its log: `engine-room engines log {job.id}`." if job.log_path else ""
        raise EngineFailed(job.error, job.advice, log)
    return job


def _wait(client: Client, job_id: str, line: Line | None) -> Job:
    for name, value in client.stream():
        if name != "jobs" or not isinstance(value, Jobs):
            continue
        job = next((job for job in value.jobs if job.id == job_id), None)
        if job is None:
            raise NoSuchJob(f"The job {job_id} is not known any more.", "Start it again.")
        if line is not None:
            line.show(job)
        if job.state != "running":
            if line is not None:
                line.end()
            return job
    raise EngineFailed("The service ended while the job ran.", "Start it again: it goes on where it stopped.")


class Line:
    """Where a terminal reads, one line that changes; elsewhere a line for each thing and each tenth."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._notes = 0
        self._told = ""

    def show(self, job: Job) -> None:
        for note in job.notes[self._notes :]:
            self._clear()
            print(note, file=sys.stderr)
        self._notes = len(job.notes)
        if job.state != "running" or (job.notes and job.detail == job.notes[-1]):
            return
        if self._terminal:
            print(f"\r\x1b[2K  {progress_words(job)}", end="", file=sys.stderr, flush=True)
            return
        tenth = (
            ""
            if job.progress is None or not (job.steps_total or job.bytes_total)
            else f" {int(job.progress * 10) * 10} %"
        )
        if job.detail + tenth != self._told:
            self._told = job.detail + tenth
            print(f"  {self._told}", file=sys.stderr)

    def end(self) -> None:
        self._clear()

    def _clear(self) -> None:
        if self._terminal:
            print("\r\x1b[2K", end="", file=sys.stderr, flush=True)


def progress_words(job: Job) -> str:
    """ "Compiling with 2 at a time  [34/220]  15 %  about 6 min"."""
    parts = [job.detail]
    if job.steps_total:
        parts.append(f"[{job.steps_done}/{job.steps_total}]")
    if job.bytes_total:
        parts.append(f"{(job.bytes_done or 0) / 1e6:.0f} of {job.bytes_total / 1e6:.0f} MB")
    if job.progress is not None:
        parts.append(f"{job.progress:.0%}")
    if job.eta_seconds is not None:
        parts.append(duration_words(job.eta_seconds))
    return "  ".join(parts)


def duration_words(seconds: float) -> str:
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    return f"about {round(seconds / 60)} min"
