"""Engines come, are tried, and go by the command line alone (E7): real processes, the real service, stand-in packages."""

import os
import signal
from pathlib import Path

import pytest

from app.core import control
from app.core.snapshot import Job, from_json
from tests.daemon.desk import slow_build
from tests.end2end.commands import Commands, line_of
from tests.rig.custody import processes_of
from tests.rig.daemon import Daemon
from tests.rig.engines import FakeEngine
from tests.rig.home import Home
from tests.rig.installables import LACKS_A_LIBRARY, wheel_source, write_standin_wheel, write_table
from tests.rig.waiting import eventually

__all__ = ["slow_build"]  # a fixture


@pytest.fixture
def wheels(home: Home, tmp_path: Path) -> Path:
    write_standin_wheel(tmp_path / "cpu")
    write_table(home, wheel_source(tmp_path / "cuda", tmp_path / "cpu"))
    return tmp_path / "cpu"


def test_install_use_try_and_remove(
    home: Home, wheels: Path, fake_engine: FakeEngine, commands: Commands, daemon: Daemon
) -> None:
    """The whole life of an engine that a person never had to compile or to configure."""
    (home.paths.profiles / "mine.toml").write_text(f'engine = "llama.cpp"\nmodel = "{fake_engine.model()}"\n', "utf-8")
    daemon.start()
    installed = commands.ok("engines", "install", "llama.cpp", "--accelerator", "cpu")
    assert installed.out.startswith("llama.cpp-1.0-cpu is installed.")
    assert "This machine computes on: " in installed.err
    assert "Installed standin 1.0 for CPU." in installed.err
    assert "llama.cpp-1.0-cpu" in commands.ok("engines", "list").out
    assert commands.ok("load", "mine").out.startswith("mine is ready")

    busy = commands.refused(6, "engines", "remove", "llama.cpp-1.0-cpu")
    assert "Unload that first" in busy.err
    busy = commands.refused(6, "engines", "canary", "llama.cpp-1.0-cpu", "--profile", "mine")
    assert "needs the memory" in busy.err
    commands.ok("unload")
    tried = commands.ok("engines", "canary", "llama.cpp-1.0-cpu", "--profile", "mine")
    assert "works with mine; there is no other to compare it with" in tried.out

    job = from_json(Job, commands.ok("engines", "remove", "llama.cpp-1.0-cpu", "--json").out)
    assert (job.state, job.kind) == ("done", "remove")
    assert "llama.cpp-1.0-cpu" not in commands.ok("engines", "list").out


def test_a_failed_installation_ends_in_a_sentence_and_a_log(
    home: Home, wheels: Path, commands: Commands, daemon: Daemon
) -> None:
    write_standin_wheel(wheels, LACKS_A_LIBRARY)
    daemon.start()
    refused = commands.refused(6, "engines", "install", "llama.cpp", "--accelerator", "cpu")
    assert "libnowhere.so.9" in refused.err
    assert "engine-room engines log install-" in refused.err
    log, _ = commands.begin("engines", "log").communicate(timeout=60)
    assert "libnowhere.so.9" in log, "the engine's own words, whatever they are"
    assert "It installs: " in commands.refused(8, "engines", "install", "nonsense").err
    assert "no version" in commands.refused(8, "engines", "install", "llama.cpp==../x").err
    assert "no job" in commands.refused(6, "engines", "log", "nonsense").err


def test_ctrl_c_cancels_a_build_and_leaves_nothing(
    home: Home, slow_build: Path, commands: Commands, daemon: Daemon
) -> None:
    daemon.start()
    installing = commands.begin("engines", "install", "llama-server")
    assert line_of(installing, "Compiling")
    eventually(Path(f"{slow_build}.begun").exists, 60, "the compiler at work")
    installing.send_signal(signal.SIGINT)
    done = commands.finish(installing)
    assert done.code == 130
    assert "nothing of it is left" in done.err
    assert [path.name for path in home.paths.engines.iterdir()] == [".lock"]
    assert not [process for process in processes_of(home) if "job_program" in process.command]


def test_caches_are_listed_and_cleared(home: Home, commands: Commands, daemon: Daemon) -> None:
    kept = home.paths.cache / "uv" / "wheel"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(os.urandom(100_000))
    daemon.start()
    assert "The next installation downloads again." in commands.ok("engines", "caches").out
    found = from_json(control.Caches, commands.ok("engines", "caches", "--json").out)
    assert [cache.id for cache in found.caches] == ["packages"]
    assert "MB are free again" in commands.ok("engines", "caches", "clear", "packages").out
    assert not kept.exists()
    assert commands.ok("engines", "caches").out == "No cache is there.\n"
    assert "no cache 'nonsense'" in commands.refused(2, "engines", "caches", "clear", "nonsense").err
