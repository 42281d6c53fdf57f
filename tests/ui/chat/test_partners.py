"""With two seats a person chooses which model answers; with one there is nothing to choose (S7)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import shiboken6
from PySide6.QtWidgets import QApplication, QMenu

from app.core.snapshot import Seats, SeatView
from tests.ui import reading, worlds
from tests.ui.chat.rig import Room

FIRST = worlds.ready().seats[0]
SECOND = SeatView(
    name="second",
    wanted="gemma-3-12b",
    phase=worlds.phases.Ready(profile_id="gemma-3-12b", run_id="r-2", endpoint=FIRST.phase.endpoint),  # type: ignore[union-attr]
)


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    made = Room(tmp_path)
    await made.open()
    yield made
    await made.close()
    shiboken6.delete(made.page)


async def test_with_one_seat_there_is_nothing_to_choose(room: Room) -> None:
    assert not reading.is_there(room.page, "Choose which model answers")


async def test_the_model_on_the_second_seat_is_asked_when_it_is_chosen(room: Room) -> None:
    room.store.put("seats", Seats(seats=(FIRST, SECOND)))
    await room.say("Who are you?")
    reading.click(room.page, "Choose which model answers")
    menu = next(w for w in QApplication.topLevelWidgets() if isinstance(w, QMenu) and w.isVisible())
    assert [action.text() for action in menu.actions()] == ["Qwen3 32B", "Gemma 3 12B"]
    menu.actions()[1].trigger()
    menu.close()
    assert room.page.composer.field.placeholderText() == "Message Gemma 3 12B"
    await room.say("And you?")
    assert [asked.body["model"] for asked in room.service.asked] == ["qwen3-32b", "gemma-3-12b"]


async def test_what_was_chosen_and_left_gives_way_to_what_is_there(room: Room) -> None:
    room.store.put("seats", Seats(seats=(FIRST, SECOND)))
    room.page.chat_with("gemma-3-12b")
    room.store.put("seats", Seats(seats=(FIRST, SeatView(name="second"))))
    await room.say("Hello?")
    assert room.service.asked[0].body["model"] == "qwen3-32b"


async def test_a_model_on_the_second_seat_alone_is_asked(room: Room) -> None:
    room.store.put("seats", Seats(seats=(SeatView(name="main"), SECOND)))
    await room.say("Hello?")
    assert room.service.asked[0].body["model"] == "gemma-3-12b"
