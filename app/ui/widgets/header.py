"""The header: model, engine, state, tokens per second, endpoint with its copy button, and Stop; there on every page."""

from __future__ import annotations

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QFrame, QHBoxLayout, QSizePolicy, QVBoxLayout, QWidget

from app.ui.theme import Space, Theme
from app.ui.widgets.controls import Button
from app.ui.widgets.pill import Pill
from app.ui.widgets.text import ElidedLabel, Label

COPIED_MILLISECONDS = 1600


class Header(QWidget):
    stop_wanted = Signal()
    copied = Signal(str)

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self.setProperty("kind", "header")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.setFixedHeight(Space.header_height + 1)
        self.title = ElidedLabel(theme, "Engine Room", "title")
        self.title.setAccessibleName("Current model")
        self.pill = Pill(theme, "Connecting", "muted")
        self.detail = ElidedLabel(theme, "", "small", "muted")
        self.detail.setAccessibleName("Engine and state")
        self.rate = Label(theme, "—", "title_number")
        self.rate.setAccessibleName("Tokens per second now")
        self._rate_unit = Label(theme, "tok/s", "small", "muted")
        self.url = Label(theme, "", "mono")
        self.url.setAccessibleName("Endpoint URL")
        self.copy = Button(theme, "", "icon", "copy", "Copy endpoint URL")
        self.stop = Button(theme, "Stop", "danger", "stop", "Stop")
        self.stop.setEnabled(False)
        self._back = QTimer(self)
        self._back.setSingleShot(True)
        self._back.timeout.connect(lambda: self.copy.shape("", "icon", "copy", "Copy endpoint URL"))
        self.copy.clicked.connect(self._copy)
        self.stop.clicked.connect(self.stop_wanted)
        self._arrange()
        self.show_endpoint("")

    def _arrange(self) -> None:
        first = QHBoxLayout()
        first.setSpacing(Space.medium)
        first.addWidget(self.title)
        first.addWidget(self.pill)
        first.addStretch(1)
        words = QVBoxLayout()
        words.setContentsMargins(0, 0, 0, 0)
        words.setSpacing(2)
        words.addStretch(1)
        words.addLayout(first)
        words.addWidget(self.detail)
        words.addStretch(1)
        rate = QHBoxLayout()
        rate.setSpacing(5)
        rate.addWidget(self.rate)
        rate.addWidget(self._rate_unit)
        self.endpoint = QFrame()
        self.endpoint.setProperty("kind", "field")
        self.endpoint.setFixedHeight(Space.control_height)
        self.endpoint.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Fixed)
        inside = QHBoxLayout(self.endpoint)
        inside.setContentsMargins(Space.medium, 0, 3, 0)
        inside.setSpacing(Space.small)
        inside.addWidget(self.url)
        inside.addWidget(self.copy)
        box = QHBoxLayout(self)
        box.setContentsMargins(Space.huge, 0, Space.huge, 1)
        box.setSpacing(Space.large)
        box.addLayout(words, 1)
        box.addLayout(rate)
        box.addWidget(self.endpoint)
        box.addWidget(self.stop)

    def show_state(self, title: str, pill: str, tone: str, busy: bool, detail: str) -> None:
        self.title.say(title)
        self.pill.say(pill, tone, busy)
        self.detail.say(detail)
        self.detail.setVisible(bool(detail))

    def show_rate(self, text: str, idle: bool) -> None:
        self.rate.say(text, "faint" if idle else "")

    def show_endpoint(self, url: str) -> None:
        self.url.say(url or "No endpoint", "" if url else "faint")
        self.copy.setEnabled(bool(url))
        self.endpoint.setToolTip("OpenAI-compatible endpoint: the same for every model" if url else "")

    def show_stop(self, possible: bool, text: str) -> None:
        self.stop.setEnabled(possible)
        if text != self.stop.text():
            self.stop.setText(text)
            self.stop.setToolTip("Cancel the load" if text == "Cancel" else "Unload the model and free its memory")

    def _copy(self) -> None:
        QGuiApplication.clipboard().setText(self.url.text())
        self.copy.shape("", "icon", "check", "Endpoint URL copied")
        self._back.start(COPIED_MILLISECONDS)
        self.copied.emit(self.url.text())
