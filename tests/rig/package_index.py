"""A package index on the loopback with one wheel: honest, slow, or broken in one of the ways of `Fault`."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal

from tests.rig.wheels import sha256_of

Fault = Literal["", "500", "garbage", "silent", "cut", "stalls", "other file"]
PIECE = 64 * 1024


class PackageIndex(ThreadingHTTPServer):
    """`fault` may change between two requests. `pause_seconds` lies between two pieces of the wheel."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, wheel: Path, fault: Fault = "", pause_seconds: float = 0.0) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.wheel, self.fault, self.pause_seconds = wheel, fault, pause_seconds
        self.over = threading.Event()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/simple"

    def close(self) -> None:
        self.over.set()
        self.shutdown()
        self.server_close()


class _Answers(BaseHTTPRequestHandler):
    server: PackageIndex

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        fault = self.server.fault
        if fault == "silent":
            self.server.over.wait()
        elif not self.path.startswith("/simple/"):
            self._file(fault)
        elif fault == "500":
            self._begin(500, "text/html", 0)
        else:
            name = self.server.wheel.name
            digest = "0" * 64 if fault == "other file" else sha256_of(self.server.wheel)
            page = f'<!doctype html><a href="/files/{name}#sha256={digest}">{name}</a>'
            body = ("<html>\0 no links, and no end <<<" if fault == "garbage" else page).encode()
            self._begin(200, "text/html", len(body))
            self.wfile.write(body)

    def _file(self, fault: Fault) -> None:
        content = self.server.wheel.read_bytes()
        self._begin(200, "application/octet-stream", len(content))
        if self.command == "HEAD":
            return
        sent = content[: len(content) // 2] if fault in ("cut", "stalls") else content
        for start in range(0, len(sent), PIECE):
            self.wfile.write(sent[start : start + PIECE])
            self.server.over.wait(self.server.pause_seconds)
        if fault == "stalls":
            self.server.over.wait()
        self.close_connection = True

    def _begin(self, status: int, kind: str, length: int) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass
