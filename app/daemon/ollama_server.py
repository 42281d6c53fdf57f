"""Speaks with one Ollama over its API: what it has, what is loaded, load, unload, lay options over a model. Signals nobody."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import aiohttp
import msgspec

from app.core.options import Scalar
from app.engines.ollama import full_name

ANSWER_SECONDS = 5.0
MOST_BYTES = 16 * 1024**2
LEASE = "10m"  # how long a model stays without news of us: after a crash of ours Ollama unloads it by itself


class OllamaRefused(Exception):
    """It answered, and said no: its own sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence


class OllamaSilent(Exception):
    """It did not answer, or not in its own way; the text says how, as the end of a sentence."""


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """A row of /api/ps. Sizes in bytes."""

    name: str = ""
    digest: str = ""
    size: int = 0
    size_vram: int = 0
    context_length: int = 0


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """A row of /api/tags."""

    name: str = ""
    digest: str = ""
    size: int = 0


class OllamaServer:
    """One address. Every call raises OllamaRefused or OllamaSilent. Use as `async with`."""

    def __init__(self, base_url: str, answer_seconds: float = ANSWER_SECONDS) -> None:
        self.base_url = base_url.rstrip("/")
        self._seconds = answer_seconds

    async def __aenter__(self) -> OllamaServer:
        self._session = aiohttp.ClientSession(
            trust_env=False, connector=aiohttp.TCPConnector(force_close=True), cookie_jar=aiohttp.DummyCookieJar()
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    # --- questions ---

    async def version(self) -> str:
        said = (await self._ask("GET", "/api/version")).get("version")
        if not isinstance(said, str):
            raise OllamaSilent("answers otherwise than Ollama does")
        return said

    async def models(self) -> tuple[Listed, ...]:
        return tuple(_rows(await self._ask("GET", "/api/tags"), Listed))

    async def loaded(self) -> tuple[Loaded, ...]:
        return tuple(_rows(await self._ask("GET", "/api/ps"), Loaded))

    async def capabilities(self, name: str) -> tuple[str, ...]:
        """What the model can do, in Ollama's words: completion, embedding, vision, tools …; empty when it does not say."""
        said = (await self._ask("POST", "/api/show", {"model": name})).get("capabilities")
        return tuple(str(each) for each in said) if isinstance(said, list) else ()

    # --- wishes ---

    async def load(self, name: str, keep_alive: str = LEASE) -> None:
        """Returns when it is loaded, however long that takes: the seat's budgets end the wait."""
        await self._ask("POST", "/api/generate", {"model": name, "keep_alive": keep_alive, "stream": False}, None)

    async def load_embedding(self, name: str, keep_alive: str = LEASE) -> None:
        """An encoder cannot generate: it is loaded by measuring a word."""
        await self._ask("POST", "/api/embed", {"model": name, "input": "Hi", "keep_alive": keep_alive}, None)

    async def unload(self, name: str) -> None:
        """It goes when nothing uses it any more, which is seen in `loaded`."""
        await self._ask("POST", "/api/generate", {"model": name, "keep_alive": 0, "stream": False})

    async def lay_over(self, name: str, base: str, options: Mapping[str, Scalar]) -> None:
        """Makes (or makes anew) a model that has `base`'s weights, not copied, and these parameters."""
        await self._ask(
            "POST", "/api/create", {"model": name, "from": base, "parameters": options, "stream": False}, 60.0
        )

    async def delete(self, name: str) -> None:
        await self._ask("DELETE", "/api/delete", {"model": name})

    async def _ask(self, method: str, path: str, body: object = None, seconds: float | None = 0.0) -> Mapping[str, Any]:
        """`seconds`: 0 = as long as an answer may take, None = without an end."""
        total = self._seconds if seconds == 0.0 else seconds
        timeout = aiohttp.ClientTimeout(total=total, sock_connect=self._seconds)
        data = None if body is None else json.dumps(body)
        try:
            async with self._session.request(
                method, self.base_url + path, data=data, timeout=timeout, allow_redirects=False,
                headers={"Content-Type": "application/json"},
            ) as answer:  # fmt: skip
                content = await answer.content.read(MOST_BYTES)
                value = _object(content)
                if answer.status >= 400:
                    raise OllamaRefused(answer.status, str(value.get("error") or f"status {answer.status}")[:500])
                if answer.status != 200:
                    raise OllamaSilent(f"answers with status {answer.status}")
                if value.get("error"):
                    raise OllamaRefused(answer.status, str(value["error"])[:500])
                return value
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise OllamaSilent("does not answer") from error


def find(rows: tuple[Loaded, ...] | tuple[Listed, ...], *names: str, digest: str = "") -> Loaded | Listed | None:
    """The row of one of these names, whatever its tag's form, or of that digest."""
    wanted = {full_name(name) for name in names}
    for row in rows:
        if full_name(row.name) in wanted or (digest and row.digest == digest):
            return row
    return None


def _rows(value: Mapping[str, Any], kind: type[Any]) -> list[Any]:
    rows = value.get("models")
    found = []
    for row in rows if isinstance(rows, list) else ():
        try:
            found.append(msgspec.convert(row, kind, strict=False))
        except msgspec.ValidationError:
            continue
    return found


def _object(content: bytes) -> Mapping[str, Any]:
    """The answer's last JSON object: with `stream: false` there is one, some routes send a line for each step anyway."""
    lines = [line for line in content.splitlines() if line.strip()]
    try:
        value = json.loads(lines[-1]) if lines else {}
    except (ValueError, RecursionError):
        value = {}
    return value if isinstance(value, dict) else {}
