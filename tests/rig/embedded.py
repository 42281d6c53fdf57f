"""Gives tests the real built-in engine, installed once by our own installer into .venv/test-data and kept there."""

import fcntl
import os
import sys
from pathlib import Path

import pytest

from app.daemon.installations import find
from app.daemon.installer import install, sources, sources_file
from app.engines.base import Installation
from tests.rig.home import Home

KEPT_IN = Path(__file__).resolve().parents[2] / ".venv" / "test-data" / "engines"


def install_embedded_engine(engines: Path = KEPT_IN) -> Path:
    """The interpreter of the processor build; needs no network when it is there already."""
    named = os.environ.get("ENGINE_ROOM_EMBEDDED_PYTHON")
    if named:
        return Path(named)
    source = sources(sources_file())["llama.cpp"]
    KEPT_IN.mkdir(parents=True, exist_ok=True)
    with (KEPT_IN / "one-at-a-time.lock").open("w") as lock:  # tests run in several processes at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = install(source, engines, accelerators=("cpu",), environment=dict(os.environ), progress=print)
    return folder / "bin" / "python"


@pytest.fixture(scope="session")
def embedded_python() -> Path:
    """The interpreter that has the built-in engine; put it into ENGINE_ROOM_EMBEDDED_PYTHON of a home to use it there."""
    python = install_embedded_engine()
    assert python != Path(sys.executable)
    return python


@pytest.fixture
def embedded_engine(embedded_python: Path, home: Home) -> Installation:
    """The built-in engine as the home's daemon finds it."""
    home.environment["ENGINE_ROOM_EMBEDDED_PYTHON"] = str(embedded_python)
    found = find("llama.cpp", home.paths, home.environment)
    assert found is not None
    return found
