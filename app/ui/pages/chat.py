"""The chat: conversations at the side, the one that is open in the middle, and the field to go on with it."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import QEvent, QObject, QPoint, Qt, QTimer, Signal
from PySide6.QtGui import QGuiApplication, QHideEvent, QKeySequence, QResizeEvent, QShortcut, QShowEvent
from PySide6.QtWidgets import QHBoxLayout, QStackedWidget, QVBoxLayout, QWidget

from app.core import lifecycle as phases
from app.core.conversation import Conversation
from app.ui.chat import documents, sampling
from app.ui.chat.composer import Composer
from app.ui.chat.conversations import Conversations
from app.ui.chat.footer import Footer
from app.ui.chat.greeting import Greeting
from app.ui.chat.partner import profiles_loaded, seat_for
from app.ui.chat.session import Session
from app.ui.chat.transcript import Transcript
from app.ui.link import Link
from app.ui.store import Store
from app.ui.theme import Space, Theme
from app.ui.widgets.controls import Button
from app.ui.widgets.notice import NoticeBar

NARROW = 900
UNDO_MS = 8_000


class ChatPage(QWidget):
    page_wanted = Signal(str, object)

    def __init__(self, store: Store, link: Link, theme: Theme) -> None:
        super().__init__()
        self._store, self._link, self._theme = store, link, theme
        self._trashed: Conversation | None = None
        self._editing = ""  # the question that is asked anew
        self._unsent = ""  # what was in the field before
        self._panel_wanted = False  # in a narrow window, where it is hidden until asked for
        self.session = Session(store, link)
        self._build(theme)
        self._connect()
        self._shortcuts()
        for changed in (store.seats_changed, store.library_changed, store.connection_changed):
            changed.connect(self._show_state)
        self.session.start()
        self._show_state()
        _warm_soon()

    # --- building ---

    def _build(self, theme: Theme) -> None:
        self.panel = Conversations(theme)
        self.transcript = Transcript(theme)
        self.footer = Footer(theme)
        self.transcript.set_footer(self.footer)
        self.greeting = Greeting(theme)
        self.composer = Composer(theme)
        self._places = QStackedWidget()
        self._places.addWidget(self.greeting)
        self._places.addWidget(self.transcript)
        self._places.addWidget(QWidget())  # while the last conversation is being read
        self._bar = NoticeBar(theme)
        self._bar.closed.connect(lambda: self._bar.say(""))
        self._edit_bar = NoticeBar(theme, closable=False)
        self._edit_bar.acted.connect(lambda: self._end_edit())
        self._undo = NoticeBar(theme)
        self._undo.closed.connect(self._forget_trashed)
        self._undo.acted.connect(self._restore)
        self._undo_timer = QTimer(self, singleShot=True, interval=UNDO_MS)
        self._undo_timer.timeout.connect(self._forget_trashed)
        notices = QVBoxLayout()
        notices.setContentsMargins(Space.huge, Space.small, Space.huge, 0)
        notices.addWidget(self._bar)
        notices.addWidget(self._undo)
        notices.addWidget(self._edit_bar)

        self._bottom = QHBoxLayout()
        self._bottom.setContentsMargins(Space.huge, Space.small, Space.huge, Space.large + 4)
        self._bottom.addStretch(1)
        self._bottom.addWidget(self.composer, 1000)
        self._bottom.addStretch(1)
        middle = QVBoxLayout()
        middle.setContentsMargins(0, 0, 0, 0)
        middle.setSpacing(0)
        middle.addLayout(notices)
        middle.addWidget(self._places, 1)
        middle.addLayout(self._bottom)
        box = QHBoxLayout(self)
        box.setContentsMargins(0, 0, 0, 0)
        box.setSpacing(0)
        box.addWidget(self.panel)
        box.addLayout(middle, 1)

        self._toggle = Button(theme, "", "icon", "menu", "Show conversations")
        self._toggle.setParent(self)
        self._toggle.clicked.connect(self._toggle_panel)
        self._down = Button(theme, "", "", "arrow-down", "Go to the end")
        self._down.setParent(self)
        self._down.setFixedSize(36, 34)
        self._down.setStyleSheet("padding: 0;")
        self._down.setToolTip("Go to the end")
        self._down.clicked.connect(self.transcript.to_end)
        self._down.hide()
        self._places.installEventFilter(self)
        self._popover = sampling.SamplingPopover(theme, self)

    def _connect(self) -> None:
        session, panel, composer = self.session, self.panel, self.composer
        session.listed.connect(self._show_list)
        session.chosen.connect(self._show_chosen)
        session.opened.connect(self._show_opened)
        session.changed.connect(self._show_changed)
        session.grew.connect(self._grow)
        session.noticed.connect(lambda text: self._bar.say(text, "warning"))
        panel.new_wanted.connect(self.new_chat)
        panel.open_wanted.connect(self._open)
        panel.rename_wanted.connect(session.rename)
        panel.delete_wanted.connect(self._delete)
        panel.search_wanted.connect(lambda words: session.search(words, panel.show_found))
        composer.sent.connect(self._send)
        composer.stop_wanted.connect(session.stop)
        composer.typed.connect(lambda text: None if self._editing else session.typed(text))
        composer.model_wanted.connect(lambda: self.page_wanted.emit("models", None))
        composer.partner_wanted.connect(self.chat_with)
        composer.sampling_wanted.connect(self._toggle_sampling)
        self.greeting.asked.connect(self._ask)
        self.transcript.regenerate_wanted.connect(session.regenerate)
        self.transcript.branches_of = session.branches
        self.transcript.branch_wanted.connect(session.show_branch)
        self.transcript.maker_wanted.connect(self._show_maker)
        self.transcript.edit_wanted.connect(self.edit)
        self.footer.maker_wanted.connect(lambda: self._show_maker(session.messages[-1].id))
        self.footer.edit_wanted.connect(self.edit_last)
        self.transcript.at_end.connect(self._show_down)
        self.footer.copy_wanted.connect(self._copy_answer)
        self.footer.regenerate_wanted.connect(session.regenerate)
        self.footer.version_wanted.connect(session.show_version)
        self._popover.chosen.connect(session.choose)
        self._popover.closed.connect(composer.setFocus)

    def _shortcuts(self) -> None:
        def bind(keys: str, act: Callable[[], object]) -> None:
            shortcut = QShortcut(QKeySequence(keys), self)
            shortcut.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
            shortcut.activated.connect(act)

        bind("Ctrl+N", self.new_chat)
        bind("Ctrl+Shift+O", self.new_chat)
        bind("Ctrl+K", self._search)
        bind("Ctrl+Shift+Up", self.edit_last)
        bind("Ctrl+B", self._toggle_panel)
        bind("Ctrl+Shift+D", lambda: self._delete(self.session.conversation.id))
        bind("Ctrl+Shift+E", self._rename)
        bind("Ctrl+Shift+C", self._copy_answer)

    # --- acting ---

    def new_chat(self) -> None:
        self.session.new()
        self.composer.setFocus()

    def _open(self, conversation_id: str) -> None:
        self.session.open(conversation_id)
        if self._is_narrow:
            self._panel_wanted = False
            self._arrange()

    def edit_last(self) -> None:
        asked = next((m for m in reversed(self.session.messages) if m.role == "user"), None)
        if asked is not None:
            self.edit(asked.id)

    def edit(self, message_id: str) -> None:
        """Puts a question back into the field; sending it asks anew, beside what was there."""
        one = next((m for m in self.session.messages if m.id == message_id), None)
        if one is None or self.session.is_sending:
            return
        if not self._editing:
            self._unsent = self.composer.field.toPlainText()
        self._editing = message_id
        self._edit_bar.say("You are asking this anew. The conversation so far stays beside it.", "info", "Cancel")
        self.composer.show_text(one.text)
        self.composer.setFocus()

    def _end_edit(self, text: str | None = None) -> None:
        """`text` is put into the field; None = what was there before."""
        if self._editing:
            self._editing = ""
            self._edit_bar.say("")
            self.composer.show_text(self._unsent if text is None else text)
            self._unsent = ""

    def _show_maker(self, message_id: str) -> None:
        from app.ui.manifest import show_manifest

        one = next((m for m in self.session.messages if m.id == message_id), None)
        if one is not None:
            show_manifest(self._theme, self, self._link, one.run_id, one.made_by)

    def _send(self, text: str) -> None:
        if self._editing:
            unsent = self._unsent
            if self.session.edit(self._editing, text):
                self._end_edit(unsent)
                self.session.typed(unsent)
                self.transcript.to_end()
            return
        if self.session.send(text):
            self.composer.show_text("")
            self.transcript.to_end()

    def chat_with(self, profile_id: str) -> None:
        """Asks this one from now on, as long as it is loaded."""
        self.session.partner = profile_id
        self._show_state()

    def _ask(self, text: str) -> None:
        """A suggestion is sent at once when it can be, else it waits in the field."""
        if not self.session.send(text):
            self.composer.show_text(text)
            self.session.typed(text)
        self.composer.setFocus()

    def _copy_answer(self) -> None:
        last = next((m for m in reversed(self.session.messages) if m.role == "assistant"), None)
        if last is not None:
            QGuiApplication.clipboard().setText(last.text or last.error)
            self.footer.copied()

    def _delete(self, conversation_id: str) -> None:
        trashed = self.session.delete(conversation_id)
        if trashed is not None:
            self._trashed = trashed
            self._undo.say(f"“{trashed.title or 'New chat'}” was deleted.", "info", "Undo")
            self._undo_timer.start()

    def _restore(self) -> None:
        if self._trashed is not None:
            self.session.restore(self._trashed)
        self._forget_trashed()

    def _forget_trashed(self) -> None:
        self._trashed = None
        self._undo.say("")

    def _search(self) -> None:
        self._panel_wanted = True
        self._arrange()
        self.panel.search.setFocus(Qt.FocusReason.ShortcutFocusReason)

    def _rename(self) -> None:
        self._panel_wanted = True
        self._arrange()
        self.panel.rename(self.session.conversation.id)

    def _toggle_sampling(self) -> None:
        if self._popover.isVisible():
            self._popover.close_it()
            return
        corner = self.composer.mapTo(self, QPoint(self.composer.width(), -Space.small))
        here = self.session.conversation
        self._popover.open_at(corner, here.sampling, here.system_prompt)

    # --- showing ---

    def _show_list(self) -> None:
        self.panel.show_conversations(self.session.conversations, self.session.conversation.id)

    def _show_chosen(self) -> None:
        """Its draft can be gone on with at once; what was there before stays in sight until its messages have been read."""
        self._editing, self._unsent = "", ""
        self._edit_bar.say("")
        self.composer.show_text(self.session.conversation.draft)
        self._show_list()

    def _show_opened(self) -> None:
        self._editing, self._unsent = "", ""
        self._edit_bar.say("")
        self.transcript.show_messages(self.session.messages)
        self.composer.show_text(self.session.conversation.draft)
        self._show_list()
        self._show_state()

    def _show_changed(self) -> None:
        self.transcript.follow_messages(self.session.messages, self._waiting())
        self._show_state()

    def _grow(self, text: str, reasoning: str) -> None:
        self.transcript.grow(text, reasoning)

    def _waiting(self) -> str:
        """What stands where the answer will be."""
        if isinstance(seat_for(self._store, self.session.partner).phase, phases.Ready):
            return "Waiting for the first token …"
        return "Waiting for the model …"

    def _show_state(self) -> None:
        session, store = self.session, self._store
        model = store.title_of(session.profile)
        why_not = ""
        if not store.connected:
            why_not = "Engine Room’s service does not answer yet"
        elif not model:
            why_not = "No model is loaded"
        self.composer.show_state(
            model=model, why_not=why_not, choose=store.connected, can_send=session.can_send, sending=session.is_sending
        )
        partners = tuple((name, store.title_of(name)) for name in profiles_loaded(store))
        self.composer.show_partners(partners, session.profile or "")
        here = session.conversation
        self.composer.say_sampling(sampling.words_for(here.sampling, here.system_prompt))
        last = session.messages[-1] if session.messages else None
        finished = last is not None and last.role == "assistant" and last.finish is not None
        self.footer.show_state(
            shown=finished,
            failed=last is not None and last.finish in ("failed", "cut", "interrupted"),
            has_text=last is not None and bool(last.text),
            versions=session.versions(),
            can_send=session.can_send,
            made=last is not None and bool(last.run_id or last.made_by),
        )
        if session.is_silent:
            self.transcript.wait(self._waiting())
        self.greeting.show_state(f"{model} is ready to answer." if session.can_send else "")
        if not session.is_reading:
            self._places.setCurrentIndex(1 if session.messages else 0 if session.loaded else 2)
        self._show_down(self.transcript.sticks)
        self.transcript.refresh_end()

    def _show_down(self, at_end: bool) -> None:
        self._down.setVisible(not at_end and bool(self.session.messages))
        if not self._down.isHidden():
            self._down.raise_()

    # --- size ---

    @property
    def _is_narrow(self) -> bool:
        return self.width() < NARROW

    def _toggle_panel(self) -> None:
        self._panel_wanted = not self._panel_wanted
        self._arrange()

    def _arrange(self) -> None:
        narrow = self._is_narrow
        self.panel.setVisible(not narrow or self._panel_wanted)
        self._toggle.setVisible(narrow and not self._panel_wanted)
        self._toggle.move(Space.small, Space.medium)
        self._toggle.raise_()
        self._place_floating()
        if self._popover.isVisible():
            self._popover.close_it()

    def _place_floating(self) -> None:
        middle = self._places
        at = middle.mapTo(self, QPoint(middle.width() // 2, middle.height()))
        self._down.move(at.x() - 18, at.y() - 42)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.Resize:
            self._place_floating()
        return False

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._arrange()

    def hideEvent(self, event: QHideEvent) -> None:
        """The window may be closing: the last letters must not wait for a pause in typing."""
        super().hideEvent(event)
        self.session.keep_draft()

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._arrange()
        self.composer.setFocus()


_warmed: list[bool] = []


def _warm_soon() -> None:
    """The lexers are loaded in a thread, once: the first code block must not cost a frame."""
    import threading

    if not _warmed:
        _warmed.append(True)
        threading.Thread(target=documents.warm, name="lexers", daemon=True).start()
