"""What the seat is going through, across the page: a load with its stages, or a failure with its cause and cures."""

from __future__ import annotations

from PySide6.QtCore import QPointF, QRectF, QSize, Qt, QTimer, Signal
from PySide6.QtGui import QFontMetrics, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QFrame, QProgressBar, QSizePolicy, QVBoxLayout, QWidget

from app.core import lifecycle as phases
from app.core.lifecycle import Failure
from app.core.memory.plan_types import Remedy
from app.core.snapshot import SeatView
from app.ui import wording
from app.ui.store import Store, profile_in
from app.ui.theme import Space, Theme
from app.ui.widgets.controls import Button
from app.ui.widgets.layout import Card, row
from app.ui.widgets.notice import IconLabel
from app.ui.widgets.text import ElidedLabel, Label


class Steps(QWidget):
    """The stages of a load in a line: done, current, to come."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self._stages: tuple[str, ...] = ()
        self._current = 0
        self._font = theme.font("small")
        self._strong = theme.font("small_strong")
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        theme.changed.connect(self.update)

    def show_stages(self, stages: tuple[str, ...], current: int) -> None:
        if (stages, current) != (self._stages, self._current):
            self._stages, self._current = stages, current
            if stages:
                self.setAccessibleName(f"Stage {current + 1} of {len(stages)}: {stages[min(current, len(stages) - 1)]}")
            self.update()

    def sizeHint(self) -> QSize:
        return QSize(400, 22)

    def paintEvent(self, event: QPaintEvent) -> None:
        if not self._stages:
            return
        c = self._theme.colour
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        widths = [22 + QFontMetrics(self._strong).horizontalAdvance(stage) for stage in self._stages]
        gaps = max(1, len(widths) - 1)
        gap = min(56.0, max(8.0, (self.width() - sum(widths)) / gaps))
        x = 0.0
        for index, (stage, wide) in enumerate(zip(self._stages, widths, strict=True)):
            circle = QRectF(x + 1, 4, 14, 14)
            if index < self._current:
                painter.drawPixmap(int(x), 3, self._theme.pixmap("check", "good", 16, self.devicePixelRatioF()))
                painter.setPen(c("text_muted"))
            elif index == self._current:
                painter.setPen(QPen(c("accent"), 2))
                painter.setBrush(Qt.BrushStyle.NoBrush)
                painter.drawEllipse(circle.adjusted(1, 1, -1, -1))
                painter.setPen(Qt.PenStyle.NoPen)
                painter.setBrush(c("accent"))
                painter.drawEllipse(circle.adjusted(4.5, 4.5, -4.5, -4.5))
                painter.setPen(c("text"))
            else:
                painter.setPen(QPen(c("border_strong"), 1.5))
                painter.setBrush(Qt.BrushStyle.NoBrush)
                painter.drawEllipse(circle.adjusted(2, 2, -2, -2))
                painter.setPen(c("text_faint"))
            painter.setFont(self._strong if index == self._current else self._font)
            painter.drawText(QRectF(x + 22, 0, wide, 22), Qt.AlignmentFlag.AlignVCenter, stage)
            x += wide
            if index < len(widths) - 1 and gap > 16:
                painter.setPen(QPen(c("border"), 1))
                painter.drawLine(QPointF(x + 6, 11.5), QPointF(x + gap - 6, 11.5))
            x += gap


class LoadPanel(Card):
    """Shown from the first want to Ready, and while a model leaves."""

    def __init__(self, theme: Theme, store: Store) -> None:
        super().__init__()
        self._store = store
        self._title = ElidedLabel(theme, "", "title")
        self._time = Label(theme, "", "small_number", "muted")
        self._bar = QProgressBar()
        self._bar.setTextVisible(False)
        self._bar.setAccessibleName("Load progress")
        self._steps = Steps(theme)
        head = row(spacing=Space.large)
        head.addWidget(self._title, 1)
        head.addWidget(self._time)
        self.column.addLayout(head)
        self.column.addWidget(self._bar)
        self.column.addSpacing(2)
        self.column.addWidget(self._steps)
        self._started: tuple[str, float] = ("", 0.0)
        self._second = QTimer(self)
        self._second.setInterval(1000)
        self._second.timeout.connect(self._show_time)
        self.hide()

    def show_seat(self, seat: SeatView) -> None:
        loading, leaving = wording.is_loading(seat), wording.is_leaving(seat)
        self.setVisible(loading or leaving)
        if not (loading or leaving):
            self._second.stop()
            self._started = ("", 0.0)
            return
        subject = self._store.title_of(profile_in(seat.phase))
        coming = self._store.title_of(seat.wanted) if seat.wanted != profile_in(seat.phase) else ""
        words = wording.seat_words(seat).text
        self._title.say(
            f"{'Waking' if isinstance(seat.phase, phases.Waking) else 'Loading'} {subject}"
            if loading
            else f"{words}: {subject}" + (f", then {coming}" if coming else "")
        )
        self._note_start(seat)
        phase = seat.phase
        progress = phase.progress if isinstance(phase, phases.Loading) else None
        if progress is None and (leaving or isinstance(phase, phases.Loading | phases.Waking)):
            self._bar.setRange(0, 0)  # under way, and nobody can say how far
        else:
            self._bar.setRange(0, 1000)
            self._bar.setValue(round(1000 * (progress or 0)))
        self._show_steps(seat)
        self._eta = phase.eta_seconds if isinstance(phase, phases.Loading) else None
        self._show_time()
        if not self._second.isActive():
            self._second.start()

    def _note_start(self, seat: SeatView) -> None:
        """Elapsed time runs from the moment when this profile was first seen on its way."""
        key = f"{profile_in(seat.phase)}"
        if self._started[0] != key:
            self._started = (key, seat.phase.since or self._store.daemon_now())

    def _show_steps(self, seat: SeatView) -> None:
        self._steps.setVisible(wording.is_loading(seat))
        if isinstance(seat.phase, phases.Waking):
            self._steps.show_stages(("Asked to wake", "First token"), 0)
            return
        card = self._store.card(profile_in(seat.phase))
        stage = seat.phase.stage if isinstance(seat.phase, phases.Loading) else "starting"
        order = wording.stages(card.profile.engine if card else "", stage)
        self._steps.show_stages(tuple(wording.stage_title(name) for name in order), order.index(stage))

    def _show_time(self) -> None:
        elapsed = self._store.since(self._started[1])
        text = f"{wording.duration(int(elapsed)) if elapsed >= 1 else '0 s'}"
        if self._eta:
            text += f" · about {wording.duration(self._eta)} left"
        self._time.say(text)


class FailurePanel(Card):
    """Why the wanted model is not there: sentence, advice, the line that proves it, and what would help."""

    retry_wanted = Signal(str, object, object)  # profile id, settings to merge in, cards in place of the profile's
    override_wanted = Signal(str)
    log_wanted = Signal(object)  # Evidence
    dismissed = Signal()

    def __init__(self, theme: Theme, store: Store) -> None:
        super().__init__(spacing=Space.small)
        self._theme, self._store = theme, store
        self._failure: Failure | None = None
        self.setProperty("tone", "danger")
        self._title = Label(theme, "", "title")
        self.summary = Label(theme, "", "body", wrap=True, select=True)
        self.advice = Label(theme, "", "body", "muted", wrap=True, select=True)
        self._well = QFrame()
        self._well.setProperty("kind", "well")
        self.evidence = ElidedLabel(theme, "", "mono")
        inside = QVBoxLayout(self._well)
        inside.setContentsMargins(Space.medium, Space.small, Space.medium, Space.small)
        inside.addWidget(self.evidence)
        self._log = Button(theme, "Show log", "", "logs", "Show log")
        self._log.clicked.connect(self._show_log)
        self._again = Button(theme, "Try again", "", "refresh", "Try again")
        self._again.clicked.connect(self._try_again)
        self._anyway = Button(theme, "Load anyway …", "", "warning", "Load anyway")
        self._anyway.clicked.connect(lambda: self._failure and self.override_wanted.emit(self._failure.profile_id))
        self._buttons = row(spacing=Space.small)
        self._cures: list[Button] = []
        self._note = Label(theme, "", "body", "muted", wrap=True)
        close = Button(theme, "", "icon", "close", "Dismiss failure")
        close.clicked.connect(self.dismissed)
        head = row(IconLabel(theme, "error", "danger", 20), self._title, None, close)
        self.column.addLayout(head)
        for part in (self.summary, self.advice, self._well, self._note):
            self.column.addWidget(part)
        self.column.addSpacing(4)
        self.column.addLayout(self._buttons)
        for button in (self._again, self._anyway, self._log):
            self._buttons.addWidget(button)
        self._buttons.addStretch(1)
        self.hide()

    def show_failure(self, failure: Failure | None, note: str, connected: bool) -> None:
        self.setVisible(failure is not None)
        self._note.say(note)
        self._note.setVisible(bool(note))
        for button in (self._again, self._anyway, *self._cures):
            button.setEnabled(connected)
        if failure is None or failure == self._failure:
            self._failure = failure
            return
        self._failure = failure
        title = self._store.title_of(failure.profile_id) or "The model"
        self._title.say(f"{title} did not start" if failure.kind != "crashed" else f"{title} stopped by itself")
        self.summary.say(failure.summary)
        self.advice.say(failure.advice)
        self.advice.setVisible(bool(failure.advice))
        line = failure.evidence.line if failure.evidence else (failure.last_lines[-1] if failure.last_lines else "")
        self.evidence.say(line.strip())
        self._well.setVisible(bool(line.strip()))
        self._log.setVisible(failure.evidence is not None)
        self._again.setVisible(bool(failure.profile_id))
        self._anyway.setVisible(failure.kind == "does_not_fit" and bool(failure.profile_id))
        self._show_cures(failure.remedies, connected)

    def _show_cures(self, remedies: tuple[Remedy, ...], connected: bool) -> None:
        for old in self._cures:
            self._buttons.removeWidget(old)
            old.hide()
            old.deleteLater()
        self._cures = []
        for place, remedy in enumerate(remedies[:3]):
            button = Button(self._theme, remedy.title, "primary" if place == 0 else "", "", f"Remedy: {remedy.title}")
            button.setEnabled(connected)
            button.clicked.connect(lambda _=False, remedy=remedy: self._cure(remedy))
            self._buttons.insertWidget(place, button)
            self._cures.append(button)

    def _cure(self, remedy: Remedy) -> None:
        if self._failure is not None:
            self.retry_wanted.emit(self._failure.profile_id, dict(remedy.settings), remedy.gpus)

    def _try_again(self) -> None:
        if self._failure is not None:
            self.retry_wanted.emit(self._failure.profile_id, {}, ())

    def _show_log(self) -> None:
        if self._failure is not None and self._failure.evidence is not None:
            self.log_wanted.emit(self._failure.evidence)
