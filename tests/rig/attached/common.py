"""What both stand-ins are made of: an HTTP server that reads its knobs at each request and keeps a journal. Standard library only."""
# ruff: noqa: PTH110, PTH118, PTH123, RET503

import json
import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FOLDER = os.environ.get("STAND_IN_FOLDER", ".")
LOCK = threading.RLock()


def knobs():
    try:
        with open(os.path.join(FOLDER, "knobs.json")) as file:
            return json.load(file)
    except OSError:
        return {}


def journal(event, **fields):
    with LOCK, open(os.path.join(FOLDER, "journal.jsonl"), "a") as file:
        file.write(json.dumps({"event": event, **fields}) + "\n")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def body(self):
        length = int(self.headers.get("Content-Length") or 0)
        data = self.rfile.read(length)
        try:
            return json.loads(data) if data else {}
        except ValueError:
            return {}

    def send(self, value, status=200, kind="application/json", headers=()):
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for name, text in (*headers, *self.repeated()):
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(data)

    def repeated(self):
        """What it was sent, said back: by a debugging proxy before it, say."""
        whole = self.headers.get("Authorization", "")
        return [("X-Seen-Authorization", whole), ("X-Region", "north")] if knobs().get("repeats") else []

    def begin(self, kind):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        for name, text in self.repeated():
            self.send_header(name, text)
        self.end_headers()

    def chunk(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def chat(self, asked, model, words):
        """An OpenAI answer of these words, whole or streamed; `half` breaks it off in the middle."""
        head = {"id": "chatcmpl-1", "created": 1, "model": model}
        if not asked.get("stream"):
            message = {"role": "assistant", "content": " ".join(words)}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            usage = {"prompt_tokens": 3, "completion_tokens": len(words), "total_tokens": 3 + len(words)}
            return self.send({**head, "object": "chat.completion", "choices": [choice], "usage": usage})
        self.begin("text/event-stream")
        for number, word in enumerate(words):
            if knobs().get("half") == number:
                self.connection.close()
                raise ConnectionError
            choice = {"index": 0, "delta": {"role": "assistant", "content": word + " "}, "finish_reason": None}
            self.chunk(
                b"data: "
                + json.dumps({**head, "object": "chat.completion.chunk", "choices": [choice]}).encode()
                + b"\n\n"
            )
        self.chunk(b"data: [DONE]\n\n")
        self.chunk(b"")

    def embedding(self, model):
        self.send(
            {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.1, 0.2]}], "model": model}
        )


def serve(port, handler, at_end=lambda: None, tls=None):
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)

    def told(number, _frame):
        mine = os.path.exists(os.path.join(FOLDER, "mine"))
        journal("signal", number=number, from_test=mine)
        at_end()
        os._exit(0)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, told)
    journal("start", port=port, argv=sys.argv[1:])
    server.serve_forever(0.05)
