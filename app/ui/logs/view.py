"""Paints a log: only the lines that are visible, whatever their number; selection, follow, marks of what was found."""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left
from collections import OrderedDict

from PySide6.QtCore import QElapsedTimer, QPoint, QRect, Qt, QTimer, Signal
from PySide6.QtGui import (
    QColor,
    QFont,
    QFontMetricsF,
    QGuiApplication,
    QKeyEvent,
    QKeySequence,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPixmap,
    QResizeEvent,
)
from PySide6.QtWidgets import QAbstractScrollArea, QFrame

from app.core.loglines import Level, Line, parsed, spans, visible, without_escapes
from app.ui.logs.spool import Spool
from app.ui.theme import Space, Theme

LEVEL_WORDS = {Level.DEBUG: "DEBUG", Level.INFO: "INFO", Level.WARNING: "WARN", Level.ERROR: "ERROR"}
LEVEL_COLOURS = {Level.DEBUG: "text_faint", Level.INFO: "good", Level.WARNING: "warning", Level.ERROR: "danger"}
# ANSI colours by meaning of ours, so that they are readable in both themes.
ANSI = ("text_faint", "danger", "good", "warning", "code_name", "predicted", "accent", "text") * 2
LINE_FACTOR = 1.55
KEPT_LINES = 400
SLICE_NS = (
    700_000  # of painting at a time while a log grows: the next frame, and whoever types, never waits for a storm
)

Piece = tuple[str, str, bool]  # text, colour name, bold


class LogView(QAbstractScrollArea):
    """Shows all lines of a spool, or the ones of `show_only`. `followed` tells when following begins or ends."""

    followed = Signal(bool)

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self._spool: Spool | None = None
        self._only: array[int] | None = None
        self._follow = True
        self._found: array[int] = array("Q")
        self._current = -1
        self._pattern: re.Pattern[bytes] | None = None
        self._marked = -1
        self._anchor: tuple[int, int] | None = None
        self._caret: tuple[int, int] | None = None
        self._lines: OrderedDict[int, tuple[bytes, list[Piece], Level]] = OrderedDict()
        self._colours: dict[str, QColor] = {}
        self._widest = 0
        self._picture: QPixmap | None = None  # of what is to be seen now, when it was painted in slices
        self._canvas: QPixmap | None = None  # the next picture, with `_canvas_rows` of its rows from `_canvas_first` on
        self._canvas_first = self._canvas_rows = 0
        self._grown_again = False
        self._slices = QTimer(self, singleShot=True, interval=0)
        self._slices.timeout.connect(self._paint_slice)
        self.setAccessibleName("Engine log")
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.viewport().setCursor(Qt.CursorShape.IBeamCursor)
        self._take_theme()
        theme.changed.connect(self._take_theme)
        self.verticalScrollBar().valueChanged.connect(self._scrolled)
        self.verticalScrollBar().sliderMoved.connect(self._person_scrolled)
        self.verticalScrollBar().actionTriggered.connect(self._person_scrolled)

    def _take_theme(self) -> None:
        self._font: QFont = self._theme.font("mono")
        self._bold = QFont(self._font)
        self._bold.setWeight(QFont.Weight.Bold)
        metrics = QFontMetricsF(self._font)
        self._advance = metrics.horizontalAdvance("0")
        self._height = max(1, round(metrics.height() * LINE_FACTOR))
        self._rise = (self._height + metrics.ascent() - metrics.descent()) / 2
        self._lines.clear()
        self._colours.clear()
        self._lay_out()

    # --- what is shown ---

    def show_spool(self, spool: Spool | None) -> None:
        self._spool = spool
        self._only, self._found, self._current, self._marked = None, array("Q"), -1, -1
        self._anchor = self._caret = None
        self._lines.clear()
        self._widest = 0
        self.follow(True)
        self._lay_out()

    def show_only(self, numbers: array[int] | None) -> None:
        """Only these lines (None = all). The first visible line stays in sight as far as it is shown."""
        top = self._number(self.verticalScrollBar().value())
        self._only = numbers
        self._lay_out()
        if not self._follow and top is not None:
            self.verticalScrollBar().setValue(self._row(top))

    def more(self) -> None:
        """The spool, or the lines chosen of it, have grown."""
        if not self._follow or not self.isVisible():
            self._lay_out()
        elif self._canvas is None:
            self._prepare()
        else:
            self._grown_again = True

    def follow(self, on: bool) -> None:
        if on != self._follow:
            self._follow = on
            self.followed.emit(on)
        if on:
            self.verticalScrollBar().setValue(self.verticalScrollBar().maximum())

    @property
    def following(self) -> bool:
        return self._follow

    def show_found(self, found: array[int], pattern: re.Pattern[bytes] | None) -> None:
        self._found, self._pattern = found, pattern
        self._current = -1
        self._repaint()

    def go_found(self, step: int) -> tuple[int, int]:
        """To the next or previous found line, seen from the top of the view; (its place, how many there are)."""
        if not self._found:
            return 0, 0
        if self._current < 0:
            top = self._number(self.verticalScrollBar().value()) or 0
            at = bisect_left(self._found, top)
            self._current = (at if step > 0 else at - 1) % len(self._found)
        else:
            self._current = (self._current + step) % len(self._found)
        self.show_line(self._found[self._current])
        return self._current + 1, len(self._found)

    def mark(self, number: int) -> None:
        """Highlights a line (the evidence of a failure) and brings it into the middle."""
        self._marked = number
        self.show_line(number)

    def show_line(self, number: int) -> None:
        self.follow(False)
        self.verticalScrollBar().setValue(max(0, self._row(number) - self._rows_visible() // 2))
        self._repaint()

    @property
    def rows(self) -> int:
        if self._only is not None:
            return len(self._only)
        return self._spool.lines if self._spool else 0

    def _number(self, row: int) -> int | None:
        if not 0 <= row < self.rows:
            return None
        return self._only[row] if self._only is not None else row

    def _row(self, number: int) -> int:
        return bisect_left(self._only, number) if self._only is not None else number

    def _rows_visible(self) -> int:
        return max(1, self.viewport().height() // self._height)

    def _lay_out(self) -> None:
        bar = self.verticalScrollBar()
        bar.setPageStep(self._rows_visible())
        bar.setRange(0, max(0, self.rows - self._rows_visible()))
        self._lay_out_width()
        if self._follow:
            bar.setValue(bar.maximum())
        self._repaint()

    def _lay_out_width(self) -> None:
        across = self.horizontalScrollBar()
        room = self.viewport().width() - self._gutter()
        across.setPageStep(room)
        across.setSingleStep(round(self._advance * 8))
        across.setRange(0, max(0, round((self._widest + 2) * self._advance) - room))

    def _gutter(self) -> int:
        digits = max(4, len(str(self._spool.lines if self._spool else 0)))
        return round((digits + 2) * self._advance) + Space.small

    def resizeEvent(self, event: QResizeEvent) -> None:
        self._lay_out()

    def _scrolled(self) -> None:
        self._repaint()

    def _person_scrolled(self, *_: object) -> None:
        """A person who scrolls up wants to read; at the end they want to follow again."""
        bar = self.verticalScrollBar()
        self.follow(bar.sliderPosition() >= bar.maximum())

    def wheelEvent(self, event) -> None:  # type: ignore[no-untyped-def]
        super().wheelEvent(event)
        self._person_scrolled()

    # --- painting ---

    def _repaint(self) -> None:
        """Something else is to be seen: no picture of before may be shown."""
        self._picture = self._canvas = None
        self._slices.stop()
        self.viewport().update()

    def _prepare(self) -> None:
        """Begins the picture of the log's new end. It is painted in slices and shown whole."""
        view = self.viewport()
        self._grown_again = False
        self._canvas = QPixmap(view.size() * view.devicePixelRatio())
        self._canvas.setDevicePixelRatio(view.devicePixelRatio())
        self._canvas.fill(self._colour("surface"))
        self._canvas_first, self._canvas_rows = max(0, self.rows - self._rows_visible()), 0
        self._slices.start()

    def _paint_slice(self) -> None:
        canvas, spent = self._canvas, QElapsedTimer()
        if canvas is None:
            return
        spent.start()
        painter = QPainter(canvas)
        end = self.viewport().height() // self._height + 1
        while self._canvas_rows < end and spent.nsecsElapsed() < SLICE_NS:
            until = self._canvas_rows + 2
            self._paint_rows(painter, self._canvas_first, self._canvas_rows, until)
            self._canvas_rows = until
        painter.end()
        if self._canvas_rows < end:
            self._slices.start()
            return
        self._lay_out()  # to the end, which forgets all pictures: then this one is put up
        self._picture = canvas
        if self._grown_again:
            self._prepare()

    def _pieces(self, number: int) -> tuple[bytes, list[Piece], Level]:
        kept = self._lines.get(number)
        if kept is None:
            assert self._spool is not None
            raw = self._spool.line(number)
            line = parsed(raw)
            kept = raw, self._cut(raw, line), line.level
            if number < self._spool.whole_lines:  # an open line may still grow
                self._lines[number] = kept
                if len(self._lines) > KEPT_LINES:
                    self._lines.popitem(last=False)
        return kept

    @staticmethod
    def _cut(raw: bytes, line: Line) -> list[Piece]:
        pieces: list[Piece] = []
        if line.time:
            pieces.append((f"{line.time:<14} ", "text_faint", False))
        if line.time or line.level is not Level.INFO:
            pieces.append((f"{LEVEL_WORDS[line.level]:<6}", LEVEL_COLOURS[line.level], False))
        if line.source:
            pieces.append((f"{line.source:<5} ", "predicted", False))
        shown = visible(raw)
        if "\x1b" in shown and without_escapes(shown) == line.text:
            for span in spans(shown):
                colour = "text_muted" if span.dim else "text" if span.colour is None else ANSI[span.colour]
                pieces.append((span.text.expandtabs(4), colour, span.bold))
        else:
            pieces.append((line.text.expandtabs(4), "text", False))
        return pieces

    def text_of(self, number: int) -> str:
        """A line as it is painted, without its number."""
        return "".join(text for text, _, _ in self._pieces(number)[1])

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self.viewport())
        if self._picture is not None:
            painter.drawPixmap(0, 0, self._picture)
            return
        area = event.rect()
        painter.fillRect(area, self._colour("surface"))
        widest = self._widest
        self._paint_rows(painter, self.verticalScrollBar().value(), 0, area.bottom() // self._height + 1)
        if widest != self._widest:
            self._lay_out_width()

    def _paint_rows(self, painter: QPainter, first: int, begin: int, end: int) -> None:
        """Paints the rows at the places `begin` to `end` of a view whose first row is `first`."""
        if self._spool is None:
            return
        colour = self._colour
        painter.setFont(self._font)
        gutter, shift = self._gutter(), self.horizontalScrollBar().value()
        selection = self._selection()
        found = set(self._found_between(first))
        for place in range(begin, end):
            number = self._number(first + place)
            if number is None:
                break
            y = place * self._height
            _, pieces, level = self._pieces(number)
            row = QRect(0, y, self.viewport().width(), self._height)
            if number == self._marked:
                painter.fillRect(row, colour("warning_soft"))
            elif level is Level.ERROR:
                painter.fillRect(row, colour("danger_soft"))
            if number in found:
                self._paint_found(painter, number, gutter - shift, y)
            if selection is not None:
                self._paint_selection(painter, number, selection, gutter - shift, y)
            self._paint_pieces(painter, pieces, float(gutter - shift), gutter, y)
            self._widest = max(self._widest, sum(len(text) for text, _, _ in pieces))
            if shift:  # text was scrolled under the line's number
                painter.fillRect(QRect(0, y, gutter - Space.small, self._height), self._ground(number, level))
            painter.setPen(colour("text_faint"))
            digits = str(number + 1)
            left = gutter - Space.small - (len(digits) + 1) * self._advance
            painter.drawText(round(left), round(y + self._rise), digits)

    def _paint_pieces(self, painter: QPainter, pieces: list[Piece], x: float, left: int, y: int) -> None:
        """Only the columns that are in sight are shaped and drawn: a line may be much longer than the window is wide."""
        right, base = self.viewport().width(), round(y + self._rise)
        for text, name, bold in pieces:
            end = x + len(text) * self._advance
            if end > left and x < right:
                first = max(0, int((left - x) / self._advance))
                last = int((right - x) / self._advance) + 1
                painter.setPen(self._colour(name))
                if bold:
                    painter.setFont(self._bold)
                painter.drawText(round(x + first * self._advance), base, text[first:last])
                if bold:
                    painter.setFont(self._font)
            x = end

    def _colour(self, name: str) -> QColor:
        """The theme's colour, made once: a line has several, a frame many lines."""
        colour = self._colours.get(name)
        if colour is None:
            colour = self._colours[name] = self._theme.colour(name)
        return colour

    def _ground(self, number: int, level: Level) -> QColor:
        """Behind the line's number, over text that was scrolled under it."""
        if number == self._marked:
            return self._theme.colour("warning_soft")
        return self._theme.colour("danger_soft" if level is Level.ERROR else "surface")

    def _found_between(self, first_row: int) -> list[int]:
        top, bottom = self._number(first_row), self._number(min(self.rows - 1, first_row + self._rows_visible() + 1))
        if top is None or bottom is None or not self._found:
            return []
        begin = bisect_left(self._found, top)
        return list(self._found[begin : bisect_left(self._found, bottom + 1)])

    def _paint_found(self, painter: QPainter, number: int, x: float, y: int) -> None:
        if self._pattern is None:
            return
        text = self.text_of(number).encode()
        current = 0 <= self._current < len(self._found) and self._found[self._current] == number
        colour = self._theme.colour("warning" if current else "selection")
        colour.setAlphaF(0.45 if current else 1.0)
        for match in self._pattern.finditer(text):
            begin = len(text[: match.start()].decode("utf-8", "replace"))
            length = len(match.group().decode("utf-8", "replace"))
            painter.fillRect(self._cells(x, y, begin, begin + max(1, length)), colour)

    def _paint_selection(
        self, painter: QPainter, number: int, selection: tuple[tuple[int, int], tuple[int, int]], x: float, y: int
    ) -> None:
        (first, begin), (last, end) = selection
        if not first <= number <= last:
            return
        left = begin if number == first else 0
        right = end if number == last else len(self.text_of(number)) + 1
        painter.fillRect(self._cells(x, y, left, right), self._theme.colour("selection"))

    def _cells(self, x: float, y: int, begin: int, end: int) -> QRect:
        return QRect(round(x + begin * self._advance), y, round((end - begin) * self._advance), self._height)

    # --- selecting and copying ---

    def _selection(self) -> tuple[tuple[int, int], tuple[int, int]] | None:
        if self._anchor is None or self._caret is None or self._anchor == self._caret:
            return None
        first, last = sorted((self._anchor, self._caret))
        return first, last

    def _place_at(self, point: QPoint) -> tuple[int, int] | None:
        row = self.verticalScrollBar().value() + point.y() // self._height
        number = self._number(max(0, min(row, self.rows - 1)))
        if number is None:
            return None
        column = round((point.x() - self._gutter() + self.horizontalScrollBar().value()) / self._advance)
        return number, max(0, min(column, len(self.text_of(number))))

    def mousePressEvent(self, event: QMouseEvent) -> None:
        if event.button() == Qt.MouseButton.LeftButton:
            place = self._place_at(event.position().toPoint())
            if event.modifiers() & Qt.KeyboardModifier.ShiftModifier and self._anchor is not None:
                self._caret = place
            else:
                self._anchor = self._caret = place
            self._repaint()

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        if event.buttons() & Qt.MouseButton.LeftButton:
            point = event.position().toPoint()
            if point.y() < 0 or point.y() > self.viewport().height():
                bar = self.verticalScrollBar()
                bar.setValue(bar.value() + (-1 if point.y() < 0 else 1))
                self._person_scrolled()
            self._caret = self._place_at(point)
            self._repaint()

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        place = self._place_at(event.position().toPoint())
        if place is not None:
            number, column = place
            text = self.text_of(number)
            word = next((m for m in re.finditer(r"[\w./:-]+|\S", text) if m.start() <= column <= m.end()), None)
            if word is not None:
                self._anchor, self._caret = (number, word.start()), (number, word.end())
                self._repaint()

    def select_all(self) -> None:
        last = self._number(self.rows - 1)
        if last is not None:
            self._anchor, self._caret = (self._number(0) or 0, 0), (last, len(self.text_of(last)))
            self._repaint()

    def selected_text(self, most_lines: int = 200_000) -> str:
        selection = self._selection()
        if selection is None:
            return ""
        (first, begin), (last, end) = selection
        numbers = [n for row in range(self._row(first), self._row(last) + 1) if (n := self._number(row)) is not None]
        lines = [self.text_of(number).rstrip() for number in numbers[:most_lines]]
        if lines:
            lines[-1] = self.text_of(numbers[-1])[:end] if len(numbers) <= most_lines else lines[-1]
            lines[0] = lines[0][begin:]
        return "\n".join(lines)

    def copy(self) -> None:
        if text := self.selected_text():
            QGuiApplication.clipboard().setText(text)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        bar = self.verticalScrollBar()
        if event.matches(QKeySequence.StandardKey.Copy):
            self.copy()
        elif event.matches(QKeySequence.StandardKey.SelectAll):
            self.select_all()
        elif event.key() == Qt.Key.Key_End:
            self.follow(True)
        elif event.key() == Qt.Key.Key_Home:
            bar.setValue(0)
            self._person_scrolled()
        else:
            super().keyPressEvent(event)
            if event.key() in (Qt.Key.Key_Up, Qt.Key.Key_Down, Qt.Key.Key_PageUp, Qt.Key.Key_PageDown):
                self._person_scrolled()
