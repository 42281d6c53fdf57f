"""The event-stream parser follows the standard whatever the pieces in which the bytes arrive."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.sse import Event, EventTooLong, Parser

STREAM = "\ufeff: hello\nid: 7\nevent: token\ndata: ä\ndata:b\r\n\r\ndata\n\nretry: 5\rdata: [DONE]\r\r".encode()
EVENTS = [
    Event(data="ä\nb", event="token", id="7"),
    Event(data="", id="7"),
    Event(data="[DONE]", id="7"),
]


def test_the_standards_own_forms() -> None:
    assert Parser().feed(STREAM) == EVENTS


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_pieces_make_no_difference(cuts: list[int]) -> None:
    parser, events, at = Parser(), [], 0
    for cut in [*sorted(cuts), len(STREAM)]:
        events += parser.feed(STREAM[at:cut])
        at = cut
    assert events == EVENTS


def test_a_line_end_that_is_cut_in_two_is_one_line_end() -> None:
    raw = b"data: a\r\ndata: b\r\n\r\ndata: c\r\n\r\n"
    for cut in range(len(raw) + 1):
        parser = Parser()
        assert [event.data for event in parser.feed(raw[:cut]) + parser.feed(raw[cut:])] == ["a\nb", "c"]


LINE = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), max_size=20)


@given(st.lists(st.lists(LINE, min_size=1, max_size=4), max_size=8), st.sampled_from(["\n", "\r\n", "\r"]), st.data())
def test_what_was_written_is_what_is_read(messages: list[list[str]], newline: str, data: st.DataObject) -> None:
    raw = "".join("".join(f"data: {line}{newline}" for line in lines) + newline for lines in messages).encode()
    cut = data.draw(st.integers(0, len(raw)))
    parser = Parser()
    events = parser.feed(raw[:cut]) + parser.feed(raw[cut:])
    assert [event.data for event in events] == ["\n".join(lines) for lines in messages]
    assert not parser.unfinished


def test_an_event_that_is_not_closed_is_not_given_out() -> None:
    parser = Parser()
    assert parser.feed(b"data: half\n") == []
    assert parser.unfinished
    assert parser.feed(b"\n") == [Event(data="half")]


def test_bytes_that_are_not_utf8_stop_nothing() -> None:
    assert Parser().feed(b"data: \xff\n\n") == [Event(data="\ufffd")]


@pytest.mark.parametrize("piece", [b"data: xxxxxxxxxx", b"data: xxxxxxxx\n"])
def test_an_endless_event_is_an_error_and_not_an_endless_buffer(piece: bytes) -> None:
    """I16."""
    parser = Parser(limit_bytes=1000)

    def feed_on() -> None:
        for _ in range(1000):
            parser.feed(piece)

    with pytest.raises(EventTooLong):
        feed_on()


def test_many_short_events_never_reach_the_limit() -> None:
    parser = Parser(limit_bytes=100)
    for _ in range(1000):
        assert len(parser.feed(b"data: xxxx\n\n: keep\n")) == 1
