"""Decides which loaded model answers a chat: the chosen one where it is there, else the first that is."""

from __future__ import annotations

from app.core import lifecycle as phases
from app.core.snapshot import SeatView
from app.ui.store import Store, profile_in


def seat_for(store: Store, chosen: str = "") -> SeatView:
    """The seat that answers: the one on which `chosen` is, else the first on which anything is."""
    seats = store.seats.seats or (store.seat(),)
    here = (seat for seat in seats if chosen and chosen in (seat.wanted, profile_in(seat.phase)))
    taken = (seat for seat in seats if _profile_on(seat) is not None)
    return next(here, None) or next(taken, seats[0])


def profile_for(store: Store, chosen: str = "") -> str | None:
    """The profile that a message sent now would reach, perhaps after waiting; None when nothing is loaded or wanted."""
    return _profile_on(seat_for(store, chosen))


def profiles_loaded(store: Store) -> tuple[str, ...]:
    """All that could be asked now, the first seat's first."""
    found = (_profile_on(seat) for seat in store.seats.seats)
    return tuple(dict.fromkeys(profile for profile in found if profile is not None))


def _profile_on(seat: SeatView) -> str | None:
    if seat.wanted is not None:
        return seat.wanted
    if isinstance(seat.phase, phases.Ready | phases.Stalled | phases.Reserving | phases.Spawning | phases.Loading):
        return profile_in(seat.phase)
    return None
