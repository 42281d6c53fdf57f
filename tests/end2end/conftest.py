"""Gives the end-to-end stories the command line of a test's home, and the real engines."""

from collections.abc import Iterator

import pytest

from tests.end2end.commands import Commands
from tests.rig.daemon import Daemon
from tests.rig.home import Home
from tests.rig.real_engines import noise_model, real_engine

__all__ = ["noise_model", "real_engine"]  # fixtures


@pytest.fixture
def commands(home: Home, daemon: Daemon) -> Iterator[Commands]:
    """`engine-room …` in this home. The daemon fixture afterwards checks that no process of it is left (I1)."""
    commands = Commands(home)
    yield commands
    commands.close()
