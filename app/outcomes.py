"""Follows the seat to the outcome that a command asked for, saying the stages on stderr meanwhile."""

from __future__ import annotations

import sys

from app.client import Client
from app.core.advance import STAGE_WORDS
from app.core.errors import BadRequest, EngineFailed, EngineRoomError
from app.core.lifecycle import (
    Backoff,
    Draining,
    Failed,
    Failure,
    Idle,
    Killing,
    Loading,
    Parking,
    Ready,
    ReleasingVram,
    Reserving,
    Sleeping,
    Spawning,
    Stalled,
    StopFailed,
    Stopping,
    Waking,
)
from app.core.snapshot import Seats, SeatView

PHASE_WORDS: dict[type, str] = {
    Reserving: "checking the memory",
    Spawning: "starting the engine",
    Draining: "letting running answers finish",
    Parking: "putting it to sleep",
    Waking: "waking it",
    Stopping: "stopping the engine that leaves",
    Killing: "ending an engine by force",
    ReleasingVram: "waiting until the memory is back",
    Backoff: "waiting before another try",
}
EXIT_OF_FAILURE = {"does_not_fit": 5, "engine_not_installed": 7, "model_missing": 4, "no_such_model": 4}


class Cancelled(EngineRoomError):
    """The person pressed Ctrl+C."""

    kind, exit_code = "cancelled", 130


def seat_of(seats: Seats, name: str) -> SeatView:
    """The seat of that name, "" = the main one; raises BadRequest naming those that there are."""
    for seat in seats.seats:
        if seat.name == (name or "main"):
            return seat
    names = ", ".join(seat.name for seat in seats.seats)
    raise BadRequest(f"There is no seat {name!r}.", f"There are: {names}. The setting supervision.seats names them.")


def wait_loaded(client: Client, profile: str, quiet: bool, not_run: str = "", seat: str = "") -> SeatView:
    """Follows the board to the outcome, a run other than `not_run`; raises EngineFailed with the failure's own sentence."""
    told = ""
    begun = False
    for seats in client.seats():
        view = seat_of(seats, seat)
        phase = view.phase
        if view.wanted == profile and not view.resting:
            begun = True
        failure = view.last_failure  # every want clears it: what is told here came after ours
        if failure is not None and failure.profile_id == profile and not isinstance(phase, Backoff):
            raise LoadFailed(failure, view.notice)
        there = isinstance(phase, Ready | Stalled) and phase.profile_id == profile and phase.run_id != not_run
        if there and view.wanted == profile:
            return view
        if begun and isinstance(phase, Idle) and (view.wanted is None or view.resting):
            raise EngineFailed(f"Loading {profile} was cancelled.")
        if begun and view.wanted not in (None, profile):
            raise EngineFailed(f"{view.wanted} was wanted in place of {profile}.")
        now = _progress_line(phase, profile)
        if now and now != told and not quiet:
            told = now
            print(now, file=sys.stderr)
    raise EngineFailed(f"The service ended while {profile} was loading.", "Start it again with `engine-room serve`.")


def _progress_line(phase: object, profile: str) -> str:
    if isinstance(phase, Loading) and phase.profile_id == profile:
        return f"  {STAGE_WORDS.get(phase.stage, phase.stage)} …"
    words = PHASE_WORDS.get(type(phase))
    return f"  {words} …" if words else ""


class LoadFailed(EngineFailed):
    """A failure of a load, leaving with the exit code of its kind."""

    def __init__(self, failure: Failure, notice: str) -> None:
        line = f"Log: {failure.evidence.line}" if failure.evidence else ""
        super().__init__(failure.summary, " ".join(part for part in (failure.advice, notice) if part), line)
        self.exit_code = EXIT_OF_FAILURE.get(failure.kind, EngineFailed.exit_code)  # type: ignore[misc]
        self.kind = failure.kind  # type: ignore[misc]


def wait_parked(client: Client, seat: str = "") -> SeatView:
    """Until it sleeps, or is unloaded where it could not; raises EngineFailed when something else was wanted."""
    for seats in client.seats():
        view = seat_of(seats, seat)
        if view.resting != "parked":
            raise EngineFailed(f"{view.wanted or 'Nothing'} was wanted in the meantime.", view.notice)
        if isinstance(view.phase, Sleeping | Idle):
            return view
    raise EngineFailed("The service ended meanwhile.", "Start it again with `engine-room serve`.")


def wait_unloaded(client: Client, seat: str = "", lent: bool = False) -> SeatView:
    """Until no engine is there, because it was `lent` or unloaded; raises EngineFailed naming the processes that would
    not end."""
    for seats in client.seats():
        view = seat_of(seats, seat)
        if isinstance(view.phase, StopFailed):
            raise EngineFailed(f"{view.phase.profile_id} would not end: {'; '.join(view.phase.processes)}.")
        if view.resting != "lent" if lent else view.wanted is not None:
            raise EngineFailed(
                f"{view.wanted} was wanted in the meantime.", "`engine-room status` shows what is loaded."
            )
        if isinstance(view.phase, Idle | Failed):
            return view
    raise EngineFailed("The service ended while the model was being unloaded.", "Its engines end with it.")
