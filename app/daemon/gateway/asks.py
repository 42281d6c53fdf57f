"""Reads a request's body within its limits and finds out what the gateway must know of it: is it JSON, is it a stream."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
from aiohttp import web

from app.daemon.gateway.answers import Refused
from app.daemon.gateway.checks import check_encoding

BODY_SECONDS = 60.0


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """A body that may be passed on, byte for byte. `values` is None for a multipart body."""

    body: bytes
    values: dict[str, Any] | None = None

    @property
    def stream(self) -> bool:
        return self.values is not None and self.values.get("stream") is True


class Holding:
    """The bytes of bodies that wait in memory, with a limit for all together."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._held_bytes = 0

    def take(self, count: int) -> None:
        if self._held_bytes + count > self._limit_bytes:
            raise Refused(
                503,
                "Too many large requests are waiting; try again later.",
                code="bodies_too_large_together",
                kind="engine_busy",
                retry_after_seconds=5,
                close=True,
            )
        self._held_bytes += count

    def give_back(self, count: int) -> None:
        self._held_bytes -= count


class Share:
    """One request's part of the holding; given back when the request ends."""

    def __init__(self, holding: Holding) -> None:
        self._holding = holding
        self.held_bytes = 0

    def take(self, count: int) -> None:
        self._holding.take(count)
        self.held_bytes += count

    def __enter__(self) -> Share:
        return self

    def __exit__(self, *_: object) -> None:
        self._holding.give_back(self.held_bytes)
        self.held_bytes = 0


async def read_body(request: web.BaseRequest, limit_bytes: int, share: Share) -> bytes:
    """The whole body; raises Refused when it is too large (at once where it says so itself), compressed or too slow."""
    check_encoding(request.headers)
    if (request.content_length or 0) > limit_bytes:
        raise _too_large(limit_bytes)
    if (expected := request.headers.get("Expect")) is not None:
        if expected.lower() != "100-continue":
            raise Refused(417, "Only Expect: 100-continue is known.", code="unknown_expectation", close=True)
        if not isinstance(request, web.Request):  # an application has said it already
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
    if request.content.is_eof() and request.content.exception() is None:  # it came with the head: nothing to wait for
        body = request.content.read_nowait()
        if len(body) > limit_bytes:
            raise _too_large(limit_bytes)
        share.take(len(body))
        return body
    pieces: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while piece := await request.content.readany():
                size += len(piece)
                if size > limit_bytes:
                    raise _too_large(limit_bytes)
                share.take(len(piece))
                pieces.append(piece)
    except TimeoutError:
        raise Refused(408, "The request's body took too long.", code="request_timeout", close=True) from None
    except (web.RequestPayloadError, ValueError):
        raise Refused(400, "The request's body is not framed correctly.", code="bad_framing", close=True) from None
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def read_json(body: bytes) -> Ask:
    """The body as an ask; raises Refused (400) for anything that is not one plain JSON object.

    A name that comes twice is refused because engine and gateway could each believe another of its values.
    """
    try:
        values = _DECODER.decode(body.decode("utf-8"))
    except UnicodeDecodeError:
        raise _bad_body("is not UTF-8") from None
    except RecursionError:
        raise _bad_body("is nested too deeply") from None
    except _Twice:
        raise _bad_body("has a name twice in one object") from None
    except ValueError:
        raise _bad_body("is not valid JSON") from None
    if not isinstance(values, dict):
        raise _bad_body("must be a JSON object")
    if not isinstance(values.get("stream"), bool | None):
        raise _bad_body("must have true or false for `stream`")
    return Ask(body=body, values=values)


class _Twice(ValueError):
    pass


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise _Twice
    return values


def _no_constant(name: str) -> Any:
    raise ValueError(name)


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_no_constant)


def _bad_body(problem: str) -> Refused:
    return Refused(400, f"The request's body {problem}.", code="invalid_body")


def _too_large(limit_bytes: int) -> Refused:
    return Refused(
        413,
        f"The request's body is larger than {limit_bytes} bytes; the setting gateway.max_body_bytes allows more.",
        code="body_too_large",
        close=True,
    )
