"""Speaks HTTP/1.1 with one client per thread, and notices at once when the client leaves."""

import json
import os
import select
import socket
import threading
import time

from standin import this
from standin.knobs import journal, knob

REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    501: "Not Implemented",
    503: "Service Unavailable",
}


class Gone(Exception):
    """The client closed the connection."""


class Connection(threading.Thread):
    def __init__(self, connection):
        super().__init__(daemon=True)
        self.socket = connection
        self.buffer = b""
        self.wrote = False
        self.id = ""
        self.told = False  # whether the journal has this request; health and numbers are asked too often for it
        self.deaf = False  # does not notice that the client left

    def run(self):
        try:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while self.one_request():
                pass
        except (Gone, OSError):
            pass
        finally:
            self.socket.close()

    def read_more(self):
        data = self.socket.recv(65536)
        if not data:
            raise Gone
        self.buffer += data

    def one_request(self):
        while b"\r\n\r\n" not in self.buffer:
            self.read_more()
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ", 2)
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if headers.get("expect", "").lower() == "100-continue":
            self.socket.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if headers.get("transfer-encoding", "").lower() == "chunked":
            body = self.read_chunked()
        else:
            length = int(headers.get("content-length", 0))
            while len(self.buffer) < length:
                self.read_more()
            body, self.buffer = self.buffer[:length], self.buffer[length:]
        with this.state.lock:
            this.state.requests += 1
            self.id = f"{os.getpid()}-{this.state.requests}"
        for _ in range(knob("LEAK_DESCRIPTORS")):
            this.state.leaked.append(os.open("/dev/null", os.O_RDONLY))
        path, _, self.query = target.partition("?")
        try:
            asked = json.loads(body) if body else {}
        except ValueError:
            asked = None
        self.wrote = False
        self.told = not path.startswith(("/health", "/slots", "/metrics"))
        if self.told:
            fields = asked if isinstance(asked, dict) else {}
            journal(
                "request", id=self.id, method=method, path=path, bytes=len(body), model=fields.get("model"),
                stream=bool(fields.get("stream")), max_tokens=fields.get("max_tokens"),
                authorization=headers.get("authorization", ""),
            )  # fmt: skip
        try:
            self.answer(method, path, headers, asked)
        except (Gone, OSError):
            journal("closed_by_client", id=self.id, path=path, wrote=self.wrote)
            raise Gone from None
        if self.told:
            journal("finished", id=self.id, path=path)
        return headers.get("connection", "").lower() != "close"

    def read_chunked(self):
        body = b""
        while True:
            while b"\r\n" not in self.buffer:
                self.read_more()
            size, _, self.buffer = self.buffer.partition(b"\r\n")
            length = int(size.split(b";")[0], 16)
            while len(self.buffer) < length + 2:
                self.read_more()
            body, self.buffer = body + self.buffer[:length], self.buffer[length + 2 :]
            if length == 0:
                return body

    def wait(self, seconds):
        """Sleeps; raises Gone as soon as the client closes."""
        end = time.monotonic() + seconds
        while True:
            left = end - time.monotonic()
            if left <= 0:
                left = 0
            if self.buffer or self.deaf:
                time.sleep(left)
                return
            readable, _, _ = select.select([self.socket], [], [], left)
            if readable:
                if not self.socket.recv(1, socket.MSG_PEEK):
                    raise Gone
                self.buffer += self.socket.recv(65536)
            elif left == 0:
                return

    def hang(self):
        while True:
            self.wait(3600)

    def send(self, data):
        self.socket.sendall(data)
        if not self.wrote:
            self.wrote = True
            if self.told:
                journal("first_byte", id=self.id)

    def send_json(self, value, status=200, headers=""):
        self.send_body(json.dumps(value).encode(), "application/json; charset=utf-8", status, headers)

    def send_body(self, body, kind, status=200, headers=""):
        head = f"HTTP/1.1 {status} {REASONS.get(status, 'Error')}\r\nServer: stand-in\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
        self.send(head.encode() + body)

    def error(self, status, message, kind):
        self.send_json(this.face.error(status, message, kind), status)

    def begin_stream(self, kind="text/event-stream"):
        self.send(
            f"HTTP/1.1 200 OK\r\nServer: stand-in\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        )

    def chunk(self, data):
        self.send(b"%x\r\n%s\r\n" % (len(data), data))

    def answer(self, method, path, headers, asked):
        if path == this.face.health_path and method == "GET":
            if knob("HEALTH_HANGS"):
                self.hang()
            return this.face.health(self)
        if this.options.keys and path not in this.face.open_paths:
            given = headers.get("authorization", "").removeprefix("Bearer ").strip()
            if given not in this.options.keys:
                return self.send_json(this.face.unauthorized, 401)
        if not this.state.loaded.is_set() or knob("NEVER_HEALTHY"):
            return self.error(503, "Loading model", "unavailable_error")
        if asked is None:
            return self.error(400, "the body is not JSON", "invalid_request_error")
        route = this.face.routes.get((method, path))
        if route is None:
            return self.error(404, "File Not Found", "not_found_error")
        return route(self, asked)
