"""Seats, lending and comfort as a person sees them: one seat changes nothing, two are told apart, the GPU is lent and comes back."""

from __future__ import annotations

import time

import msgspec
import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QMenu

from app.core import control
from app.core import lifecycle as phases
from app.core.control import Lend, Unload, Want
from app.core.snapshot import Seats, SeatView
from app.ui import wording
from tests.ui import stage, worlds
from tests.ui.conftest import StageOf
from tests.ui.profile_worlds import MINE
from tests.ui.reading import click, is_there, named, texts, unnamed, wider_than

READY = worlds.ready().seats[0]
FREE = SeatView(name="second")


def second(profile: worlds.ProfileCard, phase: phases.Phase) -> SeatView:
    return SeatView(name="second", phase=phase, wanted=profile.profile.id, run=worlds.run(profile))


def loading_on_second() -> SeatView:
    demo = worlds.GPU_LIBRARY.profiles[-1]
    return second(demo, phases.Loading(profile_id="demo", run_id="r-2", stage="weights", progress=0.4))


def put(made: stage.Stage, *seats: SeatView) -> None:
    made.store.put("seats", Seats(seats=seats))
    QApplication.processEvents()


def menu_entry(text: str) -> object:
    menus = [w for w in QApplication.topLevelWidgets() if isinstance(w, QMenu) and w.isVisible()]
    return next(a for menu in menus for a in menu.actions() if a.text().startswith(text))


def choose(text: str) -> None:
    menu_entry(text).trigger()  # type: ignore[attr-defined]
    for menu in [w for w in QApplication.topLevelWidgets() if isinstance(w, QMenu)]:
        menu.close()


def failed(name: str, summary: str) -> SeatView:
    failure = phases.Failure(kind="driver", summary=summary, advice="Look at it.", profile_id="demo")
    return SeatView(name=name, phase=phases.Failed(failure=failure), notice=f"of {name}")


def test_one_failure_that_is_closed_does_not_hide_the_other_seats(stage_of: StageOf) -> None:
    made = stage_of("ready")
    put(made, failed("main", "The first one broke."), failed("second", "The other one broke."))
    assert "The first one broke." in texts(made.window)
    click(made.window, "Dismiss failure")
    said = texts(made.window)
    assert "The first one broke." not in said
    assert "The other one broke." in said
    click(made.window, "Dismiss failure")
    assert "The other one broke." not in texts(made.window)
    put(made, FREE, READY)
    put(made, failed("main", "The first one broke."))
    assert "The first one broke." in texts(made.window), "the same again is news"


def test_with_one_seat_there_is_no_word_of_seats(stage_of: StageOf) -> None:
    made = stage_of("ready")
    assert not is_there(made.window, "Seat main")
    click(made.window, "More for gemma-3-12b")
    with pytest.raises(StopIteration):
        menu_entry("Load on")
    choose("Copy command line")


def test_two_seats_are_shown_side_by_side_each_with_its_model(stage_of: StageOf) -> None:
    made = stage_of("ready")
    put(made, READY, loading_on_second())
    for name in ("Seat main", "Seat second"):
        assert is_there(made.window, name)
    assert "Demo, loading 40" in texts(made.window.header)
    assert "Qwen3 32B" in texts(named(made.window, "Seat main"))
    assert "Loading Demo" in texts(made.window)
    click(made.window, "Cancel: second")
    assert made.link.sent[-1] == ("/control/unload", Unload(seat="second"))
    click(made.window, "Stop: main")
    assert made.link.sent[-1] == ("/control/unload", Unload(seat="main"))


def test_a_profile_is_loaded_on_the_seat_that_is_chosen(stage_of: StageOf) -> None:
    made = stage_of("ready")
    put(made, READY, FREE)
    assert "second: free" in texts(made.window.header)
    click(made.window, "More for gemma-3-12b")
    choose("Load on second")
    assert made.link.sent[-1] == ("/control/want", Want(profile="gemma-3-12b", seat="second"))


def test_a_card_knows_the_seat_on_which_its_profile_is(stage_of: StageOf) -> None:
    made = stage_of("ready", size=(1280, 1600))  # its card is in the third row
    put(made, READY, loading_on_second())
    click(made.window, "Cancel loading demo")
    assert made.link.sent[-1] == ("/control/unload", Unload(seat="second"))


def test_a_failure_on_the_second_seat_is_told_too(stage_of: StageOf) -> None:
    made = stage_of("ready")
    failure = msgspec.structs.replace(worlds.FAILURE, profile_id="demo", summary="Demo ran out of memory.")
    put(made, READY, SeatView(name="second", phase=phases.Failed(failure=failure)))
    assert "Demo ran out of memory." in texts(made.window)


def test_the_gpu_is_lent_and_taken_back(stage_of: StageOf) -> None:
    made = stage_of("ready")
    click(made.window, "Lend the GPU")
    choose("15 minutes")
    assert made.link.sent[-1] == ("/control/lend", Lend(minutes=15.0))
    lent = SeatView(name="main", wanted="qwen3-32b", resting="lent", lent_until_unix=time.time() + 14.5 * 60)
    put(made, lent)
    said = texts(made.window.header)
    for words in ("Qwen3 32B", "Lent", "The GPU is lent. Qwen3 32B comes back in 15 min.", "Return now"):
        assert words in said
    assert not is_there(made.window, "Lend the GPU")
    click(made.window, "Return now")
    assert made.link.sent[-1] == ("/control/lend/return", Unload())


def test_a_shortcut_lends_and_takes_back(stage_of: StageOf) -> None:
    made = stage_of("ready")
    both = Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier
    QTest.keyClick(made.window, Qt.Key.Key_L, both)
    assert made.link.sent[-1] == ("/control/lend", Lend(minutes=30.0))
    put(made, SeatView(name="main", wanted="qwen3-32b", resting="lent", lent_until_unix=time.time() + 600))
    QTest.keyClick(made.window, Qt.Key.Key_L, both)
    assert made.link.sent[-1] == ("/control/lend/return", Unload())


def test_idle_unload_is_announced_and_explained(stage_of: StageOf) -> None:
    made = stage_of("ready")
    put(made, msgspec.structs.replace(READY, idle_unload_at_unix=time.time() + 200))
    assert "vLLM 0.11.2 · idle, unloads in 4 min" in texts(made.window.header)
    put(made, SeatView(name="main", wanted="qwen3-32b", resting="idle"))
    said = texts(made.window.header)
    assert "Qwen3 32B was unloaded because nobody asked. The next request brings it back." in said
    assert "Nothing is loaded." not in texts(made.window)


def test_what_waits_for_room_says_so(stage_of: StageOf) -> None:
    made = stage_of("ready")
    put(made, SeatView(name="main", wanted="qwen3-32b", resting="memory"))
    assert "Qwen3 32B comes back as soon as there is room for it." in texts(made.window.header)


@pytest.mark.parametrize(("entry", "key"), [("Keep loaded", "keep_loaded"), ("Load at start", "load_at_start")])
def test_comfort_is_switched_on_the_card(stage_of: StageOf, entry: str, key: str) -> None:
    made = stage_of("two_gpus")
    made.link.answers["/control/profiles/gemma-3-12b"] = MINE
    made.link.answers["/control/profiles"] = MINE
    click(made.window, "More for gemma-3-12b")
    choose(entry)
    sent = made.link.sent[-1][1]
    assert isinstance(sent, control.ProfileText)
    assert f"{key} = true" in sent.text
    assert "# 16k is tight" in sent.text
    assert sent.based_on == MINE.text


def test_a_changed_profile_is_loaded_again_by_one_click(stage_of: StageOf) -> None:
    made = stage_of("ready")
    put(made, msgspec.structs.replace(READY, outdated=True))
    assert "Qwen3 32B was changed since it was loaded." in texts(made.window)
    click(made.window, "Load it again with the changes")
    assert made.link.sent[-1] == ("/control/restart", Unload(seat="main"))


def test_time_left_is_rounded_up() -> None:
    assert wording.minutes_until(1_061.0, 1_000.0) == "2 min"
    assert wording.minutes_until(1_001.0, 1_000.0) == "1 min"
    assert wording.minutes_until(999.0, 1_000.0) == "a moment"


def test_two_seats_fit_a_small_screen_and_every_control_has_a_name(stage_of: StageOf) -> None:
    made = stage_of("ready", size=(1024, 640))
    put(made, READY, loading_on_second())
    assert made.window.width() == 1024
    assert wider_than(made.window, 1024) == []
    assert unnamed(made.window) == []


def test_a_model_that_sleeps_can_be_woken_or_stopped_and_waking_is_no_load(stage_of: StageOf) -> None:
    made = stage_of("ready")
    here = {"profile_id": "qwen3-32b", "run_id": "r-1", "since": worlds.NOW}
    asleep = msgspec.structs.replace(READY, phase=phases.Sleeping(**here, level=1), resting="parked")
    made.store.put("seats", Seats(seats=(asleep,)))
    assert "The next request wakes it in seconds." in texts(made.window)
    click(made.window, "Wake now")
    click(made.window, "Stop")
    assert [path for path, _ in made.link.sent] == ["/control/lend/return", "/control/unload"]
    made.store.put("seats", Seats(seats=(msgspec.structs.replace(READY, phase=phases.Waking(**here, deadline=9e9)),)))
    QApplication.processEvents()
    assert "Waking Qwen3 32B" in texts(made.window)
    assert is_there(made.window, "Stage 1 of 2: Asked to wake")
    assert not is_there(made.window, "Wake now")
