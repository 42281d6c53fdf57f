"""Runs `engine-room` as a person does: as a process of its own, in a test's home."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from app.core.snapshot import Hello, from_json
from tests.rig.custody import look_at
from tests.rig.daemon import uds_client
from tests.rig.home import Home

REPOSITORY = Path(__file__).resolve().parents[2]


class Done(NamedTuple):
    """What a command left: exit code and both outputs."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        (line,) = self.out.splitlines()
        return json.loads(line)


class Commands:
    """`run("load", "one")` waits for the end; `begin(…)` gives the running process. Nobody ever sees a trace."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.begun: list[subprocess.Popen[str]] = []

    def begin(self, *words: str, **environment: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-m", "app", *words],
            cwd=REPOSITORY,
            env={**self.home.environment, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        self.begun.append(process)
        return process

    def finish(self, process: "subprocess.Popen[str]", typed: str = "", deadline: float = 180.0) -> Done:
        out, err = process.communicate(typed, timeout=deadline)
        assert "Traceback" not in out + err, err
        return Done(process.returncode, out, err)

    def run(self, *words: str, typed: str = "", **environment: str) -> Done:
        return self.finish(self.begin(*words, **environment), typed)

    def ok(self, *words: str, **more: str) -> Done:
        done = self.run(*words, **more)
        assert done.code == 0, f"{words}: {done}"
        return done

    def refused(self, code: int, *words: str, **more: str) -> Done:
        """Ended by that exit code, with one sentence that begins as all do, and never with a trace."""
        done = self.run(*words, **more)
        assert done.code == code, f"{words}: {done}"
        assert done.err.splitlines()[-1].startswith("engine-room: "), done.err
        return done

    def adopt(self) -> int:
        """Notes the running daemon as one of this home's, so that its keepers are known as the home's too; its pid."""
        with uds_client(self.home.paths.socket) as client:
            started = look_at(from_json(Hello, client.get("/control/hello").content).pid)
        assert started is not None
        self.home.owners.append(f"{started.pid}:{started.start_ticks}")
        return started.pid

    def close(self) -> None:
        for process in self.begun:
            if process.poll() is None:
                process.kill()
            process.communicate()
        if self.home.paths.socket.exists():
            self.run("quit")


def line_of(process: "subprocess.Popen[str]", words: str) -> str:
    """The first line on stderr that contains the words; fails when the command ends without it."""
    assert process.stderr is not None
    for line in process.stderr:
        if words in line:
            return line
    raise AssertionError(f"the command ended without saying {words!r}")
