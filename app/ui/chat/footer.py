"""The row of buttons under the last answer: copy, regenerate or retry, and the versions of it."""

from __future__ import annotations

from PySide6.QtCore import QSize, QTimer, Signal
from PySide6.QtWidgets import QHBoxLayout, QWidget

from app.ui.theme import Theme
from app.ui.widgets.controls import Button
from app.ui.widgets.text import Label

COPIED_MS = 1_500


class Footer(QWidget):
    copy_wanted = Signal()
    regenerate_wanted = Signal()
    version_wanted = Signal(int)
    maker_wanted = Signal()
    edit_wanted = Signal()

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        box = QHBoxLayout(self)
        box.setContentsMargins(0, 0, 0, 0)
        box.setSpacing(2)
        self._copy = Button(theme, "", "icon", "copy", "Copy answer")
        self._again = Button(theme, "", "icon", "refresh", "Regenerate")
        self._retry = Button(theme, "Retry", "", "refresh", "Retry")
        self._edit = Button(theme, "", "icon", "edit", "Edit the question")
        self._maker = Button(theme, "", "icon", "info", "What made this answer")
        self._edit.clicked.connect(self.edit_wanted)
        self._maker.clicked.connect(self.maker_wanted)
        self._before = Button(theme, "", "icon", "chevron-left", "Previous version")
        self._after = Button(theme, "", "icon", "chevron-right", "Next version")
        self._count = Label(theme, "", "small_number", "muted")
        self._copy.clicked.connect(self.copy_wanted)
        self._again.clicked.connect(self.regenerate_wanted)
        self._retry.clicked.connect(self.regenerate_wanted)
        self._before.clicked.connect(lambda: self.version_wanted.emit(-1))
        self._after.clicked.connect(lambda: self.version_wanted.emit(1))
        for widget in (
            self._retry,
            self._copy,
            self._again,
            self._edit,
            self._maker,
            self._before,
            self._count,
            self._after,
        ):
            box.addWidget(widget)
        box.addStretch(1)
        self._copied_timer = QTimer(self, singleShot=True, interval=COPIED_MS)
        self._copied_timer.timeout.connect(lambda: self._copy.shape("", "icon", "copy", "Copy answer"))
        self.hide()

    def sizeHint(self) -> QSize:
        return QSize(400, 38)

    def show_state(
        self, *, shown: bool, failed: bool, has_text: bool, versions: tuple[int, int], can_send: bool, made: bool
    ) -> None:
        """`versions`: which, of how many; `made`: whether it is known what made the answer."""
        self.setVisible(shown)
        self._maker.setVisible(made)
        self._edit.setEnabled(can_send)
        at, of = versions
        self._copy.setVisible(has_text)
        self._again.setVisible(not failed)
        self._again.setEnabled(can_send)
        self._retry.setVisible(failed)
        self._retry.setEnabled(can_send)
        for widget in (self._before, self._count, self._after):
            widget.setVisible(of > 1)
        self._before.setEnabled(at > 1)
        self._after.setEnabled(at < of)
        self._count.say(f"{at} / {of}")

    def copied(self) -> None:
        self._copy.shape("", "icon", "check", "Copy answer")
        self._copied_timer.start()
