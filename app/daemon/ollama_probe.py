"""Decides when an `ollama serve` of our own is ready: it answers, the port is ours, and it has loaded the model we mean."""

from __future__ import annotations

import asyncio

from app.core.lifecycle import Endpoint
from app.daemon.attachment import Unfit
from app.daemon.ollama_attachment import OllamaAttachment
from app.daemon.ollama_server import OllamaRefused, OllamaServer, OllamaSilent
from app.daemon.probe import FAST_POLL_SECONDS, FAST_POLLS, SLOW_POLL_SECONDS, Probe, WrongEngine


class OllamaProbe(Probe):
    """The server is up at once and has no model yet: loading is asked for, not waited for."""

    async def ready(self) -> Endpoint:
        await self._until_it_answers()
        await self._check_owner()
        try:
            return await OllamaAttachment(self._launch, self._base).greet(self._heard)
        except Unfit as unfit:
            raise WrongEngine(unfit.failure) from unfit

    async def _until_it_answers(self) -> None:
        polls = 0
        async with OllamaServer(self._base) as server:
            while True:
                try:
                    await server.version()
                    return
                except (OllamaSilent, OllamaRefused):
                    polls += 1
                    await asyncio.sleep(FAST_POLL_SECONDS if polls < FAST_POLLS else SLOW_POLL_SECONDS)
