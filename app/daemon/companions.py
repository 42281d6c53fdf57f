"""Reads the files that a profile's settings load beside its model, each once until it changes."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from app.core.catalog.companions import ROLES, read_companion
from app.core.catalog.facts import Companion
from app.core.errors import ModelError
from app.core.options import paths_in
from app.core.profiles import Profile
from app.daemon.folders import Stamp, expanded, stamp_of
from app.daemon.setting_files import folder_of
from app.engines.registry import FAMILIES


def companions_of(profile: Profile) -> tuple[Companion, ...]:
    """What is loaded beside the profile's model, as far as it can be read: the launch itself says what cannot."""
    found = []
    for option, written in paths_in(FAMILIES[profile.engine].options, profile.settings):
        if (role := ROLES.get(option.name)) is None:
            continue
        path = expanded(written)
        path = path if path.is_absolute() else folder_of(profile) / path
        if (stamp := stamp_of(path)) is not None and (companion := _read(role, path, stamp)) is not None:
            found.append(companion)
    return tuple(found)


@lru_cache(maxsize=256)
def _read(role: str, path: Path, stamp: Stamp) -> Companion | None:
    try:
        return read_companion(role, path)
    except (ModelError, OSError, ValueError):
        return None
