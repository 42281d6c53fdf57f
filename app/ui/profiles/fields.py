"""One row of a profile's form, made from one row of a settings table: a name, a sentence, a control, and what is wrong."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QWheelEvent
from PySide6.QtWidgets import QComboBox, QLineEdit, QPlainTextEdit, QVBoxLayout, QWidget

from app.core.options import Option, OptionKind, Scalar
from app.ui.theme import Space, Theme
from app.ui.widgets.controls import Button
from app.ui.widgets.layout import row
from app.ui.widgets.text import Label, restyle

CONTROL_WIDTH = 260
NUMBER_WIDTH = 130
UNIT_WIDTH = 52
AUTOMATIC = "Automatic"
NEEDED = ("title", "engine", "model")  # nothing to go back to
_THOUSANDS = re.compile(r"-?\d{1,3}(,\d{3})+(\.\d+)?")


class Row(QWidget):
    """`changed` tells (key, value), None = the profile is silent about it again."""

    changed = Signal(str, object)

    def __init__(self, theme: Theme, key: str, option: Option) -> None:
        super().__init__()
        self._theme = theme
        self.key = key
        self.option = option
        self.words = f"{option.label} {option.name} {option.sentence} {option.flag}".casefold()
        self.control = self._make()
        self.control.setAccessibleName(option.label)
        self.control.setAccessibleDescription(option.sentence)
        self._wrong: Label | None = None  # most rows never need one: a form opens faster without
        self._unset: Button | None = None
        text = QVBoxLayout()
        text.setSpacing(2)
        text.addWidget(Label(theme, option.label, "label"))
        text.addWidget(Label(theme, option.sentence, "small", "muted", wrap=True))
        self._text = text
        self.setLayout(self._arranged(text))
        self.show_value(None)

    def _arranged(self, text: QVBoxLayout):  # type: ignore[no-untyped-def]
        line = row(spacing=Space.small)
        line.setContentsMargins(0, Space.medium, 0, Space.medium)
        line.addLayout(text, 1)
        line.addSpacing(Space.small)
        self._line = line
        for extra in self._beside():
            line.addWidget(extra, 0, Qt.AlignmentFlag.AlignTop)
        line.addWidget(self.control, 0, Qt.AlignmentFlag.AlignTop)
        if self.option.unit:
            unit = Label(self._theme, self.option.unit, "small", "muted")
            unit.setFixedSize(UNIT_WIDTH, Space.control_height)
            line.addWidget(unit, 0, Qt.AlignmentFlag.AlignTop)
        else:
            line.addSpacing(UNIT_WIDTH + Space.small)
        return line

    def _beside(self) -> tuple[QWidget, ...]:
        return ()

    def _make(self) -> QWidget:
        """The control; each kind of field has its own."""
        return QWidget()

    def _show(self, value: object | None) -> None:
        """Puts a value into the control; each kind of field has its own way."""

    def show_default(self, value: object | None) -> None:
        """What happens when the profile is silent about it."""

    def show_value(self, value: object | None) -> None:
        self._show_unset(value is not None and self.key not in NEEDED)
        self._show(value)

    def _show_unset(self, needed: bool) -> None:
        if self._unset is None and needed:
            self._unset = Button(self._theme, "", "icon", "undo", f"Back to the default: {self.option.label}")
            self._unset.clicked.connect(lambda: self.changed.emit(self.key, None))
            self._line.insertWidget(min(2, self._line.count()), self._unset, 0, Qt.AlignmentFlag.AlignTop)
        if self._unset is not None:
            self._unset.setVisible(needed)

    def show_wrong(self, sentence: str) -> None:
        if self._wrong is None and sentence:
            self._wrong = Label(self._theme, "", "small", "danger", wrap=True, select=True)
            self._text.addWidget(self._wrong)
        if self._wrong is not None:
            self._wrong.say(sentence[:1].upper() + sentence[1:])
            self._wrong.setVisible(bool(sentence))
        restyle(self.control, wrong="true" if sentence else "false")

    def matches(self, wanted: list[str]) -> bool:
        return all(word in self.words for word in wanted)


class TextRow(Row):
    """Text, a path, or a number: what is no number is written as it is, so that it can be told what is wrong with it."""

    def _make(self) -> QWidget:
        line = QLineEdit()
        numeric = self.option.kind in (OptionKind.INTEGER, OptionKind.NUMBER)
        line.setFont(self._theme.font("number" if numeric else "body"))
        line.setFixedWidth(NUMBER_WIDTH if numeric else CONTROL_WIDTH)
        if numeric:
            line.setAlignment(Qt.AlignmentFlag.AlignRight)
        line.setPlaceholderText(default_of(self.option))
        line.textEdited.connect(lambda text: self.changed.emit(self.key, self.typed(text)))
        return line

    def show_default(self, value: object | None) -> None:
        self.control.setPlaceholderText(default_of(self.option, value))  # type: ignore[attr-defined]

    def _beside(self) -> tuple[QWidget, ...]:
        if self.option.kind is not OptionKind.PATH:
            return ()
        choose = Button(self._theme, "", "icon", "folder", f"Choose a file: {self.option.label}")
        choose.clicked.connect(self._choose)
        return (choose,)

    def _choose(self) -> None:
        from PySide6.QtWidgets import QFileDialog

        dialog = QFileDialog(self, self.option.label)
        dialog.setFileMode(QFileDialog.FileMode.ExistingFile)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.fileSelected.connect(self.add_path)
        dialog.open()

    def add_path(self, path: str) -> None:
        before = self.control.text().strip()  # type: ignore[attr-defined]
        value = f"{before},{path}" if self.option.several and before else path
        self.changed.emit(self.key, value)

    def typed(self, text: str) -> Scalar | None:
        text = text.strip()
        if not text:
            return None
        if self.option.kind not in (OptionKind.INTEGER, OptionKind.NUMBER):
            return text
        plain = text.replace("_", "").replace("\u202f", "").replace(" ", "")
        if _THOUSANDS.fullmatch(plain):  # any other comma may be a decimal one: 0,5 must not become 5
            plain = plain.replace(",", "")
        if self.option.unit == "tokens" and plain[-1:] in ("k", "K") and plain[:-1].isdigit():
            return int(plain[:-1]) * 1024
        for kind in (int, float):
            try:
                number = kind(plain)
            except ValueError:
                continue
            return number if math.isfinite(number) else text
        return text

    def _show(self, value: object | None) -> None:
        text = "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
        line: Any = self.control
        if self.typed(line.text()) != value:
            line.setText(text)
            line.setCursorPosition(0)


class ChoiceRow(Row):
    """One of some values; the first entry is silence, which shows what it means."""

    def __init__(
        self, theme: Theme, key: str, option: Option, choices: Mapping[str, str] | None = None, silence: str = ""
    ) -> None:
        """`choices`: value → text; without them those of the option, or on and off."""
        self._choices: dict[object, str] = dict(choices or {}) or _choices_of(option)
        self._silence = silence
        super().__init__(theme, key, option)

    def _make(self) -> QWidget:
        box = Combo()
        box.setFixedWidth(CONTROL_WIDTH)
        box.setEditable(bool(self.option.suggestions))
        box.addItem(self._silence or _silence_of(self.option), None)
        for value, text in self._choices.items():
            box.addItem(text, value)
        box.activated.connect(lambda at: self.changed.emit(self.key, box.itemData(at)))
        if box.isEditable():
            edit = box.lineEdit()
            edit.setAccessibleName(self.option.label)
            edit.textEdited.connect(lambda text: self.changed.emit(self.key, text.strip() or None))
        return box

    def show_default(self, value: object | None) -> None:
        words = self._silence or _silence_of(self.option, value)
        if self.control.itemText(0) != words:  # type: ignore[attr-defined]
            self.control.setItemText(0, words)  # type: ignore[attr-defined]

    def set_choices(self, choices: Mapping[str, str], silence: str) -> None:
        """Other choices from now on; what is chosen stays."""
        box: Any = self.control
        shown = [(box.itemData(n), box.itemText(n)) for n in range(box.count())]
        wanted = [(None, silence), *choices.items()]
        if shown != wanted:
            value = box.currentData()
            box.clear()
            for data, text in wanted:
                box.addItem(text, data)
            self._show(value)

    def _show(self, value: object | None) -> None:
        box: Any = self.control
        at = next((n for n in range(box.count()) if _is(box.itemData(n), value)), -1)
        if at < 0 and not box.isEditable():  # something that no list holds: shown, so that it can be seen and changed
            box.addItem(f"{value}", value)
            at = box.count() - 1
        if box.isEditable() and at < 0:
            if box.currentText() != str(value):
                box.setEditText(str(value))
        elif at != box.currentIndex() or (box.isEditable() and box.currentText() != box.itemText(at)):
            box.setCurrentIndex(at)
            if box.isEditable():
                box.setEditText(box.itemText(at))


class SwitchRow(Row):
    """On or off, off when silent."""

    def _make(self) -> QWidget:
        from app.ui.widgets.controls import Toggle

        toggle = Toggle(self._theme, self.option.label)
        toggle.clicked.connect(lambda on: self.changed.emit(self.key, True if on else None))
        return toggle

    def _show(self, value: object | None) -> None:
        self.control.setChecked(value is True)  # type: ignore[attr-defined]

    def _show_unset(self, needed: bool) -> None:
        """The switch itself goes back."""


class LinesRow(Row):
    """A list of texts or a table of them, one a line, below its words and as wide as the form."""

    def __init__(self, theme: Theme, key: str, option: Option, table: bool = False, prose: bool = False) -> None:
        self._table, self._prose = table, prose
        super().__init__(theme, key, option)

    def _make(self) -> QWidget:
        field = QPlainTextEdit()
        field.setFont(self._theme.font("body" if self._prose else "mono"))
        field.setFixedHeight(84)
        field.setTabChangesFocus(True)
        field.setPlaceholderText(self.option.unit)
        field.textChanged.connect(lambda: self.changed.emit(self.key, self._typed(field.toPlainText())))
        return field

    def _arranged(self, text: QVBoxLayout):  # type: ignore[no-untyped-def]
        column = QVBoxLayout()
        column.setContentsMargins(0, Space.medium, 0, Space.medium)
        column.setSpacing(Space.small)
        line = row(spacing=Space.small)
        line.addLayout(text, 1)
        self._line = line
        column.addLayout(line)
        column.addWidget(self.control)
        return column

    def _typed(self, text: str) -> object | None:
        if self._prose:
            return text if text.strip() else None
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        if not lines:
            return None
        return dict(_pair(line) for line in lines) if self._table else lines

    def _show(self, value: object | None) -> None:
        field: Any = self.control
        if isinstance(value, dict):
            text = "\n".join(f"{name}={held}" for name, held in value.items())
        elif isinstance(value, list | tuple):
            text = "\n".join(str(item) for item in value)
        else:
            text = "" if value is None else str(value)
        if self._typed(field.toPlainText()) != self._typed(text):
            field.setPlainText(text)


class Combo(QComboBox):
    """Never changed by a wheel that passes over it on the way down the page."""

    def __init__(self) -> None:
        super().__init__()
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)

    def wheelEvent(self, event: QWheelEvent) -> None:
        event.ignore()


def row_of(theme: Theme, key: str, option: Option) -> Row:
    """The row for an option, by its kind."""
    if option.kind in (OptionKind.CHOICE, OptionKind.SWITCH) or option.suggestions:
        return ChoiceRow(theme, key, option)
    return TextRow(theme, key, option)


def default_of(option: Option, value: object | None = None) -> str:
    """What happens when the profile is silent, as a placeholder; `value` stands in for the option's own default."""
    default = option.default if value is None else value
    if default is None:
        return AUTOMATIC if option.kind in (OptionKind.INTEGER, OptionKind.NUMBER) else ""
    if isinstance(default, bool):
        return "On" if default else "Off"
    return f"{default:g}" if isinstance(default, float) else str(default)


def _silence_of(option: Option, value: object | None = None) -> str:
    if option.suggestions:
        return ""
    known = option.default is not None or value is not None
    return f"Default ({default_of(option, value).lower()})" if known else AUTOMATIC


def _choices_of(option: Option) -> dict[object, str]:
    if option.kind is OptionKind.SWITCH:
        return {True: "On", False: "Off"}
    return {value: value for value in option.choices or option.suggestions}


def _is(one: object, other: object) -> bool:
    """Equal, and of one kind: True is not 1."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _pair(line: str) -> tuple[str, str]:
    name, _, value = line.partition("=")
    return name.strip(), value.strip()
