"""Decides which keys are needed, kept or missing, and says so for a person; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from app.core.snapshot import ProfileCard

HUB = "hub"  # the access token of Hugging Face is kept under this name
_PLACES = {"keyring": "In the desktop’s keyring", "file": "In a file that only this account can read"}


class KeyLine(NamedTuple):
    """One key as a line: what it is called, what it is for, where it lies ("" = it is not kept)."""

    name: str
    title: str
    told: str
    place: str

    @property
    def is_kept(self) -> bool:
        return bool(self.place)


def key_of(card: ProfileCard) -> str:
    """The name of the key that the profile's endpoint wants; "" = none."""
    name = card.profile.settings.get("key_name") if card.profile.engine == "remote" else ""
    return str(name or "")


def lacking(card: ProfileCard, kept: Mapping[str, str] | None) -> str:
    """The name of the key that must be given before the profile can be loaded; `kept` is None while nobody has told."""
    name = key_of(card)
    return name if name and kept is not None and name not in kept else ""


def lines(kept: Mapping[str, str], cards: Iterable[ProfileCard]) -> tuple[KeyLine, ...]:
    """The hub's token first, then what profiles miss, then what is kept."""
    users: dict[str, list[str]] = {}
    for card in cards:
        if name := key_of(card):
            users.setdefault(name, []).append(card.profile.title or card.profile.id)
    names = [*(name for name in users if name not in kept), *(name for name in kept if name != HUB)]
    return (_hub(kept), *(_remote(name, users.get(name, []), kept) for name in names))


def _hub(kept: Mapping[str, str]) -> KeyLine:
    place = _PLACES.get(kept.get(HUB, ""), "")
    return KeyLine(HUB, "Hugging Face access token", "For models whose publisher asks you to agree to terms.", place)


def _remote(name: str, users: list[str], kept: Mapping[str, str]) -> KeyLine:
    used = f"For {', '.join(users)}." if users else "No profile uses it."
    return KeyLine(name, name, used, _PLACES.get(kept.get(name, ""), ""))
