"""A comparison of two engines as a row: while it runs like all long work, afterwards the figures of both side by side."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QGridLayout, QVBoxLayout, QWidget

from app.core.control import CanaryResult
from app.core.snapshot import Job
from app.ui import wording
from app.ui.engines import words
from app.ui.jobs.row import JobRow
from app.ui.theme import Space, Theme
from app.ui.widgets.controls import Button
from app.ui.widgets.text import Label


class EngineJobRow(JobRow):
    """`use_wanted` tells the installation that was tried."""

    use_wanted = Signal(str)
    _result: QWidget | None = None

    def show_job(self, job: Job, connected: bool) -> None:
        super().show_job(job, connected)
        result = words.canary_result(job)
        if result is not None:
            self._detail.hide()  # the comparison says it in its own words
            self._show_result(result)

    def tone(self, tone: str) -> str:
        return "plain" if words.canary_result(self.job) is not None else tone

    def _show_result(self, result: CanaryResult) -> None:
        if self._result is not None:
            return
        self._result = Comparison(self._theme, result)
        self.below.addWidget(self._result)
        use = Button(self._theme, "Use the new one", "primary", "", "Use the new one")
        use.clicked.connect(lambda: self.use_wanted.emit(result.installation))
        keep = Button(self._theme, "Keep the one in use", "", "", "Keep the one in use")
        keep.clicked.connect(lambda: self.dismissed.emit(self.job))
        for place, button in enumerate((use, keep)):
            self.buttons.insertWidget(place, button)


class Comparison(QWidget):
    """A canary's outcome: the sentence, and the figures of both side by side."""

    def __init__(self, theme: Theme, result: CanaryResult) -> None:
        super().__init__()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, Space.hair)
        column.setSpacing(Space.small)
        column.addWidget(Label(theme, words.canary_sentence(result), "body", wrap=True, select=True))
        grid = QGridLayout()
        grid.setHorizontalSpacing(Space.huge)
        grid.setVerticalSpacing(6)
        for at, heading in enumerate(("", "New", "In use"), 0):
            grid.addWidget(Label(theme, heading, "caption", "muted"), 0, at, Qt.AlignmentFlag.AlignRight)
        new_wait, old_wait = result.first_token_seconds
        new_rate, old_rate = result.tokens_per_second
        lines = (
            ("First token after", wording.duration(new_wait), wording.duration(old_wait), _better(old_wait, new_wait)),
            ("Tokens per second", _rate(new_rate), _rate(old_rate), _better(new_rate, old_rate)),
        )
        for line, (name, new, old, tone) in enumerate(lines, 1):
            grid.addWidget(Label(theme, name, "small", "muted"), line, 0)
            grid.addWidget(Label(theme, new, "number", tone), line, 1, Qt.AlignmentFlag.AlignRight)
            grid.addWidget(Label(theme, old, "number"), line, 2, Qt.AlignmentFlag.AlignRight)
        if result.same_answer is not None:
            grid.addWidget(Label(theme, "Same answer", "small", "muted"), 3, 0)
            said = "yes" if result.same_answer else "no"
            grid.addWidget(Label(theme, said, "number"), 3, 1, Qt.AlignmentFlag.AlignRight)
        grid.setColumnStretch(3, 1)
        column.addLayout(grid)


def _rate(rate: float | None) -> str:
    return wording.tokens_per_second(rate)


def _better(larger: float | None, smaller: float | None) -> str:
    """Green only where the difference is more than noise."""
    if not larger or not smaller:
        return ""
    if larger > 1.03 * smaller:
        return "good"
    return "warning" if smaller > 1.03 * larger else ""
