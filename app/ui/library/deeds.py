"""Decides the one thing that can be done with a profile now, and in which words its state and need are told."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import NamedTuple

from app.core import lifecycle as phases
from app.core.snapshot import ProfileCard, SeatView
from app.ui import wording
from app.ui.keys.words import lacking
from app.ui.store import profile_in


class Now(NamedTuple):
    """What all cards are shown against: is the service there, which seats are there, which keys are kept (None: not told)."""

    connected: bool = False
    seats: tuple[str, ...] = ()
    keys: Mapping[str, str] | None = None


class Deed(enum.Enum):
    """What the card's button does now: its text, kind and icon."""

    LOAD = ("Load", "soft", "play")
    SWITCH = ("Switch", "", "switch")
    CANCEL = ("Cancel", "danger", "close")
    CHAT = ("Open chat", "primary", "chat")
    WAIT = ("Please wait", "", "")
    LOAD_ANYWAY = ("Load anyway …", "", "warning")
    GET_ENGINE = ("Get the engine", "", "download")
    DOWNLOAD = ("Download", "", "download")
    GIVE_KEY = ("Give the key …", "soft", "key")
    NOTHING = ("Load", "", "")


SHORT = {
    Deed.CHAT: "Chat",
    Deed.WAIT: "Wait",
    Deed.LOAD_ANYWAY: "Anyway …",
    Deed.GET_ENGINE: "Engine",
    Deed.GIVE_KEY: "Key …",
}
_SPOKEN = {
    Deed.LOAD_ANYWAY: "Load anyway",
    Deed.CANCEL: "Cancel loading",
    Deed.CHAT: "Open chat with",
    Deed.GET_ENGINE: "Get the engine of",
    Deed.GIVE_KEY: "Give the key of",
}


def spoken(deed: Deed, profile_id: str) -> str:
    """What a screen reader calls the button."""
    return f"{_SPOKEN.get(deed, deed.value[0])} {profile_id}"


def deed_of(card: ProfileCard, seat: SeatView, now: Now) -> Deed:
    """The one thing that can be done with this profile, given what its seat is doing."""
    if not now.connected:
        return Deed.NOTHING
    here = profile_in(seat.phase) == card.profile.id
    match seat.phase:
        case phases.Ready() | phases.Stalled() | phases.Sleeping() if (
            here
        ):  # a sleeping one wakes for the first question
            return Deed.CHAT
        case phases.Reserving() | phases.Spawning() | phases.Loading() | phases.Waking() | phases.Backoff() if here:
            return Deed.CANCEL
        case phases.Parking() if here:
            return Deed.WAIT
    if seat.wanted == card.profile.id and wording.is_leaving(seat):
        return Deed.CANCEL
    if here and wording.is_leaving(seat):
        return Deed.WAIT
    if card.available and not card.engine_available:
        return Deed.GET_ENGINE
    if not card.available and card.profile.source == "shipped":
        return Deed.DOWNLOAD
    if not card.available or not card.engine_available or card.problem is not None:
        return Deed.NOTHING
    if lacking(card, now.keys):
        return Deed.GIVE_KEY
    if card.plan is not None and not card.plan.is_admitted:
        return Deed.LOAD_ANYWAY
    free = isinstance(seat.phase, phases.Idle | phases.Failed)
    return Deed.LOAD if free else Deed.SWITCH


def is_here(card: ProfileCard, seat: SeatView) -> bool:
    """Whether the seat is about this profile and has not failed with it."""
    return profile_in(seat.phase) == card.profile.id and not isinstance(seat.phase, phases.Failed)


def state_words(card: ProfileCard, seat: SeatView, now: Now) -> wording.Words:
    """The pill: what it is doing, else whether it fits."""
    if is_here(card, seat):
        return wording.seat_words(seat)
    said = wording.verdict(card)
    return wording.Words("Needs a key", "warning") if said.tone == "good" and lacking(card, now.keys) else said


def need_words(card: ProfileCard, seat: SeatView, now: Now) -> str:
    if profile_in(seat.phase) == card.profile.id and isinstance(seat.phase, phases.Loading):
        stage = wording.stage_title(seat.phase.stage)
        eta = seat.phase.eta_seconds
        return f"{stage} · about {wording.duration(eta)} left" if eta else stage
    if not card.available and card.profile.source == "shipped" and card.profile.description:
        return card.profile.description
    if card.problem is not None:
        return f"{card.problem.summary} {card.problem.advice}".strip()
    if not card.available:
        return f"Not found: {card.model_path}"
    if not card.engine_available:
        return f"Install {wording.engine(card.profile.engine)} to use it"
    if name := lacking(card, now.keys):
        return f"No key called “{name}” is kept yet."
    if card.plan is not None and not card.plan.is_admitted:
        return card.plan.summary
    return wording.need(card.plan)


def bar_tone(card: ProfileCard, seat: SeatView) -> str:
    if is_here(card, seat):
        return "engine"
    tone = wording.verdict(card).tone
    return tone if tone in ("good", "warning", "danger") else "predicted"
