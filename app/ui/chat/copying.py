"""Decides what a selection of a transcript copies: whole blocks as they were written, parts of blocks as they are seen."""

from __future__ import annotations

from PySide6.QtGui import QTextCursor

from app.ui.chat.column import Place
from app.ui.chat.items import Item, Kind, Turn
from app.ui.chat.shelf import Shelf

END = 1 << 30
UNSAID = (Kind.REASONING, Kind.NOTICE, Kind.FIGURES)


def part(chosen: tuple[Place, Place] | None, turn: int, number: int) -> tuple[int, int] | None:
    """Which part of an item's document is selected, (from, to)."""
    if chosen is None:
        return None
    first, last = chosen
    here = (turn, number)
    if here < (first.turn, first.item) or here > (last.turn, last.item):
        return None
    start = first.offset if here == (first.turn, first.item) else 0
    end = last.offset if here == (last.turn, last.item) else END
    return (start, end) if start != end else None


def code_of(panel: list[Item]) -> str:
    return "\n".join(item.text for item in panel if item.text or item.first) + "\n"


def text_of(turns: list[Turn], first: Place, last: Place, shelf: Shelf) -> str:
    """A message that is selected from end to end is its own text, without being laid out."""
    told = []
    for turn in range(first.turn, min(last.turn, len(turns) - 1) + 1):
        owner = turns[turn]
        begins = (turn, 0, 0) >= (first.turn, first.item, first.offset)
        if begins and (turn < last.turn or last.item >= END):
            told.append(owner.message.text.strip("\n"))
            continue
        pieces = []
        for number, item in enumerate(owner.items):
            chosen = part((first, last), turn, number)
            if chosen is None:
                continue
            whole = chosen == (0, END)
            if whole and item.kind in UNSAID:
                continue
            pieces.append(item.source if whole else _seen(shelf, item, *chosen))
        told.append("".join(pieces).strip("\n"))
    return "\n\n".join(piece for piece in told if piece)


def _seen(shelf: Shelf, item: Item, start: int, end: int) -> str:
    if item.kind is Kind.REASONING:
        return ""
    document = shelf.document(item)
    last = document.characterCount() - 1
    cursor = QTextCursor(document)
    cursor.setPosition(min(start, last))
    cursor.setPosition(min(end, last), QTextCursor.MoveMode.KeepAnchor)
    text = cursor.selection().toPlainText()
    return text + "\n" if end >= last else text
