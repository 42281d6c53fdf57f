"""The state pill: a tinted capsule with a dot; a ring instead of the dot while something is under way."""

from __future__ import annotations

from PySide6.QtCore import QRectF, QSize, Qt
from PySide6.QtGui import QFontMetrics, QPainter, QPaintEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from app.ui.theme import Theme

_COLOURS = {
    "muted": ("text_muted", "track"),
    "accent": ("accent", "accent_soft"),
    "good": ("good", "good_soft"),
    "warning": ("warning", "warning_soft"),
    "danger": ("danger", "danger_soft"),
    "predicted": ("predicted", "predicted_soft"),
}


class Pill(QWidget):
    def __init__(self, theme: Theme, text: str = "", tone: str = "muted", dot: bool = True) -> None:
        super().__init__()
        self._theme = theme
        self._text, self._tone, self._dot, self._busy = text, tone, dot, False
        self._font = theme.font("small_strong")
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        self.setAccessibleName(text)
        theme.changed.connect(self.update)

    @property
    def text(self) -> str:
        return self._text

    def say(self, text: str, tone: str, busy: bool = False) -> None:
        if (text, tone, busy) == (self._text, self._tone, self._busy):
            return
        wider = text != self._text
        self._text, self._tone, self._busy = text, tone, busy
        self.setAccessibleName(text)
        if wider:
            self.updateGeometry()
        self.update()

    def sizeHint(self) -> QSize:
        return QSize(QFontMetrics(self._font).horizontalAdvance(self._text) + (32 if self._dot else 20), 22)

    def minimumSizeHint(self) -> QSize:
        return self.sizeHint()

    def paintEvent(self, event: QPaintEvent) -> None:
        colour, ground = _COLOURS.get(self._tone, _COLOURS["muted"])
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(self._theme.colour(ground))
        painter.drawRoundedRect(QRectF(self.rect()), 11, 11)
        left = 10
        if self._dot:
            painter.setBrush(self._theme.colour(colour))
            if self._busy:  # a ring: under way
                painter.setBrush(Qt.BrushStyle.NoBrush)
                pen = painter.pen()
                pen.setStyle(Qt.PenStyle.SolidLine)
                pen.setColor(self._theme.colour(colour))
                pen.setWidthF(1.75)
                painter.setPen(pen)
                painter.drawEllipse(QRectF(10.5, 7.5, 7, 7))
            else:
                painter.drawEllipse(QRectF(10.5, 7.5, 7, 7))
            left = 23
        painter.setFont(self._font)
        painter.setPen(self._theme.colour(colour))
        painter.drawText(
            self.rect().adjusted(left, 0, -6, 0), Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft, self._text
        )
