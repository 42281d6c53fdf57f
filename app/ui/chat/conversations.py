"""The panel of conversations: new, search, open, rename, and delete into a trash that gives back."""

from __future__ import annotations

import time

from PySide6.QtCore import QModelIndex, QPersistentModelIndex, QPoint, QRect, QSize, Qt, QTimer, Signal
from PySide6.QtGui import QFontMetrics, QPainter
from PySide6.QtWidgets import (
    QAbstractItemView,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QMenu,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QVBoxLayout,
    QWidget,
)

from app.core.conversation import Conversation
from app.ui.theme import Space, Theme
from app.ui.widgets.controls import Button, SearchField
from app.ui.widgets.text import Label

WIDTH = 232
ID, WHEN = Qt.ItemDataRole.UserRole, Qt.ItemDataRole.UserRole + 1
TYPING_MS = 200
UNTITLED = "New chat"
Index = QModelIndex | QPersistentModelIndex


def when(unix: float, now: float) -> str:
    """As in "14:02", "Yesterday", "3 Nov": short, and exact enough to find a conversation again."""
    then, today = time.localtime(unix), time.localtime(now)
    if then[:3] == today[:3]:
        return time.strftime("%H:%M", then)
    if then[:3] == time.localtime(now - 86_400)[:3]:
        return "Yesterday"
    words = f"{then.tm_mday} {time.strftime('%b', then)}"
    return words if then.tm_year == today.tm_year else f"{words} {then.tm_year}"


class _Row(QStyledItemDelegate):
    def __init__(self, theme: Theme, parent: QWidget) -> None:
        super().__init__(parent)
        self._theme = theme

    def sizeHint(self, option: QStyleOptionViewItem, index: Index) -> QSize:
        return QSize(100, 50)

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: Index) -> None:
        theme = self._theme
        rect: QRect = option.rect.adjusted(0, 1, 0, -1)  # type: ignore[attr-defined]
        state = option.state  # type: ignore[attr-defined]
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        selected = bool(state & QStyle.StateFlag.State_Selected)
        if selected or state & QStyle.StateFlag.State_MouseOver:
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(theme.colour("accent_soft" if selected else "hover"))
            painter.drawRoundedRect(rect, Space.control_radius, Space.control_radius)
        if state & QStyle.StateFlag.State_HasFocus and state & QStyle.StateFlag.State_KeyboardFocusChange:
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.setPen(theme.colour("accent"))
            painter.drawRoundedRect(rect.adjusted(0, 0, -1, -1), Space.control_radius, Space.control_radius)
        inner = rect.adjusted(10, 6, -10, -6)
        font = theme.font("label" if selected else "body")
        painter.setFont(font)
        painter.setPen(theme.colour("text"))
        title = QFontMetrics(font).elidedText(
            index.data(Qt.ItemDataRole.DisplayRole), Qt.TextElideMode.ElideRight, inner.width()
        )
        painter.drawText(inner, Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignLeft, title)
        painter.setFont(theme.font("caption"))
        painter.setPen(theme.colour("text_muted"))
        painter.drawText(inner, Qt.AlignmentFlag.AlignBottom | Qt.AlignmentFlag.AlignLeft, index.data(WHEN))
        painter.restore()

    def createEditor(self, parent: QWidget, option: QStyleOptionViewItem, index: Index) -> QWidget:
        editor = QLineEdit(parent)
        editor.setAccessibleName("Conversation title")
        editor.setFont(self._theme.font("body"))
        return editor

    def updateEditorGeometry(self, editor: QWidget, option: QStyleOptionViewItem, index: Index) -> None:
        rect: QRect = option.rect  # type: ignore[attr-defined]
        editor.setGeometry(rect.adjusted(0, 7, 0, -7))


class Conversations(QWidget):
    new_wanted = Signal()
    open_wanted = Signal(str)
    rename_wanted = Signal(str, str)
    delete_wanted = Signal(str)
    search_wanted = Signal(str)

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._filling = False
        self._current = ""
        self._found: frozenset[str] | None = None
        self._conversations: list[Conversation] = []
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.setProperty("kind", "sidebar")
        self.setFixedWidth(WIDTH)
        column = QVBoxLayout(self)
        column.setContentsMargins(Space.medium, Space.large, Space.medium, Space.medium)
        column.setSpacing(Space.small)
        new = Button(theme, "New chat", "", "plus")
        new.setToolTip("Ctrl+N")
        new.clicked.connect(self.new_wanted)
        column.addWidget(new)
        self.search = SearchField(theme, "Search", "Search conversations")
        self._typing = QTimer(self, singleShot=True, interval=TYPING_MS)
        self._typing.timeout.connect(self._search)
        self.search.textChanged.connect(lambda: self._typing.start())
        column.addWidget(self.search)
        self.list = QListWidget()
        self.list.setAccessibleName("Conversations")
        self.list.setItemDelegate(_Row(theme, self.list))
        self.list.setMouseTracking(True)
        self.list.setEditTriggers(QAbstractItemView.EditTrigger.EditKeyPressed)
        self.list.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.list.customContextMenuRequested.connect(self._menu_at)
        self.list.itemClicked.connect(self._opened)
        self.list.itemActivated.connect(self._opened)
        self.list.itemChanged.connect(self._renamed)
        column.addWidget(self.list, 1)
        self._empty = Label(theme, "", "small", "muted", wrap=True)
        self._empty.setAlignment(Qt.AlignmentFlag.AlignHCenter)
        column.addWidget(self._empty)
        theme.changed.connect(self.list.viewport().update)

    def show_conversations(self, conversations: list[Conversation], current: str) -> None:
        self._conversations, self._current = conversations, current
        self._fill()

    def show_found(self, ids: list[str]) -> None:
        """Only these, while something is searched for."""
        if self.search.text().strip():
            self._found = frozenset(ids)
            self._fill()

    def chosen(self) -> str:
        """The id of the row that is current; "" without one."""
        item = self.list.currentItem()
        return str(item.data(ID)) if item is not None else ""

    def rename(self, conversation_id: str) -> None:
        for number in range(self.list.count()):
            if self.list.item(number).data(ID) == conversation_id:
                self.list.setCurrentRow(number)
                self.list.editItem(self.list.item(number))

    def menu(self, conversation_id: str) -> QMenu:
        menu = QMenu(self)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        menu.addAction("Rename\tF2").triggered.connect(lambda: self.rename(conversation_id))
        menu.addAction("Delete").triggered.connect(lambda: self.delete_wanted.emit(conversation_id))
        return menu

    def _fill(self) -> None:
        shown = [c for c in self._conversations if self._found is None or c.id in self._found]
        now = time.time()
        wanted = [(c.id, c.title or UNTITLED, when(c.changed_at_unix, now)) for c in shown]
        rows = [self.list.item(n) for n in range(self.list.count())]
        if wanted != [(row.data(ID), row.text(), row.data(WHEN)) for row in rows]:
            self._filling = True
            at = self.list.verticalScrollBar().value()
            self.list.clear()
            for conversation_id, title, moment in wanted:
                item = QListWidgetItem(title)
                item.setData(ID, conversation_id)
                item.setData(WHEN, moment)
                item.setFlags(item.flags() | Qt.ItemFlag.ItemIsEditable)
                self.list.addItem(item)
            self.list.verticalScrollBar().setValue(at)
            self._filling = False
        current = next((n for n, (conversation_id, _, _) in enumerate(wanted) if conversation_id == self._current), -1)
        self.list.setCurrentRow(current)
        self.list.setVisible(bool(wanted))
        self._empty.setVisible(not wanted)
        self._empty.say("Nothing found" if self._found is not None else "Your conversations will be here")
        if not wanted:
            self.layout().setAlignment(self._empty, Qt.AlignmentFlag.AlignTop)  # type: ignore[union-attr]

    def _opened(self, item: QListWidgetItem) -> None:
        self.open_wanted.emit(str(item.data(ID)))

    def _renamed(self, item: QListWidgetItem) -> None:
        if not self._filling:
            self.rename_wanted.emit(str(item.data(ID)), item.text())

    def _search(self) -> None:
        words = self.search.text().strip()
        if words:
            self.search_wanted.emit(words)
        else:
            self._found = None
            self._fill()

    def _menu_at(self, point: QPoint) -> None:
        item = self.list.itemAt(point)
        if item is not None:
            self.menu(str(item.data(ID))).popup(self.list.viewport().mapToGlobal(point))
