"""Tells how a model that nobody asks is unloaded, and how a request brings it back (I9)."""

import threading

import httpx
import pytest

from app.core import lifecycle
from tests.rig.custody import processes_of
from tests.rig.daemon import Daemon, streamed
from tests.rig.engines import FakeEngine
from tests.rig.home import Home
from tests.rig.waiting import eventually, never


def ask(daemon: Daemon, model: str, **body: object) -> httpx.Response:
    with daemon.gateway() as client:
        asked = {"model": model, "messages": [{"role": "user", "content": "Hi"}], **body}
        return client.post("/chat/completions", json=asked)


def test_an_idle_model_is_unloaded_and_the_next_request_brings_it_back(
    home: Home, fake_engine: FakeEngine, daemon: Daemon
) -> None:
    """I9: shown beforehand, unloaded in time, nothing left of it, and the client only waits a little longer."""
    home.settings(supervision={"idle_unload_seconds": 0.6})
    fake_engine.profile("sleepy", tokens=3)
    seat = daemon.start().load("sleepy", settings={"context_tokens": 1024})
    assert seat.idle_unload_at_unix is not None
    seat = daemon.wait_seat(lambda seat: isinstance(seat.phase, lifecycle.Idle), what="unloaded")
    assert (seat.resting, seat.wanted, seat.idle_unload_at_unix) == ("idle", "sleepy", None)
    eventually(lambda: not processes_of(home, runs_only=True))
    with daemon.gateway() as client:
        assert [model["id"] for model in client.get("/models").json()["data"]] == ["sleepy"]
    assert isinstance(daemon.seat().phase, lifecycle.Idle), "a list wakes nobody"
    answer = ask(daemon, "sleepy")
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["content"].split() == ["sleepy"] * 3
    argv = daemon.slices()["runs"].runs[0].argv
    assert argv[argv.index("--ctx-size") + 1] == "1024", "it comes back with the settings that it had"


def test_the_clock_does_not_run_while_anybody_is_answered(home: Home, fake_engine: FakeEngine, daemon: Daemon) -> None:
    """I9: an answer of twice the idle time is no idleness; the clock starts at its end."""
    home.settings(supervision={"idle_unload_seconds": 0.5})
    fake_engine.profile("long-winded", tokens=30, tokens_per_second=25)
    daemon.start().load("long-winded")
    with daemon.gateway() as client:
        events = streamed(client, model="long-winded")
        next(events)
        daemon.wait_seat(lambda seat: seat.idle_unload_at_unix is None)
        assert list(events)[-1] == {"done": True}
    daemon.wait_seat(lambda seat: seat.resting == "idle")
    asked, finished = (
        float(str(fake_engine.journal(event, path="/v1/chat/completions")[-1]["t"]))
        for event in ("request", "finished")
    )
    drained = next(event for event in daemon.events() if event["to"] == "Draining" and event["t"] > asked)
    assert drained["t"] - finished >= 0.45


def test_requests_in_the_middle_of_an_unload_are_all_answered(
    home: Home, fake_engine: FakeEngine, daemon: Daemon
) -> None:
    """I6, I9: an engine that takes its time to end, and clients that come exactly then."""
    home.settings(supervision={"idle_unload_seconds": 0.3, "stop_grace_seconds": 5})
    fake_engine.profile("slow-to-go", tokens=2, slow_term_seconds=0.8)
    daemon.start().load("slow-to-go")
    daemon.wait_phase(lifecycle.Stopping)
    answers: list[httpx.Response] = []
    threads = [
        threading.Thread(target=lambda: answers.append(ask(daemon, "slow-to-go", stream=False))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [answer.status_code for answer in answers] == [200] * 4, [answer.text for answer in answers]


def test_a_client_never_notices_that_its_model_goes_and_comes(
    home: Home, fake_engine: FakeEngine, daemon: Daemon
) -> None:
    """I6, I8: a client whose pauses are about as long as the idle time, so that it comes before, in and after unloads."""
    home.settings(supervision={"idle_unload_seconds": 0.05})
    fake_engine.profile("restless", tokens=2, load_seconds=0)
    daemon.start().load("restless")
    clock = threading.Event()
    for number in range(14):
        answer = ask(daemon, "restless")
        assert answer.status_code == 200, answer.text
        clock.wait(0.02 * (number % 7))  # its own pace, nothing is waited for
    assert daemon.phases().count("Draining") >= 2


@pytest.mark.parametrize("pin", [{"keep_loaded": True}, {"idle_unload_seconds": 0}], ids=str)
def test_a_pinned_model_stays(home: Home, fake_engine: FakeEngine, daemon: Daemon, pin: dict[str, object]) -> None:
    home.settings(supervision={"idle_unload_seconds": 0.2})
    fake_engine.profile("pinned", table=pin)
    seat = daemon.start().load("pinned")
    assert seat.idle_unload_at_unix is None
    never(lambda: not isinstance(daemon.seat().phase, lifecycle.Ready), 0.6)


def test_a_profile_has_an_idle_time_of_its_own_and_a_click_on_what_rests_loads_it(
    fake_engine: FakeEngine, daemon: Daemon
) -> None:
    fake_engine.profile("own", table={"idle_unload_seconds": 1})
    daemon.start().load("own")
    daemon.wait_seat(lambda seat: seat.resting == "idle")
    seat = daemon.load("own")
    assert seat.resting == ""


def test_it_can_be_forbidden_that_requests_load(home: Home, fake_engine: FakeEngine, daemon: Daemon) -> None:
    """gateway.load_on_request off: the client is told why at once."""
    home.settings(supervision={"idle_unload_seconds": 0.2}, gateway={"load_on_request": False})
    fake_engine.profile("gone")
    daemon.start().load("gone")
    daemon.wait_seat(lambda seat: seat.resting == "idle" and isinstance(seat.phase, lifecycle.Idle))
    answer = ask(daemon, "gone")
    assert answer.status_code == 503
    assert "nobody used it" in answer.json()["error"]["message"]
    assert isinstance(daemon.seat().phase, lifecycle.Idle)


def test_what_rested_rests_on_after_a_crash_of_the_daemon(home: Home, fake_engine: FakeEngine, daemon: Daemon) -> None:
    """The wish survives, the engine is not started for nothing, and a request still brings it."""
    home.settings(supervision={"idle_unload_seconds": 0.3})
    fake_engine.profile("sleepy", tokens=2)
    daemon.start().load("sleepy")
    daemon.wait_seat(lambda seat: seat.resting == "idle" and isinstance(seat.phase, lifecycle.Idle))
    daemon.kill()
    daemon.start()
    seat = daemon.wait_seat(lambda seat: seat.wanted == "sleepy")
    assert (seat.resting, seat.phase.__class__) == ("idle", lifecycle.Idle)
    assert ask(daemon, "sleepy").status_code == 200
