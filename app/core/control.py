"""Defines the control API: every call on the daemon's Unix socket, with the values that it takes and gives (version 1).

All bodies are JSON. A refused call answers with the error's status and an `ErrorReport`. Routes:

GET  /control/hello                     → Hello
GET  /control/slices                    → {name: slice}, all at once
GET  /control/stream                    → server-sent events: event = slice name, id = daemon clock, data = whole slice;
                                          all slices first, then each when it changed; ": alive" every 10 s
POST /control/want      Want            → Accepted | 409 does_not_fit, 404 no_such_model, 424 engine_not_installed, …
POST /control/unload    Unload          → Accepted   (also cancels a load)
POST /control/restart   Unload          → Accepted
POST /control/plan      Want            → MemoryPlan (nothing is started)
POST /control/command   CommandOf       → CommandView (nothing is started)
GET  /control/history                   → History
GET  /control/runs/{id}                 → RunView
GET  /control/runs/{id}/log?from=N&limit=BYTES&wait=SECONDS
                                        → bytes, redacted at equal length, so that offsets are those of the engine's file;
                                          headers X-Log-Start, X-Log-End (offsets of this piece), X-Log-Size, X-Log-Over: 0|1
GET  /control/settings                  → SettingsView
POST /control/settings  SettingsChange  → SettingsView | 422 setting_invalid
GET  /control/doctor                    → Report
POST /control/shutdown  Shutdown        → Accepted, then the daemon unloads everything and leaves
     /v1/…                              → the gateway, unchanged
"""

from __future__ import annotations

import msgspec

from app.core.options import Scalar


class Want(msgspec.Struct, frozen=True, kw_only=True):
    """Load this profile. `settings` are merged over the profile's for this launch only; `override` skips admission."""

    profile: str
    seat: str = "main"
    override: bool = False
    settings: dict[str, Scalar] = {}


class Unload(msgspec.Struct, frozen=True, kw_only=True):
    seat: str = "main"


class Shutdown(msgspec.Struct, frozen=True, kw_only=True):
    reason: str = ""


class CommandOf(msgspec.Struct, frozen=True, kw_only=True):
    profile: str


class CommandView(msgspec.Struct, frozen=True, kw_only=True):
    """What a launch would execute; secrets are masked. The port is chosen at launch: 0 stands for it."""

    argv: tuple[str, ...]
    environment: dict[str, str]


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    accepted: bool = True
    note: str = ""
    profile: str = ""  # the id of the profile that was taken, where an alias was asked for


class SettingField(msgspec.Struct, frozen=True, kw_only=True):
    """One setting, described from the settings table itself."""

    key: str  # "gateway.port"
    value: object
    default: object
    sentence: str
    kind: str  # integer · number · switch · text · list
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    from_environment: bool = False  # then it cannot be changed here


class SettingsView(msgspec.Struct, frozen=True, kw_only=True):
    file: str
    fields: tuple[SettingField, ...]
    restart_needed: tuple[str, ...] = ()


class SettingsChange(msgspec.Struct, frozen=True, kw_only=True):
    """Keys to set; null returns a key to its default."""

    values: dict[str, object]


class Check(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    ok: bool
    summary: str
    advice: str = ""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    checks: tuple[Check, ...]
