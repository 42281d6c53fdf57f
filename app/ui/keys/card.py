"""The keys that are kept, by their names: what each is for, where it lies, giving another, forgetting it."""

from __future__ import annotations

from PySide6.QtWidgets import QVBoxLayout, QWidget

from app.core import control
from app.core.errors import EngineRoomError
from app.ui.keys import words
from app.ui.keys.ask import ask_key
from app.ui.keys.words import HUB, KeyLine
from app.ui.link import Link
from app.ui.store import Store
from app.ui.theme import Space, Theme
from app.ui.widgets.controls import Button
from app.ui.widgets.layout import Card, Line, clear, row
from app.ui.widgets.pill import Pill
from app.ui.widgets.sheet import confirm
from app.ui.widgets.text import ElidedLabel, Label


class KeysCard(Card):
    def __init__(self, store: Store, link: Link, theme: Theme) -> None:
        super().__init__(spacing=0)
        self._store, self._link, self._theme = store, link, theme
        self._shown: object = None
        self.add = Button(theme, "Add a key …", "", "plus", "Add a key")
        self.add.clicked.connect(lambda: ask_key(theme, link, self))
        self._list = QVBoxLayout()
        self._list.setSpacing(0)
        text = QVBoxLayout()
        text.setSpacing(2)
        text.addWidget(Label(theme, "Keys", "title"))
        sentence = "For endpoints elsewhere and for the hub of models. Kept by the service, never shown again."
        text.addWidget(Label(theme, sentence, "small", "muted", wrap=True))
        head = row(spacing=Space.large)
        head.addLayout(text, 1)
        head.addWidget(self.add)
        self.column.addLayout(head)
        self.column.addSpacing(Space.small)
        self.column.addLayout(self._list)
        for changed in (store.keys_changed, store.library_changed, store.connection_changed):
            changed.connect(self._show)
        self._show()

    def _show(self) -> None:
        connected = self._store.connected
        lines = words.lines(self._store.keys.keys, self._store.library.profiles)
        self.add.setEnabled(connected)
        if (lines, connected) == self._shown:
            return
        self._shown = (lines, connected)
        clear(self._list)
        for line in lines:
            self._list.addWidget(Line())
            self._list.addWidget(self._row(line, connected))

    def _row(self, line: KeyLine, connected: bool) -> QWidget:
        theme = self._theme
        text = QVBoxLayout()
        text.setSpacing(2)
        text.addWidget(ElidedLabel(theme, line.title, "label"))
        told = f"{line.told} {line.place}." if line.is_kept else line.told
        text.addWidget(Label(theme, told, "small", "muted", wrap=True))
        give = Button(
            theme,
            "Replace …" if line.is_kept else "Give it …",
            "quiet" if line.is_kept else "soft",
            "",
            f"{'Replace' if line.is_kept else 'Give'} {line.title}",
        )
        give.clicked.connect(lambda: ask_key(theme, self._link, self, line.name))
        give.setEnabled(connected)
        box = row(spacing=Space.small)
        box.setContentsMargins(0, Space.medium, 0, Space.medium)
        box.addLayout(text, 1)
        if line.is_kept:
            box.addWidget(Pill(theme, "Kept", "good"))
        elif line.name != HUB:
            box.addWidget(Pill(theme, "Missing", "warning"))
        box.addWidget(give)
        if line.is_kept:
            forget = Button(theme, "", "icon", "trash", f"Forget {line.title}")
            forget.setEnabled(connected)
            forget.clicked.connect(lambda: self._ask_forget(line))
            box.addWidget(forget)
        holder = QWidget()
        holder.setLayout(box)
        return holder

    def _ask_forget(self, line: KeyLine) -> None:
        what = "the access token" if line.name == HUB else f"the key {line.name}"
        confirm(
            self._theme,
            self,
            f"Forget {what}?",
            "It is deleted here. Where it came from, it stays good: take it back there when nobody shall use it.",
            "Forget it",
            lambda: self._forget(line.name),
            "danger",
        )

    def _forget(self, name: str) -> None:
        async def run() -> None:
            try:
                if name == HUB:
                    done = await self._link.post("/control/hub/token", control.HubToken(token=""), control.Accepted)
                else:
                    done = await self._link.post("/control/keys/remove", control.KeyOf(name=name), control.Accepted)
            except EngineRoomError as error:
                self._link.refused.emit(error)
                return
            self._link.told.emit(done.note)

        self._link.tasks.start(run(), "forget a key")
