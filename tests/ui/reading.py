"""Reads a window as a person and a screen reader do: the texts that are visible, the widgets by their spoken names."""

from __future__ import annotations

import asyncio

from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QLabel,
    QLineEdit,
    QPlainTextEdit,
    QProgressBar,
    QSlider,
    QTextEdit,
    QWidget,
)

from app.ui.widgets.pill import Pill

INTERACTIVE = (
    QAbstractButton,
    QComboBox,
    QLineEdit,
    QAbstractSpinBox,
    QPlainTextEdit,
    QTextEdit,
    QSlider,
    QAbstractItemView,
    QProgressBar,
)


def texts(root: QWidget) -> str:
    """Everything that is visible as text, one line each."""
    found = []
    for widget in root.findChildren(QWidget):
        if not widget.isVisible():
            continue
        if isinstance(widget, QLabel | QAbstractButton):
            found.append(widget.text())
        elif isinstance(widget, Pill):
            found.append(widget.text)
        elif isinstance(widget, QLineEdit):
            found.append(widget.text())
    return "\n".join(text for text in found if text)


def named(root: QWidget, name: str) -> QWidget:
    """The one visible widget with this accessible name."""
    found = [w for w in root.findChildren(QWidget) if w.accessibleName() == name and w.isVisible()]
    assert len(found) == 1, f"{len(found)} visible widgets are named {name!r}"
    return found[0]


def is_there(root: QWidget, name: str) -> bool:
    return any(w.accessibleName() == name and w.isVisible() for w in root.findChildren(QWidget))


def click(root: QWidget, name: str) -> None:
    _let_qt_work()  # what was made just now is shown by the loop
    widget = named(root, name)
    assert widget.isEnabled(), f"{name!r} cannot be clicked"
    QTest.mouseClick(widget, Qt.MouseButton.LeftButton)
    _let_qt_work()


def _let_qt_work() -> None:
    """Not inside a coroutine: a loop in a loop would enter its tasks twice."""
    if asyncio._get_running_loop() is None:
        QApplication.processEvents()


def unnamed(root: QWidget) -> list[str]:
    """Interactive widgets that a screen reader could not name."""
    inner = ("qt_", "qt_spinbox_lineedit")
    return [
        f"{type(widget).__name__} {widget.objectName()} in {type(widget.parent()).__name__}"
        for widget in root.findChildren(QWidget)
        if isinstance(widget, INTERACTIVE)
        and not widget.accessibleName()
        and not widget.objectName().startswith(inner)
        and not isinstance(widget.parent(), QComboBox | QLineEdit | QAbstractSpinBox)
        and not widget.parent().inherits("QComboBoxPrivateContainer")
        and type(widget).__name__ not in ("QHeaderView", "QTableCornerButton", "QComboBoxListView")
    ]


def wider_than(root: QWidget, width: int) -> list[str]:
    """Visible widgets that stick out of a window of this width."""
    found = []
    for widget in root.findChildren(QWidget):
        if not widget.isVisible() or widget.window() is not root.window():
            continue
        right = widget.mapTo(root.window(), widget.rect().topRight()).x()
        if right > width:
            found.append(f"{type(widget).__name__} {widget.accessibleName()!r} ends at {right}")
    return found
