"""Owns the person's choices about engines: which installation a family uses, and places where further ones lie."""

from __future__ import annotations

import threading
import tomllib
from collections.abc import Callable
from pathlib import Path

import msgspec
import tomli_w

from app.core.errors import SettingInvalid
from app.daemon.settings_file import write_whole


class Choices(msgspec.Struct, frozen=True, kw_only=True):
    """`pins`: family → installation's id or path. `places`: programs, environments or folders, each an absolute path."""

    pins: dict[str, str] = {}
    places: tuple[str, ...] = ()


def read_choices(file: Path) -> Choices:
    """What the file says; nothing when it is not there. Raises SettingInvalid for one that cannot be understood."""
    try:
        return msgspec.convert(tomllib.loads(file.read_text("utf-8")), Choices)
    except FileNotFoundError:
        return Choices()
    except (OSError, ValueError, msgspec.ValidationError) as error:
        raise SettingInvalid(
            f"{file} cannot be used: {getattr(error, 'strerror', None) or error}.",
            "Correct that line, or move the file away; until then no engine is pinned.",
        ) from error


def choices_or_none(file: Path) -> Choices:
    """For looking only: a broken file counts as none, and whoever changes it is told."""
    try:
        return read_choices(file)
    except SettingInvalid:
        return Choices()


_changing = threading.Lock()


def change_choices(file: Path, change: Callable[[Choices], Choices]) -> Choices:
    """The choices after `change`, written in one step. Raises SettingInvalid or StorageError, and then nothing is lost."""
    with _changing:
        before = read_choices(file)
        after = change(before)
        if after != before:
            write_whole(file, tomli_w.dumps({"pins": after.pins, "places": list(after.places)}))
        return after
