"""What an empty conversation shows: a quiet greeting and four things to ask."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QGridLayout, QVBoxLayout, QWidget

from app.ui.theme import Space, Theme
from app.ui.widgets.controls import Button
from app.ui.widgets.text import Label

SUGGESTIONS = (
    "What is Engine Room?",
    "What takes VRAM when a model runs?",
    "What is the KV cache?",
    "Show me code that calls the endpoint",
)


class Greeting(QWidget):
    asked = Signal(str)

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        column = QVBoxLayout(self)
        column.setContentsMargins(Space.huge, 0, Space.huge, 0)
        column.addStretch(3)
        title = Label(theme, "What shall we find out?", "heading")
        title.setAlignment(Qt.AlignmentFlag.AlignHCenter)
        self._words = Label(theme, "", "body", "muted")
        self._words.setAlignment(Qt.AlignmentFlag.AlignHCenter)
        column.addWidget(title)
        column.addWidget(self._words)
        column.addSpacing(Space.huge)
        inner = QWidget()
        inner.setMaximumWidth(680)
        grid = QGridLayout(inner)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setSpacing(Space.small)
        for column_number in (0, 1):
            grid.setColumnMinimumWidth(column_number, 240)
        self._buttons = []
        for number, text in enumerate(SUGGESTIONS):
            button = Button(theme, text, "", "")
            button.setFont(theme.font("body"))
            button.setMinimumHeight(44)
            button.clicked.connect(self._asking(text))
            grid.addWidget(button, number // 2, number % 2)
            self._buttons.append(button)
        line = QVBoxLayout()
        line.addWidget(inner)
        line.setAlignment(inner, Qt.AlignmentFlag.AlignHCenter)
        column.addLayout(line)
        column.addStretch(4)

    def show_state(self, words: str) -> None:
        self._words.say(words)

    def _asking(self, text: str) -> Callable[[], None]:
        return lambda: self.asked.emit(text)
