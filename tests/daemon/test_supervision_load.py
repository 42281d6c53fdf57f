"""Tells how a load becomes Ready, and every way in which it must not: I10, I11, I12, I13 on the real daemon."""

import contextlib
import socket
import threading

import pytest

from app.core import lifecycle
from app.core.errors import BadRequest, EngineNotInstalled, EngineRoomError, ModelMissing, UnknownProfile
from tests.rig.custody import processes_of
from tests.rig.daemon import Daemon, chat_body, streamed
from tests.rig.engines import FakeEngine
from tests.rig.home import Home
from tests.rig.squatter import Squatter
from tests.rig.waiting import eventually


def no_engine_left(home: Home) -> bool:
    return not processes_of(home, runs_only=True)


def test_ready_comes_after_a_real_token(fake_engine: FakeEngine, daemon: Daemon) -> None:
    """I10: not with the process, not with the port, not with health 200: with a token."""
    fake_engine.profile("slow-first-token", first_token_seconds=0.8)
    daemon.start().load("slow-first-token")
    asked = fake_engine.journal("request", path="/v1/chat/completions")[0]
    ready = next(event for event in daemon.events() if event["to"] == "Ready")
    assert ready["t"] >= float(str(asked["t"])) + 0.8


def test_the_endpoint_then_answers_and_the_model_is_named(fake_engine: FakeEngine, daemon: Daemon) -> None:
    fake_engine.profile("one", tokens=5)
    seat = daemon.start().load("one")
    assert isinstance(seat.phase, lifecycle.Ready)
    assert seat.phase.endpoint.context_tokens == 2048
    assert seat.run is not None
    assert seat.run.ready_seconds is not None
    with daemon.gateway() as client:
        whole = client.post("/chat/completions", json=chat_body("one")).json()
        assert whole["choices"][0]["message"]["content"] == "one one one one one"
        events = list(streamed(client, model="one"))
    assert events[-1] == {"done": True}


def test_stages_are_shown_in_order_and_progress_never_falls(fake_engine: FakeEngine, daemon: Daemon) -> None:
    fake_engine.profile("staged", load_seconds=4, load_steps=14)
    daemon.start().load("staged")
    assert daemon.slices_seen is not None
    loading = [view.phase for view in daemon.slices_seen.seats_seen if isinstance(view.phase, lifecycle.Loading)]
    stages = list(dict.fromkeys(phase.stage for phase in loading))
    assert stages[:1] == ["starting"]
    assert {"weights", "kv_cache", "warm_up"} <= set(stages)
    progress = [phase.progress for phase in loading if phase.progress is not None]
    assert progress == sorted(progress)


def test_health_200_and_no_token_never_becomes_ready(home: Home, fake_engine: FakeEngine, daemon: Daemon) -> None:
    """I10, I12: the load ends by its own budget, says so, and leaves nothing."""
    home.settings(supervision={"load_stall_seconds": 2})
    fake_engine.profile("mute", no_token=True)
    daemon.start().want("mute")
    failure = daemon.wait_failed()
    assert failure.kind in ("load_timeout", "no_token")
    assert failure.profile_id == "mute"
    assert failure.summary.endswith(".")
    assert "Ready" not in daemon.phases()
    assert no_engine_left(home)


def test_an_engine_that_hangs_while_loading_is_given_up(home: Home, fake_engine: FakeEngine, daemon: Daemon) -> None:
    home.settings(supervision={"load_stall_seconds": 2})
    fake_engine.profile("stuck", hang_at=0.5)
    daemon.start().want("stuck")
    assert daemon.wait_failed().kind == "load_timeout"
    assert no_engine_left(home)


def test_slow_is_not_dead(home: Home, fake_engine: FakeEngine, daemon: Daemon) -> None:
    """I12: a load that takes far longer than the stall budget goes on while it makes progress."""
    home.settings(supervision={"load_stall_seconds": 3})
    fake_engine.profile("steady", load_seconds=9, load_steps=60)
    daemon.start().load("steady")


@pytest.mark.parametrize(
    ("knobs", "code", "number"),
    [({"exit_code": 3}, 3, None), ({"exit_signal": 11}, None, 11), ({"exit_code": 0}, 0, None)],
)
def test_a_crash_while_loading_explains_itself(
    home: Home,
    fake_engine: FakeEngine,
    daemon: Daemon,
    knobs: dict[str, object],
    code: int | None,
    number: int | None,
) -> None:
    """I11: exit code or signal, the phase, the last lines, a sentence; and no loop of restarts. Exit code 0 is no excuse."""
    fake_engine.profile("fragile", crash_at=0.5, **knobs)
    daemon.start().want("fragile")
    failure = daemon.wait_failed()
    assert (failure.exit_code, failure.signal) == (code, number)
    assert failure.phase
    assert failure.summary.strip().endswith(".")
    assert any("GGML_ASSERT" in line for line in failure.last_lines)
    assert len(fake_engine.journal("start")) == 1
    assert no_engine_left(home)


@pytest.mark.parametrize("text", ["cuda", "kv", "host"])
def test_out_of_memory_is_recognised_with_its_line(fake_engine: FakeEngine, daemon: Daemon, text: str) -> None:
    """I11: the cause is classified and the evidence's offset points at the telling line in the run's log."""
    fake_engine.profile("hungry", oom_text=text)
    daemon.start().want("hungry")
    failure = daemon.wait_failed()
    assert failure.kind == "out_of_memory"
    assert failure.evidence is not None
    piece = daemon.run_log(failure.evidence.run_id, failure.evidence.log_offset).decode()
    assert piece.startswith(failure.evidence.line[:40])


def test_the_wrong_model_never_becomes_ready(home: Home, fake_engine: FakeEngine, daemon: Daemon) -> None:
    """I13."""
    fake_engine.profile("wanted", model_name="something-else")
    daemon.start().want("wanted")
    failure = daemon.wait_failed()
    assert failure.kind == "wrong_model"
    assert "something-else" in failure.summary
    assert "Ready" not in daemon.phases()
    assert no_engine_left(home)


def test_somebody_else_on_the_port_is_not_taken_for_our_engine(
    home: Home, fake_engine: FakeEngine, daemon: Daemon
) -> None:
    """I13: healthy, the right name, a token at once, and still not ours; our engine lives on beside it without a port."""
    with Squatter(home.runtime_home, "ours") as squatter:
        fake_engine.profile("ours", port_taken_by=squatter.meeting, when_taken="stay")
        daemon.start().want("ours")
        failure = daemon.wait_failed()
        assert squatter.ports
        assert failure.kind == "port_taken"
        assert "Ready" not in daemon.phases()
        assert no_engine_left(home)


def test_a_taken_port_leads_to_another_one(home: Home, fake_engine: FakeEngine, daemon: Daemon) -> None:
    """I13, S5: the first port is lost to somebody else; the load is tried on another port and succeeds."""
    with Squatter(home.runtime_home, "ours", times=1) as squatter:
        fake_engine.profile("ours", port_taken_by=squatter.meeting)
        seat = daemon.start().load("ours")
        assert seat.run is not None
        assert seat.run.port not in squatter.ports


def test_what_cannot_be_loaded_is_refused_with_a_sentence(home: Home, fake_engine: FakeEngine, daemon: Daemon) -> None:
    fake_engine.profile("there")
    fake_engine.profile("no-file", model=home.models / "gone.gguf")
    daemon.start()
    with pytest.raises(UnknownProfile, match="there"):
        daemon.want("nonsense")
    with pytest.raises(ModelMissing, match=r"gone\.gguf"):
        daemon.want("no-file")
    with pytest.raises(BadRequest):
        daemon.post("/control/want", {"profile": 7})
    assert daemon.phases() == []


def test_an_engine_that_is_not_installed_is_named(home: Home, daemon: Daemon) -> None:
    rig = FakeEngine(home)
    rig.profile("lonely")
    (home.bin / "llama-server").unlink()
    daemon.start()
    with pytest.raises(EngineNotInstalled, match="llama-server"):
        daemon.want("lonely")


def test_an_engine_that_cannot_be_executed_says_so(home: Home, fake_engine: FakeEngine, daemon: Daemon) -> None:
    """Not executable is not installed; a program that the kernel refuses fails at exec, with a sentence."""
    fake_engine.profile("broken")
    (home.bin / "llama-server").write_bytes(b"\x7fELF nonsense")
    daemon.start()
    summary = ""
    with contextlib.suppress(EngineRoomError):
        daemon.want("broken")
        summary = daemon.wait_failed().summary
    assert summary or daemon.phases() == []
    assert not processes_of(home, runs_only=True)


def test_noise_does_not_hold_anything_up(fake_engine: FakeEngine, daemon: Daemon) -> None:
    """I17: carriage returns without end, an overlong line, bytes that are no text: Ready all the same, log intact."""
    fake_engine.profile(
        "noisy", noise_bytes=60_000_000, non_utf8=True, long_line_bytes=2_000_000, load_seconds=0.5, tokens=3
    )
    seat = daemon.start().load("noisy")
    assert seat.run is not None
    run = seat.run.id
    eventually(lambda: len(daemon.run_log(run)) > 1_000_000)
    whole = b"".join(daemon.run_log(run, start) for start in range(0, 8_000_000, 1 << 20))
    assert b"\xff\xfe" in whole
    assert daemon.hello().api
    with daemon.gateway() as client:
        assert list(streamed(client, model="noisy"))[-1] == {"done": True}


def test_requests_wait_for_a_load_and_are_then_answered(fake_engine: FakeEngine, daemon: Daemon) -> None:
    """I6, G3: asked while loading, answered after it."""
    fake_engine.profile("slow", load_seconds=1.5, tokens=4)
    daemon.start().want("slow")
    daemon.wait_phase(lifecycle.Loading)
    answers: list[str] = []

    def ask() -> None:
        with daemon.gateway() as client:
            answers.append(client.post("/chat/completions", json=chat_body("slow")).text)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(answers) == 3
    assert all("slow slow slow slow" in answer for answer in answers)


def test_garbage_on_the_control_socket_hurts_nobody(home: Home, fake_engine: FakeEngine, daemon: Daemon) -> None:
    """Bytes that are no HTTP, half a request, unknown routes, wrong bodies: a sentence or a closed door, and life goes on."""
    fake_engine.profile("one")
    daemon.start().load("one")
    for garbage in (b"\x00\xff" * 4000, b"GET /control/hello HTTP/1.1\r\nHo", b"POST /control/want HTTP/9.9\r\n\r\n"):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(60)
            client.connect(str(home.paths.socket))
            client.sendall(garbage)
    for method, path, body in (
        ("POST", "/control/want", b"not json"),
        ("POST", "/control/want", b'{"profile": ["x"]}'),
        ("POST", "/control/want", b"\xff\xfe"),
        ("GET", "/control/nothing", b""),
        ("DELETE", "/control/want", b""),
        ("GET", "/control/runs/..%2f..%2fetc/log", b""),
        ("GET", "/control/runs/x/log?from=-1", b""),
    ):
        answer = daemon.client.request(method, path, content=body)
        assert 400 <= answer.status_code < 500, (method, path, answer.status_code)
        assert answer.json()["summary"].endswith(".")
    assert isinstance(daemon.seat().phase, lifecycle.Ready)
    assert daemon.hello().api
