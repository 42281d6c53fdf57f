"""Real vLLM through the whole app: loads, talks, counts, and ends in every way that there is, leaving nothing (E3, I1, I2, I8).

ENGINE_ROOM_VLLM names the Python of an environment that has it; the build for the processor is enough. A start takes from
half a minute to some minutes, so each story is told once; ENGINE_ROOM_TEST_TIMES=10 tells the stops ten times.
"""

import json
import os
import re
import shutil
import signal
import time
import venv
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import pytest
import tomli_w

from app.core import lifecycle
from app.core.errors import EngineRoomError
from app.daemon.procfs import all_processes
from app.engines.registry import FAMILIES
from tests.end2end.sweep import SURVIVAL_SECONDS
from tests.end2end.test_real_engines import files_of, lines_of_next_run
from tests.engines.tiny_folder import SPECIAL, write_tiny_folder
from tests.rig.custody import file_of_a_stranger, keepers_of, look_at
from tests.rig.daemon import Daemon, chat_body, streamed
from tests.rig.home import Home
from tests.rig.ports import binds
from tests.rig.real_engines import write_profile
from tests.rig.waiting import eventually

VARIABLE = "ENGINE_ROOM_VLLM"
TIMES = int(os.environ.get("ENGINE_ROOM_TEST_TIMES", "1"))
LOAD_SECONDS = 900
STOP_SECONDS = 30  # drain, grace and the budget of a KILL; measured: below 2
# Not eager: "compile" as well, which has its own story. "graphs" need a card.
PHASES = ("config", "imports", "weights", "kv_cache", "warm_up", "first_token")
KILLED = {
    "python": "was killed from outside",
    "VLLM::EngineCor": "core died while the others went on",
    "VLLM::Worker": "worker of the engine",
}
NAMES = tuple(KILLED)
ENDLESS = {"max_tokens": 16_000, "ignore_eos": True}
ETA_ERROR = 0.5  # of what is said to be left, as a share of the load; on a quiet machine it is below 0.2
CONTEXT = 16_384
SMALL = {"context_tokens": CONTEXT, "kv_cache_mib": 256, "max_sequences": 8}

pytestmark = [
    pytest.mark.engines,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # as in the sweep
    pytest.mark.skipif(not os.environ.get(VARIABLE), reason=f"no vLLM here: {VARIABLE} names the Python of one"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_folder(
        tmp_path_factory.mktemp("models") / "tiny", width=128, layers=4, shards=4, context_tokens=CONTEXT
    )


@pytest.fixture(autouse=True)
def temporary(home: Home) -> None:
    """Among the files of the home that are looked at afterwards."""
    folder = home.runtime_home / "tmp"
    folder.mkdir()
    home.environment["TMPDIR"] = str(folder)


@pytest.fixture
def ready(request: pytest.FixtureRequest, home: Home, folder: Path, daemon: Daemon) -> Daemon:
    """The daemon with the profile `tiny`, not loaded yet; it drains soon (or as long as the parameter says) and stops soon."""
    home.environment[VARIABLE] = os.environ[VARIABLE]
    home.settings(supervision={"drain_seconds": getattr(request, "param", 0.5), "stop_grace_seconds": 8})
    write_profile(home, "tiny", "vllm", folder, **SMALL, eager=True)
    return daemon.start()


@pytest.fixture(autouse=True)
def foreign() -> Iterator[Path]:
    with file_of_a_stranger() as file:
        yield file


def tree(leader: int) -> dict[int, str]:
    """pid → name of the living processes of the engine's session, whatever they made of their environment."""
    return {p.pid: p.name for p in all_processes().values() if p.session == leader and not p.dead}


def nothing_left(home: Home, leaders: set[int], ports: set[int], files: set[Path]) -> None:
    eventually(lambda: not any(map(tree, leaders)), SURVIVAL_SECONDS, "no process of a run is left (I1)")
    for port in ports:
        eventually(lambda port=port: binds(port), SURVIVAL_SECONDS, f"port {port} binds again")
    eventually(lambda: files_of(home) <= files, LOAD_SECONDS / 5, f"no file is left: {files_of(home) - files}")


def stopped(daemon: Daemon) -> None:
    """Waits for the end of a stop that was asked for, and holds the daemon's own clock against its budget (I2)."""
    daemon.wait_idle(LOAD_SECONDS / 5)
    events = daemon.events()
    began = max(n for n, event in enumerate(events) if event["from"] in ("Ready", "Loading", "Spawning", "Reserving"))
    assert events[-1]["to"] == "Idle"
    assert events[-1]["t"] - events[began]["t"] <= STOP_SECONDS


def log_of(daemon: Daemon) -> str:
    run = daemon.seat().run
    assert run is not None
    return daemon.run_log(run.id).decode()


def loaded(daemon: Daemon, name: str = "tiny") -> tuple[int, int]:
    """(pid of its leader, port) of the engine, once it is ready."""
    run = daemon.load(name, LOAD_SECONDS).run
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


def begun(client: httpx.Client, **asked: Any) -> Iterator[dict[str, Any]]:
    events = streamed(client, model="tiny", **(asked or ENDLESS))
    for event in events:
        if any(choice["delta"].get("content") for choice in event.get("choices", ())):
            return events
    raise AssertionError("the answer had no words")


def told_of_its_end(answer: Iterator[dict[str, Any]]) -> None:
    """By the gateway, or by the engine's own last words: after those it still says that it is done."""
    events = list(answer)
    reasons = [choice.get("finish_reason") for event in events for choice in event.get("choices", ())]
    assert any(event.get("error") for event in events) or "abort" in reasons, events[-3:]


def watched_load(daemon: Daemon) -> tuple[float | None, float]:
    """Loads it and looks at the time that is said to be left; the median error as a share of the load, None = not said; and
    the seconds of the load."""
    told: list[tuple[float, float]] = []
    begun = time.monotonic()
    daemon.want("tiny")

    def ready() -> bool:
        phase = daemon.seat().phase
        assert not isinstance(phase, lifecycle.Failed), phase
        if isinstance(phase, lifecycle.Loading) and phase.eta_seconds is not None:
            told.append((time.monotonic(), phase.eta_seconds))
        return isinstance(phase, lifecycle.Ready)

    eventually(ready, LOAD_SECONDS, "it is loaded", every=0.2)
    end = time.monotonic()
    return median(abs(left - (end - at)) / (end - begun) for at, left in told) if told else None, end - begun


@pytest.mark.parametrize("ready", [120], indirect=True)
def test_it_loads_talks_counts_is_cancelled_drains_and_stops_when_idle(ready: Daemon, home: Home) -> None:
    before = files_of(home)
    leader, port = loaded(ready)
    view = ready.seat()
    assert isinstance(view.phase, lifecycle.Ready)
    assert view.phase.endpoint.context_tokens == CONTEXT
    assert set(NAMES) <= set(tree(leader).values())
    log = log_of(ready)
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
        too_long = client.post("/chat/completions", json=chat_body("tiny", max_tokens=50_000))
        assert too_long.status_code == 400

    figures = metrics(ready)
    assert figures["generation_tokens_total"] >= 24
    assert figures["prompt_tokens_total"] > 0
    with ready.gateway(timeout=120) as client:
        answer = begun(client)  # kept, or it would be cut off here
        eventually(lambda: metrics(ready)["requests_running"] >= 1, 60, "it is at work")
        del answer
    eventually(lambda: metrics(ready)["requests_running"] == 0, 60, "a client that left is heard of (I15)")

    with ready.gateway(timeout=120) as client:  # a stop lets an answer finish that ends within the budget (I8)
        answer = begun(client, max_tokens=200, ignore_eos=True)
        ready.unload()
        events = list(answer)
    assert events[-1] == {"done": True}
    assert [c["finish_reason"] for e in events for c in e.get("choices", ()) if c.get("finish_reason")] == ["length"]
    stopped(ready)
    nothing_left(home, {leader}, {port}, before)


def test_a_stop_in_the_middle_of_answers_ends_in_time(ready: Daemon, home: Home) -> None:
    """I2, I8: left to itself it sometimes hangs until its clients go, so the gateway cuts them first."""
    before = files_of(home)
    errors: list[float | None] = []
    seconds: list[float] = []
    for _ in range(max(TIMES, 3)):
        error, took = watched_load(ready)
        errors.append(error)
        seconds.append(took)
        leader, port = loaded(ready)
        with ready.gateway(timeout=120) as client, ready.gateway(timeout=120) as other:
            answers = [begun(client), begun(other)]
            ready.unload()
            stopped(ready)
            for answer in answers:
                told_of_its_end(answer)
        nothing_left(home, {leader}, {port}, before)
    print("what was said to be left was wrong by (share of the load):", errors)
    assert errors[0] is None, "of the first load of all nobody knows"
    learnt = [error for error in errors[2:] if error is not None]
    assert len(learnt) == len(errors) - 2
    unlike = (max(seconds) - min(seconds)) / min(seconds)  # as far as the loads are alike, one tells of the next
    assert median(learnt) <= ETA_ERROR + unlike, (errors, seconds)


@pytest.mark.parametrize("phase", PHASES)
def test_a_stop_on_the_line_of_each_phase_of_the_load_leaves_nothing(ready: Daemon, home: Home, phase: str) -> None:
    """I1, I2: TERM is not honoured while it loads, so a load is ended by KILL."""
    stops_on(ready, home, "tiny", phase)


def test_a_stop_while_it_compiles_or_takes_what_was_compiled_leaves_nothing(
    ready: Daemon, home: Home, folder: Path
) -> None:
    """What was compiled is kept beside the account's caches; the second time it is only read."""
    write_profile(home, "compiled", "vllm", folder, **SMALL)
    ready.wait_slice("library", lambda library: any(card.profile.id == "compiled" for card in library.profiles))
    stops_on(ready, home, "compiled", "compile")
    before = files_of(home)
    leader, port = loaded(ready, "compiled")
    cold = log_of(ready)
    assert "saved AOT compiled function" in cold
    ready.unload()
    stopped(ready)
    nothing_left(home, {leader}, {port}, before)
    stops_on(ready, home, "compiled", "compile")


def stops_on(ready: Daemon, home: Home, name: str, phase: str) -> None:
    before = files_of(home)
    stage_of = FAMILIES["vllm"].stage_of
    ended = []
    for _ in range(TIMES):
        known = set(home.paths.runs.glob("*.log"))
        ready.want(name)
        for line in lines_of_next_run(home, known, LOAD_SECONDS, every=0.01):
            stage = stage_of(line.rpartition("\r")[2])
            if stage is not None and stage.name == phase:
                run = ready.seat().run
                assert run is not None
                leader, port = run.pid or 0, run.port or 0
                ready.unload()
                break
        else:
            pytest.fail(f"no line of the log named the phase {phase}")
        stopped(ready)
        nothing_left(home, {leader}, {port}, before)
        assert leader > 0
        ended.append((ready.run(run.id).outcome, ready.seat().last_failure))
    assert ended == [("stopped", None)] * TIMES, "a load that is called off is no failure"


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
    assert KILLED[victim] in failure.summary, failure
    eventually(lambda: not tree(leader), SURVIVAL_SECONDS, "no process of the run is left (I1)")
    ready.unload()
    stopped(ready)
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
        stopped(ready)
    nothing_left(home, {leader}, {port}, before)


FAILURES: dict[str, tuple[dict[str, object], tuple[str, ...], str, str]] = {
    # name: settings, extra arguments, kind, words
    "greedy": ({"kv_cache_mib": 1}, (), "out_of_memory", "One conversation of 16384 tokens needs"),
    "insatiable": ({"kv_cache_mib": 400 * 1024}, (), "out_of_memory", "of main memory, and"),
    "sleepy": ({}, ("--enable-sleep-mode",), "bad_argument", "without a graphics card"),
    "unknown": ({}, ("--bogus", "3"), "bad_argument", "does not know --bogus 3"),
    "banana": ({}, ("--kv-cache-dtype", "banana"), "bad_argument", "--kv-cache-dtype: invalid choice: 'banana'"),
    "long": ({"context_tokens": 4 * CONTEXT}, (), "bad_argument", "longer than the model's own, 16384"),
    # Seen before anything starts. What the engine itself says of such files is recorded: tests/core/test_vllm_diagnosis.py.
    "corrupt": ({}, (), "model_missing", "is not a usable safetensors file"),
    "truncated": ({}, (), "model_missing", "is cut short"),
}


def test_each_failed_start_ends_in_a_sentence_with_its_evidence(ready: Daemon, home: Home, folder: Path) -> None:
    """I11: the cause stands in the middle of what five processes say; who is missing is told before anything starts."""
    before = files_of(home)
    for name, (settings, extra, _, _) in FAILURES.items():
        model = folder
        if name in ("corrupt", "truncated"):
            model = Path(shutil.copytree(folder, home.models / name))
            weights = next(model.glob("*.safetensors"))
            said = weights.read_bytes()
            weights.write_bytes(b"\xff" * 8 + said[8:] if name == "corrupt" else said[:-40])
        text = {"engine": "vllm", "model": str(model), "settings": {**SMALL, "eager": True, **settings}}
        file = home.paths.profiles / f"{name}.toml"
        file.write_text(tomli_w.dumps({**text, "extra_arguments": list(extra)}), "utf-8")
    ready.wait_slice("library", lambda library: set(FAILURES) <= {card.profile.id for card in library.profiles})
    wrong = []
    for name, (_, _, kind, words) in FAILURES.items():
        try:
            ready.want(name, override=True)
        except EngineRoomError as refusal:
            told, found = str(refusal), refusal.kind
        else:
            failure = ready.wait_failed(LOAD_SECONDS)
            told, found = failure.summary, failure.kind
            assert failure.evidence is None or SPECIAL[0] not in failure.evidence.line
        print(f"{name}: {found}: {told}")
        if found != kind or words not in told:
            wrong.append(f"{name}: {found}: {told}")
    assert not wrong, wrong
    nothing_left(home, set(), set(), before)


BROKEN = {
    "library": ({"torch/__init__.py": "import ctypes\nctypes.CDLL('libcudart-gone.so.13')"}, "libcudart-gone.so.13"),
    "symbols": (
        {"torch/__init__.py": "WHY = '/x/libtorch_cpu.so: undefined symbol: cblas_gemm'\nraise ImportError(WHY)"},
        "do not fit the PyTorch beside them (/x/libtorch_cpu.so: undefined symbol: cblas_gemm)",
    ),
    "gone": ({"vllm/__init__.py": "raise ModuleNotFoundError(\"No module named 'msgspec'\")"}, "lacks msgspec"),
    "empty": ({"vllm/unrelated.py": ""}, "does not have vLLM"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_an_environment_with_a_broken_part_is_told_as_that(home: Home, folder: Path, daemon: Daemon, name: str) -> None:
    """The real packages, one of them spoilt by a folder that comes before it."""
    files, words = BROKEN[name]
    environment = home.folder / "spoilt"
    venv.create(environment, with_pip=False)
    [packages] = environment.glob("lib/python3*/site-packages")
    for relative, text in files.items():
        (packages / relative).parent.mkdir()
        (packages / relative).write_text(text + "\n")
    [theirs] = Path(os.environ[VARIABLE]).parent.parent.glob("lib/python3*/site-packages")
    if name != "empty":
        (packages / "theirs.pth").write_text(f"{theirs}\n")
    shutil.copytree(next(theirs.glob("vllm-*.dist-info")), packages / "vllm-0.32.0+cpu.dist-info")
    home.environment[VARIABLE] = str(environment / "bin" / "python")
    write_profile(home, "tiny", "vllm", folder, **SMALL, eager=True)
    daemon.start().want("tiny")
    failure = daemon.wait_failed(LOAD_SECONDS)
    assert failure.kind in ("missing_library", "engine_not_installed")
    assert words in failure.summary
    assert failure.advice
