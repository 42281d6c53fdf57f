"""Holds the verbs about engines: what is installed, what is used, what can be had. `engine-room engines …`."""

from __future__ import annotations

import typer

from app.client import Client
from app.core.snapshot import Engines, EngineView, InstallationView
from app.speaking import Json, show, spoken
from app.wiring import real_paths

engines = typer.Typer(name="engines", no_args_is_help=True, help="The engines on this machine: list, choose, add.")


@engines.command("list")
@spoken
def list_engines(as_json: Json = False) -> None:
    """List the engines that are installed here; * marks the one that is used, ! one that cannot be."""
    with Client(real_paths()) as client:
        client.ensure()
        found = client.slices()["engines"]
    assert isinstance(found, Engines)
    show(found, "\n".join(line for family in found.families for line in _lines(family)), as_json)


def _lines(family: EngineView) -> list[str]:
    head = f"{family.family:<17} {family.title}"
    rows = [_row(installation) for installation in family.installations]
    return [head, *rows, *([] if family.available else [f"  not usable: {family.how_to_get}"])]


def _row(installation: InstallationView) -> str:
    mark = "!" if installation.problem else "*" if installation.chosen else " "
    what = ", ".join(part for part in (installation.build, installation.accelerator.upper()) if part)
    words = installation.problem or installation.note
    row = f"{mark} {installation.id:<34} {what}  {installation.path}"
    return f"{row}\n    {words}" if words else row
