"""Runs the window's tests without a display, on Qt's loop joined with asyncio, and puts windows up over hand-made slices."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

os.environ["QT_QPA_PLATFORM"] = "offscreen"

import pytest
import shiboken6
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from app.core.paths import Paths
from tests.ui import stage, worlds

_applications: list[object] = []
StageOf = Callable[..., stage.Stage]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/ui" in item.path.as_posix():  # the offscreen platform says so of each window; it means nothing
            item.add_marker(pytest.mark.qt_log_ignore("This plugin does not support", extend=True))


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, Callable[[], object]]:
    from app.ui.loop import WindowLoop

    def on_qt() -> object:
        if not _applications:  # kept to the end: a second one in the same process would crash
            _applications.append(QApplication.instance() or QApplication([]))
        return WindowLoop(_applications[0])

    return {"qasync": on_qt}


@pytest.fixture
def stage_of(qtbot: QtBot, qapp: QApplication, tmp_path: Path) -> Iterator[StageOf]:
    """`stage_of("ready")` puts a whole window up over that world; `None` is a window to which nobody has spoken."""
    qapp.setStyle("Fusion")
    qapp.setQuitOnLastWindowClosed(False)
    made: list[stage.Stage] = []

    def make(
        world: str | None,
        theme: str = "dark",
        size: tuple[int, int] = (1280, 800),
        page: str = "models",
        link_of: Callable[[Paths], stage.NotingLink] = stage.NotingLink,
    ) -> stage.Stage:
        folder, given = tmp_path / str(len(made)), worlds.WORLDS.get(world or "")
        one = stage.window(folder, given, theme, gone=world == "gone", link_of=link_of)
        made.append(one)
        one.window.resize(*size)
        one.window.open_page(page)
        one.window.show()
        qapp.processEvents()
        return one

    yield make
    for one in made:  # at once, not some day: widgets that live on would be restyled by every later test
        shiboken6.delete(one.presenter)
        shiboken6.delete(one.window)


@pytest.fixture(autouse=True)
def garbage_stays_in_this_thread() -> Iterator[None]:
    """As in the window itself: a cycle collected in a worker thread would free Qt's objects there, and Qt crashes."""
    gc.disable()
    gc.freeze()  # what is there now is not looked through again after each test
    yield
    gc.collect()
    gc.enable()
