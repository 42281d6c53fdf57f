"""Decides what of a request's body is said otherwise to the engine, and the words that tell the client so; all else is left."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from app.core import ollama_options
from app.core.structured_outputs import by_current_names
from app.daemon.gateway.asks import Ask
from app.daemon.gateway.upstream import Route


def body_for_engine(ask: Ask, path: str, route: Route, *, assembled: bool) -> tuple[bytes, str]:
    """(the body to send, what was changed: "" = nothing, and the bytes are the client's own).

    `assembled`: the engine is asked for a stream although the client is not; that is between it and us.
    """
    if ask.values is None:
        return ask.body, ""
    values: dict[str, Any] = ask.values
    traits = route.traits
    said: dict[str, str] = {}
    if renames := renamed(values, traits.renames.get(path, {})):
        values = {renames.get(name, name): value for name, value in values.items()}
        said |= renames
    if traits.structured_outputs:
        values, changed = by_current_names(values)
        said |= changed
    if traits.ollama_options:
        values, changed = ollama_options.by_engine_names(values, traits.ollama_options)
        said |= changed
    name = route.endpoint.model_name if route.endpoint is not None else ""
    if traits.model_by_name and values.get("model") != name:
        values = {**values, "model": name}
        said["model"] = name
    if assembled:
        values = {**values, "stream": True}
    body = ask.body if values == ask.values else json.dumps(values, ensure_ascii=False).encode()
    return body, _header(ollama_options.sentence_of(said))


def renamed(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, str]:
    """Name → the engine's name for it, of what a body says; a body that says it in the engine's way stays as it is."""
    if any(wanted in values for wanted in names.values()):
        return {}
    given = next((name for name in names if name in values), None)
    return {} if given is None else {given: names[given]}


def _header(text: str) -> str:
    """A name in a body may hold anything; a header holds one line of ASCII."""
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in text)[:1_000]
