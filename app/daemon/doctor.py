"""Says what of this machine Engine Room can use, as checks with a sentence and what to do."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from app.core.control import Check
from app.core.errors import EngineRoomError, SettingInvalid
from app.core.paths import SOCKET_PATH_LIMIT, Paths
from app.core.settings import load_settings
from app.core.snapshot import DriverState, EngineView, Gpus
from app.daemon import installations
from app.daemon.engine_choices import read_choices

FREE_DISK_BYTES = 1024**3


def checks(paths: Paths, gpus: Gpus, engines: tuple[EngineView, ...], gateway_url: str) -> tuple[Check, ...]:
    """In the order in which a person would ask."""
    return (
        *_machine(paths),
        _gpus(gpus),
        *(_engine(view) for view in engines),
        Check(
            name="endpoint",
            ok=bool(gateway_url),
            summary=gateway_url or "The endpoint could not be opened.",
            advice="" if gateway_url else "Look at the service's log.",
        ),
        _log(paths),
    )


def checks_without_service(paths: Paths, environment: Mapping[str, str], problem: EngineRoomError) -> tuple[Check, ...]:
    """What can be said when the service does not start, and why it does not."""
    advice = " ".join(part for part in (problem.advice, problem.evidence) if part)
    return (
        Check(name="service", ok=False, summary=problem.summary, advice=advice),
        *_machine(paths),
        *(_engine(view) for view in installations.views(paths, environment)),
        _log(paths),
    )


def _machine(paths: Paths) -> tuple[Check, ...]:
    folders = (_folder(name, folder) for name, folder in _folders(paths))
    return (*folders, _disk(paths), _socket(paths), _settings(paths), _engine_choices(paths))


def _settings(paths: Paths) -> Check:
    try:
        load_settings(paths.settings_file)
    except SettingInvalid as error:
        return Check(name="settings", ok=False, summary=error.summary, advice=error.advice)
    return Check(name="settings", ok=True, summary=f"Settings file: {paths.settings_file}")


def _engine_choices(paths: Paths) -> Check:
    """A broken file counts as none while it is only looked at, so nobody else would say so."""
    try:
        known = read_choices(paths.engine_choices)
    except SettingInvalid as error:
        return Check(name="engine choices", ok=False, summary=error.summary, advice=error.advice)
    pins = ", ".join(f"{family} uses {pin}" for family, pin in known.pins.items()) or "no engine is pinned"
    return Check(
        name="engine choices", ok=True, summary=f"{paths.engine_choices}: {pins}, {len(known.places)} places added."
    )


def _log(paths: Paths) -> Check:
    return Check(name="log", ok=True, summary=f"The service's log: {paths.daemon_log}")


def _folders(paths: Paths) -> list[tuple[str, Path]]:
    return [("config", paths.config), ("data", paths.data), ("state", paths.state), ("cache", paths.cache)]


def _nearest(folder: Path) -> Path:
    """The folder, or what exists above it."""
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    return folder


def _folder(name: str, folder: Path) -> Check:
    near = _nearest(folder)
    ok = near.is_dir() and os.access(near, os.W_OK | os.X_OK)
    advice = "" if ok else "Change the folder's owner or permissions."
    return Check(name=f"{name} folder", ok=ok, summary=f"{folder} can{'' if ok else 'not'} be written.", advice=advice)


def _disk(paths: Paths) -> Check:
    near = _nearest(paths.data)
    free = shutil.disk_usage(near).free
    ok = free >= FREE_DISK_BYTES
    advice = "" if ok else "Free some space: engines, logs and chats need it."
    return Check(name="disk", ok=ok, summary=f"{free / 1024**3:.1f} GiB are free for data.", advice=advice)


def _socket(paths: Paths) -> Check:
    length = len(bytes(paths.socket))
    ok = length <= SOCKET_PATH_LIMIT
    advice = "" if ok else "Set XDG_RUNTIME_DIR to a shorter folder."
    return Check(name="control socket", ok=ok, summary=f"{paths.socket} ({length} bytes)", advice=advice)


def _gpus(gpus: Gpus) -> Check:
    if gpus.driver is DriverState.OK:
        names = ", ".join(
            f"{gpu.name} ({gpu.total_bytes / 1024**3:.0f} GiB)" if gpu.total_bytes else gpu.name for gpu in gpus.gpus
        )
        return Check(name="graphics cards", ok=True, summary=f"{names}; driver {gpus.driver_version or 'unknown'}.")
    absent = gpus.driver is DriverState.ABSENT
    summary = gpus.message or (
        "No NVIDIA driver; the CPU will do." if absent else f"The driver is {gpus.driver.value}."
    )
    return Check(name="graphics cards", ok=absent, summary=summary)


def keys_check(names: Mapping[str, str]) -> Check:
    """Where the keys of remote endpoints lie; a file is no fault, but worth knowing."""
    in_file = [name for name, where in names.items() if where == "file"]
    summary = f"{len(names)} kept: {', '.join(names)}." if names else "No key of a remote endpoint is kept."
    advice = (
        f"Without a desktop's keyring in a file that only this account can read: {', '.join(in_file)}."
        if in_file
        else ""
    )
    return Check(name="keys", ok=True, summary=summary, advice=advice)


def _engine(view: EngineView) -> Check:
    """Only a pin that leads nowhere is wrong; nobody needs every engine."""
    name = f"engine {view.family}"
    if not view.available:
        return Check(
            name=name,
            ok=not view.pinned,
            summary=f"{view.title} cannot be used." if view.installations else f"{view.title} is not installed.",
            advice=view.how_to_get,
        )
    if view.path.endswith("://"):  # nothing to install
        return Check(
            name=name, ok=True, summary=f"{view.title}: any address that a profile names.", advice=view.how_to_get
        )
    others = [row for row in view.installations if not row.chosen]
    broken = next((f"{row.path}: {row.problem}" for row in others if row.problem and row.source != "docker"), "")
    notes = [f"{len(others)} more beside it." if others else "", broken, view.installations[0].note]
    advice = " ".join(part for part in notes if part)
    return Check(name=name, ok=True, summary=f"{view.title} {view.build} at {view.path}.", advice=advice)
