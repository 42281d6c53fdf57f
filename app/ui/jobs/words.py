"""Puts long work into words: what it is called now, how far it is, how it ended, and how it is gone on with."""

from __future__ import annotations

from app.core.snapshot import Job
from app.ui import wording

PULL, OLLAMA = "pull", "ollama"  # from the hub, and by an Ollama that runs
TRANSFERS = (PULL, OLLAMA)
_KINDS = {"install": "Installing", "remove": "Removing", "canary": "Comparing", "clear": "Clearing"}
_ENDS = {PULL: "Checked, and in the list of models.", OLLAMA: "In Ollama’s store, and in the list of models."}
_AGAIN = {PULL: "Resume", OLLAMA: "Try again"}


def is_running(job: Job) -> bool:
    return job.state == "running"


def is_transfer(job: Job) -> bool:
    """Whether a model comes by it."""
    return job.kind in TRANSFERS


def name(job: Job) -> str:
    """What it is called whatever its state: buttons are named by it."""
    if job.kind == OLLAMA:
        return job.subject
    return job.title or f"{_KINDS.get(job.kind, 'Working on')} {job.subject}".strip()


def heading(job: Job) -> str:
    transfer = is_transfer(job)
    if job.state == "failed":
        return f"{name(job)} could not be downloaded" if transfer else f"{name(job)} failed"
    if job.state == "done" and transfer:
        return f"{name(job)} is here"
    if job.state == "done" and job.kind == "install" and job.detail:
        return job.detail.rstrip(".")
    return name(job)


def origin(job: Job) -> str:
    """Whose model it is, or who fetches it; "" where that says nothing."""
    return {PULL: job.subject.partition("/")[0], OLLAMA: "Fetched by Ollama"}.get(job.kind, "")


def detail(job: Job) -> str:
    """What it does now, or what became of it."""
    match job.state:
        case "running":
            return job.detail or "Starting …"
        case "paused":
            return "Paused. What has come stays."
        case "cancelled" if job.kind == PULL:
            return job.detail
        case "cancelled" if job.kind == OLLAMA:
            return "Cancelled. Ollama keeps what has come."
        case "cancelled":
            return "Cancelled. Nothing was left behind."
        case "done" if job.kind in _ENDS:
            return _ENDS[job.kind]
        case "done" if heading(job) != job.detail.rstrip("."):
            return job.detail
    return ""


def figures(job: Job) -> str:
    """ "1.2 of 4.7 GiB · about 3 min left": bytes where it downloads, steps where it builds; "" when it is over."""
    if job.state not in ("running", "paused"):
        return ""
    left = f"about {_short(job.eta_seconds)} left" if job.eta_seconds is not None and is_running(job) else ""
    return " · ".join(part for part in (_amount(job), left) if part)


def _amount(job: Job) -> str:
    if job.bytes_done is not None and job.bytes_total:
        return wording.size_of(job.bytes_done, job.bytes_total)
    if job.bytes_done:
        return wording.size(job.bytes_done)
    if job.steps_done is not None and job.steps_total:
        return f"step {wording.count(job.steps_done)} of {wording.count(job.steps_total)}"
    return ""


def _short(seconds: float) -> str:
    return f"{max(1, round(seconds))} s" if seconds < 90 else f"{round(seconds / 60)} min"


def going_on(job: Job) -> str:
    """What the button says that goes on with it; "" where nothing is to be gone on with."""
    if job.state == "paused" or job.state in ("failed", "cancelled"):
        return _AGAIN.get(job.kind, "")
    return ""


def can_pause(job: Job) -> bool:
    return is_running(job) and job.kind == PULL
