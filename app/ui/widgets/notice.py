"""Says things calmly: a bar under the header that stays until dismissed, and a toast that goes by itself unless it is an error."""

from __future__ import annotations

from PySide6.QtCore import QEvent, QObject, Qt, QTimer, Signal
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from app.ui.theme import Space, Theme
from app.ui.widgets.controls import Button
from app.ui.widgets.text import Label, restyle

_ICONS = {"info": "info", "good": "check", "warning": "warning", "danger": "error"}
_COLOURS = {"info": "accent", "good": "good", "warning": "warning", "danger": "danger"}


class IconLabel(QLabel):
    """A bundled drawing that follows the theme."""

    def __init__(self, theme: Theme, icon: str, colour: str = "text_muted", size: int = 18) -> None:
        super().__init__()
        self._theme, self._icon, self._colour, self._size = theme, icon, colour, size
        self.setFixedSize(size, size)
        self._tint()
        theme.changed.connect(self._tint)

    def show_icon(self, icon: str, colour: str) -> None:
        if (icon, colour) != (self._icon, self._colour):
            self._icon, self._colour = icon, colour
            self._tint()

    def _tint(self) -> None:
        self.setPixmap(self._theme.pixmap(self._icon, self._colour, self._size, self.devicePixelRatioF()))


class NoticeBar(QFrame):
    """One sentence with an optional action and a close button. `tone`: info · good · warning · danger."""

    closed = Signal()
    acted = Signal()

    def __init__(self, theme: Theme, closable: bool = True) -> None:
        super().__init__()
        self.setProperty("kind", "notice")
        box = QHBoxLayout(self)
        box.setContentsMargins(Space.medium, Space.small, Space.small, Space.small)
        box.setSpacing(Space.medium)
        self._icon = IconLabel(theme, "info", "accent")
        self.label = Label(theme, "", "body", wrap=True, select=True)
        self.action = Button(theme, "", "", name="Notice action")
        self.action.clicked.connect(self.acted)
        self.action.hide()
        close = Button(theme, "", "icon", "close", "Dismiss notice")
        close.clicked.connect(self.closed)
        close.setVisible(closable)
        box.addWidget(self._icon)
        box.addWidget(self.label, 1)
        box.addWidget(self.action)
        box.addWidget(close)
        self.hide()

    def say(self, text: str, tone: str = "info", action: str = "") -> None:
        """Shows the sentence; an empty one hides the bar."""
        self.setVisible(bool(text))
        if not text:
            return
        self.label.say(text)
        self.setAccessibleName(text)
        restyle(self, tone=tone)
        self._icon.show_icon(_ICONS[tone], _COLOURS[tone])
        self.action.setVisible(bool(action))
        if action:
            self.action.shape(action, "")


class Toast(QFrame):
    """Floats over the lower edge of its parent."""

    def __init__(self, theme: Theme, parent: QWidget) -> None:
        super().__init__(parent)
        self.setProperty("kind", "toast")
        box = QHBoxLayout(self)
        box.setContentsMargins(Space.large, Space.medium, Space.small, Space.medium)
        box.setSpacing(Space.medium)
        self._icon = IconLabel(theme, "info", "accent")
        words = QVBoxLayout()
        words.setSpacing(2)
        self.summary = Label(theme, "", "strong", wrap=True)
        self.advice = Label(theme, "", "body", "muted", wrap=True, select=True)
        words.addWidget(self.summary)
        words.addWidget(self.advice)
        close = Button(theme, "", "icon", "close", "Close message")
        close.clicked.connect(self.hide)
        box.addWidget(self._icon, 0, Qt.AlignmentFlag.AlignTop)
        box.addLayout(words, 1)
        box.addWidget(close, 0, Qt.AlignmentFlag.AlignTop)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self.hide)
        parent.installEventFilter(self)
        self.hide()

    def say(self, summary: str, advice: str = "", tone: str = "info") -> None:
        self.summary.say(summary)
        self.advice.say(advice)
        self.advice.setVisible(bool(advice))
        self.setAccessibleName(f"{summary} {advice}".strip())
        self._icon.show_icon(_ICONS[tone], _COLOURS[tone])
        self._timer.stop()
        if tone != "danger":
            self._timer.start(4000)
        self.show()
        self._place()
        self.raise_()

    def _place(self) -> None:
        parent = self.parentWidget()
        if parent is None:
            return
        width = min(520, parent.width() - 2 * Space.huge)
        self.setFixedWidth(width)
        height = max(self.heightForWidth(width), self.minimumSizeHint().height())
        self.setFixedHeight(height)
        self.move((parent.width() - width) // 2, parent.height() - height - Space.huge)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.Resize and self.isVisible():
            self._place()
        return False
