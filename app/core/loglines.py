"""Reads an engine's log line by line: its level, its time, its colours, and what of a progress bar is still to be seen."""

from __future__ import annotations

import enum
import json
import re

import msgspec


class Level(enum.IntEnum):
    DEBUG = 0
    INFO = 1
    WARNING = 2
    ERROR = 3


class Span(msgspec.Struct, frozen=True):
    """A run of characters of one look. `colour` is an ANSI colour 0..15, None = the text's own."""

    text: str
    colour: int | None = None
    bold: bool = False
    dim: bool = False


class Line(msgspec.Struct, frozen=True):
    level: Level
    time: str  # as it is shown; "" when the line tells none
    source: str  # component or role; "" when the line tells none
    text: str  # without escape sequences


_ESCAPE = re.compile(r"\x1b\[([0-9;]*)([A-Za-z])|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-Z\\-_]")
_LETTERS = {"D": Level.DEBUG, "I": Level.INFO, "W": Level.WARNING, "E": Level.ERROR}
_WORDS = {
    "trace": Level.DEBUG,
    "debug": Level.DEBUG,
    "info": Level.INFO,
    "warn": Level.WARNING,
    "warning": Level.WARNING,
    "error": Level.ERROR,
    "critical": Level.ERROR,
    "fatal": Level.ERROR,
}
# "0.00.119.251 I srv  load_model: …" (llama.cpp) and "(EngineCore pid=1) INFO 11-21 02:32:58 [core.py:133] …" (vLLM)
_LLAMA = re.compile(r"^(\d+(?:\.\d+){1,3})\s+([DIWE])\s+(?:(\w+)\s+)?(.*)$")
_VLLM = re.compile(r"^(?:\((\w+)[^)]*\) )?(DEBUG|INFO|WARNING|ERROR|CRITICAL) (\d\d-\d\d \d\d:\d\d:\d\d) (.*)$")
_PLAIN = re.compile(r"^\[?(DEBUG|INFO|WARN|WARNING|ERROR|CRITICAL|FATAL)\]?:?\s+(.*)$")
_STAMPED = re.compile(
    r"^(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d)[.,\d]*Z?\s+(DEBUG|INFO|WARN|WARNING|ERROR|CRITICAL)\b\s*(.*)$"
)
# A line without a level of its own is an error only when it begins like one; "0 errors" in a sentence is none.
_TROUBLE = re.compile(
    r"^(?:\w+(?:\.\w+)*(?:Error|Exception)\b|Traceback \(most recent|error\b|fatal\b|terminate called|.*\berror:|"
    r".*\bCUDA error|.*out of memory|Segmentation fault|Aborted|Killed\b|.*: failed to |failed to )",
    re.IGNORECASE,
)
_CAUTION = re.compile(r"^(?:warn(?:ing)?\b|.*\bwarning:|\S*Warning:)", re.IGNORECASE)


def visible(raw: bytes) -> str:
    """What a terminal would show of one line at its end: after a carriage return the line is written over."""
    text = raw.decode("utf-8", "replace").rstrip("\r\n")
    if "\r" in text:
        shown = [piece for piece in text.split("\r") if piece]
        text = shown[-1] if shown else ""
    return text


def without_escapes(text: str) -> str:
    return _ESCAPE.sub("", text) if "\x1b" in text else text


def parsed(raw: bytes) -> Line:
    """One line of any engine that we know; a line of another form is text with the level that it looks like."""
    text = without_escapes(visible(raw))
    if text.startswith("{") and (line := _json_line(text)) is not None:
        return line
    if found := _LLAMA.match(text):
        time, letter, source, rest = found.groups()
        return Line(_LETTERS[letter], time, source or "", rest)
    if found := _VLLM.match(text):
        role, word, time, rest = found.groups()
        return Line(_WORDS[word.lower()], time, role or "", rest)
    if found := _STAMPED.match(text):
        time, word, rest = found.groups()
        return Line(_WORDS[word.lower()], time, "", rest)
    if found := _PLAIN.match(text):
        word, rest = found.groups()
        return Line(_WORDS[word.lower()], "", "", rest)
    return Line(_level_of(text), "", "", text)


_QUICK = re.compile(rb"^\d[\d.]* ([DIWE]) |^\{\"type\".{0,60}?\"level\":\"(\w+)\"")
_QUICK_LEVELS = {b"D": Level.DEBUG, b"I": Level.INFO, b"W": Level.WARNING, b"E": Level.ERROR}
_LEVEL_BYTES = 400  # a level stands at the beginning of its line


def level_of(raw: bytes) -> Level:
    """Only the level, for counting a million lines: the usual forms without decoding, all others as `parsed` does."""
    found = _QUICK.match(raw)
    if found is not None:
        letter = found.group(1)
        return _QUICK_LEVELS[letter] if letter else _WORDS.get(found.group(2).decode(), Level.INFO)
    return parsed(raw[-_LEVEL_BYTES:] if b"\r" in raw[:-1] else raw[:_LEVEL_BYTES]).level


def _json_line(text: str) -> Line | None:
    """llama-server's --log-jsonl: one object per line."""
    try:
        value = json.loads(text)
    except ValueError:
        return None
    if not isinstance(value, dict) or "msg" not in value:
        return None
    level = _WORDS.get(str(value.get("level", "info")).lower(), Level.INFO)
    millis = value.get("time")
    time = f"{millis / 1000:.3f}" if isinstance(millis, int | float) else ""
    return Line(level, time, "", str(value["msg"]).rstrip("\n"))


def _level_of(text: str) -> Level:
    if _TROUBLE.match(text):
        return Level.ERROR
    if _CAUTION.match(text):
        return Level.WARNING
    return Level.INFO


def spans(text: str) -> list[Span]:
    """A line's text cut by its SGR escapes; other escapes are dropped. Joined, it is `without_escapes(text)`."""
    if "\x1b" not in text:
        return [Span(text)] if text else []
    found: list[Span] = []
    at, colour, bold, dim = 0, None, False, False
    for escape in _ESCAPE.finditer(text):
        if escape.start() > at:
            found.append(Span(text[at : escape.start()], colour, bold, dim))
        at = escape.end()
        if escape.group(2) == "m":
            colour, bold, dim = _look(escape.group(1), colour, bold, dim)
    if at < len(text):
        found.append(Span(text[at:], colour, bold, dim))
    return found


def _look(codes: str, colour: int | None, bold: bool, dim: bool) -> tuple[int | None, bool, bool]:
    numbers = [int(code) if code else 0 for code in codes.split(";")]
    position = 0
    while position < len(numbers):
        code = numbers[position]
        if code == 0:
            colour, bold, dim = None, False, False
        elif code == 1:
            bold = True
        elif code == 2:
            dim = True
        elif code == 22:
            bold = dim = False
        elif 30 <= code <= 37:
            colour = code - 30
        elif code == 39:
            colour = None
        elif 90 <= code <= 97:
            colour = code - 90 + 8
        elif code in (38, 48):  # extended colours: 16 of them are ours, the rest keeps the text's own
            if numbers[position + 1 : position + 2] == [5] and position + 2 < len(numbers):
                wanted = numbers[position + 2]
                colour = wanted if code == 38 and wanted < 16 else colour
                position += 2
            elif numbers[position + 1 : position + 2] == [2]:
                position += 4
        position += 1
    return colour, bold, dim
