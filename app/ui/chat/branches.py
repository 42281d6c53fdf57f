"""Knows every message of a conversation, which of its branches is shown, and what stands beside a message; pure."""

from __future__ import annotations

from collections.abc import Iterable

from app.core.conversation import Message, thread


class Branches:
    """`leaf` is the last message shown, `messages` the way to it from the first."""

    def __init__(self, messages: Iterable[Message] = (), leaf: str | None = None) -> None:
        """A leaf that is not there gives way to the last message."""
        self._all = {message.id: message for message in messages}
        self.leaf: str | None = None
        self.messages: tuple[Message, ...] = ()
        self.show(leaf if leaf in self._all else next(reversed(self._all), None))

    def get(self, message_id: str | None) -> Message | None:
        return self._all.get(message_id or "")

    def show(self, leaf: str | None) -> None:
        self.leaf = leaf
        self.messages = thread(tuple(self._all.values()), leaf)

    def add(self, message: Message) -> None:
        """Known from now on, and not shown before `show`."""
        self._all[message.id] = message

    def put(self, message: Message) -> None:
        """In the place of the one of that id."""
        self._all[message.id] = message
        if any(m.id == message.id for m in self.messages):
            self.messages = tuple(message if m.id == message.id else m for m in self.messages)

    def place(self, message_id: str | None) -> tuple[int, int]:
        """(which, of how many) versions of this message are there; (0, 0) when it is not known."""
        beside = self._beside(message_id)
        return (beside.index(message_id) + 1, len(beside)) if message_id in beside else (0, 0)

    def beside(self, message_id: str | None, step: int) -> str | None:
        """The version so many steps before or after this one; None when there is none."""
        found = self._beside(message_id)
        at = found.index(message_id) + step if message_id in found else -1
        return found[at] if 0 <= at < len(found) else None

    def _beside(self, message_id: str | None) -> list[str]:
        one = self.get(message_id)
        if one is None:
            return []
        return [m.id for m in self._all.values() if (m.parent, m.role) == (one.parent, one.role)]

    def newest_after(self, message_id: str) -> str:
        """Where the newest of what followed this message ends."""
        leaf = message_id
        while following := [m for m in self._all.values() if m.parent == leaf]:
            leaf = max(following, key=lambda m: m.created_at_unix).id
        return leaf
