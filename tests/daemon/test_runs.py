"""A run from launch to end with engines that misbehave, daemons that are killed and keepers that are killed."""
# ruff: noqa: ASYNC240

import asyncio
import json
import os
import signal
import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from app.core.errors import EngineFailed, EngineNotInstalled, NotWritable
from app.core.redaction import HIDDEN, masked_arguments
from app.daemon import processes
from app.daemon.processes import RunTrace
from app.daemon.runs import RunHandle, Runs, RunSpec
from tests.daemon.trouble import (
    EXPECTED,
    PROGRAMS,
    RUN,
    Holder,
    OtherDaemon,
    all_ready,
    kill_together,
    nobody,
    said,
    spec_for,
    until,
    within,
)

STAYING = [name for name in PROGRAMS if name not in ("wrapper", "crashes_with_workers", "leaves_files")]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Afterwards no process that told its name in any log here may live (I1)."""
    yield tmp_path
    left = [known for log in tmp_path.glob("*.log") for known in said(log) if processes.alive(known)]
    for known in left:
        processes.signal_verified(known, signal.SIGKILL)
    assert not left, f"left behind: {left}"


@pytest.fixture
async def runs(folder: Path) -> AsyncIterator[Runs]:
    runs = Runs(folder, kill_seconds=30)
    yield runs
    await within(60, runs.close())


def record_of(spec: RunSpec) -> Path:
    return Path(spec.log_path).with_suffix(".json")


async def launched(runs: Runs, spec: RunSpec, program: str) -> tuple[RunHandle, list[processes.ProcessIdentity]]:
    handle = await runs.launch(spec)
    return handle, await all_ready(spec, program)


# --- the ordinary life ---


@pytest.mark.parametrize("program", STAYING)
async def test_stop_ends_every_process_whatever_the_engine_does(runs: Runs, folder: Path, program: str) -> None:
    """I1, I2."""
    spec = spec_for(program, folder)
    handle, ready = await launched(runs, spec, program)
    assert len(ready) == EXPECTED.get(program, 1)
    handle.stop()
    end = await within(60, handle.ended())
    assert nobody(said(Path(spec.log_path)))
    assert end.survivors == ()
    assert not end.keeper_died
    await within(60, handle.cleared())
    assert not record_of(spec).exists()
    assert handle.keepers
    await until(lambda: nobody(list(handle.keepers)), what="the keepers have gone too")


async def test_an_idle_engine_ends_by_term_and_says_so(runs: Runs, folder: Path) -> None:
    handle, _ = await launched(runs, spec_for("plain", folder), "plain")
    handle.stop()
    end = await within(60, handle.ended())
    assert (end.exit_code, end.signal) == (None, signal.SIGTERM)


async def test_a_slow_handler_gets_its_grace_and_is_not_killed(runs: Runs, folder: Path) -> None:
    """I12 for the way down: the exit is the engine's own."""
    spec = spec_for("slow_to_term", folder, grace_seconds=10.0)
    handle, _ = await launched(runs, spec, "slow_to_term")
    handle.stop()
    end = await within(60, handle.ended())
    assert (end.exit_code, end.signal) == (3, None)
    assert "bye" in Path(spec.log_path).read_text()


async def test_further_stops_change_nothing_and_kill_cuts_the_grace_short(runs: Runs, folder: Path) -> None:
    """I2: with a grace of an hour, only the kill can end the deaf engine; nothing restarts the ladder after it."""
    handle, _ = await launched(runs, spec_for("deaf", folder, grace_seconds=3600.0), "deaf")
    handle.stop()
    handle.stop()
    handle.kill()
    handle.kill()
    handle.stop()
    end = await within(60, handle.ended())
    assert end.signal == signal.SIGKILL
    handle.stop()
    handle.kill()
    assert await handle.ended() is end


@pytest.mark.parametrize(("program", "code"), [("wrapper", 0), ("crashes_with_workers", 7)])
async def test_the_leaders_exit_is_told_and_the_rest_is_ended(
    runs: Runs, folder: Path, program: str, code: int
) -> None:
    """I1, I10: nobody asked for a stop; what the leader leaves behind goes with it."""
    spec = spec_for(program, folder)
    handle = await runs.launch(spec)
    noticed = await within(60, handle.exited())
    end = await within(60, handle.ended())
    assert noticed.exit_code == end.exit_code == code
    assert nobody(said(Path(spec.log_path)))


async def test_a_crash_names_its_signal(runs: Runs, folder: Path) -> None:
    """I10."""
    handle, ready = await launched(runs, spec_for("plain", folder), "plain")
    processes.signal_verified(ready[0], signal.SIGSEGV)
    end = await within(60, handle.ended())
    assert end.signal == signal.SIGSEGV


async def test_the_engine_starts_from_a_clean_state_and_after_its_record(runs: Runs, folder: Path) -> None:
    """I1 (record first), I17 (a file of its own), I18 (0600), and nothing inherited from the daemon."""
    leak_read, leak_write = os.pipe()
    os.set_inheritable(leak_write, True)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        spec = spec_for("tells_how_it_was_started", folder, cwd=str(folder))
        handle, _ = await launched(runs, spec, "tells_how_it_was_started")
    finally:
        signal.signal(signal.SIGINT, before)
        os.close(leak_read)
        os.close(leak_write)
    told = json.loads(Path(spec.log_path).read_text().splitlines()[0])
    me = processes.own_identity()
    assert told["record"] is True
    assert told["stdin"] == "/dev/null"
    assert told["descriptors"][:3] == [0, 1, 2]
    assert told["descriptors"][3:] == [3]  # the listing's own
    assert told["session"] is True
    assert told["run"] == spec.id
    assert told["owner"] == f"{me.pid}:{me.start_ticks}"
    assert told["own"] == "yes"
    assert set(told["names"]) - {"LC_CTYPE"} == {
        "ENGINE_ROOM_FOLDER",
        "ENGINE_ROOM_OWNER",
        "ENGINE_ROOM_RUN",
        "OWN",
        "PATH",
    }
    assert told["oom"] == min(1000, int(Path("/proc/self/oom_score_adj").read_text()) + 500)
    assert int(told["ignored"], 16) & (1 << (signal.SIGINT - 1) | 1 << (signal.SIGTERM - 1)) == 0
    assert int(told["blocked"], 16) == 0
    assert told["cwd"] == str(folder)
    assert stat.S_IMODE(Path(spec.log_path).stat().st_mode) == 0o600
    assert stat.S_IMODE(record_of(spec).stat().st_mode) == 0o600
    for known in handle.keepers:
        assert Path(f"/proc/{known.pid}/oom_score_adj").read_text() == Path("/proc/self/oom_score_adj").read_text()


async def test_secrets_stay_out_of_record_and_process_list(runs: Runs, folder: Path) -> None:
    """I18: the keeper gets the environment through its pipe; the record's command line is masked."""
    spec = spec_for("plain", folder, environment={"PATH": os.environ["PATH"], "KEY": "s3cret"}, secrets=("s3cret",))
    spec = RunSpec(**{**{f: getattr(spec, f) for f in spec.__struct_fields__}, "argv": (*spec.argv, "x=s3cret")})
    handle, _ = await launched(runs, spec, "plain")
    assert "s3cret" not in record_of(spec).read_text()
    for known in handle.keepers:
        for name in ("cmdline", "environ"):
            assert b"s3cret" not in Path(f"/proc/{known.pid}/{name}").read_bytes()


def test_masking_knows_flags_and_values() -> None:
    """I18."""
    argv = ["serve", "--api-key", "abc", "--hf-token=def", "--max-tokens", "12", "--url", "http://me:pw@h"]
    assert masked_arguments(argv, ["pw"]) == [
        "serve", "--api-key", HIDDEN, f"--hf-token={HIDDEN}", "--max-tokens", "12", "--url", f"http://me:{HIDDEN}@h",
    ]  # fmt: skip


async def test_processes_of_a_run_are_known_exactly(runs: Runs, folder: Path) -> None:
    """I13: also those that renamed themselves, left the session and lost their parent."""
    handle, ready = await launched(runs, spec_for("escapes_everything", folder), "escapes_everything")
    expected = {known.pid for known in ready}
    assert {each.pid for each in handle.processes()} == expected
    for _ in range(2):  # the second answer comes from what the first one learnt
        assert runs.pids_of_runs() == dict.fromkeys(expected, RUN)
    assert set(processes.pids_of_runs()) == {handle.pid}  # what the marker alone can see
    handle.kill()
    await within(60, handle.cleared())
    await until(lambda: runs.pids_of_runs() == {}, what="nothing is listed any more")


# --- what cannot start ---


def not_executable(folder: Path) -> str:
    (folder / "engine").write_text("#!/bin/sh\n")
    return str(folder / "engine")


def not_a_program(folder: Path) -> str:
    (folder / "engine").write_bytes(b"\x00\x01\x02")
    (folder / "engine").chmod(0o755)
    return str(folder / "engine")


def lost_interpreter(folder: Path) -> str:
    (folder / "engine").write_text("#!/no/such/python\n")
    (folder / "engine").chmod(0o755)
    return str(folder / "engine")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: str(folder / "missing"), "is not there"),
        (lambda folder: "no-such-program-anywhere", "is not there"),
        (lost_interpreter, "interpreter"),
        (not_executable, "may not be executed"),
        (not_a_program, "not a program for this machine"),
    ],
)
async def test_a_program_that_cannot_be_executed_gives_a_sentence(
    runs: Runs, folder: Path, make: object, words: str
) -> None:
    """I11; and nothing is left: no process, no record, and the name is free again."""
    spec = spec_for("plain", folder, argv=(make(folder),))  # type: ignore[operator]
    with pytest.raises(EngineNotInstalled, match=words):
        await within(60, runs.launch(spec))
    assert not record_of(spec).exists()
    await until(lambda: not runs.handles)
    handle, _ = await launched(runs, spec_for("plain", folder), "plain")
    handle.kill()
    await within(60, handle.ended())


async def test_a_missing_working_folder_gives_a_sentence(runs: Runs, folder: Path) -> None:
    with pytest.raises(EngineFailed, match="cannot be entered"):
        await within(60, runs.launch(spec_for("plain", folder, cwd=str(folder / "nowhere"))))


async def test_a_log_that_is_a_link_or_a_pipe_is_refused(runs: Runs, folder: Path) -> None:
    """I17, I18: nobody can redirect an engine's output, and no reader can block it."""
    other = folder / "other"
    other.write_text("keep me")
    (folder / f"{RUN}.log").symlink_to(other)
    with pytest.raises(NotWritable, match="cannot be written"):
        await within(60, runs.launch(spec_for("plain", folder)))
    assert other.read_text() == "keep me"
    os.mkfifo(folder / "run-2.log")
    with pytest.raises(NotWritable, match="cannot be written"):
        await within(60, runs.launch(spec_for("plain", folder, run_id="run-2")))
    (folder / "run-2.log").unlink()


async def test_a_record_that_cannot_be_written_starts_nothing(folder: Path) -> None:
    """I1: without a durable record the engine's first instruction is never run."""
    runs = Runs(folder / "runs", kill_seconds=30)
    spec = spec_for("plain", folder)
    (folder / "runs" / f"{RUN}.json").mkdir(parents=True)  # rename cannot replace a folder by a file
    with pytest.raises(NotWritable, match="record"):
        await within(60, runs.launch(spec))
    assert Path(spec.log_path).read_text() == ""
    assert list((folder / "runs").iterdir()) == [folder / "runs" / f"{RUN}.json"]
    await runs.close()


async def test_an_interpreter_that_vanished_gives_a_sentence(folder: Path) -> None:
    runs = Runs(folder, interpreter=(str(folder / "python"),))
    with pytest.raises(EngineFailed, match="could not be started"):
        await runs.launch(spec_for("plain", folder))
    assert not runs.handles
    await runs.close()


async def test_a_keeper_that_dies_at_birth_gives_a_sentence(folder: Path) -> None:
    runs = Runs(folder, interpreter=("/bin/false",))
    with pytest.raises(EngineFailed, match="before it had started"):
        await within(60, runs.launch(spec_for("plain", folder)))
    await runs.close()


async def test_a_cancelled_launch_leaves_nothing(runs: Runs, folder: Path) -> None:
    """I1, S3: cancelled at different moments of the birth."""
    for turn in range(6):
        spec = spec_for("own_session", folder, run_id=f"run-{turn}")
        launching = asyncio.ensure_future(runs.launch(spec))  # noqa: TID251
        await asyncio.sleep(0.012 * turn)
        launching.cancel()
        await asyncio.gather(launching, return_exceptions=True)
        for handle in list(runs.handles.values()):
            handle.kill()
            await within(60, asyncio.gather(handle.cleared(), return_exceptions=True))
        await until(lambda: not runs.handles)
        assert processes.of_run(spec.id) == []


# --- who is killed ---


@pytest.mark.parametrize("program", ["plain", "own_session", "vllm_like", "escapes_everything"])
async def test_a_killed_daemon_takes_its_engines_along(folder: Path, program: str) -> None:
    """I1: SIGKILL for the daemon, nobody else comes to help."""
    spec = spec_for(program, folder)
    daemon = await asyncio.to_thread(OtherDaemon, folder, spec)
    try:
        ready = await all_ready(spec, program)
        daemon.kill()
        await until(lambda: nobody(ready), 60, "no process of the engine is left")
        await until(lambda: nobody(daemon.keepers), what="the keepers have gone too")
        assert not record_of(spec).exists()
    finally:
        daemon.close()


@pytest.mark.parametrize("program", ["plain", "vllm_like", "escapes_everything"])
async def test_daemon_and_keeper_killed_together_the_guard_ends_all(folder: Path, program: str) -> None:
    """I1: the inner keeper and the daemon die in the same instant."""
    spec = spec_for(program, folder)
    daemon = await asyncio.to_thread(OtherDaemon, folder, spec)
    try:
        ready = await all_ready(spec, program)
        owner = processes.identity(daemon.process.pid)
        assert owner is not None
        kill_together([daemon.keepers[0], owner])
        daemon.kill()
        await until(lambda: nobody(ready), 60, "no process of the engine is left")
    finally:
        daemon.close()


@pytest.mark.parametrize("program", ["plain", "vllm_like", "escapes_everything"])
@pytest.mark.parametrize("which", [(0,), (0, 1)], ids=["keeper", "keeper and guard"])
async def test_a_killed_keeper_ends_the_run_and_is_told(
    runs: Runs, folder: Path, program: str, which: tuple[int, ...]
) -> None:
    """I1: by the guard, or by this daemon when both were killed."""
    handle, ready = await launched(runs, spec_for(program, folder), program)
    kill_together([handle.keepers[index] for index in which])
    end = await within(60, handle.ended())
    assert end.keeper_died
    assert end.survivors == ()
    assert nobody(ready)
    await within(60, handle.cleared())
    await until(lambda: not runs.handles)
    assert not record_of(handle.spec).exists()


async def test_a_killed_guard_changes_nothing(runs: Runs, folder: Path) -> None:
    handle, ready = await launched(runs, spec_for("own_session", folder), "own_session")
    processes.signal_verified(handle.keepers[1], signal.SIGKILL)
    await until(lambda: nobody([handle.keepers[1]]))
    assert all(processes.alive(known) for known in ready)
    handle.stop()
    end = await within(60, handle.ended())
    assert not end.keeper_died
    assert nobody(ready)


@pytest.mark.parametrize("index", [0, 1])
async def test_a_polite_signal_to_the_keeper_ends_the_run(runs: Runs, folder: Path, index: int) -> None:
    """As a session's end or a service manager does: the engine gets its ladder."""
    handle, ready = await launched(runs, spec_for("own_session", folder), "own_session")
    processes.signal_verified(handle.keepers[index], signal.SIGTERM)
    end = await within(60, handle.ended())
    assert end.signal == signal.SIGTERM
    assert nobody(ready)


async def test_a_stuck_keeper_cannot_hold_up_a_stop(folder: Path) -> None:
    """I2, I7: a stopped keeper says nothing; it is replaced and the stop ends."""
    runs = Runs(folder, kill_seconds=1, overdue_seconds=0.3)
    handle, ready = await launched(runs, spec_for("vllm_like", folder), "vllm_like")
    for known in handle.keepers:
        processes.signal_verified(known, signal.SIGSTOP)
    handle.stop()
    end = await within(60, handle.ended())
    assert end.keeper_died
    assert nobody(ready)
    await within(60, runs.close())


async def test_what_cannot_be_killed_is_reported_and_later_cleared(folder: Path) -> None:
    """I2: reported with pid, state and wait channel; the run is over only when it has really gone."""
    runs = Runs(folder, kill_seconds=0.3)
    handle, ready = await launched(runs, spec_for("plain", folder), "plain")
    holder = await asyncio.to_thread(Holder, ready[0].pid)
    if holder.answer != "held":
        holder.let_go()
        await runs.close()
        pytest.skip(f"this sandbox does not let a process be traced: {holder.answer}")
    handle.stop()
    end = await within(60, handle.ended())
    (survivor,) = end.survivors
    assert survivor.pid == ready[0].pid
    assert survivor.state in "tTD"
    assert str(survivor).startswith(f"pid {ready[0].pid} ")
    assert not handle.is_over
    assert record_of(handle.spec).exists()
    await asyncio.to_thread(holder.let_go)
    await within(60, handle.cleared())
    assert nobody(ready)
    await runs.close()


async def test_close_does_not_wait_for_what_cannot_be_killed(folder: Path) -> None:
    """I2: the daemon may leave; the keeper stays with the survivor and ends with it."""
    runs = Runs(folder, kill_seconds=0.3)
    handle, ready = await launched(runs, spec_for("plain", folder), "plain")
    holder = await asyncio.to_thread(Holder, ready[0].pid)
    held = holder.answer == "held"
    await within(60, runs.close())
    if held:
        assert processes.alive(handle.keepers[0])
        assert record_of(handle.spec).exists()
    await asyncio.to_thread(holder.let_go)
    await until(lambda: nobody([*ready, *handle.keepers]))
    assert not record_of(handle.spec).exists()
    if not held:
        pytest.skip(f"this sandbox does not let a process be traced: {holder.answer}")


async def test_close_stops_all_runs(folder: Path) -> None:
    """I1."""
    runs = Runs(folder, kill_seconds=30)
    known = []
    for program in ("plain", "own_session"):
        _, ready = await launched(runs, spec_for(program, folder, run_id=program), program)
        known += ready
    await within(60, runs.close())
    assert nobody(known)
    assert not list(folder.glob("*.json"))


async def test_the_end_command_is_run_and_bounded(runs: Runs, folder: Path) -> None:
    """I1 for containers: what only the container's own tool can end; one that hangs does not hold up the end."""
    mark = folder / "ended"
    spec = spec_for("plain", folder, end_argv=("/bin/sh", "-c", f"echo $OWN$ENGINE_ROOM_RUN > {mark}; kill -STOP $$"))
    handle, _ = await launched(runs, spec, "plain")
    handle.kill()
    end = await within(60, handle.ended())
    assert end.survivors == ()
    assert mark.read_text() == "yes\n"  # the engine's environment, without the mark that would make it part of the run


async def test_processes_by_a_run_id_alone_are_those_that_show_it(runs: Runs, folder: Path) -> None:
    handle, ready = await launched(runs, spec_for("vllm_like", folder), "vllm_like")
    assert processes.of_run(RUN)[0].pid == handle.pid
    trace = RunTrace(run_id=RUN, leader=handle.leader)
    assert {each.pid for each in processes.of_run(trace)} == {known.pid for known in ready}
