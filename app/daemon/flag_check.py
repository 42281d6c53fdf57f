"""Tells which flags of a profile the engine's own help does not know, before anything is started."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from app.core.errors import EngineRoomError
from app.core.options import Option
from app.core.profiles import Profile
from app.core.snapshot import ProfileCard
from app.engines.arguments import unknown_flags
from app.engines.base import Installation
from app.engines.registry import FAMILIES

KnownFlags = Callable[[Installation], frozenset[str] | None]


def unknown_to(installation: Installation, profile: Profile, known_flags: KnownFlags) -> tuple[str, ...]:
    """Flags of the profile's extra arguments and settings that this build does not name; none while its help is unknown."""
    known = known_flags(installation)
    if known is None:
        return ()
    said = flags_of(FAMILIES[profile.engine].options, profile)
    return unknown_flags((*said, *profile.extra_arguments), known)


def flags_of(options: Sequence[Option], profile: Profile) -> list[str]:
    """The flags that the profile's own settings become."""
    named = [option for option in options if option.name in profile.settings]
    return [
        option.flag_off if profile.settings[option.name] is False and option.flag_off else option.flag
        for option in named
    ]


def warning_of(flags: Sequence[str], title: str) -> str:
    """A sentence for flags that the engine may refuse; "" for none."""
    if not flags:
        return ""
    many = len(flags) > 1
    return (
        f"{title} does not name {', '.join(flags)} in its help; it may refuse to start with {'them' if many else 'it'}."
    )


def warning_for(card: ProfileCard, need: Callable[[Profile], Installation], known_flags: KnownFlags) -> str:
    """What a card says of its flags; "" while its engine cannot be found."""
    if not card.profile.extra_arguments and not card.profile.settings:
        return ""
    try:
        installation = need(card.profile)
    except EngineRoomError:
        return ""
    return warning_of(unknown_to(installation, card.profile, known_flags), FAMILIES[card.profile.engine].title)
