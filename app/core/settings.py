"""Defines the settings: each with default, bounds, unit and a sentence; environment > TOML > defaults."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from app.core.catalog.stores import STORES
from app.core.errors import SettingInvalid

GIB = 1024**3
ENVIRONMENT_PREFIX = "ENGINE_ROOM_"


class _Group(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class GatewaySettings(_Group):
    port: int = Field(
        7000, ge=0, le=65535, description="Port of the OpenAI-compatible endpoint on 127.0.0.1; 0 takes any free one."
    )
    concurrency: int = Field(10, ge=1, le=256, description="Requests answered at once; further ones wait.")
    queue_length: int = Field(512, ge=0, le=10_000, description="Requests that may wait; further ones are refused.")
    request_timeout_seconds: float = Field(300, ge=1, le=86_400, description="Longest time for one answer.")
    loading_wait_seconds: float = Field(
        120, ge=0, le=3_600, description="How long a request waits for a model that is loading or switching."
    )
    keepalive_after_seconds: float = Field(
        10, ge=1, le=300, description="A waiting stream gets a comment after so long, and again after each such time."
    )
    max_body_bytes: int = Field(64 * 1024**2, ge=1024, le=1024**3, description="Largest request body.")
    load_on_request: bool = Field(
        True, description="A request loads a model again that was unloaded because nobody used it."
    )
    allow_other_accounts: bool = Field(False, description="Let other accounts of this machine use the endpoint.")
    allowed_origins: tuple[str, ...] = Field(
        (), description="Web origins that may call the endpoint, for example http://localhost:3000."
    )


class MemorySettings(_Group):
    headroom_bytes: int = Field(int(1.5 * GIB), ge=0, le=64 * GIB, description="Memory kept free on each GPU.")
    host_headroom_bytes: int = Field(
        1 * GIB, ge=0, le=256 * GIB, description="Main memory kept free when an engine runs on the CPU."
    )
    threshold: float = Field(0.95, gt=0.1, le=1.0, description="Share of a device's memory that may be used at most.")
    context_limit_tokens: int = Field(32_768, ge=256, le=10_000_000, description="Longest context chosen by default.")


class SupervisionSettings(_Group):
    drain_seconds: float = Field(30, ge=0, le=3_600, description="How long running answers may finish before a switch.")
    stop_grace_seconds: float = Field(10, ge=0.1, le=600, description="How long an engine may take to stop by itself.")
    kill_seconds: float = Field(10, ge=1, le=600, description="How long a killed engine may take to disappear.")
    load_stall_seconds: float = Field(
        300, ge=1, le=86_400, description="A load without any sign of progress for so long has failed."
    )
    load_limit_seconds: float = Field(3_600, ge=1, le=86_400, description="The longest time that a load may take.")
    vram_return_seconds: float = Field(
        15, ge=0.1, le=600, description="How long to wait for memory to come back after a stop."
    )
    stall_seconds: float = Field(
        30, ge=1, le=3_600, description="An answer without a new token for so long is shown as stalled."
    )
    park_when_idle: bool = Field(
        False, description="An idle model that can sleep is put to sleep in place of being unloaded."
    )
    park_seconds: float = Field(60, ge=1, le=3_600, description="How long an engine may take to go to sleep.")
    wake_seconds: float = Field(120, ge=1, le=3_600, description="How long an engine may take to wake.")
    restarts: int = Field(3, ge=0, le=20, description="Restarts after a crash, within ten minutes.")
    restore_last_profile: bool = Field(
        True, description="Load the last wanted profile again after an unexpected end of the service."
    )
    idle_unload_seconds: float = Field(
        0,
        ge=0,
        le=7 * 24 * 3_600,
        description="Unload a model that nobody has asked for so long; 0 = never. A request loads it again.",
    )
    seats: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,19}$")], ...] = Field(
        ("main",),
        min_length=1,
        max_length=8,
        description="Seats: one engine runs on each. The first serves every request that names no model of another one.",
    )

    @field_validator("seats")
    @classmethod
    def _each_once(cls, seats: tuple[str, ...]) -> tuple[str, ...]:
        if seats[0] != "main" or len(set(seats)) != len(seats):
            raise ValueError('the first seat is "main", and each name stands there once')
        return seats


class LibrarySettings(_Group):
    folders: tuple[str, ...] = Field(("~/models",), description="Folders that are searched for models.")
    sources: tuple[Annotated[str, Field(pattern=rf"^({'|'.join(map(re.escape, STORES))})$")], ...] = Field(
        STORES,
        description="Stores of other programs whose models are listed too, and read where they lie: "
        "huggingface, llama.cpp, ollama, lmstudio.",
    )


class LogSettings(_Group):
    run_log_bytes: int = Field(
        256 * 1024**2,
        ge=1024**2,
        le=64 * GIB,
        description="Size of one run's log; older parts are dropped from the front.",
    )
    runs_kept: int = Field(50, ge=1, le=10_000, description="Runs whose logs are kept.")


class Settings(BaseSettings):
    """All settings. Environment names: ENGINE_ROOM_GATEWAY__PORT and alike."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True
    )

    gateway: GatewaySettings = GatewaySettings()  # type: ignore[call-arg]
    memory: MemorySettings = MemorySettings()  # type: ignore[call-arg]
    supervision: SupervisionSettings = SupervisionSettings()  # type: ignore[call-arg]
    library: LibrarySettings = LibrarySettings()  # type: ignore[call-arg]
    logs: LogSettings = LogSettings()  # type: ignore[call-arg]

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (env_settings, init_settings)


def load_settings(file: Path) -> Settings:
    """Settings from environment and `file`; raises SettingInvalid naming file and key."""
    try:
        values = tomllib.loads(file.read_text("utf-8")) if file.is_file() else {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingInvalid(
            f"{file}: this is not valid TOML: {error}.", "Correct the line or move the file away."
        ) from error
    except OSError as error:
        raise SettingInvalid(f"{file} cannot be read: {error.strerror}.", "Check the file's permissions.") from error
    try:
        return Settings(**values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        variable = ENVIRONMENT_PREFIX + "__".join(str(part) for part in first["loc"][:2]).upper()
        where = f"the environment's {variable}" if variable in os.environ else f"{file}: {key}"
        raise SettingInvalid(
            f"{where}: {first['msg']}.", "Correct the value, or remove the line: its default is used then."
        ) from error
    except SettingsError as error:
        raise SettingInvalid(f"The environment: {error}.", "Correct the variable, or remove it.") from error
