"""Holds the verbs of the command line: one control call each, said on stdout as text or as JSON."""

from __future__ import annotations

import os
import select
import shlex
import sys
from contextlib import suppress
from functools import partial
from typing import Annotated
from urllib.parse import quote

import typer

from app import __version__
from app.client import Client
from app.core import control
from app.core.errors import (
    ConfigError,
    DaemonUnreachable,
    EngineFailed,
    EngineRoomError,
    StorageError,
    UnknownProfile,
)
from app.core.snapshot import Gpus, Library, Runs, Seats, Service, Traffic
from app.speaking import Json, gib, show, spoken
from app.verbs_bench import add_bench
from app.verbs_desktop import desktop as desktop_verbs
from app.verbs_installing import engines
from app.verbs_keys import keys
from app.verbs_ollama import ollama
from app.verbs_plan import add_plan
from app.verbs_profiles import profiles
from app.verbs_pull import add_hub
from app.verbs_runs import add_runs
from app.verbs_seats import Preset, add_seats, seat_lines, settings_of
from app.verbs_service import service as service_verbs
from app.verbs_settings import add_settings
from app.wiring import real_paths, run_daemon

app = typer.Typer(
    add_completion=False,
    no_args_is_help=False,
    pretty_exceptions_enable=False,
    help="Engine Room: local vLLM and llama.cpp engines, one model at a time. Without a verb the window opens.",
)
app.add_typer(engines)
app.add_typer(profiles)
app.add_typer(keys)
app.add_typer(ollama)
add_settings(app)
add_bench(app)
add_runs(app)
add_seats(app)
add_hub(app)
add_plan(app)
app.add_typer(service_verbs)
app.add_typer(desktop_verbs)
QUIT_SECONDS = 60.0


def _print_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _before_a_verb(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def version() -> None:
    """Print the version."""
    print(__version__)


@app.command()
def serve(
    exit_when_idle: Annotated[
        bool, typer.Option(help="Leave when nothing is wanted (for tests).", hidden=True)
    ] = False,
) -> None:
    """Run the service in this terminal."""
    raise SystemExit(run_daemon(exit_when_idle))


@app.command()
@spoken
def status(as_json: Json = False) -> None:
    """Show the loaded model, its endpoint, memory and traffic."""
    with Client(real_paths()) as client:
        client.hello()
        slices = client.slices()
    seats, gpus, traffic, service = slices["seats"], slices["gpus"], slices["traffic"], slices["service"]
    assert isinstance(seats, Seats)
    assert isinstance(gpus, Gpus)
    assert isinstance(traffic, Traffic)
    assert isinstance(service, Service)
    lines = [line for seat in seats.seats for line in seat_lines(seat)]
    lines.append(f"endpoint  {service.gateway_url or 'not open'}  {service.gateway_notice}".rstrip())
    for gpu in gpus.gpus:
        lines.append(f"{gpu.name}  {gib(gpu.used_bytes)} of {gib(gpu.total_bytes)} used, {gib(gpu.free_bytes)} free")
    if not gpus.gpus:
        lines.append(gpus.message or "no GPU: the CPU will do")
    if gpus.host:
        lines.append(f"main memory  {gib(gpus.host.available_bytes)} of {gib(gpus.host.total_bytes)} available")
    lines.append(
        f"traffic  {traffic.in_flight} running, {traffic.queued} waiting,"
        f" {traffic.generation_tokens_per_second:.1f} tok/s"
    )
    show(slices, "\n".join(lines), as_json)


@app.command()
@spoken
def ls(
    everything: Annotated[bool, typer.Option("--all", help="Also the models that could be had.")] = False,
    as_json: Json = False,
) -> None:
    """List the profiles: what can be loaded, and what each needs."""
    with Client(real_paths()) as client:
        client.ensure()
        library = client.slices()["library"]
    assert isinstance(library, Library)
    rows = []
    away = [card for card in library.profiles if card.profile.source == "shipped" and not card.available]
    for card in (*(card for card in library.profiles if card not in away), *(away if everything else ())):
        if card.problem is not None:
            verdict = card.problem.summary
        elif not card.engine_available:
            verdict = "its engine is not installed"
        else:
            verdict = card.plan.summary if card.plan else ""
        rows.append(f"{card.profile.id:<24} {card.profile.engine:<17} {card.store:<18} {verdict}")
    if away and not everything:
        rows.append(f"{len(away)} more that Engine Room knows are not on this machine: `engine-room ls --all`.")
    rows += [f"! {card.profile.id}: {card.warning}" for card in library.profiles if card.warning]
    unfinished = [variant for model in library.models for variant in model.variants if variant.incomplete]
    rows += [f"… {each.title}: {each.incomplete} ({gib(each.disk_bytes)} so far)" for each in unfinished]
    rows += [f"! {problem.where}: {problem.summary}" for problem in library.problems]
    rows += [f"… {library.being_read}"] * bool(library.unread)
    show(library, "\n".join(rows) or "No profiles.", as_json)


@app.command()
@spoken
def logs(
    run: Annotated[str, typer.Argument(help="A run's id; the latest one when left out.")] = "",
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as the engine writes.")] = False,
    seat: Annotated[str, typer.Option("--seat", help="The latest run of this seat.")] = "",
) -> None:
    """Print an engine's log."""
    with Client(real_paths()) as client:
        client.hello()
        runs = client.slices()["runs"]
        assert isinstance(runs, Runs)
        chosen = run or next((found.id for found in runs.runs if seat in ("", found.seat)), "")
        if not chosen:
            raise UnknownProfile("No engine has run yet.", "`engine-room load demo` starts one.")
        at = 0
        out = sys.stdout.buffer
        try:
            while True:
                wait = 25 if follow else 0
                path = f"/control/runs/{quote(chosen, safe='')}/log?from={at}&wait={wait}"
                answer = client.checked(partial(client.http.get, path))
                out.write(answer.content)
                out.flush()
                at = int(answer.headers["X-Log-End"])
                done = at >= int(answer.headers["X-Log-Size"])
                if done and (not follow or answer.headers["X-Log-Over"] == "1"):
                    return
        except KeyboardInterrupt:
            return


@app.command()
@spoken
def command(
    profile: str,
    setting: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A setting over the profile's.")
    ] = None,
    preset: Preset = "",
    as_json: Json = False,
) -> None:
    """Print the exact command line of a profile on stdout; its environment goes to stderr. Nothing is started."""
    with Client(real_paths()) as client:
        client.ensure()
        settings = settings_of(setting)
        wish = control.CommandOf(profile=profile, settings=settings, preset=preset)
        view = client.post("/control/command", wish, control.CommandView)
    if not as_json:
        for name, value in sorted(view.environment.items()):
            print(f"{name}={shlex.quote(value)}", file=sys.stderr)
        for flag in view.unknown_flags:
            print(f"engine-room: this engine's own help does not know {flag}.", file=sys.stderr)
    show(view, shlex.join(view.argv), as_json)


@app.command()
@spoken
def chat(
    message: Annotated[
        list[str] | None, typer.Argument(help="What to say; read from the terminal or a pipe when left out.")
    ] = None,
    go_on: Annotated[bool, typer.Option("--continue", "-c", help="Go on with the latest conversation.")] = False,
    as_json: Json = False,
) -> None:
    """Talk to the loaded model; the conversation is kept beside the window's."""
    from app.talk import talk

    paths = real_paths()
    with Client(paths) as client:
        client.hello()
        raise SystemExit(talk(client, paths, message or (), go_on=go_on, as_json=as_json))


@app.command()
@spoken
def doctor(as_json: Json = False) -> None:
    """Check what Engine Room can use on this machine; also without a service that can start."""
    paths = real_paths()
    with Client(paths) as client:
        try:
            client.ensure()
            report = client.get("/control/doctor", control.Report)
        except (StorageError, ConfigError, DaemonUnreachable) as problem:
            from app.daemon.doctor import checks_without_service

            report = control.Report(checks=checks_without_service(paths, os.environ, problem))
    rows = [
        f"{'✓' if check.ok else '✗'} {check.name:<18} {check.summary} {check.advice}".rstrip()
        for check in report.checks
    ]
    show(report, "\n".join(rows), as_json)
    if not all(check.ok for check in report.checks):
        raise SystemExit(1)


@app.command()
@spoken
def quit(as_json: Json = False) -> None:
    """Unload the model and end the service."""
    with Client(real_paths()) as client:
        hello = client.hello()
        answer = client.post("/control/shutdown", control.Shutdown(reason="engine-room quit"), control.Accepted)
        with suppress(EngineRoomError):
            for _ in client.stream():
                pass
    if not _gone(hello.pid, QUIT_SECONDS):
        raise EngineFailed(f"The service (process {hello.pid}) is still ending; its log tells what it waits for.")
    show(answer, "Engine Room's service has ended.", as_json)


def _gone(pid: int, seconds: float) -> bool:
    """Waits until the process has ended: its lock is free then, so that the next start succeeds."""
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return True
    try:
        return bool(select.select([descriptor], [], [], seconds)[0])
    finally:
        os.close(descriptor)


# --- the help, in the order in which a person comes to need it

PANELS = {
    "Models": ("ls", "models", "load", "switch", "unload", "stop", "restart", "park", "wake", "lend", "chat"),
    "Getting models": ("search", "pull", "downloads", "rm"),
    "What happens": ("status", "logs", "doctor"),
    "Before and after": ("plan", "command", "settings", "runs", "manifest", "again", "bench", "export"),
    "Engine Room itself": ("serve", "quit", "version"),
}


def _arrange() -> None:
    place = {name: (panel, number) for panel, names in PANELS.items() for number, name in enumerate(names)}
    order = list(PANELS)
    for verb in app.registered_commands:
        verb.name = verb.name or (verb.callback.__name__ if verb.callback is not None else "")
        verb.rich_help_panel = place[verb.name][0]
    app.registered_commands.sort(key=lambda verb: (order.index(place[verb.name or ""][0]), place[verb.name or ""][1]))
    for group in app.registered_groups:
        group.rich_help_panel = "Engines, profiles, the service"


_arrange()
