"""Owns the window's copy of one run's log: bytes in a file of its own, with the offset and level of every line.

Local and remote are the same path: whatever came over the link is here, and only what is visible is ever parsed.
"""

from __future__ import annotations

import os
import tempfile
from array import array
from bisect import bisect_right
from pathlib import Path

from app.core.loglines import Level, level_of

LONGEST_LINE_BYTES = (
    16 * 1024
)  # a line without end (a storm of progress bars) is cut here, so that painting stays cheap
_LEVELS = tuple(Level)


class Spool:
    """Append-only. Line numbers begin at 0. Offsets are the spool's; `log_offset` and `line_at` speak the engine's."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._fd, name = tempfile.mkstemp(prefix="log-", dir=folder)
        os.unlink(name)  # noqa: PTH108 - the descriptor keeps it; whatever ends the window removes it
        self._size = 0
        self._starts = array("Q", [0])  # of every line, the open one too
        self._levels = bytearray()  # of whole lines, as far as they were judged
        self._tail = b""  # the open line
        self._pieces: list[tuple[int, int]] = []  # (spool offset, log offset) where the log has a hole
        self.counts = dict.fromkeys(_LEVELS, 0)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    @property
    def size(self) -> int:
        return self._size

    @property
    def next_log_offset(self) -> int:
        """From where the engine's log is to be asked next."""
        if not self._pieces:
            return 0
        spool, log = self._pieces[-1]
        return log + (self._size - spool)

    @property
    def lines(self) -> int:
        """How many lines can be shown; the open one counts when it holds anything."""
        return len(self._starts) - (0 if self._tail else 1)

    @property
    def whole_lines(self) -> int:
        """How many lines have their end, and will not change."""
        return len(self._starts) - 1

    def append(self, data: bytes, log_offset: int) -> None:
        """Takes the next bytes; raises OSError when they cannot be kept (then nothing of them is)."""
        if not data:
            return
        written = 0
        while written < len(data):
            written += os.pwrite(self._fd, data[written:], self._size + written)
        if log_offset != self.next_log_offset or not self._pieces:
            self._pieces.append((self._size, log_offset))
        self._index(data)
        self._size += len(data)

    def _index(self, data: bytes) -> None:
        base, starts = self._size, self._starts
        line_start = starts[-1]
        at = 0
        find = data.find
        while True:
            end = find(b"\n", at)
            stop = len(data) if end < 0 else end + 1
            while base + stop - line_start > LONGEST_LINE_BYTES:
                line_start += LONGEST_LINE_BYTES
                starts.append(line_start)
            if end < 0:
                break
            line_start = base + stop
            starts.append(line_start)
            at = stop
        self._tail = data[max(0, line_start - base) :] if line_start >= base else self._tail + data

    def judge(self, most: int) -> int:
        """Finds the levels of up to `most` more whole lines and counts them; returns how many it did."""
        first = len(self._levels)
        last = min(len(self._starts) - 1, first + most)
        if last <= first:
            return 0
        begin = self._starts[first]
        data = os.pread(self._fd, self._starts[last] - begin, begin)
        for number in range(first, last):
            level = level_of(data[self._starts[number] - begin : self._starts[number + 1] - begin])
            self._levels.append(level)
            self.counts[level] += 1
        return last - first

    @property
    def judged(self) -> int:
        return len(self._levels)

    def level(self, number: int) -> Level:
        return _LEVELS[self._levels[number]] if number < len(self._levels) else level_of(self.line(number))

    def line(self, number: int) -> bytes:
        """The bytes of one line, without its end."""
        begin = self._starts[number]
        end = self._starts[number + 1] if number + 1 < len(self._starts) else self._size
        return os.pread(self._fd, min(end - begin, LONGEST_LINE_BYTES), begin).rstrip(b"\n")

    def read(self, begin: int, length: int) -> bytes:
        return os.pread(self._fd, length, begin)

    def start_of(self, number: int) -> int:
        return self._starts[number]

    def line_of(self, offset: int) -> int:
        """The line that holds this byte of the spool."""
        return max(0, min(bisect_right(self._starts, offset) - 1, self.lines - 1))

    def line_at(self, log_offset: int) -> int | None:
        """The line that holds this byte of the engine's log; None when it has not come, or was dropped."""
        for spool, log in reversed(self._pieces):
            if log <= log_offset:
                at = spool + log_offset - log
                return self.line_of(at) if at < self._size else None
        return None
