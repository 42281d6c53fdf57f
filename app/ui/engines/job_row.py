"""One piece of work on the engines: how far it is while it runs, and how it ended until a person has seen it."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QFrame, QGridLayout, QProgressBar, QVBoxLayout, QWidget

from app.core.control import CanaryResult
from app.core.snapshot import Job
from app.ui import wording
from app.ui.engines import words
from app.ui.theme import Space, Theme
from app.ui.widgets.controls import Button
from app.ui.widgets.layout import row
from app.ui.widgets.notice import IconLabel
from app.ui.widgets.text import ElidedLabel, Label, restyle

_LOOKS = {
    "running": ("download", "accent", "info"),
    "done": ("check", "good", "good"),
    "failed": ("error", "danger", "danger"),
    "cancelled": ("info", "text_muted", "plain"),
}


class JobRow(QFrame):
    """`cancel_wanted`, `log_wanted` and `dismissed` tell the job's id, `use_wanted` the installation that was tried."""

    cancel_wanted = Signal(str)
    log_wanted = Signal(str)
    dismissed = Signal(str)
    use_wanted = Signal(str)

    def __init__(self, theme: Theme, job: Job) -> None:
        super().__init__()
        self._theme = theme
        self._job = job
        self.setProperty("kind", "notice")
        self._icon = IconLabel(theme, "download", "accent")
        self._title = ElidedLabel(theme, "", "strong")
        self._bar = QProgressBar()
        self._bar.setTextVisible(False)
        self._detail = ElidedLabel(theme, "", "small", "muted")
        self._figures = Label(theme, "", "small_number", "muted")
        self._error = Label(theme, "", "body", wrap=True, select=True)
        self._advice = Label(theme, "", "body", "muted", wrap=True, select=True)
        self._cancel = Button(theme, "Cancel", "danger", "", f"Cancel {words.job_title(job)}")
        self._log = Button(theme, "Show the log", "", "logs", f"Show the log of {words.job_title(job)}")
        self._copy = Button(theme, "Copy", "", "copy", f"Copy what went wrong with {words.job_title(job)}")
        self._close = Button(theme, "", "icon", "close", f"Dismiss {words.job_title(job)}")
        self._result: QWidget | None = None
        self._cancel.clicked.connect(lambda: self.cancel_wanted.emit(self._job.id))
        self._log.clicked.connect(lambda: self.log_wanted.emit(self._job.id))
        self._close.clicked.connect(lambda: self.dismissed.emit(self._job.id))
        self._copy.clicked.connect(self._copy_it)
        self._arrange()
        self.show_job(job, connected=True)

    def _arrange(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(Space.large, Space.medium, Space.medium, Space.medium)
        column.setSpacing(6)
        head = row(self._icon, spacing=Space.medium)
        head.addWidget(self._title, 1)
        head.addWidget(self._cancel)
        head.addWidget(self._close)
        foot = row(spacing=Space.medium)
        foot.addWidget(self._detail, 1)
        foot.addWidget(self._figures)
        self._buttons = row(self._log, self._copy, None)
        self._below = QVBoxLayout()
        column.addLayout(head)
        column.addWidget(self._bar)
        column.addLayout(foot)
        column.addWidget(self._error)
        column.addWidget(self._advice)
        column.addLayout(self._below)
        column.addLayout(self._buttons)

    def show_job(self, job: Job, connected: bool) -> None:
        self._job = job
        icon, colour, tone = _LOOKS.get(job.state, _LOOKS["running"])
        if words.is_running(job) and job.kind != "install":
            icon = {"remove": "trash", "clear": "trash", "canary": "switch"}.get(job.kind, icon)
        self._icon.show_icon(icon, colour)
        restyle(self, tone="plain" if words.canary_result(job) is not None else tone)
        title = words.job_title(job)
        self.setAccessibleName(title)
        self._title.say(f"{title} failed" if job.state == "failed" else title)
        running, failed = words.is_running(job), job.state == "failed"
        self._bar.setVisible(running)
        self._bar.setAccessibleName(f"Progress of {title}")
        self._bar.setRange(0, 1000 if job.progress is not None else 0)
        if job.progress is not None:
            self._bar.setValue(round(1000 * job.progress))
        figures = " · ".join(part for part in (words.job_figures(job), words.job_left(job)) if part)
        ended = "Cancelled. Nothing was left behind." if job.state == "cancelled" else job.detail
        told = failed or words.canary_result(job) is not None or title == job.detail.rstrip(".")
        self._detail.say(job.detail or "Starting …" if running else "" if told else ended)
        self._figures.say(figures if running else "")
        for label in (self._detail, self._figures):
            label.setVisible(bool(label.text()))
        for label, text in ((self._error, job.error or "It did not work."), (self._advice, job.advice)):
            label.say(text if failed else "")
            label.setVisible(failed and bool(text))
        self._cancel.setVisible(running)
        self._cancel.setEnabled(connected)
        self._close.setVisible(not running)
        self._log.setVisible(failed and bool(job.log_path))
        self._log.setEnabled(connected)
        self._copy.setVisible(failed)
        self._show_result(words.canary_result(job))

    def _show_result(self, result: CanaryResult | None) -> None:
        if result is None or self._result is not None:
            return
        self._result = Comparison(self._theme, result)
        self._below.addWidget(self._result)
        use = Button(self._theme, "Use the new one", "primary", "", "Use the new one")
        use.clicked.connect(lambda: self.use_wanted.emit(result.installation))
        keep = Button(self._theme, "Keep the one in use", "", "", "Keep the one in use")
        keep.clicked.connect(lambda: self.dismissed.emit(self._job.id))
        for place, button in enumerate((use, keep)):
            self._buttons.insertWidget(place, button)

    def _copy_it(self) -> None:
        job = self._job
        parts = (words.job_title(job), job.error, job.advice, f"Log: {job.log_path}" if job.log_path else "")
        QGuiApplication.clipboard().setText("\n".join(part for part in parts if part))
        self._copy.shape("Copied", "", "check", self._copy.accessibleName())


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
