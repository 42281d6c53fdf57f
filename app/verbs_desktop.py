"""Holds the verbs that put Engine Room into the desktop's menu: `engine-room desktop install`, `remove`, `status`."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import typer

from app.core.desktop_entry import entry_text, is_ours, places
from app.core.errors import BadRequest, NotWritable
from app.core.own_command import own_program
from app.core.resources import resources_folder
from app.daemon.settings_file import write_whole
from app.speaking import Json, show, spoken

desktop = typer.Typer(name="desktop", help="Put Engine Room into the desktop's menu, with its icon.")


class DesktopStatus(msgspec.Struct, frozen=True, kw_only=True):
    """`current`: the entry starts this installation."""

    entry: str
    icon: str
    installed: bool
    current: bool = False


@desktop.command()
@spoken
def install(as_json: Json = False) -> None:
    """Put Engine Room into your account's menu; again after it has been moved."""
    place = places(os.environ)
    _refuse_foreign(place.entry)
    icon = resources_folder() / "icons" / "engine-room.svg"
    write_whole(place.icon, icon.read_bytes())
    write_whole(place.entry, entry_text(own_program()))
    show(_status(), f"{place.entry}: Engine Room is in the menu.", as_json)


@desktop.command()
@spoken
def remove(as_json: Json = False) -> None:
    """Take Engine Room out of your account's menu."""
    place = places(os.environ)
    _refuse_foreign(place.entry)
    there = place.entry.is_file()
    for file in place:
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            raise NotWritable(f"{file} cannot be removed: {error.strerror}.", "Check its folder's owner.") from error
    show(_status(), "Engine Room is out of the menu." if there else "Engine Room was not in the menu.", as_json)


@desktop.command()
@spoken
def status(as_json: Json = False) -> None:
    """Say whether Engine Room is in your account's menu, and whether that entry starts this installation."""
    found = _status()
    text = f"{found.entry}: {'starts this installation' if found.current else 'starts another installation'}"
    show(found, text if found.installed else "not in the menu: `engine-room desktop install`", as_json)


def _status() -> DesktopStatus:
    place = places(os.environ)
    text = _read(place.entry)
    return DesktopStatus(
        entry=str(place.entry), icon=str(place.icon), installed=bool(text), current=text == entry_text(own_program())
    )


def _refuse_foreign(file: Path) -> None:
    if (text := _read(file)) and not is_ours(text):
        raise BadRequest(f"{file} is not Engine Room's own, and stays as it is.", "Move it away, then say it again.")


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8", "replace")
    except OSError:
        return ""
