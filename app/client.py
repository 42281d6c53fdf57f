"""Speaks to the daemon for the command line: one call per verb, over the control socket."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import httpx
import msgspec

from app.core.errors import DaemonTooOld, DaemonUnreachable, ErrorReport, raised_from
from app.core.paths import Paths
from app.core.snapshot import API_VERSION, SLICES, Hello, Seats, from_json, to_json
from app.core.sse import Parser

T = TypeVar("T")
START_SECONDS = 20.0


class Client:
    """Synchronous. Raises the daemon's own errors, and DaemonUnreachable when nobody answers."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self.http = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(paths.socket)),
            base_url="http://engine-room",
            timeout=httpx.Timeout(30.0, read=None),
            trust_env=False,
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def hello(self) -> Hello:
        hello = self.get("/control/hello", Hello)
        if hello.api != API_VERSION:
            older = "service" if hello.api < API_VERSION else "command"
            raise DaemonTooOld(
                f"The running service is version {hello.version}, and this command does not speak its language.",
                f"The {older} is the older one: update it; `engine-room quit` ends a running service.",
            )
        return hello

    def get(self, path: str, kind: type[T]) -> T:
        return from_json(kind, self._checked(lambda: self.http.get(path)).content)

    def post(self, path: str, value: msgspec.Struct, kind: type[T]) -> T:
        headers = {"Content-Type": "application/json"}
        answer = self._checked(lambda: self.http.post(path, content=to_json(value), headers=headers))
        return from_json(kind, answer.content)

    def slices(self) -> dict[str, msgspec.Struct]:
        raw = msgspec.json.decode(self._checked(lambda: self.http.get("/control/slices")).content)
        return {name: from_json(SLICES[name], to_json(value)) for name, value in raw.items() if name in SLICES}

    def stream(self) -> Iterator[tuple[str, msgspec.Struct]]:
        """Slices as they change, all of them first."""
        parser = Parser()
        try:
            with self.http.stream("GET", "/control/stream") as answer:
                for piece in answer.iter_raw():
                    for event in parser.feed(piece):
                        if event.event in SLICES:
                            yield event.event, from_json(SLICES[event.event], event.data)
        except httpx.HTTPError as error:
            raise self._unreachable() from error

    def seats(self) -> Iterator[Seats]:
        for _, value in self.stream():
            if isinstance(value, Seats):
                yield value

    def _checked(self, ask: Callable[[], httpx.Response]) -> httpx.Response:
        try:
            answer = ask()
        except (httpx.HTTPError, OSError) as error:
            raise self._unreachable() from error
        if answer.status_code >= 400:
            try:
                report = from_json(ErrorReport, answer.content)
            except msgspec.DecodeError as error:
                raise DaemonUnreachable(f"The service answered {answer.status_code} without a reason.") from error
            raise raised_from(report)
        return answer

    def _unreachable(self) -> DaemonUnreachable:
        return DaemonUnreachable(
            "Engine Room's service is not running.",
            "Start it with `engine-room serve`, or open the window.",
            f"(asked at {self._paths.socket}; its log is {self._paths.daemon_log})",
        )

    def ensure(self) -> Hello:
        """Starts the daemon when nobody answers, and waits until it does."""
        try:
            hello = self.hello()
            process = None
        except DaemonUnreachable:
            hello = None
            process = start_daemon(self._paths)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if hello is not None and hello.started:
                return hello
            time.sleep(0.05)
            try:
                hello = self.hello()
            except DaemonUnreachable:
                if process is not None and process.poll() not in (None, 0) and not self._paths.socket.exists():
                    break
        raise DaemonUnreachable("The service could not be started.", "", last_words(self._paths))


def start_daemon(paths: Paths) -> subprocess.Popen[bytes]:
    """The daemon in a session of its own: it outlives the terminal and the window that started it."""
    paths.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (paths.state / "daemon.out").open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "app", "serve"],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            cwd="/",
            env=os.environ | {"PYTHONPATH": python_path()},
        )


def python_path() -> str:
    """Where `app` is found, whatever the folder in which the command was given."""
    from pathlib import Path

    top = str(Path(__file__).resolve().parent.parent)
    rest = os.environ.get("PYTHONPATH", "")
    return f"{top}{os.pathsep}{rest}" if rest else top


def last_words(paths: Paths) -> str:
    try:
        lines = (paths.state / "daemon.out").read_text("utf-8", "replace").strip().splitlines()
    except OSError:
        return f"Its log is {paths.daemon_log}."
    return lines[-1] if lines else f"Its log is {paths.daemon_log}."
