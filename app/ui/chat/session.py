"""Owns the conversation that is open: sends, streams, stops, regenerates, and has each token written down as it comes."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace
from PySide6.QtCore import QObject, Qt, QTimer, Signal

from app.core.conversation import FAILED, Answer, Conversation, Figures, Message, request_body, thread, title_of
from app.core.errors import StorageError
from app.core.profiles import Sampling
from app.core.sse import EventTooLong, Parser
from app.ui.chat.items import INTERRUPTED
from app.ui.chat.makers import RUN_HEADER, Makers
from app.ui.chat.partner import profile_for, seat_for
from app.ui.chat.store import ChatFile, ChatWriter
from app.ui.link import Link
from app.ui.store import Store

if TYPE_CHECKING:
    import httpx

FRAME_MS = 16
WAITED_SECONDS = 0.0001
GATHER_SECONDS = 0.012  # tokens gather in the socket meanwhile: one read for many costs hardly more than for one
STEP_SECONDS = 0.001  # what came in a burst is read in steps, with the window's own work in between
FLUSH_SHARE = 4  # a costly flush waits four times its own cost for the next: text never eats the window's time
SLOWEST_FLUSH_MS = 200
FLUSH_CHARACTERS, FLUSH_PARTS = (
    128,
    8,
)  # one flush shows so many characters, or an eighth of what waits when that is more
JOURNAL_MS = 250
DRAFT_MS = 300
CHAT = "/v1/chat/completions"


class Session(QObject):
    """Signals: `listed` the conversations changed · `opened` another one is shown · `changed` messages or state of this one ·

    `grew` (text, reasoning) at most once per frame · `noticed` a sentence about keeping the chats, "" when all is well.
    """

    listed = Signal()
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
        self.messages: tuple[Message, ...] = ()  # from the first to the leaf
        self.loaded = False
        self.partner = ""  # the profile that shall answer, where several are loaded
        self._makers = Makers(link)
        self._all: dict[str, Message] = {}
        self._leaf: str | None = None
        self._answer: Answer | None = None
        self._task: asyncio.Task[Any] | None = None
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._unmatched: dict[str, tuple[str, str]] = {}  # request id → (conversation, message)
        self._flush_timer = QTimer(self, singleShot=True, interval=FRAME_MS, timerType=Qt.TimerType.PreciseTimer)
        self._flush_timer.timeout.connect(self._flush)
        self._journal_timer = QTimer(self, singleShot=True, interval=JOURNAL_MS)
        self._journal_timer.timeout.connect(self._journal)
        self._draft_timer = QTimer(self, singleShot=True, interval=DRAFT_MS)
        self._draft_timer.timeout.connect(self._keep_draft)
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
        self._journal()
        self._keep_draft()
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

        def use(value: tuple[list[Message], str | None]) -> None:
            if self.conversation.id == conversation_id:
                self._take(*value)

        self._ask(lambda chats: (chats.messages(conversation_id), chats.leaf(conversation_id)), use)

    def _leave(self) -> None:
        self.stop()
        self._keep_draft()

    def _take(self, messages: list[Message], leaf: str | None) -> None:
        self._all = {}
        for message in messages:
            if message.role == "assistant" and message.finish is None:
                message = replace(message, finish=INTERRUPTED)
                self._keep(message)
            self._all[message.id] = message
        known = leaf if leaf in self._all else (messages[-1].id if messages else None)
        self._set_leaf(known)
        self.opened.emit()

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

    def _keep_draft(self) -> None:
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
    def is_sending(self) -> bool:
        return self._answer is not None

    @property
    def profile(self) -> str | None:
        """Whom a message sent now would reach."""
        return profile_for(self._store, self.partner)

    @property
    def can_send(self) -> bool:
        return self._store.connected and self.profile is not None and not self.is_sending and self.loaded

    @property
    def is_silent(self) -> bool:
        """Whether an answer is awaited of which nothing has come."""
        return self._answer is not None and not self._answer.has_text

    def versions(self) -> tuple[int, int]:
        """(which, of how many) versions of the last answer is shown; (0, 0) without an answer."""
        siblings = self._siblings()
        return (siblings.index(self._leaf) + 1, len(siblings)) if self._leaf in siblings else (0, 0)

    def _siblings(self) -> list[str]:
        last = self._all.get(self._leaf or "")
        if last is None or last.role != "assistant":
            return []
        return [m.id for m in self._all.values() if m.parent == last.parent and m.role == "assistant"]

    def show_version(self, step: int) -> None:
        siblings = self._siblings()
        if self._leaf in siblings and not self.is_sending:
            at = siblings.index(self._leaf) + step
            if 0 <= at < len(siblings):
                self._set_leaf(siblings[at], keep=True)
                self.changed.emit()

    def _set_leaf(self, leaf: str | None, keep: bool = False) -> None:
        self._leaf = leaf
        self.messages = thread(tuple(self._all.values()), leaf)
        if keep and self._writer is not None:
            self._writer.leaf(self.conversation.id, leaf)

    def _keep(self, message: Message, conversation_id: str | None = None) -> None:
        if self._writer is not None:
            self._writer.message(conversation_id or self.conversation.id, message)

    def _put(self, message: Message) -> None:
        self._all[message.id] = message
        if any(m.id == message.id for m in self.messages):
            self.messages = tuple(message if m.id == message.id else m for m in self.messages)

    # --- sending ---

    def branches(self, message_id: str) -> tuple[int, int]:
        """(which, of how many) versions of this message are shown."""
        beside = self._beside(message_id)
        return (beside.index(message_id) + 1, len(beside)) if beside else (0, 0)

    def _beside(self, message_id: str) -> list[str]:
        one = self._all.get(message_id)
        if one is None:
            return []
        return [m.id for m in self._all.values() if (m.parent, m.role) == (one.parent, one.role)]

    def show_branch(self, message_id: str, step: int) -> None:
        """Shows the version before or after this message, with the newest of what followed it."""
        beside = self._beside(message_id)
        if message_id not in beside or self.is_sending:
            return
        at = beside.index(message_id) + step
        if 0 <= at < len(beside):
            self._set_leaf(self._newest_after(beside[at]), keep=True)
            self.opened.emit()

    def _newest_after(self, message_id: str) -> str:
        leaf = message_id
        while True:
            following = [m for m in self._all.values() if m.parent == leaf]
            if not following:
                return leaf
            leaf = max(following, key=lambda m: m.created_at_unix).id

    def edit(self, message_id: str, text: str) -> bool:
        """Asks a question anew in other words: a branch beside the first, which stays. False when nothing can be sent."""
        one = self._all.get(message_id)
        if one is None or one.role != "user" or not text.strip() or not self.can_send:
            return False
        self._set_leaf(one.parent)
        return self.send(text)

    def send(self, text: str) -> bool:
        """Sends a message; False when none can be sent now (what was typed stays)."""
        if not text.strip() or not self.can_send:
            return False
        now = time.time()
        self._draft_timer.stop()
        self._keep_conversation(
            replace(self.conversation, title=self.conversation.title or title_of(text), draft="", changed_at_unix=now)
        )
        mine = Message(id=uuid.uuid4().hex, parent=self._leaf, role="user", text=text, finish="", created_at_unix=now)
        self._all[mine.id] = mine
        self._keep(mine)
        self._ask_model(mine.id)
        return True

    def regenerate(self) -> None:
        """Another version of the last answer; the ones before stay."""
        last = self._all.get(self._leaf or "")
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
        self._all[answer.id] = answer
        self._set_leaf(answer.id, keep=True)
        self._keep(answer)
        card = self._store.card(profile)
        body = request_body(
            self.messages[:-1],
            model=profile,
            system_prompt=self.conversation.system_prompt,
            sampling=merged(card.profile.sampling if card is not None else Sampling(), self.conversation.sampling),
        )
        self._answer = Answer(answer, time.monotonic())
        self._text, self._reasoning = [], []
        self.changed.emit()
        self._task = self._link.tasks.start(self._stream(self._answer, body, self.conversation.id), "answer")

    def stop(self) -> None:
        """Ends the answer that is being written, at once; its part is kept."""
        if self._answer is not None:
            answer, task = self._answer, self._task
            self._end(answer, answer.finished(stopped=True), self.conversation.id)
            if task is not None:
                task.cancel()

    async def _stream(self, answer: Answer, body: dict[str, Any], conversation_id: str) -> None:
        import httpx

        error = ""
        try:
            error = await self._follow(answer, body)
        except asyncio.CancelledError:
            self._end(answer, answer.finished(stopped=True), conversation_id)
            raise
        except httpx.ConnectError:
            error = "The Engine Room service does not answer. It is started again by itself; retry in a moment."
        except httpx.HTTPError:
            if not answer.has_text:
                error = "The connection to the Engine Room service was lost before the answer began."
        except EventTooLong as told:
            error = str(told)
        self._end(answer, answer.finished(error=error), conversation_id)

    async def _follow(self, answer: Answer, body: dict[str, Any]) -> str:
        """Folds the stream as it comes; the error of an answer that is none, "" otherwise."""
        import httpx

        parser = Parser()
        silence = httpx.Timeout(
            None, connect=2.0
        )  # the gateway bounds the answer, and a dead service closes the socket
        async with self._link.client.stream(
            "POST", CHAT, content=msgspec.json.encode(body), headers=JSON, timeout=silence
        ) as response:
            run_id = response.headers.get(RUN_HEADER, "")
            answer.requested(response.headers.get("X-Request-Id", ""), run_id)
            if run_id:
                self._link.tasks.start(self._note_maker(answer, run_id), "manifest of an answer")
            if response.status_code != 200:
                return _refusal(response, await response.aread())
            now, flush = time.monotonic, self._flush_timer
            async with contextlib.aclosing(response.aiter_raw()) as pieces:
                asked = began = now()
                async for piece in pieces:
                    arrived = now()
                    waited = arrived - asked > WAITED_SECONDS  # nothing more had come: the socket was asked
                    began = arrived if waited else began
                    for event in parser.feed(piece):
                        if now() - began > STEP_SECONDS:
                            await asyncio.sleep(0)
                            began = now()
                        text, reasoning = answer.feed(event.data, arrived)
                        if text:
                            self._text.append(text)
                        if reasoning:
                            self._reasoning.append(reasoning)
                    if (self._text or self._reasoning) and not flush.isActive() and self._answer is answer:
                        flush.start()
                    if waited:
                        await asyncio.sleep(GATHER_SECONDS)
                    elif now() - began > STEP_SECONDS:
                        await asyncio.sleep(0)
                        began = now()
                    asked = now()
        return ""

    async def _note_maker(self, answer: Answer, run_id: str) -> None:
        """The answer keeps what made it; it may be over by the time that this is known."""
        conversation_id = self.conversation.id
        made = await self._makers.of(run_id)
        if made is None:
            return
        answer.made(made)
        message = self._all.get(answer.message().id)
        if self._answer is not answer and message is not None:
            self._put(replace(message, made_by=made))
            self._keep(replace(message, made_by=made), conversation_id)
            self.changed.emit()

    def _flush(self, whole: bool = False) -> None:
        """Shows what has come: a little of it at a time, so that no flush is a long one, however fast tokens come."""
        if self._answer is None:
            return
        text, reasoning = "".join(self._text), "".join(self._reasoning)
        most = (
            len(text) + len(reasoning) if whole else max(FLUSH_CHARACTERS, (len(text) + len(reasoning)) // FLUSH_PARTS)
        )
        shown = max(0, most - len(reasoning))
        self._reasoning = [reasoning[most:]] if len(reasoning) > most else []
        self._text = [text[shown:]] if len(text) > shown else []
        text, reasoning = text[:shown], reasoning[:most]
        if text or reasoning:
            began = time.thread_time()
            self.grew.emit(text, reasoning)
            spent_ms = 1000 * (time.thread_time() - began)
            self._flush_timer.setInterval(max(FRAME_MS, min(SLOWEST_FLUSH_MS, int(FLUSH_SHARE * spent_ms))))
            if not self._journal_timer.isActive():
                self._journal_timer.start()
        if self._text or self._reasoning:
            self._flush_timer.start()

    def _journal(self) -> None:
        if self._answer is not None:
            self._keep(self._answer.message())

    def _end(self, answer: Answer, message: Message, conversation_id: str) -> None:
        if self._answer is not answer:
            return  # it ended before, by Stop
        self._flush(whole=True)
        self._answer, self._task = None, None
        self._flush_timer.stop()
        self._journal_timer.stop()
        self._put(message)
        self._keep(message, conversation_id)
        if message.request_id and message.finish != FAILED:
            self._unmatched[message.request_id] = (conversation_id, message.id)
        self.changed.emit()
        self._match()

    def _match(self) -> None:
        """The request log's figures take the place of those seen here: both doors show the same numbers."""
        if not self._unmatched:
            return
        for entry in self._store.traffic.recent:
            found = self._unmatched.pop(entry.id, None)
            message = self._all.get(found[1]) if found is not None else None
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
            self._put(message)
            self._keep(message, found[0])
            self.changed.emit()


JSON = {"content-type": "application/json"}


def merged(profile: Sampling, chosen: Sampling) -> Sampling:
    """The conversation's own choices over the profile's."""
    own = {name: value for name, value in msgspec.structs.asdict(chosen).items() if value is not None}
    return replace(profile, **own)


def _or(value: Any, other: Any) -> Any:
    return other if value is None else value


def _refusal(response: httpx.Response, body: bytes) -> str:
    try:
        error = msgspec.json.decode(body)["error"]
        return str(error["message"] if isinstance(error, dict) else error)
    except (msgspec.DecodeError, KeyError, TypeError):
        return f"The service refused with status {response.status_code}."


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
