"""The header: model, engine, state, tokens per second, endpoint with its copy button, and Stop; there on every page."""

from __future__ import annotations

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtGui import QGuiApplication, QResizeEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QSizePolicy, QVBoxLayout, QWidget

from app.ui.theme import Space, Theme
from app.ui.widgets.controls import Button
from app.ui.widgets.pill import Pill
from app.ui.widgets.text import ElidedLabel, Label

COPIED_MILLISECONDS = 1600
LEND_MINUTES = (15, 30, 60)
NARROW = 940


class Header(QWidget):
    stop_wanted = Signal()
    return_wanted = Signal()
    lend_wanted = Signal(float)  # minutes
    park_wanted = Signal()
    seat_pressed = Signal(str)
    copied = Signal(str)

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
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
        self.lend = Button(theme, "", "icon", "lend", "Lend the GPU")
        self.lend.setToolTip("Lend the GPU: unload for a while, then the same model comes back (Ctrl+Shift+L)")
        self.lend.clicked.connect(self._open_lend)
        self.lend.hide()
        self.wake = Button(theme, "Wake now", "", "play", "Wake now")
        self.wake.setToolTip("Wake the model now, before anybody asks it")
        self.wake.clicked.connect(self.return_wanted)
        self.wake.hide()
        self._seats: dict[str, Button] = {}
        self._on_seats: tuple[tuple[str, str], ...] = ()
        self.stop = Button(theme, "Stop", "danger", "stop", "Stop")
        self.stop.setEnabled(False)
        self._away = False
        self._back = QTimer(self)
        self._back.setSingleShot(True)
        self._back.timeout.connect(lambda: self.copy.shape("", "icon", "copy", "Copy endpoint URL"))
        self.copy.clicked.connect(self._copy)
        self.stop.clicked.connect(lambda: (self.return_wanted if self._away else self.stop_wanted).emit())
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
        box.addWidget(self.lend)
        box.addWidget(self.wake)
        box.addWidget(self.stop)
        self._box = box

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
        """`text`: Stop, Cancel, or Return now while the model is away."""
        self.stop.setEnabled(possible)
        if text != self.stop.text():
            self._away = text == "Return now"
            tips = {"Cancel": "Cancel the load", "Return now": "Load the model again now"}
            self.stop.shape(
                text,
                "" if self._away else "danger",
                "play" if self._away else "stop",
                "Stop" if not self._away else text,
            )
            self.stop.setToolTip(tips.get(text, "Unload the model and free its memory"))

    def show_lend(self, possible: bool) -> None:
        self.lend.setVisible(possible)

    def show_wake(self, possible: bool) -> None:
        self.wake.setVisible(possible)

    def show_seats(self, seats: tuple[tuple[str, str], ...]) -> None:
        """The seats beside the first: (name, what is on it); one button each, none where there is one seat only."""
        if [name for name, _ in self._on_seats] != [name for name, _ in seats]:
            for old in self._seats.values():
                self._box.removeWidget(old)
                old.hide()
                old.deleteLater()
            self._seats = {name: self._seat_button(name, text) for name, text in seats}
        self._on_seats = seats
        self._fit_seats()

    def _seat_button(self, name: str, text: str) -> Button:
        button = Button(self._theme, text, "quiet", "engines", f"Seat {name}")
        button.clicked.connect(lambda: self.seat_pressed.emit(name))
        self._box.insertWidget(1, button)
        return button

    def _fit_seats(self) -> None:
        """In a small window their words stand in the tooltip."""
        narrow = self.width() < NARROW
        for name, text in self._on_seats:
            button = self._seats[name]
            button.shape("" if narrow else text, "icon" if narrow else "quiet", "engines", f"Seat {name}")
            button.setAccessibleDescription(text)  # it changes while a model loads; the button stays the same one
            button.setToolTip(f"{name}: {text}" if narrow else f"Seat {name}")

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._fit_seats()

    def _open_lend(self) -> None:
        from PySide6.QtWidgets import QMenu

        menu = QMenu(self)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        menu.addAction("Free the GPU, then load the model again after").setEnabled(False)
        for minutes in LEND_MINUTES:
            act = menu.addAction(f"{minutes} minutes")
            act.triggered.connect(lambda _=False, minutes=minutes: self.lend_wanted.emit(float(minutes)))
        menu.addSeparator()
        menu.addAction("Free it until the next request").triggered.connect(lambda _=False: self.park_wanted.emit())
        menu.popup(self.lend.mapToGlobal(self.lend.rect().bottomLeft()))

    def _copy(self) -> None:
        QGuiApplication.clipboard().setText(self.url.text())
        self.copy.shape("", "icon", "check", "Endpoint URL copied")
        self._back.start(COPIED_MILLISECONDS)
        self.copied.emit(self.url.text())
