"""Finds the files that a profile's settings name (adapters, drafts, templates), beside the profile's own file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from app.core.errors import SettingInvalid
from app.core.options import Option, paths_in, with_paths
from app.core.profiles import Profile
from app.core.resources import profiles_folder
from app.daemon.folders import expanded


def with_setting_files(profile: Profile, options: Sequence[Option]) -> Profile:
    """The profile with every such path absolute. Raises SettingInvalid for a file that is not there or cannot be read.

    Some engines start without a file that they were told to use, and say it only in their log.
    """
    folder = folder_of(profile)
    found: dict[str, dict[str, str]] = {}
    for option, written in paths_in(options, profile.settings):
        path = expanded(written)
        path = path if path.is_absolute() else folder / path
        _check(profile, option, path, folder)
        found.setdefault(option.name, {})[written] = str(path)
    if not found:
        return profile
    table = {option.name: option for option in options}
    settings = {
        name: with_paths(table[name], str(value), found[name]) if name in found else value
        for name, value in profile.settings.items()
    }
    return replace(profile, settings=settings)


def folder_of(profile: Profile) -> Path:
    """Where a profile's relative paths count from: the folder of its file, or of its model where it has none."""
    match profile.source:
        case "shipped":
            return profiles_folder()
        case "found" | "":
            return Path(profile.model).parent
    return Path(profile.source).parent


def _check(profile: Profile, option: Option, path: Path, folder: Path) -> None:
    where = f"{profile.id}: settings.{option.name}"
    try:
        if path.is_dir():
            if option.folder:
                return
            raise SettingInvalid(f"{where} names {path}, which is a folder.", "Name a file in it.")
        if not path.is_file():
            raise SettingInvalid(
                f"{where} names {path}, which is not there.", f"Correct the path; a relative one counts from {folder}."
            )
    except (OSError, ValueError) as error:
        raise SettingInvalid(
            f"{where} names {path}, which cannot be looked at: {error}.", "Correct the path."
        ) from error
    if not os.access(path, os.R_OK):
        raise SettingInvalid(f"{where} names {path}, which may not be read.", "Check the file's permissions.")
