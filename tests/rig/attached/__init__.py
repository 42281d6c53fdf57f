"""Starts stand-ins of engines that are not ours, as real programs on real sockets: an Ollama, and a remote endpoint."""

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import tomli_w

from tests.rig.custody import alive
from tests.rig.home import Home
from tests.rig.ports import free_port
from tests.rig.waiting import eventually

FOLDER = Path(__file__).parent


class Server:
    """One stand-in. Its knobs are a file that it reads at each request, so that it can change its mind at any moment."""

    program = ""

    def __init__(self, home: Home, name: str = "", **knobs: Any) -> None:
        self.home = home
        self.name = name or self.program
        self.folder = home.folder / f"{self.name}-stand-in"
        self.folder.mkdir(exist_ok=True)
        self.process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self._knobs: dict[str, Any] = {}
        self.knobs(**knobs)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def knobs(self, **knobs: Any) -> None:
        self._knobs.update(knobs)
        new = self.folder / "knobs.new"
        new.write_text(json.dumps(self._knobs), "utf-8")
        new.replace(self.folder / "knobs.json")

    def environment(self) -> dict[str, str]:
        keep = {name: self.home.environment[name] for name in ("PATH", "HOME")}
        return {**keep, "STAND_IN_FOLDER": str(self.folder), "ENGINE_ROOM_TEST_DRIVER": str(self.home.driver)}

    def start(self) -> "Server":
        self.process = subprocess.Popen(
            [sys.executable, "-S", "-I", str(FOLDER / f"{self.program}.py"), str(self.port)],
            env=self.environment(),
            start_new_session=True,
        )
        eventually(self._listens, what=f"{self.name} listens")
        return self

    def _listens(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, "it ended at once"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        """As its own service manager would."""
        if self.process is not None and self.process.poll() is None:
            (self.folder / "mine").touch()  # this signal comes from the test
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)
            (self.folder / "mine").unlink()

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def journal(self, event: str | None = None, **fields: object) -> list[dict[str, Any]]:
        file = self.folder / "journal.jsonl"
        written = file.read_text().splitlines() if file.exists() else []
        lines = [json.loads(line) for line in written if line.endswith("}")]  # the last may be under way
        return [
            line
            for line in lines
            if (event is None or line["event"] == event) and all(line.get(k) == v for k, v in fields.items())
        ]


class Ollama(Server):
    """An Ollama that has models, holds graphics memory while one is loaded, and must never be signalled by us."""

    program = "ollama"

    def __init__(self, home: Home, name: str = "", **knobs: Any) -> None:
        super().__init__(home, name, **{"models": ["tiny:latest"], **knobs})
        home.environment["OLLAMA_HOST"] = self.address

    @property
    def loaded(self) -> list[str]:
        file = self.folder / "loaded.json"
        return list(json.loads(file.read_text())) if file.exists() else []

    def runner(self) -> int:
        """The process that holds the loaded model."""
        return int(self.journal("load")[-1]["runner"])

    def runner_alive(self) -> bool:
        return alive(self.runner())

    def install(self) -> Path:
        """The program `ollama` on the home's PATH, so that ours can be started."""
        place = self.home.bin / "ollama"
        place.write_text(
            f'#!/bin/sh\nSTAND_IN_FOLDER="{self.folder}" exec "{sys.executable}" -S -I "{FOLDER / "ollama.py"}" "$@"\n'
        )
        place.chmod(0o755)
        return place


class Remote(Server):
    """An OpenAI-compatible or Azure endpoint with its faults."""

    program = "remote"


def profile(
    home: Home, profile_id: str, engine: str, model: str, table: dict[str, Any] | None = None, **settings: Any
) -> str:
    """Writes a profile for one of them; returns its id."""
    whole = {
        "title": f"The {profile_id} model",
        "engine": engine,
        "model": model,
        **(table or {}),
        "settings": settings,
    }
    home.paths.profiles.mkdir(parents=True, exist_ok=True)
    (home.paths.profiles / f"{profile_id}.toml").write_text(tomli_w.dumps(whole), "utf-8")
    return profile_id
