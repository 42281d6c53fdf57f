"""Identities, evidence and signals, on real processes."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.daemon import processes
from app.daemon.processes import ProcessIdentity, RunMembers, RunTrace
from app.daemon.procfs import Process, read_process
from tests.daemon.trouble import RUN
from tests.rig.waiting import eventually

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts `sleep` with these Popen arguments; ended afterwards."""
    started: list[subprocess.Popen[bytes]] = []

    def one(*argv: str, **how: object) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen(argv or ("sleep", "1000"), **how))  # type: ignore[call-overload]
        return started[-1]

    yield one
    for process in started:
        process.kill()
        process.communicate()


def known(process: subprocess.Popen[bytes]) -> ProcessIdentity:
    found = processes.identity(process.pid)
    assert found is not None
    return found


def test_a_name_may_hold_anything() -> None:
    """/proc/PID/stat is not escaped: a process may call itself "x) R 1 (" to be taken for another."""
    fields = b"S 7 8 9 0 -1 0 0 0 0 0 0 0 0 0 20 0 3 0 4711 0"
    process = Process(5, b"5 (x) R 1 (\xff) " + fields)
    assert (process.name, process.state) == ("x) R 1 (\ufffd", "S")
    assert (process.parent, process.group, process.session) == (7, 8, 9)
    assert (process.threads, process.start_ticks) == (3, 4711)


def test_a_zombie_is_dead_but_not_while_threads_run() -> None:
    line = b"5 (x) Z 7 8 9 0 -1 0 0 0 0 0 0 0 0 0 20 0 %d 0 4711 0"
    assert Process(5, line % 1).dead
    assert not Process(5, line % 2).dead


def test_alive_means_exactly_that_process(start: Start) -> None:
    """I5."""
    process = start()
    me = known(process)
    assert processes.alive(me)
    assert not processes.alive(ProcessIdentity(me.pid, me.start_ticks + 1, me.boot_id))
    assert not processes.alive(ProcessIdentity(me.pid, me.start_ticks, "another boot"))
    process.kill()
    eventually(lambda: (seen := read_process(me.pid)) is not None and seen.state == "Z")
    assert not processes.alive(me), "a zombie is dead"
    process.wait()
    assert processes.identity(me.pid) is None


@pytest.mark.parametrize("change", ["start", "boot", "init", "zero", "minus one"])
def test_a_signal_reaches_only_the_very_process(start: Start, change: str) -> None:
    """I5."""
    process = start()
    me = known(process)
    wrong = {
        "start": ProcessIdentity(me.pid, me.start_ticks + 1, me.boot_id),
        "boot": ProcessIdentity(me.pid, me.start_ticks, "another boot"),
        "init": ProcessIdentity(1, getattr(read_process(1), "start_ticks", 0), me.boot_id),
        "zero": ProcessIdentity(0, 0, me.boot_id),
        "minus one": ProcessIdentity(-1, 0, me.boot_id),
    }[change]
    assert not processes.signal_verified(wrong, 0 if change == "init" else signal.SIGKILL)
    assert process.poll() is None
    assert processes.signal_verified(me, signal.SIGTERM)
    assert process.wait(60) == -signal.SIGTERM
    assert not processes.signal_verified(me, signal.SIGTERM)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can start a process of another account")
def test_another_accounts_process_is_never_ours(start: Start) -> None:
    """I5: not even root's daemon touches it, whatever its environment says."""
    environment = {"PATH": os.environ["PATH"], "ENGINE_ROOM_RUN": RUN}
    process = start(env=environment, user=65534)
    assert not processes.signal_verified(known(process), signal.SIGKILL)
    assert processes.of_run(RUN) == []
    assert process.poll() is None


def test_the_marker_must_match_exactly(start: Start) -> None:
    path = {"PATH": os.environ["PATH"]}
    mine = start(env=path | {"ENGINE_ROOM_RUN": RUN})
    start(env=path | {"ENGINE_ROOM_RUN": "run-11"})
    start(env=path | {"NOT_ENGINE_ROOM_RUN": RUN})
    start("sleep", "1000", env=path | {"OTHER": f"ENGINE_ROOM_RUN={RUN}"})
    assert [each.pid for each in processes.of_run(RUN)] == [mine.pid]


def test_a_session_number_that_was_given_away_is_no_evidence(start: Start, tmp_path: Path) -> None:
    """I5: the recorded leader has gone; a later session of the same number is somebody else's."""
    log = tmp_path / "run.log"
    log.touch()
    stranger = known(start(start_new_session=True))
    before = ProcessIdentity(stranger.pid, stranger.start_ticks - 1, stranger.boot_id)
    assert processes.of_run(RunTrace(run_id=RUN, leader=before, log_path=str(log))) == []
    assert [each.pid for each in processes.of_run(RunTrace(run_id=RUN, leader=stranger))] == [stranger.pid]


def test_writing_to_the_runs_log_is_evidence_and_reading_it_is_not(start: Start, tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    me = processes.own_identity()
    gone = ProcessIdentity(2**22 - 1, me.start_ticks, me.boot_id)
    with log.open("ab") as out:
        writer = start(stdout=out, stderr=out)
    with log.open("rb") as source:
        start(stdin=source)
    found = processes.of_run(RunTrace(run_id=RUN, leader=gone, log_path=str(log)))
    assert [each.pid for each in found] == [writer.pid]


def test_we_and_those_above_us_are_never_members() -> None:
    """I5: a daemon that was itself started from inside a run must not end itself."""
    program = "from app.daemon import processes; print([p.pid for p in processes.of_run('outer')])"
    environment = os.environ | {"ENGINE_ROOM_RUN": "outer"}
    root = Path(__file__).resolve().parents[2]
    told = subprocess.run([sys.executable, "-c", program], env=environment, cwd=root, capture_output=True, check=True)
    assert told.stdout == b"[]\n"


def test_members_are_learnt_once_and_forgotten_when_gone(start: Start) -> None:
    keeper = start(
        sys.executable, "-I", "-S", "-c",
        "import os,sys,time\nif os.fork()==0:\n time.sleep(1000)\nprint(1,flush=True); time.sleep(1000)",
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert keeper.stdout is not None
    keeper.stdout.read(1)
    roots: dict[str, tuple[int, ...]] = {}
    members = RunMembers(lambda: roots)
    assert members.pids_of_runs() == {}
    roots[RUN] = (keeper.pid,)
    (child,) = members.pids_of_runs()
    assert members.pids_of_runs() == {child: RUN}
    seen = processes.identity(child)
    assert seen is not None
    processes.signal_verified(seen, signal.SIGKILL)
    eventually(lambda: members.pids_of_runs() == {})


def test_a_process_that_was_seen_before_its_keeper_was_known_is_looked_at_again(start: Start) -> None:
    """I4: a sample may fall between an engine's birth and the keeper's word of it, while another run is there already.
    What the engine then holds of a card is its own all the same."""
    other = start()
    engine = start()  # below this process, which is its keeper here
    roots: dict[str, tuple[int, ...]] = {"earlier": (other.pid,), RUN: ()}
    members = RunMembers(lambda: dict(roots))
    assert members.pids_of_runs() == {}, "nobody knows yet whose it is"
    roots[RUN] = (os.getpid(),)
    assert members.pids_of_runs()[engine.pid] == RUN


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_the_listener_of_a_port_is_named(family: int) -> None:
    """I13, S5."""
    try:
        server = socket.create_server(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0), family=family)
    except OSError:
        pytest.skip("no loopback address of this family here")
    with server:
        port = server.getsockname()[1]
        assert processes.listener_owner(port) == os.getpid()
        assert processes.listener_owner(port, among=(1, os.getpid())) == os.getpid()
        with socket.create_connection(server.getsockname()[:2]) as client:
            assert processes.listener_owner(client.getsockname()[1]) is None, "connected is not listening"
    assert processes.listener_owner(port) is None


def test_resident_memory_is_counted_and_the_gone_count_nothing(start: Start) -> None:
    process = start()
    pid = process.pid
    assert processes.resident_bytes([pid]) > 0
    assert processes.resident_bytes([pid, 2**22 - 1]) > 0, "the gone spoil no sum"
    assert processes.resident_bytes([2**22 - 1]) == 0
    assert processes.resident_bytes([]) == 0


def test_physical_cores_are_at_least_one_and_at_most_the_processors() -> None:
    assert 1 <= processes.physical_cores() <= len(os.sched_getaffinity(0))


def test_a_deaf_tree_is_ended_and_the_ladder_is_idempotent(start: Start) -> None:
    """I2."""
    process = start("sh", "-c", "trap '' TERM; sleep 1000", env={"PATH": os.environ["PATH"], "ENGINE_ROOM_RUN": RUN})
    eventually(lambda: len(processes.of_run(RUN)) == 2)
    assert processes.end_processes(lambda: processes.of_run(RUN), 0.1, 60.0) == ()
    assert process.wait(60) == -signal.SIGKILL
    assert processes.end_processes(lambda: processes.of_run(RUN), 0.1, 60.0) == ()
