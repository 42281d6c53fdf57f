"""Finds lines in a spool: off the window's thread, in pieces, ended at once when the question changes."""

from __future__ import annotations

import re
import threading
from array import array
from collections.abc import Callable

from PySide6.QtCore import QObject, Signal

from app.ui.logs.spool import Spool

PIECE_LINES = 2_000  # the interpreter is given up between pieces, so that frames are painted
MOST_MATCHES = 200_000


class BadPattern(ValueError):
    """A regular expression that is none; the text says why."""


def matcher(text: str, *, regex: bool, case: bool) -> re.Pattern[bytes] | None:
    """What to look for; None when `text` is empty. Raises BadPattern."""
    if not text:
        return None
    flags = 0 if case else re.IGNORECASE
    pattern = text.encode() if regex else re.escape(text.encode())
    try:
        return re.compile(pattern, flags)
    except re.error as error:
        raise BadPattern(f"This is not a regular expression: {error}.") from error


class Search(QObject):
    """One search at a time; the numbers of matching lines come by `found` (whole array so far, whether it is all)."""

    found = Signal(object, bool)
    _done = Signal(int, object)

    def __init__(self) -> None:
        super().__init__()
        self._generation = 0
        self._done.connect(self._tell)

    def _tell(self, generation: int, matches: array[int]) -> None:
        """In the window's thread: the question may have been dropped while the answer was on its way."""
        if generation == self._generation:
            self.found.emit(matches, True)

    def start(self, spool: Spool, accepts: Callable[[int, bytes], bool], first: int, last: int) -> None:
        """Looks at lines [first, last); `accepts(number, line)` is called in the searching thread."""
        self._generation += 1
        generation = self._generation
        threading.Thread(
            target=self._work, args=(generation, spool, accepts, first, last), name="log search", daemon=True
        ).start()

    def cancel(self) -> None:
        self._generation += 1

    def _work(
        self, generation: int, spool: Spool, accepts: Callable[[int, bytes], bool], first: int, last: int
    ) -> None:
        matches = array("Q")
        try:
            for begin in range(first, last, PIECE_LINES):
                if generation != self._generation:
                    return
                end = min(last, begin + PIECE_LINES)
                matches.extend(lines_that(spool, accepts, begin, end))
                if len(matches) >= MOST_MATCHES:
                    break
            self._done.emit(generation, matches)
        except (OSError, RuntimeError):
            return  # the spool or the page was closed meanwhile


def lines_that(spool: Spool, accepts: Callable[[int, bytes], bool], begin: int, end: int) -> list[int]:
    """Numbers in [begin, end) whose line is accepted."""
    start = spool.start_of(begin)
    stop = spool.start_of(end) if end < spool.lines else spool.size
    data = spool.read(start, stop - start)
    numbers = []
    for number in range(begin, end):
        at = spool.start_of(number) - start
        last = spool.start_of(number + 1) - start if number + 1 < spool.lines else len(data)
        if accepts(number, data[at:last]):
            numbers.append(number)
    return numbers
