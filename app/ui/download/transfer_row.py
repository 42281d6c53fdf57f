"""One download: how far it is, pause, resume, cancel; and how it ended until a person has seen it."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QFrame, QProgressBar, QVBoxLayout

from app.core.snapshot import Job
from app.ui.download import words
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


class TransferRow(QFrame):
    """Each signal tells the job's id."""

    pause_wanted = Signal(str)
    resume_wanted = Signal(str)
    cancel_wanted = Signal(str)
    dismissed = Signal(str)

    def __init__(self, theme: Theme, job: Job) -> None:
        super().__init__()
        self._job = job
        self.setProperty("kind", "notice")
        self._icon = IconLabel(theme, "download", "accent")
        self._title = ElidedLabel(theme, job.title, "strong")
        self._from = ElidedLabel(theme, words.publisher(job.subject), "small", "muted")
        self._figures = Label(theme, "", "small_number", "muted")
        self._bar = QProgressBar()
        self._bar.setTextVisible(False)
        self._bar.setRange(0, 1000)
        self._detail = ElidedLabel(theme, "", "small", "muted")
        self._error = Label(theme, "", "body", wrap=True, select=True)
        self._advice = Label(theme, "", "body", "muted", wrap=True, select=True)
        self._pause = Button(theme, "Pause", "", "pause", f"Pause {job.title}")
        self._resume = Button(theme, "Resume", "soft", "play", f"Resume {job.title}")
        self._cancel = Button(theme, "Cancel", "quiet", "", f"Cancel {job.title}")
        self._close = Button(theme, "", "icon", "close", f"Dismiss {job.title}")
        self._pause.clicked.connect(lambda: self.pause_wanted.emit(self._job.id))
        self._resume.clicked.connect(lambda: self.resume_wanted.emit(self._job.id))
        self._cancel.clicked.connect(lambda: self.cancel_wanted.emit(self._job.id))
        self._close.clicked.connect(lambda: self.dismissed.emit(self._job.id))
        self._arrange()
        self.show_job(job, connected=True)

    def _arrange(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(Space.large, Space.medium, Space.medium, Space.medium)
        column.setSpacing(6)
        names = QVBoxLayout()
        names.setSpacing(1)
        names.addWidget(self._title)
        names.addWidget(self._from)
        head = row(self._icon, spacing=Space.medium)
        head.addLayout(names, 1)
        for widget in (self._figures, self._pause, self._resume, self._cancel, self._close):
            head.addWidget(widget)
        column.addLayout(head)
        column.addWidget(self._bar)
        for label in (self._detail, self._error, self._advice):
            column.addWidget(label)

    def show_job(self, job: Job, connected: bool) -> None:
        self._job = job
        icon, colour, tone = _LOOKS.get(job.state, _LOOKS["running"])
        self._icon.show_icon(icon, colour)
        restyle(self, tone=tone)
        self.setAccessibleName(job.title)
        going, failed = job.state in ("running", "paused"), job.state == "failed"
        titles = {"failed": f"{job.title} could not be downloaded", "done": f"{job.title} is here"}
        self._title.say(titles.get(job.state, job.title))
        self._bar.setVisible(going)
        self._bar.setAccessibleName(f"Progress of {job.title}")
        self._bar.setValue(round(1000 * (job.progress or 0.0)))
        self._figures.say(words.figures(job) if going else "")
        details = {
            "running": job.detail or "Starting …",
            "paused": "Paused. What has come stays.",
            "cancelled": job.detail,
        }
        details["done"] = "Checked, and in the list of models."
        for label, text in (
            (self._detail, details.get(job.state, "")),
            (self._error, job.error if failed else ""),
            (self._advice, job.advice if failed else ""),
            (self._figures, self._figures.text()),
        ):
            label.say(text)
            label.setVisible(bool(text))
        self._pause.setVisible(job.state == "running")
        self._resume.setVisible(job.state in ("paused", "failed", "cancelled"))
        self._cancel.setVisible(going)
        self._close.setVisible(not going)
        for button in (self._pause, self._resume, self._cancel):
            button.setEnabled(connected)
