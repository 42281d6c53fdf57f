"""Paints the items of a transcript: bubbles, text, code panels, folded reasoning, notices and figures."""

from __future__ import annotations

from PySide6.QtCore import QRectF, Qt
from PySide6.QtGui import (
    QAbstractTextDocumentLayout,
    QColor,
    QFontMetricsF,
    QPainter,
    QPainterPath,
    QPalette,
    QTextCharFormat,
    QTextCursor,
    QTextDocument,
)

from app.ui.chat.column import BLOCK_GAP, CODE_HEAD, Column, Seen
from app.ui.chat.items import Item, Kind, Turn
from app.ui.chat.shelf import Shelf
from app.ui.theme import Space, Theme

COLOURS = {Kind.FIGURES: "text_muted", Kind.THOUGHT: "text_muted"}
TONES = {"warning": ("warning", "warning_soft", "warning"), "danger": ("danger", "danger_soft", "error")}
COPY_WIDTH = 74.0


class Brush:
    """Paints with one theme; `ratio` is the screen's device pixel ratio."""

    def __init__(self, theme: Theme, column: Column, shelf: Shelf) -> None:
        self._theme, self._column, self._shelf = theme, column, shelf
        self._caption = theme.font("caption")
        self._label = theme.font("small")

    def item(
        self,
        painter: QPainter,
        seen: Seen,
        turn: Turn,
        left: float,
        y: float,
        clip: QRectF,
        chosen: tuple[int, int] | None,
        copied: bool,
    ) -> None:
        """`y` is the item's top on the viewport; `chosen` the selected part of its document, (from, to)."""
        item = seen.item
        if item.kind is Kind.REASONING:
            self._reasoning(painter, turn, left, y)
            return
        if not item.height:
            return
        text = self._column.text_rect(item, left, y)
        match item.kind:
            case Kind.USER:
                frame = QRectF(text.x() - 16, y, text.width() + 32, item.height - (2 if item.last else 0))
                self._frame(painter, frame, item, 14, self._theme.colour("accent_soft"), None)
            case Kind.CODE:
                frame = QRectF(left, y, self._column.width, item.height - (BLOCK_GAP if item.last else 0))
                self._frame(painter, frame, item, 12, self._theme.colour("code"), self._theme.colour("border"))
                if item.first:
                    self._code_head(painter, item, frame, copied)
            case Kind.THOUGHT:
                painter.fillRect(QRectF(left + 4, y, 2, item.height), self._theme.colour("border"))
            case Kind.TEXT if item.text.lstrip().startswith(">"):
                painter.fillRect(QRectF(left, y, 3, item.height - BLOCK_GAP), self._theme.colour("border_strong"))
            case Kind.NOTICE if item.tone:
                self._notice(painter, item, QRectF(left, y, self._column.width, item.height - BLOCK_GAP))
        self._text(painter, self._shelf.document(item), item, text, clip, chosen)

    def _text(
        self,
        painter: QPainter,
        document: QTextDocument,
        item: Item,
        rect: QRectF,
        clip: QRectF,
        chosen: tuple[int, int] | None,
    ) -> None:
        context = QAbstractTextDocumentLayout.PaintContext()
        palette = QPalette()
        colour = COLOURS.get(item.kind, "text")
        if item.kind is Kind.NOTICE and not item.tone:
            colour = "text_muted"
        palette.setColor(QPalette.ColorRole.Text, self._theme.colour(colour))
        context.palette = palette
        context.clip = clip.translated(-rect.topLeft())
        if chosen is not None:
            selection = QAbstractTextDocumentLayout.Selection()
            cursor = QTextCursor(document)
            last = document.characterCount() - 1
            cursor.setPosition(min(chosen[0], last))
            cursor.setPosition(min(chosen[1], last), QTextCursor.MoveMode.KeepAnchor)
            look = QTextCharFormat()
            look.setBackground(self._theme.colour("selection"))
            if item.kind is not Kind.CODE:
                look.setForeground(self._theme.colour("text"))  # without it a list's numbers are not painted
            selection.cursor, selection.format = cursor, look
            context.selections = [selection]
        painter.save()
        painter.translate(rect.topLeft())
        document.documentLayout().draw(painter, context)
        painter.restore()

    def _frame(
        self, painter: QPainter, frame: QRectF, item: Item, radius: float, fill: QColor, line: QColor | None
    ) -> None:
        """A rounded panel, or the part of one: a part's own rectangle is cut out of a taller one."""
        whole = frame.adjusted(0.5, 0.5, -0.5, -0.5)
        if not item.first:
            whole.setTop(frame.top() - 2 * radius)
        if not item.last:
            whole.setBottom(frame.bottom() + 2 * radius)
        path = QPainterPath()
        path.addRoundedRect(whole, radius, radius)
        painter.save()
        painter.setClipRect(frame, Qt.ClipOperation.IntersectClip)
        painter.fillPath(path, fill)
        if line is not None:
            painter.strokePath(path, line)
        painter.restore()

    def _code_head(self, painter: QPainter, item: Item, frame: QRectF, copied: bool) -> None:
        painter.setFont(self._caption)
        painter.setPen(self._theme.colour("text_muted"))
        head = QRectF(frame.x() + 14, frame.y() + 4, frame.width() - 28, CODE_HEAD - 8)
        painter.drawText(head, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft, item.language or "text")
        spot = self.copy_spot(frame.x(), frame.y())
        painter.setFont(self._label)
        painter.setPen(self._theme.colour("good" if copied else "text"))
        words = "Copied" if copied else "Copy"
        width = QFontMetricsF(self._label).horizontalAdvance(words)
        x = spot.right() - 6 - width
        painter.drawText(QRectF(x, spot.y(), width + 2, spot.height()), Qt.AlignmentFlag.AlignVCenter, words)
        icon = self._theme.pixmap(
            "check" if copied else "copy", "good" if copied else "text_muted", 14, painter.device().devicePixelRatioF()
        )
        painter.drawPixmap(QRectF(x - 20, spot.center().y() - 7, 14, 14), icon, QRectF(icon.rect()))

    def copy_spot(self, left: float, y: float) -> QRectF:
        """Where a code panel's Copy is, when the panel begins at (left, y)."""
        return QRectF(left + self._column.width - COPY_WIDTH - 8, y + 5, COPY_WIDTH, CODE_HEAD - 10)

    def _reasoning(self, painter: QPainter, turn: Turn, left: float, y: float) -> None:
        icon = self._theme.pixmap(
            "chevron-down" if turn.unfolded else "chevron-right", "text_muted", 14, painter.device().devicePixelRatioF()
        )
        painter.drawPixmap(QRectF(left - 2, y + 5, 14, 14), icon, QRectF(icon.rect()))
        painter.setFont(self._label)
        painter.setPen(self._theme.colour("text_muted"))
        words = "Reasoning …" if turn.live and not turn.has_body else "Reasoning"
        painter.drawText(QRectF(left + 18, y, 300, 24), Qt.AlignmentFlag.AlignVCenter, words)

    def _notice(self, painter: QPainter, item: Item, frame: QRectF) -> None:
        colour, soft, name = TONES[item.tone]
        path = QPainterPath()
        path.addRoundedRect(frame, Space.control_radius, Space.control_radius)
        painter.fillPath(path, self._theme.colour(soft))
        icon = self._theme.pixmap(name, colour, 16, painter.device().devicePixelRatioF())
        painter.drawPixmap(QRectF(frame.x() + 12, frame.y() + 10, 16, 16), icon, QRectF(icon.rect()))
