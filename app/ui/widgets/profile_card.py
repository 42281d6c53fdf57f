"""One profile as a card: what it is, what it needs, whether it fits, and the one thing to do with it now."""

from __future__ import annotations

import enum

from PySide6.QtCore import QEvent, QObject, Qt, Signal
from PySide6.QtGui import QAction
from PySide6.QtWidgets import QMenu, QProgressBar, QVBoxLayout

from app.core import lifecycle as phases
from app.core.memory.plan_types import Remedy
from app.core.snapshot import ProfileCard, SeatView
from app.ui import wording
from app.ui.store import profile_in
from app.ui.theme import Space, Theme
from app.ui.widgets.controls import Button
from app.ui.widgets.layout import Card, clear, row
from app.ui.widgets.memory_bar import MemoryBar, Segment
from app.ui.widgets.pill import Pill
from app.ui.widgets.text import ElidedLabel, Label, restyle


class Deed(enum.Enum):
    """What the card's button does now: its text, kind and icon."""

    LOAD = ("Load", "soft", "play")
    SWITCH = ("Switch", "", "switch")
    CANCEL = ("Cancel", "danger", "close")
    CHAT = ("Open chat", "primary", "chat")
    WAIT = ("Please wait", "", "")
    LOAD_ANYWAY = ("Load anyway …", "", "warning")
    GET_ENGINE = ("Get the engine", "", "download")
    NOTHING = ("Load", "", "")


def deed_of(card: ProfileCard, seat: SeatView, connected: bool) -> Deed:
    """The one thing that can be done with this profile, given what its seat is doing."""
    if not connected:
        return Deed.NOTHING
    here = profile_in(seat.phase) == card.profile.id
    match seat.phase:
        case phases.Ready() | phases.Stalled() if here:
            return Deed.CHAT
        case phases.Reserving() | phases.Spawning() | phases.Loading() | phases.Backoff() if here:
            return Deed.CANCEL
    if seat.wanted == card.profile.id and wording.is_leaving(seat):
        return Deed.CANCEL
    if here and wording.is_leaving(seat):
        return Deed.WAIT
    if card.available and not card.engine_available:
        return Deed.GET_ENGINE
    if not card.available or not card.engine_available or card.problem is not None:
        return Deed.NOTHING
    if card.plan is not None and not card.plan.is_admitted:
        return Deed.LOAD_ANYWAY
    free = isinstance(seat.phase, phases.Idle | phases.Failed)
    return Deed.LOAD if free else Deed.SWITCH


class ProfileTile(Card):
    """`deed_wanted` tells (profile id, Deed), `remedy_wanted` (profile id, Remedy), `pointed` the id or "" when left."""

    deed_wanted = Signal(str, object)
    remedy_wanted = Signal(str, object)
    command_wanted = Signal(str)
    edit_wanted = Signal(str, bool)  # profile id, whether a copy of it
    seat_wanted = Signal(str, str)  # profile id, seat
    comfort_wanted = Signal(str, str, bool)  # profile id, "keep_loaded" or "load_at_start", on
    pointed = Signal(str)

    def __init__(self, theme: Theme, profile_id: str) -> None:
        super().__init__(margins=Space.large + 2, spacing=6)
        self.profile_id = profile_id
        self._theme = theme
        self._deed = Deed.NOTHING
        self._remedies: tuple[Remedy, ...] = ()
        self._seats: tuple[str, ...] = ()
        self._title = ElidedLabel(theme, "", "title")
        self._facts = ElidedLabel(theme, "", "body", "muted")
        self.pill = Pill(theme)
        self._bar = MemoryBar(theme, 8, "Memory needed")
        self._need = Label(theme, "", "small", "muted", wrap=True)
        self._need.setAlignment(Qt.AlignmentFlag.AlignTop)
        self._progress = QProgressBar()
        self._progress.setTextVisible(False)
        self._progress.setRange(0, 1000)
        self._progress.setAccessibleName(f"Progress of loading {profile_id}")
        self.button = Button(theme, "Load", "", "")
        self.button.clicked.connect(lambda: self.deed_wanted.emit(self.profile_id, self._deed))
        self._edit = Button(theme, "", "icon", "edit", f"Edit {profile_id}")
        self._edit.clicked.connect(lambda: self.edit_wanted.emit(self.profile_id, False))
        self._more = Button(theme, "", "icon", "more", f"More for {profile_id}")
        self._more.clicked.connect(self._open_menu)
        self._cures = QVBoxLayout()
        self._cures.setSpacing(4)
        self._arrange()
        for watched in (self.button, self._edit, self._more):
            watched.installEventFilter(self)

    def _arrange(self) -> None:
        head = row(spacing=2)
        head.addWidget(self._title, 1)
        head.addWidget(self._edit)
        head.addWidget(self._more)
        self.column.addLayout(head)
        self.column.addWidget(self._facts)
        self.column.addSpacing(4)
        self.column.addLayout(row(self.pill, None))
        self.column.addSpacing(4)
        self.column.addWidget(self._bar)
        self.column.addWidget(self._progress)
        self.column.addWidget(self._need, 1)
        self.column.addLayout(self._cures)
        self.column.addSpacing(4)
        self.column.addWidget(self.button)

    def show_card(self, card: ProfileCard, seat: SeatView, connected: bool) -> None:
        profile = self._profile = card.profile
        self._loadable = connected and card.available and card.engine_available and card.problem is None
        here = profile_in(seat.phase) == profile.id
        self._title.say(profile.title or profile.id)
        self.setAccessibleName(profile.title or profile.id)
        self._facts.say(wording.facts(card))
        loading = here and wording.is_loading(seat)
        words = (
            wording.seat_words(seat) if here and not isinstance(seat.phase, phases.Failed) else wording.verdict(card)
        )
        self.pill.say(words.text, words.tone if connected else "muted", words.busy and connected)
        self._need.say(_need_text(card, seat, here))
        self._show_bar(card, loading, seat)
        restyle(self, selected="true" if here and not isinstance(seat.phase, phases.Failed) else "false")
        self._deed = deed_of(card, seat, connected)
        text, kind, icon = self._deed.value
        verb = {
            "Load anyway …": "Load anyway",
            "Cancel": "Cancel loading",
            "Open chat": "Open chat with",
            "Get the engine": "Get the engine of",
        }.get(text, text)
        self.button.shape(text, kind, icon, f"{verb} {profile.id}")
        self.button.setEnabled(self._deed not in (Deed.NOTHING, Deed.WAIT))
        self._show_remedies(card.plan.remedies if card.plan and self._deed is Deed.LOAD_ANYWAY else ())

    def show_seats(self, seats: tuple[str, ...]) -> None:
        self._seats = seats

    def _show_bar(self, card: ProfileCard, loading: bool, seat: SeatView) -> None:
        progress = seat.phase.progress if isinstance(seat.phase, phases.Loading) else None
        self._progress.setVisible(loading)
        self._bar.setVisible(not loading)
        if loading:
            self._progress.setValue(round(1000 * (progress or 0)))
        plan = card.plan
        if plan is None or not plan.devices:
            self._bar.show_memory((), 1)
            return
        tone = {"good": "good", "warning": "warning", "danger": "danger"}.get(wording.verdict(card).tone, "predicted")
        total = sum(device.total_bytes or 0 for device in plan.devices)
        others = sum(device.others_bytes for device in plan.devices)
        need = sum(device.likely_bytes for device in plan.devices)
        here = profile_in(seat.phase) == card.profile.id and not isinstance(seat.phase, phases.Failed)
        shown = Segment("engine" if here else tone, need)
        self._bar.show_memory((Segment("others", others), shown), max(total, 1), words=plan.summary)

    def _show_remedies(self, remedies: tuple[Remedy, ...]) -> None:
        if remedies == self._remedies:
            return
        self._remedies = remedies
        clear(self._cures)
        for remedy in remedies[:2]:
            button = Button(self._theme, remedy.title, "", "", f"Load {self.profile_id}: {remedy.title}")
            button.clicked.connect(lambda _=False, remedy=remedy: self.remedy_wanted.emit(self.profile_id, remedy))
            self._cures.addWidget(button)

    def _open_menu(self) -> None:
        menu = QMenu(self)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        for text, copy in (("Edit …", False), ("Duplicate …", True)):
            edit = QAction(text, menu)
            edit.triggered.connect(lambda _=False, copy=copy: self.edit_wanted.emit(self.profile_id, copy))
            menu.addAction(edit)
        command = QAction("Copy command line", menu)
        command.triggered.connect(lambda: self.command_wanted.emit(self.profile_id))
        menu.addAction(command)
        menu.addSeparator()
        for key, text, on in (
            ("keep_loaded", "Keep loaded", self._profile.keep_loaded),
            ("load_at_start", "Load at start", self._profile.load_at_start),
        ):
            toggle = QAction(text, menu, checkable=True, checked=on)
            toggle.triggered.connect(lambda on, key=key: self.comfort_wanted.emit(self.profile_id, key, on))
            menu.addAction(toggle)
        if len(self._seats) > 1:
            menu.addSeparator()
            for seat in self._seats:
                load = QAction(f"Load on {seat}", menu)
                load.setEnabled(self._loadable)
                load.triggered.connect(lambda _=False, seat=seat: self.seat_wanted.emit(self.profile_id, seat))
                menu.addAction(load)
        menu.popup(self._more.mapToGlobal(self._more.rect().bottomLeft()))

    def enterEvent(self, event: QEvent) -> None:
        self.pointed.emit(self.profile_id)

    def leaveEvent(self, event: QEvent) -> None:
        self.pointed.emit("")

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.FocusIn:
            self.pointed.emit(self.profile_id)
        elif event.type() == QEvent.Type.FocusOut:
            self.pointed.emit("")
        return False


def _need_text(card: ProfileCard, seat: SeatView, here: bool) -> str:
    if here and isinstance(seat.phase, phases.Loading):
        stage = wording.stage_title(seat.phase.stage)
        eta = seat.phase.eta_seconds
        return f"{stage} · about {wording.duration(eta)} left" if eta else stage
    if card.problem is not None:
        return f"{card.problem.summary} {card.problem.advice}".strip()
    if not card.available:
        return f"Not found: {card.model_path}"
    if not card.engine_available:
        return f"Install {wording.engine(card.profile.engine)} to use it"
    if card.plan is not None and not card.plan.is_admitted:
        return card.plan.summary
    return wording.need(card.plan)
