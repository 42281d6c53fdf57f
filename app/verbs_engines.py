"""Holds the verbs about engines: what is installed, what is used, what can be had. `engine-room engines …`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.client import Client
from app.core import control
from app.core.snapshot import Engines, EngineView, InstallationView
from app.speaking import Json, show, spoken
from app.wiring import real_paths

engines = typer.Typer(
    name="engines", no_args_is_help=True, help="The engines on this machine: list, install, try, choose, remove."
)


@engines.command("list")
@spoken
def list_engines(
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Look everywhere again first; takes some seconds.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List the engines that are installed here; * marks the one that is used, ! one that cannot be."""
    with Client(real_paths()) as client:
        client.ensure()
        found = client.slices()["engines"]
        if refresh:
            found = client.post("/control/engines/refresh", control.Refresh(), Engines)
    assert isinstance(found, Engines)
    show(found, "\n".join(line for family in found.families for line in _lines(family)), as_json)


@engines.command()
@spoken
def pin(
    family: Annotated[str, typer.Argument(help="An engine, as the list names it: llama.cpp, llama-server, …")],
    installation: Annotated[str, typer.Argument(help="The id or the path of one of its installations.")],
    as_json: Json = False,
) -> None:
    """Use this installation for every profile that does not name one itself."""
    _pin(control.Pin(family=family, installation=_in_full(installation)), as_json)


@engines.command()
@spoken
def unpin(family: str, as_json: Json = False) -> None:
    """Use the best installation again."""
    _pin(control.Pin(family=family), as_json)


def _pin(wish: control.Pin, as_json: bool) -> None:
    with Client(real_paths()) as client:
        client.ensure()
        answer = client.post("/control/engines/pin", wish, control.Accepted)
    show(answer, answer.note, as_json)


@engines.command()
@spoken
def add(
    path: Annotated[str, typer.Argument(help="A program, an interpreter, an environment, or a folder with builds.")],
    forget: Annotated[bool, typer.Option("--forget", help="Do not look there any more.")] = False,
    as_json: Json = False,
) -> None:
    """Look for engines in a further place, now and later."""
    with Client(real_paths()) as client:
        client.ensure()
        wish = control.AddEngine(path=str(Path(path).expanduser().absolute()), forget=forget)
        answer = client.post("/control/engines/add", wish, control.Accepted)
    show(answer, answer.note, as_json)


def _in_full(installation: str) -> str:
    """A path as the service can use it, which stands in another folder; an id as it is."""
    is_path = "/" in installation and "://" not in installation
    return str(Path(installation).expanduser().absolute()) if is_path else installation


def _lines(family: EngineView) -> list[str]:
    head = f"{family.family:<17} {family.title}"
    rows = [_row(installation) for installation in family.installations]
    return [head, *rows, *([] if family.available else [f"  not usable: {family.how_to_get}"])]


def _row(installation: InstallationView) -> str:
    mark = "!" if installation.problem else "*" if installation.chosen else " "
    on = f"{installation.accelerator.upper()} ({', '.join(installation.devices)})"
    what = ", ".join(
        filter(None, (installation.build, on if installation.devices else installation.accelerator.upper()))
    )
    words = installation.problem or installation.note
    row = f"{mark} {installation.id:<34} {what}  {installation.path}"
    return f"{row}\n    {words}" if words else row
