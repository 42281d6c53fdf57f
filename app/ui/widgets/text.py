"""Text on the window: labels in the theme's type and tones, one of which shortens itself to the room it has."""

from __future__ import annotations

from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QFontMetrics, QPainter, QPaintEvent
from PySide6.QtWidgets import QLabel, QSizePolicy, QWidget

from app.ui.theme import Theme


def restyle(widget: QWidget, **properties: object) -> None:
    """Sets dynamic properties and has the style sheet looked up again, only when something changed."""
    changed = False
    for name, value in properties.items():
        if widget.property(name) != value:
            widget.setProperty(name, value)
            changed = True
    if changed:
        widget.style().unpolish(widget)
        widget.style().polish(widget)
        widget.update()


class Label(QLabel):
    """A line or paragraph; `role` is a name of `theme.TYPES`, `tone` one of the style sheet's."""

    def __init__(
        self,
        theme: Theme,
        text: str = "",
        role: str = "body",
        tone: str = "",
        *,
        wrap: bool = False,
        select: bool = False,
    ) -> None:
        super().__init__(text)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setFont(theme.font(role))
        if tone:
            self.setProperty("tone", tone)
        self.setWordWrap(wrap)
        if select:
            self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)

    def say(self, text: str, tone: str | None = None) -> None:
        """Shows `text`; nothing is laid out again when it is the same."""
        if text != self.text():
            self.setText(text)
        if tone is not None:
            restyle(self, tone=tone)


class ElidedLabel(Label):
    """One line that ends in … where the room does; the whole text is its tooltip then."""

    def __init__(self, theme: Theme, text: str = "", role: str = "body", tone: str = "", middle: bool = False) -> None:
        super().__init__(theme, text, role, tone)
        self._mode = Qt.TextElideMode.ElideMiddle if middle else Qt.TextElideMode.ElideRight
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)

    def minimumSizeHint(self) -> QSize:
        return QSize(min(24, super().minimumSizeHint().width()), super().minimumSizeHint().height())

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setFont(self.font())
        painter.setPen(self.palette().color(self.foregroundRole()))
        shown = QFontMetrics(self.font()).elidedText(self.text(), self._mode, self.contentsRect().width())
        painter.drawText(self.contentsRect(), int(self.alignment()) | Qt.TextFlag.TextSingleLine, shown)
        tip = self.text() if shown != self.text() else ""
        if self.toolTip() != tip:
            self.setToolTip(tip)


class LinesLabel(Label):
    """Wrapped text of at most so many lines; the last one ends in … and the whole text is its tooltip then."""

    def __init__(self, theme: Theme, lines: int, role: str = "body", tone: str = "") -> None:
        super().__init__(theme, "", role, tone)
        self._lines = lines
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)

    def sizeHint(self) -> QSize:
        return QSize(80, self._lines * QFontMetrics(self.font()).lineSpacing() + 1)

    def minimumSizeHint(self) -> QSize:
        return self.sizeHint()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setFont(self.font())
        painter.setPen(self.palette().color(self.foregroundRole()))
        metrics = QFontMetrics(self.font())
        shown = _cut(self.text(), metrics, self.width(), self._lines)
        for number, line in enumerate(shown):
            painter.drawText(0, metrics.ascent() + number * metrics.lineSpacing(), line)
        tip = self.text() if shown and shown[-1].endswith("…") and not self.text().endswith("…") else ""
        if self.toolTip() != tip:
            self.setToolTip(tip)


def _cut(text: str, metrics: QFontMetrics, width: int, most: int) -> list[str]:
    """The text in lines broken at spaces; what is too long for `most` lines is shortened."""
    lines: list[str] = []
    words = text.split()
    while words:
        if len(lines) == most - 1:
            return [*lines, metrics.elidedText(" ".join(words), Qt.TextElideMode.ElideRight, width)]
        line = metrics.elidedText(words.pop(0), Qt.TextElideMode.ElideMiddle, width)
        while words and metrics.horizontalAdvance(f"{line} {words[0]}") <= width:
            line += f" {words.pop(0)}"
        lines.append(line)
    return lines
