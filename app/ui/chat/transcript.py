"""Shows a conversation: lays out and paints only what is in view, stays at the end while it grows, lets its text be selected."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import QPoint, QPointF, QRectF, Qt, QTimer, QUrl, Signal
from PySide6.QtGui import (
    QContextMenuEvent,
    QDesktopServices,
    QGuiApplication,
    QKeyEvent,
    QKeySequence,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QResizeEvent,
    QShowEvent,
    QTextCursor,
)
from PySide6.QtWidgets import QAbstractScrollArea, QFrame, QMenu, QWidget

from app.core.conversation import Message
from app.ui.chat import copying
from app.ui.chat.column import Column, Place
from app.ui.chat.items import Kind, Turn
from app.ui.chat.painting import Brush
from app.ui.chat.shelf import Shelf
from app.ui.theme import Space, Theme

STEP = 48
SIDE = 24
SPOKEN_CHARACTERS = 4_000
COPIED_MS = 1_500


class Transcript(QAbstractScrollArea):
    regenerate_wanted = Signal()
    maker_wanted = Signal(str)  # of the message
    edit_wanted = Signal(str)
    branch_wanted = Signal(str, int)  # another version of the message: one before, one after
    at_end = Signal(bool)

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self._shelf = Shelf(theme)
        self.column = Column(self._shelf)
        self._brush = Brush(theme, self.column, self._shelf)
        self.branches_of: Callable[[str], tuple[int, int]] = lambda message_id: (1, 1)  # which, of how many
        self._sticks = True
        self._settling = False
        self._anchor: Place | None = None
        self._caret: Place | None = None
        self._pressed_link = ""
        self._copied: object = None
        self._footer: QWidget | None = None
        self._grown: tuple[int, int] | None = None  # what grew and is not painted: by how much it moved, where it began
        self._growing = QTimer(self, singleShot=True, interval=0)
        self._growing.timeout.connect(self._paint_growth)
        self._copied_timer = QTimer(self, singleShot=True, interval=COPIED_MS)
        self._copied_timer.timeout.connect(self._forget_copied)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setAccessibleName("Conversation")
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.verticalScrollBar().setSingleStep(STEP)
        self.viewport().setMouseTracking(True)
        self.viewport().setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)
        theme.changed.connect(self._restyle)

    def set_footer(self, footer: QWidget) -> None:
        """A row of buttons that stands under the last message."""
        self._footer = footer
        footer.setParent(self.viewport())

    # --- what is shown ---

    def show_messages(self, messages: list[Message] | tuple[Message, ...], waiting: str = "") -> None:
        """Another conversation, from its end."""
        self._anchor = self._caret = None
        self._shelf.clear()
        self.column.show([Turn(message, waiting) for message in messages])
        self._sticks = True
        self._settle()
        self._speak()

    def follow_messages(self, messages: list[Message] | tuple[Message, ...], waiting: str = "") -> None:
        """The same conversation, changed: turns that are in it already are kept, with what is laid out of them."""
        kept = {turn.message.id: turn for turn in self.column.turns}
        turns = []
        for message in messages:
            turn = kept.get(message.id)
            if turn is None:
                turn = Turn(message, waiting)
            elif turn.message is not message:
                turn.settle(message)
            turns.append(turn)
        before = [turn.message.id for turn in self.column.turns]
        if before != [turn.message.id for turn in turns]:
            self._anchor = self._caret = None
        self.column.show(turns)
        self._settle()
        self._speak()

    def grow(self, text: str, reasoning: str) -> None:
        """The last message, which is being written, has grown."""
        turns = self.column.turns
        if not turns or not turns[-1].live:
            return
        owner, last = turns[-1], len(turns) - 1
        owner.feed(text, reasoning)
        self.column.place(last)
        if not self.isVisible():
            return  # laid out when it is seen again
        before = self._y
        self._settle(update=False)
        moved = before - self._y
        top = int(self.column.top(last, min(owner.unchanged, len(owner.items) - 1)) - self._y) - 2
        if reasoning or self._footer_is_shown:
            top = 0
        if self._grown is not None:
            moved, top = moved + self._grown[0], min(top, self._grown[1] + moved)
        self._grown = moved, top
        self._growing.start()

    def _paint_growth(self) -> None:
        """In a turn of its own: laying out and painting together would be the longest piece of work of a frame."""
        if self._grown is None:
            return
        (moved, top), self._grown = self._grown, None
        view = self.viewport()
        if moved:
            view.scroll(0, moved)  # what is painted already is moved; only the end is painted anew
        view.update(0, max(0, top), view.width(), view.height())

    def wait(self, words: str) -> None:
        turns = self.column.turns
        if turns and turns[-1].live:
            turns[-1].wait(words)
            self.column.place(len(turns) - 1)
            self._settle()

    def refresh_end(self) -> None:
        """The row under the last message may have come or gone."""
        self._settle()

    def to_end(self) -> None:
        self._sticks = True
        self._settle()

    @property
    def sticks(self) -> bool:
        """Whether it stays at the end while the answer grows."""
        return self._sticks

    def _speak(self) -> None:
        """What a screen reader says of the conversation: its last answer."""
        last = next((t.message for t in reversed(self.column.turns) if t.message.role == "assistant"), None)
        words = "" if last is None else (last.text or last.error)[:SPOKEN_CHARACTERS]
        if words != self.accessibleDescription() and not (last is not None and last.finish is None):
            self.setAccessibleDescription(words)

    def _restyle(self) -> None:
        self._shelf.clear()
        self._brush = Brush(self._theme, self.column, self._shelf)
        self.viewport().update()

    # --- places ---

    @property
    def _left(self) -> float:
        return max(float(SIDE), (self.width() - self.column.width) // 2)

    @property
    def _y(self) -> int:
        return self.verticalScrollBar().value()

    @property
    def _footer_is_shown(self) -> bool:
        return self._footer is not None and not self._footer.isHidden()

    def _foot(self) -> int:
        return (
            self._footer.sizeHint().height() if self._footer is not None and self._footer_is_shown else 0
        ) + Space.huge

    def _settle(self, update: bool = True) -> None:
        """Lays out what is in view; what stands at the top of the view stays there when heights above it change."""
        if self._settling:
            return
        self._settling = True
        bar = self.verticalScrollBar()
        try:
            view = self.viewport().height()
            self.column.set_width(float(min(Space.text_column, max(200, self.viewport().width() - 2 * SIDE))))
            anchor = None if self._sticks else self.column.at(self._y)
            offset = self._y - self.column.top(*anchor) if anchor is not None else 0.0
            for _ in range(400):  # each round makes one more height exact; it ends because what is exact stays so
                end = self.column.height + self._foot()
                bar.setPageStep(max(1, view - STEP))
                bar.setRange(0, max(0, int(end - view)))
                if self._sticks:
                    bar.setValue(bar.maximum())
                elif anchor is not None:
                    bar.setValue(round(self.column.top(*anchor) + offset))
                if not self.column.exact(self._y - 100.0, self._y + view + 100.0):
                    break
            self._move_footer()
        finally:
            self._settling = False
        if update:
            self.viewport().update()

    def _move_footer(self) -> None:
        if self._footer is not None:
            size = self._footer.sizeHint()
            self._footer.setGeometry(
                round(self._left) - 6, round(self.column.height - self._y) - 12, round(self.column.width), size.height()
            )

    def scrollContentsBy(self, dx: int, dy: int) -> None:
        if self._settling:
            return
        bar = self.verticalScrollBar()
        sticks = bar.value() >= bar.maximum() - 2
        if sticks != self._sticks:
            self._sticks = sticks
            self.at_end.emit(sticks)
        self._settle()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._settle()

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._settle()

    def paintEvent(self, event: QPaintEvent) -> None:
        area = event.rect()
        if self._grown is not None:  # asked for before the growth was painted: then all of it is painted
            self._grown = None
            if area != self.viewport().rect():
                self.viewport().update()
                return
        painter = QPainter(self.viewport())
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        top, left = self._y, self._left
        painter.fillRect(area, self._theme.colour("window"))
        chosen = self._chosen()
        for seen in self.column.seen(top + area.top(), top + area.bottom()):
            owner = self.column.turns[seen.turn]
            self._brush.item(
                painter,
                seen,
                owner,
                left,
                seen.top - top,
                QRectF(area),
                copying.part(chosen, seen.turn, seen.number),
                self._copied is seen.item,
            )
        painter.end()

    # --- selecting ---

    def _chosen(self) -> tuple[Place, Place] | None:
        if self._anchor is None or self._caret is None or self._anchor == self._caret:
            return None
        return min(self._anchor, self._caret), max(self._anchor, self._caret)

    def _place_at(self, point: QPointF) -> Place | None:
        y = point.y() + self._y
        found = self.column.at(y)
        if found is None:
            return None
        turn, number = found
        items = self.column.turns[turn].items
        if not items:
            return Place(turn, 0, 0)
        item = items[number]
        if item.kind is Kind.REASONING or not item.height:
            return Place(turn, number, 0)
        rect = self.column.text_rect(item, self._left, self.column.top(turn, number))
        layout = self._shelf.document(item).documentLayout()
        offset = layout.hitTest(QPointF(point.x() - rect.x(), y - rect.y()), Qt.HitTestAccuracy.FuzzyHit)
        return Place(turn, number, max(0, offset))

    def selected_text(self) -> str:
        chosen = self._chosen()
        return copying.text_of(self.column.turns, *chosen, self._shelf) if chosen is not None else ""

    def select_all(self) -> None:
        turns = self.column.turns
        if turns:
            self._anchor = Place(0, 0, 0)
            self._caret = Place(len(turns) - 1, copying.END, copying.END)
            self.viewport().update()

    def copy_selection(self) -> None:
        text = self.selected_text()
        if text:
            QGuiApplication.clipboard().setText(text)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        if event.button() != Qt.MouseButton.LeftButton:
            return
        if self._press_spot(event.position()):
            return
        self._pressed_link = self._link_at(event.position())
        place = self._place_at(event.position())
        if event.modifiers() & Qt.KeyboardModifier.ShiftModifier and self._anchor is not None:
            self._caret = place
        else:
            self._anchor = self._caret = place
        self.viewport().update()

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        if event.buttons() & Qt.MouseButton.LeftButton and self._anchor is not None:
            y, height = event.position().y(), self.viewport().height()
            if y < 0 or y > height:
                bar = self.verticalScrollBar()
                bar.setValue(bar.value() + round((y if y < 0 else y - height) / 2))
            self._caret = self._place_at(QPointF(event.position().x(), min(max(0.0, y), float(height))))
            self.viewport().update()
            return
        active = bool(self._link_at(event.position())) or self._spot_at(event.position()) is not None
        shape = Qt.CursorShape.PointingHandCursor if active else Qt.CursorShape.IBeamCursor
        if self.viewport().cursor().shape() != shape:
            self.viewport().setCursor(shape)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        link, self._pressed_link = self._pressed_link, ""
        if link and self._chosen() is None and link == self._link_at(event.position()):
            open_link(link)

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        place = self._place_at(event.position())
        if place is None or self._spot_at(event.position()) is not None:
            return
        item = self.column.turns[place.turn].items[place.item]
        if item.kind is Kind.REASONING:
            return
        cursor = QTextCursor(self._shelf.document(item))
        cursor.setPosition(place.offset)
        cursor.select(QTextCursor.SelectionType.WordUnderCursor)
        self._anchor = Place(place.turn, place.item, cursor.selectionStart())
        self._caret = Place(place.turn, place.item, cursor.selectionEnd())
        self.viewport().update()

    def _link_at(self, point: QPointF) -> str:
        found = self.column.at(point.y() + self._y)
        if found is None:
            return ""
        turn, number = found
        items = self.column.turns[turn].items
        if not items or items[number].kind not in (Kind.TEXT, Kind.THOUGHT) or not items[number].height:
            return ""
        rect = self.column.text_rect(items[number], self._left, self.column.top(turn, number) - self._y)
        return self._shelf.document(items[number]).documentLayout().anchorAt(point - rect.topLeft())

    # --- spots that can be clicked ---

    def _spot_at(self, point: QPointF) -> tuple[int, int, str] | None:
        found = self.column.at(point.y() + self._y)
        if found is None:
            return None
        turn, number = found
        items = self.column.turns[turn].items
        if not items:
            return None
        item, y = items[number], self.column.top(turn, number) - self._y
        if item.kind is Kind.REASONING and QRectF(self._left - 4, y, 140, 26).contains(point):
            return turn, number, "fold"
        if item.kind is Kind.CODE and item.first and self._brush.copy_spot(self._left, y).contains(point):
            return turn, number, "copy"
        return None

    def _press_spot(self, point: QPointF) -> bool:
        spot = self._spot_at(point)
        if spot is None:
            return False
        turn, number, what = spot
        if what == "fold":
            self.fold(turn)
        else:
            self.copy_code(turn, number)
        return True

    def fold(self, turn: int) -> None:
        """Folds or unfolds the reasoning of a message."""
        self._sticks = False
        self.column.turns[turn].fold()
        self.column.place(turn)
        self._settle()

    def copy_code(self, turn: int, number: int) -> None:
        owner = self.column.turns[turn]
        QGuiApplication.clipboard().setText(copying.code_of(owner.panel(number)))
        self._copied = owner.panel(number)[0]
        self._copied_timer.start()
        self.viewport().update()

    def _forget_copied(self) -> None:
        self._copied = None
        self.viewport().update()

    # --- menu and keys ---

    def menu(self, point: QPoint) -> QMenu:
        """What can be done with what is at a point of the viewport."""
        menu = QMenu(self)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        selection = menu.addAction("Copy selection")
        selection.setEnabled(self._chosen() is not None)
        selection.triggered.connect(self.copy_selection)
        found = self.column.at(point.y() + self._y)
        if found is not None:
            turn, number = found
            owner = self.column.turns[turn]
            message = owner.message
            menu.addAction("Copy message").triggered.connect(
                lambda: QGuiApplication.clipboard().setText(message.text or message.error)
            )
            if owner.items and owner.items[number].kind is Kind.CODE:
                menu.addAction("Copy code").triggered.connect(lambda: self.copy_code(turn, number))
            link = self._link_at(QPointF(point))
            if link:
                menu.addAction("Copy link").triggered.connect(lambda: QGuiApplication.clipboard().setText(link))
            if message.reasoning:
                words = "Fold reasoning" if owner.unfolded else "Show reasoning"
                menu.addAction(words).triggered.connect(lambda: self.fold(turn))
            if message.role == "user":
                menu.addSeparator()
                menu.addAction("Edit and ask again").triggered.connect(lambda: self.edit_wanted.emit(message.id))
                at, of = self.branches_of(message.id)
                for words, step in (("Show the question before", -1), ("Show the next question", 1)):
                    if of > 1:
                        act = menu.addAction(f"{words} ({at} of {of})")
                        act.setEnabled(1 <= at + step <= of)
                        act.triggered.connect(lambda _=False, step=step: self.branch_wanted.emit(message.id, step))
            elif message.run_id or message.made_by is not None:
                menu.addSeparator()
                menu.addAction("What made this answer").triggered.connect(lambda: self.maker_wanted.emit(message.id))
            if turn == len(self.column.turns) - 1 and message.role == "assistant" and message.finish is not None:
                menu.addSeparator()
                menu.addAction("Regenerate").triggered.connect(self.regenerate_wanted.emit)
        menu.addSeparator()
        menu.addAction("Select all").triggered.connect(self.select_all)
        return menu

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        self.menu(self.viewport().mapFromGlobal(event.globalPos())).popup(event.globalPos())

    def keyPressEvent(self, event: QKeyEvent) -> None:
        bar = self.verticalScrollBar()
        if event.matches(QKeySequence.StandardKey.Copy):
            self.copy_selection()
        elif event.matches(QKeySequence.StandardKey.SelectAll):
            self.select_all()
        elif event.key() == Qt.Key.Key_Home:
            bar.setValue(0)
        elif event.key() == Qt.Key.Key_End:
            self.to_end()
        else:
            super().keyPressEvent(event)


def open_link(address: str) -> bool:
    """Opens web pages only: an answer must not start programs or open files."""
    url = QUrl(address)
    if url.scheme() not in ("http", "https"):
        return False
    return QDesktopServices.openUrl(url)
