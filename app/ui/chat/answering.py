"""Owns the answer that is being written: asks for it, folds its stream, and shows it a little at a time, once per frame."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

import msgspec
from PySide6.QtCore import QObject, Qt, QTimer, Signal

from app.core.conversation import Answer, Message
from app.core.sse import EventTooLong, Parser
from app.ui.chat.makers import RUN_HEADER, Makers
from app.ui.link import Link

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
)  # one flush shows so many characters, or such a part of what waits when that is more
JOURNAL_MS = 250
CHAT = "/v1/chat/completions"
JSON = {"content-type": "application/json"}


class Answering(QObject):
    """One answer at a time. `grew` (text, reasoning) at most once per frame · `written` the message so far, a few times a

    second · `ended` the message as it is now · `maker_known` (message's id, what made it) when it comes after the end. The
    last three also tell the conversation's id.
    """

    grew = Signal(str, str)
    written = Signal(object, str)
    ended = Signal(object, str)
    maker_known = Signal(str, object, str)

    def __init__(self, link: Link, makers: Makers) -> None:
        super().__init__()
        self._link, self._makers = link, makers
        self.answer: Answer | None = None  # while one is awaited or comes
        self._conversation_id = ""
        self._task: asyncio.Task[Any] | None = None
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._flush_timer = QTimer(self, singleShot=True, interval=FRAME_MS, timerType=Qt.TimerType.PreciseTimer)
        self._flush_timer.timeout.connect(self._flush)
        self._journal_timer = QTimer(self, singleShot=True, interval=JOURNAL_MS)
        self._journal_timer.timeout.connect(self.write_down)

    def begin(self, message: Message, body: dict[str, Any], conversation_id: str) -> None:
        """`message` is the empty answer, `body` the request."""
        self.answer = Answer(message, time.monotonic())
        self._conversation_id = conversation_id
        self._text, self._reasoning = [], []
        work = self._stream(self.answer, body, conversation_id)
        self._task = self._link.tasks.start(work, "answer")

    def stop(self) -> None:
        """Ends it at once; its part is kept."""
        if self.answer is not None:
            answer, task = self.answer, self._task
            self._end(answer, answer.finished(stopped=True))
            if task is not None:
                task.cancel()

    def write_down(self) -> None:
        if self.answer is not None:
            self.written.emit(self.answer.message(), self._conversation_id)

    async def _stream(self, answer: Answer, body: dict[str, Any], conversation_id: str) -> None:
        import httpx

        error = ""
        try:
            error = await self._follow(answer, body, conversation_id)
        except asyncio.CancelledError:
            self._end(answer, answer.finished(stopped=True))
            raise
        except httpx.ConnectError:
            error = "The Engine Room service does not answer. It is started again by itself; retry in a moment."
        except httpx.HTTPError:
            if not answer.has_text:
                error = "The connection to the Engine Room service was lost before the answer began."
        except EventTooLong as told:
            error = str(told)
        self._end(answer, answer.finished(error=error))

    async def _follow(self, answer: Answer, body: dict[str, Any], conversation_id: str) -> str:
        """Folds the stream as it comes; the error of an answer that is none, "" otherwise."""
        import httpx

        parser = Parser()
        silence = httpx.Timeout(None, connect=2.0)  # the gateway bounds the answer; a dead service closes the socket
        async with self._link.client.stream(
            "POST", CHAT, content=msgspec.json.encode(body), headers=JSON, timeout=silence
        ) as response:
            run_id = response.headers.get(RUN_HEADER, "")
            answer.requested(response.headers.get("X-Request-Id", ""), run_id)
            if run_id:
                self._link.tasks.start(self._note_maker(answer, run_id, conversation_id), "manifest of an answer")
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
                    if (self._text or self._reasoning) and not flush.isActive() and self.answer is answer:
                        flush.start()
                    if waited:
                        await asyncio.sleep(GATHER_SECONDS)
                    elif now() - began > STEP_SECONDS:
                        await asyncio.sleep(0)
                        began = now()
                    asked = now()
        return ""

    async def _note_maker(self, answer: Answer, run_id: str, conversation_id: str) -> None:
        """The answer keeps what made it; it may be over by the time that this is known."""
        made = await self._makers.of(run_id)
        if made is None:
            return
        answer.made(made)
        if self.answer is not answer:
            self.maker_known.emit(answer.message().id, made, conversation_id)

    def _flush(self, whole: bool = False) -> None:
        """Shows what has come: a little of it at a time, so that no flush is a long one, however fast tokens come."""
        if self.answer is None:
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

    def _end(self, answer: Answer, message: Message) -> None:
        if self.answer is not answer:
            return  # it ended before, by Stop
        self._flush(whole=True)
        self.answer, self._task = None, None
        self._flush_timer.stop()
        self._journal_timer.stop()
        self.ended.emit(message, self._conversation_id)


def _refusal(response: httpx.Response, body: bytes) -> str:
    try:
        error = msgspec.json.decode(body)["error"]
        return str(error["message"] if isinstance(error, dict) else error)
    except (msgspec.DecodeError, KeyError, TypeError):
        return f"The service refused with status {response.status_code}."
