"""Holds the stand-in engine to what its knobs promise: a test that trusts a broken stand-in proves nothing."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.rig.custody import alive, end_all_of, look_at, processes_of
from tests.rig.daemon import chat_body, streamed
from tests.rig.engines import FakeEngine
from tests.rig.home import Home
from tests.rig.ports import free_port
from tests.rig.waiting import eventually, never


class Engine:
    """One stand-in process and a client of it."""

    def __init__(self, rig: FakeEngine, face: str, arguments: tuple[str, ...], **knobs: object) -> None:
        self.rig, self.port = rig, free_port()
        self.out = rig.home.folder / "out.txt"
        self.err = rig.home.folder / "err.txt"
        program = rig.install(f"engine-{face}", face)
        name = ("serve", "tiny") if face == "vllm" else ("--model", "/models/tiny.gguf")
        alias = "--served-model-name" if face == "vllm" else "--alias"
        given = (*name, alias, "tiny", "--port", str(self.port), *arguments)
        environment = {**rig.home.environment, **rig.environment(**knobs)}
        if face == "ollama":
            given, environment["OLLAMA_HOST"] = ("serve",), f"127.0.0.1:{self.port}"
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [str(program), *given], env=environment, stdout=out, stderr=err, start_new_session=True
            )
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=60)

    @property
    def v1(self) -> httpx.Client:
        return httpx.Client(base_url=f"http://127.0.0.1:{self.port}/v1", timeout=60)

    def status(self, path: str = "/health") -> int:
        try:
            return self.client.get(path).status_code
        except httpx.TransportError:
            return 0

    def wait_ready(self, path: str = "/health") -> "Engine":
        eventually(lambda: self.status(path) == 200, 60, f"{path} answers 200")
        return self

    def wait_exit(self) -> int:
        return self.process.wait(60)

    def chat(self, **body: Any) -> list[dict[str, Any]]:
        with self.v1 as client:
            return list(streamed(client, **body))

    def close(self) -> None:
        self.client.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(60)


@pytest.fixture
def start(home: Home, fake_engine: FakeEngine) -> Iterator[Any]:
    running: list[Engine] = []

    def begin(*arguments: str, face: str = "llama-server", **knobs: object) -> Engine:
        running.append(Engine(fake_engine, face, arguments, **knobs))
        return running[-1]

    yield begin
    for engine in running:
        engine.close()
    end_all_of(home)


def text_of(events: list[dict[str, Any]]) -> str:
    return "".join(choice["delta"].get("content") or "" for e in events for choice in e.get("choices", ()))


def test_llama_server_says_loading_then_answers_whole_and_streamed(start: Any, fake_engine: FakeEngine) -> None:
    engine = start("--metrics", load_seconds=0.5, tokens=5)
    eventually(lambda: engine.status() == 503)
    assert "Loading model" in engine.client.get("/health").text
    engine.wait_ready()
    assert engine.client.get("/v1/models").json()["data"][0]["meta"]["n_ctx"] == 4096
    assert engine.client.get("/props").json()["total_slots"] == 4
    assert len(engine.client.get("/slots").json()) == 4
    assert engine.client.post("/tokenize", json={"content": "one two"}).json() == {"tokens": [1, 2]}
    assert engine.client.post("/v1/embeddings", json={"input": ["a", "b"]}).json()["data"][1]["index"] == 1
    events = engine.chat(stream_options={"include_usage": True})
    assert events[-1] == {"done": True}
    assert events[-2]["usage"]["completion_tokens"] == 5
    assert events[-2]["timings"]["predicted_n"] == 5
    whole = engine.client.post("/v1/chat/completions", json=chat_body()).json()
    assert whole["choices"][0]["message"]["content"] == text_of(events)
    assert whole["usage"] == {"prompt_tokens": 2, "completion_tokens": 5, "total_tokens": 7}
    assert "llamacpp:tokens_predicted_total 10" in engine.client.get("/metrics").text
    assert engine.client.post("/v1/completions", json={"prompt": "a b c"}).json()["usage"]["prompt_tokens"] == 3
    assert "load_tensors: loading model tensors" in engine.err.read_text()
    engine.process.terminate()
    assert engine.wait_exit() == 0


def test_its_start_is_light(start: Any) -> None:
    engine = start().wait_ready()
    resident = next(
        line for line in Path(f"/proc/{engine.process.pid}/status").read_text().splitlines() if "VmRSS" in line
    )
    assert int(resident.split()[1]) < 30_000


def test_metrics_need_their_flag_and_a_key_is_asked_for(start: Any) -> None:
    engine = start("--api-key", "secret-key-of-a-test").wait_ready()
    assert engine.client.get("/v1/models").status_code == 401
    headers = {"Authorization": "Bearer secret-key-of-a-test"}
    assert engine.client.get("/v1/models", headers=headers).status_code == 200
    assert engine.client.get("/metrics").status_code == 501


def test_the_journal_tells_a_cancel_before_and_after_the_first_byte(start: Any, fake_engine: FakeEngine) -> None:
    engine = start(tokens=500, tokens_per_second=50, first_token_seconds=0.3).wait_ready()
    with contextlib.suppress(httpx.ReadTimeout):
        httpx.post(f"http://127.0.0.1:{engine.port}/v1/chat/completions", json=chat_body(), timeout=0.1)
    eventually(lambda: fake_engine.journal("closed_by_client", wrote=False))
    with engine.v1 as client:
        events = streamed(client)
        while not text_of([next(events)]):
            pass
        events.close()
    eventually(lambda: fake_engine.journal("closed_by_client", wrote=True))
    assert not fake_engine.journal("finished", path="/v1/chat/completions")


def test_speed_and_first_token_are_as_asked(start: Any, fake_engine: FakeEngine) -> None:
    engine = start(tokens=20, tokens_per_second=100, first_token_seconds=0.2).wait_ready()
    engine.chat()
    request = fake_engine.journal("request", path="/v1/chat/completions")[0]
    finished = eventually(lambda: fake_engine.journal("finished", path="/v1/chat/completions"))[0]
    assert float(str(finished["t"])) - float(str(request["t"])) >= 0.2 + 19 / 100 - 0.01


@pytest.mark.parametrize(("knobs", "code"), [({"exit_code": 7}, 7), ({"exit_signal": 11}, -11)])
def test_crash_while_loading(start: Any, knobs: dict[str, object], code: int) -> None:
    assert start(crash_at=0.5, **knobs).wait_exit() == code


def test_crash_soon_after_ready_only_while_a_file_exists(start: Any, home: Home) -> None:
    switch = home.folder / "crash-now"
    engine = start(crash_after_ready_seconds=0, exit_code=9, only_while=switch).wait_ready()
    engine.chat()
    never(lambda: engine.process.poll() is not None, 0.2)
    switch.touch()
    assert engine.wait_exit() == 9


def test_hang_while_loading_and_never_healthy(start: Any) -> None:
    hangs, never_healthy = start(hang_at=0.5), start(never_healthy=True)
    eventually(lambda: hangs.status() == 503 and never_healthy.status() == 503)
    never(lambda: 200 in (hangs.status(), never_healthy.status()), 0.3)


def test_a_load_is_held_until_it_may_go_on(start: Any, tmp_path: Path) -> None:
    engine = start(hold_at=0.5, go_on=tmp_path / "go-on")
    eventually(lambda: engine.status() == 503)
    never(lambda: engine.status() == 200, 0.3)
    (tmp_path / "go-on").touch()
    assert engine.wait_ready().status() == 200


def test_health_200_and_no_token(start: Any) -> None:
    engine = start(no_token=True).wait_ready()
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"http://127.0.0.1:{engine.port}/v1/chat/completions", json=chat_body(stream=True), timeout=0.3)
    assert engine.status() == 200


def test_streams_break_as_asked(start: Any) -> None:
    assert "broken" in start(crash_mid_stream=3).wait_ready().chat()[-1]
    assert "broken" in start(truncate_stream=3).wait_ready().chat()[-1]
    assert start(empty_stream=True).wait_ready().chat() == []
    hangs = start(hang_mid_stream=3).wait_ready()
    with pytest.raises(httpx.ReadTimeout), httpx.Client(base_url=f"http://127.0.0.1:{hangs.port}/v1", timeout=0.3) as c:
        list(streamed(c))
    assert hangs.status() == 200


def test_error_status_wrong_model_and_hanging_health(start: Any) -> None:
    assert start(error_status=500).wait_ready().chat()[0]["status"] == 500
    engine = start(model_name="another").wait_ready()
    assert engine.client.get("/v1/models").json()["data"][0]["id"] == "another"
    hangs = start(health_hangs=True)
    eventually(lambda: hangs.status("/props") == 200)
    with pytest.raises(httpx.ReadTimeout):
        httpx.get(f"http://127.0.0.1:{hangs.port}/health", timeout=0.2)


def test_term_is_ignored_or_slow(start: Any, fake_engine: FakeEngine) -> None:
    deaf = start(ignore_term=True).wait_ready()
    deaf.process.terminate()
    eventually(lambda: fake_engine.journal("signal"))
    never(lambda: deaf.process.poll() is not None, 0.2)
    slow = start(slow_term_seconds=0.4).wait_ready()
    slow.process.terminate()
    never(lambda: slow.process.poll() is not None, 0.2)
    assert slow.wait_exit() == 0


def test_wrapper_exits_and_the_engine_goes_on(start: Any, fake_engine: FakeEngine) -> None:
    engine = start(wrapper=True)
    assert engine.wait_exit() == 0
    engine.wait_ready()
    pid = int(str(fake_engine.journal("start")[0]["pid"]))
    assert pid != engine.process.pid
    assert alive(pid)


def test_children_outlive_it(start: Any, home: Home) -> None:
    engine = start(child=True, grandchild=True).wait_ready()
    names = {"left-behind", "grandchild"}  # which each takes when it has become what it is
    eventually(lambda: names <= {Path(f"/proc/{each.pid}/comm").read_text().strip() for each in processes_of(home)})
    eventually(lambda: len(processes_of(home)) == 3)
    engine.process.kill()
    engine.wait_exit()
    left = processes_of(home)
    assert len(left) == 2
    sessions = {os.getsid(process.pid) for process in left}
    assert len(sessions) == 2, "one of them is in a session of its own"
    os.killpg(engine.process.pid, signal.SIGTERM)
    eventually(lambda: len(processes_of(home)) == 1, what="the one in its own session is still there")
    os.kill(processes_of(home)[0].pid, signal.SIGTERM)
    never(lambda: not processes_of(home), 0.2, "it ignores TERM")


def test_a_child_keeps_the_port(start: Any) -> None:
    engine = start(keep_port=True).wait_ready()
    engine.process.kill()
    engine.wait_exit()
    with socket.socket() as again, pytest.raises(OSError, match="in use"):
        again.bind(("127.0.0.1", engine.port))


@pytest.mark.parametrize("when", ["exit", "stay"])
def test_somebody_else_takes_its_port_first(start: Any, home: Home, when: str) -> None:
    meeting = home.runtime_home / "squatter.sock"
    door = socket.socket(socket.AF_UNIX)
    door.bind(str(meeting))
    door.listen(1)
    taken: list[socket.socket] = []

    def squat() -> None:
        client, _ = door.accept()
        port = int(client.recv(16))
        squatter = socket.create_server(("127.0.0.1", port))
        taken.append(squatter)
        client.sendall(b"taken\n")
        client.close()

    helper = threading.Thread(target=squat)
    helper.start()
    engine = start(port_taken_by=meeting, when_taken=when)
    helper.join(60)
    if when == "exit":
        assert engine.wait_exit() == 1
        assert "couldn't bind" in engine.err.read_text()
    else:
        eventually(lambda: "couldn't bind" in engine.err.read_text())
        never(lambda: engine.process.poll() is not None, 0.2)
    for one in (*taken, door):
        one.close()


def test_odd_output(start: Any) -> None:
    engine = start(
        noise_bytes=5_000_000, non_utf8=True, long_line_bytes=300_000, print="said aloud", print_variables="PATH,HOME"
    ).wait_ready()
    eventually(lambda: engine.out.stat().st_size == 5_000_000)
    assert engine.out.read_bytes().count(b"\n") == 0
    printed = engine.err.read_bytes()
    assert b"\xff\xfe" in printed
    assert b"x" * 300_000 in printed
    assert b"said aloud" in printed
    assert str(engine.rig.home.folder).encode() in printed


def test_out_of_memory_text(start: Any) -> None:
    engine = start(oom_text="cuda")
    assert engine.wait_exit() == 1
    assert "cudaMalloc failed: out of memory" in engine.err.read_text()


def test_simulated_vram_and_balloon_and_leak(start: Any, home: Home) -> None:
    engine = start(vram={"GPU-1": 1_000}, balloon_mib=40, leak_descriptors=20).wait_ready()
    told = home.driver / "allocations" / f"{engine.process.pid}.json"
    assert json.loads(told.read_text()) == {"GPU-1": 1_000}
    status = Path(f"/proc/{engine.process.pid}/status").read_text()
    assert int(status.split("VmRSS:")[1].split()[0]) > 40_000
    for _ in range(5):
        engine.status()
    assert len(list(Path(f"/proc/{engine.process.pid}/fd").iterdir())) > 100
    engine.process.kill()
    engine.wait_exit()
    assert told.exists(), "the driver notices the death by itself"


def test_unknown_flags(start: Any) -> None:
    assert start("--bogus", refuse_unknown_flags=True).wait_exit() == 1
    start("--bogus", "value").wait_ready()


def test_llama_cpp_python_binds_late_is_serial_and_newcomers_cut_in(start: Any, fake_engine: FakeEngine) -> None:
    engine = start(face="llama-cpp-python", load_seconds=0.4, tokens=400, tokens_per_second=100)
    never(lambda: engine.status("/openapi.json") != 0, 0.2)
    engine.wait_ready("/openapi.json")
    assert engine.status("/health") == 404
    with engine.v1 as client:
        events = streamed(client)
        while not text_of([next(events)]):
            pass
        assert engine.status("/openapi.json") == 200
        assert engine.client.get("/v1/models").status_code == 200  # and with that the stream is over
        assert len(list(events)) < 300
    engine.process.terminate()
    assert engine.wait_exit() == -signal.SIGTERM


def test_vllm_is_a_tree_that_refuses_connections_and_survives_its_head(start: Any, home: Home) -> None:
    engine = start(face="vllm", load_seconds=0.5)
    never(lambda: engine.status() != 0, 0.2)
    engine.process.terminate()  # not honoured while loading
    engine.wait_ready()
    names = {Path(f"/proc/{process.pid}/comm").read_text().strip() for process in processes_of(home)}
    assert {"vllm", "VLLM::EngineCor", "VLLM::Worker"} <= names
    assert b"\n\rLoading safetensors checkpoint shards" in engine.err.read_bytes()
    assert "Starting to load model" in engine.out.read_text()
    assert "vllm:num_requests_running" in engine.client.get("/metrics").text
    assert engine.chat(stream_options={"include_usage": True})[-1] == {"done": True}
    engine.process.kill()
    engine.wait_exit()
    assert len(processes_of(home)) >= 2, "engine core and worker go on as orphans"


def test_vllm_ends_with_its_children_when_ready(start: Any, home: Home) -> None:
    engine = start(face="vllm").wait_ready()
    engine.process.terminate()
    assert engine.wait_exit() == 0
    eventually(lambda: not processes_of(home))


def test_ollama_answers_under_both_apis(start: Any) -> None:
    engine = start(face="ollama").wait_ready("/api/version")
    answer = engine.client.post("/api/chat", json={"messages": [], "options": {"num_predict": 3}})
    assert [json.loads(line)["done"] for line in answer.text.splitlines()] == [False, False, False, True]
    assert engine.chat()[-1] == {"done": True}


def test_start_times_tell_processes_apart(start: Any) -> None:
    first, second = start().wait_ready(), start().wait_ready()
    one, two = look_at(first.process.pid), look_at(second.process.pid)
    assert one is not None
    assert two is not None
    assert (one.pid, one.start_ticks) != (two.pid, two.start_ticks)
