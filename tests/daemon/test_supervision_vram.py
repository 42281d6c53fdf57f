"""Tells how graphics memory is waited for, measured and never assumed (I3, I4), on a simulated driver under the real pynvml."""

import pytest

from app.core import lifecycle
from app.core.errors import DoesNotFit
from app.core.snapshot import DriverState
from tests.rig.custody import processes_of
from tests.rig.daemon import Daemon
from tests.rig.driver import SimulatedDriver, card, card_uuid
from tests.rig.engines import FakeEngine
from tests.rig.home import Home
from tests.rig.waiting import eventually, never

GIB = 1024**3
CARD = card_uuid(0)


@pytest.fixture
def one_card(driver: SimulatedDriver, fake_engine: FakeEngine) -> SimulatedDriver:
    """A 24 GiB card and an engine built for it."""
    driver.gpus([card()])
    fake_engine.install("llama-server", accelerator="cuda")
    return driver


def large(fake_engine: FakeEngine, name: str, gib: int, **knobs: object) -> str:
    """A profile whose model needs about `gib` of the card, by its file and by what the engine then takes."""
    model = fake_engine.model(f"weights-{gib}", weights_bytes=gib * GIB)
    return fake_engine.profile(name, model=model, vram={CARD: gib * GIB}, **knobs)


def started_at(fake_engine: FakeEngine, name: str) -> list[float]:
    return [float(str(line["t"])) for line in fake_engine.journal("start", alias=name)]


@pytest.mark.parametrize(
    ("lag", "listed"), [(0.2, True), ((0.5, 2.0), True), ((0.5, 2.0), False), (4.0, False)], ids=str
)
def test_the_next_engine_starts_after_the_memory_is_back(
    fake_engine: FakeEngine, daemon: Daemon, one_card: SimulatedDriver, lag: float | tuple[float, float], listed: bool
) -> None:
    """I4: the driver gives the memory back late, listed or not; the release record comes before the next spawn."""
    one_card.lag(lag, listed=listed)
    large(fake_engine, "a", 14)
    large(fake_engine, "b", 14)
    daemon.start().load("a")
    daemon.load("b", 60)
    release = next(line for line in one_card.releases() if line["uuid"] == CARD)
    assert started_at(fake_engine, "b")[0] >= release["released_at"]


def test_memory_that_never_comes_back_is_blamed_on_its_holder(
    home: Home, fake_engine: FakeEngine, daemon: Daemon, one_card: SimulatedDriver
) -> None:
    """I4: the wait is bounded, the next model is not loaded blind, the sentence names who holds the memory."""
    home.settings(supervision={"vram_return_seconds": 1.5})
    one_card.lag("never")
    large(fake_engine, "a", 14)
    large(fake_engine, "b", 14)
    daemon.start().load("a")
    pid = daemon.engine_pid()
    daemon.want("b")
    failure = daemon.wait_failed()
    assert failure.kind == "does_not_fit"
    assert started_at(fake_engine, "b") == []
    seat = daemon.seat()
    told = " ".join([seat.notice, failure.summary, failure.advice, str(seat.last_failure)])
    assert str(pid) in told, told


def test_a_model_that_fits_beside_unreturned_memory_is_loaded_and_the_holder_still_named(
    home: Home, fake_engine: FakeEngine, daemon: Daemon, one_card: SimulatedDriver
) -> None:
    home.settings(supervision={"vram_return_seconds": 1})
    one_card.lag("never")
    large(fake_engine, "a", 8)
    large(fake_engine, "b", 8)
    daemon.start().load("a")
    pid = daemon.engine_pid()
    daemon.want("b")
    seat = daemon.wait_phase(lifecycle.Ready, "b")
    assert str(pid) in seat.notice, seat.notice


def test_a_crashed_engines_memory_is_waited_for_too(
    home: Home, fake_engine: FakeEngine, daemon: Daemon, one_card: SimulatedDriver
) -> None:
    """I4: nobody asked it to stop, and its restart waits all the same."""
    one_card.lag(2.5)
    switch = home.folder / "crash"
    large(fake_engine, "a", 14, crash_after_ready_seconds=0, only_while=switch)
    daemon.start().load("a")
    switch.touch()
    daemon.wait_phase(lifecycle.ReleasingVram, "a")
    switch.unlink()
    daemon.wait_phase(lifecycle.Ready, "a")
    release = one_card.releases()[0]
    assert started_at(fake_engine, "a")[1] >= release["released_at"]


def test_a_driver_that_is_silent_while_memory_comes_back_is_waited_for(
    home: Home, fake_engine: FakeEngine, daemon: Daemon, one_card: SimulatedDriver
) -> None:
    """I4, I12: a driver that tears a large engine down answers nobody for seconds; slow is not "it is back"."""
    daemon.expect_warnings("driver")
    home.settings(supervision={"vram_return_seconds": 60})
    one_card.lag("never")
    large(fake_engine, "a", 14)
    large(fake_engine, "b", 14)
    daemon.start().load("a", 30)
    pid = daemon.engine_pid()
    daemon.want("b")
    daemon.wait_phase(lifecycle.ReleasingVram)
    one_card.hang()
    daemon.wait_slice("gpus", lambda gpus: gpus.driver is DriverState.HUNG)
    never(lambda: not isinstance(daemon.seat().phase, lifecycle.ReleasingVram), 0.5)
    one_card.resume()

    def released() -> object:  # a death counts from when somebody has asked the driver after it
        one_card.release(pid)
        return one_card.releases()

    eventually(released)
    daemon.wait_phase(lifecycle.Ready, "b")


def test_memory_that_has_just_become_free_counts_at_once(
    fake_engine: FakeEngine, daemon: Daemon, one_card: SimulatedDriver
) -> None:
    """I4: somebody closes a program and loads; the sample of a moment ago shows that program still."""
    large(fake_engine, "b", 14)
    one_card.foreign(CARD, 4711, "blender", 12 * 1024)
    daemon.start()
    first = daemon.wait_slice("gpus", lambda gpus: gpus.gpus)
    daemon.wait_slice("gpus", lambda gpus: gpus.taken_at > first.taken_at)
    one_card.foreign(CARD, 4711, "blender", 0)
    daemon.load("b")


def test_a_switch_credits_what_the_leaving_model_holds(
    fake_engine: FakeEngine, daemon: Daemon, one_card: SimulatedDriver
) -> None:
    """I4: 14 GiB is free only because the 16 GiB model leaves; without the credit this would be refused."""
    large(fake_engine, "a", 16)
    large(fake_engine, "b", 14)
    daemon.start().load("a")
    daemon.wait_slice("gpus", lambda gpus: gpus.gpus and gpus.gpus[0].used_bytes > 15 * GIB)
    daemon.load("b")


def test_another_program_in_the_way_is_named_and_nothing_stops(
    fake_engine: FakeEngine, daemon: Daemon, one_card: SimulatedDriver
) -> None:
    """I4: refused while Ready, with the holder's name; the loaded model stays."""
    large(fake_engine, "a", 4)
    large(fake_engine, "b", 14)
    one_card.foreign(CARD, 4711, "blender", 12 * 1024)
    daemon.start().load("a")
    with pytest.raises(DoesNotFit) as refused:
        daemon.want("b")
    assert "blender" in str(refused.value)
    assert isinstance(daemon.seat().phase, lifecycle.Ready)
    assert started_at(fake_engine, "b") == []


@pytest.mark.parametrize("trouble", ["break", "absent", "hang"])
def test_a_driver_in_trouble_stops_no_unload(
    home: Home, fake_engine: FakeEngine, daemon: Daemon, one_card: SimulatedDriver, trouble: str
) -> None:
    """I2, I4, I7: the driver errs, vanishes or hangs while a model is loaded: the unload ends, and the state is told."""
    daemon.expect_warnings("driver|NVML|nvml|graphics")
    home.settings(supervision={"vram_return_seconds": 2})
    large(fake_engine, "a", 8)
    daemon.start().load("a")
    match trouble:
        case "break":
            one_card.break_with("GPU_IS_LOST")
        case "absent":  # unloaded under our feet: the open library says so at each call, and cannot be opened again
            one_card.break_with("DRIVER_NOT_LOADED")
            one_card.absent()
        case "hang":
            one_card.hang()
    daemon.unload()
    daemon.wait_idle()
    assert not processes_of(home, runs_only=True)
    daemon.wait_slice("gpus", lambda gpus: gpus.driver is not DriverState.OK)
    if trouble == "absent":
        return  # looked for again after half a minute only: test_gpu.py tells what then happens
    one_card.mend()
    one_card.present()
    one_card.resume()
    daemon.wait_slice("gpus", lambda gpus: gpus.driver is DriverState.OK)
    daemon.load("a")


def test_the_daemon_itself_holds_no_memory_of_the_card(
    fake_engine: FakeEngine, daemon: Daemon, one_card: SimulatedDriver
) -> None:
    large(fake_engine, "a", 8)
    seat = daemon.start().load("a")
    gpus = daemon.wait_slice("gpus", lambda gpus: gpus.gpus and gpus.gpus[0].processes)
    assert daemon.pid not in {process.pid for process in gpus.gpus[0].processes}
    assert seat.run is not None
    eventually(lambda: daemon.run(seat.run.id).measured_bytes.get(CARD) == 8 * GIB)
