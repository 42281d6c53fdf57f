"""Chunks put together are the answer that the engine would have given in one piece."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.daemon.gateway.assemble import Assembly


def event(*choices: dict[str, object], **head: object) -> bytes:
    return b"data: " + json.dumps({"id": "c", "model": "m", "choices": choices, **head}).encode() + b"\n\n"


def together(*events: bytes, chat: bool = True) -> dict[str, object]:
    assembly = Assembly(chat=chat)
    for one in events:
        assembly.feed(one)
    return json.loads(assembly.answer())


def test_several_choices_and_usage() -> None:
    answer = together(
        event({"index": 1, "delta": {"role": "assistant", "content": "b"}}),
        event({"index": 0, "delta": {"role": "assistant", "content": "a"}}, {"index": 1, "delta": {"content": "B"}}),
        event({"index": 0, "delta": {}, "finish_reason": "stop"}, {"index": 1, "delta": {}, "finish_reason": "length"}),
        event(usage={"completion_tokens": 3}),
        b"data: [DONE]\n\n",
    )
    assert [choice["message"]["content"] for choice in answer["choices"]] == ["a", "bB"]
    assert [choice["finish_reason"] for choice in answer["choices"]] == ["stop", "length"]
    assert answer["usage"] == {"completion_tokens": 3}
    assert answer["object"] == "chat.completion"


def test_tool_calls_grow_by_their_index() -> None:
    def call(index: int, **function: str) -> dict[str, object]:
        first = {"id": f"id{index}", "type": "function"} if "name" in function else {}
        return {"index": 0, "delta": {"tool_calls": [{"index": index, **first, "function": function}]}}

    answer = together(
        event(call(0, name="look", arguments="")),
        event(call(0, arguments='{"a"')),
        event(call(1, name="find", arguments="{}")),
        event(call(0, arguments=":1}")),
        event({"index": 0, "delta": {}, "finish_reason": "tool_calls"}),
    )
    message = answer["choices"][0]["message"]
    assert message["content"] is None
    assert [(one["id"], one["function"]) for one in message["tool_calls"]] == [
        ("id0", {"name": "look", "arguments": '{"a":1}'}),
        ("id1", {"name": "find", "arguments": "{}"}),
    ]


def test_plain_completions() -> None:
    answer = together(
        event({"index": 0, "text": "Hel", "logprobs": {"tokens": ["Hel"]}}),
        event({"index": 0, "text": "lo", "logprobs": {"tokens": ["lo"]}, "finish_reason": "stop"}),
        chat=False,
    )
    assert answer["object"] == "text_completion"
    assert answer["choices"] == [
        {"index": 0, "text": "Hello", "logprobs": {"tokens": ["Hel", "lo"]}, "finish_reason": "stop"}
    ]


@given(st.text(max_size=40), st.data())
def test_any_text_in_any_pieces(text: str, data: st.DataObject) -> None:
    raw = b"".join(event({"index": 0, "delta": {"content": letter}}) for letter in text)
    cut = data.draw(st.integers(0, len(raw)))
    assembly = Assembly(chat=True)
    assembly.feed(raw[:cut])
    assembly.feed(raw[cut:])
    choices = json.loads(assembly.answer())["choices"]
    assert "".join(choice["message"]["content"] for choice in choices) == text


@pytest.mark.parametrize("bad", [b"data: [1]\n\n", b"data: {\n\n", b'data: {"choices":[1]}\n\n'])
def test_what_is_no_chunk_is_an_error(bad: bytes) -> None:
    with pytest.raises((ValueError, AttributeError)):
        Assembly(chat=True).feed(bad)
