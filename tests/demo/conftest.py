"""Owns the running engine that the demo model's tests talk to, and the way they ask it."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.demo.questions import CONTEXT, HERE, MODEL, Ask, Message, Reply


def _wait_until_healthy(url: str, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=20) as reply:
                if reply.status == 200:
                    return
        except OSError:
            pass  # nobody listens yet, or nobody answers in time
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise RuntimeError("the engine did not become healthy")


@pytest.fixture(scope="session")
def demo_server(tmp_path_factory: pytest.TempPathFactory, embedded_python: Path) -> Iterator[str]:
    """The base URL of a real llama.cpp server with the demo model, in a child process."""
    log = tmp_path_factory.mktemp("engine") / "engine.log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            [str(embedded_python), str(HERE / "engine_host.py"), str(MODEL), str(CONTEXT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    assert process.stdin
    assert process.stdout
    try:
        url = process.stdout.readline().strip()
        if not url:
            raise RuntimeError(f"the engine did not start:\n{log.read_text()[-2000:]}")
        _wait_until_healthy(url, process)
        yield url
    finally:
        process.stdin.close()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


@pytest.fixture(scope="session")
def ask(demo_server: str) -> Ask:
    """Ask the model, with earlier messages if wanted, at temperature 0 unless told otherwise."""

    def request(question: str, *, before: tuple[Message, ...] = (), **options: object) -> Reply:
        body = {
            "messages": [*before, {"role": "user", "content": question}],
            "temperature": 0,
            "max_tokens": 800,
            **options,
        }
        post = urllib.request.Request(
            f"{demo_server}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(post, timeout=180) as reply:
            choice = json.load(reply)["choices"][0]
        return Reply(choice["message"]["content"], choice["finish_reason"])

    return request
