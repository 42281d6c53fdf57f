"""Measures the loaded model and shows what was measured before: how fast it reads and writes, and what made each figure."""

from __future__ import annotations

import time

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QGridLayout, QWidget

from app.core.bench import Bench, Benches
from app.core.control import BenchOf, JobOf, JobStarted
from app.core.errors import EngineRoomError
from app.core.lifecycle import Ready
from app.core.snapshot import Job
from app.ui import wording
from app.ui.link import Link
from app.ui.store import Store
from app.ui.theme import Space, Theme
from app.ui.widgets.controls import Button
from app.ui.widgets.layout import Card, clear, row
from app.ui.widgets.text import ElidedLabel, Label

SHOWN = 8
COLUMNS = ("Model", "Engine", "When", "Reading", "Writing", "First token", "")
NOTHING = "How fast the loaded model reads and writes: three answers through the endpoint, one at a time. Takes about a minute."


def figures(one: Bench) -> tuple[str, str, str]:
    """Reading, writing, time to the first token, with their units."""
    reading, writing = (
        wording.DASH if rate is None else f"{wording.tokens_per_second(rate)} tok/s"
        for rate in (one.prompt_tokens_per_second, one.tokens_per_second)
    )
    return reading, writing, wording.duration(one.first_token_seconds)


def hint(one: Bench) -> str:
    """What the figures rest on."""
    words = f"Medians of {len(one.rounds)} answers: {wording.count(one.prompt_tokens)} tokens read, {wording.count(one.answer_tokens)} written."
    return f"{words} Others were answered meanwhile, so it could have been faster." if one.shared else words


class BenchCard(Card):
    def __init__(self, theme: Theme, store: Store, link: Link) -> None:
        super().__init__(spacing=Space.medium)
        self._theme, self._store, self._link = theme, store, link
        self._benches: tuple[Bench, ...] = ()
        self._job: Job | None = None
        self._told = Label(theme, NOTHING, "small", "muted", wrap=True)
        self.measure = Button(theme, "Measure", "", "bolt", "Measure the loaded model")
        self.measure.clicked.connect(lambda: self._link.send("/control/bench", BenchOf(), JobStarted))
        self.cancel = Button(theme, "Cancel", "quiet", "", "Cancel the measurement")
        self.cancel.clicked.connect(self._cancel)
        head = row(Label(theme, "Speed of the loaded model", "title"), None, self.cancel, self.measure)
        self._rows = QWidget()
        self._grid = QGridLayout(self._rows)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(Space.large)
        self._grid.setVerticalSpacing(2)
        self._grid.setColumnStretch(0, 1)
        for part in (self._told, self._rows):
            self.column.addWidget(part)
        self.column.insertLayout(0, head)
        store.connection_changed.connect(self._connected)
        store.seats_changed.connect(self._show)
        store.jobs_changed.connect(self._jobs)
        self._rows.hide()
        self._jobs()
        self._connected()

    def _connected(self) -> None:
        if self._store.connected:
            self._link.tasks.start(self._fetch(), "benches")
        self._show()

    async def _fetch(self) -> None:
        try:
            self._benches = (await self._link.get("/control/benches", Benches)).benches
        except EngineRoomError:
            return  # what is shown stays
        self._fill()

    def _jobs(self) -> None:
        before, self._job = self._job, next((job for job in self._store.jobs.jobs if job.kind == "bench"), None)
        if before is not None and self._job is not None and before.state != self._job.state == "done":
            self._link.tasks.start(self._fetch(), "benches")
        self._show()

    def _cancel(self) -> None:
        if self._job is not None:
            self._link.send("/control/jobs/cancel", JobOf(job=self._job.id))

    def _show(self) -> None:
        job, seat = self._job, self._store.seat()
        running = job is not None and job.state == "running"
        self.measure.setVisible(not running)
        self.cancel.setVisible(running)
        ready = self._store.connected and isinstance(seat.phase, Ready)
        self.measure.setEnabled(ready)
        self.measure.setToolTip("" if ready else "Load a model first")
        if job is not None and running:
            self._told.say(f"{job.title}: {job.detail}" if job.detail else job.title, "accent")
        elif job is not None and job.state == "failed":
            self._told.say(f"{job.error} {job.advice}".strip(), "danger")
        else:
            self._told.say(NOTHING, "muted")

    def _fill(self) -> None:
        clear(self._grid)
        for column, title in enumerate(COLUMNS):
            self._cell(0, column, Label(self._theme, title, "caption", "muted"))
        for line, one in enumerate(self._benches[:SHOWN], 1):
            at = time.strftime("%d %b %H:%M", time.localtime(one.at_unix))
            reading, writing, first = figures(one)
            self._cell(line, 0, ElidedLabel(self._theme, one.title, "small"))
            for column, text in enumerate((wording.engine(one.engine), at), 1):
                self._cell(line, column, Label(self._theme, text, "small", "muted"))
            for column, text in enumerate((reading, writing, first), 3):
                figure = Label(self._theme, text, "small_number", "warning" if one.shared else "")
                figure.setToolTip(hint(one))
                self._cell(line, column, figure)
            made = Button(self._theme, "", "icon", "info", f"What made this figure of {one.title}")
            made.clicked.connect(lambda _=False, one=one: self._open(one))
            self._cell(line, 6, made)
        self._rows.setVisible(bool(self._benches))

    def _cell(self, line: int, column: int, widget: QWidget) -> None:
        side = Qt.AlignmentFlag.AlignRight if column >= 3 else Qt.AlignmentFlag(0)
        self._grid.addWidget(
            widget, line, column, side | Qt.AlignmentFlag.AlignVCenter if column else Qt.AlignmentFlag(0)
        )

    def _open(self, one: Bench) -> None:
        from app.ui.manifest import show_manifest

        show_manifest(self._theme, self, self._link, one.run_id, one.made_by)
