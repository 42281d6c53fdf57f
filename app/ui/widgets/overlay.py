"""A large card over the window for reading or choosing something: closed by Escape, keeps the focus while it is there."""

from __future__ import annotations

from PySide6.QtCore import QEvent, QObject, Qt, Signal
from PySide6.QtGui import QKeyEvent, QPainter, QPaintEvent
from PySide6.QtWidgets import QApplication, QFrame, QVBoxLayout, QWidget
from shiboken6 import isValid

from app.ui.theme import Space, Theme
from app.ui.widgets.controls import Button
from app.ui.widgets.layout import row
from app.ui.widgets.text import ElidedLabel


class Overlay(QWidget):
    """`content` is what it shows; `extra` are buttons beside the close button; `fits`: no taller than that. No nested loop."""

    closed = Signal()

    def __init__(
        self,
        theme: Theme,
        asking: QWidget,
        title: str,
        content: QWidget,
        extra: tuple[Button, ...] = (),
        widest: int = 920,
        fits: bool = False,
    ) -> None:
        window = asking.window()
        super().__init__(window)
        self._theme = theme
        self._widest, self._fits = widest, fits
        self._before = QApplication.focusWidget()
        self.setAccessibleName(title)
        self.content = content
        self._card = QFrame(self)
        self._card.setProperty("kind", "sheet")
        column = QVBoxLayout(self._card)
        column.setContentsMargins(Space.huge, Space.large, Space.huge, Space.huge)
        column.setSpacing(Space.medium)
        heading = ElidedLabel(theme, title, "title")
        head = row(spacing=Space.small)
        head.addWidget(heading, 1)
        for button in extra:
            head.addWidget(button)
        close = Button(theme, "", "icon", "close", "Close")
        close.clicked.connect(self.dismiss)
        head.addWidget(close)
        column.addLayout(head)
        column.addWidget(content, 1)
        window.installEventFilter(self)
        self._place()
        self.show()
        self.raise_()
        content.setFocus(Qt.FocusReason.OtherFocusReason)

    def dismiss(self) -> None:
        self.hide()
        if self._before is not None and isValid(self._before):  # a list may have been made anew meanwhile
            self._before.setFocus(Qt.FocusReason.OtherFocusReason)
        self.closed.emit()
        self.deleteLater()

    def focusNextPrevChild(self, forward: bool) -> bool:
        """Tab goes round inside."""
        stops = [
            widget
            for widget in self._card.findChildren(QWidget)
            if widget.isVisibleTo(self) and widget.isEnabled() and widget.focusPolicy() & Qt.FocusPolicy.TabFocus
        ]
        if not stops:
            return True
        focused = QApplication.focusWidget()
        at = stops.index(focused) if focused in stops else -1
        stops[(at + (1 if forward else -1)) % len(stops)].setFocus(Qt.FocusReason.TabFocusReason)
        return True

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_Escape:
            self.dismiss()
        event.accept()  # nothing reaches the window below

    def mousePressEvent(self, event: QEvent) -> None:
        event.accept()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.Resize and isinstance(watched, QWidget):
            self._place()
        return False

    def fit(self) -> None:
        """What it shows has another size now."""
        self._place()

    def _place(self) -> None:
        parent = self.parentWidget()
        if parent is None:
            return
        self.setGeometry(parent.rect())
        width = min(self._widest, parent.width() - 2 * Space.huge)
        height = min(720, parent.height() - 2 * Space.huge)
        layout = self._card.layout()
        if self._fits and layout is not None:
            layout.activate()
            height = min(height, layout.totalHeightForWidth(width))
        self._card.setGeometry((parent.width() - width) // 2, (parent.height() - height) // 2, width, height)

    def paintEvent(self, event: QPaintEvent) -> None:
        QPainter(self).fillRect(self.rect(), self._theme.colour("scrim"))
