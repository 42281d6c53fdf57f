"""Decides when an engine is really ready: it answers, it is ours, it is the model we mean, it has generated one token."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import aiohttp

from app.core.lifecycle import Endpoint, Failure
from app.core.sse import Parser
from app.engines.base import EngineFamily, Launch

FAST_POLL_SECONDS = 0.02
SLOW_POLL_SECONDS = 0.15
FAST_POLLS = 100
ANSWER_SECONDS = 5.0
OWNER_LOOKS = 5


class WrongEngine(Exception):
    """Somebody answers who is not the engine that we started, or not with the model that we asked for."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.summary)
        self.failure = failure


class Probe:
    """Asks one launch's engine until it is ready. No probe alone makes a dead engine ready: the last step is a token."""

    def __init__(
        self,
        launch: Launch,
        family: EngineFamily,
        owner: Callable[[int], Awaitable[int | None]],
        is_ours: Callable[[int], Awaitable[bool]],
        heard: Callable[[str], None],
        stranger: str = "a program of another account",
    ) -> None:
        """`stranger`: who answers when `owner` cannot see anybody."""
        self._stranger = stranger
        self._launch = launch
        self._family = family
        self._owner = owner
        self._is_ours = is_ours
        self._heard = heard
        self._models: Mapping[str, Any] = {}
        self._base = f"http://{launch.host}:{launch.port}"

    async def ready(self) -> Endpoint:
        """Returns when the engine is ready; raises WrongEngine; waits for ever otherwise (the seat's budget ends it)."""
        headers = {"Authorization": f"Bearer {self._launch.api_key}"} if self._launch.api_key else {}
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        connector = aiohttp.TCPConnector(force_close=True)
        async with aiohttp.ClientSession(
            headers=headers, timeout=timeout, trust_env=False, connector=connector
        ) as session:
            health = await self._answers(session)
            await self._check_owner()
            await self._check_identity(session)
            self._heard("first_token")
            await self._works(session)
            context = self._family.served_context(health, self._models)
        return Endpoint(
            base_url=self._base,
            model_name=self._launch.model_name,
            engine=self._family.id,
            context_tokens=context,
        )

    async def _answers(self, session: aiohttp.ClientSession) -> Mapping[str, Any]:
        """Polls fast at first (small models load in milliseconds), then more slowly."""
        polls = 0
        while True:
            try:
                async with session.get(self._base + self._family.readiness.health_path) as answer:
                    if answer.status == 200:
                        return await self._properties(session)
            except (aiohttp.ClientError, TimeoutError, OSError):
                pass
            polls += 1
            await asyncio.sleep(FAST_POLL_SECONDS if polls < FAST_POLLS else SLOW_POLL_SECONDS)

    async def _properties(self, session: aiohttp.ClientSession) -> Mapping[str, Any]:
        """The native server's /props tells the context that is really served; other engines have none."""
        try:
            return await self._json(session, "/props")
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            return {}

    async def _json(self, session: aiohttp.ClientSession, path: str) -> Mapping[str, Any]:
        async with session.get(self._base + path) as answer:
            if answer.status != 200:
                return {}
            value = json.loads(await answer.content.read(4 * 1024**2))
            return value if isinstance(value, dict) else {}

    async def _check_owner(self) -> None:
        """Somebody answers: it must be a process of ours. One that cannot be seen belongs to another account."""
        pid = await self._owner(self._launch.port)
        for _ in range(OWNER_LOOKS):
            if pid is not None:
                break
            await asyncio.sleep(SLOW_POLL_SECONDS)
            pid = await self._owner(self._launch.port)
        if pid is None or not await self._is_ours(pid):
            who = self._stranger if pid is None else f"process {pid}, which is not our engine"
            raise WrongEngine(
                Failure(
                    kind="port_taken",
                    profile_id=self._launch.profile.id,
                    phase="loading",
                    summary=f"Port {self._launch.port} is answered by {who}.",
                    advice="Load again: another port is taken then.",
                )
            )

    async def _check_identity(self, session: aiohttp.ClientSession) -> None:
        """The model that we mean must be listed; a hiccup while asking is asked again, the seat's budget ends it."""
        while not self._models.get("data"):
            try:
                self._models = await self._json(session, self._family.readiness.models_path)
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
                pass
            if not self._models.get("data"):
                await asyncio.sleep(SLOW_POLL_SECONDS)
        names = [str(entry.get("id")) for entry in self._models["data"] if isinstance(entry, dict)]
        if self._launch.model_name not in names:
            raise WrongEngine(
                Failure(
                    kind="wrong_model",
                    profile_id=self._launch.profile.id,
                    phase="loading",
                    summary=f"The engine serves {', '.join(names) or 'no model'} instead of {self._launch.model_name}.",
                    advice="Look at the engine's log; extra arguments may have changed the model or its name.",
                )
            )

    async def _works(self, session: aiohttp.ClientSession) -> None:
        """Ready means that a token came, not that a health route said 200. Asks again until the budget ends it.

        An engine that serves embeddings or an order of documents proves it by one of those.
        """
        trial = self._family.trial(self._launch)
        body = trial.body or {
            "model": self._launch.model_name,
            "messages": [{"role": "user", "content": "Hi"}],
            "max_tokens": 1,
            "stream": True,
        }
        proof = _has_content if trial.path else _has_token
        # No limit of its own: a first token may take long (compilation); the seat's load budgets end a silent one.
        timeout = aiohttp.ClientTimeout(total=None)
        while True:
            try:
                url = self._base + (trial.path or self._family.readiness.generate_path)
                async with session.post(url, json=body, timeout=timeout) as answer:
                    if answer.status == 200 and await proof(answer):
                        return
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
                pass
            await asyncio.sleep(SLOW_POLL_SECONDS)


async def _has_content(answer: aiohttp.ClientResponse) -> bool:
    """Whether the answer is JSON that holds anything at all."""
    return bool(json.loads(await answer.content.read(4 * 1024**2)))


async def _has_token(answer: aiohttp.ClientResponse) -> bool:
    """Whether the stream brings a token: any delta with content or reasoning, or a finish reason after one."""
    parser = Parser()
    async for piece in answer.content.iter_any():
        for event in parser.feed(piece):
            if event.data == "[DONE]":
                return False
            value = json.loads(event.data)
            choices = value.get("choices") if isinstance(value, dict) else None
            for choice in (c for c in choices or () if isinstance(c, dict)):
                delta = choice.get("delta") or {}
                if delta.get("content") or delta.get("reasoning_content") or choice.get("text"):
                    return True
                if choice.get("finish_reason") == "length":
                    return True  # the one token may be invisible (a control token, half of a character)
    return False
