"""How a streamed answer folds into a message, and what the next request says (H1, H2, H3)."""

from __future__ import annotations

import json

from app.core.conversation import Answer, Message, request_body, thread
from app.core.profiles import Sampling


def event(**value: object) -> str:
    return json.dumps(value)


def delta(text: str = "", finish: str | None = None, **more: str) -> str:
    return event(choices=[{"index": 0, "delta": {"content": text, **more}, "finish_reason": finish}])


def answer() -> Answer:
    return Answer(Message(id="a", parent="q", role="assistant", text=""), asked_at=10.0)


def test_an_answer_grows_with_each_event_and_ends_with_its_reason() -> None:
    folding = answer()
    assert folding.feed(delta(), 10.1) == ("", "")
    assert folding.feed(delta("The KV "), 10.2) == ("The KV ", "")
    folding.feed(delta("cache."), 10.4)
    folding.feed(delta("", "stop"), 10.4)
    folding.feed("[DONE]", 10.4)
    message = folding.finished()
    assert (message.text, message.finish) == ("The KV cache.", "stop")
    assert round(message.figures.first_token_seconds or 0, 3) == 0.2


def test_the_engines_own_numbers_are_preferred() -> None:
    folding = answer()
    folding.feed(delta("x"), 11.0)
    folding.feed(
        event(choices=[], usage={"prompt_tokens": 7, "completion_tokens": 40}, timings={"predicted_per_second": 99.5}),
        12.0,
    )
    figures = folding.finished().figures
    assert (figures.prompt_tokens, figures.completion_tokens, figures.tokens_per_second) == (7, 40, 99.5)


def test_reasoning_is_kept_apart() -> None:
    folding = answer()
    assert folding.feed(delta("", None, reasoning_content="Let me think."), 11.0) == ("", "Let me think.")
    folding.feed(delta("Yes."), 11.5)
    message = folding.message()
    assert (message.reasoning, message.text) == ("Let me think.", "Yes.")


def test_a_stream_without_an_end_is_told_as_cut() -> None:
    folding = answer()
    folding.feed(delta("half of"), 11.0)
    assert not folding.is_over
    message = folding.finished()
    assert (message.text, message.finish) == ("half of", "cut")


def test_an_error_event_keeps_what_came_before_it() -> None:
    folding = answer()
    folding.feed(delta("half of"), 11.0)
    folding.feed(event(error={"message": "The model was unloaded.", "type": "unavailable"}), 11.1)
    message = folding.finished()
    assert (message.text, message.finish, message.error) == ("half of", "failed", "The model was unloaded.")


def test_a_person_who_stops_keeps_the_part() -> None:
    folding = answer()
    folding.feed(delta("half"), 11.0)
    assert folding.finished(stopped=True).finish == "stopped"


def test_garbage_in_a_stream_is_passed_over() -> None:
    folding = answer()
    for data in ("not json", "[]", "7", "null", "{}"):
        assert folding.feed(data, 11.0) == ("", "")


def test_a_request_carries_the_thread_the_system_prompt_and_the_chosen_sampling() -> None:
    question = Message(id="q", parent=None, role="user", text="Hi")
    empty = Message(id="e", parent="q", role="assistant", text="", finish="failed")
    body = request_body([question, empty], model="demo", system_prompt="Be short.", sampling=Sampling(temperature=0.0))
    assert [turn["content"] for turn in body["messages"]] == ["Be short.", "Hi"]
    assert body["temperature"] == 0.0
    assert "top_p" not in body
    assert body["stream_options"] == {"include_usage": True}


def test_a_regenerated_answer_is_a_sibling_and_nothing_is_lost() -> None:
    turns = [
        Message(id="q", parent=None, role="user", text="Hi"),
        Message(id="a1", parent="q", role="assistant", text="First."),
        Message(id="a2", parent="q", role="assistant", text="Second."),
    ]
    assert [turn.id for turn in thread(turns, "a2")] == ["q", "a2"]
    assert [turn.id for turn in thread(turns, "a1")] == ["q", "a1"]
    assert thread(turns, None) == ()
