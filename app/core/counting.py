"""Counts an answer's tokens as its bytes pass: content chunks at once, the engine's own figures at the end."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

LINE_LIMIT_BYTES = 64 * 1024  # a longer line is not a token; it passes uncounted

# A piece of generated text, under the names of chat, completions, responses and messages; an empty string is none.
_CONTENT = re.compile(
    rb'"(?:content|reasoning_content|reasoning|thinking|text|delta|arguments|partial_json)"\s*:\s*"[^"]'
)
_FINISH = re.compile(rb'"(?:finish_reason|stop_reason)"\s*:\s*"([^"]{1,64})"')
_DECODER = json.JSONDecoder()
_USAGE = re.compile(rb'"usage"\s*:\s*\{')
_TIMINGS = re.compile(rb'"timings"\s*:\s*\{')
# Lines that only a complete stream has, and an engine's own word that it failed.
_END = re.compile(
    rb'^(?:data: ?\[DONE\]|(?:event: ?|data: ?\{"type": ?")(?:message_stop|response\.(?:completed|incomplete|failed)))',
    re.MULTILINE,
)
_ERROR = re.compile(rb'^(?:data: ?\{\s*"error"|error:|event: ?error)', re.MULTILINE)


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of an answer's tokens; None where the engine does not say and nothing could be counted."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_per_second: float | None = None
    tokens_per_second: float | None = None  # the engine's own figure
    finish_reason: str = ""


class StreamCounter:
    """Counts one event stream. No JSON is read while it runs; a chunk costs a few searches of its bytes."""

    __slots__ = ("_skipping", "_tail", "_timings", "_usage", "chunks", "ended", "failed", "finish_reason")

    def __init__(self) -> None:
        self.chunks = 0  # pieces of content so far; engines send about one token in each
        self.ended = False  # the stream said that it is complete
        self.failed = False  # the engine sent an error event
        self.finish_reason = ""
        self._tail = b""
        self._skipping = False
        self._usage: list[bytes] = []  # first and last; the messages form tells the prompt first, the rest last
        self._timings = b""

    def feed(self, piece: bytes) -> int:
        """How many pieces of content `piece` completes."""
        if self._tail:
            piece = self._tail + piece
        cut = piece.rfind(b"\n") + 1
        lines, rest = (piece, b"") if cut == len(piece) else (piece[:cut], piece[cut:])
        if lines and self._skipping:
            lines = lines[lines.index(b"\n") + 1 :]
            self._skipping = False
        if len(rest) > LINE_LIMIT_BYTES:
            self._skipping = True
        self._tail = b"" if self._skipping else rest
        if not lines:
            return 0
        self._look(lines)
        found = len(_CONTENT.findall(lines))
        self.chunks += found
        return found

    def _look(self, lines: bytes) -> None:
        """The plain searches come first: they cost a tenth of a pattern's, and nearly every chunk fails them."""
        if b'_reason":"' in lines or b'_reason": "' in lines:
            for finish in _FINISH.finditer(lines):
                self.finish_reason = finish[1].decode("ascii", "replace")
                self.failed = self.failed or self.finish_reason == "abort"  # vLLM, when it ends under a stream
        if b"[DONE]" in lines or b"message_stop" in lines or b"response." in lines:
            self.ended = self.ended or _END.search(lines) is not None
        if b"error" in lines and _ERROR.search(lines) is not None:
            self.failed = True
        if b'"usage"' in lines:
            for found in _USAGE.finditer(lines):
                self._usage[1:] = [_object_at(found, lines)]
        if b'"timings"' in lines:
            for found in _TIMINGS.finditer(lines):
                self._timings = _object_at(found, lines)

    @property
    def complete(self) -> bool:
        """Whether the stream told its end in any known way; one that did not was cut."""
        return self.ended or self.failed or bool(self.finish_reason)

    def counts(self) -> Counts:
        """The engine's figures where it gave some, else what was counted."""
        usage: dict[str, Any] = {}
        for part in self._usage:
            usage.update(_loose_object(part))
        return _counts(usage, _loose_object(self._timings), self.finish_reason, self.chunks or None)


def whole_answer(body: bytes) -> Counts:
    """The counts of an answer that came in one piece; empty counts when it is not the JSON of an answer."""
    try:
        answer = _ANSWER.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return Counts()
    reason = answer.stop_reason or next((choice.finish_reason for choice in answer.choices), None)
    usage, timings = answer.usage or {}, answer.timings or {}
    return _counts(usage, timings, reason[:64] if isinstance(reason, str) else "", None)


class _Choice(msgspec.Struct):
    finish_reason: Any = None


class _Answer(msgspec.Struct):
    """What is read of an answer; all else is skipped without being built."""

    choices: list[_Choice] = []
    usage: dict[str, Any] | None = None
    timings: dict[str, Any] | None = None
    stop_reason: str | None = None


_ANSWER = msgspec.json.Decoder(_Answer)


def _object_at(found: re.Match[bytes], data: bytes) -> bytes:
    """From the `{` that ends the match: the object, and whatever follows it."""
    return data[found.end() - 1 : found.end() + LINE_LIMIT_BYTES]


def _loose_object(text: bytes) -> dict[str, Any]:
    """The JSON object at the start of `text`, whatever follows it; empty when there is none."""
    if not text:
        return {}
    try:
        value, _ = _DECODER.raw_decode(text.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _counts(usage: dict[str, Any], timings: dict[str, Any], finish_reason: str, counted: int | None) -> Counts:
    prompt = _count(usage, "prompt_tokens", "input_tokens")
    if prompt is None:  # llama-server tells new and cached prompt tokens apart
        fresh, cached = _count(timings, "prompt_n"), _count(timings, "cache_n")
        prompt = None if fresh is None else fresh + (cached or 0)
    completion = _count(usage, "completion_tokens", "output_tokens")
    if completion is None:
        completion = _count(timings, "predicted_n")
    return Counts(
        prompt_tokens=prompt,
        completion_tokens=counted if completion is None else completion,
        prompt_tokens_per_second=_rate(timings, "prompt_per_second"),
        tokens_per_second=_rate(timings, "predicted_per_second"),
        finish_reason=finish_reason,
    )


def _count(values: dict[str, Any], *names: str) -> int | None:
    for name in names:
        value = values.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53:
            return value
    return None


def _rate(values: dict[str, Any], name: str) -> float | None:
    value = values.get(name)
    return float(value) if isinstance(value, int | float) and 0 < value < 1e9 else None
