"""Runs an engine's command as the daemon would, minus the keeper: scrubbed environment, output into a file."""

import fnmatch
import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from app.engines.base import Command
from tests.rig.ports import free_port
from tests.rig.waiting import eventually


class Running:
    """One engine process, its log and its port."""

    def __init__(self, command: Command, log: Path, port: int, inherited: Mapping[str, str]) -> None:
        kept = {
            name: value
            for name, value in inherited.items()
            if not any(fnmatch.fnmatchcase(name, pattern) for pattern in command.scrub)
        }
        self.url = f"http://127.0.0.1:{port}"
        self.log_path = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command.argv,
                env={**kept, **command.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    @property
    def log(self) -> str:
        return self.log_path.read_text("utf-8", "replace")

    def request(self, path: str, body: object = None, key: str = "") -> tuple[int, str]:
        """Status and text; 0 when nobody listens."""
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
        data = None if body is None else json.dumps(body).encode()
        try:
            with urllib.request.urlopen(urllib.request.Request(self.url + path, data, headers), timeout=60) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def until_ready(self, health_path: str, seconds: float = 60) -> list[int]:
        """The statuses seen on the way to 200, each once, in order."""
        seen: list[int] = []

        def ready() -> bool:
            status, _ = self.request(health_path)
            if status not in seen:
                seen.append(status)
            return status == 200 or self.process.poll() is not None

        eventually(ready, seconds, f"{health_path} answers 200", every=0.002)
        assert seen[-1] == 200, self.log[-2_000:]
        return seen

    def says(self, text: str) -> None:
        """Its log has it, or gets it: an engine's log is written by a thread of its own."""
        eventually(lambda: text in self.log, what=f"its log says {text!r}")

    def stop(self, number: int = signal.SIGTERM, seconds: float = 60.0) -> int:
        self.process.send_signal(number)
        return self.process.wait(seconds)


@contextmanager
def running(command: Command, log: Path, port: int, inherited: Mapping[str, str] = os.environ) -> Iterator[Running]:
    engine = Running(command, log, port, inherited)
    try:
        yield engine
    finally:
        if engine.process.poll() is None:
            engine.process.kill()
        engine.process.wait()


def ended(command: Command, log: Path, seconds: float = 60) -> tuple[int, str]:
    """The exit code and the whole output of an engine that is expected to give up by itself."""
    with running(command, log, 0) as engine:
        code = engine.process.wait(seconds)
        return code, engine.log


__all__ = ["Running", "ended", "free_port", "running", "tokens_of"]


def tokens_of(stream: str) -> list[str]:
    """The contents of a chat stream's events."""
    events = [json.loads(line[6:]) for line in stream.splitlines() if line.startswith("data: {")]
    return [event["choices"][0]["delta"].get("content") or "" for event in events if event["choices"]]
