"""Holds the verbs about runs: which there were, what made each, the same again, and a launch written down for elsewhere."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import time
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from app.client import Client
from app.core import control
from app.core.errors import BadRequest, EngineRoomError, NotWritable, UnknownRun
from app.core.export import KINDS
from app.core.lifecycle import Ready, Stalled
from app.core.snapshot import Runs, RunView, Seats
from app.outcomes import wait_loaded
from app.speaking import Json, show, spoken
from app.wiring import real_paths


def add_runs(app: typer.Typer) -> None:
    for verb in (runs, manifest, again, export):
        app.command()(verb)


@spoken
def runs(as_json: Json = False) -> None:
    """List the runs, the latest first: when, which profile, on which engine, and how it ended."""
    with Client(real_paths()) as client:
        client.ensure()
        found = client.slices()["runs"]
    assert isinstance(found, Runs)
    show(found, "\n".join(_row(run) for run in found.runs) or "No engine has run yet.", as_json)


def _row(run: RunView) -> str:
    began = time.strftime("%Y-%m-%d %H:%M", time.localtime(run.started_at_unix))
    ready = "" if run.ready_seconds is None else f"  ready after {run.ready_seconds:.1f} s"
    engine = " ".join(part for part in (run.engine, run.engine_build) if part)
    return f"{run.id:<28} {began}  {run.profile_id:<20} {run.outcome:<9} {engine}{ready}"


@spoken
def manifest(
    run: Annotated[
        str, typer.Argument(help="A run's id, as `engine-room runs` names it; the latest when left out.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Show all that made a run what it was: command line, engine build, model file, settings, memory plan, timings."""
    with Client(real_paths()) as client:
        client.ensure()
        found = _manifest(client, run or _latest(client))
    show(found, "\n".join(_lines(found)), as_json)


def _latest(client: Client) -> str:
    found = client.slices()["runs"]
    assert isinstance(found, Runs)
    if not found.runs:
        raise UnknownRun("No engine has run yet.", "`engine-room load demo` starts one.")
    return found.runs[0].id


def _manifest(client: Client, run: str) -> control.Manifest:
    return client.get(f"/control/runs/{quote(run, safe='')}/manifest", control.Manifest)


def _lines(found: control.Manifest) -> list[str]:
    run = found.run
    began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(run.started_at_unix))
    engine = found.installation
    changed = found.model_modified_unix
    rows = [
        ("run", f"{run.id}  {run.outcome}  {began}"),
        ("profile", f"{found.profile.id}  {found.profile.title}"),
        ("like run", found.as_run),
        (
            "engine",
            " ".join(part for part in (run.engine, run.engine_build, engine.accelerator if engine else "") if part),
        ),
        ("  at", engine.path if engine else ""),
        ("driver", found.driver_version or ""),
        *(("card", card) for card in found.gpus),
        ("model", found.model_path),
        ("  size", f"{found.model_bytes:,} bytes" if found.model_bytes is not None else ""),
        ("  changed", time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(changed)) if changed else ""),
        ("  print", found.model_fingerprint),
        *(("setting", f"{name} = {value}") for name, value in sorted(found.settings.items())),
        ("memory", run.plan.summary if run.plan else ""),
        *((f"  {device}", f"{count / 1024**2:,.0f} MiB measured") for device, count in run.measured_bytes.items()),
        *(("stage", f"{seconds:8.3f} s  {stage}") for stage, seconds in found.stages.items()),
        ("ready", f"after {run.ready_seconds:.3f} s" if run.ready_seconds is not None else ""),
        ("made by", f"Engine Room {found.product_version}"),
        *(("variable", f"{name}={shlex.quote(value)}") for name, value in sorted(run.environment.items())),
        ("command", shlex.join(run.argv)),
    ]
    return [f"{name:<10} {value}" for name, value in rows if value]


@spoken
def again(
    run: Annotated[str, typer.Argument(help="A run's id, as `engine-room runs` names it.")],
    force: Annotated[bool, typer.Option("--force", help="Also with another model file or engine build.")] = False,
    as_json: Json = False,
) -> None:
    """Load a profile again as it was in an earlier run: its settings then, on the engine of then."""
    with Client(real_paths()) as client:
        client.ensure()
        present = _present(client)
        taken = client.post("/control/runs/again", control.RunOf(run=run, force=force), control.Accepted)
        seat = wait_loaded(client, taken.profile, quiet=as_json, not_run=_to_leave(client, present, run))
    began = seat.run.id if seat.run else ""
    show(seat, f"{taken.profile} is ready as it was in {run}; this run is {began}.", as_json)


def _present(client: Client) -> str:
    seats = client.slices()["seats"]
    assert isinstance(seats, Seats)
    return next((view.phase.run_id for view in seats.seats if isinstance(view.phase, Ready | Stalled)), "")


def _to_leave(client: Client, present: str, run: str) -> str:
    """The present run, unless it is like that run already: then it stays."""
    if not present:
        return ""
    with contextlib.suppress(EngineRoomError):
        if _manifest(client, present).as_run == run:
            return ""
    return present


@spoken
def export(
    profile: str,
    kind: Annotated[str, typer.Option("--as", metavar="|".join(KINDS), help="What to write.")],
    port: Annotated[int, typer.Option(help="The engine's port; each export can be told another one later.")] = 8080,
    file: Annotated[str, typer.Option("-o", "--output", metavar="FILE", help="Write it there.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    as_json: Json = False,
) -> None:
    """Write a profile's launch down as a shell script, a systemd user unit or a compose file; keys are never in it."""
    with Client(real_paths()) as client:
        client.ensure()
        wish = control.ExportOf(profile=profile, kind=kind, port=port)
        found = client.post("/control/export", wish, control.Export)
    if file:
        _write(Path(file), found.text, 0o755 if kind == "shell" else 0o600, force)
    if not as_json:
        for note in found.notes:
            print(note, file=sys.stderr)
    show(found, f"{file} is written." if file else found.text.rstrip("\n"), as_json)


def _write(path: Path, text: str, mode: int, force: bool) -> None:
    flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if force else os.O_EXCL)
    try:
        with os.fdopen(os.open(path, flags, mode), "w", encoding="utf-8") as opened:
            os.fchmod(opened.fileno(), mode)
            opened.write(text)
    except FileExistsError as error:
        raise BadRequest(f"{path} is there already.", "Choose another name, or overwrite it with --force.") from error
    except OSError as error:
        raise NotWritable(f"{path} cannot be written: {error.strerror}.", "Choose another place.") from error
