"""The keeper by its own protocol, as a program beside no daemon at all."""

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.daemon import processes
from app.daemon.runs import KEEPER
from tests.daemon.trouble import EXPECTED, nobody, said, spec_for
from tests.rig.waiting import eventually, never


class Talk:
    """A keeper with the test at the daemon's end of its pipes."""

    def __init__(self, folder: Path, program: str, **changes: Any) -> None:
        run = spec_for(program, folder, **changes)
        self.log = Path(run.log_path)
        self.record = folder / f"{run.id}.json"
        self.expected = EXPECTED.get(program, 1)
        self.spec = {
            "run_id": run.id,
            "argv": run.argv,
            "environment": run.environment | {"ENGINE_ROOM_RUN": run.id},
            "cwd": "/",
            "log_path": run.log_path,
            "grace_seconds": run.grace_seconds,
            "kill_seconds": 30,
            "end_argv": run.end_argv,
            "record_path": str(self.record),
            "record": {"run_id": run.id},
        }
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(KEEPER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            bufsize=0,
        )

    def say(self, value: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(value).encode() + b"\n")

    def begin(self) -> list[processes.ProcessIdentity]:
        self.say(self.spec)
        eventually(lambda: len(said(self.log)) >= self.expected)
        return said(self.log)

    def hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = b""
        while not line.endswith(b"\n"):
            assert select.select([self.process.stdout], [], [], 60)[0], "the keeper says nothing"
            byte = self.process.stdout.read(1)
            if not byte:
                return {}
            line += byte
        return json.loads(line)

    def close(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        self.process.wait(60)


@pytest.fixture
def talk(tmp_path: Path) -> Iterator[Any]:
    talks: list[Talk] = []

    def one(program: str, **changes: Any) -> Talk:
        talks.append(Talk(tmp_path, program, **changes))
        return talks[-1]

    yield one
    for each in talks:
        each.close()
        left = [known for known in said(each.log) if processes.alive(known)]
        for known in left:
            processes.signal_verified(known, signal.SIGKILL)
        assert not left


def test_the_news_come_in_order(talk: Any) -> None:
    """I10: started, exited, gone; then the program has ended by itself."""
    keeper = talk("slow_to_term", grace_seconds=20.0)
    (engine,) = keeper.begin()
    assert keeper.hear()["started"]["pid"] == engine.pid
    assert json.loads(keeper.record.read_text())["engine"] == {"pid": engine.pid, "start_ticks": engine.start_ticks}
    keeper.say({"stop": 20.0})
    assert keeper.hear() == {"exited": {"code": 3, "signal": None}}
    assert keeper.hear() == {"gone": True}
    assert keeper.hear() == {}
    assert keeper.process.wait(60) == 0
    assert not keeper.record.exists()


def test_an_idle_keeper_does_nothing_at_all(talk: Any) -> None:
    """No polling: neither half is scheduled once while the engine runs."""
    keeper = talk("plain")
    keeper.begin()
    started = keeper.hear()["started"]
    pids = [started[who][0] for who in ("keeper", "guard")]

    def switches() -> list[str]:
        status = [Path(f"/proc/{pid}/status").read_text() for pid in pids]
        return [line for text in status for line in text.splitlines() if line.startswith("voluntary_ctxt")]

    def sleeps() -> bool:
        """For longer than any poll would; what it did last may still be under way on a busy machine."""
        before = switches()
        never(lambda: switches() != before, 1.5, "the keeper woke up")
        return True

    assert eventually(sleeps)


def test_the_lifelines_end_ends_the_run_even_when_nobody_listens(talk: Any) -> None:
    """I1: both pipes are closed, as by a killed daemon; telling into a closed pipe kills nobody."""
    keeper = talk("own_session")
    ready = keeper.begin()
    keeper.process.stdout.close()
    keeper.process.stdin.close()
    eventually(lambda: nobody(ready))
    assert keeper.process.wait(60) == 0
    assert not keeper.record.exists()


def test_a_long_grace_is_cut_when_the_daemon_goes(talk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """I1: a stop with an hour's grace is running when the daemon dies; 15 s are the limit all the same."""
    keeper = talk("deaf", grace_seconds=3600.0)
    ready = keeper.begin()
    keeper.say({"stop": 3600.0})
    keeper.process.stdin.close()
    assert eventually(lambda: nobody(ready))


@pytest.mark.parametrize("turn", range(8))
def test_the_daemon_may_die_at_any_instant_of_a_birth(talk: Any, turn: int) -> None:
    """I1: the lifeline ends before, while and after the engine is made; nothing carries the marker afterwards."""
    run_id = f"birth-{turn}"
    keeper = talk("own_session", run_id=run_id)
    data = json.dumps(keeper.spec).encode() + b"\n"
    keeper.process.stdin.write(data[: len(data) // 2] if turn == 0 else data)
    never(lambda: False, 0.012 * turn)
    keeper.process.stdin.close()
    keeper.process.wait(60)
    assert processes.of_run(run_id) == []
    assert not keeper.record.exists()


@pytest.mark.parametrize("turn", range(6))
def test_the_keeper_may_be_killed_at_any_instant_of_a_birth(talk: Any, turn: int) -> None:
    """I1: both halves killed while the engine is being made: at most a recorded or marked leftover, never an unknown."""
    run_id = f"killed-birth-{turn}"
    keeper = talk("own_session", run_id=run_id)
    keeper.say(keeper.spec)
    never(lambda: False, 0.012 * turn)
    guard = processes.identity(keeper.process.pid)
    halves = [each for each in (guard,) if each is not None]
    children = Path(f"/proc/{keeper.process.pid}/task/{keeper.process.pid}/children")
    if children.exists():
        halves += [each for pid in children.read_text().split() if (each := processes.identity(int(pid)))]
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for each in halves:
            processes.signal_verified(each, number)
    keeper.process.wait(60)
    assert processes.end_processes(lambda: processes.of_run(run_id), 0.0, 60.0) == ()
    eventually(lambda: nobody(said(keeper.log)))


def test_garbage_on_the_lifeline_is_passed_over(talk: Any) -> None:
    keeper = talk("plain")
    keeper.begin()
    for line in (b"\n", b"{\n", b"[]\n", b'"kill"\n', b"\xff\xfe\n", b'{"stop": "soon"}\n', b"7\n"):
        keeper.process.stdin.write(line)
    keeper.say({"kill": True})
    assert "started" in keeper.hear()
    assert keeper.hear() == {"exited": {"code": None, "signal": signal.SIGKILL}}


def test_it_has_a_session_of_its_own_in_both_halves(talk: Any) -> None:
    """A Ctrl-C in the daemon's terminal, or a kill of one group, reaches neither engine nor both halves."""
    keeper = talk("plain")
    (engine,) = keeper.begin()
    started = keeper.hear()["started"]
    sessions = {os.getsid(pid) for pid in (os.getpid(), engine.pid, started["keeper"][0], started["guard"][0])}
    assert len(sessions) == 4
