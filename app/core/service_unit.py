"""Writes Engine Room's own systemd user unit, and says whether a start has to go through systemd."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from app.core.export import exec_words, quoted_in_unit
from app.core.redaction import secrets_of

UNIT = "engine-room.service"
# What the service needs of the environment in which it was installed; a user manager has next to nothing.
KEPT = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME")
OURS = "ENGINE_ROOM_"
# Exit codes of a service that will not start however often it is tried: bad call, another daemon, settings, storage.
NOT_AGAIN = (2, 3, 8, 10)
STOP_SECONDS = 180  # drain, grace, kill and the wait for memory, with room


def unit_text(argv: Sequence[str], environment: Mapping[str, str], output: Path) -> str:
    """The unit. No value that speaks of a secret is written into it (I18). What the service says goes to `output`.

    Only the service itself is signalled at a stop, so that it ends its engines in order; an engine that the kernel kills for
    memory does not end the service.
    """
    hidden = set(secrets_of(environment))
    kept = {
        name: value
        for name, value in sorted(environment.items())
        if (name in KEPT or name.startswith(OURS)) and value and value not in hidden
    }
    lines = [
        "[Unit]",
        "Description=Engine Room: local language models behind one endpoint",
        "StartLimitIntervalSec=300",
        "StartLimitBurst=5",
        "",
        "[Service]",
        "Type=notify",
        "WorkingDirectory=/",
        *(f'Environment="{name}={quoted_in_unit(value)}"' for name, value in kept.items()),
        "ExecStart=" + " ".join(exec_words(tuple(argv))),
        "Restart=on-failure",
        "RestartSec=1",
        "RestartPreventExitStatus=" + " ".join(map(str, NOT_AGAIN)),
        "KillMode=mixed",
        "OOMPolicy=continue",
        f"TimeoutStopSec={STOP_SECONDS}",
        "TimeoutStartSec=120",
        f"StandardOutput=append:{_in_path(output)}",
        f"StandardError=append:{_in_path(output)}",
        "",
        "[Install]",
        "WantedBy=default.target",
        "",
    ]
    return "\n".join(lines)


def _in_path(path: Path) -> str:
    return str(path).replace("%", "%%")


def unit_file(environment: Mapping[str, str]) -> Path:
    config = environment.get("XDG_CONFIG_HOME") or Path(environment.get("HOME", "/"), ".config")
    return Path(config, "systemd", "user", UNIT)


def systemctl(environment: Mapping[str, str]) -> str | None:
    """The program that speaks to this account's systemd; None where none runs (containers, WSL without systemd)."""
    program = shutil.which("systemctl", path=environment.get("PATH", os.defpath))
    runtime = environment.get("XDG_RUNTIME_DIR", "")
    return program if program and runtime and Path(runtime, "systemd", "private").exists() else None


def start_through_systemd(environment: Mapping[str, str]) -> tuple[str, ...] | None:
    """The command that starts the installed service; None when it is not installed or systemd does not run."""
    program = systemctl(environment)
    if program is None or not unit_file(environment).is_file():
        return None
    return (program, "--user", "start", UNIT)
