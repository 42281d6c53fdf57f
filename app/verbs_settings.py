"""Holds the verb that tells what an engine can be told, from the engines' own tables. `engine-room settings [ENGINE]`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer

from app.core.settings_table import as_lines, one_engine
from app.engines.base import EngineFamily
from app.engines.registry import FAMILIES, options_view
from app.speaking import Json, show, spoken


def add_settings(app: typer.Typer, families: Mapping[str, EngineFamily] = FAMILIES) -> None:
    """Gives `app` the verb, for these engines. It needs no service: the tables are here."""

    @app.command()
    @spoken
    def settings(
        engine: Annotated[str, typer.Argument(help="An engine; all of them when left out.")] = "",
        as_json: Json = False,
    ) -> None:
        """Say what each engine can be told: every setting with its bounds, its default and the flag that carries it."""
        view = options_view(families)
        view = one_engine(view, engine) if engine else view
        show(view, "\n".join(as_lines(view)), as_json)
