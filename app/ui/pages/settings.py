"""The settings page: a form made from the settings table that the service describes, checked by the service as it is typed."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QComboBox, QFileDialog, QLineEdit, QPlainTextEdit, QVBoxLayout, QWidget

from app import PRODUCT_NAME, __version__
from app.core.control import SettingField, SettingsChange, SettingsView
from app.core.errors import EngineRoomError
from app.core.resources import resources_folder
from app.ui.global_shortcut import GlobalShortcut
from app.ui.keys.card import KeysCard
from app.ui.link import Link
from app.ui.store import Store
from app.ui.theme import CHOICES, Space, Theme
from app.ui.widgets.controls import Button, Segments, Toggle
from app.ui.widgets.layout import Card, Line, PageColumn, clear, row
from app.ui.widgets.shortcut_card import ShortcutCard
from app.ui.widgets.text import Label, restyle

GROUPS = {
    "gateway": ("Endpoint", "The OpenAI-compatible URL that every program uses."),
    "memory": ("Memory", "What a load may take and what must stay free."),
    "supervision": ("Starting and stopping", "How long each step may take before something is done about it."),
    "library": ("Library", "Where models are found."),
    "logs": ("Logs", "How much of what engines say is kept."),
}
MIB, GIB = 1024**2, 1024**3


def shown(field: SettingField) -> str:
    """A setting's value as it is typed; sizes in their field's unit."""
    value = field.value
    if isinstance(value, list | tuple):
        return "\n".join(str(part) for part in value)
    if field.key.endswith("_bytes") and isinstance(value, int | float):
        return f"{value / size_of(field):g}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def typed(field: SettingField, text: str) -> object:
    """What was typed, as the value to send; text that is no number is sent as it is, so that the service says why not."""
    text = text.strip()
    if field.kind == "list":
        return [line.strip() for line in text.splitlines() if line.strip()]
    if field.kind in ("integer", "number"):
        try:
            number = float(text)
        except ValueError:
            return text
        if not math.isfinite(number):
            return text
        if field.key.endswith("_bytes"):
            return round(number * size_of(field))
        return int(number) if number.is_integer() else number
    return text


def size_of(field: SettingField) -> int:
    """The unit in which a size is shown: the one in which its default is a round number."""
    return GIB if isinstance(field.default, int) and field.default >= GIB else MIB


def unit(field: SettingField) -> str:
    size = "GiB" if size_of(field) == GIB else "MiB"
    units = {"_bytes": size, "_seconds": "seconds", "_tokens": "tokens"}
    return next((words for suffix, words in units.items() if field.key.endswith(suffix)), "")


def title(key: str) -> str:
    """ "gateway.request_timeout_seconds" → "Request timeout"."""
    words = key.split(".")[-1]
    for suffix in ("_bytes", "_seconds", "_tokens"):
        words = words.removesuffix(suffix)
    return words.replace("_", " ").capitalize()


class SettingRow(QWidget):
    """One setting: name and sentence on the left, its control on the right, what is wrong with it below."""

    changed = Signal(str, object)

    def __init__(self, theme: Theme, field: SettingField) -> None:
        super().__init__()
        self._theme, self.field = theme, field
        self.note = Label(theme, "", "small", "faint", wrap=True)
        self.wrong = Label(theme, "", "small", "danger", wrap=True, select=True)
        self.wrong.hide()
        words = QVBoxLayout()
        words.setSpacing(2)
        words.addWidget(Label(theme, title(field.key), "label"))
        words.addWidget(Label(theme, field.sentence, "small", "muted", wrap=True))
        words.addWidget(self.note)
        words.addWidget(self.wrong)
        self._default = Button(theme, "Reset", "quiet", "", f"Reset {title(field.key)} to its default")
        self._default.clicked.connect(lambda: self.changed.emit(field.key, None))
        self.control = self._make_control()
        self.control.setAccessibleName(title(field.key))
        self.control.setAccessibleDescription(field.sentence)
        self.control.setEnabled(not field.from_environment)
        line = row(spacing=Space.large)
        line.setContentsMargins(0, Space.medium, 0, Space.medium)
        line.addLayout(words, 1)
        line.addWidget(self._default, 0, Qt.AlignmentFlag.AlignTop)
        line.addWidget(self.control, 0, Qt.AlignmentFlag.AlignTop)
        name = Label(theme, unit(field), "small", "muted")
        name.setFixedSize(52, Space.control_height)
        line.addWidget(name, 0, Qt.AlignmentFlag.AlignTop)
        self.setLayout(line)
        self.show_field(field, restart=False)

    def _make_control(self) -> QWidget:
        field = self.field
        if field.kind == "switch":
            toggle = Toggle(self._theme, title(field.key))
            toggle.clicked.connect(lambda on: self.changed.emit(field.key, on))
            return toggle
        if field.choices:
            box = QComboBox()
            box.addItems(list(field.choices))
            box.textActivated.connect(lambda text: self.changed.emit(field.key, text))
            return box
        if field.kind == "list":
            return _Lines(self._theme, lambda: self._edited(self.control.toPlainText()))  # type: ignore[attr-defined]
        line = QLineEdit()
        line.setFont(self._theme.font("number"))
        line.setFixedWidth(130)
        line.setAlignment(Qt.AlignmentFlag.AlignRight)
        line.editingFinished.connect(lambda: self._edited(line.text()))
        return line

    def _edited(self, text: str) -> None:
        if text.strip() != shown(self.field):
            self.changed.emit(self.field.key, typed(self.field, text))
        else:
            self._mark_typed(False)

    @property
    def _is_typed(self) -> bool:
        """Whether something stands there that was typed and is not taken yet."""
        match self.control:
            case QLineEdit():
                return self.control.isModified()
            case QPlainTextEdit():
                return self.control.document().isModified()
        return False

    def _mark_typed(self, on: bool) -> None:
        match self.control:
            case QLineEdit():
                self.control.setModified(on)
            case QPlainTextEdit():
                self.control.document().setModified(on)

    def taken(self, value: object) -> None:
        """The service has taken this value; what was typed since then is still to come."""
        match self.control:
            case QLineEdit() if value is None or typed(self.field, self.control.text()) == value:
                self._mark_typed(False)
            case QPlainTextEdit() if value is None or typed(self.field, self.control.toPlainText()) == value:
                self._mark_typed(False)

    def show_field(self, field: SettingField, restart: bool) -> None:
        self.field = field
        text = shown(field)
        match self.control:
            case Toggle():
                self.control.setChecked(bool(field.value))
            case QComboBox():
                self.control.setCurrentText(text)
            case QLineEdit() if self.control.text() != text and not self._is_typed:
                self.control.setText(text)
            case QPlainTextEdit() if self.control.toPlainText() != text and not self._is_typed:
                self.control.setPlainText(text)
        is_default = _same(field.value, field.default)
        self._default.setVisible(not is_default and not field.from_environment)
        notes = ["Set by the environment; it cannot be changed here."] if field.from_environment else []
        notes += ["Counts after the service is started again."] if restart else []
        self.note.say(" ".join(notes))
        self.note.setVisible(bool(notes))
        if not self._is_typed:
            self.show_wrong("")

    def show_wrong(self, sentence: str) -> None:
        self.wrong.say(sentence)
        self.wrong.setVisible(bool(sentence))
        restyle(self.control, wrong="true" if sentence else "false")


class _Lines(QPlainTextEdit):
    """A list, one entry a line; told when it is left."""

    def __init__(self, theme: Theme, left: Callable[[], None]) -> None:
        super().__init__()
        self._left = left
        self.setFont(theme.font("mono"))
        self.setFixedSize(300, 76)
        self.setTabChangesFocus(True)

    def focusOutEvent(self, event: object) -> None:
        super().focusOutEvent(event)  # type: ignore[arg-type]
        self._left()


def _same(one: object, other: object) -> bool:
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return list(one) == list(other)
    return one == other


class SettingsPage(PageColumn):
    page_wanted = Signal(str, object)

    def __init__(self, store: Store, link: Link, theme: Theme, shortcut: GlobalShortcut) -> None:
        super().__init__(widest=860)
        self._store, self._link, self._theme = store, link, theme
        self._rows: dict[str, SettingRow] = {}
        self._asking = asyncio.Lock()  # one question at a time: changes arrive, and are shown, in their order
        self._changing: list[str] = []  # the settings whose change is on its way
        self.appearance = self._appearance()
        self._groups = QVBoxLayout()
        self._groups.setSpacing(Space.large)
        self._waiting = Label(theme, "The settings are shown when the service answers.", "body", "muted", wrap=True)
        self._file = Label(theme, "—", "mono", "muted", wrap=True, select=True)
        self.column.addWidget(self.appearance)
        self.column.addWidget(ShortcutCard(theme, shortcut))
        self.keys = KeysCard(store, link, theme)
        self.column.addWidget(self.keys)
        self.column.addWidget(self._waiting)
        self.column.addLayout(self._groups)
        self.column.addWidget(self._about())
        self.column.addStretch(1)
        store.connection_changed.connect(self._connected)
        theme.changed.connect(lambda: self.themes.choose(theme.choice))
        self._connected()

    # --- appearance --------------------------------------------------------------------------------------------------

    def _appearance(self) -> Card:
        self.themes = Segments(
            self._theme,
            "Theme",
            (("system", "System", "display"), ("light", "Light", "sun"), ("dark", "Dark", "moon")),
            self._theme.choice,
        )
        self.themes.chosen.connect(self._choose_theme)
        words = QVBoxLayout()
        words.setSpacing(2)
        words.addWidget(Label(self._theme, "Appearance", "title"))
        words.addWidget(Label(self._theme, "Light, dark, or as the desktop has it.", "small", "muted"))
        card = Card()
        line = row()
        line.addLayout(words, 1)
        line.addWidget(self.themes)
        card.column.addLayout(line)
        return card

    def _choose_theme(self, choice: str) -> None:
        if choice in CHOICES:
            self._theme.choose(choice)
            if self._store.connected:
                self._change("window.theme", choice)

    # --- the form ----------------------------------------------------------------------------------------------------

    def _connected(self) -> None:
        for setting in self._rows.values():
            setting.setEnabled(self._store.connected)
        if self._store.connected:
            self._link.tasks.start(self._fetch(), "settings")

    async def _fetch(self) -> None:
        try:
            async with self._asking:
                self._show(await self._link.get("/control/settings", SettingsView))
        except EngineRoomError as error:
            if not self._rows:
                self._waiting.say(str(error))

    def _change(self, key: str, value: object) -> None:
        self._changing.append(key)

        async def run() -> None:
            try:
                async with self._asking:
                    wish = SettingsChange(values={key: value})
                    view = await self._link.post("/control/settings", wish, SettingsView)
            except EngineRoomError as error:
                self._changing.remove(key)
                if key in self._rows:
                    self._rows[key].show_wrong(str(error))
                else:
                    self._link.refused.emit(error)
                return
            self._changing.remove(key)
            if key in self._rows:
                self._rows[key].taken(value)
            self._show(view)

        self._link.tasks.start(run(), f"set {key}")

    def _show(self, view: SettingsView) -> None:
        fields = {field.key: field for field in view.fields if not field.key.startswith("window.")}
        if list(self._rows) != list(fields):
            self._rebuild(fields)
        for key, field in fields.items():
            if key not in self._changing:  # what was chosen since then is shown already
                self._rows[key].show_field(field, key in view.restart_needed)
        self._waiting.hide()
        self._file.say(view.file)

    def _rebuild(self, fields: dict[str, SettingField]) -> None:
        clear(self._groups)
        self._rows = {}
        groups: dict[str, list[SettingField]] = {}
        for field in fields.values():
            groups.setdefault(field.key.partition(".")[0], []).append(field)
        for group, members in groups.items():
            heading, sentence = GROUPS.get(group, (group.capitalize(), ""))
            card = Card(spacing=0)
            card.column.addWidget(Label(self._theme, heading, "title"))
            if sentence:
                card.column.addWidget(Label(self._theme, sentence, "small", "muted", wrap=True))
            card.column.addSpacing(Space.small)
            for number, field in enumerate(members):
                if number:
                    card.column.addWidget(Line())
                setting = self._rows[field.key] = SettingRow(self._theme, field)
                setting.changed.connect(self._change)
                card.column.addWidget(setting)
            if group == "library":
                add = Button(self._theme, "Add a folder …", "", "folder", "Add a model folder")
                add.clicked.connect(self._choose_folder)
                card.column.addLayout(row(None, add))
            self._groups.addWidget(card)

    def _choose_folder(self) -> None:
        dialog = QFileDialog(self, "A folder with models")
        dialog.setFileMode(QFileDialog.FileMode.Directory)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.fileSelected.connect(self._add_folder)
        dialog.open()

    def _add_folder(self, folder: str) -> None:
        field = self._rows["library.folders"].field
        folders = list(field.value) if isinstance(field.value, list | tuple) else []
        if folder and folder not in folders:
            self._change("library.folders", [*folders, folder])

    # --- about ------------------------------------------------------------------------------------------------------

    def _about(self) -> Card:
        card = Card(spacing=Space.small)
        licences = Button(self._theme, "Licences", "", "external", "Show licences")
        licences.clicked.connect(self._show_licences)
        card.column.addLayout(row(Label(self._theme, f"{PRODUCT_NAME} {__version__}", "title"), None, licences))
        text = (
            "MIT licence. Made with Qt for Python (LGPL 3; its libraries lie unchanged beside the program and can be replaced). "
            "Type: Inter and JetBrains Mono (SIL Open Font License)."
        )
        card.column.addWidget(Label(self._theme, text, "small", "muted", wrap=True))
        card.column.addLayout(row(Label(self._theme, "Settings file:", "small", "muted"), self._file, None))
        return card

    def _show_licences(self) -> None:
        from PySide6.QtCore import QUrl
        from PySide6.QtGui import QDesktopServices

        QDesktopServices.openUrl(QUrl.fromLocalFile(str(resources_folder() / "fonts")))
