"""Puts the chunks of a streamed chat or completion together into the answer that the client asked for in one piece."""

from __future__ import annotations

import json
from typing import Any

from app.core import sse


class Assembly:
    """Follows one stream. `answer` is OpenAI's non-stream JSON; fields that only chunks have are left out."""

    def __init__(self, *, chat: bool) -> None:
        self._chat = chat
        self._parser = sse.Parser()
        self._head: dict[str, Any] = {}
        self._choices: dict[int, dict[str, Any]] = {}
        self.error: dict[str, Any] | None = None
        self.chunks = 0

    def feed(self, piece: bytes) -> None:
        """Takes the next bytes; raises ValueError when they are not chunks of an answer."""
        for event in self._parser.feed(piece):
            if event.data == "[DONE]":
                continue
            chunk = json.loads(event.data)
            if not isinstance(chunk, dict):
                raise ValueError("a chunk is not an object")
            if isinstance(chunk.get("error"), dict):
                self.error = chunk["error"]
                continue
            self.chunks += 1
            for key, value in chunk.items():
                if key not in ("choices", "object") and value is not None:
                    self._head[key] = value
            for choice in chunk.get("choices") or ():
                self._add(choice)

    def _add(self, choice: dict[str, Any]) -> None:
        index = int(choice.get("index", 0))
        mine = self._choices.setdefault(index, {"index": index})
        for key, value in choice.items():
            if key == "delta" and self._chat:
                merge(mine.setdefault("message", {}), value or {})
            elif key == "text":
                mine["text"] = mine.get("text", "") + (value or "")
            elif key == "logprobs" and isinstance(value, dict):
                merge(mine.setdefault("logprobs", {}), value)
            elif key != "index" and (value is not None or key not in mine):
                mine[key] = value

    def answer(self) -> bytes:
        choices = [self._choices[index] for index in sorted(self._choices)]
        for choice in choices:
            choice.setdefault("logprobs", None)
            if self._chat:
                message = choice.setdefault("message", {})
                message.setdefault("role", "assistant")
                message.setdefault("content", None if message.get("tool_calls") else "")
                for call in message.get("tool_calls") or ():
                    call.pop("index", None)
            else:
                choice.setdefault("text", "")
        kind = "chat.completion" if self._chat else "text_completion"
        return json.dumps({**self._head, "object": kind, "choices": choices}, ensure_ascii=False).encode()


# These are whole in every chunk that has them; all other texts grow.
_WHOLE = frozenset({"role", "id", "type", "index", "name"})


def merge(into: dict[str, Any], delta: dict[str, Any]) -> None:
    """Adds a delta: texts and lists grow, calls are matched by their index, the rest is set."""
    for key, value in delta.items():
        old = into.get(key)
        if value is None:
            into.setdefault(key, None)
        elif isinstance(value, str) and isinstance(old, str) and key not in _WHOLE:
            into[key] = old + value
        elif isinstance(value, dict) and isinstance(old, dict):
            merge(old, value)
        elif key == "tool_calls" and isinstance(value, list):
            calls = into[key] = old if isinstance(old, list) else []
            for call in value:
                same = next((mine for mine in calls if mine.get("index") == call.get("index", 0)), None)
                if same is None:
                    calls.append(dict(call, index=call.get("index", 0)))
                else:
                    merge(same, call)
        elif isinstance(value, list) and isinstance(old, list):
            old.extend(value)
        else:
            into[key] = value
