"""Builds what the gateway itself says: errors in the shape that OpenAI and Anthropic clients read, lists, states."""

from __future__ import annotations

import json
from collections.abc import Mapping

from aiohttp import web

NO_STORE = {"Server": "engine-room", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class Refused(Exception):
    """A request gets this instead of an engine's answer: an HTTP status with a sentence, and what to do.

    `kind` and `code` are OpenAI's error.type and error.code; `answers` says whether the engine was at work already.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        kind: str = "",
        retry_after_seconds: int | None = None,
        headers: Mapping[str, str] | None = None,
        close: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.kind = kind or ("invalid_request_error" if status < 500 else "engine_error")
        self.retry_after_seconds = retry_after_seconds
        self.headers = headers or {}
        self.close = close

    def body(self) -> bytes:
        """OpenAI's {"error": …}; the outer `type` is what Anthropic's clients look for."""
        error = {"message": self.message, "type": self.kind, "param": None, "code": self.code}
        said = json.dumps({"type": "error", "error": error}, ensure_ascii=False)
        return said.encode("utf-8", "replace")  # an engine's words may hold half a character

    def event(self, path: str) -> bytes:
        """The same as the last event of a stream."""
        name = b"event: error\n" if path in ("/v1/messages", "/v1/responses") else b""
        return name + b"data: " + self.body() + b"\n\n"

    def response(self) -> web.Response:
        headers = {**NO_STORE, **self.headers}
        if self.retry_after_seconds is not None:
            headers["Retry-After"] = str(self.retry_after_seconds)
        response = web.Response(
            status=self.status, body=self.body(), headers=headers, content_type="application/json", charset="utf-8"
        )
        if self.close:
            response.force_close()
        return response

    def raw(self) -> bytes:
        """The whole answer as bytes, for a connection that never got as far as a request."""
        body = self.body()
        reason = {400: "Bad Request", 408: "Request Timeout", 413: "Content Too Large"}.get(self.status, "Error")
        head = (
            f"HTTP/1.1 {self.status} {reason}\r\nContent-Type: application/json; charset=utf-8\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\nServer: engine-room\r\n\r\n"
        )
        return head.encode() + body


def from_json(value: object, status: int = 200) -> web.Response:
    return web.Response(
        status=status,
        body=json.dumps(value, ensure_ascii=False).encode(),
        headers=NO_STORE,
        content_type="application/json",
        charset="utf-8",
    )


def model_object(name: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "engine-room"}


def model_list(names: list[str]) -> web.Response:
    """OpenAI's list. With no model it is empty and 200: a client's connection test shall succeed, as it does with
    other local servers, and its menu show that there is nothing to choose."""
    return from_json({"object": "list", "data": [model_object(name) for name in names]})


def models_in(body: bytes) -> list[dict[str, object]]:
    """The entries of an engine's list; none when it is no such list."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return []
    data = value.get("data") if isinstance(value, dict) else None
    return [entry for entry in data if isinstance(entry, dict)] if isinstance(data, list) else []
