"""Defines a profile: one TOML file that says which model to load on which engine with which settings."""

from __future__ import annotations

import msgspec

from app.core.options import Scalar


class Sampling(msgspec.Struct, frozen=True, kw_only=True):
    """Sampling defaults that the chat pane starts from; None = the engine's own."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    max_tokens: int | None = None


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """`model` is an absolute path, a path relative to the profile's file, or `builtin:demo`. `id` is the file's stem."""

    id: str
    title: str
    engine: str
    model: str
    description: str = ""
    settings: dict[str, Scalar] = {}
    sampling: Sampling = Sampling()
    system_prompt: str = ""
    aliases: tuple[str, ...] = ()
    gpus: tuple[str, ...] = ()  # uuids; empty = all that are there
    seat: str = "main"
    fallback: str | None = None
    extra_arguments: tuple[str, ...] = ()
    environment: dict[str, str] = {}
    source: str = ""  # "shipped", "found" (made from a model file) or the TOML file's path
