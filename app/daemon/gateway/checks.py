"""Decides whether a request may be looked at at all: host, origin, framing, content type; nothing is routed before."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol
from urllib.parse import urlsplit

from app.daemon.gateway.answers import Refused
from app.daemon.gateway.paths import methods_of, split_target


class Headers(Protocol):
    """A multidict's two questions; names are compared without regard to case."""

    def getall(self, key: str, default: Sequence[str], /) -> Sequence[str]: ...
    def __contains__(self, key: object, /) -> bool: ...


def hosts_of(port: int) -> frozenset[str]:
    """The values of Host under which this endpoint may be called. Anything else is a name that somebody pointed here."""
    names = ("127.0.0.1", "localhost", "[::1]")
    return frozenset((*(f"{name}:{port}" for name in names), *(names if port == 80 else ())))


class Rules:
    """What is allowed on one TCP port. The control socket has no such rules: its file mode is the check."""

    def __init__(self, port: int, allowed_origins: Iterable[str]) -> None:
        self.hosts = hosts_of(port)
        self._own_origins = frozenset("http://" + host for host in self.hosts)
        self.allowed_origins = frozenset(origin.rstrip("/").lower() for origin in allowed_origins if _is_origin(origin))

    def check(self, method: str, target: str, headers: Headers) -> str | None:
        """Raises Refused, or returns the foreign origin that the answer must name (None for a caller that has none)."""
        hosts = headers.getall("Host", ())
        if len(hosts) != 1 or hosts[0].lower() not in self.hosts:
            raise Refused(
                403,
                "This endpoint answers only to 127.0.0.1, localhost and [::1] with its own port; "
                "correct the address in the client.",
                code="host_not_allowed",
                kind="permission_error",
                close=True,
            )
        origin = self._origin(headers)
        self._framing(headers)
        if not target.startswith("/") or "#" in target or "\\" in target:
            raise Refused(400, "The request target must be a plain path.", code="bad_target", close=True)
        if method == "OPTIONS" and origin is not None:
            return origin
        path, _ = split_target(target)
        methods = methods_of(path)
        if not methods:
            raise not_found()
        if method not in methods:
            raise Refused(
                405, f"This path takes {methods[0]}.", code="method_not_allowed", headers={"Allow": ", ".join(methods)}
            )
        if method == "POST":
            self._json(headers)
        return origin

    def _origin(self, headers: Headers) -> str | None:
        origins = headers.getall("Origin", ())
        sites = headers.getall("Sec-Fetch-Site", ())
        foreign: str | None = None
        if origins:
            origin = origins[0].lower()
            if len(origins) > 1 or origin not in self._own_origins | self.allowed_origins:
                raise _cross_site()
            foreign = origins[0] if origin in self.allowed_origins else None
        if len(sites) > 1 or (sites and sites[0].lower() not in ("none", "same-origin") and foreign is None):
            raise _cross_site()
        return foreign

    @staticmethod
    def _framing(headers: Headers) -> None:
        codings = headers.getall("Transfer-Encoding", ())
        if codings and (len(codings) > 1 or codings[0].strip().lower() != "chunked" or "Content-Length" in headers):
            raise bad_framing()
        if len(headers.getall("Content-Length", ())) > 1:
            raise bad_framing()

    @staticmethod
    def _json(headers: Headers) -> None:
        kinds = headers.getall("Content-Type", ())
        kind, _, _ = (kinds[0] if len(kinds) == 1 else "").partition(";")
        if kind.strip().lower() != "application/json":
            raise Refused(415, "Send the body as application/json.", code="unsupported_content_type", close=True)


def check_encoding(headers: Headers) -> None:
    """Bodies are taken as they are: inflating one would let a small request fill the memory."""
    if any(value.strip().lower() not in ("", "identity") for value in headers.getall("Content-Encoding", ())):
        raise Refused(415, "Send the body without compression.", code="unsupported_content_encoding", close=True)


def not_found() -> Refused:
    return Refused(
        404,
        "This path does not exist here. The endpoint has /v1/chat/completions, /v1/completions, /v1/embeddings, "
        "/v1/models, /v1/tokenize, /v1/responses and /v1/messages.",
        code="unknown_path",
        kind="not_found_error",
    )


def bad_framing() -> Refused:
    return Refused(400, "The body's framing is not plain.", code="bad_framing", close=True)


def other_account() -> Refused:
    return Refused(
        403,
        "This endpoint belongs to another account of this machine. "
        "Its owner can allow other accounts with the setting gateway.allow_other_accounts.",
        code="account_not_allowed",
        kind="permission_error",
        close=True,
    )


def _cross_site() -> Refused:
    return Refused(
        403,
        "A web page of another origin may not call this endpoint. "
        "To allow it, add its origin to the setting gateway.allowed_origins.",
        code="origin_not_allowed",
        kind="permission_error",
        close=True,
    )


def _is_origin(value: str) -> bool:
    """Whether a setting names one origin; "*" and "null" would open the endpoint to every page."""
    parts = urlsplit(value.rstrip("/"))
    return parts.scheme in ("http", "https") and bool(parts.netloc) and not parts.path and "*" not in value


def cors_headers(origin: str) -> dict[str, str]:
    return {"Access-Control-Allow-Origin": origin, "Vary": "Origin"}


def preflight_headers(origin: str, asked: Sequence[str], private_network: bool) -> dict[str, str]:
    """The answer to an allowed page's preflight. The headers that it asks for are granted: none has a meaning here."""
    names = [name.strip() for name in ",".join(asked)[:2000].split(",")]
    headers = {
        **cors_headers(origin),
        "Access-Control-Allow-Methods": "GET, POST",
        "Access-Control-Allow-Headers": ", ".join(
            name for name in names if name and name.replace("-", "").replace("_", "").isalnum() and name.isascii()
        ),
        "Access-Control-Max-Age": "600",
    }
    if private_network:
        headers["Access-Control-Allow-Private-Network"] = "true"
    return headers
