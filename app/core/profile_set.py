"""Decides what only shows when all profiles are seen together: chains of fallbacks, and which one each seat starts with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from app.core.profiles import Profile
from app.core.snapshot import Problem


def fallbacks_of(profile_id: str, profiles: Mapping[str, Profile]) -> tuple[str, ...]:
    """The profiles that are tried in place of this one, in order; a chain ends where it would come back to itself."""
    chain = [profile_id]
    while (current := profiles.get(chain[-1])) is not None and current.fallback:
        following = named(current.fallback, profiles)
        if following is None or following in chain:
            break
        chain.append(following)
    return tuple(chain[1:])


def named(name: str, profiles: Mapping[str, Profile]) -> str | None:
    """The id of the profile that `name` means, as its id or its alias."""
    if name in profiles:
        return name
    return next((profile.id for profile in profiles.values() if name in profile.aliases), None)


def at_start(seat: str, profiles: Iterable[Profile]) -> str | None:
    """The profile that this seat loads when the service starts; of several the first by id."""
    return min((profile.id for profile in profiles if profile.load_at_start and profile.seat == seat), default=None)


def problems_of(profiles: Mapping[str, Profile]) -> tuple[Problem, ...]:
    """What is wrong between profiles, each said once and at the file where it can be mended."""
    found = [problem for profile in profiles.values() if (problem := _fallback_problem(profile, profiles)) is not None]
    starts: dict[str, Profile] = {}
    for profile in sorted(profiles.values(), key=lambda each: each.id):
        if not profile.load_at_start:
            continue
        first = starts.setdefault(profile.seat, profile)
        if first is not profile:
            found.append(
                Problem(
                    where=profile.source,
                    summary=f"{first.id} and {profile.id} are both to be loaded at start on the seat {profile.seat}; "
                    f"{first.id} is.",
                    advice=f"Take load_at_start out of one of them, or give {profile.id} another seat.",
                )
            )
    return tuple(found)


def _fallback_problem(profile: Profile, profiles: Mapping[str, Profile]) -> Problem | None:
    if not profile.fallback:
        return None
    first = named(profile.fallback, profiles)
    if first is None:
        return Problem(
            where=profile.source,
            summary=f"The fallback of {profile.id}, {profile.fallback}, is no profile.",
            advice="Name one that `engine-room ls` lists, or take the line out.",
        )
    chain = (profile.id, *fallbacks_of(profile.id, profiles))
    back = named(profiles[chain[-1]].fallback or "", profiles)
    if back != profile.id:  # a loop is told by those who are in it, not by those who lead into it
        return None
    return Problem(
        where=profile.source,
        summary=f"The fallbacks of {profile.id} go in a circle: {' → '.join((*chain, back))}.",
        advice="Take the fallback out of one of them.",
    )
