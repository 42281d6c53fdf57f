"""Owns the connections to engines: one pool per run, made when it is ready and dropped with it."""

from __future__ import annotations

import re
import ssl
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any, Literal
from weakref import WeakSet

import aiohttp
import msgspec
from aiohttp import DummyCookieJar
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from app.core.lifecycle import Endpoint
from app.core.redaction import tells_secret
from app.daemon.gateway.answers import Refused
from app.engines.base import Outlet, Traits

# Shorter than any engine's own (5 s for llama-server and uvicorn), so that a pooled connection is rarely a dead one.
KEEPALIVE_SECONDS = 2.0
CONNECT_SECONDS = 5.0

# Of the client's headers an engine needs these. Keys, cookies and browser headers stay with us.
_FORWARDED = ("Accept", "Content-Type", "User-Agent", "X-Request-Id", "anthropic-version", "anthropic-beta")
# Of the engine's headers these are between it and us, or would undo our own rules.
_KEPT_BACK = re.compile(
    r"connection|keep-alive|transfer-encoding|te|trailer|upgrade|proxy-.*|access-control-.*|set-cookie|content-length",
    re.IGNORECASE,
)


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """What stands behind the endpoint, whole, as the supervisor says it at each change."""

    seat: str = "main"
    state: Literal["ready", "loading", "draining", "resting", "lent", "none"] = "none"  # resting: a request wakes it
    profile_id: str = ""
    run_id: str = ""
    title: str = ""
    aliases: tuple[str, ...] = ()
    endpoint: Endpoint | None = None
    traits: Traits = Traits()
    reason: str = ""  # a sentence: why nothing is there
    eta_seconds: float | None = None
    until: float | None = None  # monotonic seconds: when what is lent comes back
    api_key: str = ""  # of the engine, when it was launched with one
    outlets: tuple[Outlet, ...] = ()  # of a model that runs elsewhere, in the order in which they are tried

    @property
    def names(self) -> list[str]:
        """The names under which the model can be asked for, the engine's own first."""
        first = self.endpoint.model_name if self.endpoint is not None else self.profile_id
        return list(dict.fromkeys(name for name in (first, self.profile_id, *self.aliases) if name))


# Whether the connection that this task's request was sent on had carried one before.
_used_before: ContextVar[bool] = ContextVar("used_before", default=False)


def was_used_before() -> bool:
    """Whether this task's last request went over a connection that had carried one before."""
    return _used_before.get()


class _Pool(aiohttp.TCPConnector):
    """Knows its old connections from new ones; aiohttp's tracing would tell too, at a tenth of a request's cost."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._seen: WeakSet[object] = WeakSet()

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Any], timeout: aiohttp.ClientTimeout
    ) -> aiohttp.connector.Connection:
        connection = await super().connect(req, traces, timeout)
        _used_before.set(connection.protocol in self._seen)
        self._seen.add(connection.protocol)
        return connection


class Upstream:
    """The pool to one run's engine."""

    def __init__(self, route: Route, endpoint: Endpoint, trust: ssl.SSLContext | bool = True) -> None:
        self.route = route
        self._base = endpoint.base_url.rstrip("/")
        self._urls: dict[str, URL] = {}
        self._session = aiohttp.ClientSession(
            connector=_Pool(limit=0, keepalive_timeout=KEEPALIVE_SECONDS, ssl=trust),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
            cookie_jar=DummyCookieJar(),
            auto_decompress=False,
            headers={"Accept-Encoding": "identity"},
            skip_auto_headers=("Accept",),
            max_line_size=64 * 1024,
            max_field_size=64 * 1024,
        )

    async def ask(
        self, method: str, path: str, query: str, headers: CIMultiDictProxy[str] | CIMultiDict[str], body: bytes | None
    ) -> aiohttp.ClientResponse:
        """The engine's answer as soon as its head is here; raises Refused (502) naming why there is none.

        A pooled connection may have been closed by the engine just before it was used: then nothing was answered and
        the request is sent once more. A fresh connection that breaks is the engine's failure and is not tried again.
        """
        url = self._url(path, query)
        sent = self._headers(headers)
        while True:
            _used_before.set(False)
            try:
                return await self._session.request(method, url, headers=sent, data=body, allow_redirects=False)
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, ConnectionError) as error:
                if _used_before.get():
                    continue
                raise _no_answer(error) from error
            except (aiohttp.ClientError, ValueError) as error:
                raise _no_answer(error) from error

    @property
    def keys(self) -> tuple[str, ...]:
        """What the engine is sent and no client may read back (I18)."""
        return (self.route.api_key,)

    def _url(self, path: str, query: str) -> URL:
        if query:
            return URL(self._base + path + query, encoded=True)
        url = self._urls.get(path)
        if url is None:
            url = self._urls[path] = URL(self._base + path, encoded=True)
        return url

    def _headers(self, headers: CIMultiDictProxy[str] | CIMultiDict[str]) -> dict[str, str]:
        sent = {name: value for name in _FORWARDED if (value := headers.get(name)) is not None}
        if self.route.api_key:
            sent["Authorization"] = f"Bearer {self.route.api_key}"
        return sent

    async def close(self) -> None:
        await self._session.close()


def returned_headers(headers: CIMultiDictProxy[str], keys: Sequence[str]) -> CIMultiDict[str]:
    """The engine's headers as the client gets them: without those that repeat one of the `keys` that it was sent (I18)."""
    named = {name.strip().lower() for value in headers.getall("Connection", ()) for name in value.split(",")}
    kept = CIMultiDict(
        (name, value)
        for name, value in headers.items()
        if _KEPT_BACK.fullmatch(name) is None and name.lower() not in named and not tells_secret(value, keys)
    )
    kept.setdefault("Server", "engine-room")
    return kept


def _no_answer(error: Exception) -> Refused:
    """Why the engine did not answer, as a sentence; the exception's own text may quote what was sent and stays here."""
    match error:
        case aiohttp.ClientConnectorError() | aiohttp.ConnectionTimeoutError():
            what = "The engine does not accept connections."
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientOSError() | ConnectionError():
            what = "The engine closed the connection before it answered."
        case _:
            what = "The engine's answer is not valid HTTP."
    return Refused(502, f"{what} Its log in Engine Room says more.", code="engine_unreachable", kind="engine_error")
