"""Learns what made an answer: its run's manifest, asked for once per run, in the short form that a message keeps."""

from __future__ import annotations

import asyncio
from urllib.parse import quote

from app.core.control import Manifest
from app.core.conversation import MadeBy, made_by
from app.core.errors import EngineRoomError
from app.ui.link import Link

RUN_HEADER = "X-Engine-Room-Run"


class Makers:
    """`of` may be asked for each answer: the service is asked once per run, and asked again when it did not know."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._known: dict[str, MadeBy] = {}
        self._asking = asyncio.Lock()

    async def manifest(self, run_id: str) -> Manifest:
        """The whole manifest, as long as the service keeps the run; raises EngineRoomError."""
        return await self._link.get(f"/control/runs/{quote(run_id, safe='')}/manifest", Manifest)

    async def of(self, run_id: str) -> MadeBy | None:
        """None when the service does not say: the answer is kept all the same."""
        async with self._asking:
            if run_id not in self._known:
                try:
                    self._known[run_id] = made_by(await self.manifest(run_id))
                except EngineRoomError:
                    return None
            return self._known[run_id]
