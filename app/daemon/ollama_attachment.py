"""Holds one model in one Ollama: loads it by its API with the profile's options, sees that it is the one, unloads it again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from difflib import get_close_matches
from typing import Literal
from urllib.parse import urlsplit

import aiohttp

from app.core.lifecycle import Endpoint, Failure
from app.daemon import procfs
from app.daemon.attachment import Heard, Unfit
from app.daemon.ollama_server import Loaded, OllamaRefused, OllamaServer, OllamaSilent, find
from app.daemon.processes import listener_owner
from app.engines.base import Launch, Outlet
from app.engines.ollama import full_name, load_options, name_with_options
from app.engines.registry import FAMILIES, is_loopback

LOOK_SECONDS = 2.0
RENEW_SECONDS = 180.0  # well within the lease that a load gets
GONE_POLL_SECONDS = 0.1
_NO_MEMORY = ("requires more system memory", "out of memory", "cudaMalloc failed", "insufficient")


class OllamaAttachment:
    """`base_url` is the running one's, or that of one of our own (then its keeper ends it, and this only loads)."""

    look_seconds = LOOK_SECONDS
    outlets: tuple[Outlet, ...] = ()

    def __init__(self, launch: Launch, base_url: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.base_url = base_url.rstrip("/")
        self.where = urlsplit(self.base_url).netloc
        self._profile_id = launch.profile.id
        self._model = full_name(launch.profile.model)
        options = load_options(FAMILIES[launch.profile.engine].effective_settings(launch))
        self._options = options
        self._name = name_with_options(self._profile_id) if options else self._model
        self._clock = clock
        self._digest = ""  # of the model, as it was when it was greeted
        self._loaded = False
        self._measures = False  # an encoder, which generates nothing
        self._renewed_at = 0.0
        self._server: procfs.Process | None = None
        self._before: frozenset[int] = frozenset()  # its children from before our load
        self._others_loaded = False

    # --- greeting ---

    async def greet(self, heard: Heard) -> Endpoint:
        try:
            async with OllamaServer(self.base_url) as server:
                await server.version()
                return await self._greet(server, heard)
        except OllamaSilent as silent:
            raise self._unfit(
                "unreachable", f"Ollama at {self.where} {silent}.", "Start it, and load again."
            ) from silent
        except OllamaRefused as refused:
            no_memory = any(words in refused.sentence for words in _NO_MEMORY)
            raise self._unfit(
                "out_of_memory" if no_memory else "engine_failed",
                f"Ollama at {self.where} did not load {self._model}: {refused.sentence.rstrip('.')}.",
                "Take a shorter context or fewer layers on the card." if no_memory else "Its own log says more.",
            ) from refused

    async def _greet(self, server: OllamaServer, heard: Heard) -> Endpoint:
        self._digest = await self._digest_of_model(server)
        abilities = await server.capabilities(self._model)
        self._measures = "embedding" in abilities and "completion" not in abilities
        running = await server.loaded()
        self._others_loaded = any(find((row,), self._name, self._model) is None for row in running)
        self._before = await asyncio.to_thread(self._children)
        if self._options:
            await server.lay_over(self._name, self._model, self._options)
        heard("weights")
        self._loaded = True  # from here on it may be there, whatever comes back
        await self._load(server)
        row = find(await server.loaded(), self._name, self._model, digest=self._digest)
        if not isinstance(row, Loaded):
            raise self._unfit(
                "wrong_model",
                f"Ollama at {self.where} said that it loaded {self._model}, and does not list it as loaded.",
                "Another client may have asked for another model in this moment; load again.",
            )
        self._renewed_at = self._clock()
        heard("first_token")
        await self._token()
        return Endpoint(
            base_url=self.base_url,
            model_name=self._name,
            engine="ollama",
            context_tokens=row.context_length or None,
        )

    async def _load(self, server: OllamaServer) -> None:
        await (server.load_embedding if self._measures else server.load)(self._name)

    async def _digest_of_model(self, server: OllamaServer) -> str:
        rows = await server.models()
        row = find(rows, self._model)
        if row is None:
            near = get_close_matches(self._model, [each.name for each in rows], n=1)
            meant = f" Did you mean {near[0]}?" if near else ""
            raise self._unfit(
                "model_missing",
                f"Ollama at {self.where} has no model {self._model}.{meant}",
                f"`engine-room ollama pull {self._model}` fetches it.",
            )
        return row.digest

    async def _token(self) -> None:
        """One real answer under the name by which the gateway will ask."""
        path, body = "/v1/chat/completions", {
            "model": self._name, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1,
        }  # fmt: skip
        if self._measures:
            path, body = "/v1/embeddings", {"model": self._name, "input": "Hi"}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5.0)
        try:
            async with (
                aiohttp.ClientSession(trust_env=False, timeout=timeout) as session,
                session.post(self.base_url + path, json=body, allow_redirects=False) as answer,
            ):
                value = await answer.json(content_type=None)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise OllamaSilent("ended its first answer before it was whole") from error
        told = value.get("data") if self._measures else value.get("choices")
        if answer.status != 200 or not told:
            trouble = value.get("error")
            said = trouble.get("message") if isinstance(trouble, dict) else trouble
            raise OllamaRefused(answer.status, str(said or f"its first answer had the status {answer.status}"))

    def _unfit(self, kind: str, summary: str, advice: str) -> Unfit:
        return Unfit(Failure(kind=kind, profile_id=self._profile_id, phase="loading", summary=summary, advice=advice))

    # --- looking ---

    async def look(self) -> tuple[Literal["answers", "changed", "silent"], str]:
        """Renews the lease of the model where it is still loaded; one that Ollama has put away comes back with a request."""
        try:
            async with OllamaServer(self.base_url) as server:
                row = find(await server.models(), self._model)
                if row is None or row.digest != self._digest:
                    return "changed", f"{self._model} is not in Ollama any more as it was."
                there = find(await server.loaded(), self._name, self._model, digest=self._digest) is not None
                if not there and self._loaded:
                    self._loaded = False
                    return "answers", f"Ollama has put {self._model} away by itself; the next request loads it again."
                self._loaded = there
                if there and self._clock() - self._renewed_at > RENEW_SECONDS:
                    self._renewed_at = self._clock()
                    await self._load(server)
        except OllamaSilent as silent:
            return "silent", f"Ollama at {self.where} {silent}."
        except OllamaRefused as refused:
            return "answers", f"Ollama says: {refused.sentence}"
        return "answers", ""

    # --- letting go ---

    async def let_go(self, seconds: float) -> str:
        """Unloads by the API and waits until it is not listed any more; memory is measured by who asked."""
        deadline = self._clock() + seconds
        try:
            async with OllamaServer(self.base_url) as server:
                try:
                    if find(await server.loaded(), self._name, self._model, digest=self._digest) is not None:
                        await server.unload(self._name)
                    while find(await server.loaded(), self._name, self._model, digest=self._digest) is not None:
                        if self._clock() >= deadline:
                            return f"Ollama at {self.where} has not unloaded {self._model} within {seconds:g} s."
                        await asyncio.sleep(GONE_POLL_SECONDS)
                finally:
                    if self._options:
                        await self._delete(server)
        except OllamaSilent as silent:
            return f"Ollama at {self.where} {silent}, so it could not be asked to unload {self._model}."
        except OllamaRefused as refused:
            return f"Ollama at {self.where} did not unload {self._model}: {refused.sentence}"
        return ""

    async def _delete(self, server: OllamaServer) -> None:
        """What we laid over the model goes; the model itself is not ours to delete."""
        try:
            await server.delete(self._name)
        except OllamaRefused:
            pass  # it was never made

    # --- memory ---

    def pids(self) -> frozenset[int]:
        """Its runners that came with our load; all of them where nothing else was loaded."""
        children = self._children()
        return children - self._before if self._others_loaded else children

    def _children(self) -> frozenset[int]:
        if not is_loopback(self.base_url):
            return frozenset()
        known = self._server
        now = procfs.read_process(known.pid) if known is not None else None
        if known is None or now is None or now.start_ticks != known.start_ticks:
            pid = listener_owner(urlsplit(self.base_url).port or 80) or _by_name()
            self._server = procfs.read_process(pid) if pid is not None else None
        if self._server is None:
            return frozenset()
        return frozenset(procfs.below({self._server.pid}, procfs.all_processes()))


def _by_name() -> int | None:
    """The server by its name, where it belongs to another account and its sockets cannot be seen: the one that has no
    other of its name above it."""
    named = {pid: process for pid, process in procfs.all_processes().items() if process.name == "ollama"}
    servers = [pid for pid, process in named.items() if process.parent not in named]
    return servers[0] if len(servers) == 1 else None
