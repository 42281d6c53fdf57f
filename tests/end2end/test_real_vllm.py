"""Real vLLM through the whole app: loads, talks, counts, and ends in every way that there is, leaving nothing (E3, I1, I2, I8).

ENGINE_ROOM_VLLM names the Python of an environment that has it; the build for the processor is enough. A start takes from
half a minute to some minutes, so each story is told once; ENGINE_ROOM_TEST_TIMES=10 tells the stops ten times.
"""

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.core import lifecycle
from app.daemon.procfs import all_processes
from app.engines.registry import FAMILIES
from tests.end2end.sweep import SURVIVAL_SECONDS, binds
from tests.end2end.test_real_engines import files_of, lines_of_next_run
from tests.engines.tiny_folder import SPECIAL, write_tiny_folder
from tests.rig.custody import keepers_of, look_at
from tests.rig.daemon import Daemon, chat_body, streamed
from tests.rig.home import Home
from tests.rig.real_engines import write_profile
from tests.rig.waiting import eventually

VARIABLE = "ENGINE_ROOM_VLLM"
TIMES = int(os.environ.get("ENGINE_ROOM_TEST_TIMES", "1"))
LOAD_SECONDS = 900
STOP_SECONDS = 30
PHASES = ("config", "imports", "weights", "kv_cache", "warm_up", "first_token")
NAMES = ("python", "VLLM::EngineCor", "VLLM::Worker")
ENDLESS = {"max_tokens": 1_900, "ignore_eos": True}
SHARED = Path("/dev/shm")

pytestmark = [
    pytest.mark.engines,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # as in the sweep
    pytest.mark.skipif(not os.environ.get(VARIABLE), reason=f"no vLLM here: {VARIABLE} names the Python of one"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_folder(tmp_path_factory.mktemp("models") / "tiny", width=128, layers=4, shards=4)


@pytest.fixture
def ready(home: Home, folder: Path, daemon: Daemon) -> Daemon:
    """The daemon with the profile `tiny`, not loaded yet; it drains and stops soon."""
    home.environment[VARIABLE] = os.environ[VARIABLE]
    home.settings(supervision={"drain_seconds": 0.5, "stop_grace_seconds": 8})
    write_profile(home, "tiny", "vllm", folder, context_tokens=2_048, kv_cache_mib=256, eager=True, max_sequences=8)
    return daemon.start()


@pytest.fixture(autouse=True)
def foreign() -> Iterator[Path]:
    """A file in shared memory that looks like a dead vLLM's and is not ours: it must stay."""
    file = SHARED / f"psm_{os.getpid():08x}"
    file.write_bytes(b"kept")
    yield file
    assert file.read_bytes() == b"kept"
    file.unlink()


def tree(leader: int) -> dict[int, str]:
    """pid → name of the living processes of the engine's session, whatever they made of their environment."""
    return {p.pid: p.name for p in all_processes().values() if p.session == leader and not p.dead}


def nothing_left(home: Home, leaders: set[int], ports: set[int], files: set[Path]) -> None:
    eventually(lambda: not any(map(tree, leaders)), SURVIVAL_SECONDS, "no process of a run is left (I1)")
    for port in ports:
        eventually(lambda port=port: binds(port), SURVIVAL_SECONDS, f"port {port} binds again")
    eventually(lambda: files_of(home) <= files, SURVIVAL_SECONDS, f"no file is left: {files_of(home) - files}")


def loaded(daemon: Daemon) -> tuple[int, int]:
    """(pid of its leader, port) of the engine, once it is ready."""
    run = daemon.load("tiny", LOAD_SECONDS).run
    assert run is not None
    assert run.pid is not None
    assert run.port is not None
    return run.pid, run.port


def metrics(daemon: Daemon) -> dict[str, float]:
    """Our names → what the engine says now, asked with the key that only its environment holds."""
    run = daemon.seat().run
    assert run is not None
    environment = Path(f"/proc/{run.pid}/environ").read_bytes().decode().split("\0")
    key = next(entry.partition("=")[2] for entry in environment if entry.startswith("VLLM_API_KEY="))
    with httpx.Client(base_url=f"http://127.0.0.1:{run.port}", timeout=30) as engine:
        text = engine.get("/metrics", headers={"Authorization": f"Bearer {key}"}).raise_for_status().text
        assert engine.get("/v1/models").status_code == 401, "nobody without the key"
    found = {}
    for ours, theirs in FAMILIES["vllm"].traits.counters.items():
        values = re.findall(rf"^{re.escape(theirs)}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE)
        assert values, theirs
        found[ours] = sum(map(float, values))
    return found


def begun(client: httpx.Client) -> Iterator[dict[str, Any]]:
    events = streamed(client, model="tiny", **ENDLESS)
    for event in events:
        if any(choice["delta"].get("content") for choice in event.get("choices", ())):
            return events
    raise AssertionError("the answer had no words")


def told_of_its_end(answer: Iterator[dict[str, Any]]) -> None:
    """By the gateway, or by the engine's own last words: after those it still says that it is done."""
    events = list(answer)
    reasons = [choice.get("finish_reason") for event in events for choice in event.get("choices", ())]
    assert any(event.get("error") for event in events) or "abort" in reasons, events[-3:]


def test_it_loads_talks_counts_is_cancelled_and_stops_when_idle(ready: Daemon, home: Home) -> None:
    before = files_of(home)
    leader, port = loaded(ready)
    view = ready.seat()
    assert isinstance(view.phase, lifecycle.Ready)
    assert view.phase.endpoint.context_tokens == 2_048
    assert set(NAMES) <= set(tree(leader).values())
    log = "".join(line for line in ready.run_log(view.phase.run_id).decode().splitlines(keepends=True))
    assert "canary" not in log
    names = dict.fromkeys(
        stage.name for line in re.split(r"[\r\n]", log) if (stage := FAMILIES["vllm"].stage_of(line)) is not None
    )
    assert tuple(names) == PHASES

    with ready.gateway(timeout=120) as client:
        whole = client.post("/chat/completions", json=chat_body("tiny", max_tokens=12)).raise_for_status().json()
        assert whole["usage"]["completion_tokens"] > 0
        pieces = list(streamed(client, model="tiny", max_tokens=12, ignore_eos=True))
        assert pieces[-1] == {"done": True}
        counted = client.post("/tokenize", json={"input": "hello"}).raise_for_status()
        assert counted.json()["count"] > 0
        bound = client.post("/chat/completions", json=chat_body("tiny", guided_choice=["yes", "no"], max_tokens=8))
        assert bound.headers["x-engine-room-changed"] == "guided_choice as structured_outputs.choice"
        assert bound.json()["choices"][0]["message"]["content"] in ("yes", "no")
        schema = {"type": "object", "properties": {"n": {"type": "boolean"}}, "required": ["n"]}
        form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        said = client.post("/chat/completions", json=chat_body("tiny", response_format=form, max_tokens=400)).json()
        if said["choices"][0]["finish_reason"] == "stop":
            assert isinstance(json.loads(said["choices"][0]["message"]["content"])["n"], bool)
        too_long = client.post("/chat/completions", json=chat_body("tiny", max_tokens=5_000))
        assert too_long.status_code == 400

    figures = metrics(ready)
    assert figures["generation_tokens_total"] >= 24
    assert figures["prompt_tokens_total"] > 0
    with ready.gateway(timeout=120) as client:
        answer = begun(client)  # kept, or it would be cut off here
        eventually(lambda: metrics(ready)["requests_running"] >= 1, 20, "it is at work")
        del answer
    eventually(lambda: metrics(ready)["requests_running"] == 0, 10, "a client that left is heard of (I15)")
    ready.unload()
    ready.wait_idle(STOP_SECONDS)
    nothing_left(home, {leader}, {port}, before)


def test_a_stop_in_the_middle_of_answers_ends_in_time(ready: Daemon, home: Home) -> None:
    """I2, I8: left to itself it sometimes hangs until its clients go, so the gateway cuts them first."""
    before = files_of(home)
    for _ in range(TIMES):
        leader, port = loaded(ready)
        with ready.gateway(timeout=120) as client, ready.gateway(timeout=120) as other:
            answers = [begun(client), begun(other)]
            ready.unload()
            ready.wait_idle(STOP_SECONDS)
            for answer in answers:
                told_of_its_end(answer)
        nothing_left(home, {leader}, {port}, before)


@pytest.mark.parametrize("phase", PHASES)
def test_a_stop_on_the_line_of_each_phase_of_the_load_leaves_nothing(ready: Daemon, home: Home, phase: str) -> None:
    """I1, I2: TERM is not honoured while it loads, so a load is ended by KILL."""
    before = files_of(home)
    stage_of = FAMILIES["vllm"].stage_of
    for _ in range(TIMES):
        known = set(home.paths.runs.glob("*.log"))
        ready.want("tiny")
        for line in lines_of_next_run(home, known, LOAD_SECONDS):
            stage = stage_of(line.rpartition("\r")[2])
            if stage is not None and stage.name == phase:
                run = ready.seat().run
                assert run is not None
                leader, port = run.pid or 0, run.port or 0
                ready.unload()
                break
        else:
            pytest.fail(f"no line of the log named the phase {phase}")
        idle = ready.wait_idle(STOP_SECONDS)
        assert not isinstance(idle.phase, lifecycle.Failed)
        nothing_left(home, {leader}, {port}, before)


@pytest.mark.parametrize("victim", NAMES)
def test_each_of_its_processes_killed_is_a_crash_and_leaves_nothing(ready: Daemon, home: Home, victim: str) -> None:
    """I1, I11: two of the three deaths end with exit code 0, and the head's leaves orphans that hold all memory."""
    before = files_of(home)
    leader, port = loaded(ready)
    run_id = ready.seat().run.id
    pid = leader if victim == "python" else next(pid for pid, name in tree(leader).items() if name == victim)
    with ready.gateway(timeout=120) as client:
        answer = begun(client)
        killed = look_at(pid)
        assert killed is not None
        os.kill(pid, signal.SIGKILL)
        told_of_its_end(answer)
    ready.wait_phase(lifecycle.Backoff, "tiny", 60)
    failure = ready.run(run_id).failure
    assert failure is not None
    assert failure.kind in ("crashed", "out_of_memory"), failure
    eventually(lambda: not tree(leader), SURVIVAL_SECONDS, "no process of the run is left (I1)")
    ready.unload()
    ready.wait_idle(STOP_SECONDS)
    nothing_left(home, {leader}, {port}, before)


@pytest.mark.parametrize("victim", ["keeper", "daemon", "both"])
def test_keeper_and_daemon_killed_leave_nothing(ready: Daemon, home: Home, victim: str) -> None:
    ready.expect_warnings(r"left|ended it|earlier|keeper")
    before = files_of(home)
    leader, port = loaded(ready)
    inner = keepers_of(home)[1]
    if victim != "daemon":
        os.kill(inner.pid, signal.SIGKILL)
    if victim != "keeper":
        ready.kill()
    eventually(lambda: not tree(leader), SURVIVAL_SECONDS, "no process of the run is left (I1)")
    if victim == "keeper":
        ready.unload()
        ready.wait_idle(STOP_SECONDS)
    nothing_left(home, {leader}, {port}, before)


def test_a_failed_start_ends_in_a_sentence_with_its_evidence(ready: Daemon, home: Home, folder: Path) -> None:
    """I11: the cause stands in the middle of what five processes say."""
    before = files_of(home)
    write_profile(home, "greedy", "vllm", folder, context_tokens=2_048, kv_cache_mib=1, eager=True)
    ready.wait_slice("library", lambda library: any(card.profile.id == "greedy" for card in library.profiles))
    ready.want("greedy")
    failure = ready.wait_failed(LOAD_SECONDS)
    assert failure.kind == "out_of_memory"
    assert failure.summary.startswith("One conversation of 2048 tokens needs")
    assert failure.evidence is not None
    assert SPECIAL[0] not in failure.evidence.line
    nothing_left(home, set(), set(), before)
