"""Tells what is left when the daemon itself ends, by request or by force: nothing, and the model comes back (I1, I5)."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from app.core import lifecycle
from tests.rig.custody import alive, keepers_of, processes_of
from tests.rig.daemon import REPOSITORY, Daemon, kill_verified, streamed
from tests.rig.engines import FakeEngine
from tests.rig.home import Home
from tests.rig.waiting import eventually

LEFTOVER = r"left|survived|ended it|earlier|previous"


@pytest.fixture(autouse=True)
def short_grace(home: Home) -> None:
    """Most engines here have a grandchild that ignores TERM: what is not about patience shall not wait for it."""
    home.settings(supervision={"stop_grace_seconds": 0.5})


def runs_left(home: Home) -> list[str]:
    return [str(process) for process in processes_of(home, runs_only=True)]


@pytest.mark.parametrize("phase", ["Spawning", "Loading", "Ready", "Draining", "Stopping", "ReleasingVram"])
def test_the_daemon_killed_in_any_phase_leaves_nothing(
    home: Home, fake_engine: FakeEngine, daemon: Daemon, phase: str
) -> None:
    """I1: SIGKILL as soon as the event log shows the phase; 15 s later no process of any engine is there."""
    daemon.expect_warnings(LEFTOVER)
    home.settings(supervision={"stop_grace_seconds": 1})
    fake_engine.profile("a", grandchild=True, child=True, load_seconds=0.4, slow_term_seconds=0.5)
    fake_engine.profile("b", load_seconds=0.4)
    daemon.start().want("a")
    if phase in ("Draining", "Stopping", "ReleasingVram"):
        daemon.wait_phase(lifecycle.Ready, "a")
        daemon.want("b")
    eventually(lambda: phase in daemon.phases(), 60, f"{phase} in the event log", every=0.001)
    daemon.kill()
    eventually(lambda: not runs_left(home), 60, "no engine is left")
    daemon.start()
    daemon.wait_phase(lifecycle.Ready, deadline=60)


@pytest.mark.parametrize("seed", range(4))
def test_the_daemon_killed_at_a_random_instant_leaves_nothing(
    home: Home, fake_engine: FakeEngine, daemon: Daemon, seed: int
) -> None:
    """I1: anywhere in a scripted session of loads and switches."""
    daemon.expect_warnings(LEFTOVER)
    instant = random.Random(seed).uniform(0.0, 2.5)
    for name in ("a", "b"):
        fake_engine.profile(name, grandchild=True, load_seconds=0.3)
    daemon.start().want("a")
    end = time.monotonic() + instant
    while time.monotonic() < end:
        view = daemon.seat()
        if isinstance(view.phase, lifecycle.Ready):
            daemon.want("b" if view.phase.profile_id == "a" else "a")
    daemon.kill()
    eventually(lambda: not runs_left(home), 60, f"no engine is left after {instant:.3f} s")


def test_the_next_start_brings_the_model_back(home: Home, fake_engine: FakeEngine, daemon: Daemon) -> None:
    daemon.expect_warnings(LEFTOVER)
    fake_engine.profile("kept")
    daemon.start().load("kept", settings={"context_tokens": 1024})
    daemon.kill()
    eventually(lambda: not runs_left(home))
    daemon.start()
    seat = daemon.wait_phase(lifecycle.Ready, "kept")
    assert seat.run is not None
    assert "1024" in seat.run.argv


def test_what_was_unloaded_is_not_loaded_at_the_next_start(fake_engine: FakeEngine, daemon: Daemon) -> None:
    fake_engine.profile("gone")
    daemon.start().load("gone")
    daemon.unload()
    daemon.wait_idle()
    daemon.kill()
    daemon.start()
    assert daemon.seat().wanted is None
    assert len(fake_engine.journal("start")) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_the_daemon_leaves_in_order_when_asked(
    home: Home, fake_engine: FakeEngine, daemon: Daemon, number: signal.Signals
) -> None:
    fake_engine.profile("one", grandchild=True)
    daemon.start().load("one")
    daemon.signal(number)
    assert daemon.wait_end() == 0
    assert not runs_left(home)
    assert not home.paths.socket.exists()


def test_two_signals_are_one(home: Home, fake_engine: FakeEngine, daemon: Daemon) -> None:
    """Ctrl-C twice, while the engine takes its time: nothing is left either way."""
    home.settings(supervision={"stop_grace_seconds": 5})
    fake_engine.profile("slow", slow_term_seconds=1)
    daemon.start().load("slow")
    engine = daemon.engine_pid()
    daemon.signal(signal.SIGINT)
    daemon.signal(signal.SIGINT)
    assert daemon.wait_end() in (0, -signal.SIGINT, 128 + signal.SIGINT)
    eventually(lambda: not runs_left(home))
    assert not alive(engine)


def test_a_killed_keeper_takes_its_engine_along(home: Home, fake_engine: FakeEngine, daemon: Daemon) -> None:
    """I1: the keeper alone is killed; its engine goes, the seat notices, the model comes back under a new keeper."""
    fake_engine.profile("one", grandchild=True)
    daemon.start().load("one")
    engine, keepers = daemon.engine_pid(), keepers_of(home)
    assert len(keepers) == 2
    kill_verified(keepers[1].pid, home)
    eventually(lambda: not alive(engine), 60, "the engine is gone")
    daemon.wait_seat(lambda seat: seat.run is None or seat.run.pid not in (None, engine))
    daemon.wait_phase(lifecycle.Ready, "one")


def test_keeper_and_daemon_killed_together_leave_nothing_after_the_next_start(
    home: Home, fake_engine: FakeEngine, daemon: Daemon
) -> None:
    """I1: nobody is left who could end the engine, so the next start finds it by its marker and does."""
    daemon.expect_warnings(LEFTOVER)
    fake_engine.profile("one", grandchild=True)
    daemon.start().load("one")
    first = {process.pid for process in processes_of(home, runs_only=True)}
    keepers = keepers_of(home)
    assert len(keepers) == 2
    for process in keepers:
        os.kill(process.pid, signal.SIGSTOP)  # so that none of them can act on another's death
    daemon.signal(signal.SIGKILL)
    for process in keepers:
        kill_verified(process.pid, home)
    daemon.wait_end()
    daemon.start()
    eventually(lambda: not first & {process.pid for process in processes_of(home)})
    daemon.wait_phase(lifecycle.Ready, "one")


def test_a_second_daemon_says_no_and_harms_nobody(home: Home, fake_engine: FakeEngine, daemon: Daemon) -> None:
    """I5: one per state folder; the sentence names the process that runs."""
    daemon.expect_warnings("running already")
    fake_engine.profile("one", tokens=30, tokens_per_second=30)
    daemon.start().load("one")
    with daemon.gateway() as client:
        events = streamed(client, model="one")
        next(events)
        second = subprocess.run(
            [sys.executable, "-m", "app", "serve"],
            cwd=REPOSITORY,
            env=daemon.environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert list(events)[-1] == {"done": True}
    assert second.returncode == 3
    assert str(daemon.pid) in second.stderr
    assert "Traceback" not in second.stderr
    assert daemon.hello().pid == daemon.pid


def test_two_homes_never_meet(home: Home, fake_engine: FakeEngine, daemon: Daemon, tmp_path: object) -> None:
    """I5: another account's daemon starts, sweeps its own leftovers, leaves; ours goes on."""
    fake_engine.profile("mine")
    daemon.start().load("mine")
    engine = daemon.engine_pid()
    other_home = Home(home.folder.parent / "other")
    other = Daemon(other_home)
    try:
        other.start()
        assert other.seat().wanted is None
    finally:
        other.close()
        other_home.close()
    assert alive(engine)
    assert isinstance(daemon.seat().phase, lifecycle.Ready)


def test_a_dead_daemons_socket_is_no_obstacle(home: Home, fake_engine: FakeEngine, daemon: Daemon) -> None:
    fake_engine.profile("one")
    daemon.start()
    daemon.kill()
    assert home.paths.socket.exists()
    daemon.start()
    daemon.load("one")


def test_a_removed_socket_is_made_again(home: Home, fake_engine: FakeEngine, daemon: Daemon) -> None:
    """A runtime folder can vanish at logout; the daemon keeps its models and opens the door again."""
    daemon.expect_warnings("was removed")
    fake_engine.profile("one")
    daemon.start().load("one")
    home.paths.socket.unlink()
    home.paths.socket.parent.rmdir()
    eventually(home.paths.socket.exists)
    daemon.wait_until_up()
    assert isinstance(daemon.seat().phase, lifecycle.Ready)
