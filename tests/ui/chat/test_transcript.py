"""The transcript: only what is in view is laid out, growing changes only the end, selecting and copying work across items."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QGuiApplication, QPixmap
from PySide6.QtTest import QTest
from pytestqt.qtbot import QtBot

from app.core.conversation import Message
from app.ui.chat import transcript as module
from app.ui.chat.items import Item, Kind, Turn
from app.ui.chat.transcript import Transcript
from app.ui.theme import Theme
from tests.ui import chats


@pytest.fixture
def view(qtbot: QtBot, qapp: object) -> Transcript:
    made = Transcript(Theme("dark"))
    qtbot.addWidget(made)
    made.resize(820, 600)
    made.show()
    return made


def paint(view: Transcript) -> None:
    picture = QPixmap(view.size())
    view.render(picture)


def many(number: int) -> list[Message]:
    return [message for n in range(number) for message in chats.turn(n)]


def live(text: str = "") -> Message:
    return Message(id="live", parent=None, role="assistant", text=text)


def test_opening_2000_messages_lays_out_only_what_is_seen(view: Transcript) -> None:
    view.show_messages(many(1000))
    paint(view)
    assert view.column.laid_out < 60
    assert sum(turn.is_cut for turn in view.column.turns) < 8
    assert view.verticalScrollBar().value() == view.verticalScrollBar().maximum()


def test_scrolling_through_everything_keeps_few_documents(view: Transcript) -> None:
    view.show_messages(many(40))
    bar = view.verticalScrollBar()
    while bar.value() > 0:
        bar.setValue(bar.value() - 400)
        paint(view)
    assert len(view._shelf) <= 80
    assert bar.value() == 0


def test_what_is_read_stays_in_place_while_heights_above_it_become_exact(view: Transcript) -> None:
    view.show_messages(many(300))
    bar = view.verticalScrollBar()
    bar.setValue(bar.maximum() // 2)
    for _ in range(200):
        first = next(seen for seen in view.column.seen(bar.value(), bar.value() + 600))
        before = first.top - bar.value()
        bar.setValue(bar.value() - 30)
        paint(view)
        after = view.column.top(first.turn, first.number) - bar.value()
        assert abs(after - before - 30) <= 1.5, "the text jumped"


def test_it_stays_at_the_end_while_growing_until_scrolled_up(view: Transcript) -> None:
    view.show_messages([*many(5), live()])
    bar = view.verticalScrollBar()
    for _ in range(30):
        view.grow("More words come here. " * 5 + "\n\n", "")
        assert bar.value() == bar.maximum()
    bar.setValue(bar.value() - 200)
    assert not view.sticks
    here = bar.value()
    view.grow("And more.\n\n" * 20, "")
    assert bar.value() == here
    view.to_end()
    assert view.sticks


PIECES = st.lists(
    st.sampled_from(
        [
            "word ",
            "\n",
            "\n\n",
            "```python\n",
            "```\n",
            "x = 1\n",
            "# t\n",
            "- a\n",
            "1. b\n",
            "| a | b |\n|---|---|\n",
            "> q\n",
            "**b",
            "`",
        ]
    ),
    max_size=80,
)


@given(PIECES, st.integers(1, 7))
@settings(max_examples=60, deadline=None)
def test_a_streamed_answer_has_the_same_items_as_the_whole_one(pieces: list[str], step: int) -> None:
    text = "".join(pieces)
    grown = Turn(live())
    for start in range(0, len(text), step):
        grown.feed(text[start : start + step], "")
    whole = Message(id="live", parent=None, role="assistant", text=text, finish="stop")
    grown.settle(whole)
    assert [item.key for item in grown.items] == [item.key for item in Turn(whole).items]


def test_growing_touches_only_the_last_items(view: Transcript) -> None:
    view.show_messages([live()])
    view.grow(chats.ANSWER, "")
    paint(view)
    before = list(view.column.turns[0].items)
    made = view._shelf.made
    for _ in range(20):
        view.grow("one more word ", "")
        paint(view)
    after = view.column.turns[0].items
    assert all(a is b for a, b in zip(before[:-1], after, strict=False))
    assert view._shelf.made - made <= 21


def test_streamed_code_is_coloured_as_the_whole_is(view: Transcript) -> None:
    code = 'def f(a: int) -> str:\n    """Two\n    lines."""\n    return "😀" + str(a)  # end\n'
    view.show_messages([live()])
    for letter in "```python\n" + code + "```\n":
        view.grow(letter, "")
    item = view.column.turns[0].items[0]
    whole = Item(Kind.CODE, item.text)
    whole.language = "python"
    assert view._shelf.document(item).toHtml() == view._shelf.document(whole).toHtml()


def test_dragging_selects_over_items_and_copies_what_is_seen(view: Transcript) -> None:
    view.show_messages(list(chats.turn(0)))
    view.verticalScrollBar().setValue(0)
    seen = {s.item.kind: s for s in reversed(list(view.column.seen(0, 600)))}
    rect = view.column.text_rect(seen[Kind.TEXT].item, view._left, seen[Kind.TEXT].top)
    start = QPoint(round(rect.left()) + 60, round(rect.top()) + 8)
    code = view.column.text_rect(seen[Kind.CODE].item, view._left, seen[Kind.CODE].top)
    QTest.mousePress(view.viewport(), Qt.MouseButton.LeftButton, pos=start)
    end = QPointF(code.left() + 1, code.top() + 6)
    view._caret = view._place_at(end)
    first_line = view.selected_text().split("\n")[0]
    assert "GPU with tensor parallelism" in first_line
    assert "**" not in first_line, "a part of a block is copied as it is seen"
    assert "| Weights | 16.4 GiB |" in view.selected_text(), "a whole block is copied as it was written"
    view.keyPressEvent(_key(Qt.Key.Key_C))
    assert QGuiApplication.clipboard().text() == view.selected_text()


def test_everything_selected_is_copied_as_written_without_laying_it_out(view: Transcript) -> None:
    messages = many(200)
    view.show_messages(messages)
    laid_out = view.column.laid_out
    view.keyPressEvent(_key(Qt.Key.Key_A))
    assert view.selected_text() == "\n\n".join(message.text.strip("\n") for message in messages)
    assert view.column.laid_out == laid_out


def test_code_is_copied_whole_though_it_is_in_parts(view: Transcript) -> None:
    code = "".join(f"x{n} = {n}\n" for n in range(150))
    view.show_messages([Message(id="a", parent=None, role="assistant", text=f"```python\n{code}```\n", finish="stop")])
    assert len(view.column.turns[0].items) > 3
    view.copy_code(0, 2)
    assert QGuiApplication.clipboard().text() == code


def test_only_web_pages_are_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(module.QDesktopServices, "openUrl", lambda url: opened.append(url.toString()) or True)
    for address in ("file:///etc/passwd", "javascript:alert(1)", "smb://host/share", "ftp://host/x", "/etc/passwd"):
        assert not module.open_link(address)
    assert module.open_link("https://example.org/")
    assert opened == ["https://example.org/"]


def test_an_answer_reads_no_file_and_asks_no_server(view: Transcript, tmp_path: object) -> None:
    text = "![picture](file:///etc/hostname) ![other](http://127.0.0.1:9/x.png) <img src='file:///etc/hostname'>"
    view.show_messages([Message(id="a", parent=None, role="assistant", text=text, finish="stop")])
    paint(view)
    assert view._shelf.document(view.column.turns[0].items[0]).toPlainText()


def test_the_menu_offers_what_is_there(view: Transcript) -> None:
    view.show_messages(list(chats.turn(0)))
    words = [action.text() for action in view.menu(QPoint(300, 300)).actions() if action.text()]
    assert {"Copy selection", "Copy message", "Regenerate", "Select all"} <= set(words)


def _key(key: Qt.Key):  # type: ignore[no-untyped-def]
    from PySide6.QtCore import QEvent
    from PySide6.QtGui import QKeyEvent

    return QKeyEvent(QEvent.Type.KeyPress, key, Qt.KeyboardModifier.ControlModifier)


def test_what_came_while_the_page_was_hidden_is_there_when_it_is_seen(view: Transcript) -> None:
    view.show_messages([live()])
    view.hide()
    laid_out = view.column.laid_out
    view.grow("Grown in the dark.\n\n" * 50, "")
    assert view.column.laid_out == laid_out, "nobody sees it: it costs no layout"
    view.show()
    assert view.verticalScrollBar().value() == view.verticalScrollBar().maximum() > 0
