"""Places things: cards, a grid whose columns follow the width, and the scrolled page column."""

from __future__ import annotations

from PySide6.QtCore import QPoint, QRect, QSize, Qt
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLayout, QLayoutItem, QScrollArea, QSizePolicy, QVBoxLayout, QWidget

from app.ui.theme import Space


class Card(QFrame):
    """A surface with a border and a column of content."""

    def __init__(self, margins: int = Space.large + 4, spacing: int = Space.small) -> None:
        super().__init__()
        self.setProperty("kind", "card")
        self.column = QVBoxLayout(self)
        self.column.setContentsMargins(margins, margins - 2, margins, margins - 2)
        self.column.setSpacing(spacing)


class Line(QFrame):
    """A hairline between two parts."""

    def __init__(self) -> None:
        super().__init__()
        self.setProperty("kind", "line")
        self.setFixedHeight(1)


def row(*items: QWidget | int | None, spacing: int = Space.small) -> QHBoxLayout:
    """A row: widgets in order, None is a stretch, a number is a space."""
    box = QHBoxLayout()
    box.setContentsMargins(0, 0, 0, 0)
    box.setSpacing(spacing)
    for item in items:
        if item is None:
            box.addStretch(1)
        elif isinstance(item, int):
            box.addSpacing(item)
        else:
            box.addWidget(item)
    return box


def clear(layout: QLayout) -> None:
    """Takes everything out: gone from sight at once, deleted when Qt next may."""
    while (item := layout.takeAt(0)) is not None:
        if (old := item.widget()) is not None:
            old.hide()
            old.deleteLater()


class Grid(QLayout):
    """Cells of equal width, as many beside each other as `minimum` allows; a row is as tall as its tallest cell."""

    def __init__(self, parent: QWidget, minimum: int, spacing: int = Space.large, most: int = 99) -> None:
        super().__init__(parent)
        self._items: list[QLayoutItem] = []
        self._minimum = minimum
        self._most = most
        self.setSpacing(spacing)
        self.setContentsMargins(0, 0, 0, 0)

    def addItem(self, item: QLayoutItem) -> None:
        self._items.append(item)

    def count(self) -> int:
        return len(self._items)

    def itemAt(self, index: int) -> QLayoutItem | None:
        return self._items[index] if 0 <= index < len(self._items) else None

    def takeAt(self, index: int) -> QLayoutItem | None:
        return self._items.pop(index) if 0 <= index < len(self._items) else None

    def expandingDirections(self) -> Qt.Orientation:
        return Qt.Orientation.Horizontal

    def hasHeightForWidth(self) -> bool:
        return True

    def heightForWidth(self, width: int) -> int:
        return self._place(QRect(0, 0, width, 0), move=False)

    def setGeometry(self, rect: QRect) -> None:
        super().setGeometry(rect)
        self._place(rect, move=True)

    def minimumSize(self) -> QSize:
        return QSize(
            min(self._minimum, 200), self._place(QRect(0, 0, max(self.geometry().width(), self._minimum), 0), False)
        )

    def sizeHint(self) -> QSize:
        return QSize(self._minimum * 2, self.minimumSize().height())

    def _place(self, rect: QRect, move: bool) -> int:
        shown = [item for item in self._items if not item.isEmpty()]
        if not shown:
            return 0
        gap = self.spacing()
        columns = max(1, min((rect.width() + gap) // (self._minimum + gap), self._most))
        pitch = (rect.width() + gap) / columns  # in fractions, so that the last cell ends at the edge
        width = int(pitch) - gap
        y = rect.y()
        for start in range(0, len(shown), columns):
            cells = shown[start : start + columns]
            height = max(
                item.heightForWidth(width) if item.hasHeightForWidth() else item.sizeHint().height() for item in cells
            )
            if move:
                for column, item in enumerate(cells):
                    left, end = round(column * pitch), round((column + 1) * pitch) - gap
                    item.setGeometry(QRect(QPoint(rect.x() + left, y), QSize(end - left, height)))
            y += height + gap
        return y - gap - rect.y()


class PageColumn(QScrollArea):
    """A page's scrolled column: margins all around, never wider than it is pleasant to read, never scrolled sideways."""

    def __init__(self, widest: int = 1760, spacing: int = Space.large) -> None:
        super().__init__()
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        outer = QWidget()
        outer.setProperty("kind", "page")
        sides = QHBoxLayout(outer)
        sides.setContentsMargins(Space.huge, Space.large + 4, Space.huge, Space.huge)
        inner = QWidget()
        inner.setMaximumWidth(widest)
        inner.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        sides.addWidget(inner, 1000)
        sides.addStretch(1)
        self._sides = sides
        self.verticalScrollBar().rangeChanged.connect(self._align)
        self.column = QVBoxLayout(inner)
        self.column.setContentsMargins(0, 0, 0, 0)
        self.column.setSpacing(spacing)
        self.setWidget(outer)

    def _align(self, lowest: int, highest: int) -> None:
        """The column's right edge stays in line with the header's, whether there is a scroll bar or not."""
        bar = self.verticalScrollBar().sizeHint().width() if highest > lowest else 0
        self._sides.setContentsMargins(Space.huge, Space.large + 4, Space.huge - bar, Space.huge)
