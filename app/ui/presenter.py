"""Decides what the window's frame shows for what the store knows, and carries the frame's commands to the service."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from PySide6.QtCore import QObject, QTimer
from PySide6.QtWidgets import QWidget

from app.core import lifecycle as phases
from app.core.control import Lend, Park, Unload
from app.core.errors import EngineRoomError
from app.core.snapshot import SeatView
from app.ui import wording
from app.ui.failures import failure_of
from app.ui.global_shortcut import GlobalShortcut
from app.ui.link import Link
from app.ui.profiles.texts import ProfileTexts
from app.ui.store import Connection, Store, profile_in
from app.ui.theme import Theme
from app.ui.widgets.notice import NoticeBar
from app.ui.window import Window

UNLOAD_SECONDS = 90.0
LEND_MINUTES = 30.0


class Presenter(QObject):
    def __init__(self, window: Window, store: Store, link: Link, theme: Theme, leave: Callable[[], None]) -> None:
        """`leave` ends the application."""
        super().__init__()
        self.window, self.store, self.link, self.theme = window, store, link, theme
        self._leave = leave
        self.texts = ProfileTexts(link)
        self._dismissed: set[str] = set()
        self._notice = ""
        self._unloading = False
        self._gone = asyncio.Event()
        window.has_model = lambda: store.connected and profile_in(store.seat().phase) is not None
        window.header.stop_wanted.connect(self.stop)
        window.header.lend_wanted.connect(self.lend)
        window.header.park_wanted.connect(lambda: self.link.send("/control/park", Park()))
        window.header.return_wanted.connect(self.give_back)
        window.header.seat_pressed.connect(lambda _: self.go("models"))
        window.lend_toggled.connect(self.toggle_lend)
        self.shortcut = GlobalShortcut(link.tasks, window.remembered)
        self.shortcut.pressed.connect(self.toggle_lend)
        window.unload_wanted.connect(self.unload_and_leave)
        window.connection_bar.acted.connect(link.retry_now)
        window.notice_bar.closed.connect(self._dismiss)
        window.header.copied.connect(lambda url: window.toast.say("Endpoint URL copied", tone="good"))
        link.refused.connect(self._refused)
        link.told.connect(lambda sentence: window.toast.say(sentence, tone="good"))
        for changed in (store.seats_changed, store.library_changed):
            changed.connect(self._show_seat)
        store.traffic_changed.connect(self._show_traffic)
        store.service_changed.connect(self._show_service)
        store.connection_changed.connect(self._show_connection)
        self._minute = QTimer(self)
        self._minute.setInterval(20_000)
        self._minute.timeout.connect(self._show_seat)
        self._minute.start()
        self._show_all()
        window.page_opened.connect(self._show_notice)
        window.set_pages(self.make_page)
        self.shortcut.start()

    # --- pages -------------------------------------------------------------------------------------------------------

    def make_page(self, key: str) -> QWidget:
        page = self._made(key)
        if hasattr(page, "page_wanted"):
            page.page_wanted.connect(self.go)
        return page

    def _made(self, key: str) -> QWidget:
        given = (self.store, self.link, self.theme)
        match key:
            case "chat":
                from app.ui.pages.chat import ChatPage

                return ChatPage(*given)
            case "download":
                from app.ui.pages.download import DownloadPage

                return DownloadPage(*given)
            case "logs":
                from app.ui.pages.logs import LogsPage

                return LogsPage(*given)
            case "monitor":
                from app.ui.pages.monitor import MonitorPage

                return MonitorPage(*given)
            case "engines":
                from app.ui.pages.engines import EnginesPage

                return EnginesPage(*given)
            case "settings":
                from app.ui.pages.settings import SettingsPage

                return SettingsPage(*given, self.shortcut)
            case _:
                from app.ui.pages.models import ModelsPage

                return ModelsPage(*given, self.texts)

    def go(self, key: str, what: object = None) -> None:
        """Opens a page; `what` is what it shall show there: an `Evidence` for the logs, a profile's id for its editor or its
        plan, with "copy:" in front for another one made of it."""
        if key == "profile" and isinstance(what, str):
            self.edit(what.removeprefix("copy:"), copy=what.startswith("copy:"))
            return
        if key == "plan" and isinstance(what, str):
            self.plan(what)
            return
        page = self.window.open_page(key)
        if isinstance(what, phases.Evidence) and page is not None and hasattr(page, "show_run"):
            page.show_run(what.run_id, what.log_offset)
        elif key == "download" and isinstance(what, str) and hasattr(page, "look_for"):
            page.look_for(what)
        elif key == "chat" and isinstance(what, str) and hasattr(page, "chat_with"):
            page.chat_with(what)

    def edit(self, profile_id: str, copy: bool = False) -> None:
        from app.ui.profiles.editor import ProfileEditor

        editor = ProfileEditor(self.store, self.link, self.theme, self.texts, profile_id, copy)
        editor.closed.connect(lambda: self.window.take_off("models"))
        self.window.lay_over("models", editor)

    def plan(self, profile_id: str) -> None:
        from app.ui.plan.view import PlanView

        view = PlanView(self.store, self.link, self.theme, self.texts, profile_id)
        view.closed.connect(lambda: self.window.take_off("models"))
        view.page_wanted.connect(self.go)
        self.window.lay_over("models", view)

    # --- commands ----------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        self.link.send("/control/unload", Unload())

    def lend(self, minutes: float) -> None:
        self.link.send("/control/lend", Lend(minutes=minutes))

    def give_back(self) -> None:
        self.link.send("/control/lend/return", Unload())

    def toggle_lend(self) -> None:
        seat = self.store.seat()
        if not self.store.connected:
            return
        if seat.lent_until_unix:
            self.give_back()
        elif profile_in(seat.phase) is not None:
            self.lend(LEND_MINUTES)

    def unload_and_leave(self) -> None:
        """Unloads everything, waits until the service has gone, then leaves; a second wish leaves at once."""
        if self._unloading or not self.store.connected:
            self._leave()
            return
        self._unloading = True
        self.window.connection_bar.say("Unloading the model and ending the service …", "info")

        async def run() -> None:
            await self.texts.settled()
            try:
                await self.link.leave_and_unload()
            except EngineRoomError as error:
                self._unloading = False
                self._show_connection()
                self._refused(error)
                return
            try:
                await asyncio.wait_for(self._gone.wait(), UNLOAD_SECONDS)
            except TimeoutError:
                pass  # its own budgets are shorter; what is left is told at its next start
            self._leave()

        self.link.tasks.start(run(), "quit and unload")

    def _refused(self, error: EngineRoomError) -> None:
        self.window.toast.say(
            error.summary, " ".join(part for part in (error.advice, error.evidence) if part), "danger"
        )

    # --- showing -----------------------------------------------------------------------------------------------------

    def _show_all(self) -> None:
        self._show_connection()
        self._show_seat()
        self._show_traffic()
        self._show_service()

    def _show_seat(self) -> None:
        header, seat, connected = self.window.header, self.store.seat(), self.store.connected
        if not connected and "seats" not in self.store.known:
            header.show_state("Engine Room", *_connection_words(self.store.connection), "")
        else:
            words = wording.seat_words(seat)
            if connected:
                header.show_state(self._title(seat), words.text, words.tone, words.busy, self._detail(seat))
            else:
                header.show_state(self._title(seat), *_connection_words(self.store.connection), "Last known state")
        away = bool(seat.lent_until_unix or seat.resting) and isinstance(seat.phase, phases.Idle)
        cancel = wording.is_loading(seat) or wording.is_switching(seat)
        header.show_stop(
            connected and (away or wording.can_stop(seat)), "Return now" if away else "Cancel" if cancel else "Stop"
        )
        lendable = seat.attached is None and isinstance(seat.phase, phases.Ready | phases.Stalled)
        header.show_lend(connected and lendable)
        header.show_wake(connected and isinstance(seat.phase, phases.Sleeping))
        others = [other for other in self.store.seats.seats if other.name != seat.name]
        header.show_seats(tuple((other.name, self._on_seat(other)) for other in others))
        self._show_traffic()
        self._show_notice()

    def _on_seat(self, seat: SeatView) -> str:
        """ "Gemma 3 12B" when it is ready, "Gemma 3 12B, loading 40 %" on the way, "second: free" when nothing is there."""
        title = self.store.title_of(profile_in(seat.phase) or seat.wanted)
        ready = isinstance(seat.phase, phases.Ready)
        return (
            f"{seat.name}: free"
            if not title
            else title
            if ready
            else f"{title}, {wording.seat_words(seat).text.lower()}"
        )

    def _title(self, seat: SeatView) -> str:
        subject = profile_in(seat.phase) or (seat.wanted if seat.resting or seat.lent_until_unix else None)
        if seat.wanted and subject and seat.wanted != subject:
            return f"{self.store.title_of(subject)} → {self.store.title_of(seat.wanted)}"
        return self.store.title_of(subject) or "No model loaded"

    def _detail(self, seat: SeatView) -> str:
        card = self.store.card(profile_in(seat.phase))
        if isinstance(seat.phase, phases.Idle | phases.Sleeping) and (
            away := wording.rest_words(seat, self.store.title_of(seat.wanted))
        ):
            return away
        if seat.run is not None and profile_in(seat.phase) == seat.run.profile_id:
            where = wording.attached_hint(seat)
            family = wording.engine(seat.run.engine)
            engine = f"{family} · {where}" if where else wording.engine_build(seat.run.engine, seat.run.engine_build)
        elif card is not None:
            engine = wording.engine(card.profile.engine)
        else:
            return "Choose one to load" if isinstance(seat.phase, phases.Idle) else ""
        match seat.phase:
            case phases.Ready(since=since):
                hint = wording.idle_hint(seat)
                return f"{engine} · {hint or f'up {wording.uptime(self.store.since(since))}'}"
            case phases.Loading(stage=stage, eta_seconds=eta):
                left = f" · about {wording.duration(eta)} left" if eta else ""
                return f"{engine} · {wording.stage_title(stage)}{left}"
            case phases.Stalled():
                return f"{engine} · no new token for a while"
        return engine

    def _show_traffic(self) -> None:
        traffic, seat = self.store.traffic, self.store.seat()
        live = self.store.connected and isinstance(seat.phase, phases.Ready | phases.Stalled | phases.Draining)
        rate = traffic.generation_tokens_per_second
        self.window.header.show_rate(wording.tokens_per_second(rate) if live else wording.DASH, not (live and rate))

    def _show_service(self) -> None:
        self.window.header.show_endpoint(self.store.service.gateway_url if self.store.connected else "")
        self._show_notice()

    def _show_connection(self) -> None:
        if self._unloading and not self.store.connected:
            self._gone.set()
        if not self._unloading:
            connection, message = self.store.connection, self.store.connection_message
            known = bool(self.store.known)
            match connection:
                case Connection.CONNECTED | Connection.CONNECTING:
                    self.window.connection_bar.say("")
                case Connection.STARTING:
                    text = f"The service stopped answering. {message}" if known else message
                    self.window.connection_bar.say(text, "warning" if known else "info")
                case _:
                    self.window.connection_bar.say(message, "danger", "Try again")
        self._show_seat()
        self._show_service()

    def _show_notice(self) -> None:
        service, seat = self.store.service, self.store.seat()
        problem = next((f"{p.summary} {p.advice}".strip() for p in service.problems), "")
        on_page = self.window.page_key == "models" and failure_of(seat) is not None  # the page says it in full
        told = [("" if on_page else seat.notice, "warning"), (service.gateway_notice, "info"), (problem, "warning")]
        bar: NoticeBar = self.window.notice_bar
        for text, tone in told:
            if text and text not in self._dismissed and self.store.connected:
                self._notice = text
                bar.say(text, tone)
                return
        bar.say("")

    def _dismiss(self) -> None:
        self._dismissed.add(self._notice)
        self._show_notice()


def _connection_words(connection: Connection) -> tuple[str, str, bool]:
    match connection:
        case Connection.GONE:
            return "Service gone", "danger", False
        case Connection.MISFIT:
            return "Another version", "danger", False
        case Connection.STARTING:
            return "Service starting", "accent", True
    return "Connecting", "muted", True
