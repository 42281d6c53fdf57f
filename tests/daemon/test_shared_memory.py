"""What a run has in /dev/shm goes with it, however it ends; what others have there stays (I1, I5)."""

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.daemon import leftovers, processes
from app.daemon.runs import Runs
from tests.daemon.trouble import OtherDaemon, all_ready, kill_together, nobody, spec_for, until, within
from tests.rig.custody import file_of_a_stranger

SHARED = Path("/dev/shm")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture(autouse=True)
def foreign() -> Iterator[Path]:
    with file_of_a_stranger() as file:
        yield file


def shared_by(log: Path) -> Path:
    found = re.search(r"shares (\S+)\n", log.read_text())
    assert found is not None
    file = SHARED / found[1].lstrip("/")
    assert file.exists(), "the story begins with memory that is really shared"
    return file


@pytest.mark.parametrize("program", ["shares_memory", "shares_untold"])
async def test_a_killed_run_leaves_no_shared_memory(folder: Path, program: str) -> None:
    """Nor what its cleaner had not been told of yet: a Python program killed while it loads leaves such semaphores."""
    runs = Runs(folder, kill_seconds=30)
    spec = spec_for(program, folder)
    handle = await runs.launch(spec)
    ready = await all_ready(spec, program)
    file = shared_by(Path(spec.log_path))
    handle.kill()
    end = await within(60, handle.ended())
    assert not end.survivors
    assert nobody(ready)
    assert not file.exists()
    await within(60, runs.close())


async def test_an_engine_whose_head_is_killed_leaves_none(folder: Path) -> None:
    """The others are deaf to TERM, so they end by KILL."""
    runs = Runs(folder, kill_seconds=30)
    spec = spec_for("shares_memory", folder)
    handle = await runs.launch(spec)
    ready = await all_ready(spec, "shares_memory")
    file = shared_by(Path(spec.log_path))
    assert handle.leader is not None
    processes.signal_verified(handle.leader, signal.SIGKILL)
    await within(60, handle.ended())
    assert nobody(ready)
    assert not file.exists()
    await within(60, runs.close())


@pytest.mark.parametrize("program", ["shares_memory", "shares_untold"])
@pytest.mark.parametrize("keepers", [0, 1, 2], ids=["the daemon", "with the inner keeper", "with both keepers"])
async def test_a_killed_daemon_leaves_none(folder: Path, keepers: int, program: str) -> None:
    spec = spec_for(program, folder)
    daemon = OtherDaemon(folder, spec)
    try:
        ready = await all_ready(spec, program)
        file = shared_by(Path(spec.log_path))
        owner = processes.identity(daemon.process.pid)
        assert owner is not None
        kill_together([*daemon.keepers[:keepers], owner])
        daemon.kill()
        if keepers == 2:
            leftovers.end_leftovers(folder, 30)
        await until(lambda: nobody(ready), 60, "no process of the engine is left")
        await until(lambda: not file.exists(), 60, "its shared memory is given back")
    finally:
        daemon.close()


async def test_a_cleaner_that_does_not_end_is_killed_too(folder: Path) -> None:
    """I2: whatever calls itself a cleaner has its time, and no more."""
    runs = Runs(folder, kill_seconds=30)
    argv = (*spec_for("deaf", folder).argv, "multiprocessing.resource_tracker")
    spec = spec_for("deaf", folder, argv=argv)
    handle = await runs.launch(spec)
    ready = await all_ready(spec, "deaf")
    handle.kill()
    end = await within(60, handle.ended())
    assert not end.survivors
    assert nobody(ready)
    await within(60, runs.close())
