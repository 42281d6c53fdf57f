"""Has a running Ollama fetch a model by the name that its own library gives it; shown only where one runs."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QLineEdit, QVBoxLayout

from app.core.snapshot import Engines
from app.ui.theme import Space, Theme
from app.ui.widgets.controls import Button
from app.ui.widgets.layout import Card, row
from app.ui.widgets.text import ElidedLabel, Label

LONGEST_NAME = 300


class OllamaCard(Card):
    pull_wanted = Signal(str)  # a model, as Ollama names it

    def __init__(self, theme: Theme) -> None:
        super().__init__(spacing=Space.small)
        self._connected = False
        self._where = ElidedLabel(theme, "", "small", "muted")
        self.field = QLineEdit()
        self.field.setPlaceholderText("llama3.2:3b, or any other name of its library")
        self.field.setAccessibleName("Model for Ollama to fetch")
        self.field.setMaxLength(LONGEST_NAME)
        self.button = Button(theme, "Download", "", "download", "Have Ollama fetch it")
        self.button.clicked.connect(self._ask)
        self.field.textChanged.connect(self._show_button)
        self.field.returnPressed.connect(self._ask)
        words = QVBoxLayout()
        words.setSpacing(2)
        words.addWidget(Label(theme, "From Ollama", "title"))
        words.addWidget(self._where)
        self.column.addLayout(words)
        line = row(spacing=Space.small)
        line.addWidget(self.field, 1)
        line.addWidget(self.button)
        self.column.addLayout(line)
        self.hide()

    def show_engines(self, engines: Engines, connected: bool) -> None:
        where = running_ollama(engines)
        self._connected = connected
        self.setVisible(bool(where))
        self._where.say(f"The Ollama at {where.partition('://')[2]} fetches it into its own store.")
        self._show_button()

    def _show_button(self) -> None:
        self.button.setEnabled(self._connected and bool(self.field.text().strip()))

    def _ask(self) -> None:
        if self.button.isEnabled():
            self.pull_wanted.emit(self.field.text().strip())
            self.field.clear()


def running_ollama(engines: Engines) -> str:
    """The address of the Ollama that answers and would be asked; "" when there is none."""
    found = [one for family in engines.families if family.family == "ollama" for one in family.installations]
    return next((one.path for one in found if "://" in one.path and not one.problem), "")
