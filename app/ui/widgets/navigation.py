"""The left rail: the product's mark, one row per page, and what is done with the window itself at the bottom."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QButtonGroup, QHBoxLayout, QVBoxLayout, QWidget

from app.ui.theme import Space, Theme
from app.ui.widgets.controls import Button
from app.ui.widgets.notice import IconLabel
from app.ui.widgets.text import Label

PAGES = (
    ("models", "Models"),
    ("download", "Download"),
    ("chat", "Chat"),
    ("logs", "Logs"),
    ("monitor", "Monitor"),
    ("engines", "Engines"),
    ("settings", "Settings"),
)


class Navigation(QWidget):
    chosen = Signal(str)

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self.setProperty("kind", "sidebar")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.setFixedWidth(Space.navigation_width)
        self._group = QButtonGroup(self)
        self._buttons: dict[str, Button] = {}
        column = QVBoxLayout(self)
        column.setContentsMargins(Space.medium, 0, Space.medium + 1, Space.medium)
        column.setSpacing(2)
        mark = QHBoxLayout()
        mark.setContentsMargins(Space.small, 0, 0, 0)
        mark.setSpacing(10)
        mark.addWidget(IconLabel(theme, "engine-room", "accent", 26))
        mark.addWidget(Label(theme, "Engine Room", "title"))
        mark.addStretch(1)
        head = QWidget()
        head.setFixedHeight(Space.header_height)
        head.setLayout(mark)
        column.addWidget(head)
        for number, (key, title) in enumerate(PAGES, 1):
            if key == "settings":
                column.addStretch(1)
            button = Button(theme, title, "navigation", key, f"Navigation: {title}")
            button.setCheckable(True)
            button.setToolTip(f"{title} (Ctrl+{number})")
            button.clicked.connect(self._choosing(key))
            self._group.addButton(button)
            self._buttons[key] = button
            column.addWidget(button)

    def mark(self, key: str) -> None:
        self._buttons[key].setChecked(True)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        steps = {Qt.Key.Key_Down: 1, Qt.Key.Key_Up: -1}
        if event.key() not in steps:
            super().keyPressEvent(event)
            return
        keys = list(self._buttons)
        focused = next((key for key in keys if self._buttons[key].hasFocus()), None)
        if focused is not None:
            at = (keys.index(focused) + steps[event.key()]) % len(keys)  # type: ignore[index]
            self._buttons[keys[at]].setFocus(Qt.FocusReason.TabFocusReason)

    def _choosing(self, key: str) -> Callable[[], None]:
        return lambda: self.chosen.emit(key)
