"""Defines the hold that a run has on an engine which we did not start: it can be greeted, looked at and let go, and no more.

Nothing here knows a process to signal (I5): the pids are only told to whoever measures memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal, Protocol

from app.core.attached import Watched
from app.core.lifecycle import Endpoint, Failure
from app.engines.base import Outlet

Heard = Callable[[str], None]  # the name of a stage of the load


class Unfit(Exception):
    """It answers, and cannot be what the profile wants; or it does not answer at all."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.summary)
        self.failure = failure


class Attachment(Protocol):
    where: str  # for people: host and port
    look_seconds: float  # between two looks
    outlets: tuple[Outlet, ...]  # of a remote one, for the gateway

    async def greet(self, heard: Heard) -> Endpoint:
        """Makes sure that it answers, has the model that we mean, and generates a token (I10, I13); raises Unfit."""
        ...

    async def look(self) -> tuple[Literal["answers", "changed", "silent"], str]:
        """Whether it is there, and a sentence where it is not or where something is worth a line in the log."""
        ...

    async def let_go(self, seconds: float) -> str:
        """Gives up what was taken there, waiting so long for it at most; returns a sentence when it did not work."""
        ...

    def pids(self) -> frozenset[int]:
        """The processes of this machine that hold the model's memory, to be measured; empty when nobody can tell."""
        ...


class Hold:
    """All that a run keeps of its attachment."""

    def __init__(self, attachment: Attachment, watched: Watched) -> None:
        self.attachment = attachment
        self.watched = watched
        self.watch: asyncio.Task[None] | None = None
        self.letting_go: asyncio.Future[str] | None = None
        self.failure: Failure | None = None  # why it is given up, when nobody asked for that
        self.is_over = False
