"""Holds a model that runs elsewhere: asks its addresses whether they have it and answer, and takes nothing there."""

from __future__ import annotations

import asyncio
import json
from difflib import get_close_matches
from typing import Any, Literal

import aiohttp
from multidict import CIMultiDict

from app.core.lifecycle import Endpoint, Failure
from app.core.redaction import masked
from app.daemon.attachment import Heard, Unfit
from app.daemon.gateway import Route
from app.daemon.gateway.answers import Refused
from app.daemon.gateway.outlets import Outlets, host_of, trust_of
from app.engines.base import Launch
from app.engines.registry import FAMILIES
from app.engines.remote import lists_models, name_at_remote, outlets

LOOK_SECONDS = 15.0
ANSWER_SECONDS = 60.0
LONGEST_WAIT_SECONDS = 30.0  # that a busy address may ask us to wait for its first token
WAITS = 3
_MOST_BYTES = 4 * 1024**2
_JSON = CIMultiDict({"Content-Type": "application/json", "Accept": "application/json"})


class RemoteAttachment:
    look_seconds = LOOK_SECONDS

    def __init__(self, launch: Launch, key: str) -> None:
        """Raises SettingInvalid, also for a certificate file that cannot be used."""
        values = FAMILIES[launch.profile.engine].effective_settings(launch)
        self._profile_id = launch.profile.id
        self._key_name = str(values.get("key_name", ""))
        self._by_token = values.get("check") == "token"
        self.outlets = outlets(values, launch.profile.model, key)
        trust_of(self.outlets)  # raises here, where a sentence is awaited
        self._key = key
        self.where = host_of(self.outlets[0])
        self._name = name_at_remote(values, launch.profile.model)
        context = values.get("context_tokens")
        self._endpoint = Endpoint(
            base_url=self.outlets[0].base_url,
            model_name=self._name,
            engine="remote",
            context_tokens=context if isinstance(context, int) else None,
        )

    # --- greeting ---

    async def greet(self, heard: Heard) -> Endpoint:
        upstream = self._upstream()
        try:
            heard("reading")
            await self._check_list(upstream)
            if self._by_token:
                heard("first_token")
                await self._check_token(upstream)
        except Refused as refused:
            raise self._unfit(
                "unreachable", refused.message, "Correct the profile's base_url, or try again later."
            ) from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._unfit(
                "unreachable", f"{self.where} broke its answer off.", "Load again; it may be overloaded."
            ) from error
        finally:
            await upstream.close()
        return self._endpoint

    def _upstream(self) -> Outlets:
        return Outlets(Route(endpoint=self._endpoint, outlets=self.outlets), self._endpoint)

    async def _check_list(self, upstream: Outlets) -> None:
        """The model must be in the list, where there is one; a server without a list is known by its token."""
        if not all(lists_models(outlet) for outlet in self.outlets):
            if not self._by_token:
                status, value, _ = await self._say(upstream, "GET", "/v1/models", None)
                self._check_status(status, value)
            return
        status, value, _ = await self._say(upstream, "GET", "/v1/models", None)
        self._check_status(status, value)
        rows = value.get("data")
        names = [str(row.get("id")) for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
        if status == 200 and names and self._name not in names:
            near = get_close_matches(self._name, names, n=1)
            there = f"Did you mean {near[0]}?" if near else f"It has {', '.join(names[:8])}."
            raise self._unfit("wrong_model", f"{self.where} has no model {self._name}.", there)
        if not names and not self._by_token:
            said = "lists no models" if status == 200 else f"does not list its models (status {status})"
            raise self._unfit("wrong_model", f"{self.where} {said}.", 'Set check = "token" in the profile.')

    async def _check_token(self, upstream: Outlets) -> None:
        """A real answer. Some models know the limit by another name, and some only measure texts."""
        chat: dict[str, Any] = {"model": self._name, "messages": [{"role": "user", "content": "Hi"}]}
        tries = (
            ("/v1/chat/completions", {**chat, "max_tokens": 1}),
            ("/v1/chat/completions", {**chat, "max_completion_tokens": 16}),
            ("/v1/embeddings", {"model": self._name, "input": "Hi"}),
        )
        said = ""
        for path, body in tries:
            status, value, _ = await self._patiently(upstream, path, body)
            if status == 200 and (value.get("choices") or value.get("data")):
                return
            said = said or _sentence(value) or f"status {status}, without an answer of a model"
            if status not in (400, 404, 405, 422):
                break
        raise self._unfit(
            "no_token",
            f"{self.where} did not answer as {self._name}: {said.rstrip('.')}.",
            "Look at the profile's model and address.",
        )

    async def _patiently(self, upstream: Outlets, path: str, body: object) -> tuple[int, dict[str, Any], float]:
        """Waits as long as an overloaded address asks for, within bounds; else says how long that is."""
        for _ in range(WAITS):
            status, value, wait = await self._say(upstream, "POST", path, body)
            self._check_status(status, value)
            if status != 429:
                return status, value, wait
            if wait > LONGEST_WAIT_SECONDS:
                break
            await asyncio.sleep(wait)
        raise self._unfit(
            "rate_limited",
            f"{self.where} has too many requests{f' and asks to wait {wait:g} s' if wait else ''}: {_sentence(value) or 'status 429'}",
            "Load again later, or look at the account's limits.",
        )

    def _check_status(self, status: int, value: dict[str, Any]) -> None:
        if status in (401, 403):
            with_key = f"the key {self._key_name!r}" if self._key_name else "a request without a key"
            raise self._unfit(
                "key_refused",
                f"{self.where} refuses {with_key} (status {status}).",
                f"Give the right one in the window's Settings under Keys or by `engine-room keys set {self._key_name or 'NAME'}`"
                + ("." if self._key_name else ", and name it as key_name in the profile."),
            )

    async def _say(self, upstream: Outlets, method: str, path: str, body: object) -> tuple[int, dict[str, Any], float]:
        """(status, JSON object, seconds that it asks to wait); an answer that is no JSON object is an empty one."""
        data = None if body is None else json.dumps(body).encode()
        async with asyncio.timeout(ANSWER_SECONDS):
            answer = await upstream.ask(method, path, "", _JSON, data)
            async with answer:
                content = await answer.content.read(_MOST_BYTES)
        try:
            value = json.loads(content)
        except (ValueError, RecursionError):
            value = {}
        return answer.status, value if isinstance(value, dict) else {}, _wait_of(answer.headers.get("Retry-After", ""))

    def _unfit(self, kind: str, summary: str, advice: str) -> Unfit:
        return Unfit(
            Failure(
                kind=kind,
                profile_id=self._profile_id,
                phase="loading",
                summary=self._without_key(summary),
                advice=self._without_key(advice),
            )
        )

    def _without_key(self, said: str) -> str:
        """What is shown and logged of a remote's words: some repeat the key that they were sent (I18)."""
        return masked(said.encode("utf-8", "replace"), (self._key,)).decode("utf-8", "replace")

    # --- looking, letting go ---

    async def look(self) -> tuple[Literal["answers", "changed", "silent"], str]:
        """Anything that is HTTP and not the server's own trouble is an answer; a list costs nothing."""
        upstream = self._upstream()
        try:
            status, value, _ = await self._say(upstream, "GET", "/v1/models", None)
        except Refused as refused:
            return "silent", refused.message
        except (aiohttp.ClientError, TimeoutError, OSError):
            return "silent", f"{self.where} broke its answer off."
        finally:
            await upstream.close()
        if status >= 500:
            trouble = f"{self.where} is in trouble (status {status}): {_sentence(value)}".rstrip(": ")
            return "silent", self._without_key(trouble)
        return "answers", ""

    async def let_go(self, seconds: float) -> str:
        return ""

    def pids(self) -> frozenset[int]:
        return frozenset()


def _sentence(value: dict[str, Any]) -> str:
    error = value.get("error", value)
    said = error.get("message") if isinstance(error, dict) else error
    return str(said)[:300] if said else ""


def _wait_of(text: str) -> float:
    try:
        return max(0.0, float(text))
    except ValueError:
        return 1.0 if text else 0.0
