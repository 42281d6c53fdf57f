"""What the library shows beside its cards: that there is no model yet, and files that cannot be used."""

from __future__ import annotations

from PySide6.QtWidgets import QVBoxLayout, QWidget

from app.core.snapshot import Library
from app.ui.store import Store
from app.ui.theme import Space, Theme
from app.ui.widgets.controls import Button
from app.ui.widgets.layout import Card, clear, row
from app.ui.widgets.notice import IconLabel
from app.ui.widgets.text import Label


class Nothing(Card):
    """No profiles: not yet known, or none found and how to add some."""

    def __init__(self, theme: Theme) -> None:
        super().__init__(margins=Space.huge * 2)
        self._icon = IconLabel(theme, "folder", "text_faint", 32)
        self._title = Label(theme, "", "title")
        self._text = Label(theme, "", "body", "muted", wrap=True)
        self.download = Button(theme, "Download a model", "primary", "download", "Download a model")
        self.settings = Button(theme, "Choose folders", "", "folder", "Choose model folders")
        column = QVBoxLayout()
        column.setSpacing(Space.small)
        column.addWidget(self._title)
        column.addWidget(self._text)
        column.addSpacing(Space.small)
        column.addLayout(row(self.download, self.settings, None))
        line = row(self._icon, spacing=Space.huge)
        line.addLayout(column, 1)
        self.column.addLayout(line)

    def show_state(self, known: bool, library: Library) -> None:
        for button in (self.download, self.settings):
            button.setVisible(known and not library.unread)
        if not known:
            self._title.say("Waiting for the service")
            self._text.say("Profiles and graphics cards appear here as soon as the Engine Room service answers.")
            return
        if library.unread:
            self._title.say("Reading your models")
            self._text.say(f"{library.being_read} Each appears here as soon as its file has been read.")
            return
        where = ", ".join(library.folders) or "a model folder"
        self._title.say("No models yet")
        self._text.say(
            f"GGUF files and Hugging Face folders in {where} appear here by themselves, and so do models of Ollama, "
            "LM Studio, llama.cpp and the Hugging Face cache: they are read where they lie."
        )


class Problems(Card):
    """Files that cannot be used, said calmly at the end of the page."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self._shown: tuple[object, ...] = ()
        self._list = QVBoxLayout()
        self._list.setSpacing(Space.medium)
        self.column.addLayout(
            row(IconLabel(theme, "warning", "warning"), Label(theme, "Files that need a look", "title"), None)
        )
        self.column.addLayout(self._list)
        self.hide()

    def show_problems(self, store: Store) -> None:
        problems = store.library.problems
        self.setVisible(bool(problems))
        if problems == self._shown:
            return
        self._shown = problems
        clear(self._list)
        for problem in problems[:50]:
            part = QWidget()
            column = QVBoxLayout(part)
            column.setContentsMargins(0, 0, 0, 0)
            column.setSpacing(2)
            column.addWidget(Label(self._theme, problem.where, "mono", "muted", wrap=True, select=True))
            column.addWidget(Label(self._theme, f"{problem.summary} {problem.advice}".strip(), wrap=True, select=True))
            self._list.addWidget(part)
