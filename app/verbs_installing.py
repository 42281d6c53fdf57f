"""Holds the verbs that change what engines are there: install, remove, canary, caches, log. Each is a job that is followed."""

from __future__ import annotations

from functools import partial
from typing import Annotated
from urllib.parse import quote

import typer

from app.client import Client
from app.core import control
from app.core.errors import NoSuchJob
from app.core.snapshot import Engines, Jobs
from app.following import follow
from app.speaking import Json, show, spoken
from app.verbs_engines import engines
from app.wiring import real_paths

__all__ = ["engines"]

caches = typer.Typer(name="caches", invoke_without_command=True, help="What engines left on the disk, and clearing it.")
engines.add_typer(caches)

Detach = Annotated[bool, typer.Option("--detach", help="Do not wait until it is done.")]


@engines.command()
@spoken
def install(
    engine: Annotated[
        str,
        typer.Argument(
            metavar="ENGINE[==VERSION]", help="llama.cpp, llama-server, llama-cpp-python, vllm or vllm-docker."
        ),
    ],
    accelerator: Annotated[
        str, typer.Option(help="cpu, cuda, rocm or vulkan; the best that is here when left out.")
    ] = "",
    again: Annotated[bool, typer.Option("--again", help="Also when one is installed: make it anew.")] = False,
    detach: Detach = False,
    as_json: Json = False,
) -> None:
    """Install an engine beside those that are there. Ctrl+C cancels and leaves nothing."""
    family, _, version = engine.partition("==")
    wish = control.Install(family=family, version=version, accelerator=accelerator, again=again)
    with Client(real_paths()) as client:
        client.ensure()
        started = client.post("/control/engines/install", wish, control.JobStarted)
        if detach:
            show(started, f"Under way as job {started.job}.", as_json)
            return
        job = follow(client, started.job, quiet=as_json)
        found = client.post("/control/engines/refresh", control.Refresh(), Engines)
    name = str(job.result.get("installation", ""))
    rows = {row.id: (family.family, row) for family in found.families for row in family.installations}
    lines = [f"{name} is installed."]
    lines += dict.fromkeys(
        row.note for family in found.families for row in family.installations if row.id == name and row.note
    )
    if name in rows and not rows[name][1].chosen:
        lines.append(
            f"`engine-room engines pin {rows[name][0]} {name}` uses it; `engine-room engines canary {name}` tries it."
        )
    show(job, "\n".join(lines), as_json)


@engines.command()
@spoken
def remove(installation: str, as_json: Json = False) -> None:
    """Remove an engine that Engine Room installed."""
    with Client(real_paths()) as client:
        client.ensure()
        started = client.post(
            "/control/engines/remove", control.EngineOf(installation=installation), control.JobStarted
        )
        job = follow(client, started.job, quiet=as_json)
    show(job, f"{installation} is removed.", as_json)


@engines.command()
@spoken
def canary(
    installation: str,
    profile: Annotated[str, typer.Option(help="The profile to try it on.")] = "demo",
    as_json: Json = False,
) -> None:
    """Try an engine on a model of yours, against the one that is used now. Nothing may be loaded meanwhile."""
    wish = control.Canary(installation=installation, profile=profile)
    with Client(real_paths()) as client:
        client.ensure()
        job = follow(client, client.post("/control/engines/canary", wish, control.JobStarted).job, quiet=as_json)
    show(job, str(job.result.get("verdict", "")), as_json)


@engines.command()
@spoken
def log(job: Annotated[str, typer.Argument(help="A job's id; the latest one when left out.")] = "") -> None:
    """Print what the tools of an installation said."""
    with Client(real_paths()) as client:
        client.hello()
        jobs = client.slices()["jobs"]
        assert isinstance(jobs, Jobs)
        chosen = job or (jobs.jobs[0].id if jobs.jobs else "")
        if not chosen:
            raise NoSuchJob("No job has run yet.", "`engine-room engines install` starts one.")
        path = f"/control/jobs/{quote(chosen, safe='')}/log"
        print(client.checked(partial(client.http.get, path)).text, end="")


@caches.callback()
@spoken
def list_caches(context: typer.Context, as_json: Json = False) -> None:
    """List the caches: what each takes and what clearing it costs."""
    if context.invoked_subcommand is not None:
        return
    with Client(real_paths()) as client:
        client.ensure()
        found = client.get("/control/caches", control.Caches)
    rows = []
    for cache in found.caches:
        rows.append(f"{cache.id:<42} {cache.disk_bytes / 1e6:>9.1f} MB  {cache.title}")
        rows.append(f"    {cache.path}: {cache.sentence}")
    show(found, "\n".join(rows) or "No cache is there.", as_json)


@caches.command("clear")
@spoken
def clear_cache(cache: str, as_json: Json = False) -> None:
    """Empty one cache; files of models are never touched."""
    with Client(real_paths()) as client:
        client.ensure()
        started = client.post("/control/caches/clear", control.CacheOf(cache=cache), control.JobStarted)
        job = follow(client, started.job, quiet=as_json)
    freed = job.result.get("freed_bytes", 0)
    show(job, f"{int(str(freed)) / 1e6:.1f} MB are free again.", as_json)
