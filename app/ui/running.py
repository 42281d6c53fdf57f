"""Runs the painted window: joins Qt's loop with asyncio, connects it to the service, and ends all of it in order."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable

from PySide6.QtCore import QTimer
from PySide6.QtGui import QAction
from PySide6.QtWidgets import QApplication, QMenu, QSystemTrayIcon

from app.core.paths import Paths
from app.ui.link import Link
from app.ui.loop import WindowLoop
from app.ui.presenter import Presenter
from app.ui.service import ServiceProcess
from app.ui.signals import Signals
from app.ui.store import Store
from app.ui.tasks import Tasks
from app.ui.theme import Theme
from app.ui.window import Window

COLLECT_MS = 1_000

Script = Callable[[Window, Store, Link], Awaitable[None]]


def serve_window(
    app: QApplication,
    window: Window,
    theme: Theme,
    paths: Paths,
    signals: Signals,
    start_service: bool,
    script: Script | None = None,
) -> int:
    """Returns when the window has closed and every task has ended. `script` uses the window as a person would."""
    loop = WindowLoop(app, already_running=False)
    asyncio.set_event_loop(loop)
    with loop:
        loop.run_until_complete(_live(window, theme, paths, signals, start_service, script))
        loop.run_until_complete(loop.shutdown_asyncgens())
    return 0


async def _live(
    window: Window, theme: Theme, paths: Paths, signals: Signals, start_service: bool, script: Script | None
) -> None:
    left = asyncio.Event()
    collector = Collector()
    signals.tell(left.set)
    store = Store()
    tasks = Tasks(
        lambda name, error: window.toast.say("Something went wrong in the window.", f"{name}: {error}", "danger")
    )
    link = Link(store, paths, tasks, ServiceProcess(paths) if start_service else None)
    presenter = Presenter(window, store, link, theme, left.set)
    window.closing.connect(left.set)
    tray = Tray(window, presenter) if QSystemTrayIcon.isSystemTrayAvailable() else None
    tasks.start(_connect(link), "connect")
    try:
        if script is not None:
            await script(window, store, link)
        await left.wait()
    finally:
        if tray is not None:
            tray.hide()
        window.hide()
        await presenter.texts.settled()
        await tasks.close()
        await link.close()
        signals.close()
        collector.stop()


async def _connect(link: Link) -> None:
    """Imports what the first request needs in a thread, so that no frame waits for it, then connects."""
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, _import_client)
    link.start()
    await loop.run_in_executor(None, _import_rest)
    gc.collect()
    gc.freeze()  # what is there now stays: collecting it again and again would cost frames


def _import_client() -> None:
    import httpx

    httpx.Client(trust_env=False, verify=False).close()


def _import_rest() -> None:
    import pygments.formatters
    import pygments.lexers.python  # noqa: F401


class Collector(QTimer):
    """Collects garbage cycles in the window's thread only: one collected in a worker thread would free Qt's objects there,
    which Qt answers with a crash, now and then."""

    def __init__(self) -> None:
        super().__init__(interval=COLLECT_MS)
        gc.disable()
        self.timeout.connect(self._collect)
        self.start()

    def _collect(self) -> None:
        counts, thresholds = gc.get_count(), gc.get_threshold()
        for generation in (2, 1, 0):
            if counts[generation] > thresholds[generation]:
                gc.collect(generation)
                return


class Tray(QSystemTrayIcon):
    """Where the desktop has a tray: the window can be closed to it and called back."""

    def __init__(self, window: Window, presenter: Presenter) -> None:
        super().__init__(window.windowIcon())
        menu = QMenu()
        for text, act in (
            ("Open Engine Room", window.come_forward),
            ("Quit and unload", presenter.unload_and_leave),
            ("Quit, keep the model", window.leave),
        ):
            action = QAction(text, menu)
            action.triggered.connect(lambda _=False, act=act: act())
            menu.addAction(action)
        self._menu = menu
        self.setContextMenu(menu)
        self.setToolTip("Engine Room")
        self.activated.connect(lambda _: window.come_forward())
        self.show()
