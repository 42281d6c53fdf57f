"""Asks a model that runs elsewhere, at one address after another: its key goes only there, and each trouble is one sentence.

Another address is tried only while the client has not had a byte. Redirects are not followed: where they lead nobody has
agreed to send the key. TLS certificates are verified, always.
"""

from __future__ import annotations

import ssl
import time
import urllib.request
from collections.abc import Iterable
from urllib.parse import urlsplit

import aiohttp
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from app.core.errors import SettingInvalid
from app.core.lifecycle import Endpoint
from app.daemon.gateway.answers import Refused
from app.daemon.gateway.upstream import Route, Upstream, was_used_before
from app.engines.base import Outlet
from app.engines.registry import is_loopback

DOWN_SECONDS = 15.0  # one that did not answer comes last for so long
_PASSING = (502, 503, 504)  # what stands before a server says these when the server is down


class Outlets(Upstream):
    """The pools to all addresses of one run."""

    def __init__(self, route: Route, endpoint: Endpoint) -> None:
        """Raises nothing: whoever asks is told what is wrong with the route."""
        self._distrust = ""
        trust: ssl.SSLContext | bool = True
        try:
            trust = trust_of(route.outlets)
        except SettingInvalid as error:
            self._distrust = str(error)
        super().__init__(route, endpoint, trust)
        self._outlets = route.outlets
        self._down: dict[str, float] = {}

    async def ask(
        self, method: str, path: str, query: str, headers: CIMultiDictProxy[str] | CIMultiDict[str], body: bytes | None
    ) -> aiohttp.ClientResponse:
        """The first answer that is one; raises Refused (502) with what every address said."""
        if self._distrust:
            raise Refused(502, self._distrust, code="remote_unreachable")
        sent = self._headers(headers)
        sent.pop("Authorization", None)
        troubles: list[str] = []
        outlets = self._in_turn()
        for number, outlet in enumerate(outlets):
            try:
                answer = await self._one(outlet, method, path, query, sent, body)
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
                trouble: str | None = _why(outlet, error)
            else:
                trouble = trouble_of(outlet, answer, more=number + 1 < len(outlets))
                if trouble is None:
                    self._down.pop(outlet.base_url, None)
                    return answer
                answer.close()
            assert trouble is not None
            troubles.append(trouble)
            self._down[outlet.base_url] = time.monotonic() + DOWN_SECONDS
        raise Refused(502, " ".join(troubles), code="remote_unreachable", retry_after_seconds=5)

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple({value.removeprefix("Bearer ") for outlet in self._outlets for value in outlet.headers.values()})

    def _in_turn(self) -> list[Outlet]:
        """As the profile has them, those that were down a moment ago last."""
        now = time.monotonic()
        return sorted(self._outlets, key=lambda outlet: self._down.get(outlet.base_url, 0.0) > now)

    async def _one(
        self, outlet: Outlet, method: str, path: str, query: str, sent: dict[str, str], body: bytes | None
    ) -> aiohttp.ClientResponse:
        url = URL(outlet.url(path, query), encoded=True)
        whole = {**sent, **outlet.headers}
        proxy = proxy_of(outlet.base_url)
        try:
            return await self._session.request(
                method, url, headers=whole, data=body, allow_redirects=False, proxy=proxy
            )
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, ConnectionError):
            if not was_used_before():
                raise
        return await self._session.request(method, url, headers=whole, data=body, allow_redirects=False, proxy=proxy)


def trust_of(outlets: Iterable[Outlet]) -> ssl.SSLContext | bool:
    """Which authorities are believed: the file that the profile names, else the system's own. Raises SettingInvalid."""
    file = next((outlet.ca_file for outlet in outlets if outlet.ca_file), "")
    if not file:
        return True
    try:
        return ssl.create_default_context(cafile=file)
    except ssl.SSLError:
        why = "holds no certificate that can be read"
    except OSError as error:
        why = f"cannot be read: {error.strerror}"
    raise SettingInvalid(
        f"ca_file: {file} {why}.",
        "Name a PEM file with the authority's certificate in the profile, or take ca_file out.",
    )


def trouble_of(outlet: Outlet, answer: aiohttp.ClientResponse, *, more: bool) -> str | None:
    """Why an answer cannot be the model's, as a sentence; None when it goes to the client. `more`: another address is left."""
    where = host_of(outlet)
    if 300 <= answer.status < 400:
        to = urlsplit(answer.headers.get("Location", "")).hostname or "another place"
        return (
            f"{where} redirects to {to[:100]}; the request and its key were not sent there. "
            "If that is the right address, name it as base_url in the profile."
        )
    kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind in ("text/html", "application/xhtml+xml"):
        return (
            f"{where} answered with a web page (status {answer.status}) instead of a model's answer: mostly base_url lacks "
            "its path (/v1), or a sign-in page stands before it."
        )
    if answer.status in _PASSING and more:
        return f"{where} is down (status {answer.status})."
    return None


def host_of(outlet: Outlet) -> str:
    return urlsplit(outlet.base_url).netloc


def proxy_of(address: str) -> str | None:
    """The proxy that the environment names for an address; none for this machine."""
    parts = urlsplit(address)
    if is_loopback(address) or urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    return urllib.request.getproxies_environment().get(parts.scheme)


def _why(outlet: Outlet, error: Exception) -> str:
    """A sentence; the exception's own text may quote what was sent and stays here."""
    where = host_of(outlet)
    match error:
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientSSLError() | ssl.SSLError():
            return (
                f"The certificate of {where} cannot be verified, so nothing was sent. If its authority is your own, name "
                "its file as ca_file in the profile."
            )
        case aiohttp.ClientConnectorDNSError():
            return f"There is no host {where}, or the network's names cannot be looked up."
        case aiohttp.ClientConnectorError() | aiohttp.ConnectionTimeoutError() | TimeoutError():
            return f"{where} cannot be reached."
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientOSError() | ConnectionError():
            return f"{where} closed the connection before it answered."
    return f"{where} does not answer in valid HTTP."
