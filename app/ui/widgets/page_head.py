"""The head of a page: what it is called, a sentence that says what for, and what can be done with the whole of it."""

from __future__ import annotations

from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from app.ui.theme import Space, Theme
from app.ui.widgets.layout import row
from app.ui.widgets.text import Label


def page_head(theme: Theme, title: str, sentence: str, *deeds: QWidget) -> QHBoxLayout:
    words = QVBoxLayout()
    words.setSpacing(3)
    words.addWidget(Label(theme, title, "heading"))
    words.addWidget(Label(theme, sentence, "body", "muted", wrap=True))
    head = row(spacing=Space.large)
    head.addLayout(words, 1)
    for deed in deeds:
        head.addWidget(deed)
    return head
