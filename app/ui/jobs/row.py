"""One piece of long work as a row: how far it is, pause, go on, cancel; and how it ended until a person has seen it."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QFrame, QProgressBar, QVBoxLayout

from app.core.snapshot import Job
from app.ui.jobs import words
from app.ui.theme import Space, Theme
from app.ui.widgets.controls import Button
from app.ui.widgets.layout import row
from app.ui.widgets.notice import IconLabel
from app.ui.widgets.text import ElidedLabel, Label, restyle

_LOOKS = {
    "running": ("download", "accent", "info"),
    "paused": ("pause", "text_muted", "plain"),
    "done": ("check", "good", "good"),
    "failed": ("error", "danger", "danger"),
    "cancelled": ("info", "text_muted", "plain"),
}
_ICONS = {"remove": "trash", "clear": "trash", "canary": "switch"}  # while it runs; all else downloads


class JobRow(QFrame):
    """Each signal tells the Job."""

    pause_wanted = Signal(object)
    go_on_wanted = Signal(object)
    cancel_wanted = Signal(object)
    log_wanted = Signal(object)
    dismissed = Signal(object)

    def __init__(self, theme: Theme, job: Job) -> None:
        super().__init__()
        self._theme = theme
        self.job = job
        self.setProperty("kind", "notice")
        name = words.name(job)
        self._icon = IconLabel(theme, "download", "accent")
        self._title = ElidedLabel(theme, "", "strong")
        self._origin = ElidedLabel(theme, words.origin(job), "small", "muted")
        self._origin.setVisible(bool(words.origin(job)))
        self._bar = QProgressBar()
        self._bar.setTextVisible(False)
        self._bar.setAccessibleName(f"Progress of {name}")
        self._detail = ElidedLabel(theme, "", "small", "muted")
        self._figures = Label(theme, "", "small_number", "muted")
        self._error = Label(theme, "", "body", wrap=True, select=True)
        self._advice = Label(theme, "", "body", "muted", wrap=True, select=True)
        self._pause = Button(theme, "Pause", "", "pause", f"Pause {name}")
        self._go_on = Button(theme, "Resume", "soft", "play", f"Resume {name}")
        self._cancel = Button(theme, "Cancel", "quiet", "", f"Cancel {name}")
        self._log = Button(theme, "Show the log", "", "logs", f"Show the log of {name}")
        self._copy = Button(theme, "Copy", "", "copy", f"Copy what went wrong with {name}")
        self._close = Button(theme, "", "icon", "close", f"Dismiss {name}")
        self._copy.clicked.connect(self._copy_it)
        for button, wanted in (
            (self._pause, self.pause_wanted),
            (self._go_on, self.go_on_wanted),
            (self._cancel, self.cancel_wanted),
            (self._log, self.log_wanted),
            (self._close, self.dismissed),
        ):
            button.clicked.connect(lambda _=False, wanted=wanted: wanted.emit(self.job))
        self._arrange()
        self.show_job(job, connected=True)

    def _arrange(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(Space.large, Space.medium, Space.medium, Space.medium)
        column.setSpacing(6)
        names = QVBoxLayout()
        names.setSpacing(1)
        names.addWidget(self._title)
        names.addWidget(self._origin)
        head = row(self._icon, spacing=Space.medium)
        head.addLayout(names, 1)
        for button in (self._pause, self._go_on, self._cancel, self._close):
            head.addWidget(button)
        foot = row(spacing=Space.medium)
        foot.addWidget(self._detail, 1)
        foot.addWidget(self._figures)
        self.below = QVBoxLayout()  # for what only some work has to show
        self.buttons = row(self._log, self._copy, None)
        column.addLayout(head)
        column.addWidget(self._bar)
        column.addLayout(foot)
        column.addWidget(self._error)
        column.addWidget(self._advice)
        column.addLayout(self.below)
        column.addLayout(self.buttons)

    def show_job(self, job: Job, connected: bool) -> None:
        self.job = job
        icon, colour, tone = _LOOKS.get(job.state, _LOOKS["running"])
        if words.is_running(job):
            icon = _ICONS.get(job.kind, icon)
        self._icon.show_icon(icon, colour)
        restyle(self, tone=self.tone(tone))
        self.setAccessibleName(words.heading(job))
        self._title.say(words.heading(job))
        self._show_progress(job)
        failed = job.state == "failed"
        for label, text in (
            (self._detail, words.detail(job)),
            (self._figures, words.figures(job)),
            (self._error, (job.error or "It did not work.") if failed else ""),
            (self._advice, job.advice if failed else ""),
        ):
            label.say(text)
            label.setVisible(bool(text))
        going, again = job.state in ("running", "paused"), words.going_on(job)
        if again:
            self._go_on.shape(again, "soft", "play", f"{again} {words.name(job)}")
        for button, shown in (
            (self._pause, words.can_pause(job)),
            (self._go_on, bool(again)),
            (self._cancel, going),
            (self._close, not going),
            (self._log, failed and bool(job.log_path)),
            (self._copy, failed),
        ):
            button.setVisible(shown)
        for button in (self._pause, self._go_on, self._cancel, self._log):
            button.setEnabled(connected)

    def tone(self, tone: str) -> str:
        """The ground of the row; a kind of work may have a calmer one."""
        return tone

    def _show_progress(self, job: Job) -> None:
        going = job.state in ("running", "paused")
        self._bar.setVisible(going)
        moving = job.progress is None and words.is_running(job)
        self._bar.setRange(0, 0 if moving else 1000)
        if not moving:
            self._bar.setValue(round(1000 * (job.progress or 0.0)))

    def _copy_it(self) -> None:
        job = self.job
        parts = (words.name(job), job.error, job.advice, f"Log: {job.log_path}" if job.log_path else "")
        QGuiApplication.clipboard().setText("\n".join(part for part in parts if part))
        self._copy.shape("Copied", "", "check", self._copy.accessibleName())
