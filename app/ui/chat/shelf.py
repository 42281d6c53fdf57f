"""Keeps the documents of the items that were painted last, and brings the one of a growing item up to date cheaply."""

from __future__ import annotations

from collections import OrderedDict

from PySide6.QtGui import QTextDocument

from app.ui.chat import documents
from app.ui.chat.items import Item, Kind
from app.ui.theme import Theme

KEPT = 80
SPANNING = ('"""', "'''", "/*", "<!--", "`")  # tokens over several lines: seen whole only when the code is
ROLES = {Kind.FIGURES: "small_number", Kind.NOTICE: "small"}


class _Kept:
    __slots__ = ("coloured", "document", "end", "revision")

    def __init__(self, document: QTextDocument, revision: int, coloured: str = "") -> None:
        self.document = document
        self.revision = revision
        self.coloured = coloured  # the whole lines of open code, which have their colours already
        self.end = 0  # where they end in the document, in its own units


class Shelf:
    def __init__(self, theme: Theme) -> None:
        self._theme = theme
        self._kept: OrderedDict[Item, _Kept] = OrderedDict()
        self.made = 0  # documents made so far

    def __len__(self) -> int:
        return len(self._kept)

    def clear(self) -> None:
        self._kept.clear()

    def document(self, item: Item) -> QTextDocument:
        kept = self._kept.get(item)
        if kept is None:
            kept = self._kept[item] = self._make(item)
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        elif kept.revision != item.revision:
            if item.kind is Kind.CODE and kept.coloured and item.text.startswith(kept.coloured):
                self._grow(kept, item)
            else:
                kept = self._kept[item] = self._make(item)
        self._kept.move_to_end(item)
        return kept.document

    def _make(self, item: Item) -> _Kept:
        self.made += 1
        theme = self._theme
        if item.kind is Kind.CODE:
            kept = _Kept(documents.code(theme, "", ""), item.revision)
            if item.open:
                self._grow(kept, item)
            else:
                documents.append_code(kept.document, theme, item.language, item.text)
            return kept
        if item.kind in (Kind.TEXT, Kind.THOUGHT):
            return _Kept(documents.markdown(theme, item.text), item.revision)
        return _Kept(documents.plain(theme, item.text, ROLES.get(item.kind, "body")), item.revision)

    def _grow(self, kept: _Kept, item: Item) -> None:
        """Lines that are whole get their colours, once; the one that is being written is plain until it ends."""
        kept.revision = item.revision
        text, document = item.text, kept.document
        if not item.open and any(mark in text for mark in SPANNING):
            kept.document, kept.coloured = documents.code(self._theme, item.language, text), ""
            return
        end = text.rfind("\n") + 1 if item.open else len(text)
        kept.end = documents.grow_code(
            document, self._theme, item.language, kept.end, text[len(kept.coloured) : end], text[end:]
        )
        kept.coloured = text[:end]
