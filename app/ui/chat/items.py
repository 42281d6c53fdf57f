"""Cuts messages into items, the units that a transcript lays out and paints; a streamed answer changes only its last ones."""

from __future__ import annotations

import enum
from itertools import accumulate

from app.core.conversation import CUT, FAILED, STOPPED, Message
from app.core.markdown import Block, Splitter
from app.ui import wording

INTERRUPTED = "interrupted"  # the window ended while the answer was being written
BUBBLE_CHARACTERS = 4_000  # longer text of the person comes in several items of one bubble


class Kind(enum.Enum):
    USER = "user"
    REASONING = "reasoning"  # the line that folds and unfolds what follows
    THOUGHT = "thought"
    TEXT = "text"
    CODE = "code"
    NOTICE = "notice"
    FIGURES = "figures"


class Item:
    """`revision` counts changes of what is shown; `width` is the one for which `height` is exact, -1 while it is a guess."""

    __slots__ = ("first", "height", "kind", "language", "last", "open", "revision", "source", "text", "tone", "width")

    def __init__(self, kind: Kind, text: str, tone: str = "") -> None:
        self.kind = kind
        self.text = text  # what is shown; for Markdown its source
        self.source = text
        self.language = ""
        self.tone = tone
        self.first = self.last = True  # of the bubble or code panel that several items may share
        self.open = False  # may still grow
        self.revision = 0
        self.height = 0.0
        self.width = -1.0

    @property
    def key(self) -> tuple[object, ...]:
        """What makes two items look the same."""
        return self.kind, self.text, self.language, self.tone, self.first, self.last

    def take(self, block: Block, is_open: bool) -> None:
        text = block.text.removesuffix("\n") if block.kind == "code" else block.source
        kind = self.kind if block.kind != "code" else Kind.CODE
        if (text, block.language, kind, is_open) != (self.text, self.language, self.kind, self.open):
            # Text that has only come to its end looks as it did; code gets the colours of its last line then.
            looks_same = kind is self.kind is not Kind.CODE and text.rstrip("\n") == self.text.rstrip("\n")
            self.kind, self.text, self.language, self.open = kind, text, block.language, is_open
            if not looks_same:
                self.revision += 1
                self.width = -1.0
        self.source = block.source

    def guess(self, width: float) -> None:
        """A height that is about right, until the item is laid out."""
        if self.kind is Kind.REASONING:
            self.height = 36.0
        elif self.kind in (Kind.FIGURES, Kind.NOTICE):
            self.height = 34.0
        elif self.kind is Kind.CODE:
            self.height = 22.0 * (self.text.count("\n") + 1) + (38 if self.first else 0) + (26 if self.last else 0)
        else:
            self.height = guess_of(self.text, width)


def guess_of(text: str, width: float) -> float:
    return 22.0 * (text.count("\n") + 1 + len(text) / max(20.0, width / 6.5)) + 12 if text else 0.0


class Strand:
    """Markdown that may still be arriving, as items: one per block."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._splitter = Splitter()
        self._done = 0
        self.items: list[Item] = []
        self.unchanged = 0  # how many of the items the last feeding left as they were

    def feed(self, piece: str) -> None:
        self._splitter.feed(piece)
        self._follow()

    def close(self) -> None:
        self._splitter.close()
        self._follow()

    def _follow(self) -> None:
        finished, opened = self._splitter.finished, self._splitter.open
        self.unchanged = min(self._done, len(self.items))
        for number in range(self._done, len(finished)):
            self._put(number, finished[number], False)
        self._done = len(finished)
        if opened is not None:
            self._put(self._done, opened, True)
        del self.items[self._done + (opened is not None) :]

    def _put(self, number: int, block: Block, is_open: bool) -> None:
        if number == len(self.items):
            self.items.append(Item(self._kind, ""))
        item = self.items[number]
        item.kind = item.kind if block.kind == "code" else self._kind
        item.take(block, is_open)
        item.first = block.first
        if number:
            before = self.items[number - 1]
            goes_on = block.kind == "code" and not block.first
            if before.last == goes_on:
                before.last, before.width = not goes_on, -1.0
                self.unchanged = min(self.unchanged, number - 1)


class Turn:
    """One message as items, made when they are first needed; until then its height is a guess."""

    def __init__(self, message: Message, waiting: str = "") -> None:
        self.message = message
        self.unfolded = False
        self.live = message.finish is None and message.role == "assistant"
        self._waiting = waiting
        self._items: list[Item] | None = None
        self._guess = (-1.0, 0.0)
        self._thoughts = self._body = Strand(Kind.TEXT)
        self.tops: list[float] = [0.0]  # of the items, and the end

    @property
    def is_cut(self) -> bool:
        """Whether its items exist."""
        return self._items is not None

    @property
    def has_body(self) -> bool:
        return bool(self._body.items)

    @property
    def items(self) -> list[Item]:
        if self._items is None:
            self._cut()
        return self._items or []

    def _cut(self) -> None:
        message = self.message
        if message.role == "user":
            self._items = _bubble(message.text)
            return
        self._thoughts, self._body = Strand(Kind.THOUGHT), Strand(Kind.TEXT)
        self._thoughts.feed(message.reasoning)
        self._body.feed(message.text)
        if not self.live:
            self._thoughts.close()
            self._body.close()
        self._gather()

    def _gather(self) -> None:
        items: list[Item] = []
        if self.message.reasoning or self._thoughts.items:
            head = self._items[0] if self._items and self._items[0].kind is Kind.REASONING else None
            items.append(head or Item(Kind.REASONING, "Reasoning"))
            if self.unfolded:
                items += self._thoughts.items
        items += self._body.items
        self._items = items + self._tail()

    def _tail(self) -> list[Item]:
        if self.live:
            return [Item(Kind.NOTICE, self._waiting)] if self._waiting and not self._body.items else []
        tail = []
        words, tone = notice(self.message)
        if words:
            tail.append(Item(Kind.NOTICE, words, tone))
        figures = figures_line(self.message)
        if figures:
            tail.append(Item(Kind.FIGURES, figures))
        return tail

    def feed(self, text: str, reasoning: str) -> None:
        """The answer has grown."""
        assert self.live
        _ = self.items
        if reasoning:
            self._thoughts.feed(reasoning)
        if text:
            self._body.feed(text)
        self._gather()

    @property
    def unchanged(self) -> int:
        """How many of the items are as they were before the last feeding with text."""
        return len(self.items) - len(self._body.items) + self._body.unchanged if self._body.items else 0

    def wait(self, words: str) -> None:
        """What is shown while nothing of the answer is there."""
        if words != self._waiting:
            self._waiting = words
            if self._items is not None and self.live:
                self._gather()

    def settle(self, message: Message) -> None:
        """The message as it is now; the blocks of an answer that came to its end stay what they are."""
        was_live, before = self.live, self.message
        self.message = message
        self.live = message.finish is None and message.role == "assistant"
        same = message.text.startswith(before.text) if not was_live else True
        if self._items is None:
            return
        if message.role == "user" or self.live or not same:
            self._items = None
            return
        if was_live:
            self._thoughts.close()
            self._body.close()
        self._gather()

    def fold(self) -> None:
        self.unfolded = not self.unfolded
        self._gather()

    def lay_out(self, width: float) -> float:
        """Sums up the items' heights, guessing where they are not known for this width; returns the whole height."""
        if self._items is None:
            if self._guess[0] != width:
                self._guess = (width, guess_of(self.message.text, width) + 60.0)
            return self._guess[1]
        for item in self._items:
            if item.width != width and (item.width >= 0 or not item.height):
                item.guess(width)
                item.width = -1.0
        self.tops = list(accumulate((item.height for item in self._items), initial=0.0))
        return self.tops[-1]

    def panel(self, number: int) -> list[Item]:
        """All items of the code panel that item `number` belongs to."""
        items = self.items
        first, last = number, number
        while not items[first].first and first:
            first -= 1
        while not items[last].last and last + 1 < len(items):
            last += 1
        return items[first : last + 1]


def _bubble(text: str) -> list[Item]:
    parts, rest = [], text
    while len(rest) > BUBBLE_CHARACTERS:
        at = rest.rfind("\n", 0, BUBBLE_CHARACTERS)
        end = at + 1 if at > 0 else BUBBLE_CHARACTERS
        parts.append(rest[:end])
        rest = rest[end:]
    parts.append(rest)
    items = []
    for number, part in enumerate(parts):
        item = Item(Kind.USER, part.removesuffix("\n") if number < len(parts) - 1 else part)
        item.source = part
        item.first, item.last = number == 0, number == len(parts) - 1
        items.append(item)
    return items


def notice(message: Message) -> tuple[str, str]:
    """The sentence under an answer that did not come to a good end, and its tone; ("", "") under a good one."""
    match message.finish:
        case "length":
            return "The answer stopped at the token limit, so it is not complete.", "warning"
        case "stopped":
            return ("You stopped this answer." if message.text else "You stopped it before it began."), ""
        case "cut":
            return "The answer was cut off: its stream ended before the answer did.", "warning"
        case "interrupted":
            return "The window closed while this answer was being written.", "warning"
        case "failed":
            return message.error or "The answer failed.", "danger"
        case "content_filter":
            return "The engine withheld the rest of this answer.", "warning"
    return "", ""


_FINISH_WORDS = {
    "stop": "complete",
    "length": "stopped at the token limit",
    STOPPED: "stopped by you",
    CUT: "cut off",
    FAILED: "failed",
    INTERRUPTED: "interrupted",
}


def figures_line(message: Message) -> str:
    """As in "64 tok/s · first token 86 ms · 412 tokens · complete"; empty when nothing is known."""
    figures = message.figures
    parts = []
    if figures.tokens_per_second is not None:
        parts.append(f"{wording.tokens_per_second(figures.tokens_per_second)} tok/s")
    if figures.first_token_seconds is not None:
        parts.append(f"first token {wording.duration(figures.first_token_seconds)}")
    if figures.completion_tokens is not None:
        parts.append(f"{wording.count(figures.completion_tokens)} tokens")
    if not parts:
        return ""
    if message.finish:
        parts.append(_FINISH_WORDS.get(message.finish, message.finish))
    return " · ".join(parts)
