"""Decides one training run: seeds, steps and rates, and with them exactly which chats the model sees; needs no torch."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import corpus

Chats = Iterator[list[tuple[str, str]]]


@dataclass(frozen=True)
class Plan:
    """One round of training; every round starts with a fresh optimiser on the weights of the round before."""

    seed: int
    steps: int
    decay_share: float
    long_share: float
    question_weight: float
    lesson: int = 1
    first_turns: tuple[int, int] = (1, 1)
    chat_turns: tuple[int, int] = (6, 9)
    warm_up: int = 30
    chat_rows: int = 8
    chat_tokens: int = 256
    first_rows: int = 64
    first_answer: int = 14
    first_tokens: int = 96
    long_rows: int = 2
    matrix_rate: float = 0.02
    vector_rate: float = 3e-3

    @property
    def long_from(self) -> int:
        """The step from which whole contexts take the place of short chats."""
        return self.steps - int(self.steps * self.long_share)

    def chats(self) -> Chats:
        return itertools.islice(
            corpus.chats(self.seed + 1, self.chat_turns, self.lesson), self.long_from * self.chat_rows
        )

    def firsts(self) -> Chats:
        return itertools.islice(
            corpus.chats(self.seed + 2, self.first_turns, self.lesson), self.steps * self.first_rows
        )

    def longs(self) -> Chats:
        return itertools.islice(
            corpus.chats(self.seed + 3, (40, 60), self.lesson), (self.steps - self.long_from) * self.long_rows
        )


_FOLLOW_UPS = Plan(
    seed=307,
    steps=420,
    decay_share=0.9,
    long_share=0.08,
    question_weight=0.0,
    lesson=3,
    first_turns=(1, 2),
    first_tokens=160,
    chat_turns=(22, 30),
    chat_rows=2,
    chat_tokens=1024,
    first_rows=96,
    first_answer=12,
    matrix_rate=0.014,
    vector_rate=1.5e-3,
)

# The first round also learns to predict questions, at a tenth of the weight; the second only answers; the third widens
# the wording and learns longer chats from the start; the fourth practises follow-up questions; the fifth everyday words.
ROUNDS = (
    Plan(seed=7, steps=300, decay_share=0.0, long_share=0.0, question_weight=0.1),
    Plan(seed=107, steps=500, decay_share=0.8, long_share=0.1, question_weight=0.0),
    Plan(
        seed=207,
        steps=520,
        decay_share=0.85,
        long_share=0.1,
        question_weight=0.0,
        lesson=2,
        chat_turns=(22, 30),
        chat_rows=2,
        chat_tokens=1024,
        first_rows=104,
        first_answer=12,
        matrix_rate=0.015,
        vector_rate=2e-3,
    ),
    _FOLLOW_UPS,
    replace(
        _FOLLOW_UPS,
        seed=407,
        steps=260,
        decay_share=0.95,
        long_share=0.06,
        lesson=4,
        matrix_rate=0.012,
        vector_rate=1.2e-3,
    ),
)


def tokenizer_text() -> Chats:
    return itertools.islice(corpus.chats(7, (1, 3)), 20_000)


def training_questions() -> Iterator[str]:
    """Every question that training or the tokenizer ever sees."""
    streams = [tokenizer_text(), *(stream for plan in ROUNDS for stream in (plan.chats(), plan.firsts(), plan.longs()))]
    for chat in itertools.chain(*streams):
        for role, text in chat:
            if role == "user":
                yield text
