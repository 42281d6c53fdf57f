"""What an earlier daemon left behind is ended at the next start, by verified identity; everything else is left alone."""
# ruff: noqa: ASYNC220, ASYNC240

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.daemon import processes
from app.daemon.leftovers import RunRecord
from app.daemon.processes import ProcessIdentity
from app.daemon.runs import Leftover, Runs
from tests.daemon.trouble import RUN, OtherDaemon, all_ready, kill_together, nobody, said, spec_for, until, within

OURS = (RUN, "run-2", "left-", "theirs", "unowned", "mine")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    left = [known for log in tmp_path.rglob("*.log") for known in said(log) if processes.alive(known)]
    for known in left:
        processes.signal_verified(known, signal.SIGKILL)
    assert not left, f"left behind: {left}"


@pytest.fixture
def bystander() -> Iterator[ProcessIdentity]:
    """A process of this account that is none of ours, a session leader like an engine."""
    process = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    known = processes.identity(process.pid)
    assert known is not None
    yield known
    assert processes.alive(known), "a process that is not ours was harmed (I5)"
    process.kill()
    process.wait()


def gone_owner() -> dict[str, int]:
    """A pid that is in use, with a start time that is not its own: the owner has gone and its number was given away."""
    return {"pid": os.getpid(), "start_ticks": processes.own_identity().start_ticks - 1}


def write_record(folder: Path, run_id: str = RUN, **changes: Any) -> Path:
    nobody_there = {"pid": 2**22 - 1, "start_ticks": 1}
    record: dict[str, Any] = {
        "run_id": run_id,
        "profile_id": "demo",
        "title": "Demo",
        "engine": nobody_there,
        "keeper": nobody_there,
        "guard": nobody_there,
        "owner": gone_owner(),
        "boot_id": processes.boot_id(),
    }
    file = folder / f"{run_id}.json"
    file.write_text(json.dumps(record | changes))
    return file


async def ended_leftovers(folder: Path) -> dict[str, Leftover]:
    """By run, those of these tests: the marker shows every other Engine Room's of this account too."""
    runs = Runs(folder, kill_seconds=30)
    found = await within(60, runs.end_leftovers())
    await runs.close()
    return {each.run_id: each for each in found if each.run_id.startswith(OURS)}


async def wreck(folder: Path, program: str, run_id: str) -> list[ProcessIdentity]:
    """A run whose daemon, keeper and guard were all killed in the same instant; returns what of it is still alive."""
    spec = spec_for(program, folder, run_id=run_id)
    daemon = OtherDaemon(folder, spec)
    try:
        ready = await all_ready(spec, program)
        owner = processes.identity(daemon.process.pid)
        assert owner is not None
        kill_together([*daemon.keepers, owner])
    finally:
        daemon.close()
    await until(lambda: nobody([*daemon.keepers, owner]), what="daemon and keepers have gone")
    return ready


@pytest.mark.parametrize("program", ["vllm_like", "own_session", "escapes_everything"])
async def test_survivors_of_daemon_and_keepers_are_ended(folder: Path, program: str) -> None:
    """I1: the leader died with its keeper; what was left is found by marker, session and log."""
    ready = await wreck(folder, program, f"left-{program}")
    assert any(processes.alive(known) for known in ready), "the test needs a survivor"
    found = await ended_leftovers(folder)
    assert nobody(ready)
    leftover = found[f"left-{program}"]
    assert leftover.outcome == "ended"
    assert "Demo was left behind" in leftover.sentence
    assert not list(folder.glob("*.json"))
    assert await ended_leftovers(folder) == {}


async def test_survivors_without_a_record_are_found_by_their_marker(folder: Path) -> None:
    """I1: the record was lost with the disk; the marker names run and owner."""
    ready = await wreck(folder, "own_session", "left-unrecorded")
    (folder / "left-unrecorded.json").unlink()
    found = await ended_leftovers(folder)
    assert found["left-unrecorded"].outcome == "ended"
    assert nobody(ready)


async def test_a_keeper_at_work_is_waited_for(folder: Path) -> None:
    """The next start comes while the keeper is still in its ladder: nothing is left when it goes on."""
    spec = spec_for("deaf", folder, run_id="left-busy", grace_seconds=1.0)
    daemon = OtherDaemon(folder, spec)
    try:
        ready = await all_ready(spec, "deaf")
        daemon.kill()
        found = await ended_leftovers(folder)
        assert found["left-busy"].outcome == "ended"
        assert nobody(ready)
        assert nobody(daemon.keepers)
    finally:
        daemon.close()


async def test_another_living_daemons_runs_are_untouched(folder: Path) -> None:
    """I5: with its record in the same folder, and with its marker alone."""
    spec = spec_for("own_session", folder, run_id="theirs")
    daemon = OtherDaemon(folder, spec)
    try:
        ready = await all_ready(spec, "own_session")
        here = (await ended_leftovers(folder))["theirs"]
        (folder / "theirs.json").rename(folder / "theirs.aside")
        by_marker = (await ended_leftovers(folder))["theirs"]
        (folder / "theirs.aside").rename(folder / "theirs.json")
        assert here.outcome == by_marker.outcome == "left_alone"
        assert f"pid {daemon.process.pid}" in here.sentence
        assert f"pid {daemon.process.pid}" in by_marker.sentence
        assert "theirs" not in await ended_leftovers(folder / "empty"), "another home's run is not even looked at"
        assert all(processes.alive(known) for known in [*ready, *daemon.keepers])
        assert (folder / "theirs.json").exists()
        daemon.kill()
        await until(lambda: nobody(ready))
    finally:
        daemon.close()


async def test_a_reused_pid_is_never_signalled(folder: Path, bystander: ProcessIdentity) -> None:
    """I5: the recorded numbers belong to another process by now, even as leader of a session of that number."""
    other = {"pid": bystander.pid, "start_ticks": bystander.start_ticks - 5}
    write_record(folder, engine=other, keeper=other, guard=other)
    found = await ended_leftovers(folder)
    assert found[RUN].outcome == "gone"
    assert not list(folder.glob(f"{RUN}*"))


async def test_a_record_of_another_boot_is_only_removed(folder: Path, bystander: ProcessIdentity) -> None:
    """I5: pid and start time may coincide after a restart of the machine."""
    same = {"pid": bystander.pid, "start_ticks": bystander.start_ticks}
    write_record(folder, engine=same, keeper=same, guard=same, boot_id="another")
    found = await ended_leftovers(folder)
    assert found[RUN].outcome == "gone"
    assert "restarted" in found[RUN].sentence


@pytest.mark.parametrize("pid", [1, 0, -1])
async def test_a_record_with_an_impossible_pid_is_set_aside(folder: Path, pid: int) -> None:
    """I5: kill(0), kill(-1) and init must not even be thinkable."""
    write_record(folder, engine={"pid": pid, "start_ticks": 1})
    found = await ended_leftovers(folder)
    assert found[RUN].outcome == "malformed"
    assert (folder / f"{RUN}.malformed").exists()
    assert await ended_leftovers(folder) == {}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"run_id": "run-1"}', "\x00\xff", '{"run_id": 7}'])
async def test_a_malformed_record_is_set_aside_and_told(folder: Path, text: str) -> None:
    (folder / f"{RUN}.json").write_bytes(text.encode("latin-1"))
    found = await ended_leftovers(folder)
    assert found[RUN].outcome == "malformed"
    assert "cannot be read" in found[RUN].sentence
    assert not (folder / f"{RUN}.json").exists()


async def test_a_record_under_another_name_is_not_believed(folder: Path, bystander: ProcessIdentity) -> None:
    """I5."""
    file = write_record(folder, engine={"pid": bystander.pid, "start_ticks": bystander.start_ticks})
    file.rename(folder / "run-2.json")
    found = await ended_leftovers(folder)
    assert found["run-2"].outcome == "malformed"


async def test_a_marked_process_without_an_owner_is_left_alone(folder: Path) -> None:
    """I5: whose it is cannot be known."""
    program = subprocess.Popen(["sleep", "1000"], env={"PATH": os.environ["PATH"], "ENGINE_ROOM_RUN": "unowned"})
    try:
        found = await ended_leftovers(folder)
        assert found["unowned"].outcome == "left_alone"
        assert program.poll() is None
    finally:
        program.kill()
        program.wait()


async def test_stale_drafts_of_records_are_removed(folder: Path) -> None:
    (folder / f"{RUN}.json.{2**22 - 1}.draft").write_text("{")
    (folder / f"run-2.json.{os.getpid()}.draft").write_text("{")
    await ended_leftovers(folder)
    assert [file.name for file in folder.iterdir()] == [f"run-2.json.{os.getpid()}.draft"]


async def test_a_launched_run_is_no_leftover_and_its_record_is_complete(folder: Path) -> None:
    import msgspec

    runs = Runs(folder, kill_seconds=30)
    spec = spec_for("plain", folder, run_id="mine", port=8123)
    handle = await runs.launch(spec)
    record = msgspec.json.decode((folder / "mine.json").read_bytes(), type=RunRecord)
    assert record.identity_of(record.engine) == handle.leader
    assert (record.identity_of(record.keeper), record.identity_of(record.guard)) == handle.keepers
    assert record.identity_of(record.owner) == processes.own_identity()
    assert (record.profile_id, record.port, record.model_path) == ("demo", 8123, "/models/demo.gguf")
    assert record.argv[0] == sys.executable
    assert "mine" not in {each.run_id for each in await runs.end_leftovers()}
    assert processes.alive(handle.leader)
    await within(60, runs.close())
