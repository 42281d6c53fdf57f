"""Turns the options that clients of Ollama put into a request (`num_predict`, `repeat_penalty` …) into the engine's own names.

Engines ignore or refuse names that they do not know, so a limit said in Ollama's way would be no limit, and nobody would be
told. A table per engine family says where each option's value goes; what cannot be had per request is left out and named.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Decided when the model is loaded, in each engine: a request cannot change them.
OF_A_LOAD = dict.fromkeys(
    (
        *("num_ctx", "num_gpu", "num_thread", "num_batch", "num_keep", "main_gpu", "use_mmap", "use_mlock"),
        *("low_vram", "vocab_only", "numa", "f16_kv", "logits_all", "keep_alive"),
    ),
    "",
)
# What the OpenAI API has no name for.
_MORE = (
    *("top_k", "min_p", "typical_p", "tfs_z", "repeat_penalty", "repeat_last_n", "penalize_newline"),
    *("mirostat", "mirostat_tau", "mirostat_eta"),
)
_COMMON = {**OF_A_LOAD, "num_predict": "max_tokens"}

OPENAI: dict[str, str] = {**_COMMON, **dict.fromkeys(_MORE, "")}
# The native server takes these by the same names, except for one that it never had.
LLAMA_CPP: dict[str, str] = {**_COMMON, "num_keep": "n_keep", "tfs_z": "", "penalize_newline": ""}
LLAMA_CPP_PYTHON: dict[str, str] = {
    **_COMMON,
    **dict.fromkeys(("typical_p", "tfs_z", "repeat_last_n", "penalize_newline"), ""),
    "mirostat": "mirostat_mode",
}
VLLM: dict[str, str] = {
    **_COMMON,
    **{name: "" for name in _MORE if name not in ("top_k", "min_p")},
    "repeat_penalty": "repetition_penalty",
}


def by_engine_names(values: Mapping[str, Any], names: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """(the body, option → the engine's name for it, "" = left out); both unchanged and empty when nothing is to be done.

    Options may stand at the body's top or in Ollama's own `options` object. What the body says in the engine's way wins.
    A `num_predict` below zero means "no limit" in Ollama: it is left out.
    """
    inner = values.get("options")
    inside: Mapping[str, Any] = inner if isinstance(inner, dict) else {}
    foreign = {name: value for name, value in values.items() if names.get(name, name) != name}
    if not foreign and not inside:
        return dict(values), {}
    body = {name: value for name, value in values.items() if name not in foreign}
    if inside:
        del body["options"]
    said: dict[str, str] = {}
    for name, value in {**inside, **foreign}.items():
        told = name if name in foreign else f"options.{name}"
        wanted = names.get(name, name)
        unlimited = name == "num_predict" and isinstance(value, int | float) and value < 0
        given = wanted in values
        said[told] = "" if unlimited or not wanted or given else wanted
        if said[told]:
            body[wanted] = value
    return body, said


def sentence_of(said: Mapping[str, str]) -> str:
    """What was changed, for the answer's header: "num_predict as max_tokens, num_ctx left out"."""
    return ", ".join(f"{name} as {wanted}" if wanted else f"{name} left out" for name, wanted in said.items())
