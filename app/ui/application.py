"""Builds the window's process and runs it: paint first, import later; one window per account; everything ended before the loop.

Before the first paint only Qt and the small modules of the frame are imported. What speaks to the service follows.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QDeadlineTimer, QEventLoop, Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QApplication

from app.ui.instance import SingleInstance
from app.ui.remembered import Remembered
from app.ui.theme import Theme
from app.ui.window import Window

if TYPE_CHECKING:
    from app.core.paths import Paths
    from app.ui.running import Script

PAINT_MILLISECONDS = 500


def run(
    paths: Paths,
    *,
    start_service: bool = True,
    after_paint: Callable[[Window], None] | None = None,
    script: Script | None = None,
) -> int:
    """Opens the window and returns the exit code when it has closed. A second start raises the first window and returns 0."""
    app = _application()
    window_box: list[Window] = []
    instance = SingleInstance(paths.runtime, lambda token: window_box[0].come_forward(token) if window_box else None)
    if not instance.take():
        return 0
    try:
        remembered = Remembered(paths.config / "window.json")
        theme = Theme(remembered.text("theme", "system"))
        theme.apply()
        theme.changed.connect(lambda: remembered.keep(theme=theme.choice))
        window = Window(theme, remembered)
        window_box.append(window)
        window.show()
        _paint(app, window)
        instance.listen()
        from app.ui.signals import Signals

        signals = Signals()
        if after_paint is not None:
            after_paint(window)
        from app.ui.running import serve_window

        return serve_window(app, window, theme, paths, signals, start_service, script)
    finally:
        instance.close()


def _application() -> QApplication:
    existing = QApplication.instance()
    if isinstance(existing, QApplication):
        return existing
    QGuiApplication.setHighDpiScaleFactorRoundingPolicy(Qt.HighDpiScaleFactorRoundingPolicy.PassThrough)
    QGuiApplication.setDesktopFileName("engine-room")
    app = QApplication(sys.argv[:1])
    app.setApplicationName("engine-room")
    app.setApplicationDisplayName("Engine Room")
    app.setStyle("Fusion")
    app.setQuitOnLastWindowClosed(False)
    return app


def _paint(app: QApplication, window: Window) -> None:
    """Lets Qt work until the window has painted once, so that nothing imported afterwards delays it."""
    done: list[bool] = []
    window.painted.connect(lambda: done.append(True))
    deadline = QDeadlineTimer(PAINT_MILLISECONDS)
    while not done and not deadline.hasExpired():
        app.processEvents(QEventLoop.ProcessEventsFlag.AllEvents, 20)


def default_paths() -> Paths:
    """The folders of this account, as every part of Engine Room finds them."""
    from app.core.paths import paths_from

    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    mine = bool(runtime) and Path(runtime).is_dir() and os.access(runtime, os.W_OK)
    return paths_from(os.environ, os.getuid(), mine)
