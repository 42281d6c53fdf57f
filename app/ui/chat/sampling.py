"""The popover with what decides how answers are made: sampling and system prompt of one conversation."""

from __future__ import annotations

from msgspec.structs import replace
from PySide6.QtCore import QLocale, QPoint, Qt, Signal
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import (
    QApplication,
    QDoubleSpinBox,
    QFrame,
    QGridLayout,
    QPlainTextEdit,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from app.core.profiles import Sampling
from app.ui.theme import Space, Theme
from app.ui.widgets.controls import Button
from app.ui.widgets.layout import row
from app.ui.widgets.text import Label

DEFAULT = "Default"


def words_for(sampling: Sampling, system_prompt: str) -> str:
    """As on the composer's button: "Temp 0.7"; "" when everything is the engine's default."""
    parts = []
    if sampling.temperature is not None:
        parts.append(f"Temp {sampling.temperature:g}")
    if sampling.top_p is not None:
        parts.append(f"top-p {sampling.top_p:g}")
    if sampling.max_tokens is not None:
        parts.append(f"max {sampling.max_tokens}")
    if system_prompt.strip():
        parts.append("system prompt")
    return " · ".join(parts[:2]) + (" …" if len(parts) > 2 else "")


class SamplingPopover(QFrame):
    """Stands over its parent. The lowest value of each field means: what model and engine do by default."""

    chosen = Signal(object, str)  # Sampling, system prompt
    closed = Signal()

    def __init__(self, theme: Theme, parent: QWidget) -> None:
        super().__init__(parent)
        self.setProperty("kind", "sheet")
        self.setAccessibleName("Sampling and system prompt")
        self._sampling = Sampling()
        self._filling = False
        column = QVBoxLayout(self)
        column.setContentsMargins(Space.large, Space.large, Space.large, Space.large)
        column.setSpacing(Space.medium)
        shut = Button(theme, "", "icon", "close", "Close sampling")
        shut.clicked.connect(self.close_it)
        column.addLayout(row(Label(theme, "How answers are made", "title"), None, shut))
        grid = QGridLayout()
        grid.setHorizontalSpacing(Space.large)
        grid.setVerticalSpacing(Space.small)
        grid.setColumnStretch(0, 1)
        self._temperature = _fraction("Temperature", 2.0, 0.1)
        self._top_p = _fraction("Top-p", 1.0, 0.05)
        self._max_tokens = QSpinBox()
        self._max_tokens.setRange(0, 1_000_000)
        self._max_tokens.setSingleStep(256)
        self._max_tokens.setSpecialValueText(DEFAULT)
        self._max_tokens.setAccessibleName("Most tokens of an answer")
        self._max_tokens.setLocale(QLocale.c())
        told = (
            ("Temperature", "Lower is steadier, higher is freer", self._temperature),
            ("Top-p", "Share of likely words to choose from", self._top_p),
            ("Most tokens", "Where an answer stops at the latest", self._max_tokens),
        )
        for number, (title, text, box) in enumerate(told):
            box.setFont(theme.font("number"))
            box.setFixedWidth(130)
            box.lineEdit().setTextMargins(8, 0, 0, 0)
            box.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
            words = QVBoxLayout()
            words.setSpacing(0)
            words.addWidget(Label(theme, title, "label"))
            words.addWidget(Label(theme, text, "small", "muted"))
            grid.addLayout(words, number, 0)
            grid.addWidget(box, number, 1)
            box.valueChanged.connect(self._tell)
        column.addLayout(grid)
        column.addWidget(Label(theme, "System prompt", "label"))
        self._system = QPlainTextEdit()
        self._system.setAccessibleName("System prompt")
        self._system.setPlaceholderText("What the model should know or be, in every answer of this conversation")
        self._system.setTabChangesFocus(True)
        self._system.setFont(theme.font("body"))
        self._system.setFixedHeight(92)
        self._system.textChanged.connect(self._tell)
        column.addWidget(self._system)
        reset = Button(theme, "Back to defaults", "quiet")
        reset.clicked.connect(lambda: self._fill(Sampling(), "", tell=True))
        column.addLayout(row(None, reset))
        self.hide()

    def open_at(self, corner: QPoint, sampling: Sampling, system_prompt: str) -> None:
        """Opens with its lower right corner at `corner`, in the parent's coordinates, or as near as there is room."""
        self._fill(sampling, system_prompt)
        parent = self.parentWidget()
        assert parent is not None
        self.setFixedWidth(min(400, parent.width() - 2 * Space.medium))
        self.adjustSize()
        x = max(Space.medium, corner.x() - self.width())
        self.move(x, max(Space.medium, corner.y() - self.height()))
        self.show()
        self.raise_()
        self._temperature.setFocus(Qt.FocusReason.PopupFocusReason)
        QApplication.instance().focusChanged.connect(self._focus_went)  # type: ignore[union-attr]

    def close_it(self) -> None:
        if self.isVisible():
            QApplication.instance().focusChanged.disconnect(self._focus_went)  # type: ignore[union-attr]
            self.hide()
            self.closed.emit()

    def _focus_went(self, _: object, now: QWidget | None) -> None:
        if now is not None and not self.isAncestorOf(now) and now.window() is self.window():
            self.close_it()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_Escape:
            self.close_it()
        else:
            super().keyPressEvent(event)

    def _fill(self, sampling: Sampling, system_prompt: str, tell: bool = False) -> None:
        self._filling = True
        self._sampling = sampling
        self._temperature.setValue(-0.01 if sampling.temperature is None else sampling.temperature)
        self._top_p.setValue(-0.01 if sampling.top_p is None else sampling.top_p)
        self._max_tokens.setValue(sampling.max_tokens or 0)
        if system_prompt != self._system.toPlainText():
            self._system.setPlainText(system_prompt)
        self._filling = False
        if tell:
            self._tell()

    def _tell(self) -> None:
        if self._filling:
            return
        temperature, top_p = round(self._temperature.value(), 2), round(self._top_p.value(), 2)
        self._sampling = replace(
            self._sampling,
            temperature=None if temperature < 0 else temperature,
            top_p=None if top_p < 0 else top_p,
            max_tokens=self._max_tokens.value() or None,
        )
        self.chosen.emit(self._sampling, self._system.toPlainText())


class _Fraction(QDoubleSpinBox):
    """Below 0 is the default; a step from there goes to 0.7, not to 0."""

    def stepBy(self, steps: int) -> None:
        if self.value() < 0 and steps > 0:
            self.setValue(0.7 if self.maximum() > 1 else 0.9)
        elif self.value() >= 0 and self.value() + steps * self.singleStep() < 0 and self.value() > 0.001:
            self.setValue(0.0)
        else:
            super().stepBy(steps)


def _fraction(name: str, highest: float, step: float) -> QDoubleSpinBox:
    box = _Fraction()
    box.setDecimals(2)
    box.setRange(-0.01, highest)
    box.setSingleStep(step)
    box.setSpecialValueText(DEFAULT)
    box.setAccessibleName(name)
    box.setLocale(QLocale.c())
    return box
