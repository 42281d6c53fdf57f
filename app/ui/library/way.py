"""One way to load a model: as the body of a card that has no other, or as one row among several."""

from __future__ import annotations

from PySide6.QtCore import QRectF, QSize, Qt, Signal
from PySide6.QtGui import QAction, QFontMetrics, QPainter, QPaintEvent
from PySide6.QtWidgets import QAbstractButton, QMenu, QProgressBar, QSizePolicy, QVBoxLayout, QWidget

from app.core import lifecycle as phases
from app.core.memory.plan_types import Remedy
from app.core.snapshot import ProfileCard, SeatView
from app.ui import wording
from app.ui.library.deeds import SHORT, Deed, Now, bar_tone, deed_of, need_words, spoken, state_words
from app.ui.store import profile_in
from app.ui.theme import Space, Theme
from app.ui.widgets.controls import Button, ElidedButton
from app.ui.widgets.layout import row
from app.ui.widgets.memory_bar import MemoryBar, Segment
from app.ui.widgets.pill import Pill
from app.ui.widgets.text import ElidedLabel, LinesLabel

ROW_HEIGHT = 42


class Wishes(QWidget):
    """What can be asked for about a profile, told by its id; `pointed` tells it, or "" when it is left."""

    deed_wanted = Signal(str, object)
    remedy_wanted = Signal(str, object)
    plan_wanted = Signal(str)
    rest_wanted = Signal(str)  # a name of the hub
    command_wanted = Signal(str)
    edit_wanted = Signal(str, bool)  # profile id, whether a copy of it
    seat_wanted = Signal(str, str)  # profile id, seat
    comfort_wanted = Signal(str, str, bool)  # profile id, "keep_loaded" or "load_at_start", on
    pointed = Signal(str)

    def open_menu(self, card: ProfileCard, now: Now, at: QWidget) -> None:
        profile = card.profile
        menu = QMenu(at)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)

        def offer(text: str, act: object, enabled: bool = True) -> None:
            action = QAction(text, menu)
            action.setEnabled(enabled)
            action.triggered.connect(act)
            menu.addAction(action)

        offer("Plan memory …", lambda: self.plan_wanted.emit(profile.id))
        offer("Edit …", lambda: self.edit_wanted.emit(profile.id, False))
        offer("Duplicate …", lambda: self.edit_wanted.emit(profile.id, True))
        offer("Copy command line", lambda: self.command_wanted.emit(profile.id))
        menu.addSeparator()
        for key, text, on in (
            ("keep_loaded", "Keep loaded", profile.keep_loaded),
            ("load_at_start", "Load at start", profile.load_at_start),
        ):
            toggle = QAction(text, menu, checkable=True, checked=on)
            toggle.triggered.connect(lambda on, key=key: self.comfort_wanted.emit(profile.id, key, on))
            menu.addAction(toggle)
        if len(now.seats) > 1:
            menu.addSeparator()
            loadable = now.connected and card.available and card.engine_available and card.problem is None
            for seat in now.seats:
                offer(f"Load on {seat}", lambda _=False, seat=seat: self.seat_wanted.emit(profile.id, seat), loadable)
        menu.popup(at.mapToGlobal(at.rect().bottomLeft()))


def shape(button: Button, deed: Deed, profile_id: str, short: bool = False, quiet: bool = False) -> None:
    """`quiet`: another way is the one to recommend."""
    text, kind, icon = deed.value
    kind = "" if quiet and deed is Deed.LOAD else kind
    button.shape(SHORT.get(deed, text) if short else text, kind, "" if short else icon, spoken(deed, profile_id))
    button.setEnabled(deed not in (Deed.NOTHING, Deed.WAIT))


class WholeWay(QWidget):
    """The only way to load a model: verdict, bar, need, cure and the button."""

    def __init__(self, theme: Theme, wishes: Wishes) -> None:
        super().__init__()
        self._theme, self._wishes = theme, wishes
        self._id = ""
        self._deed = Deed.NOTHING
        self._remedy: Remedy | None = None
        self.pill = Pill(theme)
        self._tags = ElidedLabel(theme, "", "caption", "faint")
        self._tags.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self._bar = MemoryBar(theme, 8, "Memory needed")
        self._need = LinesLabel(theme, 2, "small", "muted")
        self._progress = QProgressBar()
        self._progress.setTextVisible(False)
        self._progress.setRange(0, 1000)
        self._progress.setAccessibleName("Progress of loading")
        self._cure = ElidedButton(theme, "Remedy")
        self._cure.clicked.connect(self._wish_remedy)
        self.button = Button(theme, "Load", "", "")
        self.button.clicked.connect(lambda: wishes.deed_wanted.emit(self._id, self._deed))
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(6)
        head = row(self.pill, spacing=Space.small)
        head.addWidget(self._tags, 1)
        column.addLayout(head)
        column.addSpacing(2)
        for part in (self._bar, self._progress, self._need):
            column.addWidget(part)
        column.addStretch(1)
        column.addWidget(self._cure)
        column.addWidget(self.button)

    def stops(self) -> list[QWidget]:
        return [self._cure, self.button]

    def show_card(self, card: ProfileCard, seat: SeatView, now: Now, tags: str) -> None:
        self._id = card.profile.id
        words = state_words(card, seat, now)
        self.pill.say(words.text, words.tone if now.connected else "muted", words.busy and now.connected)
        self._tags.say(tags)
        self._need.say(need_words(card, seat, now))
        self._deed = deed_of(card, seat, now)
        shape(self.button, self._deed, self._id)
        self._show_bar(card, seat)
        offers = card.plan.remedies if card.plan is not None and self._deed is Deed.LOAD_ANYWAY else ()
        self._remedy = offers[0] if offers else None
        self._cure.setVisible(self._remedy is not None)
        if self._remedy is not None:
            title = self._remedy.title
            self._cure.shape(title.removesuffix(", the rest in main memory"), "", "", f"Load {self._id}: {title}")

    def _show_bar(self, card: ProfileCard, seat: SeatView) -> None:
        loading = profile_in(seat.phase) == self._id and wording.is_loading(seat)
        progress = seat.phase.progress if isinstance(seat.phase, phases.Loading) else None
        self._progress.setVisible(loading)
        self._bar.setVisible(not loading and card.plan is not None and bool(card.plan.devices))
        if loading:
            self._progress.setAccessibleName(f"Progress of loading {self._id}")
            self._progress.setValue(round(1000 * (progress or 0)))
        plan = card.plan
        if plan is None or not plan.devices:
            self._bar.show_memory((), 1)
            return
        devices = wording.main_devices(plan)
        total = sum(device.total_bytes or 0 for device in devices)
        others = sum(device.others_bytes for device in devices)
        need = sum(device.likely_bytes for device in devices)
        shown = Segment(bar_tone(card, seat), need)
        self._bar.show_memory((Segment("others", others), shown), max(total, 1), words=plan.summary)

    def _wish_remedy(self) -> None:
        if self._remedy is not None:
            self._wishes.remedy_wanted.emit(self._id, self._remedy)


class RowWay(QWidget):
    """One of several ways: its name and verdict, which open the plan, and the button."""

    def __init__(self, theme: Theme, wishes: Wishes) -> None:
        super().__init__()
        self._wishes = wishes
        self._card: ProfileCard | None = None
        self._deed = Deed.NOTHING
        self._now = Now()
        self.setFixedHeight(ROW_HEIGHT)
        self._face = _Face(theme)
        self._face.clicked.connect(lambda: wishes.plan_wanted.emit(self.profile_id))
        self.button = Button(theme, "Load", "", "")
        self.button.setProperty("dense", True)
        self.button.clicked.connect(lambda: wishes.deed_wanted.emit(self.profile_id, self._deed))
        self._more = Button(theme, "", "icon", "more", "More")
        self._more.clicked.connect(self._open)
        line = row(spacing=4)
        line.addWidget(self._face, 1)
        line.addWidget(self.button)
        line.addWidget(self._more)
        self.setLayout(line)

    @property
    def profile_id(self) -> str:
        return self._card.profile.id if self._card is not None else ""

    def stops(self) -> list[QWidget]:
        return [self._face, self.button, self._more]

    def show_card(self, card: ProfileCard, seat: SeatView, now: Now, name: str, best: bool) -> None:
        self._card, self._now = card, now
        words = state_words(card, seat, now)
        self._face.say(name, words.text, words.tone if now.connected else "muted", card.profile.id)
        self._face.setToolTip(need_words(card, seat, now))
        self._deed = deed_of(card, seat, now)
        shape(self.button, self._deed, card.profile.id, short=True, quiet=not best)
        self._more.shape("", "icon", "more", f"More for {card.profile.id}")

    def _open(self) -> None:
        if self._card is not None:
            self._wishes.open_menu(self._card, self._now, self._more)


class _Face(QAbstractButton):
    """Two lines: the way's name, below it the verdict with its dot."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self._verdict, self._tone = "", "muted"
        self._strong, self._small = theme.font("label"), theme.font("small")
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Expanding)
        self.setAttribute(Qt.WidgetAttribute.WA_Hover)
        theme.changed.connect(self.update)

    def say(self, name: str, verdict: str, tone: str, profile_id: str) -> None:
        if (name, verdict, tone) != (self.text(), self._verdict, self._tone):
            self._verdict, self._tone = verdict, tone
            self.setText(name)
            self.update()
        self.setAccessibleName(f"Plan the memory of {profile_id}")
        self.setAccessibleDescription(f"{name}: {verdict}")

    def sizeHint(self) -> QSize:
        return QSize(80, ROW_HEIGHT)

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        colour = self._theme.colour
        width = self.width() - 8
        painter.setPen(colour("accent" if self.hasFocus() or self.underMouse() else "text"))
        painter.setFont(self._strong)
        name = QFontMetrics(self._strong).elidedText(self.text(), Qt.TextElideMode.ElideRight, width)
        painter.drawText(0, 2, width, 20, Qt.AlignmentFlag.AlignVCenter, name)
        if self.hasFocus():
            painter.drawLine(0, 21, QFontMetrics(self._strong).horizontalAdvance(name), 21)
        painter.setFont(self._small)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(colour("text_faint" if self._tone == "muted" else self._tone))
        painter.drawEllipse(QRectF(0.5, 28.5, 6, 6))
        painter.setPen(colour("text_muted"))
        verdict = QFontMetrics(self._small).elidedText(self._verdict, Qt.TextElideMode.ElideRight, width - 12)
        painter.drawText(12, 21, width - 12, 20, Qt.AlignmentFlag.AlignVCenter, verdict)


def way_name(card: ProfileCard, alone_with: tuple[ProfileCard, ...]) -> str:
    """What tells this way from the others of the same model: the person's own title, else its form and context."""
    profile, facts = card.profile, card.facts
    titles = [other.profile.title for other in alone_with]
    if profile.source != "found" or facts is None:
        return profile.title or profile.id
    form = facts.quantisation or facts.format
    parts = [form, wording.size(facts.file_bytes)]
    if sum(1 for other in alone_with if other.facts is not None and other.facts.quantisation == form) > 1:
        parts.append(profile.title if titles.count(profile.title) == 1 else profile.id)
    return " · ".join(part for part in parts if part)
