"""A quiet table of a few rows: headers aligned as their columns, figures of equal width, no grid."""

from __future__ import annotations

from PySide6.QtCore import QAbstractTableModel, QModelIndex, QPersistentModelIndex, Qt
from PySide6.QtGui import QColor, QFont
from PySide6.QtWidgets import QAbstractItemView, QFrame, QHeaderView, QSizePolicy, QTableView

from app.ui.theme import Theme

Row = tuple[tuple[str, ...], str]  # cells, tone ("" or a colour name of the theme)
_Index = QModelIndex | QPersistentModelIndex
ROW_HEIGHT = 32


class _Rows(QAbstractTableModel):
    def __init__(self, theme: Theme, columns: tuple[tuple[str, bool], ...]) -> None:
        super().__init__()
        self._theme = theme
        self.columns = columns
        self.rows: tuple[Row, ...] = ()

    def rowCount(self, parent: _Index = QModelIndex()) -> int:  # noqa: B008
        return 0 if parent.isValid() else len(self.rows)

    def columnCount(self, parent: _Index = QModelIndex()) -> int:  # noqa: B008
        return 0 if parent.isValid() else len(self.columns)

    def data(self, index: _Index, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        cells, tone = self.rows[index.row()]
        figures = self.columns[index.column()][1]
        match role:
            case Qt.ItemDataRole.DisplayRole | Qt.ItemDataRole.ToolTipRole:
                return cells[index.column()]
            case Qt.ItemDataRole.TextAlignmentRole:
                return _alignment(figures)
            case Qt.ItemDataRole.FontRole:
                return self._theme.font("small_number" if figures else "small")
            case Qt.ItemDataRole.ForegroundRole:
                return self._colour(tone, index.column())
        return None

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        if orientation is not Qt.Orientation.Horizontal:
            return None
        match role:
            case Qt.ItemDataRole.DisplayRole:
                return self.columns[section][0]
            case Qt.ItemDataRole.TextAlignmentRole:
                return _alignment(self.columns[section][1])
            case Qt.ItemDataRole.FontRole:
                return self._theme.font("caption")
        return None

    def show(self, rows: tuple[Row, ...]) -> None:
        if len(rows) != len(self.rows):
            self.beginResetModel()
            self.rows = rows
            self.endResetModel()
        elif rows != self.rows:
            self.rows = rows
            self.dataChanged.emit(self.index(0, 0), self.index(len(rows) - 1, len(self.columns) - 1))

    def _colour(self, tone: str, column: int) -> QColor:
        return self._theme.colour(tone if tone and column == 0 else "text" if column == 0 else "text_muted")


def _alignment(figures: bool) -> Qt.AlignmentFlag:
    side = Qt.AlignmentFlag.AlignRight if figures else Qt.AlignmentFlag.AlignLeft
    return side | Qt.AlignmentFlag.AlignVCenter


class Table(QTableView):
    """As tall as its rows. `columns`: (title, whether it holds figures); the first one takes the room that is left."""

    def __init__(self, theme: Theme, name: str, columns: tuple[tuple[str, bool], ...]) -> None:
        super().__init__()
        self._rows = _Rows(theme, columns)
        self.setModel(self._rows)
        self.setAccessibleName(name)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setShowGrid(False)
        self.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setWordWrap(False)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.verticalHeader().hide()
        self.verticalHeader().setDefaultSectionSize(ROW_HEIGHT)
        self.verticalHeader().setMinimumSectionSize(ROW_HEIGHT)
        header = self.horizontalHeader()
        header.setHighlightSections(False)
        header.setSectionsClickable(False)
        header.setFixedHeight(26)
        for column in range(len(columns)):
            stretch = QHeaderView.ResizeMode.Stretch if column == 0 else QHeaderView.ResizeMode.ResizeToContents
            header.setSectionResizeMode(column, stretch)
        header.setFont(QFont(theme.font("caption")))
        theme.changed.connect(self.viewport().update)
        self.show_rows(())

    def show_rows(self, rows: tuple[Row, ...]) -> None:
        self._rows.show(rows)
        self.setFixedHeight(28 + ROW_HEIGHT * len(rows))
