"""Each run has a folder of its own for temporary files; however the run ends, it goes, and nobody else's does (I1, I5)."""
# ruff: noqa: ASYNC240

import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.core.errors import EngineNotInstalled
from app.core.paths import SOCKET_PATH_LIMIT
from app.daemon import processes, temporary
from app.daemon.asking import ask
from app.daemon.runs import RunHandle, Runs
from tests.daemon.trouble import OtherDaemon, all_ready, kill_together, nobody, spec_for, until, within

NOWHERE = {"PATH": os.defpath}


@pytest.fixture
def place() -> Iterator[Path]:
    """A short place of this test's own."""
    with tempfile.TemporaryDirectory(prefix="er-", dir="/tmp") as folder:
        yield Path(folder)


def kill(handle: RunHandle, which: str) -> None:
    assert handle.leader is not None
    match which:
        case "asked":
            handle.kill()
        case "the head":
            processes.signal_verified(handle.leader, signal.SIGKILL)
        case "the keeper":
            processes.signal_verified(handle.keepers[0], signal.SIGKILL)
        case "both keepers":
            kill_together(list(handle.keepers))


@pytest.mark.parametrize("which", ["asked", "the head", "the keeper", "both keepers"])
async def test_a_run_takes_its_temporary_files_with_it(tmp_path: Path, place: Path, which: str) -> None:
    runs = Runs(tmp_path, kill_seconds=30)
    environment = {**NOWHERE, "TMPDIR": str(place)}
    spec = spec_for("leaves_files", tmp_path, environment=environment, own_temporary=True)
    handle = await runs.launch(spec)
    ready = await all_ready(spec, "leaves_files")
    [folder] = place.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert len(list(folder.iterdir())) == 3, "the story begins with files"
    kill(handle, which)
    await within(60, handle.cleared())
    assert nobody(ready)
    assert list(place.iterdir()) == []
    assert Path("/etc/passwd").exists(), "no link was followed"
    await within(60, runs.close())


async def test_what_cannot_start_leaves_none(tmp_path: Path, place: Path) -> None:
    environment = {**NOWHERE, "TMPDIR": str(place)}
    runs = Runs(tmp_path)
    with pytest.raises(EngineNotInstalled):
        await runs.launch(spec_for("plain", tmp_path, argv=("/gone",), environment=environment, own_temporary=True))
    await within(60, runs.close())
    runs = Runs(tmp_path, interpreter=(str(tmp_path / "python"),))
    with pytest.raises(Exception, match="could not be started"):
        await runs.launch(spec_for("plain", tmp_path, environment=environment, own_temporary=True))
    await within(60, runs.close())
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("keepers", [0, 1, 2], ids=["the daemon", "with the inner keeper", "with both keepers"])
async def test_a_killed_daemon_leaves_none(tmp_path: Path, keepers: int) -> None:
    """The next start removes what nobody could: here in the usual place, because the account names none."""
    spec = spec_for("leaves_files", tmp_path, environment=NOWHERE, own_temporary=True)
    daemon = OtherDaemon(tmp_path, spec)
    try:
        ready = await all_ready(spec, "leaves_files")
        [folder] = temporary.left(tmp_path, NOWHERE)
        owner = processes.identity(daemon.process.pid)
        assert owner is not None
        kill_together([*daemon.keepers[:keepers], owner])
        daemon.kill()
        if keepers == 2:
            runs = Runs(tmp_path, kill_seconds=30)
            await within(60, runs.end_leftovers())
            await within(60, runs.close())
        await until(lambda: nobody(ready), 60, "no process of the engine is left")
        await until(lambda: not folder.exists(), 60, "its temporary files are gone")
    finally:
        daemon.close()


def test_only_folders_of_ended_runs_of_this_home_are_removed(tmp_path: Path, place: Path) -> None:
    environment = {"TMPDIR": str(place)}
    ended, lives = (temporary.make(tmp_path, run_id, environment) for run_id in ("ended", "lives"))
    of_another_home = temporary.make(tmp_path / "other", "ended", environment)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").touch()
    link = Path(f"{ended}-link")
    link.symlink_to(elsewhere)
    temporary.remove_left(tmp_path, environment, {"lives"})
    assert {*place.iterdir()} == {lives, of_another_home, link}
    assert (elsewhere / "file").exists()


def test_who_is_only_asked_leaves_no_file_either(place: Path) -> None:
    """vLLM's help imports all of it, and that leaves a folder in the place for temporary files."""
    program = "import os, pathlib; pathlib.Path(os.environ['TMPDIR'], 'left').mkdir(); print(os.listdir())"
    answer = ask([sys.executable, "-I", "-c", program], {**NOWHERE, "TMPDIR": str(place)})
    assert answer.text == "['left']\n"
    assert list(place.iterdir()) == []


def test_folders_of_questions_go_with_the_dead_who_asked(tmp_path: Path, place: Path) -> None:
    environment = {"TMPDIR": str(place)}
    ours = temporary.make_for_a_question(environment)
    dead = subprocess.Popen(["true"])
    dead.wait()
    place.joinpath(f"er-asked-{dead.pid}-12345678").mkdir()
    temporary.remove_left(tmp_path, environment, ())
    assert {*place.iterdir()} == {ours}


@pytest.mark.parametrize("named", ["", "relative", "/gone", "/tmp/" + 60 * "x", "/proc"])
def test_where_the_named_place_is_no_use_the_usual_one_is_taken(tmp_path: Path, named: str) -> None:
    """A socket's path holds 107 bytes."""
    folder = temporary.make(tmp_path, "run", {"TMPDIR": named})
    assert folder.parent == Path("/tmp")
    assert folder in temporary.left(tmp_path, {"TMPDIR": named})
    temporary.remove(folder)


def test_a_socket_fits_into_the_longest_place(tmp_path: Path, place: Path) -> None:
    kept = 0
    for length in range(len(str(place)) + 2, SOCKET_PATH_LIMIT):
        named = place / ((length - len(str(place)) - 1) * "x")
        named.mkdir()
        folder = temporary.make(tmp_path, "run", {"TMPDIR": str(named)})
        kept += folder.parent == named
        assert len(str(folder / "01234567-89ab-cdef-0123-456789abcdef")) <= SOCKET_PATH_LIMIT
        temporary.remove(folder)
    assert kept > 10
