"""Reads what an engine has written to its log file since the last look; never blocks the engine, whatever it writes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

PIECE_BYTES = 1024**2
LINE_BYTES = 8 * 1024  # an overlong line is cut; progress bars end in \r and count as lines
TAIL_BYTES = 64 * 1024


class LogTail:
    """Lines with the byte offset where each begins. At most PIECE_BYTES per look: a noisy engine cannot hold us up;
    what is skipped is only skipped for the stages, the file keeps it."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._offset = 0
        self._rest = b""
        self._rest_at = 0

    def grown(self) -> bool:
        return self._size() > self._offset

    def lines(self) -> Iterator[tuple[int, str]]:
        size = self._size()
        if size <= self._offset:
            return
        start = max(self._offset, size - PIECE_BYTES)
        if start > self._offset:
            self._rest, self._rest_at = b"", start
        with self._file.open("rb") as log:
            log.seek(start)
            data = self._rest + log.read(size - start)
        at = self._rest_at if self._rest else start
        self._offset = size
        *whole, self._rest = data.replace(b"\r", b"\n").split(b"\n")
        for line in whole:
            yield at, line[:LINE_BYTES].decode("utf-8", "replace")
            at += len(line) + 1
        self._rest_at = at
        if len(self._rest) > LINE_BYTES:
            self._rest = b""

    def _size(self) -> int:
        try:
            return self._file.stat().st_size
        except OSError:
            return 0


def last_lines(file: Path, limit_bytes: int = TAIL_BYTES) -> list[tuple[int, str]]:
    """The file's end as (byte offset, line), for the diagnosis."""
    try:
        with file.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            start = max(0, size - limit_bytes)
            log.seek(start)
            data = log.read(limit_bytes)
    except OSError:
        return []
    found, at = [], start
    for line in data.replace(b"\r", b"\n").split(b"\n"):
        if line:
            found.append((at, line[:LINE_BYTES].decode("utf-8", "replace")))
        at += len(line) + 1
    return found
