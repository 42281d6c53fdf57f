"""Holds the verbs about profiles: show, change, copy and remove the file that describes one. `engine-room profiles …`."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from app.client import Client
from app.core import control
from app.core.errors import EngineRoomError, ProfileInvalid, SettingInvalid
from app.core.profile_text import with_value
from app.core.profiles import KEYS, TEXTS
from app.core.redaction import masked, secrets_of
from app.core.snapshot import Library
from app.speaking import Json, show, spoken
from app.verbs_import import import_env
from app.wiring import real_paths

profiles = typer.Typer(
    name="profiles", no_args_is_help=True, help="The files that say what to load: show, change, copy, remove."
)

profiles.command("import")(import_env)
_TABLES = ("settings", "sampling", "environment")


@profiles.command("show")
@spoken
def show_profile(
    profile: str,
    secrets: Annotated[bool, typer.Option("--secrets", help="Print keys and tokens too.")] = False,
    as_json: Json = False,
) -> None:
    """Print a profile's file as it is; keys in it are masked."""
    with Client(real_paths()) as client:
        client.ensure()
        found = _text(client, profile)
    text = found.text if secrets else _without_secrets(found.text)
    show(control.ProfileText(profile=found.profile, text=text, own=found.own), text.rstrip("\n"), as_json)


@profiles.command("set")
@spoken
def set_values(
    profile: str,
    values: Annotated[
        list[str],
        typer.Argument(metavar="KEY=VALUE…", help="title=…, slots=2, sampling.top_k=40; KEY= takes a key out."),
    ],
    as_json: Json = False,
) -> None:
    """Change a profile's file; all else in it stays as it is. A shipped or found profile becomes a file of your own."""
    with Client(real_paths()) as client:
        client.ensure()
        found = _text(client, profile)
        text = found.text
        for value in values:
            path, parsed = _assignment(value, text)
            text = with_value(text, path, parsed)
        saved = _save(client, control.ProfileText(profile=found.profile, text=text, based_on=_base(found)))
    show(saved, f"{saved.profile} is changed.", as_json)


@profiles.command("copy")
@spoken
def copy(profile: str, new: str, as_json: Json = False) -> None:
    """Make a profile of your own from another; its title gets the new name, its aliases stay behind."""
    with Client(real_paths()) as client:
        client.ensure()
        library = client.slices()["library"]
        assert isinstance(library, Library)
        if any(card.profile.id == new for card in library.profiles):
            raise SettingInvalid(f"There is a profile {new} already.", "Choose another name, or remove it first.")
        text = with_value(with_value(_text(client, profile).text, ("title",), new), ("aliases",), None)
        saved = _save(client, control.ProfileText(profile=new, text=text, based_on=""))
    show(saved, f"{new} is there; `engine-room profiles set {new} …` changes it.", as_json)


@profiles.command("remove")
@spoken
def remove(profile: str, as_json: Json = False) -> None:
    """Remove a profile of your own; its file is kept in the trash."""
    with Client(real_paths()) as client:
        client.ensure()
        done = client.post("/control/profiles/remove", control.ProfileOf(profile=profile), control.Accepted)
    show(done, done.note, as_json)


@profiles.command("edit")
@spoken
def edit(profile: str) -> None:
    """Open a profile in $VISUAL or $EDITOR; what is saved there is checked, and opened again when it has problems."""
    editor = shlex.split(os.environ.get("VISUAL") or os.environ.get("EDITOR") or "nano")
    with Client(real_paths()) as client, tempfile.TemporaryDirectory() as folder:
        client.ensure()
        found = _text(client, profile)
        file = Path(folder) / f"{found.profile}.toml"
        file.touch(mode=0o600)
        file.write_text(found.text, "utf-8")
        while True:
            try:
                subprocess.run([*editor, str(file)], check=True)
            except (OSError, subprocess.CalledProcessError) as error:
                raise EngineRoomError(
                    f"The editor {editor[0]} could not be used: {error}.", "Set EDITOR to another; nothing was changed."
                ) from error
            text = file.read_text("utf-8")
            if text == found.text:
                print(f"{found.profile} is as it was.")
                return
            try:
                _save(client, control.ProfileText(profile=found.profile, text=text, based_on=_base(found)))
            except EngineRoomError as error:
                print(f"engine-room: {error}", file=sys.stderr)
                if not (sys.stdin.isatty() and typer.confirm("Edit it again?", default=True)):
                    raise
                continue
            print(f"{found.profile} is changed.")
            return


def _text(client: Client, profile: str) -> control.ProfileText:
    return client.get(f"/control/profiles/{quote(profile, safe='')}", control.ProfileText)


def _base(found: control.ProfileText) -> str | None:
    """What a file of the person's must still be for the change to be taken; another one's copy must not be there yet."""
    return found.text if found.own else ""


def _save(client: Client, wish: control.ProfileText) -> control.ProfileText:
    """Says every problem of the text; the first is raised."""
    try:
        return client.post("/control/profiles", wish, control.ProfileText)
    except ProfileInvalid as error:
        for detail in error.details[1:]:
            print(f"engine-room: {detail.summary} {detail.advice}".rstrip(), file=sys.stderr)
        raise


def _assignment(word: str, text: str) -> tuple[tuple[str, ...], object | None]:
    """(path, value) of `KEY=VALUE`; a key that is no key of the file is a setting. None = take it out."""
    key, equals, value = word.partition("=")
    if not equals or not key:
        raise typer.BadParameter(f"{word!r} is not KEY=VALUE.")
    path = tuple(key.split(".", 1))
    if len(path) == 1 and key not in KEYS:
        path = ("settings", key)
    elif len(path) == 2 and path[0] not in _TABLES:
        raise typer.BadParameter(f"{key!r}: before the dot stands one of {', '.join(_TABLES)}.")
    if not value:
        return path, None
    if path[0] == "environment" or (path[0] in TEXTS and len(path) == 1):
        return path, value
    try:
        return path, json.loads(value)
    except ValueError:
        return path, value


def _without_secrets(text: str) -> str:
    try:
        environment = tomllib.loads(text).get("environment", {})
    except tomllib.TOMLDecodeError:
        environment = {}
    known = {name: value for name, value in environment.items() if isinstance(value, str)}
    return masked(text.encode(), secrets_of(known)).decode("utf-8", "replace")
