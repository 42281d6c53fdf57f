"""Holds the verbs that let systemd keep the service: `engine-room service install`, `remove`, `status`."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import msgspec
import typer

from app.client import Client
from app.core.daemon_command import own_command
from app.core.errors import DaemonUnreachable, EngineRoomError, NoSystemd, NotWritable
from app.core.service_unit import UNIT, systemctl, unit_file, unit_text
from app.speaking import Json, show, spoken
from app.wiring import real_paths

ANSWER_SECONDS = 240.0  # a stop waits for answers to finish
NO_SYSTEMD = "systemd does not run for this account, so it cannot keep the service."
WITHOUT = (
    "The window and every command start the service by themselves. On WSL, `systemd=true` under [boot] in /etc/wsl.conf "
    "turns systemd on; in a container there is none."
)

service = typer.Typer(name="service", help="Let systemd start the service at login and keep it running.")


class ServiceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """`enabled`: starts at login. `active`: systemd runs it now; a service that was started otherwise is not meant."""

    unit: str
    installed: bool
    enabled: bool = False
    active: bool = False
    answers: bool = False  # whoever started it


@service.command()
@spoken
def install(as_json: Json = False) -> None:
    """Start the service at login from now on, and now, unless it runs already."""
    program, paths = _program(), real_paths()
    file, command = unit_file(os.environ), own_command(os.environ)
    text = unit_text(command.argv, command.environment, paths.daemon_output)
    before = file.read_text("utf-8") if file.is_file() else None
    _write(file, text)
    try:
        paths.state.mkdir(parents=True, exist_ok=True, mode=0o700)
        _systemctl(program, "daemon-reload")
        _systemctl(program, "enable", UNIT)
    except EngineRoomError:
        _write(file, before) if before is not None else file.unlink(missing_ok=True)
        raise
    if _answers() and not _is(program, "is-active"):
        found = _status(program)
        show(found, f"{file}: it starts at login. The service that runs now goes on until `engine-room quit`.", as_json)
        return
    _systemctl(program, "restart" if before not in (None, text) else "start", UNIT)
    show(_status(program), f"{file}: the service runs, and starts at login.", as_json)


@service.command()
@spoken
def remove(as_json: Json = False) -> None:
    """Stop the service that systemd runs, and start it at login no more; nothing else of Engine Room is removed."""
    program, file = _program(), unit_file(os.environ)
    if not file.is_file():
        show(ServiceStatus(unit=str(file), installed=False), "The service is not installed.", as_json)
        return
    _systemctl(program, "disable", "--now", UNIT)
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        raise NotWritable(f"{file} cannot be removed: {error.strerror}.", "Check the folder's permissions.") from error
    _systemctl(program, "daemon-reload")
    show(_status(program), "The service has stopped and starts at login no more.", as_json)


@service.command()
@spoken
def status(as_json: Json = False) -> None:
    """Say whether the service is installed, starts at login and runs."""
    found = _status(systemctl(os.environ))
    if not found.installed:
        text = "not installed: the window and every command start the service when they need it"
        text = text if systemctl(os.environ) else f"not installed. {NO_SYSTEMD} {WITHOUT}"
    else:
        login = "starts at login" if found.enabled else "does not start at login"
        running = "runs" if found.active else "does not run"
        other = "; another one, started otherwise, answers" if found.answers and not found.active else ""
        text = f"{found.unit}: {login}, {running}{other}"
    show(found, text, as_json)


def _status(program: str | None) -> ServiceStatus:
    file = unit_file(os.environ)
    there = file.is_file()
    return ServiceStatus(
        unit=str(file),
        installed=there,
        enabled=bool(program) and there and _is(str(program), "is-enabled"),
        active=bool(program) and there and _is(str(program), "is-active"),
        answers=_answers(),
    )


def _answers() -> bool:
    try:
        with Client(real_paths()) as client:
            client.hello()
    except DaemonUnreachable:
        return False
    except EngineRoomError:
        return True
    return True


def _program() -> str:
    program = systemctl(os.environ)
    if program is None:
        raise NoSystemd(NO_SYSTEMD, WITHOUT)
    return program


def _is(program: str, question: str) -> bool:
    return _ask(program, question, "--quiet", UNIT).returncode == 0


def _systemctl(program: str, *words: str) -> None:
    done = _ask(program, *words)
    if done.returncode:
        said = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise NoSystemd(
            f"systemd would not {words[0]} the service: {said}",
            f"`systemctl --user status {UNIT}` and `journalctl --user -u {UNIT}` say more.",
        )


def _ask(program: str, *words: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            [program, "--user", *words], capture_output=True, text=True, errors="replace", timeout=ANSWER_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise NoSystemd(f"systemd did not answer within {ANSWER_SECONDS:.0f} s.", WITHOUT) from error
    except OSError as error:
        raise NoSystemd(f"{program} cannot be executed: {error.strerror}.", WITHOUT) from error


def _write(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        beside = file.with_suffix(".new")
        beside.write_text(text, "utf-8")
        beside.replace(file)
    except OSError as error:
        raise NotWritable(f"{file} cannot be written: {error.strerror}.", "Check the folder's permissions.") from error
