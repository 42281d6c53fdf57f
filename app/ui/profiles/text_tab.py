"""The profile as the text of its file: coloured a little, checked as it is typed, every problem with its key below."""

from __future__ import annotations

from PySide6.QtCore import QRegularExpression
from PySide6.QtGui import QSyntaxHighlighter, QTextCharFormat, QTextCursor, QTextDocument
from PySide6.QtWidgets import QPlainTextEdit, QVBoxLayout, QWidget

from app.ui.profiles.draft import Draft
from app.ui.theme import Space, Theme
from app.ui.widgets.layout import clear
from app.ui.widgets.text import Label

MOST_PROBLEMS = 6


class TextTab(QWidget):
    def __init__(self, theme: Theme, draft: Draft) -> None:
        super().__init__()
        self._theme, self._draft = theme, draft
        self._shown: dict[str, str] | None = None
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(Space.medium)
        self.field = QPlainTextEdit()
        self.field.setFont(theme.font("mono"))
        self.field.setAccessibleName("Profile as text")
        self.field.setMinimumHeight(360)
        self.field.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        self._colours = Colouring(theme, self.field.document())
        self._problems = QVBoxLayout()
        self._problems.setSpacing(Space.hair)
        column.addWidget(self.field, 1)
        column.addLayout(self._problems)
        self.field.textChanged.connect(lambda: draft.write(self.field.toPlainText()))
        draft.changed.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        if self.field.toPlainText() != self._draft.text:
            cursor = QTextCursor(self.field.document())
            cursor.select(QTextCursor.SelectionType.Document)
            cursor.insertText(self._draft.text)  # as an edit, so that it can be undone
        if self._draft.problems != self._shown:
            self._shown = dict(self._draft.problems)
            clear(self._problems)
            for key, sentence in list(self._shown.items())[:MOST_PROBLEMS]:
                words = f"{key}: {sentence}" if key else sentence[:1].upper() + sentence[1:]
                self._problems.addWidget(Label(self._theme, words, "small", "danger", wrap=True, select=True))


class Colouring(QSyntaxHighlighter):
    """TOML: tables, keys, texts, numbers and comments."""

    _RULES = (
        (r"^\s*[A-Za-z0-9_.\"-]+(?=\s*=)", "code_name"),
        (r"\b(true|false)\b", "code_keyword"),
        (r"(?<![\w\"])[-+]?\d[\d_.eE+-]*", "code_number"),
        (r"\"(?:[^\"\\]|\\.)*\"|'[^']*'", "code_string"),
        (r"^\s*\[[^\]]*\]", "code_keyword"),
        (r"(?:^|\s)#.*$", "code_comment"),
    )

    def __init__(self, theme: Theme, document: QTextDocument) -> None:
        super().__init__(document)
        self._theme = theme
        self._rules = [(QRegularExpression(pattern), colour) for pattern, colour in self._RULES]
        theme.changed.connect(self.rehighlight)

    def highlightBlock(self, text: str) -> None:
        for pattern, colour in self._rules:
            matches = pattern.globalMatch(text)
            shape = QTextCharFormat()
            shape.setForeground(self._theme.colour(colour))
            while matches.hasNext():
                found = matches.next()
                self.setFormat(found.capturedStart(), found.capturedLength(), shape)
