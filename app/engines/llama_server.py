"""Defines the engine family `llama-server`: llama.cpp's own server program, found on PATH or named in the settings.

Builds of several years must start, and an unknown flag ends the program while an unknown variable is ignored. So flags are
used for what every build has had since 2024, and variables for what came later, was renamed or changed its form:
flash attention took no value before August 2025, `--no-mmap` and `--mlock` gave way to `--load-mode` in 2026, `--no-webui`
became `--no-ui`, and the web origins, the prompt cache, the shared KV pool and the fitting of parameters are younger still.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from app.core.diagnosis.llama_cpp import LLAMA_CPP
from app.core.options import Option, Preset, Scalar
from app.engines import native_options
from app.engines import native_server as native
from app.engines.arguments import environment
from app.engines.base import Command, FailurePattern, Launch, Readiness, Stage, Traits, Trial

SAID_BY_ENVIRONMENT = {
    "cpu_expert_layers": "LLAMA_ARG_N_CPU_MOE",
    "flash_attention": "LLAMA_ARG_FLASH_ATTN",
    "load_mode": "LLAMA_ARG_LOAD_MODE",
    "prompt_cache_mib": "LLAMA_ARG_CACHE_RAM",
    "repack": "LLAMA_ARG_REPACK",
    "sliding_window_full": "LLAMA_ARG_SWA_FULL",
    "reasoning_format": "LLAMA_ARG_THINK",
    "jinja": "LLAMA_ARG_JINJA",
}

OPTIONS: tuple[Option, ...] = tuple(
    msgspec.structs.replace(option, flag="", flag_off="", environment=SAID_BY_ENVIRONMENT[option.name])
    if option.name in SAID_BY_ENVIRONMENT
    else option
    for option in (*native_options.OPTIONS, *native_options.PROGRAM_ONLY)
)

# Ours, not the person's: no network, no web page, no browser, one KV pool for all slots, the context that was asked for.
ALWAYS = {
    "LLAMA_ARG_OFFLINE": "1",
    "LLAMA_ARG_UI": "0",
    "LLAMA_ARG_NO_WEBUI": "1",
    "LLAMA_ARG_CORS_ORIGINS": native.NO_BROWSER_ORIGIN,
    "LLAMA_ARG_KV_UNIFIED": "1",
    "LLAMA_ARG_FIT": "off",
}

# Since the kinds of guessing became many, a draft model alone is no longer enough to have it used.
DRAFT = {"LLAMA_ARG_SPEC_TYPE": "draft-simple"}

# What builds before `--load-mode` understood instead.
OLD_LOAD_MODES: dict[Scalar, dict[str, str]] = {
    "none": {"LLAMA_ARG_NO_MMAP": "1"},
    "mlock": {"LLAMA_ARG_NO_MMAP": "1", "LLAMA_ARG_MLOCK": "1"},
    "mmap+mlock": {"LLAMA_ARG_MLOCK": "1"},
}


class LlamaServer:
    id = "llama-server"
    title = "llama-server (llama.cpp)"
    presets: tuple[Preset, ...] = native_options.PRESETS
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
            launch.installation.executable,
            *("--model", launch.model_path),
            *("--alias", launch.model_name),
            *("--host", launch.host, "--port", str(launch.port)),
            "--metrics",
            *native.setting_flags(self.options, values),
            *launch.profile.extra_arguments,
        ]
        draft = DRAFT if values.get("draft_model") else {}
        added = {
            **ALWAYS,
            **draft,
            **environment(self.options, values),
            **OLD_LOAD_MODES.get(values.get("load_mode", ""), {}),
        }
        return Command(
            argv=tuple(argv),
            environment={**added, **native.library_path(launch), **native.common_environment(launch, values)},
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
        return (
            "`engine-room engines install llama-server` compiles it for this machine (about ten minutes; it needs a C++ "
            "compiler, and the CUDA toolkit for an NVIDIA card); one that you have is found on PATH or can be added."
        )
