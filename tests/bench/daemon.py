"""What the daemon costs: memory, idle time, and the time that it adds to an engine's own; one JSON line at the end.

`python -m tests.bench.daemon [--real PYTHON MODEL.gguf] [--loads N]`. Added ready time: an observer that asks the engine
itself, without pause, for the first 200 of /health and one token, tells when the engine was ready; our seat says Ready on
the stream; the difference is ours. Both are this machine's monotonic clock.
"""

import argparse
import json
import os
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import httpx

from app.core import lifecycle
from app.core.snapshot import SeatView
from tests.rig.daemon import Daemon, chat_body, kill_verified
from tests.rig.engines import FakeEngine
from tests.rig.home import Home
from tests.rig.waiting import eventually

GOALS = {"resident_mib": 80.0, "idle_percent": 1.0, "added_ready_ms": 150.0, "crash_noticed_ms": 100.0}
IDLE_SECONDS = 20.0


def resident_mib(pid: int) -> float:
    fields = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return next(int(line.split()[1]) for line in fields.splitlines() if line.startswith("Rss:")) / 1024


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def idle_percent(pid: int) -> float:
    before, began = cpu_seconds(pid), time.monotonic()
    time.sleep(IDLE_SECONDS)  # a measurement, not a wait
    return 100 * (cpu_seconds(pid) - before) / (time.monotonic() - began)


class Observer(threading.Thread):
    """Asks the engine itself; `ready_at` is when its first token came after its first 200 of /health."""

    def __init__(self, port: int, model: str, key: str) -> None:
        super().__init__(daemon=True)
        self._url, self._model, self._key = f"http://127.0.0.1:{port}", model, key
        self.healthy_at = self.ready_at = 0.0

    def run(self) -> None:
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        with httpx.Client(base_url=self._url, headers=headers, timeout=60) as client:
            while not self.healthy_at:
                try:
                    if client.get("/health").status_code == 200:
                        self.healthy_at = time.monotonic()
                except httpx.HTTPError:
                    time.sleep(0.001)
            body = chat_body(self._model, "hi", max_tokens=1, stream=True)
            with client.stream("POST", "/v1/chat/completions", json=body) as answer:
                next(answer.iter_lines())
                self.ready_at = time.monotonic()


def key_of(pid: int) -> str:
    """The key that we gave this engine: by its environment, which only our account may read."""
    for entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
        name, _, value = entry.partition(b"=")
        if name == b"LLAMA_API_KEY":
            return value.decode()
    return ""


def added_ready(daemon: Daemon, profile: str, loads: int) -> dict[str, Any]:
    """Milliseconds from the engine's own first token to Ready on the stream, over so many loads."""
    added, own = [], []
    for _ in range(loads):
        began = time.monotonic()
        daemon.want(profile)
        view = daemon.wait_seat(lambda seat: seat.run and seat.run.pid and seat.run.port, what="a process")
        assert view.run is not None
        assert view.run.pid is not None
        assert view.run.port is not None
        observer = Observer(view.run.port, profile, key_of(view.run.pid))
        observer.start()
        daemon.wait_phase(lifecycle.Ready, profile, 120)
        seen = time.monotonic()
        observer.join(60)
        added.append(1000 * (seen - observer.ready_at))
        own.append(1000 * (observer.ready_at - began))
        daemon.unload()
        daemon.wait_idle()
    return {
        "loads": loads,
        "want_to_engines_own_ready_ms": round(statistics.median(own), 1),
        "added_ms_median": round(statistics.median(added), 1),
        "added_ms_worst": round(max(added), 1),
    }


def crash_noticed(daemon: Daemon, profile: str, times: int) -> dict[str, float]:
    """Milliseconds from the KILL of a ready engine to the end of Ready on the stream (I10)."""
    waited = []
    for _ in range(times):
        daemon.load(profile)
        run = daemon.seat().run
        assert run is not None
        kill_verified(daemon.engine_pid(), daemon.home)
        began = time.monotonic()
        daemon.wait_seat(lambda seat, run_id=run.id: not ready_with(seat, run_id), what="the end is noticed")
        waited.append(1000 * (time.monotonic() - began))
        daemon.unload()
        daemon.wait_idle()
    return {"median": round(statistics.median(waited), 1), "worst": round(max(waited), 1)}


def ready_with(seat: SeatView, run_id: str) -> bool:
    return isinstance(seat.phase, lifecycle.Ready) and seat.phase.run_id == run_id


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    home = Home(folder)
    engine = FakeEngine(home)
    figures: dict[str, Any] = {"cores": os.cpu_count(), "load_average": os.getloadavg()[0]}
    for name in ("one", "two"):
        engine.profile(name, load_seconds=0.0, load_steps=1, tokens=4)
    engine.profile("steady", load_seconds=1.0, tokens=4)
    if arguments.real:
        python, model = arguments.real
        home.environment["ENGINE_ROOM_EMBEDDED_PYTHON"] = python
        engine.profile("real", model=Path(model), table={"engine": "llama.cpp"})
    daemon = Daemon(home)
    try:
        daemon.start()
        eventually(lambda: daemon.hello().started, 20)
        pid = daemon.pid
        stream = daemon.slices_seen
        figures["resident_idle_mib"] = resident_mib(pid)
        figures["idle_percent_one_listener"] = idle_percent(pid)
        assert stream is not None
        stream.close()
        daemon.client.close()
        figures["idle_percent_no_client"] = idle_percent(pid)
        daemon.client = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(home.paths.socket)), base_url="http://engine-room", timeout=30
        )
        daemon.wait_until_up()
        figures["stand_in"] = added_ready(daemon, "steady", arguments.loads)
        if arguments.real:
            figures["real"] = added_ready(daemon, "real", arguments.loads)
        figures["crash_noticed_ms"] = crash_noticed(daemon, "one", arguments.loads)
        daemon.load("one")
        figures["resident_loaded_mib"] = resident_mib(pid)
        figures["idle_percent_loaded"] = idle_percent(pid)
        with daemon.gateway() as client:
            for _ in range(200):
                client.post("/chat/completions", json=chat_body("one")).raise_for_status()
        figures["resident_after_200_requests_mib"] = resident_mib(pid)
        switches = []
        for number in range(arguments.loads):
            began = time.monotonic()
            daemon.load(("two", "one")[number % 2])
            switches.append(1000 * (time.monotonic() - began))
        figures["switch_instant_engine_ms"] = round(statistics.median(switches), 1)
    finally:
        daemon.close()
        home.close()
    figures["goals"] = GOALS
    return {name: round(value, 2) if isinstance(value, float) else value for name, value in figures.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--real", nargs=2, metavar=("PYTHON", "MODEL"))
    parser.add_argument("--loads", type=int, default=10)
    with tempfile.TemporaryDirectory(prefix="er-bench-") as folder:
        print(json.dumps(measure(parser.parse_args(), Path(folder) / "home")))


if __name__ == "__main__":
    main()
