"""A question over the window: a card on a scrim that keeps the focus until it is answered; never a nested event loop."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import QEvent, QObject, Qt, Signal
from PySide6.QtGui import QKeyEvent, QPainter, QPaintEvent
from PySide6.QtWidgets import QApplication, QCheckBox, QFrame, QVBoxLayout, QWidget
from shiboken6 import isValid

from app.ui.theme import Space, Theme
from app.ui.widgets.controls import Button
from app.ui.widgets.layout import row
from app.ui.widgets.text import Label


class Sheet(QWidget):
    """`answered` tells the key of the button and whether the box was ticked; Escape answers ""."""

    answered = Signal(str, bool)

    def __init__(
        self,
        theme: Theme,
        parent: QWidget,
        title: str,
        text: str,
        buttons: tuple[tuple[str, str, str], ...],
        remember: str = "",
    ) -> None:
        """`buttons`: (key, text, kind), the last one is where the focus goes."""
        super().__init__(parent)
        self._theme = theme
        self._before = QApplication.focusWidget()
        self.setAccessibleName(title)
        card = QFrame()
        card.setProperty("kind", "sheet")
        card.setFixedWidth(min(480, parent.width() - 2 * Space.huge))
        column = QVBoxLayout(card)
        column.setContentsMargins(Space.huge, Space.huge, Space.huge, Space.huge)
        column.setSpacing(Space.medium)
        column.addWidget(Label(theme, title, "title", wrap=True))
        column.addWidget(Label(theme, text, "body", "muted", wrap=True))
        self.remember = QCheckBox(remember)
        self.remember.setAccessibleName(remember)
        self.remember.setVisible(bool(remember))
        self.remember.setFont(theme.font("body"))
        if remember:
            column.addWidget(self.remember)
        column.addSpacing(Space.small)
        made = [Button(theme, words, kind) for _, words, kind in buttons]
        for button, (key, _, _) in zip(made, buttons, strict=True):
            button.clicked.connect(self._answering(key))
        column.addLayout(row(None, *made))
        outer = QVBoxLayout(self)
        outer.addWidget(card, 0, Qt.AlignmentFlag.AlignCenter)
        self._stops: list[QWidget] = [*([self.remember] if remember else []), *made]
        parent.installEventFilter(self)
        self.setGeometry(parent.rect())
        self.show()
        self.raise_()
        made[-1].setFocus(Qt.FocusReason.OtherFocusReason)

    def _answering(self, key: str) -> Callable[[], None]:
        return lambda: self._answer(key)

    def _answer(self, key: str) -> None:
        ticked = self.remember.isChecked()
        self.hide()
        if self._before is not None and isValid(self._before):  # a list may have been made anew meanwhile
            self._before.setFocus(Qt.FocusReason.OtherFocusReason)
        self.answered.emit(key, ticked)
        self.deleteLater()

    def focusNextPrevChild(self, forward: bool) -> bool:
        """Tab goes round inside the sheet."""
        focused = QApplication.focusWidget()
        at = self._stops.index(focused) if focused in self._stops else -1
        self._stops[(at + (1 if forward else -1)) % len(self._stops)].setFocus(Qt.FocusReason.TabFocusReason)
        return True

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_Escape:
            self._answer("")
        elif event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            focused = QApplication.focusWidget()
            if isinstance(focused, Button):
                focused.click()
        event.accept()  # nothing reaches the window below

    def mousePressEvent(self, event: QEvent) -> None:
        event.accept()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.Resize and isinstance(watched, QWidget):
            self.setGeometry(watched.rect())
        return False

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.fillRect(self.rect(), self._theme.colour("scrim"))


def confirm(
    theme: Theme, asking: QWidget, title: str, text: str, button: str, then: Callable[[], None], kind: str = "primary"
) -> Sheet:
    """Asks over the window of `asking`; `then` is called unless the answer is Cancel."""
    sheet = Sheet(theme, asking.window(), title, text, (("yes", button, kind), ("", "Cancel", "")))
    sheet.answered.connect(lambda key, _: then() if key else None)
    return sheet
