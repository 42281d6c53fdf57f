"""Says how the service is started by whoever needs it first: its command line, its environment, its output's opener."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from app.core.service_unit import start_through_systemd

TOP = Path(__file__).resolve().parents[2]  # where `-m app` finds the package, in a checkout and installed


class DaemonCommand(NamedTuple):
    """For a start in a session of its own with `cwd="/"`, so that the service outlives who started it and holds no folder."""

    argv: tuple[str, ...]
    environment: dict[str, str]


def daemon_command(environment: Mapping[str, str]) -> DaemonCommand:
    """The service for the account and folders that `environment` names: systemd's, where it is installed there, so that
    there is one that everybody knows of; else a process of our own."""
    installed = start_through_systemd(environment)
    return own_command(environment) if installed is None else DaemonCommand(installed, dict(environment))


def own_command(environment: Mapping[str, str]) -> DaemonCommand:
    places = [str(TOP), *filter(None, [environment.get("PYTHONPATH", "")])]
    return DaemonCommand((sys.executable, "-m", "app", "serve"), {**environment, "PYTHONPATH": os.pathsep.join(places)})


def private_opener(path: str, flags: int) -> int:
    """For `open(…, opener=private_opener)`: the file is the account's own (0600), an older one of another mode too."""
    descriptor = os.open(path, flags, 0o600)
    os.fchmod(descriptor, 0o600)
    return descriptor
