"""Decides what the gateway may do with a seat's requests, from what the seat goes through."""

from __future__ import annotations

import time

from msgspec.structs import replace

from app.core.lifecycle import Draining, Loading, Ready, Sleeping, Stalled
from app.core.seat import SeatState
from app.daemon.attachment import Hold
from app.daemon.effects import Parts
from app.daemon.gateway import Route


def route_of(seat: str, state: SeatState, parts: Parts) -> Route:
    """The gateway sends only by (run, Ready); everything else says whether a request waits, wakes or is refused."""
    phase, resting = state.phase, state.resting
    run_id = getattr(phase, "run_id", "")
    if isinstance(phase, Ready | Stalled):
        prepared = parts.book.prepared[phase.run_id]
        hold = prepared.hold
        away = hold is not None and hold.watched.state.state != "ready"  # its requests wait until it is back
        return Route(
            seat=seat,
            state="loading" if away else "ready",
            reason=away_sentence(hold) if away else "",
            outlets=hold.attachment.outlets if hold is not None else (),
            profile_id=prepared.profile.id,
            run_id=phase.run_id,
            title=prepared.profile.title,
            aliases=prepared.profile.aliases,
            endpoint=phase.endpoint,
            traits=prepared.family.traits,
            api_key=prepared.launch.api_key if prepared.launch else "",
        )
    if state.wanted is None:
        failure = state.last_failure
        reason = failure.summary if failure else "No model is loaded."
        return Route(seat=seat, state="none", run_id=run_id, reason=reason)
    profile = parts.library.profiles.get(state.wanted.profile_id)
    known = Route(
        seat=seat,
        profile_id=state.wanted.profile_id,
        run_id=run_id,
        title=profile.title if profile is not None else "",
        aliases=profile.aliases if profile is not None else (),
    )
    if resting is None:
        return replace(
            known,
            state="draining" if isinstance(phase, Draining) else "loading",
            reason=f"{known.profile_id} is loading.",
            eta_seconds=phase.eta_seconds if isinstance(phase, Loading) else None,
        )
    if resting.reason == "lent":
        return replace(known, state="lent", reason=lent_sentence(resting.until_unix), until=resting.until)
    if resting.reason == "memory":
        return replace(known, state="none", reason=state.notice)
    if isinstance(phase, Sleeping):  # it is there: to wake it is no load that a setting forbids
        return replace(known, state="resting", reason=f"{known.profile_id} is waking.")
    if not parts.settings().gateway.load_on_request:
        return replace(known, state="none", reason=f"{known.profile_id} was unloaded because nobody used it.")
    return replace(known, state="resting", reason=f"{known.profile_id} is loading.")


def away_sentence(hold: Hold | None) -> str:
    state = hold.watched.state if hold is not None else None
    return state.reason or f"{state.where} is being looked at again." if state is not None else ""


def lent_sentence(until_unix: float | None) -> str:
    return f"The card is lent until {time.strftime('%H:%M', time.localtime(until_unix))}."
