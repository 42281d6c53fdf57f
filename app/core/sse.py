"""Turns the bytes of a server-sent-event stream into events, whatever the pieces in which they arrive."""

from __future__ import annotations

import msgspec

LARGEST_EVENT_BYTES = 8 * 1024**2


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One dispatched event. `data` is its data lines joined by newlines, `id` the last id that the stream gave."""

    data: str
    event: str = "message"
    id: str = ""


class EventTooLong(ValueError):
    """A single event holds more bytes than the parser may keep."""


class Parser:
    """Follows the event-stream format of the HTML standard (9.2.6) without doing any input or output.

    An event that is not closed by an empty line when the stream ends is dropped, as the standard asks; `unfinished` tells.
    """

    __slots__ = (
        "_at_start",
        "_data",
        "_data_bytes",
        "_event",
        "_id",
        "_limit_bytes",
        "_line_bytes",
        "_pieces",
        "_skip_lf",
    )

    def __init__(self, limit_bytes: int = LARGEST_EVENT_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._pieces: list[bytes] = []  # of the line that has no end yet
        self._line_bytes = 0
        self._data: list[str] = []  # the data lines of the open event
        self._data_bytes = 0
        self._event = ""
        self._id = ""
        self._skip_lf = False  # the last piece ended with \r: a \n that follows belongs to it
        self._at_start = True

    @property
    def unfinished(self) -> bool:
        """Whether the stream so far ends inside an event."""
        return bool(self._data or any(self._pieces))

    def feed(self, piece: bytes) -> list[Event]:
        """The events that `piece` completes, oldest first; raises EventTooLong instead of holding without limit."""
        if self._skip_lf and piece:
            self._skip_lf = False
            if piece.startswith(b"\n"):
                piece = piece[1:]
        if not piece:
            return []
        events: list[Event] = []
        lines = piece.splitlines(keepends=True)
        rest = b"" if lines[-1].endswith((b"\n", b"\r")) else lines.pop()
        for line in lines:
            if self._pieces:
                line = b"".join((*self._pieces, line))
                self._pieces.clear()
                self._line_bytes = 0
            self._line(line, events)
        if rest:
            self._pieces.append(rest)
            self._line_bytes += len(rest)
        if self._line_bytes + self._data_bytes > self._limit_bytes:
            raise EventTooLong(f"One event of the stream is longer than {self._limit_bytes} bytes.")
        self._skip_lf = not rest and piece.endswith(b"\r")
        return events

    def _line(self, raw: bytes, events: list[Event]) -> None:
        line = raw.rstrip(b"\r\n").decode("utf-8", "replace")
        if self._at_start:
            self._at_start = False
            line = line.removeprefix("\ufeff")
        if not line:
            if self._data:
                events.append(Event(data="\n".join(self._data), event=self._event or "message", id=self._id))
            self._data, self._data_bytes, self._event = [], 0, ""
            return
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
            self._data_bytes += len(raw)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._id = value
