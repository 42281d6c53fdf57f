"""What the window's benchmarks share: a stand-in service in a process of its own, and a clock that sees late frames."""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import os
import signal
import statistics
import time
from pathlib import Path
from typing import Any

FRAME_MS = 16

LINE = (
    b"\x1b[32m0.01.%06d.000 I\x1b[0m srv  update_slots: id  0 | task %d | n_past = %d, n_tokens = 64, progress = 0.5\n"
)


def text_of(tokens: int) -> list[str]:
    """Tokens of an answer with paragraphs, lists, a table and code, about four characters each."""
    import itertools

    paragraph = "The KV cache holds keys and values of every token, so it grows with the context and the batch. " * 4
    listed = "".join(f"{n}. item with **strong** words and `code` in it\n" for n in range(1, 9))
    table = "| Part | Size |\n|---|---:|\n" + "".join(f"| part {n} | {n}.5 GiB |\n" for n in range(6))
    code = (
        "```python\n"
        + "".join(f"def f{n}(a: int, b: str) -> int:\n    return a + len(b) * {n}  # note\n\n" for n in range(14))
        + "```\n"
    )
    whole = f"## Memory\n\n{paragraph}\n\n{listed}\n{table}\n{code}\n"
    pieces = [whole[at : at + 4] for at in range(0, len(whole), 4)]
    return list(itertools.islice(itertools.cycle(pieces), tokens))


def serve(socket: str, log: str, lines_per_second: int, tokens_per_second: int) -> None:
    """Streams chats at a rate, and offers a log that grows at a rate, until it is terminated."""
    from aiohttp import web

    started = time.monotonic()
    state = {"written": 0, "growing": False}

    async def chat(request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        answer = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await answer.prepare(request)
        with contextlib.suppress(ConnectionError):
            await stream(answer, text_of(asked["max_tokens"]))
        return answer

    async def stream(answer: web.StreamResponse, pieces: list[str]) -> None:
        begun, sent = time.monotonic(), 0
        while sent < len(pieces):
            due = min(len(pieces), int((time.monotonic() - begun) * tokens_per_second) + 1)
            for piece in pieces[sent:due]:  # one event and one write per token, as engines do
                event = {"choices": [{"index": 0, "delta": {"content": piece}}]}
                await answer.write(b"data: " + json.dumps(event).encode() + b"\n\n")
            sent = max(sent, due)
            await asyncio.sleep(0.001)
        await answer.write(b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n')

    async def grow(_: object) -> None:
        file = open(log, "ab", buffering=0)  # noqa: ASYNC230, SIM115, PTH123 - lives as long as the process
        while True:
            await asyncio.sleep(0.01)
            if not state["growing"]:
                started_at = time.monotonic()
                state["from"] = state["written"]
                continue
            due = int((time.monotonic() - started_at) * lines_per_second) + state["from"]
            if due > state["written"]:
                file.write(b"".join(LINE % (n, n, n) for n in range(state["written"], due)))
                state["written"] = due

    async def control(request: web.Request) -> web.Response:
        state["growing"] = request.match_info["on"] == "on"
        return web.json_response({"written": state["written"]})

    async def read(request: web.Request) -> web.Response:
        at, limit = int(request.query["from"]), int(request.query["limit"])
        until = time.monotonic() + 20
        while (size := Path(log).stat().st_size) <= at and time.monotonic() < until:  # noqa: ASYNC110, ASYNC240
            await asyncio.sleep(0.02)
        with open(log, "rb") as file:  # noqa: ASYNC230, PTH123
            file.seek(at)
            data = file.read(limit)
        headers = {"X-Log-Start": str(at), "X-Log-End": str(at + len(data)), "X-Log-Size": str(size), "X-Log-Over": "0"}
        return web.Response(body=data, headers=headers)

    async def main() -> None:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", chat)
        app.router.add_get("/control/runs/{run}/log", read)
        app.router.add_get("/grow/{on}", control)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.UnixSite(runner, socket).start()
        await grow(started)

    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    asyncio.run(main())


@contextlib.contextmanager
def service(socket: Path, log: Path, lines_per_second: int = 10_000, tokens_per_second: int = 1_000) -> Any:
    socket.parent.mkdir(parents=True, exist_ok=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    log.touch()
    process = multiprocessing.get_context("spawn").Process(
        target=serve, args=(str(socket), str(log), lines_per_second, tokens_per_second), daemon=True
    )
    process.start()
    deadline = time.monotonic() + 20
    while not socket.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    try:
        yield process
    finally:
        process.terminate()
        process.join(5)


class Frames:
    """A precise timer of 16 ms that notes how late each of its ticks comes."""

    def __init__(self) -> None:
        from PySide6.QtCore import Qt, QTimer

        self.late_ms: list[float] = []
        self._last = 0.0
        self._timer = QTimer(timerType=Qt.TimerType.PreciseTimer, interval=FRAME_MS)
        self._timer.timeout.connect(self._tick)

    def _tick(self) -> None:
        now = time.perf_counter()
        if self._last:
            self.late_ms.append(1000 * (now - self._last) - FRAME_MS)
        self._last = now

    async def watch(self, seconds: float) -> dict[str, float]:
        self.late_ms, self._last = [], 0.0
        self._timer.start()
        await asyncio.sleep(seconds)
        self._timer.stop()
        return summary(self.late_ms)


def summary(late_ms: list[float]) -> dict[str, float]:
    """Lateness of frames; `interval` figures are the whole time from one frame to the next, in ms."""
    late = sorted(max(0.0, value) for value in late_ms)
    at = lambda share: late[min(len(late) - 1, int(share * len(late)))]  # noqa: E731
    return {
        "frames": len(late),
        "p50_ms": round(statistics.median(late), 2),
        "p99_ms": round(at(0.99), 2),
        "max_ms": round(late[-1], 2),
        "interval_p99_ms": round(FRAME_MS + at(0.99), 2),
    }


def ratio(value: float, idle: float) -> float:
    return round(value / idle, 2) if idle else float("inf")


def load() -> float:
    return round(os.getloadavg()[0], 1)
