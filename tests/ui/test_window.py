"""The window's frame: header, notices, pages by keyboard, closing, sizes and themes."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
import shiboken6
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QWidget

from app.core.control import Unload
from app.core.errors import DoesNotFit
from app.core.snapshot import Service
from app.ui.store import Connection
from app.ui.widgets.controls import Button
from app.ui.widgets.overlay import Overlay
from tests.ui import stage, worlds
from tests.ui.conftest import StageOf
from tests.ui.reading import click, is_there, named, texts, unnamed, wider_than

PAGES = ("models", "monitor", "engines", "settings")


def test_the_header_shows_model_engine_state_speed_and_endpoint_on_every_page(stage_of: StageOf) -> None:
    made = stage_of("ready")
    for page in PAGES:
        made.window.open_page(page)
        said = texts(made.window.header)
        for words in ("Qwen3 32B", "vLLM 0.11.2 · up 2 h 14 min", "Ready", "1,284", "http://127.0.0.1:7000/v1"):
            assert words in said


def test_the_endpoint_is_copied_with_an_answer_to_the_eye_and_ear(stage_of: StageOf) -> None:
    made = stage_of("ready")
    click(made.window, "Copy endpoint URL")
    assert QGuiApplication.clipboard().text() == "http://127.0.0.1:7000/v1"
    assert is_there(made.window, "Endpoint URL copied")
    assert "Endpoint URL copied" in texts(made.window.toast)


def test_stop_asks_the_service_to_unload(stage_of: StageOf) -> None:
    made = stage_of("ready")
    click(made.window, "Stop")
    assert made.link.sent == [("/control/unload", Unload())]


def test_a_refusal_is_told_with_its_advice(stage_of: StageOf) -> None:
    made = stage_of("no_gpu")
    made.link.refused.emit(DoesNotFit("Needs 71 GiB; 52 GiB may be used.", "Choose a shorter context."))
    assert "Needs 71 GiB; 52 GiB may be used." in texts(made.window.toast)
    assert "Choose a shorter context." in texts(made.window.toast)


def test_a_notice_stays_until_dismissed_and_does_not_come_back(stage_of: StageOf) -> None:
    made = stage_of("rolled_back", page="settings")
    assert "Demo is back with its settings." in texts(made.window.notice_bar)
    click(made.window, "Dismiss notice")
    assert "Port 7000 is held by AirPlay (pid 812)" in texts(made.window.notice_bar)
    click(made.window, "Dismiss notice")
    assert not made.window.notice_bar.isVisible()
    made.store.put("service", msgspec.structs.replace(made.store.service, version="0.1.1"))
    assert not made.window.notice_bar.isVisible()


def test_pages_are_reached_by_keyboard(stage_of: StageOf, qapp: QApplication) -> None:
    made = stage_of("no_gpu")
    for key, page in (("5", "monitor"), ("6", "engines"), ("7", "settings"), ("1", "models")):
        QTest.keyClick(made.window, getattr(Qt.Key, f"Key_{key}"), Qt.KeyboardModifier.ControlModifier)
        qapp.processEvents()
        assert made.window.page_key == page
    QTest.keyClick(made.window, Qt.Key.Key_L, Qt.KeyboardModifier.ControlModifier)
    qapp.processEvents()
    assert named(made.window, "Search models").hasFocus()


def test_tab_reaches_load_and_space_presses_it(stage_of: StageOf, qapp: QApplication) -> None:
    made = stage_of("no_gpu")
    wanted = named(made.window, "Load demo")
    for _ in range(60):
        QTest.keyClick(QApplication.focusWidget() or made.window, Qt.Key.Key_Tab)
        if QApplication.focusWidget() is wanted:
            break
    assert QApplication.focusWidget() is wanted
    QTest.keyClick(wanted, Qt.Key.Key_Space)
    assert [path for path, _ in made.link.sent] == ["/control/want"]


@pytest.mark.parametrize("world", [*worlds.WORLDS, "gone", None])
@pytest.mark.parametrize("page", PAGES)
def test_every_interactive_widget_has_a_name_to_be_spoken(stage_of: StageOf, world: str | None, page: str) -> None:
    assert unnamed(stage_of(world, page=page).window) == []


@pytest.mark.parametrize("world", ["ready", "failing", "loading", "rolled_back", "gone"])
@pytest.mark.parametrize("page", PAGES)
def test_nothing_is_wider_than_a_small_screen(stage_of: StageOf, world: str, page: str, qapp: QApplication) -> None:
    made = stage_of(world, size=(1024, 640), page=page)
    qapp.processEvents()
    assert made.window.width() == 1024
    assert wider_than(made.window, 1024) == []


def test_the_theme_changes_at_once_and_is_asked_of_the_service(stage_of: StageOf, qapp: QApplication) -> None:
    made = stage_of("ready", page="settings")
    before = made.window.grab().toImage().pixelColor(QPoint(1200, 600)).lightness()
    click(made.window, "Theme: Light")
    qapp.processEvents()
    after = made.window.grab().toImage().pixelColor(QPoint(1200, 600)).lightness()
    assert before < 60
    assert after > 200
    assert made.link.sent[-1][1].values == {"window.theme": "light"}  # type: ignore[attr-defined]


def test_no_stock_colour_shows_through_in_either_theme(stage_of: StageOf) -> None:
    for theme in ("light", "dark"):
        made = stage_of("ready", theme=theme)
        image = made.window.grab().toImage()
        greys = sum(
            image.pixelColor(x, y).name() == "#efefef"
            for x in range(0, image.width(), 7)
            for y in range(0, image.height(), 7)
        )
        assert greys < 20  # single pixels of a glyph's edge may happen to have it


def test_closing_asks_once_whether_the_model_stays(stage_of: StageOf) -> None:
    made = stage_of("ready")
    made.window.close()
    assert made.window.isVisible()
    assert "Keep the model loaded?" in texts(made.window)
    box = named(made.window, "Remember my choice")
    box.setChecked(True)  # type: ignore[attr-defined]
    click(made.window, "Keep it loaded")
    assert not made.window.isVisible()
    kept = json.loads((made.link.paths.config / "window.json").read_text())
    assert kept["on_close"] == "leave"


def test_escape_takes_the_question_back(stage_of: StageOf) -> None:
    made = stage_of("ready")
    made.window.close()
    QTest.keyClick(named(made.window, "Keep it loaded"), Qt.Key.Key_Escape)
    assert made.window.isVisible()
    assert "Keep the model loaded?" not in texts(made.window)


def test_an_answer_counts_though_what_had_the_focus_before_has_gone_meanwhile(stage_of: StageOf) -> None:
    """A list is made anew whenever the service tells of it, also while a question stands over the window."""
    made = stage_of("ready")

    def focused() -> Button:
        button = Button(made.theme, "Forget it")
        button.setParent(made.window)
        button.show()
        button.setFocus()
        return button

    row = focused()
    overlay = Overlay(made.theme, made.window, "A log", QWidget())
    shiboken6.delete(row)
    closed: list[bool] = []
    overlay.closed.connect(lambda: closed.append(True))
    overlay.dismiss()
    assert closed
    row = focused()
    made.window.close()
    shiboken6.delete(row)
    click(made.window, "Keep it loaded")
    assert not made.window.isVisible(), "the question went, and so did its answer"


def test_the_second_half_of_a_double_click_is_not_for_what_took_the_buttons_place(stage_of: StageOf) -> None:
    """Load becomes Cancel where it stood as soon as the service has heard of it: that may be sooner than a double click."""
    made = stage_of("no_gpu")
    button = named(made.window, "Load demo")
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)
    demo = made.store.card("demo")
    assert demo is not None
    made.store.put("seats", worlds.loading(demo))
    cancel = named(made.window, "Cancel loading demo")
    assert cancel is button, "the same place"
    QTest.mouseDClick(cancel, Qt.MouseButton.LeftButton)
    assert [path for path, _ in made.link.sent] == ["/control/want"], "the load was cancelled by the person's own click"
    QTest.mouseClick(cancel, Qt.MouseButton.LeftButton)
    assert made.link.sent[-1][0] == "/control/unload", "a click of its own counts"


def test_a_press_that_began_on_another_button_is_no_click(stage_of: StageOf) -> None:
    """Models come in while the disk is read: a card may hold another one before the mouse is let go."""
    made = stage_of("no_gpu")
    button = named(made.window, "Load demo")
    QTest.mousePress(button, Qt.MouseButton.LeftButton)
    button.shape("Load", "", "", "Load another")  # type: ignore[attr-defined]
    QTest.mouseRelease(button, Qt.MouseButton.LeftButton)
    assert made.link.sent == []


def test_tab_stays_inside_a_question(stage_of: StageOf) -> None:
    made = stage_of("ready")
    made.window.close()
    seen: set[QWidget | None] = set()
    for _ in range(7):
        QTest.keyClick(QApplication.focusWidget(), Qt.Key.Key_Tab)
        seen.add(QApplication.focusWidget())
    assert {w.accessibleName() for w in seen if w} == {"Remember my choice", "Quit and unload", "Keep it loaded"}


def test_closing_without_a_model_asks_nothing(stage_of: StageOf) -> None:
    made = stage_of("no_gpu")
    closed: list[str] = []
    made.window.closing.connect(closed.append)
    made.window.close()
    assert closed == ["leave"]
    assert not made.window.isVisible()


def test_quit_and_unload_without_a_service_leaves_at_once(stage_of: StageOf) -> None:
    made = stage_of("gone")
    made.window.unload_wanted.emit()
    assert made.left == ["left"]


def test_place_and_page_come_back(stage_of: StageOf, tmp_path: Path) -> None:
    made = stage_of("no_gpu", size=(960, 650), page="monitor")
    made.window.close()
    again = stage.window(tmp_path / "0", worlds.WORLDS["no_gpu"])
    assert (again.window.width(), again.window.height()) == (960, 650)
    assert again.window.page_key == "monitor"
    again.presenter.deleteLater()
    again.window.deleteLater()


def test_each_connection_state_says_what_is_going_on(stage_of: StageOf) -> None:
    made = stage_of(None)
    assert "Connecting" in texts(made.window.header)
    made.store.set_connection(Connection.STARTING, "The Engine Room service is being started.")
    assert "The Engine Room service is being started." in texts(made.window)
    made.store.set_connection(Connection.MISFIT, "The running service is version 9 and does not fit this window.")
    assert "Another version" in texts(made.window.header)
    assert "version 9" in texts(made.window)
    made.store.set_connection(Connection.CONNECTED)
    made.store.put("service", Service(gateway_url="http://127.0.0.1:7000/v1"))
    assert "http://127.0.0.1:7000/v1" in texts(made.window.header)
