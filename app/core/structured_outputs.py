"""Turns the names by which answers used to be bound to a form (`guided_json` and alike) into the engine's current ones.

vLLM ignores names that it does not know, so a request by the old ones would get an unbound answer and no word about it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

WANTED = "structured_outputs"
NAMES = {
    "guided_json": "json",
    "guided_regex": "regex",
    "guided_choice": "choice",
    "guided_grammar": "grammar",
    "guided_whitespace_pattern": "whitespace_pattern",
}
LEFT_OUT = ("guided_decoding_backend",)  # the engine chooses by itself now


def by_current_names(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """(the body, old name → where its value went, "" = left out); both unchanged and empty when there is nothing to do.

    A body that says it by the current name already keeps that, and the old names in it are left to the engine.
    """
    old = [name for name in (*NAMES, *LEFT_OUT) if name in values]
    if not old or WANTED in values:
        return dict(values), {}
    said = {NAMES[name]: values[name] for name in old if name in NAMES and values[name] is not None}
    body = {name: value for name, value in values.items() if name not in old}
    if said:
        body[WANTED] = said
    return body, {name: f"{WANTED}.{NAMES[name]}" if NAMES.get(name) in said else "" for name in old}
