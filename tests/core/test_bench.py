"""What a bench asks and what it tells, worked out by hand."""

from __future__ import annotations

import pytest

from app.core.bench import Round, medians, prompt_of, round_of, sizes_for, words_for
from app.core.counting import Counts


def test_prompt_and_answer_fit_a_small_context_too() -> None:
    assert (sizes_for(None).prompt_tokens, sizes_for(None).answer_tokens) == (512, 128)
    assert (sizes_for(32_768).prompt_tokens, sizes_for(32_768).answer_tokens) == (512, 128)
    small = sizes_for(256)
    assert (small.prompt_tokens, small.answer_tokens) == (128, 64)
    for context in range(32, 3_000):
        sizes = sizes_for(context)
        assert sizes.prompt_tokens + sizes.answer_tokens <= context


def test_words_are_as_many_as_the_model_s_own_tokens_say() -> None:
    assert words_for(512, 80) == 256, "two tokens a word"
    assert words_for(512, None) == 365
    assert words_for(1, 4_000) == 1


def test_no_two_prompts_begin_alike_and_each_is_known() -> None:
    first, second = prompt_of(50, 1), prompt_of(50, 2)
    assert first == prompt_of(50, 1)
    assert first.split()[:4] != second.split()[:4], "a kept prompt would be no prompt to read"
    assert len(first.split()) == 50


def test_an_answer_s_rates_are_those_of_its_own_parts() -> None:
    counts = Counts(prompt_tokens=500, completion_tokens=101)
    one = round_of(counts, 99, first_token_seconds=0.5, last_token_seconds=2.5)
    assert one.prompt_tokens_per_second == 1000
    assert one.tokens_per_second == 50, "the first token belongs to the reading"
    silent = round_of(Counts(), 11, 0.5, 1.5)
    assert (silent.prompt_tokens_per_second, silent.answer_tokens, silent.tokens_per_second) == (None, 11, 10)
    single = round_of(Counts(prompt_tokens=4, completion_tokens=1), 1, 0.5, 0.5)
    assert single.tokens_per_second is None, "one token has no rate"


def test_medians_are_over_what_is_known() -> None:
    rounds = [
        Round(first_token_seconds=seconds, tokens_per_second=rate, answer_tokens=8)
        for seconds, rate in ((0.3, 10.0), (0.1, None), (0.2, 30.0))
    ]
    found = medians(rounds)
    assert found == {
        "first_token_seconds": pytest.approx(0.2),
        "prompt_tokens": None,
        "answer_tokens": 8,
        "prompt_tokens_per_second": None,
        "tokens_per_second": 20.0,
    }
