"""The segmented memory bar: others, our engine, what a load would take (hatched), and the headroom that stays free."""

from __future__ import annotations

import dataclasses

from PySide6.QtCore import QLineF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QPainter, QPainterPath, QPaintEvent, QPen
from PySide6.QtWidgets import QSizePolicy, QWidget

from app.ui.theme import Theme


@dataclasses.dataclass(frozen=True)
class Segment:
    """`kind`: others · engine · leaving · predicted · good · warning · danger; the last four are hatched."""

    kind: str
    bytes: float


_SOLID = {"others": "others", "engine": "accent"}
_HATCHED = {
    "leaving": ("accent", "accent_soft"),
    "predicted": ("predicted", "predicted_soft"),
    "good": ("good", "good_soft"),
    "warning": ("warning", "warning_soft"),
    "danger": ("danger", "danger_soft"),
}
HATCH_STEP = 6.0


def boxes(
    segments: tuple[Segment, ...], total: float, width: float, gap: float = 2.0
) -> list[tuple[str, float, float]]:
    """(kind, x, width) of each segment on a bar of `width`; what is there at all is at least 3 wide and ends inside."""
    placed: list[tuple[str, float, float]] = []
    x = 0.0
    for segment in segments:
        if segment.bytes <= 0 or total <= 0 or x >= width:
            continue
        wide = min(max(3.0, segment.bytes / total * width), width - x)
        placed.append((segment.kind, x, max(1.0, wide - gap) if x + wide < width else wide))
        x += wide
    return placed


class MemoryBar(QWidget):
    def __init__(self, theme: Theme, height: int = 18, name: str = "Memory") -> None:
        super().__init__()
        self._theme = theme
        self._height = height
        self._segments: tuple[Segment, ...] = ()
        self._total = 0.0
        self._headroom = 0.0
        self.setAccessibleName(name)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        theme.changed.connect(self.update)

    def show_memory(self, segments: tuple[Segment, ...], total: float, headroom: float = 0.0, words: str = "") -> None:
        """All in bytes; repaints only on a change."""
        if (segments, total, headroom) != (self._segments, self._total, self._headroom):
            self._segments, self._total, self._headroom = segments, total, headroom
            self.update()
        if words and words != self.accessibleDescription():
            self.setAccessibleDescription(words)

    def sizeHint(self) -> QSize:
        return QSize(160, self._height)

    def minimumSizeHint(self) -> QSize:
        return QSize(40, self._height)

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        area = QRectF(self.rect())
        round_ = min(5.0, area.height() / 2)
        clip = QPainterPath()
        clip.addRoundedRect(area, round_, round_)
        painter.setClipPath(clip)
        painter.fillRect(area, self._theme.colour("track"))
        painter.setOpacity(1.0 if self.isEnabled() else 0.4)
        for kind, x, width in boxes(self._segments, self._total, area.width()):
            box = QRectF(x, 0, width, area.height())
            if kind in _SOLID:
                painter.fillRect(box, self._theme.colour(_SOLID[kind]))
            else:
                colour, ground = _HATCHED.get(kind, _HATCHED["predicted"])
                self._hatch(painter, box, self._theme.colour(colour), self._theme.colour(ground))
        if 0 < self._headroom < self._total:
            x = area.width() * (1 - self._headroom / self._total)
            pen = QPen(self._theme.colour("text_faint"), 1.0, Qt.PenStyle.CustomDashLine)
            pen.setDashPattern([2, 2])
            painter.setPen(pen)
            painter.drawLine(QLineF(x, 1, x, area.height() - 1))

    @staticmethod
    def _hatch(painter: QPainter, box: QRectF, colour: QColor, ground: QColor) -> None:
        painter.fillRect(box, ground)
        painter.save()
        painter.setClipRect(box, Qt.ClipOperation.IntersectClip)
        painter.setPen(QPen(colour, 1.5))
        lines = []
        x = box.left() - box.height()
        x -= x % HATCH_STEP  # the hatch stands still while the box grows
        while x < box.right():
            lines.append(QLineF(x, box.bottom(), x + box.height(), box.top()))
            x += HATCH_STEP
        painter.drawLines(lines)
        painter.restore()
