"""Measures what the gateway adds to a direct call: `python -m tests.bench.gateway [--quick] [--out FILE]`, prints JSON.

Engine, gateway and client are three processes on uvloop, all checks on. Direct and through-the-gateway blocks take turns
and change their order, so that drift of the machine falls on both. Figures that are differences come from the same run.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import uvloop

CHAT = "/v1/chat/completions"
ANSWER = json.dumps(
    {
        "id": "c",
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello " * 20}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 20, "total_tokens": 29},
    }
).encode()
TOKEN = (
    b'data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":" hello"}}],"created":1763700000,'
    b'"id":"chatcmpl-0123456789abcdefghij","model":"demo","object":"chat.completion.chunk","t":%020d}\n\n'
)
FINISH = b'data: {"choices":[{"finish_reason":"stop","index":0,"delta":{}}]}\n\ndata: [DONE]\n\n'
SSE_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def framed(body: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(body), body)


# --- the engine ------------------------------------------------------------------------------------------------------


class EngineProtocol(asyncio.Protocol):
    """Answers by the request's `do`: answer, paced (50 tok/s), flood, hang, hang_stream, endless."""

    cancels: list[float] = []
    leaks = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.buffer = b""
        self.task: asyncio.Task[None] | None = None
        self.hanging = False
        self.writable = asyncio.Event()
        self.writable.set()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def connection_lost(self, error: Exception | None) -> None:
        if self.hanging:
            EngineProtocol.cancels.append(time.monotonic())
        if self.task is not None:
            self.task.cancel()
        self.writable.set()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self.buffer) < end + 4 + length:
                return
            body = self.buffer[end + 4 : end + 4 + length]
            self.buffer = self.buffer[end + 4 + length :]
            self.serve(json.loads(body) if body else {})

    def serve(self, asked: dict[str, Any]) -> None:
        match asked.get("do"):
            case "answer":
                self.transport.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(ANSWER)
                    + ANSWER
                )
            case "paced":
                self.task = asyncio.get_running_loop().create_task(self.paced(asked["tokens"], asked["rate"]))
            case "flood":
                self.task = asyncio.get_running_loop().create_task(self.flood(asked["tokens"], asked["together"]))
            case "report":
                body = json.dumps({"cancels": EngineProtocol.cancels}).encode()
                EngineProtocol.cancels = []
                self.transport.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
                    + body
                )
            case kind:
                self.hanging = True
                if kind == "hang_stream":
                    self.transport.write(SSE_HEAD)
                if kind == "endless":
                    self.task = asyncio.get_running_loop().create_task(self.paced(1_000_000, 200))

    async def paced(self, tokens: int, rate: float) -> None:
        self.transport.write(SSE_HEAD)
        due = time.monotonic()
        for _ in range(tokens):
            self.transport.write(framed(TOKEN % time.monotonic_ns()))
            due += 1 / rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        self.transport.write(framed(FINISH) + b"0\r\n\r\n")

    async def flood(self, tokens: int, together: int) -> None:
        self.transport.write(SSE_HEAD)
        for _ in range(tokens // together):
            self.transport.write(b"".join(framed(TOKEN % 0) for _ in range(together)))
            await self.writable.wait()
            await asyncio.sleep(0)
        self.transport.write(framed(FINISH) + b"0\r\n\r\n")


def engine(pipe: Connection) -> None:
    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(EngineProtocol, "127.0.0.1", 0, backlog=512)
        pipe.send(server.sockets[0].getsockname()[1])
        await asyncio.Event().wait()

    uvloop.run(main())


def gateway(pipe: Connection, engine_port: int) -> None:
    from app.core.lifecycle import Endpoint
    from app.core.settings import GatewaySettings
    from app.daemon.gateway import Gateway, Route

    async def main() -> None:
        here = Gateway(GatewaySettings(port=0, concurrency=64), time.monotonic, lambda traffic: None)
        bound = await here.start(0)
        endpoint = Endpoint(base_url=f"http://127.0.0.1:{engine_port}", model_name="demo", engine="llama-server")
        here.set_route(Route(state="ready", profile_id="demo", run_id="r", endpoint=endpoint))
        pipe.send(bound.port)
        await asyncio.Event().wait()

    uvloop.run(main())


# --- the client ------------------------------------------------------------------------------------------------------


class Client(asyncio.Protocol):
    """One raw connection that sends a request and notes the arrival of each piece of its answer."""

    def __init__(self) -> None:
        self.done: asyncio.Future[None] | None = None
        self.first = 0.0
        self.tokens = 0
        self.lags: list[float] = []
        self.longest = self.last = 0.0
        self.tail = b""
        self.stamps = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def ask(self, port: int, body: dict[str, Any]) -> asyncio.Future[None]:
        raw = json.dumps(body).encode()
        self.done = asyncio.get_running_loop().create_future()
        self.first, self.tokens, self.tail, self.lags = 0.0, 0, b"", []
        self.length = -1
        self.last = time.monotonic()
        self.transport.write(
            b"POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
            % (CHAT.encode(), port, len(raw), raw)
        )
        return self.done

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        if b'"t":' in data:
            if not self.first:
                self.first = now
            self.tokens += data.count(b'"t":')
            if self.stamps:
                at = data.find(b'"t":') + 4
                self.lags.append(now - int(data[at : at + 20]) / 1e9)
            self.longest = max(self.longest, now - self.last)
            self.last = now
        self.tail = (self.tail + data)[-4096:]
        ended = self.tail.endswith(b"0\r\n\r\n") if b"chunked" in self.tail or self.tokens else self.whole()
        if ended and self.done is not None and not self.done.done():
            self.done.set_result(None)

    def whole(self) -> bool:
        head, found, body = self.tail.partition(b"\r\n\r\n")
        low = head.lower()
        at = low.find(b"content-length:")
        return bool(found) and at >= 0 and len(body) >= int(low[at + 15 :].split(b"\r\n", 1)[0])

    def connection_lost(self, error: Exception | None) -> None:
        if self.done is not None and not self.done.done():
            self.done.set_exception(error or ConnectionError("closed"))


async def connect(port: int, stamps: bool = False) -> Client:
    _, client = await asyncio.get_running_loop().create_connection(Client, "127.0.0.1", port)
    client.stamps = stamps
    return client


def quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


async def latencies(port: int, clients: int, each: int) -> list[float]:
    async def one() -> list[float]:
        client, times = await connect(port), []
        for _ in range(each):
            begun = time.monotonic()
            await client.ask(port, {"do": "answer", "messages": []})
            times.append(time.monotonic() - begun)
        client.transport.abort()
        return times

    return [value for times in await asyncio.gather(*(one() for _ in range(clients))) for value in times]


async def first_tokens(port: int, clients: int, each: int) -> list[float]:
    async def one() -> list[float]:
        client, times = await connect(port), []
        for _ in range(each):
            begun = time.monotonic()
            await client.ask(port, {"do": "paced", "tokens": 2, "rate": 1000, "stream": True})
            times.append(client.first - begun)
        client.transport.abort()
        return times

    return [value for times in await asyncio.gather(*(one() for _ in range(clients))) for value in times]


async def lags(port: int, clients: int, tokens: int) -> list[float]:
    async def one(number: int) -> list[float]:
        await asyncio.sleep(number * 0.0023)
        client = await connect(port, stamps=True)
        await client.ask(port, {"do": "paced", "tokens": tokens, "rate": 50, "stream": True})
        client.transport.abort()
        return client.lags

    return [value for times in await asyncio.gather(*(one(n) for n in range(clients))) for value in times]


async def throughput(port: int, clients: int, tokens: int, together: int = 1) -> tuple[float, float]:
    """Chunks a second over all clients, and the longest gap in ms."""
    all_of_them = [await connect(port) for _ in range(clients)]
    begun = time.monotonic()
    await asyncio.gather(
        *(one.ask(port, {"do": "flood", "tokens": tokens, "together": together, "stream": True}) for one in all_of_them)
    )
    seconds = time.monotonic() - begun
    for one in all_of_them:
        one.transport.abort()
    return sum(one.tokens for one in all_of_them) / seconds, max(one.longest for one in all_of_them) * 1000


async def cancels(engine_port: int, port: int, kind: str, times: int) -> dict[str, float]:
    """How long after the client's close the engine sees its own connection end, in ms."""
    seen: list[float] = []
    leaked = 0
    asking = await connect(engine_port)

    async def report() -> list[float]:
        await asking.ask(engine_port, {"do": "report"})
        return list(json.loads(asking.tail.partition(b"\r\n\r\n")[2])["cancels"])

    await report()
    for _ in range(times):
        client = await connect(port)
        pending = client.ask(port, {"do": kind, "stream": kind != "hang", "messages": []})
        pending.add_done_callback(lambda done: done.exception())
        if kind == "endless":
            async with asyncio.timeout(10):
                while client.tokens < 5:  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
        else:
            await asyncio.sleep(0.01)
        closed = time.monotonic()
        client.transport.abort()
        for _ in range(50):
            await asyncio.sleep(0.002)
            if news := await report():
                seen.append(news[0] - closed)
                break
        else:
            leaked += 1
    asking.transport.abort()
    milliseconds = [value * 1000 for value in seen] or [0.0]
    return {"p50_ms": statistics.median(milliseconds), "max_ms": max(milliseconds), "leaked": leaked}


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 1024**2


async def compared(
    rounds: int, ports: tuple[int, int], measure: Callable[[int], Any], pid: int | None = None
) -> tuple[list[float], list[float], float]:
    """Both sides' samples from blocks that take turns, and the gateway's CPU seconds in its own blocks."""
    direct: list[float] = []
    through: list[float] = []
    spent = 0.0
    for number in range(rounds):
        for port in ports if number % 2 else reversed(ports):
            before = cpu_seconds(pid) if pid else 0.0
            values = await measure(port)
            (direct if port == ports[0] else through).extend(values)
            if pid and port == ports[1]:
                spent += cpu_seconds(pid) - before
    return direct, through, spent


def added(direct: list[float], through: list[float]) -> dict[str, float]:
    """Milliseconds: the direct figure, and what the gateway adds to it."""
    result = {}
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        own = quantile(direct, share) * 1000
        result[f"direct_{name}_ms"] = own
        result[f"added_{name}_ms"] = quantile(through, share) * 1000 - own
    return result


def say(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


async def run(engine_port: int, port: int, pid: int, quick: bool) -> dict[str, Any]:
    ports = (engine_port, port)
    rounds = 2 if quick else 10
    result: dict[str, Any] = {"load": os.getloadavg()[0], "resident_before_mib": resident_mib(pid)}
    for side in ports:
        await latencies(side, 10, 50)  # warm
    result["resident_warm_mib"] = resident_mib(pid)
    for clients, each in ((1, 100), (10, 40)):
        say(f"answers, {clients} at once")
        direct, through, spent = await compared(rounds, ports, lambda p, c=clients, e=each: latencies(p, c, e), pid)
        result[f"answer_c{clients}"] = {
            **added(direct, through),
            "cpu_us_per_request": spent / len(through) * 1e6,
            "samples": len(through),
        }
    for clients, each in ((1, 20), (10, 5)):
        say(f"first tokens, {clients} at once")
        direct, through, _ = await compared(rounds, ports, lambda p, c=clients, e=each: first_tokens(p, c, e))
        result[f"first_token_c{clients}"] = added(direct, through)
    say("chunk delays")
    direct, through, spent = await compared(2 if quick else 4, ports, lambda p: lags(p, 10, 150), pid)
    result["chunk_delay_10x50"] = {
        **added(direct, through),
        "through_max_ms": max(through) * 1000,
        "direct_max_ms": max(direct) * 1000,
        "late_over_20_ms": sum(value > 0.02 for value in through),
        "direct_late_over_20_ms": sum(value > 0.02 for value in direct),
        "cpu_us_per_chunk": spent / len(through) * 1e6,
    }
    for name, clients, together in (("c1", 1, 1), ("c10", 10, 1), ("c10_16_together", 10, 16)):
        say(f"chunks a second, {name}")
        rates: dict[int, list[tuple[float, float]]] = {p: [] for p in ports}
        spent = total = 0.0
        for number in range(2 if quick else 5):
            for p in ports if number % 2 else reversed(ports):
                before = cpu_seconds(pid)
                tokens = 100_000 // clients
                rates[p].append(await throughput(p, clients, tokens, together))
                if p == port:
                    spent, total = spent + cpu_seconds(pid) - before, total + tokens * clients
        result[f"chunks_per_second_{name}"] = {
            "direct": statistics.median(rate for rate, _ in rates[engine_port]),
            "through": statistics.median(rate for rate, _ in rates[port]),
            "longest_gap_ms": max(gap for _, gap in rates[port]),
            "cpu_us_per_chunk": spent / total * 1e6,
        }
    times = 20 if quick else 200
    for kind in ("hang", "hang_stream", "endless"):
        say(f"cancels, {kind}")
        result[f"cancel_{kind}"] = {
            "direct": await cancels(engine_port, engine_port, kind, times // 4),
            "through": await cancels(engine_port, port, kind, times),
        }
    result["resident_after_mib"] = resident_mib(pid)
    result["resident_growth_mib"] = result["resident_after_mib"] - result["resident_warm_mib"]
    return result


def rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    return round(value, 3) if isinstance(value, float) else value


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="a fifth of the samples")
    parser.add_argument("--out", type=Path, help="write the JSON there as well")
    options = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    started: list[Any] = []

    def launch(target: Callable[..., None], *more: int) -> tuple[int, int]:
        ours, theirs = spawn.Pipe()
        process = spawn.Process(target=target, args=(theirs, *more), daemon=True)
        process.start()
        started.append(process)
        return ours.recv(), process.pid or 0

    try:
        engine_port, _ = launch(engine)
        port, pid = launch(gateway, engine_port)
        result = rounded(uvloop.run(run(engine_port, port, pid, options.quick)))
    finally:
        for process in started:
            with contextlib.suppress(OSError):
                process.terminate()
            process.join()
    text = json.dumps(result, indent=2)
    print(text)
    if options.out is not None:
        options.out.write_text(text + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
