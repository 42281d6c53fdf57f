"""Takes what a person types: grows to eight lines, Enter sends, Shift+Enter breaks the line, Escape stops the answer."""

from __future__ import annotations

from PySide6.QtCore import QMimeData, QSize, Qt, Signal
from PySide6.QtGui import QFocusEvent, QKeyEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QPlainTextEdit, QVBoxLayout, QWidget

from app.ui.theme import Space, Theme
from app.ui.widgets.controls import Button
from app.ui.widgets.layout import row
from app.ui.widgets.notice import IconLabel
from app.ui.widgets.text import Label, restyle

LINES = 8


class Field(QPlainTextEdit):
    """Plain text only, whatever is pasted."""

    sent = Signal()
    stopped = Signal()
    focused = Signal(bool)

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self.setProperty("kind", "bare")
        self.setAccessibleName("Message")
        self.setFont(theme.font("body"))
        self.setTabChangesFocus(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.document().setDocumentMargin(2)
        self.document().documentLayout().documentSizeChanged.connect(self._fit)
        self._fit()

    def _fit(self, *_: object) -> None:
        line = self.fontMetrics().lineSpacing()
        lines = max(1, round(self.document().size().height()))  # a plain text document counts in lines
        self.setFixedHeight(line * min(lines, LINES) + 8)
        policy = Qt.ScrollBarPolicy.ScrollBarAsNeeded if lines > LINES else Qt.ScrollBarPolicy.ScrollBarAlwaysOff
        self.setVerticalScrollBarPolicy(policy)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        breaks = event.modifiers() & (Qt.KeyboardModifier.ShiftModifier | Qt.KeyboardModifier.AltModifier)
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            if breaks:
                self.insertPlainText("\n")
                self.ensureCursorVisible()
            else:
                self.sent.emit()
        elif event.key() == Qt.Key.Key_Escape:
            self.stopped.emit()
        else:
            super().keyPressEvent(event)

    def insertFromMimeData(self, source: QMimeData) -> None:
        if source.hasText():
            self.insertPlainText(source.text())
            self.ensureCursorVisible()

    def focusInEvent(self, event: QFocusEvent) -> None:
        super().focusInEvent(event)
        self.focused.emit(True)

    def focusOutEvent(self, event: QFocusEvent) -> None:
        super().focusOutEvent(event)
        self.focused.emit(False)


class Composer(QWidget):
    """`sent` carries the text; it stays in the field until `clear`."""

    sent = Signal(str)
    stop_wanted = Signal()
    typed = Signal(str)
    model_wanted = Signal()
    sampling_wanted = Signal()
    partner_wanted = Signal(str)  # the profile to ask from now on

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._sending = False
        self._can_send = False
        self.setMaximumWidth(Space.text_column)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(Space.small)
        self._none = QWidget()
        line = row(IconLabel(theme, "info", "text_muted", 16), spacing=Space.small)
        self._why = Label(theme, "No model is loaded", "body", "muted")
        choose = self._choose = Button(theme, "Choose a model", "soft", "models")
        choose.clicked.connect(self.model_wanted)
        line.addWidget(self._why, 1)
        line.addWidget(choose)
        self._none.setLayout(line)
        column.addWidget(self._none)

        self._frame = QFrame()
        self._frame.setProperty("kind", "card")
        box = QHBoxLayout(self._frame)
        box.setContentsMargins(14, 9, 9, 9)
        box.setSpacing(Space.hair)
        self.field = Field(theme)
        self.field.sent.connect(self._send)
        self.field.stopped.connect(self.stop_wanted)
        self.field.textChanged.connect(self._typed)
        self.field.focused.connect(lambda on: restyle(self._frame, selected="true" if on else "false"))
        self.sampling = Button(theme, "", "quiet", "", "Sampling and system prompt")
        self.sampling.clicked.connect(self.sampling_wanted)
        self.partner = Button(theme, "", "quiet", "chevron-down", "Choose which model answers")
        self.partner.clicked.connect(self._open_partners)
        self.partner.hide()
        self._partners: tuple[tuple[str, str], ...] = ()
        self._button = Button(theme, "", "primary", "send", "Send message")
        self._button.setFixedSize(QSize(36, 34))
        self._button.setStyleSheet("padding: 0;")
        self._button.clicked.connect(self._press)
        box.addWidget(self.field, 1, Qt.AlignmentFlag.AlignVCenter)
        box.addWidget(self.partner, 0, Qt.AlignmentFlag.AlignBottom)
        box.addWidget(self.sampling, 0, Qt.AlignmentFlag.AlignBottom)
        box.addWidget(self._button, 0, Qt.AlignmentFlag.AlignBottom)
        self._frame.setFocusProxy(self.field)
        column.addWidget(self._frame)
        self.setFocusProxy(self.field)
        self.say_sampling("")

    def show_partners(self, partners: tuple[tuple[str, str], ...], asked: str) -> None:
        """The models that are loaded, (profile id, title), when there are several; `asked` is the one that answers."""
        self._partners = partners
        self._asked = asked
        self.partner.setVisible(len(partners) > 1)
        if len(partners) > 1:
            self.partner.shape(dict(partners).get(asked, ""), "quiet", "chevron-down", "Choose which model answers")

    def _open_partners(self) -> None:
        from PySide6.QtWidgets import QMenu

        menu = QMenu(self)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        for profile_id, title in self._partners:
            act = menu.addAction(title)
            act.setCheckable(True)
            act.setChecked(profile_id == self._asked)
            act.triggered.connect(lambda _=False, profile_id=profile_id: self.partner_wanted.emit(profile_id))
        menu.popup(self.partner.mapToGlobal(self.partner.rect().topLeft()))

    def say_sampling(self, words: str) -> None:
        self.sampling.shape(words, "quiet", "" if words else "settings", "Sampling and system prompt")

    def show_state(self, *, model: str, why_not: str, choose: bool, can_send: bool, sending: bool) -> None:
        """`model` is the title that a message would reach; `why_not` a calm sentence while there is none."""
        self.field.setPlaceholderText(f"Message {model}" if model else "Message")
        self._none.setVisible(bool(why_not))
        if why_not:
            self._why.say(why_not)
            self._choose.setVisible(choose)
        self._can_send, self._sending = can_send, sending
        self._show_button()

    def show_text(self, text: str) -> None:
        """Puts another text into the field; what was typed by the person is not told as typed again."""
        if text != self.field.toPlainText():
            self.field.blockSignals(True)
            self.field.setPlainText(text)
            self.field.blockSignals(False)
            cursor = self.field.textCursor()
            cursor.movePosition(cursor.MoveOperation.End)
            self.field.setTextCursor(cursor)
            self._show_button()

    def _typed(self) -> None:
        self.typed.emit(self.field.toPlainText())
        self._show_button()

    def _show_button(self) -> None:
        if self._sending:
            self._button.shape("", "primary", "stop", "Stop answer")
            self._button.setEnabled(True)
        else:
            self._button.shape("", "primary", "send", "Send message")
            self._button.setEnabled(self._can_send and bool(self.field.toPlainText().strip()))
        self._button.setToolTip(self._button.accessibleName())

    def _press(self) -> None:
        if self._sending:
            self.stop_wanted.emit()
        else:
            self._send()

    def _send(self) -> None:
        text = self.field.toPlainText()
        if text.strip() and self._can_send:
            self.sent.emit(text)
