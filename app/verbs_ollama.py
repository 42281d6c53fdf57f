"""Holds the verbs about a running Ollama: `engine-room ollama pull MODEL`."""

from __future__ import annotations

from typing import Annotated

import typer

from app.client import Client
from app.core import control
from app.following import follow
from app.speaking import Json, show, spoken
from app.wiring import real_paths

ollama = typer.Typer(name="ollama", no_args_is_help=True, help="A running Ollama: have it fetch models.")


@ollama.callback()
def _group() -> None:
    """Keeps `pull` a verb of its own while it is the only one."""


@ollama.command()
@spoken
def pull(
    model: Annotated[str, typer.Argument(help="As Ollama names it, for example llama3.2:3b.")],
    where: Annotated[
        str, typer.Option("--at", help="Address of the Ollama; the one that is found when left out.")
    ] = "",
    detach: Annotated[bool, typer.Option("--detach", help="Do not wait until it is done.")] = False,
    as_json: Json = False,
) -> None:
    """Have Ollama fetch a model. Ctrl+C cancels; what has come stays with Ollama, which goes on there."""
    with Client(real_paths()) as client:
        client.ensure()
        started = client.post("/control/ollama/pull", control.OllamaPull(model=model, where=where), control.JobStarted)
        if detach:
            show(started, f"Under way as job {started.job}.", as_json)
            return
        job = follow(client, started.job, quiet=as_json)
    show(job, f"{job.subject} is there.", as_json)
