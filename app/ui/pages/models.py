"""The home page: live memory, what the seat is going through, and every model with the one thing to do with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from PySide6.QtCore import QTimer, Signal
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QVBoxLayout

from app.core import lifecycle as phases
from app.core.control import CommandOf, CommandView, Unload, Want
from app.core.errors import EngineRoomError
from app.core.lifecycle import Failure
from app.core.memory.plan_types import Remedy
from app.core.snapshot import ProfileCard, SeatView
from app.ui import wording
from app.ui.failures import failure_of
from app.ui.keys.words import key_of
from app.ui.library.deeds import Deed, Now
from app.ui.library.entries import Entry, choices_of, entries_of, filtered
from app.ui.library.field import TileField
from app.ui.library.filter_bar import FilterBar
from app.ui.library.nothing import Nothing, Problems
from app.ui.library.tile import ModelTile
from app.ui.library.way import Wishes
from app.ui.link import Link
from app.ui.store import Store, profile_in
from app.ui.theme import Theme
from app.ui.widgets.controls import Button, SearchField
from app.ui.widgets.layout import PageColumn, row
from app.ui.widgets.memory_panel import MemoryPanel
from app.ui.widgets.notice import NoticeBar
from app.ui.widgets.seat_panels import FailurePanel, LoadPanel
from app.ui.widgets.sheet import confirm
from app.ui.widgets.text import Label

if TYPE_CHECKING:
    from app.ui.profiles.texts import ProfileTexts
    from app.ui.widgets.seats_card import SeatsCard


FEWEST_TO_FILTER = 5  # fewer cards are seen at once


class ModelsPage(PageColumn):
    """`page_wanted` asks the window for another page and what to show there."""

    page_wanted = Signal(str, object)

    def __init__(self, store: Store, link: Link, theme: Theme, texts: ProfileTexts) -> None:
        super().__init__()
        self._store, self._link, self._theme, self._texts = store, link, theme, texts
        self._entries: tuple[Entry, ...] = ()
        self._pointed = ""
        self._dismissed: tuple[Failure, ...] = ()
        self.memory = MemoryPanel(theme)
        self.load_panel = LoadPanel(theme, store)
        self.failure_panel = FailurePanel(theme, store)
        self.again = NoticeBar(theme, closable=False)
        self._heading = Label(theme, "Models", "title")
        self._count = Label(theme, "", "small_number", "faint")
        self.search = SearchField(theme, "Search models", "Search models")
        self.search.setFixedWidth(260)
        self.filters = FilterBar(theme)
        self._wishes = Wishes(self)
        self._wishes.hide()
        self.field = TileField(self, self._new_tile, self._fill, self.filters.last_stop)
        self._elsewhere_head = Button(theme, "", "link", "chevron-right", "Suggested models")
        self._elsewhere_head.setProperty("tone", "muted")
        self._elsewhere_head.setCheckable(True)
        self.elsewhere = TileField(self, self._new_tile, self._fill, self._elsewhere_head)
        self.empty = Nothing(theme)
        self._no_match = Label(theme, "", "body", "muted")
        self.problems = Problems(theme)
        self._arrange()
        self._connect()
        self._show_library()
        self._show_seat()

    def _arrange(self) -> None:
        head = row(self._heading, self._count, None, self.search)
        self._seats_place = QVBoxLayout()  # filled where there is more than one seat
        self._seats: SeatsCard | None = None
        self._load_panels: dict[str, LoadPanel] = {}
        self.column.addLayout(self._seats_place)
        for part in (self.load_panel, self.failure_panel, self.again, self.memory):
            self.column.addWidget(part)
        self.column.addSpacing(4)
        self.column.addLayout(head)
        self.column.addWidget(self.filters)
        for part in (self.field, self._no_match, self.empty):
            self.column.addWidget(part)
        self.column.addLayout(row(self._elsewhere_head, None))
        self.column.addWidget(self.elsewhere)
        self.column.addWidget(self.problems)
        self.column.addStretch(1)

    def _connect(self) -> None:
        store = self._store
        store.library_changed.connect(self._show_library)
        store.seats_changed.connect(self._show_seat)
        store.connection_changed.connect(self._show_seat)
        store.gpus_changed.connect(self._show_memory)
        store.keys_changed.connect(self._filter)
        self.search.textChanged.connect(self._filter)
        self.filters.changed.connect(self._filter)
        self._elsewhere_head.toggled.connect(self._filter)
        wishes = self._wishes
        wishes.deed_wanted.connect(self._do)
        wishes.remedy_wanted.connect(self._remedy)
        wishes.plan_wanted.connect(lambda name: self.page_wanted.emit("plan", name))
        wishes.rest_wanted.connect(lambda name: self.page_wanted.emit("download", name))
        wishes.command_wanted.connect(self._copy_command)
        wishes.edit_wanted.connect(
            lambda name, copy: self.page_wanted.emit("profile", f"copy:{name}" if copy else name)
        )
        wishes.seat_wanted.connect(lambda name, seat: self._load(name, {}, seat=seat))
        wishes.comfort_wanted.connect(self._set_comfort)
        wishes.pointed.connect(self._point)
        self.failure_panel.retry_wanted.connect(
            lambda profile_id, settings, gpus: self._load(profile_id, settings, gpus=gpus)
        )
        self.failure_panel.override_wanted.connect(self._ask_override)
        self.failure_panel.log_wanted.connect(lambda evidence: self.page_wanted.emit("logs", evidence))
        self.failure_panel.dismissed.connect(self._dismiss_failure)
        self.again.acted.connect(self._again)
        self.empty.settings.clicked.connect(lambda: self.page_wanted.emit("settings", None))
        self.empty.download.clicked.connect(lambda: self.page_wanted.emit("download", ""))
        self._calm = QTimer(self)  # the pointer crosses gaps between cards: the bar must not flicker
        self._calm.setSingleShot(True)
        self._calm.setInterval(60)
        self._calm.timeout.connect(self._show_memory)

    def choose_model(self) -> None:
        self.search.setFocus()
        self.search.selectAll()

    # --- showing -----------------------------------------------------------------------------------------------------

    def _show_library(self) -> None:
        library = self._store.library
        self._entries = entries_of(library)
        known = "library" in self._store.known
        for part in (self._heading, self.search):
            part.setVisible(bool(self._entries))
        self.filters.show_choices(choices_of(library))
        self.empty.setVisible(not self._entries)
        self.empty.show_state(known, library)
        self.problems.show_problems(self._store)
        self._filter()
        self._show_memory()

    def _new_tile(self) -> ModelTile:
        tile = ModelTile(self._theme, self._wishes)
        tile.all_wanted.connect(lambda key: self.page_wanted.emit("plan", key))
        return tile

    def _fill(self, tile: ModelTile, entry: Entry) -> None:
        seats = tuple(seat.name for seat in self._store.seats.seats)
        keys = self._store.keys.keys if "keys" in self._store.known else None
        tile.show_entry(entry, self._seat_shown, Now(self._store.connected, seats, keys))

    def _seat_shown(self, card: ProfileCard) -> SeatView:
        return self._seat_of(card) if self._store.connected else SeatView(name=card.profile.seat)

    def _seat_of(self, card: ProfileCard) -> SeatView:
        """The seat on which the profile is, else the one where it would be loaded."""
        here = (seat for seat in self._store.seats.seats if card.profile.id in (profile_in(seat.phase), seat.wanted))
        return next(here, self._store.seat(card.profile.seat))

    def _show_seats(self, connected: bool) -> None:
        """With one seat there is nothing to tell apart."""
        seats = self._store.seats
        if len(seats.seats) > 1 and self._seats is None:
            from app.ui.widgets.seats_card import SeatsCard

            self._seats = SeatsCard(self._theme, self._store)
            self._seats.stop_wanted.connect(lambda seat: self._link.send("/control/unload", Unload(seat=seat)))
            self._seats.return_wanted.connect(lambda seat: self._link.send("/control/lend/return", Unload(seat=seat)))
            self._seats_place.addWidget(self._seats)
        if self._seats is not None:
            self._seats.setVisible(len(seats.seats) > 1)
            self._seats.show_seats(seats, connected)
        for seat in seats.seats[1:]:
            if wording.is_loading(seat) and seat.name not in self._load_panels:
                self._load_panels[seat.name] = LoadPanel(self._theme, self._store)
                self._seats_place.addWidget(self._load_panels[seat.name])
            if seat.name in self._load_panels:
                self._load_panels[seat.name].show_seat(seat if connected else SeatView(name=seat.name))

    def _show_seat(self) -> None:
        seat, connected = self._store.seat(), self._store.connected
        self._filter()
        self._show_seats(connected)
        self.load_panel.show_seat(seat if connected else SeatView(name=seat.name))
        self._dismissed = tuple(one for one in self._dismissed if one in map(failure_of, self._store.seats.seats))
        failed = self._failed_seat()
        failure = failure_of(failed) if failed is not None else None
        self.failure_panel.show_failure(failure, (failed or seat).notice, connected)
        resting = bool(seat.resting or seat.lent_until_unix)
        idle = connected and isinstance(seat.phase, phases.Idle) and not resting
        title = self._store.title_of(seat.previous)
        if connected and seat.outdated:
            current = self._store.title_of(profile_in(seat.phase))
            self.again.say(f"{current} was changed since it was loaded.", "info", "Load it again with the changes")
        elif idle and seat.previous and failure is None:
            self.again.say("Nothing is loaded.", "info", f"Load {title} again")
        else:
            self.again.say("")
        self._show_memory()

    def _show_memory(self) -> None:
        seat = self._store.seat()
        here = profile_in(seat.phase)
        subject = self._pointed or (here if wording.is_loading(seat) else "") or ""
        card = self._store.card(subject)
        failed = isinstance(seat.phase, phases.Failed)
        ready_here = subject == here and not wording.is_loading(seat) and not failed
        plan = card.plan if card is not None and not ready_here else None
        joins = subject == here and not failed
        self.memory.show_memory(self._store.gpus, seat, plan, self._store.title_of(subject), joins)
        self.memory.setVisible("gpus" in self._store.known)
        self.memory.setEnabled(self._store.connected)

    def _filter(self) -> None:
        text = self.search.text().strip()
        wish = msgspec.structs.replace(self.filters.wish, text=text)
        found = filtered(self._entries, wish)
        here = tuple(entry for entry in found if not entry.is_elsewhere)
        elsewhere = tuple(entry for entry in found if entry.is_elsewhere)
        some = len(self._entries) >= FEWEST_TO_FILTER or self.filters.wish.is_set
        self.filters.setVisible(some)
        self.field.setVisible(bool(here))
        self.field.show_entries(here)
        self._show_elsewhere(elsewhere, open_=self._elsewhere_head.isChecked() or (bool(text) and not here))
        self._no_match.setVisible(wish.is_set and not found)
        self._no_match.say(
            f"No model matches “{text}”."
            if wish.asks_only_text
            else "No model is like that. Clear a filter to see more."
        )
        many = sum(1 for entry in self._entries if not entry.is_elsewhere)
        unread = self._store.library.unread
        counted = f"{len(here)} of {many}" if wish.is_set else f"{many}" if many else ""
        self._count.say(f"{counted} · {unread:,} more being read" if counted and unread else counted)

    def _show_elsewhere(self, entries: tuple[Entry, ...], open_: bool) -> None:
        """Models that Engine Room knows how to load well, and that are not here: out of the way until asked for."""
        head = self._elsewhere_head
        head.setVisible(bool(entries))
        words = f"{len(entries)} more that Engine Room knows, not on this machine"
        head.shape(words, "link", "chevron-down" if open_ else "chevron-right", words)
        self.elsewhere.setVisible(open_ and bool(entries))
        self.elsewhere.show_entries(entries if open_ else ())

    def _point(self, profile_id: str) -> None:
        self._pointed = profile_id
        self._calm.start()

    # --- doing -------------------------------------------------------------------------------------------------------

    def _do(self, profile_id: str, deed: Deed) -> None:
        match deed:
            case Deed.LOAD | Deed.SWITCH:
                self._load(profile_id, {})
            case Deed.CANCEL:
                self._cancel(profile_id)
            case Deed.CHAT:
                self.page_wanted.emit("chat", profile_id)
            case Deed.GET_ENGINE:
                self.page_wanted.emit("engines", None)
            case Deed.LOAD_ANYWAY:
                self._ask_override(profile_id)
            case Deed.GIVE_KEY:
                self._ask_key(profile_id)
            case Deed.DOWNLOAD:
                card = self._store.card(profile_id)
                self.page_wanted.emit("download", card.profile.model if card is not None else "")

    def _ask_key(self, profile_id: str) -> None:
        from app.ui.keys.ask import ask_key

        card = self._store.card(profile_id)
        if card is not None:
            ask_key(self._theme, self._link, self, key_of(card))

    def _again(self) -> None:
        seat = self._store.seat()
        if seat.outdated:
            self._link.send("/control/restart", Unload(seat=seat.name))
        else:
            self._load(seat.previous or "", {})

    def _load(
        self,
        profile_id: str,
        settings: dict[str, str | int | float | bool],
        override: bool = False,
        seat: str = "",
        gpus: tuple[str, ...] = (),
    ) -> None:
        """`seat` "" = the profile's own."""
        if not profile_id:
            return
        self._link.send(
            "/control/want", Want(profile=profile_id, seat=seat, settings=settings, override=override, gpus=gpus)
        )

    def _remedy(self, profile_id: str, remedy: Remedy) -> None:
        self._load(profile_id, dict(remedy.settings), gpus=remedy.gpus)

    def _cancel(self, profile_id: str) -> None:
        card = self._store.card(profile_id)
        seat = self._seat_of(card).name if card is not None else "main"
        self._link.send("/control/unload", Unload(seat=seat))

    def _ask_override(self, profile_id: str) -> None:
        card = self._store.card(profile_id)
        summary = card.plan.summary if card and card.plan else "The check says that it does not fit."
        confirm(
            self._theme,
            self,
            f"Load {self._store.title_of(profile_id)} anyway?",
            f"{summary} Loading it anyway can fail, or slow down whatever else uses this memory.",
            "Load anyway",
            lambda: self._load(profile_id, {}, override=True),
            "danger",
        )

    def _failed_seat(self) -> SeatView | None:
        """The first whose failure nobody has closed."""
        told = (None, *self._dismissed)
        return next((seat for seat in self._store.seats.seats if failure_of(seat) not in told), None)

    def _dismiss_failure(self) -> None:
        failed = self._failed_seat()
        if failed is not None and (failure := failure_of(failed)) is not None:
            self._dismissed += (failure,)
        self._show_seat()

    def _set_comfort(self, profile_id: str, key: str, on: bool) -> None:
        """One switch of a profile, written into its file."""
        self._texts.change(profile_id, {(key,): True if on else None})

    def _copy_command(self, profile_id: str) -> None:
        async def run() -> None:
            import shlex

            try:
                view = await self._link.post("/control/command", CommandOf(profile=profile_id), CommandView)
            except EngineRoomError as error:
                self._link.refused.emit(error)
                return
            words = [f"{name}={shlex.quote(value)}" for name, value in view.environment.items()]
            QGuiApplication.clipboard().setText(" ".join([*words, shlex.join(view.argv)]))

        self._link.tasks.start(run(), "copy command line")
