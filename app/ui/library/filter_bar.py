"""Asks what a person looks for: what fits now, an engine, a capability, a quantisation, a size; hidden while there is no choice."""

from __future__ import annotations

import msgspec
from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QAction, QActionGroup
from PySide6.QtWidgets import QHBoxLayout, QMenu, QWidget

from app.ui import wording
from app.ui.library.entries import CAPABILITIES, SIZES, Choices, Filter
from app.ui.theme import Space, Theme
from app.ui.widgets.controls import Button

_NAMES = {"engine": "Engine", "capability": "Can do", "quantisation": "Quantisation", "size": "Size"}


class FilterBar(QWidget):
    changed = Signal()

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self.wish = Filter()  # all but the text, which has a field of its own
        self._choices = Choices()
        line = QHBoxLayout(self)
        line.setContentsMargins(0, 0, 0, 0)
        line.setSpacing(Space.small)
        self._fits = Button(theme, "Fits now", "", "", "Only what fits now")
        self._fits.setCheckable(True)
        self._fits.clicked.connect(lambda on: self.ask(fits_now=on))
        line.addWidget(self._fits)
        self._buttons: dict[str, Button] = {}
        for key, name in _NAMES.items():
            button = self._buttons[key] = Button(theme, name, "", "chevron-down", f"Filter by {name.lower()}")
            button.setCheckable(True)
            button.setLayoutDirection(Qt.LayoutDirection.RightToLeft)  # the chevron stands behind the word
            button.clicked.connect(lambda _=False, key=key: self._open(key))
            line.addWidget(button)
        self.clear = Button(theme, "Clear", "quiet", "close", "Clear the filters")
        self.clear.clicked.connect(self.reset)
        line.addWidget(self.clear)
        line.addStretch(1)
        for button in (self._fits, *self._buttons.values(), self.clear):
            button.setProperty("dense", True)
        self._show()

    @property
    def last_stop(self) -> QWidget:
        return self.clear

    def show_choices(self, choices: Choices) -> None:
        """What is asked for stays asked for, also when nothing of it is here any more: it can be seen and taken back."""
        self._choices = choices
        self._show()

    def ask(self, **changes: str | bool) -> None:
        wish = msgspec.structs.replace(self.wish, **changes)
        if wish != self.wish:
            self.wish = wish
            self.changed.emit()
        self._show()

    def reset(self) -> None:
        self.ask(**{name: getattr(Filter(), name) for name in (*_NAMES, "fits_now")})

    def _offers(self, key: str) -> dict[str, str]:
        """Value → words."""
        match key:
            case "engine":
                return {each: wording.engine(each) for each in self._choices.engines}
            case "capability":
                return {each: CAPABILITIES[each] for each in self._choices.capabilities}
            case "quantisation":
                return {each: each for each in self._choices.quantisations}
        return {size: words for size, words, _ in SIZES if size in self._choices.sizes}

    def _show(self) -> None:
        self._fits.setChecked(self.wish.fits_now)
        for key, button in self._buttons.items():
            offers, value = self._offers(key), getattr(self.wish, key)
            button.setVisible(bool(offers) or bool(value))
            button.setChecked(bool(value))
            button.setText(offers.get(value, value) if value else _NAMES[key])
            button.setAccessibleDescription(offers.get(value, value) if value else "any")
        self.clear.setVisible(self.wish.is_set)

    def _open(self, key: str) -> None:
        button = self._buttons[key]
        button.setChecked(bool(getattr(self.wish, key)))  # a press opens the list; only a choice in it counts
        menu = QMenu(button)
        group = QActionGroup(menu)
        for value, words in {"": "Any", **self._offers(key)}.items():
            action = QAction(words, menu, checkable=True, checked=value == getattr(self.wish, key))
            action.triggered.connect(lambda _=False, value=value: self.ask(**{key: value}))
            group.addAction(action)
            menu.addAction(action)
        menu.aboutToHide.connect(menu.deleteLater)
        menu.popup(button.mapToGlobal(button.rect().bottomLeft()))
