"""Asks for one key: typed unseen, sent once to the service, and forgotten here whatever the answer."""

from __future__ import annotations

import msgspec
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QLineEdit, QVBoxLayout, QWidget
from shiboken6 import isValid

from app.core import control
from app.core.errors import EngineRoomError
from app.ui.keys.words import HUB
from app.ui.link import Link
from app.ui.theme import Space, Theme
from app.ui.widgets.controls import Button
from app.ui.widgets.layout import row
from app.ui.widgets.overlay import Overlay
from app.ui.widgets.text import Label, restyle

_HUB = (
    "Some models are given only to people who agreed to terms on the model’s page. Hugging Face knows you by a token "
    "that you make in your account there."
)
_REMOTE = "The endpoint’s own provider gives it to you. Profiles name it, and never hold it."
_KEPT = "It is kept in the desktop’s keyring, and never shown again."


class AskKey(QWidget):
    """`name` "" asks for the name too."""

    def __init__(self, theme: Theme, link: Link, name: str, told: str = "") -> None:
        super().__init__()
        self._link, self._name = link, name
        self._overlay: Overlay | None = None
        what = "access token" if name == HUB else "key"
        self.name = QLineEdit()
        self.name.setPlaceholderText("A name for it, as profiles say it: work, azure-eu …")
        self.name.setAccessibleName("Name of the key")
        self.name.setVisible(not name)
        self.field = QLineEdit()
        self.field.setEchoMode(QLineEdit.EchoMode.Password)
        self.field.setPlaceholderText("hf_…" if name == HUB else "Type or paste the key")
        self.field.setAccessibleName(what.capitalize())
        self.wrong = Label(theme, "", "small", "danger", wrap=True, select=True)
        self.wrong.hide()
        self.save = Button(theme, "Keep it", "primary", "", f"Keep the {what}")
        self.save.clicked.connect(self._send)
        for line in (self.name, self.field):
            line.textChanged.connect(self._typed)
            line.returnPressed.connect(self.save.click)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(Space.medium)
        sentence = f"{_HUB if name == HUB else _REMOTE} {_KEPT}"
        column.addWidget(Label(theme, sentence, "body", "muted", wrap=True))
        if told:
            column.addWidget(Label(theme, told, "small", "accent", wrap=True))
        for part in (self.name, self.field, self.wrong):
            column.addWidget(part)
        column.addLayout(row(None, self.save))
        self._typed()

    def open(self, theme: Theme, asking: QWidget) -> Overlay:
        title = "Access token of Hugging Face" if self._name == HUB else f"Key {self._name}" if self._name else "A key"
        self._overlay = Overlay(theme, asking, title, self, widest=520, fits=True)
        (self.field if self._name else self.name).setFocus(Qt.FocusReason.OtherFocusReason)
        return self._overlay

    def _typed(self) -> None:
        self.save.setEnabled(bool(self.field.text().strip()) and bool(self._name or self.name.text().strip()))

    def _wish(self) -> tuple[str, msgspec.Struct]:
        key = self.field.text().strip()
        if self._name == HUB:
            return "/control/hub/token", control.HubToken(token=key)
        return "/control/keys", control.GivenKey(name=self._name or self.name.text().strip(), key=key)

    def _send(self) -> None:
        path, wish = self._wish()
        self.field.clear()
        self._say("")
        self.save.shape("Keeping …", "primary", "", self.save.accessibleName())
        self.save.setEnabled(False)  # a keyring may take its time

        async def run() -> None:
            try:
                done = await self._link.post(path, wish, control.Accepted)
            except EngineRoomError as error:
                if isValid(self):
                    self._say(" ".join(part for part in (error.summary, error.advice) if part))
                return
            self._link.told.emit(done.note)
            if isValid(self) and self._overlay is not None:
                self._overlay.dismiss()

        self._link.tasks.start(run(), "keep a key")

    def _say(self, wrong: str) -> None:
        self.wrong.say(wrong)
        self.wrong.setVisible(bool(wrong))
        restyle(self.field, wrong="true" if wrong else "false")
        self.save.shape("Keep it", "primary", "", self.save.accessibleName())
        if wrong:
            self.field.setFocus(Qt.FocusReason.OtherFocusReason)
        if self._overlay is not None:
            self._overlay.fit()


def ask_key(theme: Theme, link: Link, asking: QWidget, name: str = "", told: str = "") -> Overlay:
    """A question over the window of `asking`; what became of it is told by the link."""
    return AskKey(theme, link, name, told).open(theme, asking)
