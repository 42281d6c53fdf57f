"""Finds a package's source archive on the indexes that pip is configured with, and fetches it: resumed, counted, checked."""

from __future__ import annotations

import errno
import hashlib
import re
import ssl
import time
from collections.abc import Iterable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import httpx
import msgspec

from app.core.errors import DiskFull, EngineFailed
from app.daemon.package_index import PipSettings
from app.daemon.work import Work

SECONDS_WITHOUT_A_BYTE = 60.0
_PIECE = 256 * 1024


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """A file of an index: `sha256` "" when the index does not tell it."""

    url: str
    name: str
    sha256: str = ""


class _Anchors(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a" and (target := dict(attrs).get("href")):
            self.targets.append(target)


def links_of_page(page: str, base_url: str) -> tuple[Link, ...]:
    """The files that a page of an index (PEP 503) names."""
    anchors = _Anchors()
    anchors.feed(page)
    return tuple(_link(urljoin(base_url, target)) for target in anchors.targets)


def _link(url: str) -> Link:
    plain, fragment = urldefrag(url)
    algorithm, _, digest = fragment.partition("=")
    name = unquote(urlsplit(plain).path.rpartition("/")[2])
    return Link(url=plain, name=name, sha256=digest if algorithm == "sha256" else "")


def archive_among(links: Iterable[Link], package: str, version: str) -> Link | None:
    """The source archive of exactly this version; names are compared as the indexes do (PEP 503, PEP 625)."""
    stem = re.sub(r"[-_.]+", "-", f"{package}-{version}").lower()
    for link in links:
        if link.name.endswith(".tar.gz") and re.sub(r"[-_.]+", "-", link.name[: -len(".tar.gz")]).lower() == stem:
            return link
    return None


def find_archive(settings: PipSettings, package: str, version: str) -> Link:
    """Where the source archive lies; raises EngineFailed with each place's own reason when it lies nowhere."""
    reasons: list[str] = []
    project = re.sub(r"[-_.]+", "-", package).lower()
    for place in _places(settings):
        url = place.url if place.whole else f"{place.url.rstrip('/')}/{project}/"
        try:
            found = archive_among(_read_page(settings, url), package, version)
        except (httpx.HTTPError, OSError, ValueError) as error:
            reasons.append(f"{_host(url)} {_why(error)}")
            continue
        if found is not None:
            return found
        reasons.append(f"{_host(url)} does not have it")
    advice = "Check the network, or pip's index settings (`pip config list`)."
    raise EngineFailed(f"The source of {package} {version} cannot be had: {'; '.join(reasons)}.", advice)


class _Place(msgspec.Struct, frozen=True):
    url: str
    whole: bool  # a folder or page that names files itself, not an index of projects


def _places(settings: PipSettings) -> Iterator[_Place]:
    for link in settings.find_links:
        yield _Place(link, True)
    if not settings.no_index:
        yield _Place(settings.index_url or pips_own_index(), False)
        for url in settings.extra_index_urls:
            yield _Place(url, False)


def _read_page(settings: PipSettings, url: str) -> tuple[Link, ...]:
    local = _local(url)
    if local is not None:
        if (local / "index.html").is_file():
            return links_of_page((local / "index.html").read_text("utf-8"), local.as_uri() + "/")
        if local.is_dir():
            return tuple(_link(file.absolute().as_uri()) for file in sorted(local.iterdir()))
        return links_of_page(local.read_text("utf-8"), local.parent.as_uri() + "/")
    with _client(settings, url) as client:
        answer = client.get(url, headers={"Accept": "text/html"})
    answer.raise_for_status()
    return links_of_page(answer.text, str(answer.url))


def _local(url: str) -> Path | None:
    if url.startswith("file://"):
        return Path(unquote(urlsplit(url).path))
    return None if "://" in url else Path(url)


def fetch(settings: PipSettings, link: Link, target: Path, sha256: str, work: Work) -> None:
    """The file as `target`, whole and checked; a part of an earlier try is gone on with.

    Raises EngineFailed when it cannot be had or is another file than the one that was meant, DiskFull when it has no room.
    """
    part = target.with_name(f"{target.name}.part")
    try:
        local = _local(link.url)
        pieces = _copied(local) if local is not None else _downloaded(settings, link, part, work)
        with part.open("ab" if local is None else "wb") as file:
            for piece in pieces:
                file.write(piece)
                work.reached("download")
    except (httpx.HTTPError, OSError) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"The disk of {part.parent} is full.", "Make room and install again.") from error
        raise EngineFailed(
            f"{link.name} could not be downloaded: {_host(link.url)} {_why(error)}.",
            "Install again: it goes on where it stopped.",
        ) from error
    wanted, found = sha256 or link.sha256, _sha256(part)
    if wanted and found != wanted:
        part.unlink()
        raise EngineFailed(
            f"{link.name} from {_host(link.url)} is not the file that was published: its SHA-256 differs.",
            "Do not use that index until its owner has looked at it.",
            f"expected {wanted}, found {found}",
        )
    part.replace(target)


def _copied(file: Path) -> Iterator[bytes]:
    with file.open("rb") as opened:
        while piece := opened.read(_PIECE):
            yield piece


def _downloaded(settings: PipSettings, link: Link, part: Path, work: Work) -> Iterator[bytes]:
    done = part.stat().st_size if part.exists() else 0
    with _client(settings, link.url) as client:
        headers = (
            {"Range": f"bytes={done}-", "Accept-Encoding": "identity"} if done else {"Accept-Encoding": "identity"}
        )
        with client.stream("GET", link.url, headers=headers) as answer:
            if answer.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                return  # the part is the whole
            answer.raise_for_status()
            if done and answer.status_code != httpx.codes.PARTIAL_CONTENT:
                done = 0
                part.write_bytes(b"")
            length = answer.headers.get("Content-Length", "")
            total = done + int(length) if length.isdigit() else None
            begun, before = time.monotonic(), done
            for piece in answer.iter_bytes(_PIECE):
                yield piece
                done += len(piece)
                speed = (done - before) / max(1e-6, time.monotonic() - begun)
                work.say(
                    f"Downloading {link.name}",
                    progress=done / total if total else None,
                    bytes_done=done,
                    bytes_total=total,
                    eta_seconds=(total - done) / speed if total and speed else None,
                )


def _client(settings: PipSettings, url: str) -> httpx.Client:
    """As pip would ask: with the person's own certificates, and none for a host that the settings trust."""
    verify: ssl.SSLContext | bool = True
    if urlsplit(url).hostname in settings.trusted_hosts or urlsplit(url).netloc in settings.trusted_hosts:
        verify = False
    elif settings.certificates:
        verify = ssl.create_default_context(cafile=settings.certificates)
    return httpx.Client(
        verify=verify, follow_redirects=True, timeout=settings.timeout_seconds or SECONDS_WITHOUT_A_BYTE
    )


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _host(url: str) -> str:
    """The place for a sentence: never the whole address, which may hold a password."""
    return urlsplit(url).hostname or unquote(urlsplit(url).path)


def _why(error: Exception) -> str:
    match error:
        case httpx.HTTPStatusError():
            return f"answers {error.response.status_code} {error.response.reason_phrase}".strip()
        case httpx.TimeoutException():
            return "does not answer"
        case httpx.ConnectError():
            return f"cannot be reached ({error})"
        case OSError():
            return error.strerror or str(error)
    return str(error)


def pips_own_index() -> str:
    """The index that pip takes when nobody names one, as pip itself has it; raises EngineFailed where there is no pip."""
    try:
        from pip._internal.models.index import PyPI
    except ImportError as error:
        raise EngineFailed(
            "No package index is known: pip is not in this environment, and none is configured.",
            "Set PIP_INDEX_URL to your package index.",
        ) from error
    return str(PyPI.simple_url)
