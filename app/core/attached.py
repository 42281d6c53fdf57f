"""Decides what an engine that we did not start is to us at the moment: probing, ready or unreachable; pure.

There is no arrow here that ends anything: such an engine is asked for things, and left alone otherwise (I5).
"""

from __future__ import annotations

from typing import Literal

import msgspec

from app.core.lifecycle import AttachedState

SILENT_LOOKS = 2  # one look that got no answer may be a hiccup

News = Literal["answers", "is_ours", "changed", "silent"]


class Watched(msgspec.Struct, frozen=True, kw_only=True):
    """The state, and how many looks in a row got no answer."""

    state: AttachedState
    silent: int = 0


def after(watched: Watched, news: News, now: float, reason: str = "") -> Watched:
    """`answers`: somebody is there; `is_ours`: it has shown the model that we mean (I13);
    `changed`: it has not what it had; `silent`: nobody answered.

    Whoever comes back after a silence is looked at anew before anything is sent to it.
    """
    state = watched.state
    match state.state, news:
        case _, "is_ours":
            return Watched(state=_moved(state, "ready", now))
        case ("unreachable", "answers") | (_, "changed"):
            return Watched(state=_moved(state, "probing", now))
        case "ready", "silent" if watched.silent + 1 < SILENT_LOOKS:
            return Watched(state=state, silent=watched.silent + 1)
        case _, "silent":
            return Watched(state=_moved(state, "unreachable", now, reason), silent=watched.silent + 1)
    return Watched(state=state)


def _moved(
    state: AttachedState, to: Literal["probing", "ready", "unreachable"], now: float, reason: str = ""
) -> AttachedState:
    since = state.since if state.state == to else now
    return AttachedState(state=to, where=state.where, since=since, reason=reason)
