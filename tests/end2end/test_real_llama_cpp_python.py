"""llama-cpp-python's own server behind the gateway with its traps closed, and the figures that it lacks (I6, I8, I15).

Alone it cuts a stream off for the next request, and an answer whose client has left is made to its end.
"""

import contextlib
import http.client
import json
import os
import re
import threading
from pathlib import Path

import httpx
import pytest

from app.core.metrics_text import largest_value
from app.core.snapshot import RunView, Traffic
from app.engines.base import COUNTERS
from app.engines.registry import FAMILIES
from tests.engines.tiny_model import write_tiny_model
from tests.rig.daemon import Daemon, chat_body, streamed
from tests.rig.home import Home
from tests.rig.real_engines import put_into, write_profile
from tests.rig.waiting import eventually

pytestmark = pytest.mark.engines

ALWAYS_A = {"97": 100}  # by its number in the tiny model's vocabulary; an answer of it never ends by itself
SHORT, LONG, ENDLESS = 40, 1_000, 7_000  # tokens
LONG_PROMPT = "ab " * 4_000
CONTEXT_TOKENS = 16_384
TELLS_NOTHING_OF = {"kv_cache_usage"}


@pytest.fixture
def ready(home: Home, tmp_path: Path, daemon: Daemon) -> Daemon:
    put_into(home, "llama-cpp-python")
    model = write_tiny_model(tmp_path / "noise.gguf", layers=4, width=256, context=CONTEXT_TOKENS)
    write_profile(home, "noise", "llama-cpp-python", model, context_tokens=CONTEXT_TOKENS)
    daemon.start()
    daemon.load("noise")
    return daemon


def body(tokens: int, content: str = "hello there", **more: object) -> dict[str, object]:
    return {**chat_body("noise", content), "max_tokens": tokens, "logit_bias": ALWAYS_A, **more}


class Asking(threading.Thread):
    """A client whose streamed answer comes beside others. `begun` is set with its first words."""

    def __init__(self, url: str, headers: dict[str, str] | None = None, **asked: object) -> None:
        super().__init__(daemon=True, name="client")
        self.url, self.headers, self.asked = url, headers, asked
        self.begun = threading.Event()
        self.events: list[dict[str, object]] = []

    def run(self) -> None:
        with httpx.Client(base_url=self.url, headers=self.headers, timeout=120) as client:
            for event in streamed(client, model="noise", logit_bias=ALWAYS_A, **self.asked):
                self.events.append(event)
                if "usage" in event or any(c["delta"].get("content") for c in event.get("choices", ())):
                    self.begun.set()

    def whole(self) -> dict[str, int]:
        """The usage of its answer, which has come to its end and is complete."""
        self.join(120)
        assert self.events[-1] == {"done": True}, self.events[-3:]
        ended = [event for event in self.events if "usage" in event]
        assert [choice["finish_reason"] for event in ended for choice in event["choices"]] == ["length"]  # type: ignore[attr-defined]
        return dict(ended[0]["usage"])  # type: ignore[call-overload]


def run_of(daemon: Daemon) -> RunView:
    run = daemon.seat().run
    assert run is not None
    return run


def lengths(daemon: Daemon) -> list[int]:
    """How many tokens each answer had that the engine made to its end, by the engine's own log."""
    log = daemon.run_log(run_of(daemon).id).decode("utf-8", "replace")
    return [int(count) for count in re.findall(r"^.* eval time = +[\d.]+ ms / +(\d+) runs", log, re.MULTILINE)]


def cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def metric(daemon: Daemon, name: str) -> float | None:
    with httpx.Client(base_url=daemon.gateway_url.removesuffix("/v1")) as client:
        page = client.get("/metrics").raise_for_status().text
    return largest_value(page, f"engine_room_{name}")


def test_two_requests_at_once_are_both_answered_in_full_and_counted_as_of_any_engine(ready: Daemon) -> None:
    """I6, I8: the second waits for the first, at the gateway and at the engine itself; the counters' names are the same."""
    assert FAMILIES["llama-cpp-python"].traits.concurrency == 1
    first = Asking(ready.gateway_url, max_tokens=LONG)
    first.start()
    assert first.begun.wait(60)
    second = Asking(ready.gateway_url, max_tokens=SHORT)
    second.start()
    ready.wait_slice("traffic", lambda it: (it.in_flight, it.queued) == (1, 1), what="one waits while one is answered")
    assert (metric(ready, "requests_running"), metric(ready, "requests_waiting")) == (1, 1)
    ready.wait_slice("traffic", lambda it: it.generation_tokens_per_second > 0)
    assert metric(ready, "generation_tokens_per_second")
    usages = [first.whole(), second.whole()]
    assert [usage["completion_tokens"] for usage in usages] == [LONG, SHORT]

    traffic: Traffic = ready.wait_slice("traffic", lambda it: len(it.recent) == 2 and not it.in_flight)
    assert {request.outcome for request in traffic.recent} == {"answered"}
    assert all(request.tokens_per_second and request.first_token_seconds for request in traffic.recent)
    for total, counted in (
        ("prompt_tokens", traffic.prompt_tokens_total),
        ("completion_tokens", traffic.completion_tokens_total),
    ):
        assert counted == sum(usage[total] for usage in usages)
    told = {name: metric(ready, name) for name in COUNTERS}
    assert {name for name, value in told.items() if value is None} == TELLS_NOTHING_OF
    assert told["prompt_tokens_total"] == traffic.prompt_tokens_total
    assert told["generation_tokens_total"] == traffic.completion_tokens_total
    assert (told["requests_running"], told["requests_waiting"]) == (0, 0)

    run = run_of(ready)
    environment = Path(f"/proc/{run.pid}/environ").read_bytes().decode().split("\0")
    key = next(entry.partition("=")[2] for entry in environment if entry.startswith("API_KEY="))
    engine = f"http://127.0.0.1:{run.port}/v1"
    first, second = (Asking(engine, {"Authorization": f"Bearer {key}"}, max_tokens=n) for n in (LONG, SHORT))
    first.start()
    assert first.begun.wait(60)
    second.start()
    assert [first.whole()["completion_tokens"], second.whole()["completion_tokens"]] == [LONG, SHORT]


def test_a_client_that_leaves_ends_the_engines_work_too(ready: Daemon) -> None:
    """I15: in the middle of a stream, before its first byte, and without a stream, where no byte comes until the end."""
    pid = run_of(ready).pid
    assert pid is not None

    def busy(ticks: int) -> None:
        """The engine has worked for half a second at least: it has the request."""
        eventually(lambda: cpu_ticks(pid) > ticks + os.sysconf("SC_CLK_TCK") // 2, what="the engine is at work")

    def next_is_whole(cancelled: int) -> None:
        ready.wait_slice("traffic", lambda it: it.cancelled_total == cancelled and not it.in_flight)
        before = len(lengths(ready))
        with ready.gateway() as client:
            answer = client.post("/chat/completions", json=body(SHORT)).raise_for_status().json()
        assert answer["usage"]["completion_tokens"] == SHORT
        eventually(lambda: len(lengths(ready)) > before, what="the engine's log tells of that answer")

    with ready.gateway() as client:
        events = streamed(client, model="noise", max_tokens=ENDLESS, logit_bias=ALWAYS_A)
        assert any(c["delta"].get("content") for event in events for c in event.get("choices", ()))
        events.close()
    next_is_whole(1)

    for cancelled, asked in enumerate((body(ENDLESS, LONG_PROMPT, stream=True), body(ENDLESS)), start=2):
        before = cpu_ticks(pid)
        with contextlib.closing(http.client.HTTPConnection(httpx.URL(ready.gateway_url).netloc.decode())) as leaving:
            leaving.request("POST", "/v1/chat/completions", json.dumps(asked), {"Content-Type": "application/json"})
            busy(before)
        next_is_whole(cancelled)
    assert max(lengths(ready)) < ENDLESS // 10, "none of the three that nobody waited for was made to its end"
