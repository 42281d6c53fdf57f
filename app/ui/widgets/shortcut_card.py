"""Shows the shortcut that lends the GPU from anywhere: its keys, setting it up, or how to bind it in the desktop by hand."""

from __future__ import annotations

from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QVBoxLayout

from app.ui.global_shortcut import GlobalShortcut, State, by_hand
from app.ui.theme import Space, Theme
from app.ui.widgets.controls import Button
from app.ui.widgets.layout import Card, row
from app.ui.widgets.text import Label

TITLE = "Shortcut from anywhere"
SENTENCE = "Lend the GPU for 30 minutes, or take it back, whichever window is in front."
WITHOUT = "Or bind a key to this command in the desktop's keyboard settings; it works without a window too:"


def said(state: State) -> tuple[str, str]:
    """What the card says of a state, and in which tone."""
    match state.name:
        case "asking":
            return "The desktop is being asked …", "muted"
        case "held" if state.text:
            return f"Set: {state.text}. It works while Engine Room's window is open or in the tray.", "good"
        case "held":
            return "The desktop has it without keys: give it some in its keyboard settings.", "warning"
        case "refused" | "missing":
            return state.text, "warning"
        case _:
            return "Not set.", "muted"


class ShortcutCard(Card):
    def __init__(self, theme: Theme, shortcut: GlobalShortcut) -> None:
        super().__init__()
        self._shortcut = shortcut
        self.state = Label(theme, "", "small", "muted", wrap=True)
        self.set_up = Button(theme, "Set up …", "", "", "Set up the shortcut from anywhere")
        self.set_up.clicked.connect(shortcut.hold)
        self.remove = Button(theme, "Remove", "quiet", "", "Remove the shortcut from anywhere")
        self.remove.clicked.connect(shortcut.drop)
        words = QVBoxLayout()
        words.setSpacing(2)
        words.addWidget(Label(theme, TITLE, "title"))
        words.addWidget(Label(theme, SENTENCE, "small", "muted", wrap=True))
        words.addWidget(self.state)
        line = row(spacing=Space.large)
        line.addLayout(words, 1)
        line.addWidget(self.remove)
        line.addWidget(self.set_up)
        self.column.addLayout(line)
        copy = Button(theme, "", "icon", "copy", "Copy the command of the shortcut")
        copy.clicked.connect(lambda: QGuiApplication.clipboard().setText(by_hand()))
        self.column.addWidget(Label(theme, WITHOUT, "small", "muted", wrap=True))
        command = row()
        command.addWidget(Label(theme, by_hand(), "mono", "muted", wrap=True, select=True), 1)
        command.addWidget(copy)
        self.column.addLayout(command)
        shortcut.changed.connect(self._show)
        self._show()

    def _show(self) -> None:
        state = self._shortcut.state
        self.state.say(*said(state))
        self.set_up.setVisible(state.name in ("off", "refused", "missing"))
        self.set_up.setText("Try again" if state.name in ("refused", "missing") else "Set up …")
        self.remove.setVisible(state.name in ("asking", "held", "refused"))
