"""Decides whether there is a failure to tell of a seat, and which."""

from __future__ import annotations

from app.core import lifecycle as phases
from app.core.lifecycle import Failure
from app.core.snapshot import SeatView
from app.ui import wording


def failure_of(seat: SeatView) -> Failure | None:
    """Why the wanted model is not there, if it is not; a cancel is no failure."""
    match seat.phase:
        case phases.Failed(failure=failure):
            found: Failure | None = failure
        case phases.StopFailed(profile_id=profile_id, processes=processes):
            found = Failure(
                kind="stop_failed",
                summary="These processes would not end, so the seat stays taken: " + "; ".join(processes),
                advice=_cure(processes),
                profile_id=profile_id,
            )
        case _:
            found = seat.last_failure if not wording.is_loading(seat) else None
    return None if found is None or found.kind == "cancelled" else found


def _cure(left: tuple[str, ...]) -> str:
    if any(each.startswith("container ") for each in left):
        return "It is ended as soon as Docker answers: start or restart its service."
    return "They are waiting inside the driver or a disk. Usually only a restart of the machine helps."
