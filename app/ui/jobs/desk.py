"""Owns what a person does with the rows of long work on one page: go on, pause, cancel, read the log, put away."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PySide6.QtCore import QObject, Signal
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QPlainTextEdit, QVBoxLayout, QWidget

from app.core import control
from app.core.errors import EngineRoomError
from app.core.snapshot import Job
from app.ui.jobs import words
from app.ui.jobs.row import JobRow
from app.ui.link import Link
from app.ui.theme import Space, Theme
from app.ui.widgets.controls import Button
from app.ui.widgets.overlay import Overlay


class JobDesk(QObject):
    """`changed`: a row was put away."""

    changed = Signal()

    def __init__(self, link: Link, theme: Theme, page: QWidget) -> None:
        super().__init__(page)
        self._link, self._theme, self._page = link, theme, page
        self._away: set[str] = set()

    def open(self, jobs: Sequence[Job]) -> list[Job]:
        """Those that nobody has put away."""
        return [job for job in jobs if job.id not in self._away]

    def wire(self, made: JobRow) -> None:
        made.cancel_wanted.connect(lambda job: self._link.send("/control/jobs/cancel", control.JobOf(job=job.id)))
        made.pause_wanted.connect(lambda job: self._link.send("/control/jobs/pause", control.JobOf(job=job.id)))
        made.go_on_wanted.connect(self._go_on)
        made.log_wanted.connect(self._show_log)
        made.dismissed.connect(lambda job: self.put_away(job.id))

    def put_away(self, job_id: str) -> None:
        self._away.add(job_id)
        self.changed.emit()

    def _go_on(self, job: Job) -> None:
        if job.kind == words.OLLAMA:  # Ollama goes on by itself when it is asked once more
            self.put_away(job.id)
            self._link.send("/control/ollama/pull", control.OllamaPull(model=job.subject), control.JobStarted)
        else:
            self._link.send("/control/jobs/resume", control.JobOf(job=job.id))

    def _show_log(self, job: Job) -> None:
        async def run() -> None:
            try:
                text = await self._link.text(f"/control/jobs/{job.id}/log")
            except EngineRoomError as error:
                self._link.refused.emit(error)
                return
            show_text(self._theme, self._page, words.name(job), text)

        self._link.tasks.start(run(), "log of a job")


class JobList(QWidget):
    """The rows of some jobs, kept while their jobs go on. `row` makes one."""

    def __init__(self, theme: Theme, desk: JobDesk, row: Callable[[Theme, Job], JobRow] = JobRow) -> None:
        super().__init__()
        self._theme, self._desk, self._row = theme, desk, row
        self._rows: dict[str, JobRow] = {}
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(Space.small)
        self.hide()

    def show_jobs(self, jobs: Sequence[Job], connected: bool) -> None:
        wanted = {job.id: job for job in self._desk.open(jobs)}
        for gone in [key for key in self._rows if key not in wanted]:
            old = self._rows.pop(gone)
            self._column.removeWidget(old)
            old.hide()
            old.deleteLater()
        for key, job in wanted.items():
            if key not in self._rows:
                self._rows[key] = self._row(self._theme, job)
                self._column.addWidget(self._rows[key])
                self._desk.wire(self._rows[key])
            self._rows[key].show_job(job, connected)
        self.setVisible(bool(wanted))


def show_text(theme: Theme, asking: QWidget, title: str, text: str) -> Overlay:
    """A text to read, copy and close, its end in sight."""
    view = QPlainTextEdit()
    view.setReadOnly(True)
    view.setFont(theme.font("mono"))
    view.setAccessibleName(title)
    view.setTabChangesFocus(True)
    view.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
    view.setPlainText(text or "It wrote nothing.")
    view.moveCursor(view.textCursor().MoveOperation.End)
    view.moveCursor(view.textCursor().MoveOperation.StartOfLine)
    copy = Button(theme, "Copy all", "", "copy", "Copy the whole log")
    copy.clicked.connect(lambda: QGuiApplication.clipboard().setText(text))
    return Overlay(theme, asking, title, view, (copy,))
