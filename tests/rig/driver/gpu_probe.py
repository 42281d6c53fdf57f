"""Lets a test talk to the real sampler that runs in a process of its own under the simulated driver."""

import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Self

from tests.rig.driver import SimulatedDriver

Sample = dict[str, Any]


class GpuProbe:
    """The sampler's process; `options` are GpuSampler's keyword arguments, and `mute` to print no samples."""

    def __init__(self, driver: SimulatedDriver, **options: Any) -> None:
        settings = {"interval_seconds": 0.05, **options}
        self.process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-m", "tests.rig.driver.probe", json.dumps(settings)],
            env=driver.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._lines: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        try:
            assert self.process.wait(60) == 0, "the sampler's process did not end well"
        finally:
            self.process.kill()
            self.process.wait()
            self._reader.join(5)
            self.process.stdout.close()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self._lines.put(json.loads(line))
        self._lines.put(None)

    def send(self, **command: Any) -> None:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()

    def next_line(self, key: str, condition: Callable[[Any], bool] = lambda _: True, deadline: float = 60.0) -> Any:
        """The next line of this kind for which the condition holds; others are skipped."""
        return self.whole_line(key, condition, deadline)[key]

    def whole_line(self, key: str, condition: Callable[[Any], bool] = lambda _: True, deadline: float = 60.0) -> Any:
        end = time.monotonic() + deadline
        last: Any = None
        while (left := end - time.monotonic()) > 0:
            try:
                line = self._lines.get(timeout=left)
            except queue.Empty:
                break
            assert line is not None, "the sampler's process ended"
            if key in line:
                last = line[key]
                if condition(last):
                    return line
        raise AssertionError(f"no {key} as expected within {deadline:g} s; the last was {last}")

    def sample(self, condition: Callable[[Sample], bool] = lambda _: True, deadline: float = 60.0) -> Sample:
        """The next published sample that is as wanted."""
        found: Sample = self.next_line("sample", condition, deadline)
        return found

    def state(self, state: str, deadline: float = 60.0) -> Sample:
        return self.sample(lambda sample: sample["driver"] == state, deadline)

    def fresh(self, max_age: float = 0.0, timeout: float = 60.0) -> tuple[Sample, float]:
        """What `fresh` gave, and when it was asked."""
        self.send(fresh=max_age, timeout=timeout)
        line = self.whole_line("fresh")
        return line["fresh"], line["asked_at"]

    def facts(self) -> dict[str, Any]:
        self.send(facts=True)
        found: dict[str, Any] = self.next_line("facts")
        return found
