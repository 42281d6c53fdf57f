"""The smoke finds what is wrong with the endpoint as another program sees it, though the window itself goes another way."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from app.smoke import SmokeFailed, ask_endpoint

WORDS = b'data: {"choices": [{"delta": {"content": "yes"}}]}\n\ndata: [DONE]\n\n'


@contextmanager
def endpoint(status: int, body: bytes) -> Iterator[str]:
    class Answers(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()
            thread.join()


def test_an_endpoint_that_answers_is_heard() -> None:
    with endpoint(200, WORDS) as url:
        first_token_seconds, text = asyncio.run(ask_endpoint(url, "?"))
    assert (text, first_token_seconds > 0) == ("yes", True)


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (403, b"not from here", "answered a program with 403: not from here"),
        (200, b"data: [DONE]\n\n", "without a token"),
        (200, b"data: nonsense\n\n", "does not answer a program"),
    ],
    ids=["blocked", "no token", "nonsense"],
)
def test_an_endpoint_that_is_blocked_fails_the_smoke(status: int, body: bytes, told: str) -> None:
    with endpoint(status, body) as url, pytest.raises(SmokeFailed, match=told):
        asyncio.run(ask_endpoint(url, "?"))


def test_an_endpoint_that_nobody_serves_fails_it_too() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}/v1"
        with pytest.raises(SmokeFailed, match="does not answer a program"):
            asyncio.run(ask_endpoint(url, "?"))
