"""Holds the verbs that change what is loaded on a seat: load, switch, unload, restart, park, wake, lend."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable
from typing import Annotated

import typer
from msgspec.structs import replace

from app.client import Client
from app.core import control
from app.core.advance import STAGE_WORDS
from app.core.errors import SettingInvalid, UnknownProfile
from app.core.lifecycle import Failed, Idle, Loading, Ready, Sleeping, Stalled, StopFailed
from app.core.memory.plan_types import MemoryPlan
from app.core.memory.words import gib
from app.core.options import Scalar
from app.core.snapshot import Seats, SeatView
from app.outcomes import Cancelled, seat_of, wait_loaded, wait_parked, wait_unloaded
from app.speaking import Json, show, spoken
from app.wiring import real_paths

Preset = Annotated[str, typer.Option("--preset", help="A named set of settings, such as low-latency.")]
Seat = Annotated[str, typer.Option("--seat", help="The seat that is meant, where there are several.")]


def add_seats(app: typer.Typer) -> None:
    """Gives `app` the verbs."""
    app.command()(load)
    app.command("switch", help="The same as load: the loaded model leaves when its answers are finished.")(load)
    app.command()(unload)
    app.command("stop", help="The same as unload.")(unload)
    app.command()(restart)
    app.command()(park)
    app.command()(wake)
    app.command()(lend)


@spoken
def load(
    profile: str,
    override: Annotated[bool, typer.Option("--override", help="Load although it does not seem to fit.")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Do not wait until the model is ready.")] = False,
    setting: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A setting for this launch only.")
    ] = None,
    preset: Preset = "",
    seat: Annotated[str, typer.Option("--seat", help="The seat to load it on; the profile's own when left out.")] = "",
    remedy: Annotated[
        int | None,
        typer.Option("--remedy", metavar="N", min=1, help="With the Nth remedy that `engine-room plan` names."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Load a profile, in place of the one that is loaded on its seat now. Ctrl+C cancels."""
    wish = control.Want(profile=profile, seat=seat, override=override, settings=settings_of(setting), preset=preset)
    with Client(real_paths()) as client:
        client.ensure()
        wish = _with_remedy(client, wish, remedy) if remedy else wish
        try:
            accepted = client.post("/control/want", wish, control.Accepted)
            profile, seat = accepted.profile or profile, accepted.seat or seat
            for warning in accepted.warnings:
                print(f"engine-room: {warning}", file=sys.stderr)
            if detach:
                show(control.Accepted(note=f"{profile} is loading."), f"{profile} is loading.", as_json)
                return
            found = wait_loaded(client, profile, quiet=as_json, seat=seat)
        except KeyboardInterrupt:
            client.post("/control/unload", control.Unload(seat=seat or "main"), control.Accepted)
            wait_unloaded(client, seat)
            raise Cancelled(f"Loading {profile} was cancelled; nothing is loaded.") from None
    _show_ready(found, profile, as_json)


def _with_remedy(client: Client, wish: control.Want, number: int) -> control.Want:
    """The wish with what the plan's remedy of that number changes; raises SettingInvalid when there is none."""
    found = client.post("/control/plan", wish, MemoryPlan)
    if number > len(found.remedies):
        many = len(found.remedies)
        raise SettingInvalid(
            f"There is no remedy {number}: the plan of {wish.profile} names {many or 'none'}. {found.summary}",
            f"`engine-room plan {wish.profile}` shows them.",
        )
    chosen = found.remedies[number - 1]
    print(f"engine-room: {chosen.title}.", file=sys.stderr)
    return replace(wish, settings={**wish.settings, **chosen.settings}, gpus=chosen.gpus or wish.gpus)


@spoken
def unload(seat: Seat = "main", as_json: Json = False) -> None:
    """Unload the model, and wait until its memory is back."""
    with Client(real_paths()) as client:
        client.hello()
        client.post("/control/unload", control.Unload(seat=seat), control.Accepted)
        wait_unloaded(client, seat)
    show(control.Accepted(note="Nothing is loaded."), "Nothing is loaded.", as_json)


@spoken
def restart(seat: Seat = "main", as_json: Json = False) -> None:
    """Load the present model again, and wait until it is ready."""
    with Client(real_paths()) as client:
        client.hello()
        phase = _view(client, seat).phase
        if not isinstance(phase, Ready | Stalled):
            raise UnknownProfile(
                "No model is ready, so there is nothing to restart.", "`engine-room ls` shows what can be loaded."
            )
        client.post("/control/restart", control.Unload(seat=seat), control.Accepted)
        found = wait_loaded(client, phase.profile_id, quiet=as_json, not_run=phase.run_id, seat=seat)
    _show_ready(found, phase.profile_id, as_json)


@spoken
def park(
    level: Annotated[
        int | None,
        typer.Option("--level", help="1 keeps the weights in main memory, 2 drops them; else as memory allows."),
    ] = None,
    seat: Seat = "main",
    as_json: Json = False,
) -> None:
    """Put the model to sleep: the card's memory comes back, and a request or `wake` brings the model back in seconds."""
    with Client(real_paths()) as client:
        client.hello()
        client.post("/control/park", control.Park(level=level, seat=seat), control.Accepted)
        found = wait_parked(client, seat)
    show(found, seat_lines(found)[0], as_json)


@spoken
def wake(seat: Seat = "main", as_json: Json = False) -> None:
    """Wake what sleeps, or load again what was unloaded for being idle, and wait until it is ready."""
    with Client(real_paths()) as client:
        client.hello()
        back = client.post("/control/lend/return", control.Unload(seat=seat), control.Accepted)
        found = wait_loaded(client, back.profile, quiet=as_json, seat=seat)
        _show_ready(found, back.profile, as_json)


@spoken
def lend(
    minutes: Annotated[float, typer.Argument(help="For how long.")] = 30.0,
    give_back: Annotated[bool, typer.Option("--return", help="Take it back now: the same model is loaded.")] = False,
    toggle: Annotated[
        bool, typer.Option("--toggle", help="Lend, or take back what is lent: for a keyboard shortcut of the desktop.")
    ] = False,
    seat: Seat = "main",
    as_json: Json = False,
) -> None:
    """Lend the card: the model leaves, and the same one comes back after so many minutes. Again = a new time from now."""
    with Client(real_paths()) as client:
        client.hello()
        if give_back or (toggle and _view(client, seat).resting == "lent"):
            back = client.post("/control/lend/return", control.Unload(seat=seat), control.Accepted)
            _show_ready(wait_loaded(client, back.profile, quiet=as_json, seat=seat), back.profile, as_json)
            return
        client.post("/control/lend", control.Lend(minutes=minutes, seat=seat), control.Accepted)
        found = wait_unloaded(client, seat, lent=True)
    show(found, seat_lines(found)[0], as_json)


def _view(client: Client, seat: str) -> SeatView:
    seats = client.slices()["seats"]
    assert isinstance(seats, Seats)
    return seat_of(seats, seat)


def _show_ready(seat: SeatView, profile: str, as_json: bool) -> None:
    seconds = seat.run.ready_seconds if seat.run else None
    show(seat, f"{profile} is ready" + (f" after {seconds:.1f} s." if seconds is not None else "."), as_json)


def settings_of(texts: Iterable[str] | None) -> dict[str, Scalar]:
    """What `--set NAME=VALUE` says; a value is read as JSON where it is some, else as text."""
    return dict(_setting(text) for text in texts or ())


def _setting(text: str) -> tuple[str, Scalar]:
    name, equals, value = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"{text!r} is not NAME=VALUE.")
    try:
        parsed = json.loads(value)
    except ValueError:
        parsed = value
    return name, parsed if isinstance(parsed, str | int | float | bool) else value


# --- what a seat looks like ------------------------------------------------------------------------------------------


def seat_lines(seat: SeatView) -> list[str]:
    """What `status` says of a seat: its state, then what a person should know."""
    lines = [f"{seat.name}  {_state(seat)}"]
    if seat.attached is not None:
        lines.append(f"  attached to {seat.attached.where}: {seat.attached.reason or seat.attached.state}")
    if seat.notice:
        lines.append(f"  {seat.notice}")
    if seat.outdated:
        lines.append(f"  {seat.wanted} was changed since it was loaded: restart to apply.")
    if seat.idle_unload_at_unix is not None:
        lines.append(f"  unloaded at {_clock(seat.idle_unload_at_unix)} unless somebody asks it")
    return lines


def _state(seat: SeatView) -> str:
    phase = seat.phase
    run = f"  {seat.run.title} on {seat.run.engine} {seat.run.engine_build}".rstrip() if seat.run else ""
    match phase:
        case Idle() if seat.resting == "lent":
            return f"lent until {_clock(seat.lent_until_unix)}, then {seat.wanted} comes back"
        case Sleeping():
            freed = f", {gib(phase.freed_bytes)} came back" if phase.freed_bytes else ""
            return f"{phase.profile_id} sleeps{freed}; a request wakes it{run}"
        case Idle() if seat.resting == "parked":
            return f"{seat.wanted} is unloaded; a request loads it again"
        case Idle() if seat.resting == "idle":
            return f"{seat.wanted} was unloaded because nobody used it; a request loads it again"
        case Idle() if seat.resting == "memory":
            return f"{seat.wanted} waits for room"
        case Idle():
            return "nothing is loaded"
        case Loading():
            share = "" if phase.progress is None else f" {phase.progress:.0%}"
            return f"{phase.profile_id} is loading: {STAGE_WORDS.get(phase.stage, phase.stage)}{share}{run}"
        case Failed():
            return f"failed: {phase.failure.summary} {phase.failure.advice}".rstrip()
        case StopFailed():
            return f"{phase.profile_id} would not end: {'; '.join(phase.processes)}"
    return f"{getattr(phase, 'profile_id', '')} {type(phase).__name__.lower()}{run}"


def _clock(unix: float | None) -> str:
    return time.strftime("%H:%M", time.localtime(unix))
