"""Holds conversations on the command line: each answer streamed as it comes and kept in the chats that the window shows."""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Sequence
from urllib.parse import quote

import httpx
import msgspec
from msgspec.structs import replace

from app.client import Client
from app.core.control import Manifest
from app.core.conversation import Answer, Conversation, MadeBy, Message, made_by, request_body, thread, title_of
from app.core.errors import EngineFailed, EngineRoomError, StorageError
from app.core.paths import Paths
from app.core.snapshot import Seats
from app.core.sse import EventTooLong, Parser
from app.ui.chat.store import ChatFile, ChatWriter  # free of Qt

KEEP_SECONDS = 0.25  # an answer that is arriving is written down so often
STOPPED_EXIT = 130
RUN_HEADER = "X-Engine-Room-Run"


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """One answer, as `chat --json` prints it."""

    content: str
    finish: str
    conversation: str
    first_token_seconds: float | None = None
    tokens_per_second: float | None = None
    completion_tokens: int | None = None


def aside(words: str) -> None:
    """To the person, beside what goes to stdout."""
    print(f"engine-room: {words}", file=sys.stderr)


class Shelf:
    """The chats' file, or nothing when it cannot be used: talking goes on, and it is said that nothing is kept."""

    def __init__(self, paths: Paths) -> None:
        self._writer: ChatWriter | None = None
        self._file: ChatFile | None = None
        self._clean = True
        try:
            self._file = ChatFile(paths.chats)
        except StorageError as error:
            aside(f"{error} This conversation is not kept.")
        else:
            self._writer = ChatWriter(self._file, lambda trouble: aside(trouble) if trouble else None)

    def latest(self) -> tuple[Conversation, tuple[Message, ...]] | None:
        """The conversation that was changed last, as it was last seen."""
        if self._file is None:
            return None
        found = self._file.conversations()
        if not found:
            return None
        messages = self._file.messages(found[0].id)
        leaf = self._file.leaf(found[0].id) or (messages[-1].id if messages else None)
        return found[0], thread(messages, leaf)

    def conversation(self, value: Conversation) -> None:
        if self._writer is not None:
            self._writer.conversation(value)

    def message(self, conversation: Conversation, value: Message) -> None:
        if self._writer is not None:
            self._writer.message(conversation.id, value)
            self._writer.leaf(conversation.id, value.id)

    def close(self) -> None:
        if self._writer is not None and not self._writer.close():
            aside("The end of this conversation could not be written down.")


class Talk:
    """One conversation with whatever is loaded. Use in a `with`: the end writes what is not written yet."""

    def __init__(self, client: Client, paths: Paths, *, go_on: bool = False, as_json: bool = False) -> None:
        self._client, self._as_json = client, as_json
        self._shelf = Shelf(paths)
        now = time.time()
        self._conversation = Conversation(id=uuid.uuid4().hex, created_at_unix=now, changed_at_unix=now)
        self._history: tuple[Message, ...] = ()
        self._makers: dict[str, MadeBy] = {}  # run → what made its answers
        if go_on:
            latest = self._shelf.latest()
            if latest is None:
                aside("There is no conversation to continue: a new one begins.")
            else:
                self._conversation, self._history = latest
                if not as_json:
                    aside(f"continuing “{self._conversation.title}”, {len(self._history)} messages.")

    def __enter__(self) -> Talk:
        return self

    def __exit__(self, *_: object) -> None:
        self._shelf.close()

    def say(self, text: str) -> bool:
        """Sends one message and prints the answer as it comes; False when the person stopped it.

        Raises EngineFailed with the endpoint's sentence; what had come by then is printed and kept.
        """
        now = time.time()
        self._conversation = replace(
            self._conversation, title=self._conversation.title or title_of(text), changed_at_unix=now
        )
        self._shelf.conversation(self._conversation)
        self._add(
            Message(id=uuid.uuid4().hex, parent=self._leaf, role="user", text=text, finish="", created_at_unix=now)
        )
        body = request_body(
            self._history,
            model="",
            system_prompt=self._conversation.system_prompt,
            sampling=self._conversation.sampling,
        )
        answer = Answer(self._begun(), time.monotonic())
        stopped, trouble = False, ""
        try:
            trouble = self._stream(body, answer)
        except KeyboardInterrupt:
            stopped = True
        except EngineRoomError as error:
            trouble = str(error)
        if (made := self._made_by(answer.run_id)) is not None:
            answer.made(made)
        message = answer.finished(stopped=stopped, error=trouble)
        self._add(message)
        self._show(message)
        if message.error:
            raise EngineFailed(message.error)
        if message.finish == "cut":
            raise EngineFailed("The answer broke off before its end.", "Ask again; `engine-room logs` shows why.")
        return not stopped

    def _made_by(self, run_id: str) -> MadeBy | None:
        """What the answer keeps of its run's manifest; asked for once per run, None when the service does not say."""
        if run_id and run_id not in self._makers:
            try:
                manifest = self._client.get(f"/control/runs/{quote(run_id, safe='')}/manifest", Manifest)
            except EngineRoomError:
                return None
            self._makers[run_id] = made_by(manifest)
        return self._makers.get(run_id)

    @property
    def _leaf(self) -> str | None:
        return self._history[-1].id if self._history else None

    def _add(self, message: Message) -> None:
        self._history = (*(known for known in self._history if known.id != message.id), message)
        self._shelf.message(self._conversation, message)

    def _begun(self) -> Message:
        """The answer before its first token: by which model, on which engine."""
        seats = self._client.slices()["seats"]
        assert isinstance(seats, Seats)
        seat = seats.seats[0]
        return Message(
            id=uuid.uuid4().hex,
            parent=self._leaf,
            role="assistant",
            text="",
            model=seat.wanted or "",
            engine=seat.run.engine if seat.run else "",
            run_id=seat.run.id if seat.run else "",
            created_at_unix=time.time(),
        )

    def _stream(self, body: dict[str, object], answer: Answer) -> str:
        """Feeds the answer; returns "" or the sentence that came in its place."""
        parser, kept_at = Parser(), 0.0
        timeout = httpx.Timeout(30.0, read=None)  # the endpoint itself bounds how long an answer takes
        try:
            with self._client.http.stream("POST", "/v1/chat/completions", json=body, timeout=timeout) as response:
                answer.requested(response.headers.get("X-Request-Id", ""), response.headers.get(RUN_HEADER, ""))
                if response.status_code != 200:
                    response.read()
                    return api_error(response)
                for piece in response.iter_raw():
                    for event in parser.feed(piece):
                        text, _ = answer.feed(event.data, time.monotonic())
                        if text and not self._as_json:
                            print(text, end="", flush=True)
                    if answer.has_text and time.monotonic() - kept_at >= KEEP_SECONDS:
                        kept_at = time.monotonic()
                        self._shelf.message(self._conversation, answer.message())
        except httpx.ConnectError as error:
            return str(self._client.unreachable(error))
        except httpx.HTTPError:
            return "The connection to the service was lost in the middle of the answer."
        except EventTooLong:
            return "The engine sent a piece of an answer that is too long to be one."
        return ""

    def _show(self, message: Message) -> None:
        figures = message.figures
        if self._as_json:
            if not message.error:
                said = Said(
                    content=message.text,
                    finish=message.finish or "",
                    conversation=self._conversation.id,
                    first_token_seconds=figures.first_token_seconds,
                    tokens_per_second=figures.tokens_per_second,
                    completion_tokens=figures.completion_tokens,
                )
                print(msgspec.json.encode(said).decode(), flush=True)
        elif message.text:
            print(flush=True)
            if sys.stderr.isatty() and figures.first_token_seconds is not None:
                rate = f", {figures.tokens_per_second:.1f} tok/s" if figures.tokens_per_second else ""
                print(f"     first token after {figures.first_token_seconds:.2f} s{rate}", file=sys.stderr)


def talk(client: Client, paths: Paths, words: Sequence[str], *, go_on: bool, as_json: bool) -> int:
    """One message, the lines of a pipe, or a dialogue in the terminal; returns the exit code.

    In a terminal a refusal is said and the dialogue goes on; elsewhere it ends it, as EngineRoomError.
    """
    with Talk(client, paths, go_on=go_on, as_json=as_json) as conversation:
        if words:
            return 0 if conversation.say(" ".join(words)) else STOPPED_EXIT
        if not sys.stdin.isatty():
            for line in sys.stdin:
                if line.strip() and not conversation.say(line.rstrip("\n")):
                    return STOPPED_EXIT
            return 0
        return _dialogue(conversation)


def _dialogue(conversation: Talk) -> int:
    try:
        import readline  # noqa: F401  (makes `input` an editable line with a history)
    except ImportError:
        pass
    while True:
        try:
            text = input("you  ")
        except (EOFError, KeyboardInterrupt):
            print()
            return 0
        if text.strip():
            try:
                conversation.say(text)
            except EngineRoomError as error:
                aside(str(error))


def api_error(answer: httpx.Response) -> str:
    """The sentence of an OpenAI-shaped refusal."""
    try:
        error = msgspec.json.decode(answer.content)["error"]
        return str(error.get("message", error))
    except (ValueError, KeyError, AttributeError, TypeError):
        return f"The endpoint answered {answer.status_code}."
