"""Gives tests an isolated home, the stand-in engine, and the real daemon; checks after each that nothing is left."""

import gc
import signal
from collections.abc import Generator, Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.rig.custody import end_all_of, processes_of
from tests.rig.daemon import Daemon
from tests.rig.driver import SimulatedDriver
from tests.rig.embedded import embedded_engine, embedded_python
from tests.rig.engines import FakeEngine
from tests.rig.home import Home
from tests.rig.waiting import TooLate, eventually

signal.signal(
    signal.SIGINT, signal.default_int_handler
)  # a shell's background job ignores it, and children inherit that

# Tests never judge speed: the machines are shared, and a slow moment is no failure. The same tree is told the same cases;
# `--hypothesis-profile explore` looks for new ones.
hypothesis.settings.register_profile("explore", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.register_profile("shared", hypothesis.settings.get_profile("explore"), derandomize=True)
hypothesis.settings.load_profile("shared")

__all__ = ["embedded_engine", "embedded_python"]  # fixtures


@pytest.fixture(autouse=True)
def garbage_of_its_own(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a story may leave to the collector, as a killed daemon's callers do, is collected while it is expected, and not
    some day in another test."""
    yield
    if any("Unraisable" in str(mark.args) for mark in request.node.iter_markers("filterwarnings")):
        gc.collect()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """XDG folders and environment of an account that exists only for this test."""
    home = Home(tmp_path / "home")
    yield home
    home.close()


@pytest.fixture
def fake_engine(home: Home) -> FakeEngine:
    """`llama-server` on the home's PATH is the stand-in; `profile(name, **knobs)` says how it behaves."""
    return FakeEngine(home)


@pytest.fixture
def tiny_gguf(fake_engine: FakeEngine) -> Path:
    return fake_engine.model("tiny")


@pytest.fixture
def driver(home: Home) -> Iterator[SimulatedDriver]:
    """A simulated NVIDIA driver under the daemon's real pynvml; `gpus([card()])` puts cards in. See tests/rig/driver."""
    driver = SimulatedDriver(home.driver)
    home.environment.update(driver.environment(home.environment))
    yield driver
    driver.resume()
    assert not driver.faults()


@pytest.fixture
def daemon(home: Home) -> Iterator[Daemon]:
    """The real daemon, not started yet. Afterwards: no process of this home is left, no unexpected warning was logged."""
    daemon = Daemon(home)
    yield daemon
    daemon.close()
    problems = []
    try:
        eventually(lambda: not processes_of(home), 60, "no process of this home is left (I1)")
    except TooLate:
        problems.append("left behind (I1):\n  " + "\n  ".join(str(process) for process in processes_of(home)))
        end_all_of(home)
    warnings = daemon.unexpected_warnings()
    if warnings:
        problems.append("unexpected warnings in the daemon's log:\n  " + "\n  ".join(warnings[:20]))
    if problems:
        pytest.fail("\n".join([*problems, "--- the daemon's log ends:", daemon.log_tail()]), pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failing test shows the end of the daemon's log and the transitions."""
    report = yield
    daemon = getattr(item, "funcargs", {}).get("daemon")
    if report.failed and isinstance(daemon, Daemon):
        report.sections.append(("daemon log", daemon.log_tail(80)))
        events = [f"{e.get('t')} {e.get('from')} → {e.get('to')} ({e.get('event')})" for e in daemon.events()[-40:]]
        report.sections.append(("transitions", "\n".join(events)))
    return report
