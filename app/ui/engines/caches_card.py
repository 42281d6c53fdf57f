"""What engines and downloads have kept on the disk, how much that is, and what clearing it costs."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QVBoxLayout, QWidget

from app.core.control import Cache
from app.ui import wording
from app.ui.theme import Space, Theme
from app.ui.widgets.controls import Button
from app.ui.widgets.layout import Card, Line, clear, row
from app.ui.widgets.text import ElidedLabel, Label


class CachesCard(Card):
    clear_wanted = Signal(object)  # a Cache

    def __init__(self, theme: Theme) -> None:
        super().__init__(spacing=0)
        self._theme = theme
        self._shown: tuple[object, ...] | None = None
        self._total = Label(theme, "", "small_number", "faint")
        self._list = QVBoxLayout()
        self._list.setSpacing(0)
        self.column.addLayout(row(Label(theme, "Caches", "title"), self._total, None))
        sentence = "Kept so that the next installation or load is quicker. Clearing one is safe."
        self.column.addWidget(Label(theme, sentence, "small", "muted", wrap=True))
        self.column.addSpacing(Space.small)
        self.column.addLayout(self._list)
        self.hide()

    def show_caches(self, caches: tuple[Cache, ...], clearing: frozenset[str], connected: bool) -> None:
        self.setVisible(bool(caches))
        if (caches, clearing, connected) == self._shown:
            return
        self._shown = (caches, clearing, connected)
        self._total.say(wording.size(sum(cache.disk_bytes for cache in caches)))
        clear(self._list)
        for cache in caches:
            self._list.addWidget(Line())
            self._list.addWidget(self._row(cache, cache.id in clearing, connected))

    def _row(self, cache: Cache, clearing: bool, connected: bool) -> QWidget:
        part = QWidget()
        text = QVBoxLayout()
        text.setSpacing(3)
        text.addWidget(Label(self._theme, cache.title, "label"))
        text.addWidget(Label(self._theme, cache.sentence, "small", "muted", wrap=True))
        text.addWidget(ElidedLabel(self._theme, cache.path, "mono_small", "faint", middle=True))
        size = Label(self._theme, wording.size(cache.disk_bytes) if cache.disk_bytes else "Empty", "number", "muted")
        size.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        button = Button(self._theme, "Clearing …" if clearing else "Clear …", "", "", f"Clear {cache.title}")
        button.setEnabled(connected and not clearing and cache.disk_bytes > 0)
        button.clicked.connect(lambda: self.clear_wanted.emit(cache))
        line = row(spacing=Space.large)
        line.setContentsMargins(0, Space.medium, 0, Space.medium)
        line.addLayout(text, 1)
        line.addWidget(size)
        line.addWidget(button)
        part.setLayout(line)
        return part
