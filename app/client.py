"""Speaks to the daemon for the command line: one call per verb, over the control socket."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

import httpx
import msgspec

from app.core.daemon_command import daemon_command, private_opener
from app.core.errors import (
    AnotherDaemon,
    DaemonTooOld,
    DaemonUnreachable,
    EngineRoomError,
    ErrorReport,
    NotWritable,
    SettingInvalid,
    raised_from,
)
from app.core.paths import Paths
from app.core.snapshot import API_VERSION, SLICES, Hello, Seats, from_json, to_json
from app.core.sse import Parser

T = TypeVar("T")
START_SECONDS = 30.0
ANSWER_SECONDS = 45.0  # the stream says ": alive" every ten, a log call waits for 25 at most
PREFIX = "engine-room: "
# What the service's exit code says of why it could not start; its last line has the sentence.
REASONS: dict[int, type[EngineRoomError]] = {
    SettingInvalid.exit_code: SettingInvalid,
    NotWritable.exit_code: NotWritable,
}


class Client:
    """Synchronous. Raises the daemon's own errors, and DaemonUnreachable when nobody answers."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self.http = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(paths.socket)),
            base_url="http://engine-room",
            timeout=httpx.Timeout(float(os.environ.get("ENGINE_ROOM_PATIENCE_SECONDS") or ANSWER_SECONDS)),
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
        return from_json(kind, self.checked(lambda: self.http.get(path)).content)

    def post(self, path: str, value: msgspec.Struct, kind: type[T]) -> T:
        headers = {"Content-Type": "application/json"}
        answer = self.checked(lambda: self.http.post(path, content=to_json(value), headers=headers))
        return from_json(kind, answer.content)

    def slices(self) -> dict[str, msgspec.Struct]:
        raw = msgspec.json.decode(self.checked(lambda: self.http.get("/control/slices")).content)
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
            raise self.unreachable(error) from error

    def seats(self) -> Iterator[Seats]:
        for _, value in self.stream():
            if isinstance(value, Seats):
                yield value

    def checked(self, ask: Callable[[], httpx.Response]) -> httpx.Response:
        """The answer of one call, or what the daemon refused it with."""
        try:
            answer = ask()
        except (httpx.HTTPError, OSError) as error:
            raise self.unreachable(error) from error
        if answer.status_code >= 400:
            try:
                report = from_json(ErrorReport, answer.content)
            except msgspec.DecodeError as error:
                raise DaemonUnreachable(f"The service answered {answer.status_code} without a reason.") from error
            raise raised_from(report)
        return answer

    def unreachable(self, error: Exception) -> DaemonUnreachable:
        if isinstance(error, httpx.TimeoutException):
            return DaemonUnreachable(
                "Engine Room's service runs but does not answer.",
                "Wait, or end it and start it again with `engine-room serve`.",
                f"(asked at {self._paths.socket}; its log is {self._paths.daemon_log})",
            )
        return DaemonUnreachable(
            "Engine Room's service is not running.",
            "Start it with `engine-room serve`, or open the window.",
            f"(asked at {self._paths.socket}; its log is {self._paths.daemon_log})",
        )

    def ensure(self) -> Hello:
        """Starts the daemon when nobody answers, and waits until it is ready for calls.

        Raises what kept it from starting: SettingInvalid, NotWritable, or DaemonUnreachable with its last words.
        """
        try:
            hello: Hello | None = self.hello()
            started = None
        except DaemonUnreachable:
            hello = None
            started = start_daemon(self._paths)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if hello is not None and hello.started:
                return hello
            time.sleep(0.05)
            try:
                hello = self.hello()
            except DaemonUnreachable:
                ended = started.process.poll() if started is not None else None
                if started is not None and ended not in (
                    None,
                    0,
                    AnotherDaemon.exit_code,
                ):  # systemd's or another one's start
                    raise REASONS.get(ended, DaemonUnreachable)(started.last_words(self._paths)) from None
        words = started.last_words(self._paths) if started is not None else f"Its log is {self._paths.daemon_log}."
        raise DaemonUnreachable("The service could not be started.", "", words)


class Started(NamedTuple):
    """A daemon that was just started, and where in its output file its own words begin."""

    process: subprocess.Popen[bytes]
    output_from: int

    def last_words(self, paths: Paths) -> str:
        """Its last line: a service that cannot start says why in one sentence."""
        try:
            with paths.daemon_output.open("rb") as output:
                output.seek(self.output_from)
                lines = output.read().decode("utf-8", "replace").strip().splitlines()
        except OSError:
            lines = []
        own = [line for line in lines if line.startswith(PREFIX)] or lines  # systemctl says its own word after it
        return own[-1].removeprefix(PREFIX) if own else f"The service ended at once; its log is {paths.daemon_log}."


def start_daemon(paths: Paths) -> Started:
    """The daemon in a session of its own: it outlives the terminal and the window that started it."""
    command = daemon_command(os.environ)
    try:
        paths.state.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(paths.daemon_output, "ab", opener=private_opener) as output:
            process = subprocess.Popen(
                command.argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd="/",
                env=command.environment,
            )
            return Started(process, output.tell())
    except OSError as error:
        raise NotWritable(
            f"The service cannot be started: {error.filename or paths.state}: {error.strerror}.",
            "Check the folder's owner and permissions, or set XDG_STATE_HOME to another one.",
        ) from error
