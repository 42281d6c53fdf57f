"""Makes the documents that a transcript is painted from: Markdown in the theme's type, code in its colours."""

from __future__ import annotations

import itertools
from functools import lru_cache
from typing import Any

from PySide6.QtCore import QUrl
from PySide6.QtGui import (
    QFont,
    QTextBlockFormat,
    QTextCharFormat,
    QTextCursor,
    QTextDocument,
    QTextFormat,
    QTextFrameFormat,
    QTextLength,
    QTextOption,
    QTextTable,
    QTextTableCellFormat,
)

from app.ui.theme import Theme

LINE_PERCENT = 150
CODE_LINE_PERCENT = 126
HEADING_PIXELS = {1: 20, 2: 17, 3: 15}


class _NoFetch(QTextDocument):
    """Never loads what a text names: a model's answer must not make the window read files or ask servers."""

    def loadResource(self, kind: int, name: QUrl) -> Any:
        return None


def _blank(theme: Theme, role: str) -> QTextDocument:
    document = _NoFetch()
    document.setUndoRedoEnabled(False)
    document.setDocumentMargin(0)
    document.setDefaultFont(theme.font(role))
    option = QTextOption()
    option.setWrapMode(QTextOption.WrapMode.WrapAtWordBoundaryOrAnywhere)
    document.setDefaultTextOption(option)
    return document


def plain(theme: Theme, text: str, role: str = "body") -> QTextDocument:
    document = _blank(theme, role)
    document.setPlainText(text)
    _line_height(document, LINE_PERCENT)
    return document


def markdown(theme: Theme, source: str) -> QTextDocument:
    """One block of Markdown. HTML in it is shown as text: an answer is not a page."""
    document = _blank(theme, "body")
    features = QTextDocument.MarkdownFeature
    document.setIndentWidth(22)
    document.setMarkdown(source, features.MarkdownDialectGitHub | features.MarkdownNoHTML)
    _line_height(document, LINE_PERCENT)
    _restyle_text(document, theme)
    for frame in document.rootFrame().childFrames():
        if isinstance(frame, QTextTable):
            _restyle_table(frame, theme)
            _flatten_around(document, frame)
    return document


def _line_height(document: QTextDocument, percent: int) -> None:
    cursor = QTextCursor(document)
    cursor.select(QTextCursor.SelectionType.Document)
    style = QTextBlockFormat()
    style.setLineHeight(percent, QTextBlockFormat.LineHeightTypes.ProportionalHeight.value)
    cursor.mergeBlockFormat(style)


def _restyle_text(document: QTextDocument, theme: Theme) -> None:
    """Headings in our sizes, inline code in our mono face, links in the accent."""
    mono = theme.font("mono")
    changes: list[tuple[int, int, QTextCharFormat]] = []
    block = document.begin()
    quoted = QTextBlockFormat()
    quoted.setLeftMargin(16)
    quoted.setRightMargin(0)
    while block.isValid():
        if block.blockFormat().hasProperty(QTextFormat.Property.BlockQuoteLevel):
            QTextCursor(block).mergeBlockFormat(quoted)
        heading = block.blockFormat().headingLevel()
        spans = block.begin()
        while not spans.atEnd():
            fragment = spans.fragment()
            style = fragment.charFormat()
            change = QTextCharFormat()
            if heading:
                change.setProperty(QTextCharFormat.Property.FontPixelSize, HEADING_PIXELS.get(heading, 14))
                change.clearProperty(QTextCharFormat.Property.FontSizeAdjustment)
                change.setFontWeight(QFont.Weight.DemiBold)
            if style.fontFixedPitch():
                change.setFontFamilies([mono.family()])
                change.setProperty(QTextCharFormat.Property.FontPixelSize, mono.pixelSize())
                change.setBackground(theme.colour("track"))
            if style.isAnchor():
                change.setForeground(theme.colour("accent"))
            if change.propertyCount():
                changes.append((fragment.position(), fragment.length(), change))
            spans += 1
        block = block.next()
    cursor = QTextCursor(document)
    cursor.beginEditBlock()
    for position, length, change in changes:
        cursor.setPosition(position)
        cursor.setPosition(position + length, QTextCursor.MoveMode.KeepAnchor)
        cursor.mergeCharFormat(change)
    cursor.endEditBlock()


def _restyle_table(table: QTextTable, theme: Theme) -> None:
    """Not Qt's boxes: a hairline under each row, the header in a quieter tone."""
    editing = table.firstCursorPosition()
    editing.beginEditBlock()
    style = table.format()
    style.setBorder(0)
    style.setBorderCollapse(True)
    style.setCellSpacing(0)
    style.setCellPadding(0)
    style.setWidth(QTextLength(QTextLength.Type.PercentageLength, 100))
    style.setTopMargin(4)
    style.setBottomMargin(4)
    table.setFormat(style)
    line = theme.colour("border")
    for line_number in range(table.rows()):
        for column in range(table.columns()):
            cell = table.cellAt(line_number, column)
            cell_style = QTextTableCellFormat()
            cell_style.setTopPadding(6)
            cell_style.setBottomPadding(2)
            cell_style.setLeftPadding(0 if column == 0 else 12)
            cell_style.setRightPadding(4)
            cell_style.setBottomBorder(1)
            cell_style.setBottomBorderStyle(QTextFrameFormat.BorderStyle.BorderStyle_Solid)
            cell_style.setBottomBorderBrush(line)
            if line_number == 0:
                _restyle_header(table, column, theme)
            cell.setFormat(cell_style)
    editing.endEditBlock()


def _flatten_around(document: QTextDocument, table: QTextTable) -> None:
    """Qt keeps an empty line before and after a table; it must not be seen."""
    flat = QTextBlockFormat()
    flat.setLineHeight(1, QTextBlockFormat.LineHeightTypes.FixedHeight.value)
    for block in (
        document.findBlock(max(0, table.firstPosition() - 1)).previous(),
        document.findBlock(table.firstPosition() - 1),
        document.findBlock(table.lastPosition() + 1),
    ):
        if block.isValid() and not block.text() and QTextCursor(block).currentTable() is None:
            QTextCursor(block).mergeBlockFormat(flat)


def _restyle_header(table: QTextTable, column: int, theme: Theme) -> None:
    """The head of a column stands as its cells do; Qt would set it bold and left."""
    cursor = table.cellAt(0, column).firstCursorPosition()
    cursor.setPosition(table.cellAt(0, column).lastPosition(), QTextCursor.MoveMode.KeepAnchor)
    look = QTextCharFormat()
    look.setForeground(theme.colour("text_muted"))
    look.setFontWeight(QFont.Weight.Medium)
    cursor.mergeCharFormat(look)
    if table.rows() > 1:
        below = table.cellAt(1, column).firstCursorPosition().blockFormat().alignment()
        style = QTextBlockFormat()
        style.setAlignment(below)
        cursor.mergeBlockFormat(style)


def code(theme: Theme, language: str, text: str) -> QTextDocument:
    """A code block, highlighted as a whole."""
    document = _blank(theme, "mono")
    option = document.defaultTextOption()
    option.setTabStopDistance(32)
    document.setDefaultTextOption(option)
    append_code(document, theme, language, text)
    return document


def append_code(document: QTextDocument, theme: Theme, language: str, text: str) -> None:
    """Adds text at the end, in the colours of its own tokens; what is there already is not touched."""
    grow_code(document, theme, language, document.characterCount() - 1, text, "")


def grow_code(document: QTextDocument, theme: Theme, language: str, end: int, text: str, rest: str) -> int:
    """Puts `text` in its colours, then `rest` without any, in place of all that is after position `end`.

    Returns the position where the coloured text ends. One edit, so that it is laid out once.
    """
    cursor = QTextCursor(document)
    cursor.beginEditBlock()
    cursor.setPosition(end)
    if document.characterCount() - 1 > end:
        cursor.movePosition(QTextCursor.MoveOperation.End, QTextCursor.MoveMode.KeepAnchor)
        cursor.removeSelectedText()
    if not end:
        style = QTextBlockFormat()
        style.setLineHeight(CODE_LINE_PERCENT, QTextBlockFormat.LineHeightTypes.ProportionalHeight.value)
        cursor.setBlockFormat(style)
    look = QTextCharFormat()
    if text:
        for value, colour in tokens(language, text):
            look.setForeground(theme.colour(colour))
            cursor.insertText(value, look)
    end = cursor.position()
    if rest:
        look.setForeground(theme.colour("text"))
        cursor.insertText(rest, look)
    cursor.endEditBlock()
    return end


def tokens(language: str, text: str) -> list[tuple[str, str]]:
    """(text, colour name) pairs that joined are `text`; an unknown language is plain."""
    lexer = _lexer(language)
    if lexer is None:
        return [(text, "text")]
    found = [
        ("".join(value for _, value in group), colour)
        for colour, group in itertools.groupby(lexer.get_tokens(text), lambda token: _colour(str(token[0])))
    ]
    if "".join(value for value, _ in found) != text:  # a lexer that adds or drops an end of line
        joined = "".join(value for value, _ in found)
        if joined == text + "\n" and found:
            value, colour = found[-1]
            found[-1] = (value[:-1], colour)
        else:
            return [(text, "text")]
    return found


@lru_cache(maxsize=64)
def _lexer(language: str) -> Any:
    if not language:
        return None
    from pygments.lexers import get_lexer_by_name
    from pygments.util import ClassNotFound

    try:
        return get_lexer_by_name(language, stripnl=False, ensurenl=False)
    except ClassNotFound:
        return None


@lru_cache(maxsize=512)
def _colour(kind: str) -> str:
    for beginning, name in (
        ("Token.Comment", "code_comment"),
        ("Token.Keyword", "code_keyword"),
        ("Token.Operator.Word", "code_keyword"),
        ("Token.Literal.String", "code_string"),
        ("Token.Literal.Number", "code_number"),
        ("Token.Name.Function", "code_name"),
        ("Token.Name.Class", "code_name"),
        ("Token.Name.Builtin", "code_name"),
        ("Token.Name.Tag", "code_name"),
        ("Token.Name.Attribute", "code_number"),
        ("Token.Name.Decorator", "code_number"),
        ("Token.Generic.Prompt", "code_comment"),
    ):
        if kind.startswith(beginning):
            return name
    return "text"


def warm() -> None:
    """Loads the lexers that first answers need, off the window's thread: the first code block must not cost a frame."""
    for language in ("python", "bash", "json", "toml"):
        tokens(language, "x = 1\n")
