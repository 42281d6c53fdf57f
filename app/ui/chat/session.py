"""Owns the conversation that is open: sends, stops, regenerates, shows its branches, and has all of it written down."""

from __future__ import annotations

import atexit
import contextlib
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import msgspec
from msgspec.structs import replace
from PySide6.QtCore import QObject, QTimer, Signal, SignalInstance

from app.core.conversation import FAILED, Conversation, Figures, Message, request_body, title_of
from app.core.errors import StorageError
from app.core.profiles import Sampling
from app.ui.chat.answering import Answering
from app.ui.chat.branches import Branches
from app.ui.chat.items import INTERRUPTED
from app.ui.chat.makers import Makers
from app.ui.chat.partner import profile_for, seat_for
from app.ui.chat.store import ChatFile, ChatWriter
from app.ui.link import Link
from app.ui.store import Store

DRAFT_MS = 300


class Session(QObject):
    """Signals: `listed` the conversations changed · `chosen` another one is being read · `opened` it is shown ·
    `changed` messages or state of this one · `grew` (text, reasoning) at most once per frame · `noticed` a sentence about
    keeping the chats, "" when all is well.
    """

    listed = Signal()
    chosen = Signal()
    opened = Signal()
    changed = Signal()
    grew = Signal(str, str)
    noticed = Signal(str)
    _read = Signal(object, object)
    _trouble = Signal(str)

    def __init__(self, store: Store, link: Link) -> None:
        super().__init__()
        self._store, self._link = store, link
        self.conversations: list[Conversation] = []
        self.conversation = self._new()
        self.loaded = False
        self._reading = False  # the conversation was chosen and its messages are still to come
        self._send_when_read = False
        self.partner = ""  # the profile that shall answer, where several are loaded
        self._branches = Branches()
        self.answering = Answering(link, Makers(link))
        self.answering.grew.connect(self.grew)
        self.answering.written.connect(self._keep)
        self.answering.ended.connect(self._ended)
        self.answering.maker_known.connect(self._maker_known)
        self._unmatched: dict[str, tuple[str, str]] = {}  # request id → (conversation, message)
        self._draft_timer = QTimer(self, singleShot=True, interval=DRAFT_MS)
        self._draft_timer.timeout.connect(self.keep_draft)
        self._read.connect(lambda use, value: use(value))
        self._trouble.connect(self.noticed)
        store.traffic_changed.connect(self._match)
        self._writer: ChatWriter | None = None

    def start(self) -> None:
        """Opens the chats' file and the conversation that was changed last."""
        try:
            file = ChatFile(self._link.paths.chats)
        except StorageError as error:
            self.loaded = True
            self.noticed.emit(str(error))
            self.opened.emit()
            return
        writer = self._writer = ChatWriter(file, _telling(self._trouble))
        end = self._end_writing = _once(writer.close)
        atexit.register(end)
        self.destroyed.connect(end)
        self._ask(lambda chats: chats.conversations(), self._first)

    def close(self) -> None:
        """Writes what waits; to be called once, at the end."""
        self.answering.write_down()
        self.keep_draft()
        if self._writer is not None:
            self._end_writing()
            self._writer = None

    def _ask(self, work: Callable[[ChatFile], Any], use: Callable[[Any], None]) -> None:
        """Reads off the window's thread; `use` gets the value on it. A file that cannot be read is told."""
        if self._writer is None:
            return
        told, trouble = _telling(self._read), _telling(self._trouble)

        def done(future: Future[Any]) -> None:
            if (error := future.exception()) is None:
                told(use, future.result())
            else:
                trouble(str(error))

        self._writer.read(work).add_done_callback(done)

    # --- conversations ---

    @staticmethod
    def _new() -> Conversation:
        now = time.time()
        return Conversation(id=uuid.uuid4().hex, created_at_unix=now, changed_at_unix=now)

    def _first(self, found: list[Conversation]) -> None:
        self.conversations = found
        self.loaded = True
        self.listed.emit()
        if found and not self.messages and not self.conversation.draft:
            self.open(found[0].id)
        else:
            self.opened.emit()

    def new(self) -> None:
        """An empty conversation; it is kept once something is typed or sent in it."""
        self._leave()
        before = self.conversation
        self.conversation = replace(self._new(), sampling=before.sampling, system_prompt=before.system_prompt)
        self._take([], None)

    def open(self, conversation_id: str) -> None:
        found = next((c for c in self.conversations if c.id == conversation_id), None)
        if found is None or (found.id == self.conversation.id and self.messages):
            return
        self._leave()
        self.conversation = found
        self._branches, self._reading, self._send_when_read = Branches(), True, False
        self.chosen.emit()

        def use(value: tuple[list[Message], str | None]) -> None:
            if self._reading and self.conversation.id == conversation_id:
                wanted = self._send_when_read
                self._take(*value)
                if wanted and self.send(self.conversation.draft):
                    self.opened.emit()

        self._ask(lambda chats: (chats.messages(conversation_id), chats.leaf(conversation_id)), use)

    def _leave(self) -> None:
        self.stop()
        self.keep_draft()

    def _take(self, messages: list[Message], leaf: str | None) -> None:
        self._reading = self._send_when_read = False
        self._branches = Branches((self._whole(message) for message in messages), leaf)
        self.opened.emit()

    def _whole(self, message: Message) -> Message:
        """An answer that nobody ends any more was interrupted."""
        if message.role != "assistant" or message.finish is not None:
            return message
        ended = replace(message, finish=INTERRUPTED)
        self._keep(ended)
        return ended

    def rename(self, conversation_id: str, title: str) -> None:
        title = " ".join(title.split())
        found = next((c for c in self.conversations if c.id == conversation_id), None)
        if found is not None and title and title != found.title:
            self._keep_conversation(replace(found, title=title))

    def delete(self, conversation_id: str) -> Conversation | None:
        """To the trash; what `restore` brings back."""
        found = next((c for c in self.conversations if c.id == conversation_id), None)
        if found is None:
            return None
        if found.id == self.conversation.id:
            self.stop()
            self._draft_timer.stop()
            found = self.conversation
        trashed = replace(found, deleted_at_unix=time.time())
        if self._writer is not None:
            self._writer.conversation(trashed)
        self.conversations = [c for c in self.conversations if c.id != conversation_id]
        if found.id == self.conversation.id:
            self.conversation = self._new()
            self._take([], None)
            if self.conversations:
                self.open(self.conversations[0].id)
        self.listed.emit()
        return trashed

    def restore(self, trashed: Conversation) -> None:
        back = replace(trashed, deleted_at_unix=None)
        if self._writer is not None:
            self._writer.conversation(back)
        self.conversations = sorted([*self.conversations, back], key=lambda c: -c.changed_at_unix)
        self.listed.emit()
        self.open(back.id)

    def search(self, words: str, use: Callable[[list[str]], None]) -> None:
        """Ids of the conversations that contain the words go to `use`."""
        self._ask(lambda chats: chats.search(words), use)

    def _keep_conversation(self, value: Conversation) -> None:
        if value.id == self.conversation.id:
            self.conversation = value
        if self._writer is not None:
            self._writer.conversation(value)
        rest = [c for c in self.conversations if c.id != value.id]
        self.conversations = sorted([*rest, value], key=lambda c: -c.changed_at_unix)
        self.listed.emit()

    # --- what is typed and chosen ---

    def typed(self, draft: str) -> None:
        if draft != self.conversation.draft:
            self.conversation = replace(self.conversation, draft=draft)
            self._draft_timer.start()

    def keep_draft(self) -> None:
        """Writes down what is being typed, without waiting for a pause in it."""
        self._draft_timer.stop()
        known = next((c for c in self.conversations if c.id == self.conversation.id), None)
        if known != self.conversation and (known is not None or self.conversation.draft.strip()):
            self._keep_conversation(self.conversation)

    def choose(self, sampling: Sampling, system_prompt: str) -> None:
        """How this conversation's answers are made from now on."""
        self.conversation = replace(self.conversation, sampling=sampling, system_prompt=system_prompt)
        self._draft_timer.start()
        self.changed.emit()

    # --- messages ---

    @property
    def messages(self) -> tuple[Message, ...]:
        """From the first to the leaf."""
        return self._branches.messages

    @property
    def is_sending(self) -> bool:
        return self.answering.answer is not None

    @property
    def profile(self) -> str | None:
        """Whom a message sent now would reach."""
        return profile_for(self._store, self.partner)

    @property
    def can_send(self) -> bool:
        free = self.loaded and not self._reading and not self.is_sending
        return self._store.connected and self.profile is not None and free

    @property
    def is_reading(self) -> bool:
        return self._reading

    @property
    def is_silent(self) -> bool:
        """Whether an answer is awaited of which nothing has come."""
        answer = self.answering.answer
        return answer is not None and not answer.has_text

    def versions(self) -> tuple[int, int]:
        """(which, of how many) versions of the last answer is shown; (0, 0) without an answer."""
        last = self._branches.get(self._branches.leaf)
        return self._branches.place(last.id) if last is not None and last.role == "assistant" else (0, 0)

    def show_version(self, step: int) -> None:
        if self.versions() != (0, 0):
            self._show_leaf(self._branches.beside(self._branches.leaf, step), self.changed)

    def branches(self, message_id: str) -> tuple[int, int]:
        """(which, of how many) versions of this message are shown."""
        return self._branches.place(message_id)

    def show_branch(self, message_id: str, step: int) -> None:
        """Shows the version before or after this message, with the newest of what followed it."""
        other = self._branches.beside(message_id, step)
        self._show_leaf(self._branches.newest_after(other) if other is not None else None, self.opened)

    def _show_leaf(self, leaf: str | None, tell: SignalInstance) -> None:
        if leaf is not None and not self.is_sending:
            self._set_leaf(leaf)
            tell.emit()

    def _set_leaf(self, leaf: str) -> None:
        self._branches.show(leaf)
        if self._writer is not None:
            self._writer.leaf(self.conversation.id, leaf)

    def _keep(self, message: Message, conversation_id: str | None = None) -> None:
        if self._writer is not None:
            self._writer.message(conversation_id or self.conversation.id, message)

    # --- sending ---

    def edit(self, message_id: str, text: str) -> bool:
        """Asks a question anew in other words: a branch beside the first, which stays. False when nothing can be sent."""
        one = self._branches.get(message_id)
        if one is None or one.role != "user" or not text.strip() or not self.can_send:
            return False
        self._branches.show(one.parent)
        return self.send(text)

    def send(self, text: str) -> bool:
        """Sends a message; False when none can be sent now: what was typed stays. While the conversation is being read, it is
        sent when that is done."""
        self._send_when_read = self._reading
        if not text.strip() or not self.can_send:
            return False
        now = time.time()
        self._draft_timer.stop()
        self._keep_conversation(
            replace(self.conversation, title=self.conversation.title or title_of(text), draft="", changed_at_unix=now)
        )
        mine = Message(
            id=uuid.uuid4().hex, parent=self._branches.leaf, role="user", text=text, finish="", created_at_unix=now
        )
        self._branches.add(mine)
        self._keep(mine)
        self._ask_model(mine.id)
        return True

    def regenerate(self) -> None:
        """Another version of the last answer; the ones before stay."""
        last = self._branches.get(self._branches.leaf)
        if last is None or not self.can_send:
            return
        self._keep_conversation(replace(self.conversation, changed_at_unix=time.time()))
        parent = last.parent if last.role == "assistant" else last.id
        if parent is not None:
            self._ask_model(parent)

    def _ask_model(self, parent: str) -> None:
        profile = self.profile
        assert profile is not None
        seat = seat_for(self._store, self.partner)
        answer = Message(
            id=uuid.uuid4().hex,
            parent=parent,
            role="assistant",
            text="",
            model=profile,
            engine=seat.run.engine if seat.run is not None and seat.run.profile_id == profile else "",
            run_id=seat.run.id if seat.run is not None and seat.run.profile_id == profile else "",
            created_at_unix=time.time(),
        )
        self._branches.add(answer)
        self._set_leaf(answer.id)
        self._keep(answer)
        card = self._store.card(profile)
        body = request_body(
            self.messages[:-1],
            model=profile,
            system_prompt=self.conversation.system_prompt,
            sampling=merged(card.profile.sampling if card is not None else Sampling(), self.conversation.sampling),
        )
        self.answering.begin(answer, body, self.conversation.id)
        self.changed.emit()

    def stop(self) -> None:
        """Ends the answer that is being written, at once; its part is kept."""
        self.answering.stop()

    def _ended(self, message: Message, conversation_id: str) -> None:
        self._branches.put(message)
        self._keep(message, conversation_id)
        if message.request_id and message.finish != FAILED:
            self._unmatched[message.request_id] = (conversation_id, message.id)
        self.changed.emit()
        self._match()

    def _maker_known(self, message_id: str, made: object, conversation_id: str) -> None:
        if (message := self._branches.get(message_id)) is not None:
            message = replace(message, made_by=made)
            self._branches.put(message)
            self._keep(message, conversation_id)
            self.changed.emit()

    def _match(self) -> None:
        """The request log's figures take the place of those seen here: both doors show the same numbers."""
        if not self._unmatched:
            return
        for entry in self._store.traffic.recent:
            found = self._unmatched.pop(entry.id, None)
            message = self._branches.get(found[1]) if found is not None else None
            if found is None or message is None:
                continue
            seen = message.figures
            figures = Figures(
                first_token_seconds=_or(entry.first_token_seconds, seen.first_token_seconds),
                duration_seconds=entry.duration_seconds,
                tokens_per_second=_or(entry.tokens_per_second, seen.tokens_per_second),
                prompt_tokens=_or(entry.prompt_tokens, seen.prompt_tokens),
                completion_tokens=_or(entry.completion_tokens, seen.completion_tokens),
            )
            message = replace(message, figures=figures)
            self._branches.put(message)
            self._keep(message, found[0])
            self.changed.emit()


def merged(profile: Sampling, chosen: Sampling) -> Sampling:
    """The conversation's own choices over the profile's."""
    own = {name: value for name, value in msgspec.structs.asdict(chosen).items() if value is not None}
    return replace(profile, **own)


def _or(value: Any, other: Any) -> Any:
    return other if value is None else value


def _telling(signal: Any) -> Callable[..., None]:
    """Emits from another thread, unless the window has gone meanwhile."""

    def tell(*values: object) -> None:
        with contextlib.suppress(RuntimeError):
            signal.emit(*values)

    return tell


def _once(act: Callable[[], object]) -> Callable[[], None]:
    box = [act]

    def run(*_: object) -> None:
        while box:
            box.pop()()

    return run
