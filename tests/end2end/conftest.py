"""Gives the end-to-end stories the command line of a test's home."""

from collections.abc import Iterator

import pytest

from tests.end2end.commands import Commands
from tests.rig.daemon import Daemon
from tests.rig.home import Home


@pytest.fixture
def commands(home: Home, daemon: Daemon) -> Iterator[Commands]:
    """`engine-room …` in this home. The daemon fixture afterwards checks that no process of it is left (I1)."""
    commands = Commands(home)
    yield commands
    commands.close()
