"""A hub of models on this machine, speaking the real one's protocol: search, listings, resolve with redirects, ranges, ETags.

Files that are "large" (LFS) are redirected to a second server, as the real hub does to its network of copies; that one must
never see the token. Troubles are asked for per file: see `Trouble`.
"""

import contextlib
import hashlib
import json
import re
import threading
import urllib.parse
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_secret-of-the-person"
LARGE = 4096  # bytes: from here on a file is kept as LFS


@dataclass
class Trouble:
    """What goes wrong with one file; each list is used up from its front, one item per request for content."""

    cut_after: list[int] = field(default_factory=list)  # bytes of the answer after which the connection is cut
    statuses: list[int] = field(default_factory=list)  # refused with these first (Retry-After: 0.1)
    hold_after: int | None = None  # bytes after which nothing more comes until `go_on` is set
    go_on: threading.Event = field(default_factory=threading.Event)
    held: threading.Event = field(default_factory=threading.Event)
    wrong: bool = False  # other bytes than published, of the same size
    no_ranges: bool = False


@dataclass
class Repository:
    name: str
    files: dict[str, bytes]
    gated: bool = False
    tags: tuple[str, ...] = ("gguf", "text-generation")
    downloads: int = 10
    trouble: dict[str, Trouble] = field(default_factory=dict)

    @property
    def commit(self) -> str:
        digest = hashlib.sha1(usedforsecurity=False)
        for path, data in sorted(self.files.items()):
            digest.update(path.encode() + hashlib.sha256(data).digest())
        return digest.hexdigest()

    def of(self, path: str) -> Trouble:
        return self.trouble.setdefault(path, Trouble())


@dataclass(frozen=True)
class Seen:
    """One request."""

    where: str  # hub · copies
    method: str
    path: str
    range: str
    authorization: str
    agent: str


def etag_of(data: bytes) -> str:
    if len(data) >= LARGE:
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


class HubStandIn:
    """`url` is for HF_ENDPOINT. Use it in a `with`."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.seen: list[Seen] = []
        self.down = False
        self._servers: list[ThreadingHTTPServer] = []
        self._closing = threading.Event()

    def add(self, name: str, files: dict[str, bytes], **more: Any) -> Repository:
        repository = self.repositories[name] = Repository(name, dict(files), **more)
        return repository

    def __enter__(self) -> "HubStandIn":
        for where in ("hub", "copies"):
            handler = type(f"{where}Handler", (_Handler,), {"hub": self, "where": where})
            server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True, name=f"stand-in {where}").start()
            self._servers.append(server)
        self.url = f"http://127.0.0.1:{self._servers[0].server_address[1]}"
        self.copies_url = (
            f"http://localhost:{self._servers[1].server_address[1]}"  # another host, so the token stays home
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        for repository in self.repositories.values():
            for trouble in repository.trouble.values():
                trouble.go_on.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def ranges(self, path: str) -> list[str]:
        """The ranges of that file that were asked of the copies, in order."""
        return [seen.range for seen in self.seen if seen.where == "copies" and seen.path.endswith(f"/{path}")]


class _Handler(BaseHTTPRequestHandler):
    hub: HubStandIn
    where: str
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._serve(body=False)

    def do_GET(self) -> None:
        self._serve(body=True)

    def _serve(self, body: bool) -> None:
        path, _, query = self.path.partition("?")
        path = urllib.parse.unquote(path)
        headers = self.headers
        self.hub.seen.append(
            Seen(
                self.where,
                self.command,
                path,
                headers.get("Range", "").removeprefix("bytes="),
                headers.get("Authorization", ""),
                headers.get("User-Agent", ""),
            )
        )
        with contextlib.suppress(ConnectionError):
            if self.hub.down:
                self._json({"error": "maintenance"}, 503)
            elif self.where == "copies":
                self._copy(path, body)
            elif path == "/api/models":
                self._search(urllib.parse.parse_qs(query))
            elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?", path):
                self._info(found[1])
            elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", path):
                self._tree(found[1])
            elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
                self._resolve(found[1], found[3], body)
            else:
                self._json({"error": "Not found"}, 404)

    # --- the API

    def _search(self, query: dict[str, list[str]]) -> None:
        words = " ".join(query.get("search", [""])).lower().split()
        kinds = query.get("filter", [])
        found = [
            self._about(each)
            for each in sorted(self.hub.repositories.values(), key=lambda one: -one.downloads)
            if all(word in each.name.lower() for word in words) and all(kind in each.tags for kind in kinds)
        ]
        self._json(found[: int(query.get("limit", ["100"])[0])])

    def _about(self, repository: Repository) -> dict[str, Any]:
        return {
            "_id": "1",
            "id": repository.name,
            "modelId": repository.name,
            "sha": repository.commit,
            "lastModified": "2026-10-01T12:00:00.000Z",
            "createdAt": "2026-09-01T12:00:00.000Z",
            "private": False,
            "gated": "manual" if repository.gated else False,
            "disabled": False,
            "downloads": repository.downloads,
            "likes": 3,
            "tags": [*repository.tags, "license:apache-2.0"],
            "pipeline_tag": "text-generation",
            "siblings": [{"rfilename": path} for path in repository.files],
        }

    def _known(self, name: str) -> Repository | None:
        repository = self.hub.repositories.get(name)
        if repository is None:
            self._json({"error": "Repository not found"}, 401, {"X-Error-Code": "RepoNotFound"})
        return repository

    def _info(self, name: str) -> None:
        if (repository := self._known(name)) is not None:
            self._json(self._about(repository))

    def _tree(self, name: str) -> None:
        if (repository := self._known(name)) is None:
            return
        entries = []
        for path, data in repository.files.items():
            entry: dict[str, Any] = {"type": "file", "path": path, "size": len(data), "oid": _git_hash(data)}
            if len(data) >= LARGE:
                entry["lfs"] = {"oid": etag_of(data), "size": len(data), "pointerSize": 135}
            entries.append(entry)
        self._json(entries)

    # --- files

    def _resolve(self, name: str, path: str, body: bool) -> None:
        if (repository := self._known(name)) is None:
            return
        if repository.gated and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            status = 403 if self.headers.get("Authorization") else 401
            self._json({"error": "Access to this model is restricted."}, status, {"X-Error-Code": "GatedRepo"})
            return
        if path not in repository.files:
            self._json({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})
            return
        data = repository.files[path]
        about = {"X-Repo-Commit": repository.commit, "ETag": f'"{etag_of(data)}"', "Accept-Ranges": "bytes"}
        if len(data) < LARGE:
            self._content(repository, path, about, body)
            return
        about |= {"X-Linked-Size": str(len(data)), "X-Linked-Etag": f'"{etag_of(data)}"'}
        self.send_response(302)
        for key, value in about.items():
            self.send_header(key, value)
        self.send_header("Location", f"{self.hub.copies_url}/signed/{name}/{path}?Signature=abc")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _copy(self, path: str, body: bool) -> None:
        found = re.fullmatch(r"/signed/([^/]+/[^/]+)/(.+)", path)
        repository = self.hub.repositories.get(found[1]) if found else None
        if found is None or repository is None or found[2] not in repository.files:
            self._json({"error": "gone"}, 404)
            return
        about = {"ETag": f'"{etag_of(repository.files[found[2]])}"', "Accept-Ranges": "bytes"}
        self._content(repository, found[2], about, body)

    def _content(self, repository: Repository, path: str, about: dict[str, str], body: bool) -> None:
        data, trouble = repository.files[path], repository.of(path)
        if trouble.statuses:
            self._json({"error": "trouble"}, trouble.statuses.pop(0), {"Retry-After": "0.1"})
            return
        start, end = 0, len(data)
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked and not trouble.no_ranges:
            start, end = int(asked[1]), min(end, int(asked[2]) + 1 if asked[2] else end)
            if start >= len(data):
                self._json({"error": "range"}, 416)
                return
        whole = bytes(len(data)) if trouble.wrong else data
        partial = asked is not None and not trouble.no_ranges
        self.send_response(206 if partial else 200)
        for key, value in about.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(end - start))
        if partial:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(data)}")
        self.end_headers()
        if body:
            self._pour(whole[start:end], trouble)

    def _pour(self, data: bytes, trouble: Trouble) -> None:
        cut = trouble.cut_after.pop(0) if trouble.cut_after else None
        stops = sorted(each for each in (cut, trouble.hold_after) if each is not None and each < len(data))
        at = 0
        for stop in [*stops, len(data)]:
            self.wfile.write(data[at:stop])
            at = stop
            if cut is not None and stop == cut:
                self.close_connection = True
                self.connection.close()
                return
            if trouble.hold_after == stop and not trouble.go_on.is_set():
                self.wfile.flush()
                trouble.held.set()
                trouble.go_on.wait(120)

    def _json(self, value: object, status: int = 200, more: dict[str, str] | None = None) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        for key, each in (more or {}).items():
            self.send_header(key, each)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def _git_hash(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
