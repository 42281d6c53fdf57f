"""Holds the demo model to what it promises: right answers to unseen questions, honest limits, well-formed Markdown."""

from __future__ import annotations

import json
import re
import sys
import urllib.request
from typing import Any

import pytest

from tests.demo.questions import CONTEXT, KNOWN, MODEL, ROOT, STRANGERS, Ask, Message

DECLINES = re.compile(r"^I am only a tiny demo model")


def plain(text: str) -> str:
    """Words only: case, spaces and punctuation do not make a question new."""
    return " ".join(re.findall(r"\w+", text.casefold()))


def code_blocks(text: str) -> list[tuple[str, str]]:
    return re.findall(r"^```(\w+)\n(.*?)\n```$", text, re.DOTALL | re.MULTILINE)


def is_list(text: str) -> bool:
    return len(re.findall(r"^(?:- |\d+\. )\S", text, re.MULTILINE)) >= 2


def is_table(text: str) -> bool:
    rows = re.findall(r"^\|.*\|$", text, re.MULTILINE)
    return len(rows) >= 3 and set(rows[1]) <= set("|-: ") and len({row.count("|") for row in rows}) == 1


FORMS = {"list": is_list, "code": lambda text: bool(code_blocks(text)), "table": is_table}


@pytest.fixture(scope="module")
def trained_on() -> set[str]:
    """Every question of the training text, from the same generator and seeds; takes half a minute and no torch."""
    sys.path.insert(0, str(ROOT / "packaging" / "demo_model"))
    try:
        from plan import training_questions

        return {plain(question) for question in training_questions()}
    finally:
        sys.path.pop(0)


def test_there_are_enough_questions() -> None:
    assert len(KNOWN) >= 40
    assert len(STRANGERS) >= 30
    asked = [plain(row["ask"]) for row in KNOWN] + [plain(ask) for ask in STRANGERS]
    assert len(set(asked)) == len(asked)


@pytest.mark.slow
def test_no_question_is_in_the_training_text(trained_on: set[str]) -> None:
    assert len(trained_on) > 50_000
    assert "who are you" in trained_on, "the training text was not generated as expected"
    asked = [row["ask"] for row in KNOWN] + STRANGERS
    assert [ask for ask in asked if plain(ask) in trained_on] == []


def is_right(row: dict[str, str], text: str) -> bool:
    """The meaning that was asked for, in the form that was asked for, and not declined."""
    form = row.get("form")
    meant = re.search(row["expect"], text, re.IGNORECASE | re.DOTALL) is not None
    return meant and not DECLINES.search(text) and (form is None or FORMS[form](text))


def test_unseen_questions_are_answered_rightly(ask: Ask) -> None:
    """Nine of ten, and never fewer than forty: a model of three megabytes takes some questions for a neighbour's.

    What it takes wrongly it answers with a whole, true sentence about something else; and it always comes to an end.
    """
    replies = [(row, ask(row["ask"])) for row in KNOWN]
    wrong = [f"{row['ask']} → {reply.text}" for row, reply in replies if not is_right(row, reply.text)]
    assert [row["ask"] for row, reply in replies if reply.finish_reason != "stop"] == []
    assert len(replies) - len(wrong) >= max(40, 0.9 * len(replies)), "\n".join(wrong)


def test_strangers_are_declined_politely(ask: Ask) -> None:
    """Nine of ten of all that it does not know: sums, news, translations, nonsense."""
    replies = [(question, ask(question)) for question in STRANGERS]
    taken = [f"{question} → {reply.text}" for question, reply in replies if not DECLINES.search(reply.text)]
    assert [question for question, reply in replies if reply.finish_reason != "stop"] == []
    assert all("larger model" in reply.text for _, reply in replies if DECLINES.search(reply.text))
    assert len(taken) <= 0.1 * len(replies), "\n".join(taken)


@pytest.mark.parametrize(
    "question", ["Who am I chatting with here?", "Are you a real model or just a toy?", "Say, what kind of AI are you?"]
)
def test_it_says_honestly_what_it_is(ask: Ask, question: str) -> None:
    text = ask(question).text
    assert "tiny demo model" in text, text
    assert "to show the app" in text, text


def test_python_example_is_valid_python(ask: Ask) -> None:
    ((language, code),) = code_blocks(ask("Mind showing me Python for calling this endpoint?").text)
    assert language == "python"
    compile(code, "example", "exec")
    assert "http://127.0.0.1:7000/v1" in code


def test_curl_example_has_a_valid_body(ask: Ask) -> None:
    ((language, code),) = code_blocks(ask("How might I query the API using curl?").text)
    assert language == "bash"
    assert "http://127.0.0.1:7000/v1/chat/completions" in code
    body = re.search(r"-d '(.*)'", code, re.DOTALL)
    assert body
    assert json.loads(body.group(1))["messages"][0]["role"] == "user"


def _talk(ask: Ask, *questions: str) -> list[str]:
    """Ask one after the other in one chat."""
    before: list[Message] = []
    answers = []
    for question in questions:
        reply = ask(question, before=tuple(before))
        assert reply.finish_reason == "stop"
        before += [{"role": "user", "content": question}, {"role": "assistant", "content": reply.text}]
        answers.append(reply.text)
    return answers


def test_it_does_not_pretend_to_remember_a_name(ask: Ask) -> None:
    """It would copy names wrongly, so it says that it keeps none."""
    answers = _talk(ask, "Hello, my name is Lena.", "What does the KV cache hold?", "And what was my name?")
    assert "Nice to meet you" in answers[0]
    assert "keys and values" in answers[1]
    assert "do not keep names" in answers[2]


def test_follow_up_refers_to_the_question_before(ask: Ask) -> None:
    first, second, third = _talk(ask, "How much VRAM would I need for a 7B at Q4?", "And for a 70B?", "And at Q8?")
    assert "7B" in first
    assert "4.2 GB" in first
    assert "70B" in second
    assert "42 GB" in second
    assert "70B" in third
    assert "74 GB" in third


def test_it_can_say_more(ask: Ask) -> None:
    first, more = _talk(ask, "What is flash attention?", "Could you tell me a bit more?")
    assert more != first
    assert re.search("KV cache|auto", more), more


def test_a_long_chat_stays_sane(ask: Ask) -> None:
    """Known and unknown questions in turn, until the chat is several times longer than most training rows."""
    known = KNOWN[::6]
    questions = [
        question for pair in zip((row["ask"] for row in known), STRANGERS[::2], strict=False) for question in pair
    ]
    answers = _talk(ask, *questions)
    right = sum(
        bool(re.search(row["expect"], text, re.IGNORECASE | re.DOTALL))
        for row, text in zip(known, answers[::2], strict=False)
    )
    declined = sum(bool(DECLINES.search(text)) for text in answers[1::2])
    assert len(questions) >= 24
    assert right + declined >= 0.9 * len(questions), answers


@pytest.mark.parametrize(
    "prompt", ["You are a helpful assistant.", "You are a pirate. Talk like one.", "Reply in one sentence."]
)
def test_a_system_prompt_does_not_confuse_it(ask: Ask, prompt: str) -> None:
    system: tuple[Message, ...] = ({"role": "system", "content": prompt},)
    assert "keys and values" in ask("What does KV cache mean?", before=system).text
    assert DECLINES.search(ask("What is the capital of Peru?", before=system).text)


def test_usual_sampling_keeps_it_on_track(ask: Ask) -> None:
    """At temperature 0.8, over three seeds: four of five."""
    asked = [(row, ask(row["ask"], temperature=0.8, seed=seed)) for seed in (1, 2, 3) for row in KNOWN[seed::5]]
    assert all(reply.finish_reason == "stop" for _, reply in asked)
    wrong = [f"{row['ask']} → {reply.text}" for row, reply in asked if not is_right(row, reply.text)]
    assert len(wrong) <= 0.2 * len(asked), "\n".join(wrong)


def test_a_story_is_long_enough_to_watch(demo_server: str) -> None:
    body = {
        "messages": [{"role": "user", "content": "Tell me a little story about a GPU, please"}],
        "temperature": 0,
        "stream": True,
    }
    request = urllib.request.Request(
        f"{demo_server}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=180) as reply:
        events = [line[6:].strip() for line in reply.read().decode().splitlines() if line.startswith("data: ")]
    assert events.pop() == "[DONE]"
    chunks: list[dict[str, Any]] = [json.loads(event) for event in events]
    pieces = [chunk["choices"][0]["delta"].get("content") for chunk in chunks if chunk["choices"]]
    assert len([piece for piece in pieces if piece]) >= 100
    assert [c["choices"][0]["finish_reason"] for c in chunks if c["choices"] and c["choices"][0]["finish_reason"]] == [
        "stop"
    ]


def test_the_file_is_small_and_says_what_it_is(demo_server: str) -> None:
    assert 2_000_000 <= MODEL.stat().st_size <= 5_000_000
    head = MODEL.read_bytes()[:4096]
    assert head.startswith(b"GGUF")
    assert b"Engine Room Demo" in head
    with urllib.request.urlopen(f"{demo_server}/props", timeout=60) as reply:
        props = json.load(reply)
    assert "<|im_start|>" in props["chat_template"]
    assert props["default_generation_settings"]["n_ctx"] == CONTEXT
    with urllib.request.urlopen(f"{demo_server}/v1/models", timeout=60) as reply:
        meta = json.load(reply)["data"][0]["meta"]
    assert meta["n_ctx_train"] == CONTEXT
