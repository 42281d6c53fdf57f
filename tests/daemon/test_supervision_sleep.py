"""A model sleeps and wakes: measured memory, not the engine's word, decides what comes next (E11, I4), on a simulated driver."""

import os

import pytest
import tomli_w

from app.core import lifecycle
from app.core.control import Park, Unload
from app.core.errors import BadRequest, DoesNotFit, UnknownProfile
from tests.engines.tiny_folder import write_tiny_folder
from tests.rig.custody import processes_of
from tests.rig.daemon import Daemon, chat_body
from tests.rig.driver import SimulatedDriver, card, card_uuid
from tests.rig.engines import FakeEngine
from tests.rig.home import Home
from tests.rig.waiting import eventually

GIB = 1024**3
CARD = card_uuid(0)


@pytest.fixture
def sleeper(home: Home, fake_engine: FakeEngine, driver: SimulatedDriver) -> FakeEngine:
    """A vLLM for NVIDIA cards. One card of 24 GiB."""
    fake_engine.install_vllm("0.32.0+cu129")
    driver.gpus([card()])
    write_tiny_folder(home.models / "tiny")
    return fake_engine


def profile(rig: FakeEngine, name: str = "tiny", gib: float = 12, **knobs: object) -> str:
    whole = {
        "engine": "vllm",
        "model": str(rig.home.models / "tiny"),
        "settings": {"context_tokens": 2_048, "sleep_mode": True, "gpu_memory_utilisation": 0.5},
        "environment": rig.environment(vram={CARD: int(gib * GIB)}, **knobs),
    }
    (rig.home.paths.profiles / f"{name}.toml").write_text(tomli_w.dumps(whole), "utf-8")
    return name


def park(daemon: Daemon, level: int | None = None) -> None:
    daemon.post("/control/park", Park(level=level))


def slept(rig: FakeEngine) -> list[object]:
    return [line["level"] for line in rig.journal("sleep")]


def used(daemon: Daemon) -> int:
    gpus = daemon.slices()["gpus"]
    return int(gpus.gpus[0].used_bytes)


def test_it_sleeps_gives_its_memory_back_and_a_request_wakes_it(sleeper: FakeEngine, daemon: Daemon) -> None:
    name = profile(sleeper)
    daemon.start().load(name)
    run = daemon.seat().run
    assert run is not None
    assert "--enable-sleep-mode" in run.argv
    eventually(lambda: used(daemon) >= 12 * GIB, what="the board shows what it holds")
    park(daemon)
    seat = daemon.wait_phase(lifecycle.Sleeping, "tiny")
    assert isinstance(seat.phase, lifecycle.Sleeping)
    assert seat.phase.level == 1
    assert slept(sleeper) == [1], "main memory has room for the weights of a tiny model"
    assert seat.phase.freed_bytes == pytest.approx(12 * GIB * 0.9, rel=0.01), "measured"
    eventually(lambda: used(daemon) < 3 * GIB, what="the board shows that it came back")
    assert (seat.wanted, seat.resting) == ("tiny", "parked")
    with daemon.gateway() as client:
        said = client.post("/chat/completions", json=chat_body("tiny", max_tokens=4)).raise_for_status().json()
    assert said["choices"][0]["message"]["content"], "the request waited while it woke"
    seat = daemon.wait_phase(lifecycle.Ready, "tiny")
    assert seat.run is not None
    assert seat.run.id == run.id, "it was woken and not loaded again"
    assert len(sleeper.journal("start")) == 1
    eventually(lambda: (daemon.run(run.id).wake_seconds or 0) > 0, what="how long it took to wake is kept")


def test_level_two_reads_the_weights_again_before_it_answers(sleeper: FakeEngine, daemon: Daemon) -> None:
    name = profile(sleeper)
    daemon.start().load(name)
    park(daemon, 2)
    daemon.wait_phase(lifecycle.Sleeping)
    daemon.post("/control/lend/return", Unload())
    daemon.wait_phase(lifecycle.Ready, "tiny")
    steps = [(line["event"], line.get("tags") or line.get("method_called")) for line in sleeper.journal()]
    woken = [step for step in steps if step[0] in ("wake_up", "collective_rpc")]
    assert woken == [("wake_up", ["weights"]), ("collective_rpc", "reload_weights"), ("wake_up", ["kv_cache"])]
    with daemon.gateway() as client:
        client.post("/chat/completions", json=chat_body("tiny", max_tokens=2)).raise_for_status()


def test_memory_that_does_not_come_back_ends_in_a_stop_and_the_model_is_still_there_on_request(
    home: Home, sleeper: FakeEngine, daemon: Daemon
) -> None:
    home.settings(supervision={"park_seconds": 1.5})
    name = profile(sleeper, sleep_keeps=0.9)
    daemon.start().load(name)
    park(daemon)
    seat = daemon.wait_seat(lambda seat: isinstance(seat.phase, lifecycle.Idle) and seat.resting == "parked")
    assert "kept its memory" in seat.notice
    assert not processes_of(home, runs_only=True), "I1"
    with daemon.gateway() as client:
        client.post("/chat/completions", json=chat_body("tiny", max_tokens=2)).raise_for_status()
    assert len(sleeper.journal("start")) == 2


def test_one_that_cannot_wake_is_loaded_anew(sleeper: FakeEngine, daemon: Daemon) -> None:
    name = profile(sleeper, wake_fails=True)
    daemon.start().load(name)
    park(daemon)
    daemon.wait_phase(lifecycle.Sleeping)
    daemon.post("/control/lend/return", Unload())
    seat = daemon.wait_phase(lifecycle.Ready, "tiny")
    assert seat.run is not None
    assert "could not be woken" in seat.notice
    assert len(sleeper.journal("start")) == 2


def test_another_program_took_the_memory_meanwhile(
    sleeper: FakeEngine, daemon: Daemon, driver: SimulatedDriver
) -> None:
    """I4: it is not woken into memory that is not there; it waits for room and comes back when there is some."""
    name = profile(sleeper)
    daemon.start().load(name)
    park(daemon)
    daemon.wait_phase(lifecycle.Sleeping)
    driver.foreign(CARD, os.getpid(), "blender", 20 * 1024)
    eventually(lambda: used(daemon) > 20 * GIB)
    daemon.post("/control/lend/return", Unload())
    seat = daemon.wait_seat(lambda seat: seat.resting == "memory", what="it waits for room")
    assert sleeper.journal("wake_up") == []
    assert f"pid {os.getpid()}" in f"{seat.notice} {seat.last_failure}", "who holds it is named"
    driver.foreign(CARD, os.getpid(), "blender", 0)
    daemon.wait_phase(lifecycle.Ready, "tiny")


def test_a_switch_ends_the_sleeper_and_a_killed_daemon_leaves_none(
    home: Home, sleeper: FakeEngine, daemon: Daemon
) -> None:
    """I1, I3."""
    profile(sleeper, "other", gib=4)
    name = profile(sleeper)
    daemon.start().load(name)
    park(daemon)
    asleep = daemon.wait_phase(lifecycle.Sleeping).run
    assert asleep is not None
    daemon.load("other")
    ended = daemon.run(asleep.id)
    assert ended.ended_at_unix is not None
    park(daemon)
    daemon.wait_phase(lifecycle.Sleeping, "other")
    daemon.kill()
    eventually(lambda: not processes_of(home, runs_only=True), 60, "no engine is left")


def test_an_idle_model_goes_to_sleep_by_itself_where_that_is_set(
    home: Home, sleeper: FakeEngine, daemon: Daemon
) -> None:
    """I9."""
    home.settings(supervision={"idle_unload_seconds": 1, "park_when_idle": True})
    name = profile(sleeper)
    daemon.start().load(name)
    seat = daemon.wait_phase(lifecycle.Sleeping)
    assert seat.resting == "idle"
    with daemon.gateway() as client:
        client.post("/chat/completions", json=chat_body("tiny", max_tokens=2)).raise_for_status()
    assert len(sleeper.journal("start")) == 1


def test_what_cannot_sleep_is_unloaded_and_a_level_is_refused(fake_engine: FakeEngine, daemon: Daemon) -> None:
    fake_engine.profile("one")
    daemon.start()
    with pytest.raises(UnknownProfile):
        park(daemon)
    daemon.load("one")
    with pytest.raises(BadRequest, match="cannot sleep"):
        park(daemon, 1)
    with pytest.raises(BadRequest, match="level 3"):
        park(daemon, 3)
    park(daemon)
    seat = daemon.wait_seat(lambda seat: isinstance(seat.phase, lifecycle.Idle))
    assert (seat.wanted, seat.resting) == ("one", "parked")
    with daemon.gateway() as client:
        client.post("/chat/completions", json=chat_body("one", max_tokens=2)).raise_for_status()


def test_weights_that_main_memory_cannot_hold_are_dropped_and_the_other_way_is_refused(
    home: Home, sleeper: FakeEngine, daemon: Daemon
) -> None:
    home.settings(memory={"host_headroom_bytes": 64 * GIB})  # as if the main memory were full
    profile(sleeper)
    daemon.start()
    daemon.want("tiny", override=True)
    daemon.wait_phase(lifecycle.Ready, "tiny")
    with pytest.raises(DoesNotFit, match="Level 2"):
        park(daemon, 1)
    park(daemon)
    seat = daemon.wait_phase(lifecycle.Sleeping)
    assert isinstance(seat.phase, lifecycle.Sleeping)
    assert (seat.phase.level, slept(sleeper)) == (2, [2])
