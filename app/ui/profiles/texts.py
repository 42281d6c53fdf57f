"""Owns how the window reads and writes profiles' texts: of one profile one write at a time, no answer to a form that shows another."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple
from urllib.parse import quote

from app.core.control import ProfileText
from app.core.errors import EngineRoomError, ProfileInvalid
from app.ui.link import Link

Key = tuple[str, ...]  # ("keep_loaded",) or ("settings", "slots")


class Asker(NamedTuple):
    """The form that wants a write, and takes its answer if it `is_there` then, showing that profile."""

    is_there: Callable[[], bool]
    saved: Callable[[ProfileText, ProfileText], None]  # what was sent, what stands in the file now
    refused: Callable[[EngineRoomError], None]


NOBODY = Asker(lambda: False, lambda *_: None, lambda _: None)


class ProfileTexts:
    """Reads and writes of one profile come in the order in which they were asked for. What is refused is told to the asker,
    and by the window where there is none any more."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._writes: set[asyncio.Task[None]] = set()

    async def read(self, profile_id: str) -> ProfileText:
        """Raises as `Link.get`."""
        async with self._turns[profile_id]:
            return await self._read(profile_id)

    def change(self, profile_id: str, values: Mapping[Key, object | None], asker: Asker = NOBODY) -> None:
        """Sets keys, or with None takes them out, in the text that stands there then; of a profile that is not the person's
        own, in a copy of it that is."""

        async def changed() -> ProfileText:
            from app.core.profile_text import with_value  # a TOML writer, which the window's start does not wait for

            before = await self._read(profile_id)
            text = before.text
            try:
                for key, value in values.items():
                    text = with_value(text, key, value)
            except (ValueError, RecursionError) as error:
                problem = f"this is not valid TOML: {error}."
                raise ProfileInvalid(f"{profile_id}.toml", "", problem, "Correct that line first.") from error
            return ProfileText(profile=profile_id, text=text, based_on=before.text if before.own else "")

        self.save(profile_id, changed, asker)

    def save(self, profile_id: str, wish: Callable[[], Awaitable[ProfileText | None]], asker: Asker) -> None:
        """Writes the text that `wish` gives when its turn has come; None = there is nothing to write any more."""

        async def run() -> None:
            try:
                async with self._turns[profile_id]:
                    sent = await wish()
                    if sent is None:
                        return
                    saved = await self._link.post("/control/profiles", sent, ProfileText)
                    if asker.is_there():  # within the turn: what is saved next is based on this
                        asker.saved(sent, saved)
            except EngineRoomError as error:
                (asker.refused if asker.is_there() else self._link.refused.emit)(error)

        task = self._link.tasks.start(run(), f"write profile {profile_id}")
        if task is not None:
            self._writes.add(task)
            task.add_done_callback(self._writes.discard)

    async def settled(self, at_most_seconds: float = 10.0) -> None:
        """Waits until all is written that was asked for, as a window does before it ends its tasks."""
        if self._writes:
            await asyncio.wait(self._writes, timeout=at_most_seconds)

    async def _read(self, profile_id: str) -> ProfileText:
        return await self._link.get(f"/control/profiles/{quote(profile_id, safe='')}", ProfileText)
