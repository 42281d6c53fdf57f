"""The Engines page as a newcomer meets it: installs, pins, updates, compares, goes back, and is told what went wrong."""

from __future__ import annotations

import msgspec
import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QFileDialog, QMenu, QPlainTextEdit

from app.core import control
from app.core.errors import DaemonUnreachable
from app.core.snapshot import Jobs
from app.ui.pages.engines import EnginesPage
from tests.ui import engine_worlds, stage, worlds
from tests.ui.conftest import StageOf
from tests.ui.engine_worlds import CACHES, DOWNLOADING, ENGINE_WORLDS, NEW, NO_COMPILER, OLD
from tests.ui.reading import click, is_there, named, texts, unnamed, wider_than


@pytest.fixture
def engines_of(stage_of: StageOf, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    def make(world: str, size: tuple[int, int] = (1280, 900), theme: str = "dark") -> stage.Stage:
        for name, one in ENGINE_WORLDS.items():
            monkeypatch.setitem(worlds.WORLDS, f"engines: {name}", one)
        made = stage_of(f"engines: {world}", size=size, theme=theme)
        made.link.answers["/control/caches"] = CACHES
        made.window.open_page("engines")
        QApplication.processEvents()
        made.link.sent.clear()
        return made

    return make


def page_of(made: stage.Stage) -> EnginesPage:
    page = made.window.open_page("engines")
    QApplication.processEvents()
    assert isinstance(page, EnginesPage)
    return page


def choose_from_menu(text: str) -> None:
    menus = [w for w in QApplication.topLevelWidgets() if isinstance(w, QMenu) and w.isVisible()]
    action = next(a for menu in menus for a in menu.actions() if a.text().startswith(text))
    assert action.isEnabled()
    action.trigger()
    for menu in menus:
        menu.close()


def test_a_newcomer_is_offered_the_build_for_their_card_first(engines_of) -> None:  # type: ignore[no-untyped-def]
    made = engines_of("nothing")
    said = texts(page_of(made))
    assert "Install an engine to run models" in said
    assert "NVIDIA CUDA" in said
    click(made.window, "Install for NVIDIA CUDA: llama.cpp")
    assert made.link.sent == [
        ("/control/engines/install", control.Install(family="llama.cpp", version="2026.11.12010", accelerator="cuda"))
    ]


def test_every_build_says_what_it_needs_and_whether_it_suits(engines_of) -> None:  # type: ignore[no-untyped-def]
    made = engines_of("nothing")
    click(made.window, "More versions of llama.cpp")
    said = texts(page_of(made))
    assert said.index("Best for this computer") < said.index("Ready-made.\n")
    assert "Needs an NVIDIA driver of the 570 series or newer and glibc 2.35." in said
    assert "No such device here" not in said
    click(made.window, "Show 2 more for other hardware of llama.cpp")
    assert "No such device here" in texts(page_of(made))
    click(made.window, "Install llama.cpp 2026.11.12010 for Vulkan")
    assert made.link.sent[-1][1] == control.Install(family="llama.cpp", version="2026.11.12010", accelerator="vulkan")


def test_any_version_can_be_asked_for(engines_of) -> None:  # type: ignore[no-untyped-def]
    made = engines_of("nothing")
    click(made.window, "More versions of llama.cpp")
    assert not named(made.window, "Install this version of llama.cpp").isEnabled()
    QTest.keyClicks(named(made.window, "Version of llama.cpp to install"), "2026.9.11000")
    click(made.window, "Install this version of llama.cpp")
    assert made.link.sent[-1][1] == control.Install(family="llama.cpp", version="2026.9.11000", accelerator="cuda")


def test_what_is_used_pinned_running_and_broken_can_be_seen(engines_of) -> None:  # type: ignore[no-untyped-def]
    made = engines_of("update")
    said = texts(page_of(made))
    for words in (
        "Update available",
        "In use",
        "Runs a model",
        "Installed by Engine Room · 642 MiB",
        "Added by you",
        "Newer than any that was tried here.",
        "It needs CPU instructions that this processor lacks (AVX-512).",
        "Cannot be used",
    ):
        assert words in said
    assert not is_there(made.window, "Use this: llama-server b5121 (CPU)")


def test_pin_update_and_go_back(engines_of) -> None:  # type: ignore[no-untyped-def]
    made = engines_of("update")
    click(made.window, "Pin llama.cpp 2026.10.11549 (NVIDIA CUDA)")
    assert made.link.sent[-1][1] == control.Pin(family="llama.cpp", installation=OLD.id)
    click(made.window, "Update to 2026.11.12010: llama.cpp")
    assert made.link.sent[-1][1] == control.Install(family="llama.cpp", version="2026.11.12010", accelerator="cuda")
    made.store.put("engines", ENGINE_WORLDS["updated"].engines)
    click(made.window, "Go back to this: llama.cpp 2026.10.11549 (NVIDIA CUDA)")
    assert made.link.sent[-1][1] == control.Pin(family="llama.cpp", installation=OLD.id)
    made.store.put("engines", ENGINE_WORLDS["pinned"].engines)
    click(made.window, "Unpin llama.cpp 2026.10.11549 (NVIDIA CUDA)")
    assert made.link.sent[-1][1] == control.Pin(family="llama.cpp", installation="")


def test_a_running_installation_shows_bytes_and_time_and_can_be_cancelled(engines_of) -> None:  # type: ignore[no-untyped-def]
    made = engines_of("busy")
    said = texts(page_of(made))
    assert "Downloading xllamacpp" in said
    assert "312.0 of 642.0 MiB · about 41 s left" in said
    assert named(made.window, "Progress of Installing llama.cpp 2026.11.12010 for NVIDIA CUDA").value() == 480  # type: ignore[attr-defined]
    assert not named(made.window, "Update to 2026.11.12010: llama.cpp").isEnabled()
    click(made.window, "Cancel Installing llama.cpp 2026.11.12010 for NVIDIA CUDA")
    assert made.link.sent == [("/control/jobs/cancel", control.JobOf(job="j-1"))]
    made.store.put("jobs", Jobs(jobs=(msgspec.structs.replace(DOWNLOADING, state="cancelled"),)))
    assert "Cancelled. Nothing was left behind." in texts(page_of(made))
    assert named(made.window, "Update to 2026.11.12010: llama.cpp").isEnabled()


def test_a_build_shows_its_steps(engines_of) -> None:  # type: ignore[no-untyped-def]
    assert "step 103 of 334 · about 9 min left" in texts(page_of(engines_of("building")))


def test_a_failed_installation_says_what_is_missing_and_keeps_its_log(engines_of) -> None:  # type: ignore[no-untyped-def]
    made = engines_of("failed")
    said = texts(page_of(made))
    assert NO_COMPILER.error in said
    assert NO_COMPILER.advice in said
    click(made.window, "Copy what went wrong with Installing llama-cpp-python 0.3.16")
    assert "no C++ compiler was found" in QGuiApplication.clipboard().text()
    made.link.answers["/control/jobs/j-3/log"] = "CMake Error: CMAKE_CXX_COMPILER not set"
    click(made.window, "Show the log of Installing llama-cpp-python 0.3.16")
    shown = made.window.findChild(QPlainTextEdit)
    assert "CMAKE_CXX_COMPILER not set" in shown.toPlainText()
    QTest.keyClick(shown, Qt.Key.Key_Escape)
    assert not shown.isVisible()
    click(made.window, "Dismiss Installing llama-cpp-python 0.3.16")
    assert NO_COMPILER.error not in texts(page_of(made))
    made.store.put("jobs", Jobs(jobs=(*made.store.jobs.jobs, DOWNLOADING)))
    assert NO_COMPILER.error not in texts(page_of(made))


def test_two_versions_are_compared_on_a_model_of_the_persons(engines_of) -> None:  # type: ignore[no-untyped-def]
    made = engines_of("pinned")
    click(made.window, "Compare llama.cpp 2026.11.12010 (NVIDIA CUDA)")
    choose_from_menu("Gemma 3 12B")
    assert made.link.sent[-1] == (
        "/control/engines/canary",
        control.Canary(installation=NEW.id, profile="gemma-3-12b"),
    )
    said = texts(page_of(made))
    for words in (
        "The new one is 13\u202f% faster than the one in use and gives the same answers.",
        "71.4",
        "63.0",
        "81 ms",
        "94 ms",
        "yes",
    ):
        assert words in said
    click(made.window, "Use the new one")
    assert made.link.sent[-1][1] == control.Pin(family="llama.cpp", installation=NEW.id)
    assert "faster than the one in use" not in texts(page_of(made))


def test_a_comparison_can_end_with_the_one_in_use(engines_of) -> None:  # type: ignore[no-untyped-def]
    made = engines_of("pinned")
    click(made.window, "Keep the one in use")
    assert "faster than the one in use" not in texts(page_of(made))
    assert made.link.sent == []


def test_what_a_person_added_is_taken_off_the_list_and_its_files_stay(engines_of) -> None:  # type: ignore[no-untyped-def]
    made = engines_of("update")
    click(made.window, "More for llama-server b6890 (NVIDIA CUDA)")
    choose_from_menu("Take off the list")
    assert "The files stay where they are." in texts(made.window)
    click(made.window, "Take it off")
    assert made.link.sent[-1][1] == control.AddEngine(path="/home/me/src/llama.cpp/build", forget=True)


def test_removing_asks_once(engines_of) -> None:  # type: ignore[no-untyped-def]
    made = engines_of("pinned")
    click(made.window, "More for llama.cpp 2026.11.12010 (NVIDIA CUDA)")
    choose_from_menu("Remove")
    assert made.link.sent == []
    assert "frees 642 MiB" in texts(made.window)
    click(made.window, "Remove")
    assert made.link.sent == [("/control/engines/remove", control.EngineOf(installation=NEW.id))]


def test_what_runs_a_model_is_not_removed(engines_of) -> None:  # type: ignore[no-untyped-def]
    made = engines_of("update")
    click(made.window, "More for llama.cpp 2026.10.11549 (NVIDIA CUDA)")
    menu = next(w for w in QApplication.topLevelWidgets() if isinstance(w, QMenu) and w.isVisible())
    remove = next(action for action in menu.actions() if action.text().startswith("Remove"))
    assert not remove.isEnabled()
    menu.close()


def test_an_engine_that_is_there_is_added_by_a_dialog_that_never_blocks(engines_of) -> None:  # type: ignore[no-untyped-def]
    made = engines_of("nothing")
    click(made.window, "Add an engine that is on this computer")
    choose_from_menu("A program file")
    dialog = page_of(made).findChild(QFileDialog)
    assert dialog is not None
    dialog.fileSelected.emit("/opt/llama/bin/llama-server")
    assert made.link.sent == [("/control/engines/add", control.AddEngine(path="/opt/llama/bin/llama-server"))]
    dialog.close()


def test_caches_are_shown_with_their_size_and_cleared_after_a_question(engines_of) -> None:  # type: ignore[no-untyped-def]
    made = engines_of("nothing")
    said = texts(page_of(made))
    assert "1.9 GiB" in said
    assert "The next installation downloads again." in said
    click(made.window, "Clear Downloaded packages")
    click(made.window, "Clear")
    assert made.link.sent == [("/control/caches/clear", control.CacheOf(cache="packages"))]


def test_without_the_service_nothing_can_be_asked(engines_of) -> None:  # type: ignore[no-untyped-def]
    from app.ui.store import Connection

    made = engines_of("update")
    made.link.answers["/control/caches"] = DaemonUnreachable("gone")
    made.store.set_connection(Connection.GONE, "gone")
    for name in ("Pin llama.cpp 2026.10.11549 (NVIDIA CUDA)", "Update to 2026.11.12010: llama.cpp"):
        assert not named(made.window, name).isEnabled()


def test_before_the_service_has_answered_it_says_so(stage_of: StageOf) -> None:
    made = stage_of(None, page="engines")
    assert "Engines are shown when the service answers." in texts(made.window)


@pytest.mark.parametrize("world", list(ENGINE_WORLDS))
def test_it_fits_a_small_screen_and_every_control_has_a_name(engines_of, world: str) -> None:  # type: ignore[no-untyped-def]
    made = engines_of(world, size=(1024, 640))
    if world == "update":
        click(made.window, "More versions of llama.cpp")
    QApplication.processEvents()
    assert made.window.width() == 1024
    assert wider_than(made.window, 1024) == []
    assert unnamed(made.window) == []


def test_the_focus_stays_when_the_list_is_drawn_anew(engines_of) -> None:  # type: ignore[no-untyped-def]
    made = engines_of("update")
    button = named(made.window, "Pin llama.cpp 2026.10.11549 (NVIDIA CUDA)")
    button.setFocus()
    changed = engine_worlds.llama(msgspec.structs.replace(OLD, in_use=False), engine_worlds.OLD_CPU)
    made.store.put("engines", engine_worlds.engines(changed))
    focused = QApplication.focusWidget()
    assert focused is not None
    assert focused.accessibleName() == "Pin llama.cpp 2026.10.11549 (NVIDIA CUDA)"
