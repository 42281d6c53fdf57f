"""Splits Markdown that is still arriving into blocks that are finished for good and one that is open."""

from __future__ import annotations

import re

import msgspec

_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})[ \t]*([^`\n]*)$")
_LIST_ITEM = re.compile(r"^ {0,3}(?:[-*+]|\d{1,9}[.)])(?:\s|$)")
_INDENTED = re.compile(r"^(?: {2,}|\t)")
LONG_LIST_CHARACTERS = (
    2_000  # a list longer than this goes on in a new block at its next item: its number is in the text
)
LONG_CODE_LINES = 40  # code longer than this goes on in a new block: no block costs more than a frame


class Block(msgspec.Struct, frozen=True):
    """`kind` is "text" or "code". A code block's text is what stands between its fences; `source` is all of it.

    Long code comes as several blocks: the first has the opening fence, the last the closing one.
    """

    kind: str
    source: str
    language: str = ""
    text: str = ""
    closed: bool = False  # a code block whose closing fence has come
    first: bool = True  # False: code that goes on from the block before


class Splitter:
    """Feed pieces; `finished` grows and never changes, `open` is the rest. The sources joined are the text fed.

    A blank line ends a paragraph, heading or table; a list goes on over blank lines while items or indented lines
    follow, so that its numbers and nesting stay one list.
    """

    def __init__(self) -> None:
        self.finished: list[Block] = []
        self._lines: list[str] = []  # whole lines of the open block, with their ends
        self._rest = ""  # the line without an end yet
        self._fence = ""
        self._language = ""
        self._goes_on = False  # the open code block is the rest of a long one
        self._characters = 0  # of the whole lines of the open block

    @property
    def open(self) -> Block | None:
        """The block that may still change; None when nothing is open."""
        source = "".join(self._lines) + self._rest
        return self._block(source, closed=False) if source else None

    def feed(self, piece: str) -> int:
        """Takes the next piece; returns how many blocks it finished."""
        before = len(self.finished)
        self._rest += piece
        if "\n" in piece:
            *whole, self._rest = self._rest.split("\n")
            for line in whole:
                self._line(line)
        return len(self.finished) - before

    def close(self) -> None:
        """The text is over: the open block is finished as it stands."""
        source = "".join(self._lines) + self._rest
        if source:
            self.finished.append(self._block(source, closed=False))
        self._lines, self._rest, self._fence, self._language, self._goes_on = [], "", "", "", False
        self._characters = 0

    def _line(self, line: str) -> None:
        if self._fence:
            self._lines.append(line + "\n")
            if self._closes(line):
                self._finish(closed=True)
            elif len(self._lines) - (not self._goes_on) >= LONG_CODE_LINES:
                self._finish_part()
            return
        fence = _FENCE.match(line)
        if fence is not None:
            self._finish()
            self._fence, self._language = fence.group(1), fence.group(2).strip().split(" ")[0]
        elif self._begins_block(line):
            self._finish()
        self._lines.append(line + "\n")
        self._characters += len(line) + 1

    def _begins_block(self, line: str) -> bool:
        if line.strip() and self._blank_before() and not self._continues(line):
            return True
        return self._characters > LONG_LIST_CHARACTERS and self._is_list() and _LIST_ITEM.match(line) is not None

    def _closes(self, line: str) -> bool:
        stripped = line.strip()
        return len(stripped) >= len(self._fence) and set(stripped) == {self._fence[0]} and not line.startswith("    ")

    def _blank_before(self) -> bool:
        return bool(self._lines) and not self._lines[-1].strip() and any(part.strip() for part in self._lines)

    def _is_list(self) -> bool:
        return bool(_LIST_ITEM.match(next((part for part in self._lines if part.strip()), "")))

    def _continues(self, line: str) -> bool:
        return self._is_list() and bool(_LIST_ITEM.match(line) or _INDENTED.match(line))

    def _finish(self, closed: bool = False) -> None:
        if self._lines:
            self.finished.append(self._block("".join(self._lines), closed))
        self._lines, self._fence, self._language, self._goes_on, self._characters = [], "", "", False, 0

    def _finish_part(self) -> None:
        self.finished.append(self._block("".join(self._lines), closed=False))
        self._lines, self._goes_on = [], True

    def _block(self, source: str, closed: bool) -> Block:
        if not self._fence and not (self._rest and not self._lines and _FENCE.match(self._rest)):
            return Block("text", source)
        if not self._fence:  # the opening fence's line is still being written
            return Block("code", source, "", "", False)
        lines = source.split("\n")
        begin = 0 if self._goes_on else 1
        if not closed and self._closes(lines[-1]):  # the closing fence is there, the end of its line not yet
            inner, closed = lines[begin:-1], True
        else:
            inner = lines[begin:-2] if closed else lines[begin:]
        return Block("code", source, self._language, "\n".join(inner), closed, not self._goes_on)


def blocks(text: str) -> list[Block]:
    """A whole text's blocks."""
    splitter = Splitter()
    splitter.feed(text)
    splitter.close()
    return splitter.finished
