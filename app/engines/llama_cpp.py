"""Defines the engine family `llama.cpp`, the default: the native server from a prebuilt package, in a child process of ours.

The program is `hosts/xllamacpp_host.py`, run by the interpreter of the engine's own environment. It takes the flags of
llama-server, so that a process list reads the same whichever family runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from app.core.diagnosis.llama_cpp import LLAMA_CPP
from app.core.options import Option, Preset, Scalar
from app.engines import native_server as native
from app.engines.base import Command, FailurePattern, Launch, Readiness, Stage, Traits, Trial
from app.engines.native_options import JSON_SCHEMA, PRESETS
from app.engines.native_options import OPTIONS as NATIVE

OPTIONS: tuple[Option, ...] = (*NATIVE, *JSON_SCHEMA)

HOST_SCRIPT = Path(__file__).parent / "hosts" / "xllamacpp_host.py"


class LlamaCpp:
    id = "llama.cpp"
    title = "llama.cpp (built in)"
    presets: tuple[Preset, ...] = PRESETS
    readiness: Readiness = native.READINESS
    traits: Traits = native.TRAITS
    failures: tuple[FailurePattern, ...] = LLAMA_CPP

    def __init__(self, options: tuple[Option, ...] = OPTIONS) -> None:
        self.options = options

    def effective_settings(self, launch: Launch) -> dict[str, Scalar]:
        return native.effective_settings(launch, self.options, self.title)

    def command(self, launch: Launch) -> Command:
        values = self.effective_settings(launch)
        argv = [
            *(launch.installation.executable, "-I", str(HOST_SCRIPT)),  # -I: nothing of the caller's Python gets in
            *("--model", launch.model_path),
            *("--alias", launch.model_name),
            *("--host", launch.host, "--port", str(launch.port)),
            *native.setting_flags(self.options, values),
            *launch.profile.extra_arguments,
        ]
        return Command(
            argv=tuple(argv),
            environment=native.common_environment(launch, values),
            scrub=native.SCRUB,
            secrets=native.secrets(launch),
        )

    def trial(self, launch: Launch) -> Trial:
        return native.trial(launch, self.effective_settings(launch))

    def kv_cache_usage(self, slots: object) -> float | None:
        return native.kv_cache_usage(slots)

    def stage_of(self, line: str) -> Stage | None:
        return native.stage_of(line)

    def served_context(self, health: Mapping[str, object], models: Mapping[str, object]) -> int | None:
        return native.served_context(health, models)

    def how_to_get(self) -> str:
        return "`engine-room engines install llama.cpp` installs the prebuilt engine in seconds."
