"""Tells how engines end: on request, by themselves, against their will; I1, I2, I6 on the real daemon."""

import contextlib
import http.client
import json
import os
import signal

import httpx
import pytest

from app.core import lifecycle
from tests.rig.custody import alive, processes_of
from tests.rig.daemon import Daemon, kill_verified, streamed
from tests.rig.engines import FakeEngine
from tests.rig.home import Home
from tests.rig.ports import binds
from tests.rig.waiting import eventually


def runs_left(home: Home) -> list[str]:
    return [str(process) for process in processes_of(home, runs_only=True)]


def test_unloading_ends_the_engine_politely(home: Home, fake_engine: FakeEngine, daemon: Daemon) -> None:
    fake_engine.profile("one")
    daemon.start().load("one")
    daemon.unload()
    daemon.wait_idle()
    assert not runs_left(home)
    assert fake_engine.journal("exit")[-1]["code"] == 0
    assert daemon.phases()[-4:] == ["Draining", "Stopping", "ReleasingVram", "Idle"]


def test_an_engine_that_ignores_term_is_killed(home: Home, fake_engine: FakeEngine, daemon: Daemon) -> None:
    """I2: within grace and kill budget, and the seat says what it is doing."""
    home.settings(supervision={"stop_grace_seconds": 0.5})
    fake_engine.profile("deaf", ignore_term=True)
    daemon.start().load("deaf")
    daemon.unload()
    daemon.wait_idle()
    assert fake_engine.journal("signal", number=int(signal.SIGTERM))
    assert not fake_engine.journal("exit"), "it did not leave by itself"
    assert not runs_left(home)


def test_an_engine_gets_its_grace(home: Home, fake_engine: FakeEngine, daemon: Daemon) -> None:
    """Slow to stop is not deaf: it ends by itself with code 0."""
    home.settings(supervision={"stop_grace_seconds": 60})
    fake_engine.profile("slow", slow_term_seconds=1)
    daemon.start().load("slow")
    daemon.unload()
    daemon.wait_idle()
    assert fake_engine.journal("exit")[-1]["code"] == 0
    assert "Killing" not in daemon.phases()


def test_a_second_unload_does_not_begin_anew(home: Home, fake_engine: FakeEngine, daemon: Daemon) -> None:
    """I2: the ladder is climbed once: one TERM, however often Stop is clicked."""
    home.settings(supervision={"stop_grace_seconds": 1})
    fake_engine.profile("deaf", ignore_term=True)
    daemon.start().load("deaf")
    for _ in range(5):
        daemon.unload()
    daemon.wait_idle()
    assert len(fake_engine.journal("signal")) == 1


@pytest.mark.parametrize(
    "knobs",
    [{"child": True}, {"grandchild": True}, {"keep_port": True}],
    ids=["child", "setsid-grandchild", "port-kept"],
)
def test_nothing_of_the_tree_survives(
    home: Home, fake_engine: FakeEngine, daemon: Daemon, knobs: dict[str, object]
) -> None:
    """I1: children, grandchildren in sessions of their own that ignore TERM, the holder of the port: all gone."""
    home.settings(supervision={"stop_grace_seconds": 2})
    fake_engine.profile("tree", **knobs)
    seat = daemon.start().load("tree")
    assert seat.run is not None
    daemon.unload()
    daemon.wait_idle()
    assert not runs_left(home)
    port = seat.run.port
    assert port is not None
    eventually(lambda: binds(port))


@pytest.mark.parametrize("grandchild", [False, True])
def test_an_engine_that_only_forks_does_not_escape(
    home: Home, fake_engine: FakeEngine, daemon: Daemon, grandchild: bool
) -> None:
    """I1: the leader exits 0 and the engine goes on in a child: loaded or refused with a sentence, nothing is left over."""
    home.settings(supervision={"stop_grace_seconds": 2})
    fake_engine.profile("tree", wrapper=True, grandchild=grandchild, load_seconds=0.5)
    daemon.start().want("tree")
    seat = daemon.wait_seat(lambda seat: isinstance(seat.phase, lifecycle.Ready | lifecycle.Failed))
    if isinstance(seat.phase, lifecycle.Failed):
        assert seat.phase.failure.summary.endswith(".")
    else:
        daemon.unload()
        daemon.wait_idle()
    eventually(lambda: not runs_left(home))


def test_a_crashed_head_takes_its_tree_along_and_is_started_again(
    home: Home, fake_engine: FakeEngine, daemon: Daemon
) -> None:
    """I1, I10: the head is killed, its grandchild is ended before the next start, the model comes back."""
    fake_engine.profile("tree", grandchild=True, child=True)
    daemon.start().load("tree")
    first = {process.pid for process in processes_of(home, runs_only=True)}
    kill_verified(daemon.engine_pid(), home)
    daemon.wait_phase(lifecycle.Backoff)
    assert not first & {process.pid for process in processes_of(home)}
    seat = daemon.wait_phase(lifecycle.Ready, "tree")
    assert seat.last_failure is not None
    assert seat.last_failure.signal == signal.SIGKILL


def test_a_crash_is_noticed_at_once(home: Home, fake_engine: FakeEngine, daemon: Daemon) -> None:
    """I10: not by a probe: the seat leaves Ready on the word of who waits for the process."""
    fake_engine.profile("one")
    daemon.start().load("one")
    kill_verified(daemon.engine_pid(), home)
    daemon.wait_seat(lambda seat: not isinstance(seat.phase, lifecycle.Ready))
    noticed = next(event for event in daemon.events() if event["from"] == "Ready")
    assert noticed["event"] == "Exited", "its keeper told it: nobody had to look"


def test_an_engine_that_keeps_crashing_is_given_up(fake_engine: FakeEngine, daemon: Daemon) -> None:
    """I11: three restarts within ten minutes, then Failed with the cause, and peace."""
    fake_engine.profile("unstable", crash_after_ready_seconds=1, exit_code=134)
    daemon.start().load("unstable")
    failure = daemon.wait_failed(120)
    assert failure.exit_code == 134
    assert len(fake_engine.journal("start")) == 4
    assert daemon.phases().count("Backoff") == 3


def test_exit_code_0_after_ready_is_a_crash_too(home: Home, fake_engine: FakeEngine, daemon: Daemon) -> None:
    """vLLM leaves with 0 when its engine core died: not asked to stop means not well."""
    switch = home.folder / "leave"
    fake_engine.profile("quitter", crash_after_ready_seconds=0, exit_code=0, only_while=switch)
    daemon.start().load("quitter")
    switch.touch()
    eventually(lambda: fake_engine.journal("exit"))
    switch.unlink()
    daemon.wait_phase(lifecycle.Backoff)
    daemon.wait_phase(lifecycle.Ready, "quitter")


@pytest.mark.parametrize("knobs", [{"crash_mid_stream": 4}, {"truncate_stream": 4}], ids=["crash", "cut"])
def test_a_broken_stream_ends_with_an_error_event(
    home: Home, fake_engine: FakeEngine, daemon: Daemon, knobs: dict[str, object]
) -> None:
    """I6, I8: the engine dies or hangs up in the middle; the client is told, it never just stops."""
    switch = home.folder / "break"
    fake_engine.profile("fragile", only_while=switch, tokens=20, tokens_per_second=50, **knobs)
    daemon.start().load("fragile")
    switch.touch()
    with daemon.gateway() as client:
        events = list(streamed(client, model="fragile"))
    switch.unlink()
    assert any("error" in event for event in events), events[-2:]


def test_a_silent_stream_is_shown_as_stalled_and_never_killed(
    home: Home, fake_engine: FakeEngine, daemon: Daemon
) -> None:
    """I10: tokens, then silence with health 200: Stalled, same process; the client's leaving ends it."""
    home.settings(supervision={"stall_seconds": 1})
    switch = home.folder / "hang"
    fake_engine.profile("sticky", only_while=switch, hang_mid_stream=3, tokens=20)
    daemon.start().load("sticky")
    pid = daemon.engine_pid()
    switch.touch()
    with daemon.gateway() as client:
        events = streamed(client, model="sticky")
        next(events)
        daemon.wait_phase(lifecycle.Stalled, "sticky")
        assert alive(pid)
        events.close()
    daemon.wait_phase(lifecycle.Ready, "sticky")
    assert daemon.engine_pid() == pid


def test_cancel_reaches_the_engine_before_and_after_the_first_byte(fake_engine: FakeEngine, daemon: Daemon) -> None:
    """I15: through the gateway, seen by the engine itself."""
    fake_engine.profile("patient", first_token_seconds=0, tokens=2_000, tokens_per_second=50)
    fake_engine.profile("thinker", first_token_seconds=5, tokens=2)  # its readiness takes as long
    daemon.start().load("patient")
    with daemon.gateway() as client:
        events = streamed(client, model="patient")
        next(events)
        events.close()
    eventually(lambda: fake_engine.journal("closed_by_client", wrote=True))
    daemon.load("thinker", 60)
    url = daemon.gateway_url + "/chat/completions"
    body = {"model": "thinker", "messages": [{"role": "user", "content": "hi"}]}
    before = len(fake_engine.journal("request", path="/v1/chat/completions"))
    leaving = http.client.HTTPConnection(httpx.URL(url).netloc.decode())
    with contextlib.closing(leaving):
        leaving.request("POST", httpx.URL(url).path, json.dumps(body), {"Content-Type": "application/json"})
        eventually(lambda: len(fake_engine.journal("request", path="/v1/chat/completions")) > before)
    eventually(lambda: fake_engine.journal("closed_by_client", wrote=False))


def test_an_unkillable_engine_is_not_simulated_but_the_budget_is_kept(
    home: Home, fake_engine: FakeEngine, daemon: Daemon
) -> None:
    """I2: a stopped (frozen) process cannot handle TERM; KILL ends it all the same."""
    home.settings(supervision={"stop_grace_seconds": 0.5})
    fake_engine.profile("frozen")
    daemon.start().load("frozen")
    os.kill(daemon.engine_pid(), signal.SIGSTOP)
    daemon.unload()
    daemon.wait_idle()
    assert not runs_left(home)
