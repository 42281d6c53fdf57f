"""The plan of one model before it is loaded: what it takes, what can be changed, loading it like this, keeping the change."""

from __future__ import annotations

from contextlib import suppress

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtWidgets import QComboBox, QVBoxLayout, QWidget
from shiboken6 import isValid

from app.core import lifecycle as phases
from app.core.control import OptionsView, ProfileText, Want
from app.core.errors import EngineRoomError
from app.core.memory.plan_types import MemoryPlan, Remedy
from app.core.options import Option, Scalar
from app.core.profiles import with_defaults
from app.core.snapshot import ProfileCard, RunView
from app.ui import wording
from app.ui.keys.ask import ask_key
from app.ui.keys.words import lacking
from app.ui.library.entries import entries_of
from app.ui.library.way import way_name
from app.ui.link import Link
from app.ui.plan.panel import PlanPanel
from app.ui.plan.pricing import pricing_of
from app.ui.profiles.texts import Asker, Key, ProfileTexts
from app.ui.store import Store, profile_in
from app.ui.theme import Space, Theme
from app.ui.widgets.controls import Button
from app.ui.widgets.layout import PageColumn, row
from app.ui.widgets.notice import NoticeBar
from app.ui.widgets.sheet import confirm
from app.ui.widgets.text import ElidedLabel

FRAME_MS = 16
CALM_MS = 120  # after the last change, remedies and the longest context are looked for
WIDEST = 1200


class PlanView(QWidget):
    """`closed` goes back; `page_wanted` asks for another page."""

    closed = Signal()
    page_wanted = Signal(str, object)

    def __init__(self, store: Store, link: Link, theme: Theme, texts: ProfileTexts, profile_id: str) -> None:
        super().__init__()
        self._store, self._link, self._theme, self._texts = store, link, theme, texts
        self._id = profile_id
        self._options: dict[str, tuple[Option, ...]] = {}
        self.changes: dict[str, Scalar] = {}
        self.gpus: tuple[str, ...] = ()  # in place of the profile's own cards
        self.plan: MemoryPlan | None = None
        self._asked = ""  # the load of which the engine's own opinion was asked for last
        self._build()
        self._frame = QTimer(self, singleShot=True, interval=FRAME_MS)
        self._frame.timeout.connect(self._reprice)
        self._calm = QTimer(self, singleShot=True, interval=CALM_MS)
        self._calm.timeout.connect(lambda: self._reprice(solve=True))
        for changed in (store.gpus_changed, store.service_changed, store.engines_changed, store.learnt_changed):
            changed.connect(self._later)
        for changed in (store.library_changed, store.seats_changed, store.runs_changed, store.connection_changed):
            changed.connect(self._show_state)
        store.connection_changed.connect(self._read_options)
        store.keys_changed.connect(self._show_buttons)
        self._read_options()
        self._show_state()
        self._reprice(solve=True)

    def _build(self) -> None:
        theme = self._theme
        back = Button(theme, "Models", "quiet", "chevron-left", "Back to Models")
        back.clicked.connect(self.closed)
        self._title = ElidedLabel(theme, "", "heading")
        self._ways = QComboBox()
        self._ways.setAccessibleName("Which form")
        self._ways.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToContents)
        self._ways.activated.connect(self._choose_way)
        self._edit = Button(theme, "", "icon", "edit", "Edit")
        self._edit.clicked.connect(lambda: self.page_wanted.emit("profile", self._id))
        self._reset = Button(theme, "Reset", "quiet", "undo", "Reset the changes")
        self._reset.clicked.connect(self.reset)
        self._save = Button(theme, "Save to profile", "", "check", "Save to profile")
        self._save.clicked.connect(self.save)
        self._load = Button(theme, "Load like this", "primary", "play", "Load like this")
        self._load.clicked.connect(self.load)
        head = row(spacing=Space.small)
        head.setContentsMargins(Space.huge - Space.small, Space.large, Space.huge, Space.medium)
        head.addWidget(back)
        head.addWidget(self._title, 1)
        for part in (self._edit, self._reset, self._save, self._load):
            head.addWidget(part)
        self.notice = NoticeBar(theme)
        self.notice.closed.connect(lambda: self.notice.say(""))
        self.panel = PlanPanel(theme)
        self.panel.turned.connect(self.turn)
        self.panel.remedy_chosen.connect(self._take_remedy)
        page = PageColumn(widest=WIDEST)
        page.column.addWidget(self.notice)
        # Not in the head, where it would leave the title no room.
        page.column.addWidget(self._ways, 0, Qt.AlignmentFlag.AlignLeft)
        page.column.addWidget(self.panel)
        page.column.addStretch(1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addLayout(head)
        column.addWidget(page, 1)

    # --- what is planned ---------------------------------------------------------------------------------------------

    @property
    def profile_id(self) -> str:
        return self._id

    @property
    def card(self) -> ProfileCard | None:
        return self._store.card(self._id)

    @property
    def _lacking(self) -> str:
        """The name of the key that is missing; "" = none is."""
        known = "keys" in self._store.known
        return lacking(self.card, self._store.keys.keys) if known and self.card is not None else ""

    @property
    def settings(self) -> dict[str, Scalar]:
        """The profile's own, with the changes over them."""
        card = self.card
        return {**(card.profile.settings if card is not None else {}), **self.changes}

    def turn(self, changes: dict[str, Scalar]) -> None:
        """Takes changed settings; what is as the profile says it is no change."""
        card = self.card
        own = card.profile.settings if card is not None else {}
        for name, value in changes.items():
            if own.get(name) == value:
                self.changes.pop(name, None)
            else:
                self.changes[name] = value
        self._show_buttons()
        self._later()

    def reset(self) -> None:
        self.changes, self.gpus = {}, ()
        self._show_buttons()
        self._later()

    def _take_remedy(self, remedy: Remedy) -> None:
        self.gpus = remedy.gpus or self.gpus
        self.turn(dict(remedy.settings))
        self._reprice(solve=True)

    def _later(self) -> None:
        """At most one price a frame, however fast the slider moves; the rest when it has come to rest."""
        if not self._frame.isActive():
            self._frame.start()
        self._calm.start()

    def _reprice(self, solve: bool = False) -> None:
        card = self.card
        if card is None:
            return
        options = self._options.get(card.profile.engine, ())
        self.plan = pricing_of(self._store, card, options, self.gpus).plan(self.settings, solve)
        self.panel.show_model(card, options, self._store.gpus)
        self.panel.show_plan(self.plan, with_defaults(options, self.settings), solve)
        self._show_buttons()
        if solve:
            self._ask_for_opinion(self.plan.subject)

    def _ask_for_opinion(self, subject: str) -> None:
        """Once for each load that the sliders come to rest on: the service asks the engine, and tells what it says to all."""
        if not subject or subject == self._asked or not self._store.connected:
            return
        self._asked = subject
        wish = Want(profile=self._id, settings=dict(self.changes), gpus=self.gpus)

        async def run() -> None:
            with suppress(EngineRoomError):  # the plan stands without it
                await self._link.post("/control/plan", wish, MemoryPlan)

        self._link.tasks.start(run(), "second opinion")

    def _read_options(self) -> None:
        """Once; again when somebody answers who did not before."""
        if self._options:
            return

        async def run() -> None:
            try:
                view = await self._link.get("/control/engines/options", OptionsView)
            except EngineRoomError:
                return  # the connection bar says so; bars and sentence are there all the same
            if isValid(self):
                self._options = dict(view.families)
                self._reprice(solve=True)

        self._link.tasks.start(run(), "settings tables")

    # --- showing -----------------------------------------------------------------------------------------------------

    def _show_state(self) -> None:
        card = self.card
        if card is None:
            self._title.say(self._id)
            self.notice.say("This profile is not there any more.", "warning")
            self._show_buttons()
            return
        entry = next(
            (one for one in entries_of(self._store.library) if any(c.profile.id == self._id for c in one.cards)), None
        )
        cards = entry.cards if entry is not None else (card,)
        self._title.say(entry.title if entry is not None else card.profile.title)
        self._show_ways(cards)
        name = f"Edit {self._id}"
        self._edit.shape("", "icon", "edit", name)
        self._edit.setToolTip(name)
        self.panel.show_run(self._run())
        self._show_buttons()
        self._later()

    def _show_ways(self, cards: tuple[ProfileCard, ...]) -> None:
        self._ways.setVisible(len(cards) > 1)
        shown = [(f"{way_name(card, cards)} · {wording.verdict(card).text}", card.profile.id) for card in cards]
        if shown != [(self._ways.itemText(n), self._ways.itemData(n)) for n in range(self._ways.count())]:
            self._ways.clear()
            for words, profile_id in shown:
                self._ways.addItem(words, profile_id)
        self._ways.setCurrentIndex(next((n for n, (_, each) in enumerate(shown) if each == self._id), 0))

    def _choose_way(self, place: int) -> None:
        self._id = str(self._ways.itemData(place))
        self.changes, self.gpus = {}, ()
        self._show_state()
        self._reprice(solve=True)

    def _show_buttons(self) -> None:
        card, connected, changed = self.card, self._store.connected, bool(self.changes or self.gpus)
        can = connected and card is not None and card.available and card.engine_available and card.problem is None
        here = profile_in(self._seat_phase()) == self._id
        refused = self.plan is not None and not self.plan.is_admitted
        loaded = here and not changed and isinstance(self._seat_phase(), phases.Ready | phases.Stalled)
        text = "Load anyway …" if refused else "Load again like this" if here and changed else "Load like this"
        if self._lacking:
            self._load.shape("Give the key …", "primary", "key", f"Give the key of {self._id}")
        elif loaded:
            self._load.shape("Loaded like this", "", "check", "Loaded like this")
        else:
            self._load.shape(text, "" if refused else "primary", "warning" if refused else "play", "Load like this")
        self._load.setEnabled(can and not loaded)
        why = card.problem.summary if card is not None and card.problem is not None else ""
        self._load.setToolTip("" if can else why)
        own = card is not None and card.profile.source not in ("shipped", "found", "")
        self._save.shape("Save to profile" if own else "Save as my own", "", "check", "Save to profile")
        self._save.setEnabled(connected and changed)
        self._save.setVisible(changed)
        self._reset.setVisible(changed)

    def _seat_phase(self) -> phases.Phase:
        card = self.card
        return self._store.seat(card.profile.seat).phase if card is not None else phases.Idle()

    def _run(self) -> RunView | None:
        """The newest run of this profile with figures to compare."""
        runs = [seat.run for seat in self._store.seats.seats if seat.run is not None]
        every = (*runs, *self._store.runs.runs)
        return next((run for run in every if run.profile_id == self._id and run.plan and run.measured_bytes), None)

    # --- doing -------------------------------------------------------------------------------------------------------

    def load(self) -> None:
        if self._lacking:
            ask_key(self._theme, self._link, self, self._lacking)
            return
        if self.plan is not None and not self.plan.is_admitted:
            confirm(
                self._theme,
                self,
                f"Load {self._title.text()} anyway?",
                f"{self.plan.summary} Loading it anyway can fail, or slow down whatever else uses this memory.",
                "Load anyway",
                lambda: self._send(override=True),
                "danger",
            )
            return
        self._send()

    def _send(self, override: bool = False) -> None:
        wish = Want(profile=self._id, settings=dict(self.changes), override=override, gpus=self.gpus)
        self._link.send("/control/want", wish)
        self.closed.emit()  # the page below shows each stage of the load

    def save(self) -> None:
        """Writes the changes into the profile's file; of one that is not the person's own, into a copy of it."""
        profile_id, changes, gpus = self._id, dict(self.changes), self.gpus  # another way may be chosen meanwhile
        values: dict[Key, object] = {("settings", name): value for name, value in changes.items()}
        if gpus:
            values[("gpus",)] = list(gpus)

        def saved(_sent: ProfileText, _saved: ProfileText) -> None:
            self.changes = {name: value for name, value in self.changes.items() if changes.get(name) != value}
            self.gpus = () if self.gpus == gpus else self.gpus
            self.notice.say("Saved. The profile loads like this from now on.", "good")
            self._show_buttons()

        def refused(error: EngineRoomError) -> None:
            self.notice.say(f"{error.summary} {error.advice}".rstrip(), "danger")

        asker = Asker(lambda: isValid(self) and self._id == profile_id, saved, refused)
        self._texts.change(profile_id, values, asker)
