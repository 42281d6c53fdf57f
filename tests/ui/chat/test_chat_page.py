"""A person chats: sends, reads, stops, tries again, comes back; against a service on a real socket (H1, I9, I16)."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import shiboken6
from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtTest import QTest

from app.core.lifecycle import Idle
from app.core.snapshot import Seats, SeatView
from app.ui.chat.answering import FRAME_MS
from app.ui.chat.items import Kind
from app.ui.chat.store import ChatFile
from tests.ui import chats, reading
from tests.ui.chat.rig import Asked, Room, answer, first_then_wait, until


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    made = Room(tmp_path)
    await made.open()
    yield made
    await made.close()
    shiboken6.delete(made.page)


def shown(room: Room) -> list[str]:
    return [item.text for turn in room.page.transcript.column.turns for item in turn.items]


async def test_a_message_is_streamed_and_its_figures_are_the_request_logs(room: Room) -> None:
    """I9: first token and tok/s under the answer are those that the request log holds for it."""
    room.service.script = answer("Hello ", "there.")
    await room.say("Hi")
    assert room.service.asked[0].body["messages"] == [{"role": "user", "content": "Hi"}]
    assert room.service.asked[0].body["model"] == "qwen3-32b"
    assert room.last.text == "Hello there."
    assert room.last.request_id == "r-1"
    assert "Hello there." in shown(room)
    room.log(id="r-1", first_token_seconds=0.1234, tokens_per_second=77.7, completion_tokens=412)
    assert shown(room)[-1] == "77.7 tok/s · first token 123 ms · 412 tokens · complete"
    assert room.page.transcript.accessibleDescription() == "Hello there."
    assert room.page.composer.field.toPlainText() == ""


async def test_stop_ends_the_request_at_once_and_keeps_the_part(room: Room) -> None:
    room.service.script = first_then_wait("Half an ans")
    room.page.composer.field.setPlainText("Hi")
    reading.click(room.page, "Send message")
    await until(lambda: "Half an ans" in shown(room))
    QTest.keyClick(room.page.composer.field, Qt.Key.Key_Escape)
    assert not room.page.session.is_sending
    assert (room.last.text, room.last.finish) == ("Half an ans", "stopped")
    await asyncio.wait_for(room.service.asked[0].gone.wait(), 60)
    assert reading.named(room.page, "Send message")


async def test_an_error_event_keeps_what_came_and_retry_asks_again(room: Room) -> None:
    async def script(asked: Asked) -> None:
        await asked.say("Half")
        await asked.event({"error": {"message": "The engine stopped: out of memory."}})

    room.service.script = script
    await room.say("Hi")
    assert (room.last.text, room.last.finish) == ("Half", "failed")
    assert "The engine stopped: out of memory." in shown(room)
    room.service.script = answer("Whole.")
    reading.click(room.page, "Retry")
    await until(lambda: not room.page.session.is_sending)
    assert room.last.text == "Whole."
    assert room.page.session.versions() == (2, 2)
    assert [m["content"] for m in room.service.asked[1].body["messages"]] == ["Hi"]


async def test_a_refusal_is_said_in_the_services_words(room: Room) -> None:
    room.service.refusal = (503, "No model is loaded.")
    await room.say("Hi")
    assert (room.last.finish, room.last.error) == ("failed", "No model is loaded.")
    assert reading.is_there(room.page, "Retry")


async def test_a_stream_that_is_cut_says_so(room: Room) -> None:
    async def script(asked: Asked) -> None:
        await asked.say("Half")
        await asyncio.sleep(0)
        asked.break_off()

    room.service.script = script
    await room.say("Hi")
    assert (room.last.text, room.last.finish) == ("Half", "cut")
    assert any("cut off" in text for text in shown(room))


async def test_a_service_that_is_gone_is_an_error_with_retry(room: Room) -> None:
    await room.service.stop()
    await room.say("Hi")
    assert room.last.finish == "failed"
    assert "does not answer" in room.last.error
    assert reading.is_there(room.page, "Retry")


async def test_the_token_limit_is_said_plainly(room: Room) -> None:
    room.service.script = answer("One two", finish="length")
    await room.say("Count")
    assert any("token limit" in text for text in shown(room))


async def test_regenerating_keeps_the_version_before(room: Room) -> None:
    room.service.script = answer("First.")
    await room.say("Hi")
    room.service.script = answer("Second.")
    reading.click(room.page, "Regenerate")
    await until(lambda: not room.page.session.is_sending)
    assert room.last.text == "Second."
    reading.click(room.page, "Previous version")
    assert room.last.text == "First."
    assert "First." in shown(room)
    assert "Second." not in shown(room)
    reading.click(room.page, "Next version")
    reading.click(room.page, "Copy answer")
    assert QGuiApplication.clipboard().text() == "Second."


async def test_waiting_for_a_model_is_said(room: Room) -> None:
    from tests.ui import worlds

    room.store.put("seats", worlds.WORLDS["loading"].seats)
    room.service.script = first_then_wait("Now")
    room.page.composer.field.setPlainText("Hi")
    room.page.composer.field.sent.emit()
    assert "Waiting for the model …" in shown(room)
    await until(lambda: "Now" in shown(room))
    assert not any("Waiting" in text for text in shown(room))


async def test_without_a_model_nothing_typed_is_lost(room: Room) -> None:
    room.store.put("seats", Seats(seats=(SeatView(name="main", phase=Idle()),)))
    room.page.composer.field.setPlainText("A long question")
    QTest.keyClick(room.page.composer.field, Qt.Key.Key_Return)
    assert room.page.composer.field.toPlainText() == "A long question"
    assert not reading.named(room.page, "Send message").isEnabled()
    wanted: list[str] = []
    room.page.page_wanted.connect(lambda key, _: wanted.append(key))
    reading.click(room.page, "Choose a model")
    assert wanted == ["models"]


async def test_keys_of_the_field(room: Room) -> None:
    field = room.page.composer.field
    one_line = field.height()
    QTest.keyClicks(field, "one")
    QTest.keyClick(field, Qt.Key.Key_Return, Qt.KeyboardModifier.ShiftModifier)
    QTest.keyClicks(field, "two")
    assert field.toPlainText() == "one\ntwo"
    assert field.height() > one_line
    field.setPlainText("\n" * 40)
    assert field.height() < 10 * one_line
    field.setPlainText("")
    QTest.keyClick(field, Qt.Key.Key_Up)
    QTest.keyClick(field, Qt.Key.Key_Escape)
    assert (field.toPlainText(), room.service.asked) == ("", [])
    QTest.keyClicks(field, "Hi")
    QTest.keyClick(field, Qt.Key.Key_Return)
    await until(lambda: not room.page.session.is_sending and room.page.session.messages)
    assert room.last.text == "Hello."


async def test_sampling_and_system_prompt_go_with_the_request(room: Room) -> None:
    reading.click(room.page, "Sampling and system prompt")
    reading.named(room.page, "Temperature").setValue(0.3)  # type: ignore[attr-defined]
    reading.named(room.page, "Most tokens of an answer").setValue(99)  # type: ignore[attr-defined]
    reading.named(room.page, "System prompt").setPlainText("Be brief.")  # type: ignore[attr-defined]
    QTest.keyClick(reading.named(room.page, "System prompt"), Qt.Key.Key_Escape)
    assert not reading.is_there(room.page, "Temperature")
    await room.say("Hi")
    body = room.service.asked[0].body
    assert (body["temperature"], body["max_tokens"]) == (0.3, 99)
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert "top_p" not in body


async def test_everything_is_there_again_and_a_broken_off_answer_is_marked(tmp_path: Path, room: Room) -> None:
    """I16: the window dies while an answer is being written; what had come is there when it is opened again."""
    room.service.script = first_then_wait("What had come")
    room.page.composer.field.setPlainText("Hi")
    room.page.composer.field.sent.emit()
    await until(lambda: "What had come" in shown(room))
    room.page.composer.field.setPlainText("typed meanwhile")
    # what a kill leaves is what is in the file by then, nothing is written at the end

    def kept() -> bool:
        file = ChatFile(room.paths.chats)
        found = file.conversations()
        texts = [message.text for message in file.messages(found[0].id)] if found else []
        file.close()
        return texts == ["Hi", "What had come"] and found[0].draft == "typed meanwhile"

    await until(kept)
    again = Room(tmp_path)
    await until(lambda: again.page.session.messages)
    assert again.page.session.messages[-1].text == "What had come"
    assert again.page.session.messages[-1].finish == "interrupted"
    assert again.page.composer.field.toPlainText() == "typed meanwhile"
    await again.close()
    shiboken6.delete(again.page)


async def test_deleting_needs_its_keys_and_can_be_undone(room: Room) -> None:
    await room.say("Keep me")
    page = room.page
    page.panel.list.setFocus()
    for key in (Qt.Key.Key_Delete, Qt.Key.Key_Backspace):
        QTest.keyClick(page.panel.list, key)
    assert len(page.session.conversations) == 1
    page._delete(page.session.conversation.id)
    assert (page.session.conversations, page.session.messages) == ([], ())
    reading.click(page, "Undo")
    await until(lambda: page.session.messages)
    assert [m.text for m in page.session.messages] == ["Keep me", "Hello."]


async def test_conversations_are_found_renamed_and_opened(room: Room) -> None:
    await room.say("About apples")
    first = room.page.session.conversation.id
    room.page.new_chat()
    await room.say("About pears")
    panel = room.page.panel
    assert [panel.list.item(n).text() for n in range(panel.list.count())] == ["About pears", "About apples"]
    panel.search.setText("apples")
    await until(lambda: panel.list.count() == 1)
    panel.open_wanted.emit(first)
    await until(lambda: room.page.session.messages and room.page.session.messages[0].text == "About apples")
    panel.list.item(0).setText("Fruit")
    assert room.page.session.conversation.title == "Fruit"


async def test_a_thousand_tokens_come_as_few_flushes(room: Room) -> None:
    """Never a signal per token: what came within a frame is shown at once."""
    flushes: list[str] = []
    room.page.session.grew.connect(lambda text, _: flushes.append(text))

    async def script(asked: Asked) -> None:
        await asked.say(*(f"w{n} " for n in range(1000)))
        await asked.end()

    room.service.script = script
    began = time.monotonic()
    await room.say("Hi")
    assert "".join(flushes) == room.last.text
    assert len(flushes) <= (time.monotonic() - began) * 1000 / FRAME_MS + 2, "never more than one in a frame"


async def test_a_burst_is_read_in_steps(room: Room) -> None:
    """I16: what has gathered in the socket does not hold up the window, however much it is."""

    async def script(asked: Asked) -> None:
        await asked.say("First. ")
        piece = b'data: {"choices": [{"index": 0, "delta": {"content": "word "}}]}\n\n'
        await asked.stream.write(piece * 4_000)
        await asked.end()

    room.service.script = script
    turns = []  # of the window's loop, and how much of the answer was there by then
    room.page.composer.field.setPlainText("Hi")
    reading.click(room.page, "Send message")
    while room.page.session.is_sending:
        await asyncio.sleep(0)
        answer = room.page.session.answering.answer
        turns.append(len(answer.message().text) if answer is not None else 20_007)
    steps = {b - a for a, b in itertools.pairwise(turns) if b > a}
    assert room.last.text == "First. " + 4_000 * "word "
    assert max(steps) < 2_500, "no turn took all that one look at the socket brings"


async def test_reasoning_is_folded_until_asked_for(room: Room) -> None:
    async def script(asked: Asked) -> None:
        await asked.say(reasoning_content="I think.")
        await asked.say("So it is.")
        await asked.end()

    room.service.script = script
    await room.say("Hi")
    turn = room.page.transcript.column.turns[-1]
    assert [item.kind for item in turn.items][:2] == [Kind.REASONING, Kind.TEXT]
    room.page.transcript.fold(1)
    assert [item.kind for item in turn.items][:3] == [Kind.REASONING, Kind.THOUGHT, Kind.TEXT]
    assert room.service.asked[0].body["messages"] == [{"role": "user", "content": "Hi"}]


async def test_everything_has_a_name_and_fits(room: Room) -> None:
    await room.say("Hi")
    assert reading.unnamed(room.page) == []
    room.page.resize(820, 560)
    QGuiApplication.processEvents()
    assert reading.wider_than(room.page, 820) == []
    assert not room.page.panel.isVisible()
    reading.click(room.page, "Show conversations")
    assert room.page.panel.isVisible()


async def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    import sqlite3

    chats.keep(tmp_path / "d" / "chats.sqlite3", {"Old": list(chats.turn(0))})
    connection = sqlite3.connect(tmp_path / "d" / "chats.sqlite3")
    connection.execute("PRAGMA user_version = 99")
    connection.commit()
    connection.close()
    room = Room(tmp_path)
    await room.open()
    assert "newer Engine Room" in reading.texts(room.page)
    await room.say("Hi")
    assert room.last.text == "Hello."
    await room.close()
    shiboken6.delete(room.page)


async def test_nothing_is_sent_into_a_conversation_before_it_is_read(room: Room) -> None:
    """H3: what is typed and sent right after another conversation was chosen goes into that one, with its own past."""
    await room.say("First question")
    first = room.page.session.conversation.id
    room.page.new_chat()
    await room.say("Second question")
    room.page.composer.field.setPlainText("an unsent line")
    session, reading = room.page.session, threading.Event()
    assert session._writer is not None
    session._writer._readers.submit(reading.wait, 60)  # the file is slow
    session.open(first)
    assert room.page.composer.field.toPlainText() == "", "the other conversation's draft is not carried over"
    room.page.composer.field.setPlainText("And then?")
    room.page.composer.field.sent.emit()
    assert len(room.service.asked) == 2, "it would have gone with the other conversation's past"
    reading.set()
    await until(lambda: len(room.service.asked) == 3 and not session.is_sending)
    assert [m["content"] for m in room.service.asked[2].body["messages"]] == ["First question", "Hello.", "And then?"]
    assert room.page.composer.field.toPlainText() == ""
    assert [m.text for m in session.messages] == ["First question", "Hello.", "And then?", "Hello."]


async def test_the_last_letters_before_the_window_closes_are_kept(room: Room) -> None:
    """H3: a draft is written at a pause in typing; a window that closes does not wait for one."""
    QTest.keyClicks(room.page.composer.field, "Half a thou")
    session = room.page.session
    assert session._draft_timer.isActive(), "the pause is not over"
    room.page.hide()
    assert not session._draft_timer.isActive()
    assert session._writer is not None
    assert session._writer.flush(60)
    assert [c.draft for c in ChatFile(room.paths.chats).conversations()] == ["Half a thou"]
