"""One model as a card: what it is, where it lies, and each way to load it with the one thing to do with it now."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import QEvent, QObject, Qt, Signal
from PySide6.QtGui import QMouseEvent
from PySide6.QtWidgets import QVBoxLayout, QWidget

from app.core.snapshot import ProfileCard, SeatView
from app.ui import wording
from app.ui.library.deeds import Now, is_here
from app.ui.library.entries import CAPABILITIES, Entry
from app.ui.library.way import RowWay, WholeWay, Wishes, way_name
from app.ui.theme import Space, Theme
from app.ui.widgets.controls import Button
from app.ui.widgets.layout import Card, row
from app.ui.widgets.text import ElidedLabel, LinesLabel, restyle

TILE_HEIGHT = 262
MOST_ROWS = 3

SeatOf = Callable[[ProfileCard], SeatView]


class ModelTile(Card):
    """Filled with one entry after another: a field keeps only as many tiles as are in view."""

    all_wanted = Signal(str)  # the entry's key: every way to load it

    def __init__(self, theme: Theme, wishes: Wishes) -> None:
        super().__init__(margins=Space.large, spacing=2)
        self._theme, self._wishes = theme, wishes
        self.entry: Entry | None = None
        self._now = Now()
        self.setFixedHeight(TILE_HEIGHT)
        self._title = ElidedLabel(theme, "", "title")
        self._facts = ElidedLabel(theme, "", "body", "muted")
        self._place = ElidedLabel(theme, "", "small", "faint")
        self._plan = Button(theme, "", "icon", "plan", "Plan the memory")
        self._plan.clicked.connect(lambda: self._wish_plan())
        self._more = Button(theme, "", "icon", "more", "More")
        self._more.clicked.connect(self._open_menu)
        head = row(spacing=2)
        head.addWidget(self._title, 1)
        head.addWidget(self._plan)
        head.addWidget(self._more)
        head.addStrut(30)  # titles stand at one height, with buttons beside them or not
        self.column.addLayout(head)
        self.column.addWidget(self._facts)
        self.column.addWidget(self._place)
        self.column.addSpacing(6)
        self._whole: WholeWay | None = None
        self._rows: list[RowWay] = []
        self._sentence: LinesLabel | None = None
        self._rest: Button | None = None  # of a download that is not whole
        self._all = Button(theme, "", "link", "chevron-right", "All")
        self._all.setProperty("tone", "muted")
        self._all.clicked.connect(lambda: self.all_wanted.emit(self.entry.key if self.entry else ""))
        self._places = QVBoxLayout()
        self._places.setSpacing(2)
        self.column.addLayout(self._places, 1)
        self.column.addWidget(self._all, 0, Qt.AlignmentFlag.AlignLeft)
        for watched in (self._plan, self._more, self._all):
            watched.installEventFilter(self)

    # --- showing -----------------------------------------------------------------------------------------------------

    def show_entry(self, entry: Entry, seat_of: SeatOf, now: Now) -> None:
        self.entry, self._now = entry, now
        cards, several = entry.cards, len(entry.cards) > 1
        self._title.say(entry.title)
        self.setAccessibleName(entry.title)
        facts = _facts_line(entry)
        self._facts.say(facts)
        self._facts.setVisible(bool(facts))
        self._place.say(_place_line(entry))
        for button, verb, icon in ((self._plan, "Plan the memory of", "plan"), (self._more, "More for", "more")):
            button.setVisible(len(cards) == 1)
            if cards:
                name = f"{verb} {cards[0].profile.id}"
                button.shape("", "icon", icon, name)
                button.setToolTip(name)
        self._show_whole(None if several or not cards else cards[0], seat_of, entry)
        self._show_rows(cards if several else (), seat_of)
        self._show_sentence(entry.incomplete if not cards else "")
        self._show_rest(entry.rest_from if not cards else "")
        used = any(is_here(card, seat_of(card)) for card in cards)
        restyle(self, selected="true" if used else "false")

    def _show_whole(self, card: ProfileCard | None, seat_of: SeatOf, entry: Entry) -> None:
        if card is None:
            if self._whole is not None:
                self._whole.hide()
            return
        if self._whole is None:
            self._whole = WholeWay(self._theme, self._wishes)
            self._places.addWidget(self._whole, 1)
            self._watch(self._whole.stops())
        self._whole.show_card(card, seat_of(card), self._now, _tags(entry))
        self._whole.show()

    def _show_rows(self, cards: tuple[ProfileCard, ...], seat_of: SeatOf) -> None:
        shown = shown_rows(cards, seat_of)
        while len(self._rows) < len(shown):
            made = RowWay(self._theme, self._wishes)
            self._rows.append(made)
            self._places.insertWidget(len(self._rows) - 1, made)
            self._watch(made.stops())
        best = next((card for card in cards if _fits(card)), None)
        for way, card in zip(self._rows, shown, strict=False):
            way.show_card(card, seat_of(card), self._now, way_name(card, cards), card is best)
            way.show()
        for way in self._rows[len(shown) :]:
            way.hide()
        rest = len(cards) - len(shown)
        self._all.setVisible(rest > 0)
        if rest > 0:
            self._all.shape(f"{rest} more", "link", "chevron-right", f"All ways to load {self._title.text()}")
        if shown:
            self._places.setAlignment(Qt.AlignmentFlag.AlignTop)
        else:
            self._places.setAlignment(Qt.AlignmentFlag(0))

    def _show_sentence(self, text: str) -> None:
        if text and self._sentence is None:
            self._sentence = LinesLabel(self._theme, 5, "small", "muted")
            self._places.addWidget(self._sentence, 0, Qt.AlignmentFlag.AlignTop)
        if self._sentence is not None:
            self._sentence.say(text)
            self._sentence.setVisible(bool(text))

    def _show_rest(self, name: str) -> None:
        if name and self._rest is None:
            self._rest = Button(self._theme, "Get the rest", "", "download")
            self._rest.clicked.connect(
                lambda: self._wishes.rest_wanted.emit(self.entry.rest_from if self.entry else "")
            )
            self._places.addStretch(1)
            self._places.addWidget(self._rest)
        if self._rest is not None:
            self._rest.setAccessibleName(f"Get the rest of {name}")
            self._rest.setVisible(bool(name))

    def stops(self) -> list[QWidget]:
        """Where Tab halts, in reading order."""
        ways = [stop for way in self._rows for stop in way.stops()]
        whole = self._whole.stops() if self._whole is not None else []
        rest = [self._rest] if self._rest is not None else []
        return [self._plan, self._more, *ways, *whole, *rest, self._all]

    # --- wishes ------------------------------------------------------------------------------------------------------

    def _wish_plan(self) -> None:
        if self.entry is not None and self.entry.cards:
            self._wishes.plan_wanted.emit(self.entry.cards[0].profile.id)

    def _open_menu(self) -> None:
        if self.entry is not None and self.entry.cards:
            self._wishes.open_menu(self.entry.cards[0], self._now, self._more)

    def _watch(self, widgets: list[QWidget]) -> None:
        for widget in widgets:
            widget.installEventFilter(self)

    def _pointed(self, widget: object = None) -> str:
        """The profile that is meant by this part of the card."""
        for way in self._rows:
            if way.isVisibleTo(self) and (widget is way or widget in way.stops()):
                return way.profile_id
        return self.entry.cards[0].profile.id if self.entry is not None and self.entry.cards else ""

    def enterEvent(self, event: QEvent) -> None:
        self._wishes.pointed.emit(self._pointed())

    def leaveEvent(self, event: QEvent) -> None:
        self._wishes.pointed.emit("")

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() in (QEvent.Type.FocusIn, QEvent.Type.Enter):
            self._wishes.pointed.emit(self._pointed(watched))
        elif event.type() == QEvent.Type.FocusOut:
            self._wishes.pointed.emit("")
        return False

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """A click beside the buttons of a card with one way opens its plan."""
        if event.button() == Qt.MouseButton.LeftButton and self.entry is not None and len(self.entry.cards) == 1:
            self._wish_plan()


def shown_rows(cards: tuple[ProfileCard, ...], seat_of: SeatOf) -> tuple[ProfileCard, ...]:
    """What a card has room for: what is loaded, then what fits, best first; told in the order of all."""
    if len(cards) <= MOST_ROWS:
        return cards
    ranked = sorted(cards, key=lambda card: (not is_here(card, seat_of(card)), not _fits(card)))
    chosen = {card.profile.id for card in ranked[:MOST_ROWS]}
    return tuple(card for card in cards if card.profile.id in chosen)


def _fits(card: ProfileCard) -> bool:
    return card.available and card.engine_available and card.plan is not None and card.plan.is_admitted


def _tags(entry: Entry) -> str:
    return " · ".join(CAPABILITIES[each].lower() for each in entry.capabilities)


def _facts_line(entry: Entry) -> str:
    facts = next((card.facts for card in entry.cards if card.facts is not None), None)
    if len(entry.cards) == 1:
        return wording.model_facts(entry.cards[0])
    size = wording.parameters(facts.parameters) if facts is not None else ""
    forms = f"{entry.forms} forms" if entry.forms > 1 else ""
    return " · ".join(part for part in (size, forms, _tags(entry)) if part)


def _place_line(entry: Entry) -> str:
    """Engine, disk use with what lies beside it, and in whose store."""
    engines = dict.fromkeys(wording.engine(card.profile.engine) for card in entry.cards)
    beside = dict.fromkeys(_BESIDE.get(each.role, each.role) for each in entry.group.companions) if entry.group else {}
    disk = f"{wording.size(entry.disk_bytes)} on disk" if entry.disk_bytes else ""
    if disk and beside:
        disk += f" with {' and '.join(beside)}"
    return " · ".join(part for part in (", ".join(engines), disk, entry.store) if part)


_BESIDE = {"vision": "vision part", "draft": "draft model", "lora": "LoRA"}
