"""Changes one key of a profile's TOML text and leaves everything else as the person wrote it, comments included."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import tomli_w

_HEADER = re.compile(r"\s*\[(?P<name>[^\[\]]+)\]\s*(?:#.*)?$")


class _Statement(NamedTuple):
    path: tuple[str, ...]  # ("settings", "context_tokens")
    first: int
    end: int  # one past its last line


def with_value(text: str, path: Sequence[str], value: object | None) -> str:
    """`text` with the key at `path` set to `value`; None takes the key out.

    `path` is a key of the file or of one of its tables. The result always holds exactly the values asked for: where a line
    cannot be changed alone (an inline table, say), the whole file is written anew. Raises tomllib.TOMLDecodeError when
    `text` is no TOML.
    """
    before = tomllib.loads(text)
    wanted = _changed(before, tuple(path), value)
    if wanted == before:
        return text
    try:
        edited = _edited(text, tuple(path), value)
        if tomllib.loads(edited) == wanted:
            return edited
    except tomllib.TOMLDecodeError:
        pass
    return tomli_w.dumps(wanted, multiline_strings=True)


def _changed(values: Mapping[str, object], path: tuple[str, ...], value: object | None) -> dict[str, object]:
    changed = dict(values)
    if len(path) > 1:
        inner = changed.get(path[0])
        table = _changed(inner if isinstance(inner, dict) else {}, path[1:], value)
        if table or isinstance(inner, dict):
            changed[path[0]] = table
    elif value is None:
        changed.pop(path[0], None)
    else:
        changed[path[0]] = value
    return changed


def _edited(text: str, path: tuple[str, ...], value: object | None) -> str:
    lines = text.splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    statements, headers = _read(lines)
    there = next((one for one in statements if one.path == path), None)
    if value is None:
        return "".join(lines[: there.first] + lines[there.end :]) if there else text
    written = tomli_w.dumps({path[-1]: value}, multiline_strings=True)
    if there is not None:
        if there.end == there.first + 1 and written.count("\n") == 1:
            written = written.rstrip("\n") + _comment(lines[there.first])
        return "".join([*lines[: there.first], written, *lines[there.end :]])
    table = path[:-1]
    if table and table not in headers:
        gap = "\n" if lines and lines[-1].strip() else ""
        return "".join([*lines, f"{gap}[{'.'.join(table)}]\n", written])
    ends = [one.end for one in statements if one.path[:-1] == table]
    first_header = min((line for line in headers.values()), default=len(lines))
    at = max(ends) if ends else headers[table] + 1 if table else _start(lines, first_header)
    return "".join([*lines[:at], written, *lines[at:]])


def _read(lines: list[str]) -> tuple[list[_Statement], dict[tuple[str, ...], int]]:
    """The statements with their places, and the line of each table's header."""
    statements: list[_Statement] = []
    headers: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    at = 0
    while at < len(lines):
        line = lines[at]
        header = _HEADER.match(line)
        if not line.strip() or line.lstrip().startswith("#"):
            at += 1
        elif header:
            table = _path(tomllib.loads(line))
            headers[table] = at
            at += 1
        else:
            end = _end_of(lines, at)
            statements.append(_Statement((*table, *_path(tomllib.loads("".join(lines[at:end])))), at, end))
            at = end
    return statements, headers


def _end_of(lines: list[str], first: int) -> int:
    """One past the last line of the statement that begins here: the fewest lines that are TOML."""
    for end in range(first + 1, len(lines) + 1):
        try:
            tomllib.loads("".join(lines[first:end]))
        except tomllib.TOMLDecodeError:
            continue
        return end
    return len(lines)


def _path(values: Mapping[str, object]) -> tuple[str, ...]:
    """The one key in `values`, through tables that hold nothing else."""
    for key, value in values.items():
        return (key, *_path(value)) if isinstance(value, dict) else (key,)
    return ()


def _comment(line: str) -> str:
    """What follows a one-line statement: its comment and the line's end."""
    value = tomllib.loads(line)
    for place in (match.start() for match in re.finditer(r"\s*#", line)):
        try:
            if tomllib.loads(line[:place]) == value:
                return line[place:]
        except tomllib.TOMLDecodeError:
            continue
    return "\n"


def _start(lines: list[str], limit: int) -> int:
    """Where a file's first own line goes: after the comment that opens it."""
    at = 0
    while at < limit and lines[at].lstrip().startswith("#"):
        at += 1
    return at
