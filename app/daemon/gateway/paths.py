"""Decides which paths the endpoint has: an allow-list, so that no administration of an engine can be reached."""

from __future__ import annotations

import re

import msgspec

OWN = frozenset({"/health", "/metrics", "/models", "/v1/models"})
_MODEL = re.compile(r"/v1/models/((?:[A-Za-z0-9._:@+~-]|%2[Ff]|%3[Aa]|/)+)")


class EnginePath(msgspec.Struct, frozen=True, kw_only=True):
    """A path that engines serve. `generates`: its streams tell their end, so a silent one was cut."""

    engine_path: str
    generates: bool = False
    multipart: bool = False  # takes files; on the control socket only


def _same(path: str, *, generates: bool = False, multipart: bool = False) -> tuple[str, EnginePath]:
    return path, EnginePath(engine_path=path, generates=generates, multipart=multipart)


# What OpenAI-style and Anthropic-style clients ask for; everything is POST. Whatever is not here is 404.
POSTS: dict[str, EnginePath] = dict(
    (
        _same("/v1/chat/completions", generates=True),
        _same("/v1/completions", generates=True),
        _same("/v1/responses", generates=True),
        _same("/v1/messages", generates=True),
        _same("/v1/messages/count_tokens"),
        _same("/v1/embeddings"),
        _same("/v1/rerank"),
        _same("/v1/score"),
        _same("/v1/audio/speech"),
        _same("/v1/audio/transcriptions", multipart=True),
        _same("/v1/audio/translations", multipart=True),
        # llama-server and vLLM have these at the root
        ("/v1/tokenize", EnginePath(engine_path="/tokenize")),
        ("/v1/detokenize", EnginePath(engine_path="/detokenize")),
    )
)

# The two answers that can be put together again from a stream, see assemble.py.
ASSEMBLED = frozenset({"/v1/chat/completions", "/v1/completions"})


def split_target(target: str) -> tuple[str, str]:
    """Path and query (with its `?`) of a request target, nothing decoded: what is checked is what is sent."""
    path, mark, query = target.partition("?")
    return path, mark + query


def model_asked(path: str) -> str | None:
    """The model id in /v1/models/{id}; None when the path is another one or tries to climb."""
    found = _MODEL.fullmatch(path)
    if found is None:
        return None
    name = re.sub("%2[Ff]", "/", found[1])
    name = re.sub("%3[Aa]", ":", name)
    return None if any(part in ("", ".", "..") for part in name.split("/")) else name


def methods_of(path: str) -> tuple[str, ...]:
    """The methods that a path has; empty for a path that does not exist."""
    if path in POSTS:
        return ("POST",)
    if path in OWN or model_asked(path) is not None:
        return ("GET", "HEAD")
    return ()
