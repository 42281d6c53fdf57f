"""The log viewer: a million lines, storms, colours; filter, find, follow, and the way to the telling line (L1, I17)."""

from __future__ import annotations

import re
import threading
from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QGuiApplication, QPixmap
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from app.core.loglines import Level
from app.ui.logs.search import BadPattern, Search, lines_that, matcher
from app.ui.logs.spool import LONGEST_LINE_BYTES, Spool
from app.ui.logs.view import LogView
from app.ui.theme import Theme
from tests.ui.stage import until


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    found = Spool(tmp_path / "logs")
    yield found
    found.close()


@pytest.fixture
def view(qtbot: QtBot, qapp: object) -> LogView:
    found = LogView(Theme("dark"))
    qtbot.addWidget(found)
    found.resize(800, 400)
    found.show()
    return found


def llama(number: int, letter: str = "I") -> bytes:
    return b"0.00.%03d.000 %s srv  line %d\n" % (number % 1000, letter.encode(), number)


@given(st.lists(st.binary(max_size=60)))
def test_any_cut_of_the_bytes_gives_the_same_lines(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes]
) -> None:
    spool = Spool(tmp_path_factory.getbasetemp() / "cuts")
    for piece in pieces:
        spool.append(piece, spool.next_log_offset)
    whole = b"".join(pieces)
    lines = whole.split(b"\n")
    shown = [spool.line(number) for number in range(spool.lines)]
    assert shown == (lines if lines[-1] else lines[:-1])
    spool.close()


def test_a_line_without_end_is_cut_so_that_painting_stays_cheap(spool: Spool) -> None:
    for _ in range(20):
        spool.append(b"\rLoading: 50%" * 5_000, spool.next_log_offset)
    assert spool.lines >= spool.size // LONGEST_LINE_BYTES
    assert max(len(spool.line(number)) for number in range(spool.lines)) <= LONGEST_LINE_BYTES


def test_offsets_of_the_engines_file_find_their_line_even_behind_a_hole(spool: Spool) -> None:
    spool.append(llama(1) + llama(2), 0)
    spool.append(llama(3) + llama(4), 1_000_000)
    assert spool.next_log_offset == 1_000_000 + len(llama(3)) + len(llama(4))
    assert spool.line_at(len(llama(1)) + 3) == 1
    assert spool.line_at(1_000_000) == 2
    assert spool.line_at(1_000_000 + len(llama(3))) == 3
    assert spool.line_at(500_000) is None, "dropped from the front"
    assert spool.line_at(2_000_000) is None, "has not come yet"


def test_levels_are_counted_as_the_lines_come(spool: Spool) -> None:
    spool.append(llama(1) + llama(2, "W") + llama(3, "E") + b"half a li", 0)
    while spool.judge(2):
        pass
    assert (spool.counts[Level.INFO], spool.counts[Level.WARNING], spool.counts[Level.ERROR]) == (1, 1, 1)
    assert spool.judged == 3


def test_a_million_lines_are_shown_followed_and_reached(view: LogView, spool: Spool) -> None:
    piece = b"".join(llama(number) for number in range(10_000))
    for _ in range(100):
        spool.append(piece, spool.next_log_offset)
    view.show_spool(spool)
    assert view.rows == 1_000_000
    assert view.following
    assert view.verticalScrollBar().value() == view.verticalScrollBar().maximum()
    view.show_line(500_000)
    assert not view.following
    assert view.text_of(500_000).endswith("line 0")
    assert not view.grab().isNull()


def test_scrolling_up_stops_following_and_the_end_follows_again(view: LogView, spool: Spool, qtbot: QtBot) -> None:
    spool.append(b"".join(llama(number) for number in range(500)), 0)
    view.show_spool(spool)
    qtbot.keyClick(view, Qt.Key.Key_PageUp)
    assert not view.following
    top = view.verticalScrollBar().value()
    spool.append(llama(500), spool.next_log_offset)
    view.more()
    assert view.verticalScrollBar().value() == top, "what is being read does not move"
    qtbot.keyClick(view, Qt.Key.Key_End)
    assert view.following


def test_what_is_painted_is_what_is_selected_and_copied(view: LogView, spool: Spool, qtbot: QtBot) -> None:
    spool.append(b"plain one\n\x1b[31mred two\x1b[0m\nthree\n", 0)
    view.show_spool(spool)
    assert view.text_of(1) == "red two"
    qtbot.keyClick(view, Qt.Key.Key_A, Qt.KeyboardModifier.ControlModifier)
    qtbot.keyClick(view, Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier)
    assert QGuiApplication.clipboard().text() == "plain one\nred two\nthree"


def test_a_drag_selects_across_lines(view: LogView, spool: Spool, qtbot: QtBot) -> None:
    spool.append(b"abcdef\nghijkl\n", 0)
    view.show_spool(spool)
    height, left, wide = view._height, view._gutter(), view._advance
    qtbot.mousePress(view.viewport(), Qt.MouseButton.LeftButton, pos=QPoint(round(left + 2 * wide), height // 2))
    qtbot.mouseMove(view.viewport(), QPoint(round(left + 3 * wide), height + height // 2))
    place = view._place_at(QPoint(round(left + 3 * wide), height + height // 2))
    view._caret = place
    assert view.selected_text() == "cdef\nghi"


def test_noise_paints_without_a_fault(view: LogView, spool: Spool) -> None:
    spool.append(bytes(range(256)) * 50 + b"\r" * 5_000 + b"\xff\xfe\n" + b"x" * 100_000 + b"\n", 0)
    view.show_spool(spool)
    before = QPixmap(view.grab())
    assert not before.isNull()


def test_filter_and_find_look_at_every_line_in_another_thread(spool: Spool, qtbot: QtBot) -> None:
    spool.append(b"".join(llama(number, "E" if number % 100 == 0 else "I") for number in range(5_000)), 0)
    pattern = matcher("line 4[0-9]{3}$", regex=True, case=False)
    assert pattern is not None
    search = Search()
    with qtbot.waitSignal(search.found, timeout=60_000) as told:
        search.start(spool, lambda _, line: pattern.search(line) is not None, 0, spool.lines)
    numbers = told.args[0]
    assert list(numbers) == list(range(4_000, 5_000))
    assert lines_that(spool, lambda number, _: spool.level(number) is Level.ERROR, 0, 300) == [0, 100, 200]


def test_what_was_found_for_an_earlier_question_is_never_told(spool: Spool, qapp: QApplication) -> None:
    """The answer crosses from thread to thread: a question that was dropped meanwhile must not be answered."""
    spool.append(b"".join(llama(number) for number in range(10)), 0)
    search, told = Search(), []
    search.found.connect(lambda numbers, _: told.append(list(numbers)))
    search.start(spool, lambda number, _: number < 5, 0, spool.lines)
    for thread in threading.enumerate():
        if thread.name == "log search":
            thread.join()
    search.cancel()
    qapp.processEvents()
    assert told == [], "the page has another run, or no filter, by now"
    search.start(spool, lambda number, _: number >= 5, 0, spool.lines)
    until(lambda: told)
    assert told == [[5, 6, 7, 8, 9]]


def test_a_bad_pattern_gives_a_sentence() -> None:
    with pytest.raises(BadPattern, match="not a regular expression"):
        matcher("[", regex=True, case=False)
    found = matcher("[", regex=False, case=False)
    assert found is not None
    assert found.search(b"a[b")


def test_found_lines_are_visited_in_order_and_around(view: LogView, spool: Spool) -> None:
    spool.append(b"".join(llama(number) for number in range(1_000)), 0)
    view.show_spool(spool)
    view.show_line(0)
    view.show_found(array("Q", [10, 500, 900]), re.compile(b"line"))
    assert view.go_found(1) == (1, 3)
    assert view.go_found(1) == (2, 3)
    assert view.go_found(-1) == (1, 3)
    assert view.go_found(-1) == (3, 3)


def test_a_filtered_view_shows_only_its_lines_and_keeps_its_place(view: LogView, spool: Spool) -> None:
    spool.append(b"".join(llama(number) for number in range(1_000)), 0)
    view.show_spool(spool)
    view.show_line(700)
    view.show_only(array("Q", range(0, 1_000, 100)))
    assert view.rows == 10
    view.show_only(None)
    assert view.rows == 1_000


def test_a_growing_log_is_painted_in_slices_and_looks_as_if_painted_at_once(
    view: LogView, spool: Spool, qtbot: QtBot
) -> None:
    view.show_spool(spool)
    for number in range(500):
        spool.append(llama(number, "IWE"[number % 3]) + b"0.00.600.000 I srv  half of a li", spool.next_log_offset)
        view.more()
        spool.append(b"ne, and its end\n", spool.next_log_offset)
    for _ in range(2):  # the first time, a long line may have made room for the lower scroll bar
        view.more()
        qtbot.waitUntil(lambda: not view._slices.isActive(), timeout=60_000)
    assert view._picture is not None
    shown = view.viewport().grab().toImage()
    assert view.verticalScrollBar().value() == view.verticalScrollBar().maximum()
    view.viewport().resize(view.viewport().size())
    view.show_found(array("Q"), None)  # whatever changes what is to be seen drops the picture
    assert view._picture is None
    assert view.viewport().grab().toImage() == shown


def test_a_line_that_was_seen_half_written_is_whole_when_it_is_looked_at_again(view: LogView, spool: Spool) -> None:
    view.show_spool(spool)
    spool.append(b"the first ha", 0)
    assert view.text_of(0) == "the first ha"
    spool.append(b"lf and the second\n" + llama(1) * 3, 12)
    assert view.text_of(0) == "the first half and the second"
