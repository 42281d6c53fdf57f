"""Defines a short bench of the loaded model: what is asked, what one answer tells, and what a person is shown of all."""

from __future__ import annotations

import random
from collections.abc import Sequence
from statistics import median

import msgspec

from app.core.conversation import MadeBy
from app.core.counting import Counts

ROUNDS = 3
PROMPT_TOKENS = 512
ANSWER_TOKENS = 128
SAMPLE_WORDS = 40  # asked first: an answer warms everything up, and tells how many tokens a word takes
SAMPLE_ANSWER_TOKENS = 8
PROMPT_SHARE = 0.5  # of the context at most, and half of that for the answer
TOKENS_PER_WORD = 1.4  # where an engine does not tell
_WORDS = [
    "the",
    "river",
    "ran",
    "past",
    "a",
    "quiet",
    "mill",
    "and",
    "every",
    "stone",
    "in",
    "it",
    "knew",
    "which",
    "way",
    "was",
    "down",
    "while",
    "above",
    "the",
    "road",
    "a",
    "lamp",
    "burned",
    "late",
    "for",
    "someone",
    "who",
    "would",
    "come",
    "home",
    "with",
    "news",
    "of",
    "rain",
    "markets",
    "ships",
    "and",
    "a",
    "small",
    "brown",
    "dog",
]


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """What one answer took. Rates are None where there is nothing to divide."""

    first_token_seconds: float
    prompt_tokens: int | None = None
    answer_tokens: int | None = None
    prompt_tokens_per_second: float | None = None
    tokens_per_second: float | None = None


class Bench(msgspec.Struct, frozen=True, kw_only=True):
    """One bench. The figures are medians over `rounds`; `run_id` names the manifest, `made_by` outlives it.

    Prompt tokens per second = prompt tokens / time to the first token, as a client sees it; generation = tokens after the
    first / the time from the first to the last. The same for every engine, through the endpoint, one request at a time.
    """

    id: str
    at_unix: float
    run_id: str
    profile_id: str
    title: str
    engine: str
    engine_build: str = ""
    prompt_tokens: int | None = None
    answer_tokens: int | None = None
    first_token_seconds: float | None = None
    prompt_tokens_per_second: float | None = None
    tokens_per_second: float | None = None
    rounds: tuple[Round, ...] = ()
    shared: bool = False  # others were answered meanwhile, so it could have been faster
    made_by: MadeBy | None = None


class Benches(msgspec.Struct, frozen=True, kw_only=True):
    benches: tuple[Bench, ...] = ()  # newest first


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    prompt_tokens: int
    answer_tokens: int


def sizes_for(context_tokens: int | None) -> Sizes:
    """How long prompt and answer are, so that both fit a small context too."""
    if context_tokens is None:
        return Sizes(prompt_tokens=PROMPT_TOKENS, answer_tokens=ANSWER_TOKENS)
    prompt = max(16, min(PROMPT_TOKENS, int(context_tokens * PROMPT_SHARE)))
    return Sizes(prompt_tokens=prompt, answer_tokens=max(8, min(ANSWER_TOKENS, prompt // 2)))


def words_for(tokens: int, sampled_tokens: int | None) -> int:
    """How many words make about so many tokens, when SAMPLE_WORDS of them made `sampled_tokens` (with the template's own)."""
    per_word = sampled_tokens / SAMPLE_WORDS if sampled_tokens else TOKENS_PER_WORD
    return max(1, int(tokens / per_word))


def prompt_of(words: int, number: int) -> str:
    """So many words, other ones for each number from the first on: nothing of it can be in a prompt cache."""
    chosen = random.Random(number)
    return " ".join(chosen.choice(_WORDS) for _ in range(words))


def round_of(counts: Counts, pieces: int, first_token_seconds: float, last_token_seconds: float) -> Round:
    """One answer's figures. `pieces`: of content, counted where the engine gives no number of tokens."""
    answered = counts.completion_tokens if counts.completion_tokens is not None else pieces or None
    writing = last_token_seconds - first_token_seconds
    return Round(
        first_token_seconds=first_token_seconds,
        prompt_tokens=counts.prompt_tokens,
        answer_tokens=answered,
        prompt_tokens_per_second=_rate(counts.prompt_tokens, first_token_seconds),
        tokens_per_second=_rate(answered - 1 if answered else None, writing),
    )


def _rate(count: int | None, seconds: float) -> float | None:
    return count / seconds if count and seconds > 0 else None


def medians(rounds: Sequence[Round]) -> dict[str, float | int | None]:
    """The median of each figure over those rounds that have it, by the names that `Bench` has for them."""
    found: dict[str, float | int | None] = {}
    for name in Round.__struct_fields__:
        values = [value for one in rounds if (value := getattr(one, name)) is not None]
        middle = median(values) if values else None
        found[name] = int(middle) if middle is not None and name in ("prompt_tokens", "answer_tokens") else middle
    return found
