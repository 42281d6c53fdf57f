"""Holds the verb that takes over another system's `.env` file: `engine-room profiles import FILE`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.client import Client
from app.core import control
from app.core.env_import import Imported, imported_from, read_env
from app.core.errors import BadRequest
from app.core.options import problem_with
from app.core.snapshot import Gpus
from app.engines.registry import FAMILIES
from app.speaking import Json, show, spoken
from app.wiring import real_paths

MOST_BYTES = 1024**2


@spoken
def import_env(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .env file.")],
    write: Annotated[
        bool, typer.Option("--write", help="Make the profiles, change the settings and keep the keys.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Turn a .env file of a system that used vLLM, llama.cpp or Ollama into profiles. Without --write it only shows them."""
    values = read_env(_text(file))
    with Client(real_paths()) as client:
        client.ensure()
        slices = client.slices()
        gpus = slices["gpus"]
        assert isinstance(gpus, Gpus)
        found = imported_from(values, [card.uuid for card in gpus.gpus if card.mig_parent is None], _problem_of)
        waiting = _write(client, found, values) if write else ()
    lines = lines_of(found, write) + [f"{name} counts from the next start of the service." for name in waiting]
    show(found, "\n".join(lines), as_json)


def _problem_of(engine: str, setting: str, value: object) -> str | None:
    option = next((option for option in FAMILIES[engine].options if option.name == setting), None)
    return f"is no setting of {engine}" if option is None else problem_with(option, value)


def _text(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            data = opened.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise BadRequest(f"{file} is too large for a .env file.", "Name the file with the variables.")
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadRequest(f"{file} is not text in UTF-8.", "Name the file with the variables.") from error
    except OSError as error:
        raise BadRequest(f"{file} cannot be read: {error.strerror}.", "Check its name and permissions.") from error


def _write(client: Client, found: Imported, values: dict[str, str]) -> tuple[str, ...]:
    """Returns the settings that do not count at once."""
    waiting: tuple[str, ...] = ()
    for profile in found.profiles:
        wish = control.ProfileText(
            profile=profile.id, text=profile.text, own=True, based_on=""
        )  # another one of that name stays
        client.post("/control/profiles", wish, control.ProfileText)
    if found.settings:
        change = control.SettingsChange(values=dict(found.settings))
        view = client.post("/control/settings", change, control.SettingsView)
        waiting = tuple(name for name in found.settings if name in view.restart_needed)
    for name, variable in found.keys.items():
        client.post("/control/keys", control.GivenKey(name=name, key=values[variable].strip()), control.Accepted)
    return waiting


def lines_of(found: Imported, written: bool) -> list[str]:
    lines: list[str] = []
    for profile in found.profiles:
        lines += [f"{'Made' if written else 'Would make'} the profile {profile.id}:"]
        lines += [f"    {line}" for line in profile.text.rstrip("\n").splitlines()]
    for name, value in found.settings.items():
        lines.append(f"{'Set' if written else 'Would set'} {name} = {value}")
    for name, variable in found.keys.items():
        lines.append(f"{'Kept' if written else 'Would keep'} the key of {variable} as {name!r}; no profile holds it.")
    lines += found.notes
    if not written and found.profiles:
        lines.append("Nothing was changed: say --write to do it.")
    return lines or ["Nothing in it is of use here."]
