"""Defines a conversation as data: messages, how a streamed answer folds into one, and the request that continues it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from app.core.control import Manifest
from app.core.options import Scalar
from app.core.profiles import Sampling

# What a message's finish says when the stream itself did not.
STOPPED = "stopped"  # by the person
CUT = "cut"  # the stream ended without an end
FAILED = "failed"  # an error came instead of, or after, a part of the answer

TITLE_CHARACTERS = 60


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer cost. Seconds and tokens; None = not told and not measured."""

    first_token_seconds: float | None = None
    duration_seconds: float | None = None
    tokens_per_second: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class MadeBy(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer keeps of its run's manifest, because chats outlive the service's memory of its runs."""

    title: str
    engine: str
    engine_build: str = ""
    settings: dict[str, Scalar] = {}
    model_path: str = ""
    model_fingerprint: str = ""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One turn. `parent` is the message that it follows, so that a regenerated answer is a sibling, never a loss."""

    id: str
    parent: str | None
    role: str  # system · user · assistant
    text: str
    reasoning: str = ""
    finish: str | None = None  # stop · length · tool_calls · stopped · cut · failed; None = still being written
    error: str = ""
    model: str = ""
    engine: str = ""
    run_id: str = ""
    made_by: MadeBy | None = None  # of the run's manifest
    request_id: str = ""
    created_at_unix: float = 0.0
    figures: Figures = Figures()


def made_by(manifest: Manifest) -> MadeBy:
    run = manifest.run
    return MadeBy(
        title=run.title,
        engine=run.engine,
        engine_build=run.engine_build,
        settings=manifest.settings,
        model_path=manifest.model_path,
        model_fingerprint=manifest.model_fingerprint,
    )


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    title: str = ""
    system_prompt: str = ""
    sampling: Sampling = Sampling()
    created_at_unix: float = 0.0
    changed_at_unix: float = 0.0
    draft: str = ""
    deleted_at_unix: float | None = None


def title_of(text: str) -> str:
    """A conversation's title: the first words that were said in it."""
    line = " ".join(text.split())
    return line if len(line) <= TITLE_CHARACTERS else line[: TITLE_CHARACTERS - 1].rstrip() + "…"


def thread(messages: Sequence[Message], leaf: str | None) -> tuple[Message, ...]:
    """The messages from the first to `leaf`, along their parents; all siblings besides are other versions."""
    known = {message.id: message for message in messages}
    found: list[Message] = []
    at = known.get(leaf) if leaf else None
    while at is not None and len(found) <= len(known):
        found.append(at)
        at = known.get(at.parent) if at.parent else None
    return tuple(reversed(found))


def request_body(
    history: Iterable[Message], *, model: str, system_prompt: str, sampling: Sampling, limit_tokens: int | None = None
) -> dict[str, Any]:
    """The chat-completions request that continues `history`; empty answers (failed before their first token) are left out."""
    messages: list[dict[str, str]] = []
    if system_prompt:
        messages.append({"role": "system", "content": system_prompt})
    messages += [{"role": turn.role, "content": turn.text} for turn in history if turn.text]
    body: dict[str, Any] = {"model": model, "messages": messages, "stream": True}
    body["stream_options"] = {"include_usage": True}
    chosen = {name: value for name, value in msgspec.structs.asdict(sampling).items() if value is not None}
    if limit_tokens is not None and "max_tokens" not in chosen:
        chosen["max_tokens"] = limit_tokens
    return body | chosen


class Answer:
    """Folds a streamed answer: feed each event's data with the time it came; `message` is the whole so far.

    Mutable on purpose: a token costs one list append, whatever the length so far.
    """

    def __init__(self, message: Message, asked_at: float) -> None:
        self._message = message
        self._asked_at = asked_at
        self._text: list[str] = [message.text] if message.text else []
        self._reasoning: list[str] = []
        self._first_at: float | None = None
        self._last_at = asked_at
        self._pieces = 0
        self._usage: Mapping[str, Any] = {}
        self._timings: Mapping[str, Any] = {}
        self._finish: str | None = None
        self._error = ""
        self._done = False

    def feed(self, data: str, now: float) -> tuple[str, str]:
        """(text, reasoning) that this event adds; both empty for an event that only tells of the end."""
        if data == "[DONE]":
            self._done = True
            return "", ""
        try:
            value = json.loads(data)
        except ValueError:
            return "", ""
        if not isinstance(value, dict):
            return "", ""
        if "error" in value:
            error = value["error"]
            self._error = str(error.get("message") or error) if isinstance(error, dict) else str(error)
            return "", ""
        self._usage = value.get("usage") or self._usage
        self._timings = value.get("timings") or self._timings
        text = reasoning = ""
        for choice in value.get("choices") or ():
            delta = choice.get("delta") or {}
            text += delta.get("content") or ""
            reasoning += delta.get("reasoning_content") or delta.get("reasoning") or ""
            self._finish = choice.get("finish_reason") or self._finish
        if text or reasoning:
            self._first_at = now if self._first_at is None else self._first_at
            self._last_at = now
            self._pieces += 1
            if text:
                self._text.append(text)
            if reasoning:
                self._reasoning.append(reasoning)
        return text, reasoning

    def requested(self, request_id: str, run_id: str = "") -> None:
        """The name under which the request log knows this answer, and the run that makes it ("" = not told)."""
        self._message = replace(self._message, request_id=request_id, run_id=run_id or self._message.run_id)

    def made(self, made: MadeBy) -> None:
        self._message = replace(self._message, made_by=made)

    @property
    def run_id(self) -> str:
        return self._message.run_id

    @property
    def has_text(self) -> bool:
        return self._first_at is not None

    @property
    def is_over(self) -> bool:
        """Whether the stream told its end: [DONE], or an error."""
        return self._done or bool(self._error)

    def message(self) -> Message:
        """The answer so far."""
        return replace(
            self._message,
            text="".join(self._text),
            reasoning="".join(self._reasoning),
            error=self._error,
            figures=self._figures(),
        )

    def finished(self, *, stopped: bool = False, error: str = "") -> Message:
        """The answer at its end. A stream that ended without [DONE] or a finish reason was cut, and says so."""
        self._error = self._error or error
        if stopped:
            finish = STOPPED
        elif self._error:
            finish = FAILED
        elif self._finish is not None:
            finish = self._finish
        else:
            finish = "stop" if self._done else CUT
        return replace(self.message(), finish=finish)

    def _figures(self) -> Figures:
        """The engine's own numbers where it tells them; else what was seen here, a piece counted as a token."""
        completion = self._usage.get("completion_tokens", self._timings.get("predicted_n"))
        seen_seconds = self._last_at - self._first_at if self._first_at is not None else 0.0
        tokens = completion if isinstance(completion, int) else self._pieces
        rate = self._timings.get("predicted_per_second")
        if not isinstance(rate, int | float):
            rate = (tokens - 1) / seen_seconds if tokens > 1 and seen_seconds > 0 else None
        return Figures(
            first_token_seconds=None if self._first_at is None else self._first_at - self._asked_at,
            duration_seconds=self._last_at - self._asked_at,
            tokens_per_second=rate,
            prompt_tokens=self._usage.get("prompt_tokens", self._timings.get("prompt_n")),
            completion_tokens=tokens or None,
        )
