"""Runs in the window's process: a person's hands and eyes, told what to do by one JSON line at a time on stdin.

The answers go to stdout, one line each. Widgets are found by their accessible names, as a screen reader finds them.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from PySide6.QtCore import Qt, QTimer
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QAbstractButton, QLabel, QLineEdit, QWidget

from app.ui.application import default_paths, run
from app.ui.link import Link
from app.ui.store import Store
from app.ui.window import Window

INPUT = 0


class Hands:
    def __init__(self, window: Window, store: Store, link: Link) -> None:
        self._window = window
        self._store = store
        self._link = link
        self._unread = b""
        self._seen: list[list[str]] = []

    def begin(self) -> None:
        import asyncio

        os.set_blocking(INPUT, False)
        loop = asyncio.get_running_loop()
        loop.add_reader(INPUT, self._read)
        self._window.closing.connect(lambda _: loop.remove_reader(INPUT))
        for changed in (self._store.seats_changed, self._store.connection_changed):
            changed.connect(self._note)
        self._note()
        self._say({"here": True})

    def _read(self) -> None:
        try:
            self._unread += os.read(INPUT, 65536)
        except BlockingIOError:
            return
        *lines, self._unread = self._unread.split(b"\n")
        for line in lines:
            wish = json.loads(line)
            self._say(getattr(self, wish.pop("do"))(**wish))

    def _say(self, answer: object) -> None:
        print(json.dumps(answer), flush=True)

    def _note(self) -> None:
        """What the header and the stages say, each time they may have changed: nothing short-lived is missed."""
        steps = [w.accessibleName() for w in self._visible(QWidget) if w.accessibleName().startswith("Stage ")]
        now = [self._window.header.pill.text, *steps]
        if not self._seen or self._seen[-1] != now:
            self._seen.append(now)

    def _visible(self, kind: type[Any]) -> list[Any]:
        return [widget for widget in self._window.findChildren(kind) if widget.isVisible()]

    # --- what can be asked for ---

    def look(self) -> dict[str, Any]:
        """Everything that can be read now."""
        header = self._window.header
        buttons = {w.accessibleName(): w.isEnabled() for w in self._visible(QAbstractButton)}
        return {
            "title": header.title.toolTip() or header.title.text(),
            "pill": header.pill.text,
            "detail": header.detail.text(),
            "url": header.url.text(),
            "page": self._window.page_key,
            "buttons": buttons,
            "names": [w.accessibleName() for w in self._visible(QWidget) if w.accessibleName()],
            "texts": [w.text() for w in self._visible(QLabel) if w.text()],
            "seen": self._seen,
        }

    def click(self, name: str) -> bool:
        """False while nothing of that name can be pressed. The newest comes first: a question lies over what asked it."""
        for widget in reversed(self._visible(QAbstractButton)):
            if widget.accessibleName() == name and widget.isEnabled():
                QTest.mouseClick(widget, Qt.MouseButton.LeftButton)
                return True
        return False

    def type(self, name: str, text: str) -> bool:
        for widget in self._visible(QWidget):
            if widget.accessibleName() == name and widget.isEnabled():
                widget.setFocus()
                if isinstance(widget, QLineEdit):
                    widget.clear()
                QTest.keyClicks(widget, text)
                return True
        return False

    def press(self, name: str, key: str) -> bool:
        """One key, "Right" or "End", on what is called so."""
        for widget in reversed(self._visible(QWidget)):
            if widget.accessibleName() == name and widget.isEnabled():
                widget.setFocus()
                QTest.keyClick(widget, getattr(Qt.Key, f"Key_{key}"))
                return True
        return False

    def close(self) -> bool:
        """As the window manager's button does."""
        QTimer.singleShot(0, self._window.close)
        return True

    def log(self) -> dict[str, Any]:
        """The log that is open: its run, the line that is marked, all of its text."""
        page = self._window.open_page("logs")
        view, run_id = page.view, page._run_id  # type: ignore[union-attr]
        marked = view._marked
        lines = [view.text_of(number) for number in range(view.rows)]
        return {"run": run_id, "marked": lines[marked] if 0 <= marked < len(lines) else None, "lines": lines}

    def messages(self) -> list[str]:
        """The texts of the conversation that is open in the chat; of an answer that grows, what has come of it."""
        session = self._window.open_page("chat").session  # type: ignore[union-attr]
        texts = [message.text for message in session.messages]
        growing = session.answering.answer
        return texts if growing is None else [*texts[:-1], growing.message().text]

    def modules(self) -> list[str]:
        return sorted(sys.modules)


async def script(window: Window, store: Store, link: Link) -> None:
    Hands(window, store, link).begin()


if __name__ == "__main__":
    sys.exit(run(default_paths(), script=script))
