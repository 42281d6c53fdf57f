"""Holds the verbs about keys of remote endpoints: `engine-room keys`, `keys set NAME`, `keys remove NAME`."""

from __future__ import annotations

import getpass
import sys
from typing import Annotated

import typer

from app.client import Client
from app.core import control
from app.speaking import Json, show, spoken
from app.wiring import real_paths

keys = typer.Typer(
    name="keys", invoke_without_command=True, help="The keys of remote endpoints, by their names; never shown."
)

Name = Annotated[str, typer.Argument(help="The name that a profile says as settings.key_name.")]


@keys.callback()
@spoken
def list_keys(context: typer.Context, as_json: Json = False) -> None:
    """List the names of the keys that are kept, and where."""
    if context.invoked_subcommand is not None:
        return
    with Client(real_paths()) as client:
        client.ensure()
        found = client.get("/control/keys", control.Keys)
    rows = [f"{name:<24} in the {where}" for name, where in found.keys.items()]
    show(found, "\n".join(rows) or "No key is kept.", as_json)


@keys.command("set")
@spoken
def set_key(name: Name, as_json: Json = False) -> None:
    """Keep a key under a name. It is read from standard input, or asked for on a terminal; never an argument."""
    key = getpass.getpass(f"Key {name}: ") if sys.stdin.isatty() else sys.stdin.readline()
    with Client(real_paths()) as client:
        client.ensure()
        answer = client.post("/control/keys", control.GivenKey(name=name, key=key.strip()), control.Accepted)
    show(answer, answer.note, as_json)


@keys.command("remove")
@spoken
def remove_key(name: Name, as_json: Json = False) -> None:
    """Forget a key."""
    with Client(real_paths()) as client:
        client.ensure()
        answer = client.post("/control/keys/remove", control.KeyOf(name=name), control.Accepted)
    show(answer, answer.note, as_json)
