"""The sparkline: samples binned by time, drawn once, then scrolled, so that a new sample costs only its own segment."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from PySide6.QtCore import QEvent, QPointF, QRectF, QSize, Qt
from PySide6.QtGui import (
    QColor,
    QLinearGradient,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QPixmap,
    QPolygonF,
    QResizeEvent,
)
from PySide6.QtWidgets import QSizePolicy, QWidget

from app.ui.theme import Theme

SPAN_SECONDS = 600.0


def nice_ceiling(value: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is not below `value`; 1 for nothing."""
    if value <= 0:
        return 1.0
    power = 1.0
    while power < value:
        power *= 10
    while power / 10 >= value:
        power /= 10
    for step in (0.2, 0.5, 1.0):
        if step * power >= value:
            return step * power
    return power


def binned(samples: Iterable[tuple[float, float | None]], last: int, bins: int, seconds: float) -> list[float | None]:
    """Means of the samples in `bins` bins of `seconds` each, the last being bin number `last`; empty bins are None."""
    sums, counts = [0.0] * bins, [0] * bins
    for at, value in samples:
        index = int(at / seconds) - last + bins - 1
        if value is not None and 0 <= index < bins:
            sums[index] += value
            counts[index] += 1
    return [s / n if n else None for s, n in zip(sums, counts, strict=True)]


class Sparkline(QWidget):
    """`ceiling` fixes the scale's top; without it the scale follows the largest value shown."""

    def __init__(
        self,
        theme: Theme,
        name: str,
        colour: str = "accent",
        height: int = 40,
        ceiling: float | None = None,
        words: Callable[[float | None], str] = lambda value: "—" if value is None else f"{value:g}",
    ) -> None:
        super().__init__()
        self._theme, self._colour_name, self._height, self._fixed = theme, colour, height, ceiling
        self._words = words
        self._samples: deque[tuple[float, float | None]] = deque(maxlen=2400)
        self._top = ceiling or 1.0
        self._pixmap: QPixmap | None = None
        self._last_bin = 0
        self._last_point: QPointF | None = None
        self._hover: float | None = None
        self.setAccessibleName(name)
        self.setMouseTracking(True)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        theme.changed.connect(self._forget)

    def sizeHint(self) -> QSize:
        return QSize(160, self._height)

    def minimumSizeHint(self) -> QSize:
        return QSize(40, self._height)

    def fill(self, samples: Iterable[tuple[float, float | None]]) -> None:
        """Replaces everything: (seconds, value), oldest first."""
        self._samples.clear()
        self._samples.extend(samples)
        self._forget()

    def append(self, at: float, value: float | None) -> None:
        """One new sample; `at` in seconds of any steady clock."""
        if self._samples and at < self._samples[-1][0]:
            self._samples.clear()  # the clock went back: another daemon
            self._forget()
        self._samples.append((at, value))
        if self._pixmap is None:
            self.update()
            return
        ended = int(at / self._bin_seconds) - 1
        if ended <= self._last_bin:
            return  # the bin is not over; it is drawn when it is
        if value is not None and self._fixed is None and value > self._top:
            self._forget()
            return
        self._advance(ended)
        self.update()

    # --- drawing, in device pixels ------------------------------------------------------------------------------------

    @property
    def _step(self) -> int:
        return max(1, round(2 * self.devicePixelRatioF()))

    @property
    def _bins(self) -> int:
        return max(2, int(self.width() * self.devicePixelRatioF()) // self._step)

    @property
    def _bin_seconds(self) -> float:
        return SPAN_SECONDS / self._bins

    def _forget(self) -> None:
        self._pixmap = None
        self.update()

    def resizeEvent(self, event: QResizeEvent) -> None:
        ratio = self.devicePixelRatioF()
        room = (max(1, int(self.width() * ratio)), max(1, int(self.height() * ratio)))
        if self._pixmap is not None and (self._pixmap.width(), self._pixmap.height()) != room:
            self._forget()

    def _redraw(self) -> None:
        ratio = self.devicePixelRatioF()
        pixmap = QPixmap(max(1, int(self.width() * ratio)), max(1, int(self.height() * ratio)))
        pixmap.fill(Qt.GlobalColor.transparent)
        self._pixmap = pixmap
        self._last_point = None
        if not self._samples:
            return
        # The newest bin is still filling: what is drawn ends with the one before it.
        self._last_bin = int(self._samples[-1][0] / self._bin_seconds) - 1
        values = binned(self._samples, self._last_bin, self._bins, self._bin_seconds)
        largest = max((v for v in values if v is not None), default=0.0)
        self._top = self._fixed or nice_ceiling(1.05 * largest)
        self._draw(values, pixmap.width() - len(values) * self._step)

    def _advance(self, last: int) -> None:
        assert self._pixmap is not None
        ended = last - self._last_bin
        if ended >= self._bins:
            self._forget()
            return
        values = binned(self._samples, last, ended, self._bin_seconds)
        self._last_bin = last
        shift = ended * self._step
        self._pixmap.scroll(-shift, 0, self._pixmap.rect())
        painter = QPainter(self._pixmap)
        painter.setCompositionMode(QPainter.CompositionMode.CompositionMode_Source)
        painter.fillRect(self._pixmap.width() - shift, 0, shift, self._pixmap.height(), Qt.GlobalColor.transparent)
        painter.end()
        if self._last_point is not None:
            self._last_point -= QPointF(shift, 0)
        self._draw(values, self._pixmap.width() - shift)

    def _draw(self, values: list[float | None], left: float) -> None:
        assert self._pixmap is not None
        pen_width = 1.5 * self.devicePixelRatioF()
        height = self._pixmap.height()
        room = height - 2 * pen_width
        colour = self._theme.colour(self._colour_name)
        painter = QPainter(self._pixmap)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        gradient = QLinearGradient(0, 0, 0, height)
        for at, alpha in ((0.0, 70), (1.0, 4)):
            faded = QColor(colour)
            faded.setAlpha(alpha)
            gradient.setColorAt(at, faded)
        for index, value in enumerate(values):
            if value is None:
                continue  # the line runs on over a bin without a sample; a stream that ended simply stops
            y = pen_width + room * (1 - min(max(value / self._top, 0.0), 1.0))
            point = QPointF(left + (index + 1) * self._step - 1, y)
            before = self._last_point
            if before is not None and point.x() - before.x() <= 6 * self._step:
                painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)
                painter.setPen(Qt.PenStyle.NoPen)
                painter.setBrush(gradient)
                painter.drawPolygon(QPolygonF([before, point, QPointF(point.x(), height), QPointF(before.x(), height)]))
                painter.setRenderHint(QPainter.RenderHint.Antialiasing)
                painter.setPen(QPen(colour, pen_width, Qt.PenStyle.SolidLine, Qt.PenCapStyle.RoundCap))
                painter.drawLine(before, point)
            self._last_point = point
        painter.end()

    def paintEvent(self, event: QPaintEvent) -> None:
        if self._pixmap is None:
            self._redraw()
        painter = QPainter(self)
        painter.setPen(QPen(self._theme.colour("border"), 1))
        painter.drawLine(QPointF(0, self.height() - 0.5), QPointF(self.width(), self.height() - 0.5))
        assert self._pixmap is not None
        painter.drawPixmap(QRectF(self.rect()), self._pixmap, QRectF(self._pixmap.rect()))
        if self._hover is not None and self._samples:
            self._paint_hover(painter, self._hover)

    def _paint_hover(self, painter: QPainter, x: float) -> None:
        newest = self._samples[-1][0]
        at = newest - (self.width() - x) / max(1, self.width()) * SPAN_SECONDS
        _, value = min(self._samples, key=lambda sample: abs(sample[0] - at))
        painter.setPen(QPen(self._theme.colour("text_faint"), 1))
        painter.drawLine(QPointF(x, 0), QPointF(x, self.height()))
        ago = max(0, round(newest - at))
        words = f"{self._words(value)}  −{ago // 60}:{ago % 60:02d}"
        painter.setFont(self._theme.font("caption"))
        wide = painter.fontMetrics().horizontalAdvance(words) + 12
        box = QRectF(min(max(0.0, x + 6), self.width() - wide), 1, wide, 18)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(QPen(self._theme.colour("border_strong"), 1))
        painter.setBrush(self._theme.colour("raised"))
        painter.drawRoundedRect(box, 5, 5)
        painter.setPen(self._theme.colour("text"))
        painter.drawText(box, Qt.AlignmentFlag.AlignCenter, words)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        self._hover = event.position().x()
        self.update()

    def leaveEvent(self, event: QEvent) -> None:
        self._hover = None
        self.update()
