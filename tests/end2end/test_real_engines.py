"""Every real engine through the whole app: loads, talks, counts, and ends in every way that there is, leaving nothing (I1, I2, I8).

The hosted llama.cpp always; llama-server and llama-cpp-python, built from source, with the marker `engines`.
"""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.core import lifecycle
from app.core.snapshot import SeatView
from app.engines.base import COUNTERS
from app.engines.registry import FAMILIES
from tests.end2end.sweep import SURVIVAL_SECONDS, send
from tests.rig.custody import processes_of, unheld_shared_files
from tests.rig.daemon import Daemon, chat_body, kill_verified, streamed
from tests.rig.home import Home, entries_below
from tests.rig.ports import binds
from tests.rig.real_engines import ASKED_CONTEXT_TOKENS, END_TOKENS, TRAINED_CONTEXT_TOKENS, RealEngine
from tests.rig.waiting import eventually

pytestmark = [
    pytest.mark.engines,  # minutes: the long suites of real engines run with `--engines`
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # as in the sweep
]

PHASES = ("reading", "weights", "kv_cache", "graphs", "warm_up", "first_token")
TIMES, TRIES = 3, 12  # stops that meet the load, of so many at most
ENDLESS = {"logit_bias": {str(token): -100 for token in END_TOKENS}, "max_tokens": 4_000}


@pytest.fixture
def ready(real_engine: RealEngine, daemon: Daemon) -> Daemon:
    """The daemon with the profile `noise` of this engine, not loaded yet; it drains and stops soon."""
    home = real_engine.home
    home.settings(supervision={"drain_seconds": 0.3, "stop_grace_seconds": 3})
    real_engine.profile("noise", context_tokens=ASKED_CONTEXT_TOKENS)
    return daemon.start()


def files_of(home: Home) -> set[Path]:
    """All files that a run could leave behind: records, sockets, temporary files; not its log, and not what the service
    keeps for itself."""
    kept = (".log", ".sqlite3", "-wal", "-shm", ".jsonl", ".toml", "images.json")
    found = entries_below(home.folder / "state") | entries_below(home.runtime_home)
    found |= unheld_shared_files()
    return {file for file in found if not file.name.endswith(kept)}


def nothing_left(home: Home, ports: set[int], files: set[Path]) -> None:
    eventually(lambda: not processes_of(home, runs_only=True), SURVIVAL_SECONDS, "no process of a run is left (I1)")
    for port in ports:
        eventually(lambda port=port: binds(port), SURVIVAL_SECONDS, f"port {port} binds again")
    eventually(lambda: files_of(home) <= files, SURVIVAL_SECONDS, f"no file is left: {files_of(home) - files}")


def metrics_of(daemon: Daemon) -> str:
    """What the engine itself says at its metrics page, asked with the key that only its environment holds."""
    run = daemon.seat().run
    assert run is not None
    environment = Path(f"/proc/{run.pid}/environ").read_bytes().decode().split("\0")
    key = next((entry.partition("=")[2] for entry in environment if entry.startswith("LLAMA_API_KEY=")), "")
    with httpx.Client(base_url=f"http://127.0.0.1:{run.port}") as engine:
        return engine.get("/metrics", headers={"Authorization": f"Bearer {key}"}).raise_for_status().text


def test_it_loads_talks_counts_and_stops_when_idle(real_engine: RealEngine, ready: Daemon, home: Home) -> None:
    """I10, I13: what is shown comes from the engine itself."""
    before = files_of(home)
    phase = ready.load("noise", 60).phase
    assert isinstance(phase, lifecycle.Ready)
    if real_engine.is_native:
        assert phase.endpoint.context_tokens == TRAINED_CONTEXT_TOKENS, (
            "the context that is served, not the one asked for"
        )
    else:
        assert phase.endpoint.context_tokens in (None, ASKED_CONTEXT_TOKENS)
    with ready.gateway() as client:
        whole = client.post("/chat/completions", json=chat_body("noise", max_tokens=12)).raise_for_status().json()
        assert whole["choices"][0]["message"]["content"]
        usage = whole["usage"]
        assert 0 < usage["completion_tokens"] <= 12, "counted, though one of them is always asked to stream"
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
        assert usage["prompt_tokens"] > 0
        pieces = list(streamed(client, model="noise", max_tokens=12))
        assert pieces[-1] == {"done": True}
        assert "".join(c["delta"].get("content") or "" for piece in pieces for c in piece.get("choices", ()))
        reasons = [choice.get("finish_reason") for piece in pieces for choice in piece.get("choices", ())]
        assert reasons[-1] in ("stop", "length")

    traffic = ready.wait_slice("traffic", lambda value: len(value.recent) >= 2)
    for request in traffic.recent[:2]:
        assert request.outcome == "answered"
        assert request.completion_tokens
    assert traffic.recent[0].first_token_seconds, "the stream's"
    counters = FAMILIES[real_engine.family].traits.counters
    if counters:
        assert set(COUNTERS) - set(counters) <= {"kv_cache_usage"}, "the names that all engines share"
        said = metrics_of(ready)
        assert {ours for ours, theirs in counters.items() if f"\n{theirs} " in said} == set(counters), said
        total = next(line for line in said.splitlines() if line.startswith(counters["generation_tokens_total"] + " "))
        assert float(total.split()[1]) >= 12

    run = ready.seat().run
    assert run is not None
    assert run.port is not None
    ready.unload()
    ready.wait_idle()
    nothing_left(home, {run.port}, before)


def begun(client: httpx.Client) -> Iterator[dict[str, Any]]:
    """The rest of a long streamed answer whose first words have come."""
    events = streamed(client, model="noise", **ENDLESS)
    for event in events:
        if any(choice["delta"].get("content") for choice in event.get("choices", ())):
            return events
    raise AssertionError("the answer had no words")


def told_of_its_end(answer: Iterator[dict[str, Any]]) -> None:
    """The stream's last event is an error with a sentence; then the connection may break."""
    events = [event for event in answer if "broken" not in event]
    assert events[-1].get("error", {}).get("message"), events[-3:]


def test_a_stop_in_the_middle_of_an_answer_is_told_to_who_listens(
    real_engine: RealEngine, ready: Daemon, home: Home
) -> None:
    """I8: past the drain budget the stream ends with an error event, never silently."""
    before = files_of(home)
    run = ready.load("noise", 60).run
    assert run is not None
    assert run.port is not None
    with ready.gateway() as client:
        answer = begun(client)
        ready.unload()
        told_of_its_end(answer)
    ready.wait_idle()
    nothing_left(home, {run.port}, before)


def lines_of_next_run(home: Home, known: set[Path], seconds: float = 60.0, every: float = 0.0005) -> Iterator[str]:
    """The lines of the run that begins now, each as soon as the engine has written it; ends with an empty line."""
    (log,) = eventually(lambda: set(home.paths.runs.glob("*.log")) - known, 60, "a new run's log", every=0.001)
    with log.open("rb") as file:
        rest = b""
        while True:
            try:
                piece = eventually(file.read, seconds, "a line", every=every)
            except AssertionError:
                return
            *lines, rest = (rest + piece).split(b"\n")
            yield from (line.decode("utf-8", "replace") for line in lines)


def stop_on_the_line_of(name: str, family: str, ready: Daemon, home: Home) -> bool:
    """Loads, and stops on the first line that names this phase; whether the stop came while it was loading.

    The engine is held still from the line until its stop is under way, else a phase of a millisecond would be over by
    then; the stop's SIGTERM meets it where it was.
    """
    seen = len(ready.events())
    known = set(home.paths.runs.glob("*.log"))
    before = ready.seat().run
    ready.want("noise")
    lines = lines_of_next_run(home, known)

    def spawned(seat: SeatView) -> bool:
        return seat.run is not None and bool(seat.run.pid) and (before is None or seat.run.id != before.id)

    run = ready.wait_seat(spawned, what="the engine is spawned").run
    assert run is not None
    engine = next(process for process in processes_of(home, runs_only=True) if process.pid == run.pid)
    stages = (FAMILIES[family].stage_of(line) for line in lines)
    assert any(stage is not None and stage.name == name for stage in stages), f"no line of the log named {name}"
    send(engine, signal.SIGSTOP)
    try:
        ready.unload()
        eventually(lambda: {"Killing", "Draining"} & {event["to"] for event in ready.events()[seen:]}, every=0.005)
    finally:
        send(engine, signal.SIGCONT)
    idle = ready.wait_idle()
    assert not isinstance(idle.phase, lifecycle.Failed)
    return ("Loading", "Killing") in [(event["from"], event["to"]) for event in ready.events()[seen:]]


def test_a_stop_on_the_line_of_each_phase_of_the_load_leaves_nothing(
    real_engine: RealEngine, ready: Daemon, home: Home
) -> None:
    """I1, I2: each phase that the family names meets three stops while it is really loading, and all others in between."""
    before = files_of(home)
    ports: set[int] = set()
    hits: dict[str, int] = {}
    for name in PHASES:
        hits[name] = tries = 0
        while hits[name] < TIMES:
            assert tries < TRIES, f"stops that came while it was loading: {hits}, of {name} in {tries} loads"
            tries += 1
            hits[name] += stop_on_the_line_of(name, real_engine.family, ready, home)
            idle = ready.seat()
            if idle.run is not None and idle.run.port:
                ports.add(idle.run.port)
            nothing_left(home, set(), before)
    nothing_left(home, ports, before)


def test_an_engine_killed_in_the_middle_of_an_answer_is_told_and_comes_back(
    real_engine: RealEngine, ready: Daemon, home: Home
) -> None:
    """I1, I8, I10, I11: SIGKILL from outside."""
    before = files_of(home)
    run = ready.load("noise", 60).run
    assert run is not None
    assert run.port is not None
    with ready.gateway() as client:
        answer = begun(client)
        kill_verified(ready.engine_pid(), home)
        told_of_its_end(answer)
    ready.wait_phase(lifecycle.Backoff)
    again = ready.wait_phase(lifecycle.Ready, "noise", 60).run
    assert again is not None
    assert again.id != run.id
    assert again.port is not None
    assert {process.run_id for process in processes_of(home, runs_only=True)} == {again.id}
    with ready.gateway() as client:
        client.post("/chat/completions", json=chat_body("noise", max_tokens=4)).raise_for_status()
    ready.unload()
    ready.wait_idle()
    nothing_left(home, {run.port, again.port}, before)
