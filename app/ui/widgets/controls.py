"""Things to press, switch and type in, each with an accessible name and icons that follow the theme."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import QEvent, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QAction, QFontMetrics, QIcon, QKeySequence, QMouseEvent, QPainter, QPaintEvent
from PySide6.QtWidgets import (
    QAbstractButton,
    QButtonGroup,
    QFrame,
    QHBoxLayout,
    QLineEdit,
    QPushButton,
    QSizePolicy,
    QStyle,
    QStyleOptionButton,
    QStylePainter,
)

from app.ui.theme import Space, Theme
from app.ui.widgets.text import restyle

_ICON_COLOURS = {
    "primary": "on_accent",
    "danger": "danger",
    "quiet": "text_muted",
    "icon": "text_muted",
    "soft": "accent_strong",
    "navigation": "text_muted",
    "segment": "text_muted",
}


class Button(QPushButton):
    """`kind`: "" plain · primary · soft · danger · quiet · icon · segment · navigation. `name` is what a screen reader says."""

    def __init__(self, theme: Theme, text: str = "", kind: str = "", icon: str = "", name: str = "") -> None:
        super().__init__(text)
        self._theme = theme
        self._icon_name = icon
        self._kind = kind
        self._pressed_as = ""
        self.setProperty("kind", kind)
        self.setFont(theme.font("strong" if kind in ("", "primary", "soft", "danger") else "label"))
        self.setAccessibleName(name or text)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setAutoDefault(False)
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)  # a ring for the keyboard, none left behind by the mouse
        self._size, self._gap = {"icon": (18, 0), "navigation": (20, 6)}.get(kind, (16, 4 if text else 0))
        if kind == "icon":
            self.setToolTip(name)
        self.setIconSize(QSize(self._size + self._gap, self._size))
        self._tint()
        theme.changed.connect(self._tint)
        if icon and kind in ("navigation", "segment"):
            self.toggled.connect(self._tint)

    def shape(self, text: str, kind: str, icon: str = "", name: str = "") -> None:
        """Makes it another button: its text, kind, icon and spoken name; nothing happens when all are the same."""
        if text != self.text():
            self.setText(text)
        if (name or text) != self.accessibleName():
            self.setAccessibleName(name or text)
            self.setDown(False)  # what is let go now was pressed on another button: that is no click
        if (kind, icon) != (self._kind, self._icon_name):
            self._kind, self._icon_name = kind, icon
            restyle(self, kind=kind)
            self._tint()

    def _tint(self) -> None:
        if not self._icon_name:
            self.setIcon(QIcon())
            return
        colour = "accent" if self.isChecked() else _ICON_COLOURS.get(self._kind, "text")
        colour = colour if self.isEnabled() else "text_faint"
        self.setIcon(self._theme.icon(self._icon_name, colour, self._size, self._gap, fades=False))

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """The second half of a double click is meant for what was there at the first, not for what took its place."""
        second = event.type() == QEvent.Type.MouseButtonDblClick
        if second and self._pressed_as != self.accessibleName():
            return
        self._pressed_as = self.accessibleName()
        super().mousePressEvent(event)

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.EnabledChange and self._icon_name:
            self._tint()


class ElidedButton(Button):
    """Its text ends in … where the room does; the whole text is its tooltip then."""

    def __init__(self, theme: Theme, name: str) -> None:
        super().__init__(theme, "", "", "", name)

    def sizeHint(self) -> QSize:
        return QSize(80, super().sizeHint().height())

    def minimumSizeHint(self) -> QSize:
        return self.sizeHint()

    def paintEvent(self, event: QPaintEvent) -> None:
        option = QStyleOptionButton()
        self.initStyleOption(option)
        room = self.width() - 2 * Space.large - Space.hair - (self.iconSize().width() if self._icon_name else 0)
        option.text = QFontMetrics(self.font()).elidedText(self.text(), Qt.TextElideMode.ElideRight, room)  # type: ignore[attr-defined]
        tip = self.text() if option.text != self.text() else ""  # type: ignore[attr-defined]
        if tip != self.toolTip():
            self.setToolTip(tip)
        QStylePainter(self).drawControl(QStyle.ControlElement.CE_PushButton, option)


class Toggle(QAbstractButton):
    """An on/off switch."""

    def __init__(self, theme: Theme, name: str, on: bool = False) -> None:
        super().__init__()
        self._theme = theme
        self.setCheckable(True)
        self.setChecked(on)
        self.setAccessibleName(name)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        theme.changed.connect(self.update)

    def sizeHint(self) -> QSize:
        return QSize(40, 24)

    def paintEvent(self, event: QPaintEvent) -> None:
        c = self._theme.colour
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        groove = QRectF(2.5, 2.5, 35, 19)
        on = self.isChecked()
        painter.setPen(c("accent") if on or self.hasFocus() else c("border_strong"))
        painter.setBrush(c("accent") if on else c("track"))
        if not self.isEnabled():
            painter.setOpacity(0.45)
        painter.drawRoundedRect(groove, 9.5, 9.5)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(c("on_accent") if on else c("text_muted"))
        painter.drawEllipse(QRectF(20.5 if on else 5.5, 5.5, 13, 13))
        if self.hasFocus():
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.setPen(c("text"))
            painter.drawRoundedRect(QRectF(0.5, 0.5, 39, 23), 11.5, 11.5)


class SearchField(QLineEdit):
    """A line edit with a magnifier, emptied by Escape."""

    def __init__(self, theme: Theme, placeholder: str, name: str) -> None:
        super().__init__()
        self._theme = theme
        self.setProperty("kind", "search")
        self.setPlaceholderText(placeholder)
        self.setAccessibleName(name)
        self.setFont(theme.font("body"))
        self._action: QAction = self.addAction(QIcon(), QLineEdit.ActionPosition.LeadingPosition)
        self._tint()
        theme.changed.connect(self._tint)
        clear = QAction(self)
        clear.setShortcut(QKeySequence(Qt.Key.Key_Escape))
        clear.setShortcutContext(Qt.ShortcutContext.WidgetShortcut)
        clear.triggered.connect(self.clear)
        super().addAction(clear)

    def _tint(self) -> None:
        self._action.setIcon(self._theme.icon("search", "text_faint", 16))


class Segments(QFrame):
    """A few choices of which one is taken, side by side."""

    chosen = Signal(str)

    def __init__(self, theme: Theme, name: str, choices: tuple[tuple[str, str, str], ...], value: str) -> None:
        """`choices`: (value, text, icon)."""
        super().__init__()
        self.setProperty("kind", "field")
        self.setAccessibleName(name)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        row = QHBoxLayout(self)
        row.setContentsMargins(3, 3, 3, 3)
        row.setSpacing(2)
        self._group = QButtonGroup(self)
        self._buttons: dict[str, Button] = {}
        for key, text, icon in choices:
            button = Button(theme, text, "segment", icon, f"{name}: {text}")
            button.setCheckable(True)
            button.clicked.connect(self._telling(key))
            self._group.addButton(button)
            self._buttons[key] = button
            row.addWidget(button)
        self.choose(value)

    def choose(self, value: str) -> None:
        if value in self._buttons:
            self._buttons[value].setChecked(True)

    def _telling(self, key: str) -> Callable[[], None]:
        return lambda: self.chosen.emit(key)
