"""Decides where Engine Room keeps its files: the XDG folders, and a control socket whose path is short enough."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

SOCKET_PATH_LIMIT = 107  # bytes: sockaddr_un.sun_path less its terminator, unix(7)


class Paths(NamedTuple):
    """`runtime` may vanish at logout and is made again; the instance lock therefore lies in `state`."""

    config: Path
    data: Path
    state: Path
    cache: Path
    runtime: Path

    @property
    def settings_file(self) -> Path:
        return self.config / "settings.toml"

    @property
    def profiles(self) -> Path:
        return self.config / "profiles"

    @property
    def engines(self) -> Path:
        return self.data / "engines"

    @property
    def engine_choices(self) -> Path:
        """Which engines the person has pinned, and where further ones lie."""
        return self.config / "engines.toml"

    @property
    def engine_facts(self) -> Path:
        """What engines said of themselves; asked again when it is gone."""
        return self.cache / "engine-facts.json"

    @property
    def database(self) -> Path:
        return self.data / "engine-room.sqlite3"

    @property
    def chats(self) -> Path:
        return self.data / "chats.sqlite3"

    @property
    def runs(self) -> Path:
        return self.state / "runs"

    @property
    def lock(self) -> Path:
        return self.state / "daemon.lock"

    @property
    def daemon_log(self) -> Path:
        return self.state / "daemon.log"

    @property
    def daemon_output(self) -> Path:
        """What a service started by the window or a command prints: why it could not start, above all."""
        return self.state / "daemon.out"

    @property
    def socket(self) -> Path:
        return self.runtime / "control.sock"


def paths_from(environment: Mapping[str, str], uid: int, runtime_exists: bool) -> Paths:
    """The folders for this account. `runtime_exists`: whether $XDG_RUNTIME_DIR is a folder of ours right now.

    Without it (sudo, cron, a chroot), or where the socket's path would be too long, a folder under /tmp is used whose
    name depends on account and data folder, so that two homes never share a socket.
    """
    home = Path(environment.get("HOME") or "/")

    def folder(variable: str, default: str) -> Path:
        value = environment.get(variable, "")
        return (Path(value) if value.startswith("/") else home / default) / "engine-room"

    state = folder("XDG_STATE_HOME", ".local/state")
    runtime_home = environment.get("XDG_RUNTIME_DIR", "")
    runtime = Path(runtime_home) / "engine-room"
    if (
        not (runtime_home.startswith("/") and runtime_exists)
        or len(bytes(runtime / "control.sock")) > SOCKET_PATH_LIMIT
    ):
        import hashlib

        mark = hashlib.sha256(bytes(state)).hexdigest()[:10]
        runtime = Path("/tmp") / f"engine-room-{uid}-{mark}"
    return Paths(
        config=folder("XDG_CONFIG_HOME", ".config"),
        data=folder("XDG_DATA_HOME", ".local/share"),
        state=state,
        cache=folder("XDG_CACHE_HOME", ".cache"),
        runtime=runtime,
    )
