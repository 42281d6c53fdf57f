"""Every seat in a row of its own, where there is more than one: its model, its state, and what can be done with it."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QVBoxLayout, QWidget

from app.core.snapshot import Seats, SeatView
from app.ui import wording
from app.ui.store import Store, profile_in
from app.ui.theme import Space, Theme
from app.ui.widgets.controls import Button
from app.ui.widgets.layout import Card, Line, row
from app.ui.widgets.pill import Pill
from app.ui.widgets.text import ElidedLabel, Label


class SeatRow(QWidget):
    stop_wanted = Signal(str)  # seat
    return_wanted = Signal(str)

    def __init__(self, theme: Theme, store: Store, name: str) -> None:
        super().__init__()
        self._store, self.name = store, name
        self.setAccessibleName(f"Seat {name}")
        self._title = ElidedLabel(theme, "", "strong")
        self._pill = Pill(theme)
        self._detail = ElidedLabel(theme, "", "small", "muted")
        self.button = Button(theme, "Stop", "", "stop", f"Stop {name}")
        self.button.clicked.connect(self._do)
        caption = Label(theme, name, "caption", "muted")
        caption.setFixedWidth(72)
        text = QVBoxLayout()
        text.setSpacing(2)
        head = row(spacing=Space.medium)
        head.addWidget(self._title)
        head.addWidget(self._pill)
        head.addStretch(1)
        text.addLayout(head)
        text.addWidget(self._detail)
        line = row(spacing=Space.medium)
        line.setContentsMargins(0, Space.small, 0, Space.small)
        line.addWidget(caption)
        line.addLayout(text, 1)
        line.addWidget(self.button)
        self.setLayout(line)

    def show_seat(self, seat: SeatView, connected: bool) -> None:
        words = wording.seat_words(seat)
        self._title.say(self._store.title_of(profile_in(seat.phase) or seat.wanted) or "Free")
        self._pill.say(words.text, words.tone if connected else "muted", words.busy and connected)
        engine = (
            f"{wording.engine(seat.run.engine)} {seat.run.engine_build}".strip()
            if seat.run and profile_in(seat.phase)
            else ""
        )
        hint = wording.rest_words(seat, self._store.title_of(seat.wanted)) or wording.idle_hint(seat)
        self._detail.say(" · ".join(part for part in (engine, hint) if part) or "Nothing is loaded here.")
        away = bool(seat.resting or seat.lent_until_unix)
        self._away = away
        cancel = wording.is_loading(seat) or wording.is_switching(seat)
        text, icon = ("Return now", "play") if away else ("Cancel", "close") if cancel else ("Stop", "stop")
        self.button.shape(text, "", icon, f"{text}: {self.name}")
        self.button.setEnabled(connected and (away or wording.can_stop(seat)))
        self.button.setVisible(away or wording.can_stop(seat))

    def _do(self) -> None:
        (self.return_wanted if self._away else self.stop_wanted).emit(self.name)


class SeatsCard(Card):
    stop_wanted = Signal(str)
    return_wanted = Signal(str)

    def __init__(self, theme: Theme, store: Store) -> None:
        super().__init__(spacing=0)
        self._theme, self._store = theme, store
        self._rows: dict[str, SeatRow] = {}
        self._list = QVBoxLayout()
        self._list.setSpacing(0)
        self.column.addWidget(Label(theme, "Seats", "title"))
        self.column.addSpacing(Space.hair)
        self.column.addLayout(self._list)

    def show_seats(self, seats: Seats, connected: bool) -> None:
        if list(self._rows) != [seat.name for seat in seats.seats]:
            from app.ui.widgets.layout import clear

            clear(self._list)
            self._rows = {}
            for seat in seats.seats:
                if self._rows:
                    self._list.addWidget(Line())
                made = self._rows[seat.name] = SeatRow(self._theme, self._store, seat.name)
                made.stop_wanted.connect(self.stop_wanted)
                made.return_wanted.connect(self.return_wanted)
                self._list.addWidget(made)
        for seat in seats.seats:
            self._rows[seat.name].show_seat(seat, connected)
