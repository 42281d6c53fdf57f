"""Knows where everything of a transcript is: turns, their items and heights, of which only those in view are ever laid out."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate

import msgspec
from PySide6.QtCore import QRectF

from app.ui.chat.items import Item, Kind, Turn
from app.ui.chat.shelf import Shelf

TOP = 24.0
TURN_GAP = 14.0
BUBBLE_SHARE = 0.8
BUBBLE_X, BUBBLE_Y = 16.0, 9.0
CODE_X, CODE_HEAD, CODE_FOOT = 14.0, 38.0, 14.0
BLOCK_GAP = 12.0
NOTICE_X, NOTICE_Y = 12.0, 8.0
RISE = 3.0  # a tall line has its air below the letters: moved down by half of it they stand in the middle of a frame


class Place(msgspec.Struct, frozen=True, order=True):
    """A place in the transcript's text: which turn, which item of it, which position in the item's document."""

    turn: int
    item: int
    offset: int


class Seen(msgspec.Struct, frozen=True):
    """An item that is in view, with its top in the whole column."""

    turn: int
    number: int
    item: Item
    top: float


class Column:
    """`width` is that of the text. Heights are exact for what `exact` was called for, guesses elsewhere."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self.turns: list[Turn] = []
        self.width = 760.0
        self._heights: list[float] = []
        self._tops: list[float] = [TOP]
        self.laid_out = 0  # items measured so far

    def show(self, turns: list[Turn]) -> None:
        self.turns = turns
        self._place_all()

    def set_width(self, width: float) -> None:
        if width != self.width:
            self.width = width
            self._place_all()

    def _place_all(self) -> None:
        self._heights = [turn.lay_out(self.width) + TURN_GAP for turn in self.turns]
        self._tops = list(accumulate(self._heights, initial=TOP))

    def place(self, turn: int) -> None:
        """A turn has changed: what follows it moves."""
        self._heights[turn] = self.turns[turn].lay_out(self.width) + TURN_GAP
        self._tops[turn:] = accumulate(self._heights[turn:], initial=self._tops[turn])

    @property
    def height(self) -> float:
        return self._tops[len(self.turns)]

    def top(self, turn: int, number: int = 0) -> float:
        owner = self.turns[turn]
        return self._tops[turn] + (owner.tops[number] if owner.is_cut and number < len(owner.tops) else 0.0)

    def at(self, y: float) -> tuple[int, int] | None:
        """The turn and item at a height; the nearest one outside; None in an empty column."""
        if not self.turns:
            return None
        turn = min(max(0, bisect_right(self._tops, y) - 1), len(self.turns) - 1)
        owner = self.turns[turn]
        items = owner.items
        if len(owner.tops) != len(items) + 1:
            self.place(turn)
        return turn, min(max(0, bisect_right(owner.tops, y - self._tops[turn]) - 1), max(0, len(items) - 1))

    def exact(self, top: float, bottom: float) -> bool:
        """Lays out what is between; whether heights changed, so that something else may be there now."""
        for turn in self._turns_between(top, bottom):
            owner = self.turns[turn]
            was_cut = owner.is_cut
            items = owner.items
            if not was_cut or len(owner.tops) != len(items) + 1:
                self.place(turn)
                return True
            first = max(0, bisect_right(owner.tops, top - self._tops[turn]) - 1)
            for number in range(first, len(items)):
                if self._tops[turn] + owner.tops[number] > bottom:
                    break
                item = items[number]
                if item.width == self.width:
                    continue
                before = item.height
                item.height = self.measure(item)
                item.width = self.width
                self.laid_out += 1
                if item.height != before:
                    self.place(turn)
                    return True
        return False

    def seen(self, top: float, bottom: float) -> Iterator[Seen]:
        for turn in self._turns_between(top, bottom):
            owner = self.turns[turn]
            items = owner.items
            first = max(0, bisect_right(owner.tops, top - self._tops[turn]) - 1)
            for number in range(first, len(items)):
                at = self._tops[turn] + owner.tops[number]
                if at > bottom:
                    break
                yield Seen(turn, number, items[number], at)

    def _turns_between(self, top: float, bottom: float) -> range:
        first = max(0, bisect_right(self._tops, top) - 1)
        last = min(len(self.turns), bisect_right(self._tops, bottom))
        return range(min(first, last), last)

    # --- one item ---

    def text_width(self, item: Item) -> float:
        match item.kind:
            case Kind.USER:
                return self.width * BUBBLE_SHARE - 2 * BUBBLE_X
            case Kind.CODE:
                return self.width - 2 * CODE_X
            case Kind.NOTICE:
                return self.width - 2 * NOTICE_X - 26
            case Kind.THOUGHT:
                return self.width - 18
        return self.width

    def measure(self, item: Item) -> float:
        """The item's height with the air around it."""
        if item.kind is Kind.REASONING:
            return 36.0
        if not item.text.strip() and item.kind in (Kind.TEXT, Kind.THOUGHT):
            return 0.0
        document = self._shelf.document(item)
        width = self.text_width(item)
        if document.textWidth() != width:
            document.setTextWidth(width)
        height = document.size().height()
        match item.kind:
            case Kind.USER:
                return height + (BUBBLE_Y if item.first else 0) + (BUBBLE_Y + 2 if item.last else 0)
            case Kind.CODE:
                inner = height if item.text or item.first else 0.0
                return inner + (CODE_HEAD if item.first else 0) + (CODE_FOOT + BLOCK_GAP if item.last else 0)
            case Kind.NOTICE:
                return height + 2 * NOTICE_Y + BLOCK_GAP if item.tone else height + BLOCK_GAP
            case Kind.FIGURES:
                return height + 6
        return height + BLOCK_GAP

    def text_rect(self, item: Item, left: float, top: float) -> QRectF:
        """Where the item's text is, when the column begins at `left` and the item at `top`."""
        document = self._shelf.document(item)
        width = self.text_width(item)
        if document.textWidth() != width:
            document.setTextWidth(width)
        size = document.size()
        match item.kind:
            case Kind.USER:
                share = self.width * BUBBLE_SHARE
                wide = share if not (item.first and item.last) else min(share, document.idealWidth() + 2 * BUBBLE_X + 1)
                x = left + self.width - wide + BUBBLE_X
                return QRectF(x, top + (BUBBLE_Y + RISE if item.first else 0), wide - 2 * BUBBLE_X, size.height())
            case Kind.CODE:
                return QRectF(left + CODE_X, top + (CODE_HEAD if item.first else 0), width, size.height())
            case Kind.NOTICE:
                if item.tone:
                    return QRectF(left + NOTICE_X + 26, top + NOTICE_Y + RISE, width, size.height())
                return QRectF(left, top, width, size.height())
            case Kind.THOUGHT:
                return QRectF(left + 18, top, width, size.height())
        return QRectF(left, top, width, size.height())
