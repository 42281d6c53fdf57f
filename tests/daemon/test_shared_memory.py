"""What a run has in /dev/shm goes with it, however it ends; what others have there stays (I1, I5)."""

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.daemon import leftovers, processes
from app.daemon.runs import Runs
from tests.daemon.trouble import OtherDaemon, all_ready, kill_together, nobody, spec_for, until, within

SHARED = Path("/dev/shm")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture(autouse=True)
def foreign() -> Iterator[Path]:
    """A file that looks like a dead Python program's, and is nobody's of ours: it must stay."""
    file = SHARED / f"psm_{os.getpid():08x}"
    file.write_bytes(b"kept")
    yield file
    assert file.read_bytes() == b"kept"
    file.unlink()


def shared_by(log: Path) -> Path:
    found = re.search(r"shares (\S+)\n", log.read_text())
    assert found is not None
    file = SHARED / found[1].lstrip("/")
    assert file.exists(), "the story begins with memory that is really shared"
    return file


@pytest.mark.parametrize("program", ["shares_memory", "shares_untold"])
async def test_a_killed_run_leaves_no_shared_memory(folder: Path, program: str) -> None:
    """Nor what its cleaner had not been told of yet: a Python program killed while it loads leaves such semaphores."""
    runs = Runs(folder, kill_seconds=5)
    spec = spec_for(program, folder)
    handle = await runs.launch(spec)
    ready = await all_ready(spec, program)
    file = shared_by(Path(spec.log_path))
    handle.kill()
    end = await within(20, handle.ended())
    assert not end.survivors
    assert nobody(ready)
    assert not file.exists()
    await within(20, runs.close())


async def test_an_engine_whose_head_is_killed_leaves_none(folder: Path) -> None:
    """The others are deaf to TERM, so they end by KILL."""
    runs = Runs(folder, kill_seconds=5)
    spec = spec_for("shares_memory", folder)
    handle = await runs.launch(spec)
    ready = await all_ready(spec, "shares_memory")
    file = shared_by(Path(spec.log_path))
    assert handle.leader is not None
    processes.signal_verified(handle.leader, signal.SIGKILL)
    await within(20, handle.ended())
    assert nobody(ready)
    assert not file.exists()
    await within(20, runs.close())


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
            leftovers.end_leftovers(folder, 5)
        await until(lambda: nobody(ready), 15, "no process of the engine is left")
        await until(lambda: not file.exists(), 15, "its shared memory is given back")
    finally:
        daemon.close()


async def test_a_cleaner_that_does_not_end_is_killed_too(folder: Path) -> None:
    """I2: whatever calls itself a cleaner has its time, and no more."""
    runs = Runs(folder, kill_seconds=5)
    argv = (*spec_for("deaf", folder).argv, "multiprocessing.resource_tracker")
    spec = spec_for("deaf", folder, argv=argv)
    handle = await runs.launch(spec)
    ready = await all_ready(spec, "deaf")
    handle.kill()
    end = await within(20, handle.ended())
    assert not end.survivors
    assert nobody(ready)
    await within(20, runs.close())
