"""One installed engine: what it is and can do, whether it is used, and what can be done with it."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QAction, QGuiApplication
from PySide6.QtWidgets import QMenu, QVBoxLayout, QWidget

from app.core.snapshot import EngineView, InstallationView
from app.ui.engines import words
from app.ui.theme import Space, Theme
from app.ui.widgets.controls import Button
from app.ui.widgets.layout import row
from app.ui.widgets.pill import Pill
from app.ui.widgets.text import ElidedLabel, Label

Choices = tuple[tuple[str, str], ...]  # (profile id, title)


class InstallationRow(QWidget):
    """`pin_wanted` tells the installation to use from now on, "" for the best one; the others tell the installation's id."""

    pin_wanted = Signal(str)
    canary_wanted = Signal(str, str)  # installation, profile
    remove_wanted = Signal(str)

    def __init__(
        self, theme: Theme, family: EngineView, one: InstallationView, profiles: Choices, connected: bool
    ) -> None:
        super().__init__()
        self._theme, self._one, self._profiles = theme, one, profiles
        self._pinned = bool(family.pinned) and family.pinned in (one.id, one.path)
        name = words.full_name(family, one)
        self.setAccessibleName(name)
        column = QVBoxLayout()
        column.setSpacing(3)
        column.addLayout(self._head(theme, one))
        if abilities := words.abilities(one):
            column.addWidget(ElidedLabel(theme, abilities, "small", "muted"))
        column.addLayout(self._place(theme, one))
        for text, tone in ((one.problem, "danger"), (one.note, "warning")):
            if text:
                column.addWidget(Label(theme, _sentence(text), "small", tone, wrap=True, select=True))
        self._buttons: list[Button] = []
        line = row(spacing=Space.small)
        line.setContentsMargins(0, Space.medium, 0, Space.medium)
        line.addLayout(column, 1)
        self._add_deeds(family, one, name)
        for button in self._buttons:
            button.setEnabled(connected)
            line.addWidget(button, 0, Qt.AlignmentFlag.AlignTop)
        more = Button(theme, "", "icon", "more", f"More for {name}")
        more.clicked.connect(lambda: self._open_menu(more, connected))
        line.addWidget(more, 0, Qt.AlignmentFlag.AlignTop)
        self.setLayout(line)

    def _head(self, theme: Theme, one: InstallationView):  # type: ignore[no-untyped-def]
        line = row(spacing=Space.small)
        line.addWidget(Label(theme, words.version(one), "strong"))
        tone = "predicted" if words.is_gpu(one.accelerator) else "muted"
        line.addWidget(Pill(theme, words.accelerator(one.accelerator), tone, dot=False))
        if one.problem:
            line.addWidget(Pill(theme, "Cannot be used", "danger"))
        if one.chosen:
            line.addWidget(Pill(theme, "In use", "good"))
        if self._pinned:
            line.addWidget(Pill(theme, "Pinned", "accent", dot=False))
        if one.in_use:
            line.addWidget(Pill(theme, "Runs a model", "accent"))
        line.addStretch(1)
        return line

    @staticmethod
    def _place(theme: Theme, one: InstallationView):  # type: ignore[no-untyped-def]
        line = row(spacing=Space.small)
        line.addWidget(Label(theme, words.place(one), "small", "faint"))
        line.addWidget(ElidedLabel(theme, one.path, "mono_small", "faint", middle=True), 1)
        return line

    def _add_deeds(self, family: EngineView, one: InstallationView, name: str) -> None:
        if self._pinned:
            unpin = self._button("Unpin", "quiet", "pin", f"Unpin {name}", lambda: self.pin_wanted.emit(""))
            unpin.setToolTip("Use the best version again, also when a newer one is installed")
        elif one.chosen:
            pin = self._button("Pin", "quiet", "pin", f"Pin {name}", lambda: self.pin_wanted.emit(one.id))
            pin.setToolTip("Stay with this version, also when a newer one is installed")
        elif not one.problem:
            if self._profiles and words.chosen(family) is not None:
                compare = self._button("Compare …", "", "", f"Compare {name}", self._open_compare)
                compare.setToolTip("Loads a model with this one and with the one in use, and shows which is faster")
            back = words.is_older(one, words.chosen(family))
            text = "Go back to this" if back else "Use this"
            self._button(text, "soft", "", f"{text}: {name}", lambda: self.pin_wanted.emit(one.id))

    def _button(self, text: str, kind: str, icon: str, name: str, act) -> Button:  # type: ignore[no-untyped-def]
        button = Button(self._theme, text, kind, icon, name)
        button.clicked.connect(lambda: act())
        self._buttons.append(button)
        return button

    def _open_compare(self) -> None:
        menu = QMenu(self)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        heading = menu.addAction("Compare with the one in use, on")
        heading.setEnabled(False)
        for profile_id, title in self._profiles:
            act = QAction(title, menu)
            act.triggered.connect(lambda _=False, p=profile_id: self.canary_wanted.emit(self._one.id, p))
            menu.addAction(act)
        button = self._buttons[0]
        menu.popup(button.mapToGlobal(button.rect().bottomLeft()))

    def _open_menu(self, more: Button, connected: bool) -> None:
        menu = QMenu(self)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        copy = menu.addAction("Copy path")
        copy.triggered.connect(lambda: QGuiApplication.clipboard().setText(self._one.path))
        if self._one.source == "ours" or self._one.place:
            remove = menu.addAction("Remove …" if self._one.source == "ours" else "Take off the list …")
            remove.setEnabled(connected and not self._one.in_use)
            remove.triggered.connect(lambda: self.remove_wanted.emit(self._one.id))
            if self._one.in_use:
                remove.setToolTip("A model runs on it now")
        menu.popup(more.mapToGlobal(more.rect().bottomLeft()))


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.rstrip().endswith((".", "!")) else ".")
