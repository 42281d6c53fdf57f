"""Lays cards of one height out in columns and builds only those in view, so that thousands of models cost what a page costs."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import QEvent, QObject, QPoint
from PySide6.QtGui import QMoveEvent, QResizeEvent, QShowEvent
from PySide6.QtWidgets import QApplication, QScrollArea, QSizePolicy, QWidget

from app.ui.library.entries import Entry
from app.ui.library.tile import TILE_HEIGHT, ModelTile
from app.ui.theme import Space

NARROWEST = 284
AROUND = 1  # rows above and below the view that are there already: Tab and the wheel find them filled
PITCH = TILE_HEIGHT + Space.large


class TileField(QWidget):
    """`fill(tile, entry)` shows an entry on a tile; a tile is given another entry when its own has left the view."""

    def __init__(
        self, area: QScrollArea, make: Callable[[], ModelTile], fill: Callable[[ModelTile, Entry], None], after: QWidget
    ) -> None:
        """`after` is where Tab comes from."""
        super().__init__()
        self._area, self._make, self._fill, self._after = area, make, fill, after
        self._entries: tuple[Entry, ...] = ()
        self._tiles: dict[str, ModelTile] = {}
        self._spare: list[ModelTile] = []
        self._chain: list[str] = []
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.setFixedHeight(0)
        area.verticalScrollBar().valueChanged.connect(lambda _: self._lay_out())
        area.viewport().installEventFilter(self)

    def show_entries(self, entries: tuple[Entry, ...]) -> None:
        """Takes the whole list; what is in view is filled anew."""
        self._entries = entries
        self._lay_out(refill=True)

    def tile_of(self, profile_id: str) -> ModelTile | None:
        """The tile in view that holds this profile."""
        return next(
            (t for t in self._tiles.values() if t.entry and any(c.profile.id == profile_id for c in t.entry.cards)),
            None,
        )

    @property
    def built(self) -> int:
        """How many tiles there are, used or spare."""
        return len(self._tiles) + len(self._spare)

    # --- layout ------------------------------------------------------------------------------------------------------

    def _columns(self) -> int:
        gap = Space.large
        return max(1, (self.width() + gap) // (NARROWEST + gap))

    def _lay_out(self, refill: bool = False) -> None:
        columns, count = self._columns(), len(self._entries)
        rows = -(-count // columns)
        height = max(0, rows * PITCH - Space.large)
        if height != self.height():
            self.setFixedHeight(height)
        if not self.isVisible():
            return
        places = self._in_view(columns, count)
        wanted = {self._entries[place].key: place for place in places}
        focused = self._focused()
        if focused is not None and focused not in wanted:  # it keeps the keyboard until that goes on
            found = next((place for place, entry in enumerate(self._entries) if entry.key == focused), None)
            if found is not None:
                wanted[focused] = found
        for key in [key for key in self._tiles if key not in wanted]:
            tile = self._tiles.pop(key)
            tile.hide()
            self._spare.append(tile)
        for key, place in wanted.items():
            tile, fresh = self._tile(key)
            if fresh or refill:
                self._fill(tile, self._entries[place])
            self._place(tile, place, columns)
            tile.show()
        order = sorted(wanted, key=wanted.__getitem__)
        if order != self._chain or refill:
            self._chain = order
            self._order_tabs()

    def _in_view(self, columns: int, count: int) -> range:
        top = self.mapFrom(self._area.viewport(), QPoint(0, 0)).y()
        first = max(0, top // PITCH - AROUND)
        last = max(0, (top + self._area.viewport().height()) // PITCH + AROUND + 1)
        return range(min(first * columns, count), min(last * columns, count))

    def _tile(self, key: str) -> tuple[ModelTile, bool]:
        if key in self._tiles:
            return self._tiles[key], False
        if self._spare:
            tile = self._spare.pop()
        else:
            tile = self._make()
            tile.setParent(self)
        self._tiles[key] = tile
        return tile, True

    def _place(self, tile: ModelTile, place: int, columns: int) -> None:
        line, column = divmod(place, columns)
        pitch = (self.width() + Space.large) / columns
        left, end = round(column * pitch), round((column + 1) * pitch) - Space.large
        tile.setGeometry(left, line * PITCH, end - left, TILE_HEIGHT)

    def _focused(self) -> str | None:
        widget = QApplication.focusWidget()
        while widget is not None and widget is not self:
            if isinstance(widget, ModelTile) and widget.parent() is self and widget.entry is not None:
                return widget.entry.key
            widget = widget.parentWidget()
        return None

    def _order_tabs(self) -> None:
        before = self._after
        for key in self._chain:
            for stop in self._tiles[key].stops():
                QWidget.setTabOrder(before, stop)
                before = stop

    # --- events ------------------------------------------------------------------------------------------------------

    def resizeEvent(self, event: QResizeEvent) -> None:
        self._lay_out()

    def moveEvent(self, event: QMoveEvent) -> None:
        self._lay_out()

    def showEvent(self, event: QShowEvent) -> None:
        self._lay_out(refill=True)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.Resize:
            self._lay_out()
        return False
