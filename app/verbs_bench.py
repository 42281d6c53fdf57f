"""Holds the verb that measures the loaded model: `engine-room bench [PROFILE]`, and `--list` for what was measured."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from app.client import Client
from app.core import control
from app.core.bench import Bench, Benches
from app.core.errors import EngineFailed
from app.core.lifecycle import Ready
from app.core.snapshot import Seats
from app.following import follow
from app.outcomes import wait_loaded
from app.speaking import Json, show, spoken
from app.wiring import real_paths


def add_bench(app: typer.Typer) -> None:
    app.command()(bench)


@spoken
def bench(
    profile: Annotated[str, typer.Argument(help="Loaded first, if it is not; what is loaded when left out.")] = "",
    listed: Annotated[bool, typer.Option("--list", help="Show what was measured before; nothing is asked.")] = False,
    as_json: Json = False,
) -> None:
    """Measure the loaded model through the endpoint: reading, writing, time to the first token; kept with its run."""
    with Client(real_paths()) as client:
        client.ensure()
        if not listed:
            wish = control.BenchOf(profile=_loaded(client, profile, as_json) if profile else "")
            job = follow(client, client.post("/control/bench", wish, control.JobStarted).job, quiet=as_json)
        kept = client.get("/control/benches", Benches).benches
    if listed:
        show(Benches(benches=kept), "\n".join(_row(one) for one in kept) or "Nothing was measured yet.", as_json)
        return
    found = next((one for one in kept if one.id == job.id), None)
    if found is None:
        raise EngineFailed("The figures could not be kept.", "`engine-room doctor` says what is wrong with the disk.")
    show(found, _words(found), as_json)


def _loaded(client: Client, profile: str, quiet: bool) -> str:
    """The profile's id, loaded if it was not."""
    seats = client.slices()["seats"]
    assert isinstance(seats, Seats)
    for seat in seats.seats:
        if seat.run is not None and seat.run.profile_id == profile and isinstance(seat.phase, Ready):
            return profile
    accepted = client.post("/control/want", control.Want(profile=profile), control.Accepted)
    wait_loaded(client, accepted.profile or profile, quiet=quiet, seat=accepted.seat)
    return accepted.profile or profile


def _words(one: Bench) -> str:
    lines = [
        f"{one.title} on {' '.join(filter(None, (one.engine, one.engine_build)))}",
        f"  reading       {_figure(one.prompt_tokens_per_second, 'tok/s')}  ({_count(one.prompt_tokens)} tokens)",
        f"  writing       {_figure(one.tokens_per_second, 'tok/s')}  ({_count(one.answer_tokens)} tokens)",
        f"  first token   {_figure(_milliseconds(one), 'ms')}",
        f"Medians of {len(one.rounds)} answers, one at a time. What made them: `engine-room manifest {one.run_id}`.",
    ]
    if one.shared:
        lines.append("Others were answered meanwhile, so it could have been faster.")
    return "\n".join(lines)


def _row(one: Bench) -> str:
    at = time.strftime("%Y-%m-%d %H:%M", time.localtime(one.at_unix))
    figures = (
        f"reading {_figure(one.prompt_tokens_per_second, 'tok/s')}",
        f"writing {_figure(one.tokens_per_second, 'tok/s')}",
        f"first token {_figure(_milliseconds(one), 'ms')}",
    )
    return f"{at}  {one.profile_id:<20} {one.engine:<16} {'  '.join(figures)}  {one.run_id}"


def _milliseconds(one: Bench) -> float | None:
    return None if one.first_token_seconds is None else 1000 * one.first_token_seconds


def _figure(value: float | None, unit: str) -> str:
    return f"{'—' if value is None else format(value, ',.1f' if value < 100 else ',.0f'):>8} {unit}"


def _count(value: int | None) -> str:
    return "—" if value is None else str(value)
