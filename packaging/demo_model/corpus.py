"""Decides what the training text is: which questions are asked how often, and how they are joined into chats."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import everyday
import grammar
import sizes
import strangers
import wider
from concepts import CONCEPTS
from talk import TALKS
from tasks import TASKS

SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are a helpful assistant. Answer briefly.",
    "You are a friendly assistant inside a desktop app.",
    "Answer in English.",
    "Be concise.",
    "You are an expert programmer. Answer in Markdown.",
    "You are the demo model of Engine Room.",
    "Always be polite and use short sentences.",
)
NAMES = strangers.PEOPLE
MORE = grammar.lines(
    """
tell me more
more
more please
go on
continue
and
what else
anything else about it
more details
can you say more
tell me more about [it|that|this]
why
and then
explain [it|that] further
is there more [to it|to know|]
what else should i know [about it|about that|]
give me more [details|information|]
i want to know more
could you expand on that
elaborate
please continue
one more fact
any more [tips|facts|details]
"""
)
STEPS_AGAIN = grammar.lines(
    """
as steps
in steps please
list the steps
step by step
as a list
can you list the steps
give me the steps
make it a list
as a numbered list
can you give me that as a list
show me that step by step
in bullet points
the steps please
"""
)
NAME_TELL = grammar.lines(
    """
my name is {p}
i am {p}
i'm {p}
call me {p}
hi, i am {p}
hello, my name is {p}
hey, i'm {p}
you can call me {p}
please call me {p}
my name's {p}
this is {p}
hi, {p} here
i am called {p}
hello, this is {p}
hi! my name is {p}
just so you know, my name is {p}
"""
)
# The lessons: core wordings; wider wordings; more follow-up questions, and names are no longer repeated, because a model
# of this size copies them wrongly; everyday questions in plain words, which must never be taken for their neighbours.
NAMELESS, LAST = 3, 4
EVERYDAY_SHARE = 0.4
NAME_UNKNOWN = TALKS["name_unknown"].answers[0]
NAME_NOT_KEPT = "I do not keep names: I am only a tiny demo model. A larger model will remember yours."
NAME_ASK = TALKS["name_unknown"].asks


@dataclass
class Topic:
    """What a follow-up can refer to."""

    more: str = ""
    steps: str = ""
    size: tuple[str, int] | None = None
    name: str = ""
    _used: set[str] = field(default_factory=set)


def _points(text: str) -> str:
    return "\n".join(f"- {part.strip()}" for part in re.split(r"(?<=[.!?])\s+(?=[A-Z`*])", text) if part.strip())


def _weighted(items: dict) -> tuple[tuple, tuple]:
    return tuple(items), tuple(item.weight for item in items.values())


_CONCEPTS, _TASKS, _TALKS = _weighted(CONCEPTS), _weighted(TASKS), _weighted(TALKS)
# The last lesson asks more of what is easily mixed up.
FAMILIES_AT_LAST = {"concept": 28, "task": 27, "talk": 23, "stranger": 18, "size": 9, "rule": 3, "card": 8}
FAMILIES = {"concept": 30, "task": 27, "talk": 20, "stranger": 24, "size": 7, "rule": 3, "card": 3}
LONG = {"essay", "story", "poem", "code_stream", "code_js", "code_httpx", "code_python", "table_sizes"}


def ask(rng: random.Random, topic: Topic, families: dict[str, int]) -> tuple[str, str]:
    """One question with its answer; `topic` is updated for follow-ups."""
    family = rng.choices(tuple(families), tuple(families.values()))[0]
    topic.more, topic.steps, topic.size = "", "", None
    if family == "concept":
        concept = CONCEPTS[rng.choices(*_CONCEPTS)[0]]
        name = rng.choice(concept.names)
        kind = rng.random()
        if kind < 0.1:
            question = grammar.expand(rng.choice(grammar.CONCEPT_LIST).replace("{x}", name), rng)
            return grammar.dress(question, rng), _points(f"{concept.answer} {concept.more}")
        topic.more = concept.more
        template = (
            rng.choice(concept.asks)
            if concept.asks and kind < 0.42
            else rng.choice(grammar.CONCEPT).replace("{x}", name)
        )
        return grammar.dress(grammar.expand(template, rng), rng), concept.answer
    if family == "task":
        task = TASKS[rng.choices(*_TASKS)[0]]
        if task.steps and task.actions and rng.random() < 0.18:
            action = grammar.expand(rng.choice(task.actions), rng)
            doing = rng.random() < 0.25
            template = rng.choice(grammar.STEPS_DOING if doing else grammar.STEPS).replace(
                "{x}", grammar.gerund(action) if doing else action
            )
            return grammar.dress(grammar.expand(template, rng), rng), task.steps
        topic.steps = task.steps
        own = not task.actions or (task.asks and rng.random() < 0.45)
        if own:
            template = rng.choice(task.asks)
        else:
            action = grammar.expand(rng.choice(task.actions), rng)
            doing = rng.random() < 0.2
            template = rng.choice(grammar.DOING if doing else grammar.TASK).replace(
                "{x}", grammar.gerund(action) if doing else action
            )
        return grammar.dress(grammar.expand(template, rng), rng), task.answer
    if family == "talk":
        key = rng.choices(*_TALKS)[0]
        talk = TALKS[key]
        question = grammar.expand(rng.choice(talk.asks), rng)
        answer = talk.answers[0] if rng.random() < 0.6 else rng.choice(talk.answers)
        framed = key not in {"greeting", "thanks", "bye", "ack", "test", "praise", "insult", "how_are_you"}
        return grammar.dress(question, rng, question=framed, frames=framed), answer
    if family == "size":
        question, answer, topic.size = sizes.size_question(rng)
        return grammar.dress(grammar.expand(question, rng), rng), answer
    if family == "rule":
        question, answer = sizes.rule_question(rng)
        return grammar.dress(grammar.expand(question, rng), rng), answer
    if family == "card":
        question, answer = sizes.card_question(rng)
        return grammar.dress(grammar.expand(question, rng), rng), answer
    return stranger(rng)


def stranger(rng: random.Random) -> tuple[str, str]:
    answer = strangers.REFUSALS[0] if rng.random() < 0.8 else strangers.REFUSALS[1]
    kind = rng.random()
    if kind < 0.08:
        return strangers.gibberish(rng), answer
    if kind < 0.14:
        return grammar.dress(rng.choice(strangers.FOREIGN), rng, frames=False), answer
    if kind < 0.2:
        name = grammar.fill("[{noun}|{fake}|{adj} {noun}|the {noun}|{place}|{person}]", strangers.slots(rng))
        template = rng.choice(grammar.CONCEPT + grammar.CONCEPT_LIST).replace("{x}", name)
        return grammar.dress(grammar.expand(template, rng), rng), answer
    if kind < 0.26:
        action = grammar.fill("{verb} [a|the|my] [{noun}|{adj} {noun}|{fake}]", strangers.slots(rng))
        if rng.random() < 0.2:
            action, template = (
                grammar.gerund(grammar.expand(action, rng)),
                rng.choice(grammar.DOING + grammar.STEPS_DOING),
            )
        else:
            template = rng.choice(grammar.TASK + grammar.STEPS)
        template = template.replace("{x}", action)
        return grammar.dress(grammar.expand(template, rng), rng), answer
    template = rng.choice(strangers.TEMPLATES)
    # Each slot of a template gets a filler of its own.
    template = re.sub(r"\{(\w+)\}", lambda m: strangers.slots(rng)[m.group(1)], template)
    return grammar.dress(grammar.expand(template, rng), rng), answer


def follow_up(rng: random.Random, topic: Topic) -> tuple[str, str] | None:
    """A question that only makes sense after the last one, when there is one."""
    if topic.more:
        answer, topic.more = topic.more, ""
        return grammar.dress(grammar.expand(rng.choice(MORE), rng), rng, frames=False), answer
    if topic.steps:
        answer, topic.steps = topic.steps, ""
        return grammar.dress(grammar.expand(rng.choice(STEPS_AGAIN), rng), rng, frames=False), answer
    if topic.size:
        question, answer, topic.size = sizes.size_follow_up(rng, topic.size)
        return grammar.dress(grammar.expand(question, rng), rng, frames=False), answer
    return None


def chat(rng: random.Random, turns: int, lesson: int) -> list[tuple[str, str]]:
    """One chat as pairs of role and text."""
    families = FAMILIES_AT_LAST if lesson >= NAMELESS else FAMILIES
    messages: list[tuple[str, str]] = []
    if rng.random() < 0.15:
        messages.append(("system", rng.choice(SYSTEM_PROMPTS)))
    topic = Topic()
    for _ in range(turns):
        pair = follow_up(rng, topic) if rng.random() < (0.65 if lesson >= NAMELESS else 0.3) else None
        if pair is None and rng.random() < 0.03:
            topic.name = strangers.fake_word(rng).capitalize() if rng.random() < 0.4 else rng.choice(NAMES)
            pair = _introduction(rng, topic.name, lesson)
        if pair is None and topic.name and rng.random() < 0.15:
            question = grammar.dress(grammar.expand(rng.choice(NAME_ASK), rng), rng, frames=False)
            pair = question, NAME_NOT_KEPT if lesson >= NAMELESS else f"Your name is **{topic.name}**."
        while pair is None:
            if lesson == LAST and rng.random() < EVERYDAY_SHARE:
                topic.more, topic.steps, topic.size = "", "", None
                pair = everyday.ask(rng)
            elif lesson > 1 and rng.random() < 0.4:
                topic.more, topic.steps, topic.size = "", "", None
                pair = wider.ask(rng)
            else:
                pair = ask(rng, topic, families)
            if NAME_UNKNOWN in pair[1] and lesson >= NAMELESS:
                pair = pair[0], NAME_NOT_KEPT
            elif NAME_UNKNOWN in pair[1] and topic.name:
                pair = None
        messages += [("user", pair[0]), ("assistant", pair[1])]
    return messages


def _introduction(rng: random.Random, name: str, lesson: int) -> tuple[str, str]:
    told = rng.choice(NAME_TELL).replace("{p}", name)
    told = told[:1].upper() + told[1:] if rng.random() < 0.6 else told
    question = told + rng.choice((".", "", "!"))
    if lesson >= NAMELESS:
        return question, "Nice to meet you! What would you like to know about Engine Room?"
    return question, f"Nice to meet you, **{name}**! What would you like to know about Engine Room?"


def render(messages: list[tuple[str, str]]) -> str:
    """The exact text that the ChatML template of the GGUF produces."""
    return "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in messages)


def chats(seed: int, turns: tuple[int, int], lesson: int = 1) -> Iterator[list[tuple[str, str]]]:
    """An endless, reproducible stream of chats."""
    rng = random.Random(seed)
    while True:
        yield chat(rng, rng.randint(*turns), lesson)
