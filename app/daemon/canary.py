"""Decides whether a new engine build may take an old one's place: the same questions to both, one after the other."""

from __future__ import annotations

import asyncio
import secrets
import statistics
import time

import msgspec
from msgspec.structs import replace

from app.core.control import CanaryResult
from app.core.errors import EngineRoomError
from app.core.lifecycle import Endpoint
from app.daemon.preparing import free_port
from app.daemon.trial import Answer, ask_once, with_engine
from app.daemon.work import Work
from app.engines.base import Launch

START_SECONDS = 900.0  # a large model from a slow disk
TOKENS = 128
TRIES = 3  # the best counts: what else the machine does can only make an answer slower
QUESTIONS = (
    "hi there",
    "What is the KV cache?",
    "How do I stop the engine?",
    "Write three sentences about a cat that finds a lamp.",
)
SAME_SPEED = 0.05  # less difference than this is noise


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What one build did; `problem` when it could not do it."""

    first_token_seconds: float | None = None
    tokens_per_second: float | None = None
    answers: tuple[str, ...] = ()
    problem: str = ""


def canary(new: Launch, old: Launch | None, work: Work) -> CanaryResult:
    """Runs both, never at once, and compares; a build that fails is a result, not an error."""
    with work.part(0.0, 0.5 if old else 1.0):
        of_new = _measure(new, work)
    of_old = None
    if old is not None:
        with work.part(0.5, 1.0):
            of_old = _measure(old, work)
    return compared(new, of_new, old, of_old)


def _measure(launch: Launch, work: Work) -> Measured:
    name = launch.installation.id
    work.say(f"Loading {launch.profile.title} with {name} …", kept=True)

    ready = replace(launch, port=free_port(), run_id=f"canary-{time.monotonic_ns()}", api_key=secrets.token_hex(16))

    async def questions(endpoint: Endpoint) -> list[Answer]:
        await ask_once(endpoint, ready, QUESTIONS[0], TOKENS)  # a first answer is never typical
        best = []
        for number, question in enumerate(QUESTIONS, 1):
            work.say(f"Question {number} of {len(QUESTIONS)} to {name}", progress=number / (len(QUESTIONS) + 1))
            tries = [await ask_once(endpoint, ready, question, TOKENS) for _ in range(TRIES)]
            best.append(max(tries, key=lambda answer: answer.tokens_per_second))
        return best

    try:
        answers = asyncio.run(with_engine(ready, questions, name, work, START_SECONDS))
    except EngineRoomError as error:
        work.note(str(error))
        return Measured(problem=error.summary)
    return Measured(
        first_token_seconds=statistics.median(answer.first_token_seconds for answer in answers),
        tokens_per_second=statistics.median(answer.tokens_per_second for answer in answers),
        answers=tuple(answer.text for answer in answers),
    )


def compared(new: Launch, of_new: Measured, old: Launch | None, of_old: Measured | None) -> CanaryResult:
    beside = of_old or Measured()
    both = bool(of_new.answers and beside.answers)
    return CanaryResult(
        installation=new.installation.id,
        against=old.installation.id if old is not None else "",
        profile=new.profile.id,
        first_token_seconds=(of_new.first_token_seconds, beside.first_token_seconds),
        tokens_per_second=(of_new.tokens_per_second, beside.tokens_per_second),
        same_answer=of_new.answers == beside.answers if both else None,
        verdict=verdict(new, of_new, old, of_old),
    )


def verdict(new: Launch, of_new: Measured, old: Launch | None, of_old: Measured | None) -> str:
    """What a person should know before pinning the new one, and how."""
    name, family = new.installation.id, new.profile.engine
    stay = f" Stay with {old.installation.id}." if old is not None else ""
    if of_new.problem:
        return f"{name} does not work with {new.profile.title}: {of_new.problem}{stay}"
    switch = f"`engine-room engines pin {family} {name}` switches to it"
    if old is None or of_old is None:
        return f"{name} works with {new.profile.title}; there is no other to compare it with."
    if of_old.problem:
        return f"{name} works with {new.profile.title}, and {old.installation.id} does not: {of_old.problem} {switch}."
    same = of_new.answers == of_old.answers
    answers = (
        "gives the same answers"
        if same
        else "answers differently at temperature 0, as another build may: read a few of its answers first"
    )
    speed = speed_words(of_new.tokens_per_second, of_old.tokens_per_second, old.installation.id)
    back = f"; pinning {old.installation.id} goes back" if old.installation.family == family else ""
    return f"{name} {speed} and {answers}. {switch}{back}."


def speed_words(new: float | None, old: float | None, other: str) -> str:
    if not new or not old:
        return f"could not be timed against {other}"
    change = new / old - 1
    if abs(change) < SAME_SPEED:
        return f"is as fast as {other} ({new:.0f} tok/s)"
    figures = f"({new:.0f} instead of {old:.0f} tok/s)"
    if change >= 1:
        return f"is {new / old:.1f} times as fast as {other} {figures}"
    return f"is {abs(change):.0%} {'faster' if change > 0 else 'slower'} than {other} {figures}"
