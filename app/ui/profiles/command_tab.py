"""What a launch would execute: arguments and environment with secrets masked, to copy or to take away as a script."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QFileDialog, QPlainTextEdit, QVBoxLayout, QWidget

from app.core.control import CommandView, Export
from app.ui.theme import Space, Theme
from app.ui.widgets.controls import Button
from app.ui.widgets.layout import Card, row
from app.ui.widgets.notice import NoticeBar
from app.ui.widgets.text import Label

EXPORTS = (
    ("shell", "Shell script", "logs"),
    ("systemd", "systemd unit", "settings"),
    ("compose", "Compose file", "models"),
)


class CommandTab(QWidget):
    """`export_wanted` tells the kind."""

    export_wanted = Signal(str)

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self._command = ""
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(Space.large)
        self.notice = NoticeBar(theme, closable=False)
        column.addWidget(self.notice)
        shown = Card()
        self._copy = Button(theme, "Copy", "", "copy", "Copy the command line")
        self._copy.clicked.connect(self._copy_it)
        shown.column.addLayout(row(Label(theme, "Command line", "title"), None, self._copy))
        sentence = "What a launch executes. Keys are masked; 0 stands for the port, which is chosen at each launch."
        shown.column.addWidget(Label(theme, sentence, "small", "muted", wrap=True))
        self.field = QPlainTextEdit()
        self.field.setReadOnly(True)
        self.field.setFont(theme.font("mono"))
        self.field.setAccessibleName("Command line")
        self.field.setMinimumHeight(220)
        self.field.setTabChangesFocus(True)
        shown.column.addWidget(self.field)
        column.addWidget(shown)
        away = Card()
        away.column.addWidget(Label(theme, "Use it without Engine Room", "title"))
        self._notes = Label(theme, "The same launch as a file. No key is written into it.", "small", "muted", wrap=True)
        away.column.addWidget(self._notes)
        buttons = row(spacing=Space.small)
        self._exports: list[Button] = []
        for kind, title, icon in EXPORTS:
            button = Button(theme, f"{title} …", "", icon, f"Export as {title}")
            button.clicked.connect(self._wanting(kind))
            self._exports.append(button)
            buttons.addWidget(button)
        buttons.addStretch(1)
        away.column.addLayout(buttons)
        column.addWidget(away)
        column.addStretch(1)
        self.say("")

    def show_command(self, view: CommandView) -> None:
        lines = [f"{name}={shlex.quote(value)} \\" for name, value in view.environment.items()]
        self._command = " ".join(
            [*(f"{name}={shlex.quote(value)}" for name, value in view.environment.items()), shlex.join(view.argv)]
        )
        self.field.setPlainText("\n".join([*lines, *_folded(view.argv)]))
        unknown = ", ".join(view.unknown_flags)
        words = f"This engine’s own help does not know {unknown}. It may refuse to start." if unknown else ""
        self.notice.say(words, "warning")
        self._copy.setEnabled(True)

    def say(self, words: str) -> None:
        """There is no command now, and why."""
        self._command = ""
        self.field.setPlainText("")
        self.field.setPlaceholderText(words or "Asking the service …")
        self.notice.say("")
        self._copy.setEnabled(False)

    def show_can_export(self, can: bool, why_not: str) -> None:
        for button in self._exports:
            button.setEnabled(can)
            button.setToolTip(why_not)

    def save(self, export: Export) -> None:
        """Asks where to, and writes; what must still be filled in is said."""
        dialog = QFileDialog(self, "Save as")
        dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.selectFile(export.file_name)
        dialog.fileSelected.connect(lambda file: self.write(export, file))
        dialog.open()

    def write(self, export: Export, file: str) -> None:
        try:
            path = Path(file)
            path.write_text(export.text, "utf-8")
            if export.text.startswith("#!"):
                path.chmod(0o755)
        except OSError as error:
            self.notice.say(f"{file} could not be written: {error.strerror}.", "danger")
            return
        self.notice.say(" ".join([f"Saved as {file}.", *export.notes]), "good")

    def _copy_it(self) -> None:
        QGuiApplication.clipboard().setText(self._command)
        self._copy.shape("Copied", "", "check", "Copy the command line")

    def _wanting(self, kind: str) -> Callable[[], None]:
        return lambda: self.export_wanted.emit(kind)


def _folded(argv: tuple[str, ...]) -> list[str]:
    """One flag with its value per line, as a person would write a long command."""
    lines: list[list[str]] = []
    for word in argv:
        if (word.startswith("-") and len(word) > 1 and not _is_number(word)) or not lines:
            lines.append([word])
        else:
            lines[-1].append(word)
    texts = [shlex.join(line) for line in lines]
    return [
        f"{text} \\" if n < len(texts) - 1 else text
        for n, text in enumerate(f"  {t}" if i else t for i, t in enumerate(texts))
    ]


def _is_number(word: str) -> bool:
    return word.lstrip("-").replace(".", "", 1).isdigit()
