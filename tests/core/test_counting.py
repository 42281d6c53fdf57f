"""Tokens are counted as bytes pass, with the engine's own figures preferred, for each form of answer."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.counting import LINE_LIMIT_BYTES, Counts, StreamCounter, whole_answer


def chunk(spaces: bool = False, **delta: object) -> bytes:
    value = {"choices": [{"delta": delta, "finish_reason": None}]}
    return b"data: " + json.dumps(value, separators=None if spaces else (",", ":")).encode() + b"\n\n"


ROLE = chunk(role="assistant", content=None)
END = b'data: {"choices":[{"delta":{},"finish_reason":"length"}],"usage":{"prompt_tokens":9,"completion_tokens":4}}\n\n'
DONE = b"data: [DONE]\n\n"


@pytest.mark.parametrize("spaces", [False, True])
@pytest.mark.parametrize("name", ["content", "reasoning_content"])
def test_content_counts_and_the_role_does_not(spaces: bool, name: str) -> None:
    counter = StreamCounter()
    assert counter.feed(ROLE) == 0
    assert counter.feed(chunk(spaces, **{name: ""})) == 0
    assert counter.feed(chunk(spaces, **{name: "a"})) == 1
    assert counter.feed(chunk(spaces, **{name: '"content":"b'})) == 1  # said by the model, not by the format
    assert not counter.complete
    assert counter.counts() == Counts(completion_tokens=2)


def test_the_engines_figures_win() -> None:
    counter = StreamCounter()
    counter.feed(ROLE + chunk(content="a") + END + DONE)
    assert counter.ended
    assert counter.counts() == Counts(prompt_tokens=9, completion_tokens=4, finish_reason="length")


def test_llama_servers_timings() -> None:
    counter = StreamCounter()
    counter.feed(
        b'data: {"choices":[],"timings":{"cache_n":5,"prompt_n":2,"prompt_per_second":80.0,'
        b'"predicted_n":7,"predicted_per_second":40.5}}\n\n'
    )
    assert counter.counts() == Counts(
        prompt_tokens=7, completion_tokens=7, prompt_tokens_per_second=80.0, tokens_per_second=40.5
    )


def test_messages_and_responses_tell_their_end_in_their_own_way() -> None:
    messages = StreamCounter()
    messages.feed(
        b'event: message_start\ndata: {"type":"message_start","message":{"usage":{"input_tokens":12,"output_tokens":1}}}\n\n'
        b'data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"Hi"}}\n\n'
        b'data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":3}}\n\n'
        b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
    )
    assert messages.ended
    assert messages.counts() == Counts(prompt_tokens=12, completion_tokens=3, finish_reason="end_turn")
    responses = StreamCounter()
    responses.feed(b'data: {"type":"response.output_text.delta","delta":"Hi"}\n\n')
    assert not responses.complete
    responses.feed(b'data: {"type":"response.completed","response":{"usage":{"input_tokens":2,"output_tokens":1}}}\n\n')
    assert responses.ended
    assert responses.counts() == Counts(prompt_tokens=2, completion_tokens=1)


def test_a_model_that_writes_the_end_mark_does_not_end_the_stream() -> None:
    counter = StreamCounter()
    counter.feed(chunk(content="\ndata: [DONE]\n\n event: message_stop") + chunk(content='{"error":1}'))
    assert not counter.complete


def test_an_engines_error_event_is_an_end() -> None:
    counter = StreamCounter()
    counter.feed(b'data: {"error":{"message":"boom"}}\n\n')
    assert counter.failed
    assert counter.complete


@given(st.lists(st.integers(0, 600), max_size=20))
def test_pieces_make_no_difference(cuts: list[int]) -> None:
    raw = ROLE + b"".join(chunk(content=text) for text in "abcä") + END + DONE
    counter, at, found = StreamCounter(), 0, 0
    for cut in [*sorted(cuts), len(raw)]:
        found += counter.feed(raw[at:cut])
        at = max(at, cut)
    assert found == 4
    assert counter.ended
    assert counter.counts() == Counts(prompt_tokens=9, completion_tokens=4, finish_reason="length")


def test_an_overlong_line_passes_uncounted_and_unkept() -> None:
    """I16: a 50 MB event costs no memory here, and what follows it is counted again."""
    counter = StreamCounter()
    counter.feed(b'data: {"a":"')
    for _ in range(50):
        counter.feed(b"x" * LINE_LIMIT_BYTES)
        assert len(counter._tail) <= LINE_LIMIT_BYTES
    assert counter.feed(b'"}\n\n' + chunk(content="a") + DONE) == 1
    assert counter.ended


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"null", b'{"usage":1}', b'{"usage":{"prompt_tokens":-1}}', b'{"usage":{"prompt_tokens":tr', b"\xff"],
)
def test_nothing_that_an_engine_may_say_stops_the_counting(body: bytes) -> None:
    assert whole_answer(body) == Counts()
    counter = StreamCounter()
    counter.feed(b"data: " + body + b"\n\n")
    assert counter.counts() == Counts()


def test_an_answer_in_one_piece() -> None:
    body = b'{"choices":[{"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}'
    assert whole_answer(body) == Counts(prompt_tokens=3, completion_tokens=1, finish_reason="stop")


def test_an_answer_that_the_engine_gave_up_has_failed_though_it_says_done() -> None:
    counter = StreamCounter()
    counter.feed(b'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"abort"}]}\n\ndata: [DONE]\n\n')
    assert counter.complete
    assert counter.failed
