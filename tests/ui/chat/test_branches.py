"""Questions are asked anew as branches: the first stays, and both are reached again (H1, H3)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import shiboken6
from PySide6.QtGui import QAction

from tests.ui import reading
from tests.ui.chat.rig import Room, answer, until


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    made = Room(tmp_path)
    await made.open()
    yield made
    await made.close()
    shiboken6.delete(made.page)


def said(room: Room) -> list[str]:
    return [message.text for message in room.page.session.messages]


def entry(room: Room, turn: int, text: str) -> QAction:
    column = room.page.transcript.column
    top = next(
        y
        for y in range(0, 4000, 4)
        if (found := column.at(y + room.page.transcript._y)) is not None and found[0] == turn
    )
    from PySide6.QtCore import QPoint

    menu = room.page.transcript.menu(QPoint(100, top))
    room.page._menus = [*getattr(room.page, "_menus", []), menu]  # type: ignore[attr-defined]
    return next(action for action in menu.actions() if action.text().startswith(text))


async def two_branches(room: Room) -> None:
    room.service.script = answer("Blue.")
    await room.say("What colour is the sky?")
    room.page.composer.field.setPlainText("half a thought")
    reading.click(room.page, "Edit the question")
    assert room.page.composer.field.toPlainText() == "What colour is the sky?"
    room.service.script = answer("Black.")
    await room.say("What colour is the sky at night?")


async def test_a_question_asked_anew_is_a_branch_and_the_first_stays(room: Room) -> None:
    await two_branches(room)
    assert said(room) == ["What colour is the sky at night?", "Black."]
    assert room.service.asked[1].body["messages"] == [{"role": "user", "content": "What colour is the sky at night?"}]
    assert room.page.composer.field.toPlainText() == "half a thought"
    entry(room, 0, "Show the question before (2 of 2)").trigger()
    assert said(room) == ["What colour is the sky?", "Blue."]
    entry(room, 0, "Show the next question").trigger()
    assert said(room) == ["What colour is the sky at night?", "Black."]


async def test_an_earlier_question_is_asked_anew_without_what_came_after_it(room: Room) -> None:
    await room.say("One?")
    await room.say("Two?")
    entry(room, 0, "Edit and ask again").trigger()
    await room.say("One, again?")
    assert said(room)[0] == "One, again?"
    assert len(said(room)) == 2
    entry(room, 0, "Show the question before").trigger()
    assert [text for text in said(room) if text.endswith("?")] == ["One?", "Two?"]


async def test_asking_anew_can_be_given_up_and_what_was_typed_is_back(room: Room) -> None:
    await room.say("One?")
    room.page.composer.field.setPlainText("next thing")
    reading.click(room.page, "Edit the question")
    room.page.composer.field.setPlainText("no, rather")
    reading.click(room.page, "Cancel")
    assert room.page.composer.field.toPlainText() == "next thing"
    assert len(room.page.session.messages) == 2


async def test_branches_are_there_again_after_a_restart(tmp_path: Path, room: Room) -> None:
    await two_branches(room)
    room.page.session.close()
    other = Room(tmp_path)
    await other.service.stop()
    other.page.resize(1000, 700)
    other.page.show()
    await until(lambda: other.page.session.messages)
    assert said(other) == ["What colour is the sky at night?", "Black."]
    assert other.page.session.branches(other.page.session.messages[0].id) == (2, 2)
    await other.close()
    shiboken6.delete(other.page)
