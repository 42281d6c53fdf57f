"""Is somebody else's server: takes a stand-in's port a moment before it and answers as a perfectly healthy engine."""

import http.server
import json
import socket
import threading
from pathlib import Path


class _Answers(http.server.BaseHTTPRequestHandler):
    model = "squatter"

    def _send(self, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        listing = {"object": "list", "data": [{"id": self.model, "object": "model"}]}
        self._send(listing if self.path == "/v1/models" else {"status": "ok"})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunk = {"choices": [{"index": 0, "delta": {"content": "me"}, "finish_reason": None}]}
        body = b"data: " + json.dumps(chunk).encode() + b"\n\ndata: [DONE]\n\n"
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Squatter:
    """Give its `meeting` to the knob `port_taken_by`; it answers under the model's very name. It runs in the test's
    own process, so it is nobody's child and carries no run's marker."""

    def __init__(self, folder: Path, model: str, times: int = 100) -> None:
        self.meeting = folder / "squatter.sock"
        self.ports: list[int] = []
        self._times = times
        self._handler = type("Answers", (_Answers,), {"model": model})
        self._servers: list[http.server.ThreadingHTTPServer] = []
        self._door = socket.socket(socket.AF_UNIX)
        self._door.bind(str(self.meeting))
        self._door.listen(8)
        self._thread = threading.Thread(target=self._take_ports, daemon=True)
        self._thread.start()

    def _take_ports(self) -> None:
        while True:
            try:
                client, _ = self._door.accept()
            except OSError:
                return
            with client:
                port = int(client.recv(16))
                if len(self.ports) < self._times:
                    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), self._handler)
                    self._servers.append(server)
                    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
                    self.ports.append(port)
                client.sendall(b"done\n")

    def __enter__(self) -> "Squatter":
        return self

    def __exit__(self, *_: object) -> None:
        self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()
        self._thread.join(60)
        for server in self._servers:
            server.shutdown()
            server.server_close()
