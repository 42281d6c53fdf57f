"""Runs the real daemon as a process of its own on real sockets, and speaks to it as any client does."""

import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec

from app.core import lifecycle, snapshot
from app.core.control import Accepted, Unload, Want
from app.core.errors import EngineRoomError, ErrorReport, raised_from
from tests.rig.custody import end, look_at, processes_of
from tests.rig.home import Home
from tests.rig.waiting import TooLate, eventually

REPOSITORY = Path(__file__).resolve().parents[2]
OTHERS = re.compile(r"; left alone\.")  # engines of other homes on this machine: seen, said, never touched (I5)
# Of a busy machine; tests never judge speed.
SLOW = re.compile(r"take long to read; the |the NVIDIA driver (did not answer within|answers again after)")
LEFT_BEHIND = re.compile(r"The engine of run (\S+) was left behind")  # another home's run is not this test's matter


class Slices(threading.Thread):
    """Follows /control/stream; keeps the latest value of each slice and every phase that was seen, in order."""

    def __init__(self, socket_path: Path) -> None:
        super().__init__(daemon=True, name="slices")
        self._socket_path = socket_path
        self.latest: dict[str, msgspec.Struct] = {}
        self.told: list[tuple[str, msgspec.Struct]] = []  # every value that came, oldest first
        self.seats_seen: list[snapshot.SeatView] = []
        self.changed = threading.Condition()
        self.over = ""
        self.raw = b""  # everything that came, for searches for what must never come
        self._client = uds_client(socket_path)

    def run(self) -> None:
        try:
            with self._client.stream("GET", "/control/stream", timeout=None) as answer:
                name = ""
                for line in _lines(answer.iter_bytes()):
                    self.raw += line.encode() + b"\n"
                    if line.startswith("event:"):
                        name = line[6:].strip()
                    elif line.startswith("data:") and name in snapshot.SLICES:
                        self._keep(name, snapshot.from_json(snapshot.SLICES[name], line[5:].strip()))
        except (httpx.HTTPError, OSError, RuntimeError, ValueError) as error:
            self.over = f"{type(error).__name__}: {error}"
        with self.changed:
            self.over = self.over or "the daemon ended the stream"
            self.changed.notify_all()

    def _keep(self, name: str, value: msgspec.Struct) -> None:
        with self.changed:
            self.latest[name] = value
            self.told.append((name, value))
            if isinstance(value, snapshot.Seats):
                self.seats_seen += value.seats
            self.changed.notify_all()

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self._client.close()


def _lines(pieces: Iterable[bytes]) -> Iterator[str]:
    """Lines as an event stream has them. httpx would end one at each of Unicode's separators too, inside of a value."""
    left = b""
    for piece in pieces:
        *whole, left = (left + piece).split(b"\n")
        for line in whole:
            yield line.removesuffix(b"\r").decode()


def uds_client(socket_path: Path, timeout: float = 60.0) -> httpx.Client:
    transport = httpx.HTTPTransport(uds=str(socket_path))
    return httpx.Client(transport=transport, base_url="http://engine-room", timeout=timeout)


class Daemon:
    """`start()` it when the profiles are written. Everything that it leaves behind fails the test that used it."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.process: subprocess.Popen[bytes] | None = None
        self.output = home.folder / "daemon-output.log"
        self.client: httpx.Client = uds_client(home.paths.socket)
        self.slices_seen: Slices | None = None
        self._expected: list[re.Pattern[str]] = [OTHERS, SLOW]
        self.adopted_pid = 0  # of a daemon that somebody else started
        self._asked_at = 0.0  # both processes read the same monotonic clock

    @property
    def environment(self) -> dict[str, str]:
        return self.home.environment

    # --- its life ---

    def start(self, *arguments: str, wait: bool = True, **environment: str) -> "Daemon":
        assert self.process is None or self.process.poll() is not None, "it runs already"
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "app", "serve", *arguments],
                cwd=REPOSITORY,
                env={**self.environment, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        started = look_at(self.process.pid)
        assert started is not None
        self.home.owners.append(f"{started.pid}:{started.start_ticks}")
        if wait:
            self.wait_until_up()
        return self

    def wait_until_up(self, deadline: float = 60.0) -> None:
        def answers() -> bool:
            if self.process is not None and self.process.poll() is not None:
                raise RuntimeError(f"the daemon ended with {self.process.returncode}:\n{self.log_tail()}")
            if not self._listens():
                return False
            try:
                return self.hello().api == snapshot.API_VERSION
            except httpx.HTTPError:
                return False

        eventually(answers, deadline, "the daemon answers")
        if self.slices_seen is not None:
            self.slices_seen.close()
        self.slices_seen = Slices(self.home.paths.socket)
        self.slices_seen.start()
        self.wait_slice("service", lambda service: service.version and service.gateway_url)

    def adopt(self, deadline: float = 60.0) -> "Daemon":
        """Speaks from now on to the daemon that somebody else started in this home; `close` asks it to go as well."""
        self.wait_until_up(deadline)
        self.adopted_pid = self.hello().pid
        started = look_at(self.adopted_pid)
        assert started is not None
        self.home.owners.append(f"{started.pid}:{started.start_ticks}")
        return self

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def _listens(self) -> bool:
        """httpcore leaves a socket open when nobody listens, and a warning is an error here."""
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(self.home.paths.socket))
            except OSError:
                return False
        return True

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """SIGKILL: the crash of the daemon."""
        self.signal(signal.SIGKILL)
        self.wait_end()

    def terminate(self, deadline: float = 60.0) -> int:
        self.signal(signal.SIGTERM)
        return self.wait_end(deadline)

    def signal(self, number: int) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def wait_end(self, deadline: float = 60.0) -> int:
        assert self.process is not None
        return self.process.wait(deadline)

    def restart(self, **environment: str) -> "Daemon":
        if self.running:
            self.terminate()
        return self.start(**environment)

    def close(self) -> None:
        """Asks it to go; insists after a while. Idempotent."""
        if self.running:
            with contextlib.suppress(httpx.HTTPError, EngineRoomError, AssertionError):
                self.post("/control/shutdown", {"reason": "the test is over"})
            try:
                self.wait_end()
            except subprocess.TimeoutExpired:
                self.signal(signal.SIGTERM)
                try:
                    self.wait_end()
                except subprocess.TimeoutExpired:
                    self.kill()
        elif self.process is None and self.adopted_pid and self._listens():
            with contextlib.suppress(httpx.HTTPError, EngineRoomError, AssertionError):
                self.post("/control/shutdown", {"reason": "the test is over"})
        if self.slices_seen is not None:
            self.slices_seen.close()
            self.slices_seen.join(60)
        self.client.close()

    # --- its control API ---

    def get(self, path: str) -> httpx.Response:
        self._must_run()
        return self._checked(self.client.get(path))

    def _must_run(self) -> None:
        if self.process is not None and self.process.poll() is not None:
            raise httpx.ConnectError(f"the daemon is gone: exit code {self.process.returncode}")

    def post(self, path: str, value: Any = None) -> httpx.Response:
        self._must_run()
        body = b"{}" if value is None else snapshot.to_json(value)
        return self._checked(self.client.post(path, content=body, headers={"Content-Type": "application/json"}))

    def _checked(self, answer: httpx.Response) -> httpx.Response:
        """Raises what the daemon raised."""
        if answer.status_code >= 400:
            try:
                report = snapshot.from_json(ErrorReport, answer.content)
            except msgspec.DecodeError:
                raise AssertionError(f"not an error report: {answer.status_code} {answer.content[:500]!r}") from None
            raise raised_from(report)
        return answer

    def hello(self) -> snapshot.Hello:
        return snapshot.from_json(snapshot.Hello, self.get("/control/hello").content)

    def slices(self) -> dict[str, Any]:
        whole = msgspec.json.decode(self.get("/control/slices").content, type=dict[str, msgspec.Raw])
        return {name: snapshot.from_json(kind, bytes(whole[name])) for name, kind in snapshot.SLICES.items()}

    def want(self, profile: str, seat: str = "main", **more: Any) -> Accepted:
        self._asked_at = time.monotonic()
        return snapshot.from_json(
            Accepted, self.post("/control/want", Want(profile=profile, seat=seat, **more)).content
        )

    def unload(self, seat: str = "main") -> Accepted:
        return snapshot.from_json(Accepted, self.post("/control/unload", Unload(seat=seat)).content)

    def restart_engine(self, seat: str = "main") -> Accepted:
        return snapshot.from_json(Accepted, self.post("/control/restart", Unload(seat=seat)).content)

    def run(self, run_id: str) -> snapshot.RunView:
        return snapshot.from_json(snapshot.RunView, self.get(f"/control/runs/{run_id}").content)

    def run_log(self, run_id: str, start: int = 0, limit: int = 1 << 20) -> bytes:
        return self.get(f"/control/runs/{run_id}/log?from={start}&limit={limit}&wait=0").content

    # --- waiting for what it tells ---

    def wait_slice(self, name: str, condition: Callable[[Any], Any], deadline: float = 60.0, what: str = "") -> Any:
        """The slice's value once `condition` holds for it. None that comes meanwhile is missed, however late we wake up."""
        stream = self.slices_seen
        assert stream is not None, "start the daemon first"
        end = time.monotonic() + deadline
        with stream.changed:
            seen = len(stream.told)
            while True:
                value = stream.latest.get(name)
                since = [told for its, told in stream.told[seen:] if its == name]
                seen = len(stream.told)
                for each in since or [value]:
                    if each is not None and condition(each):
                        return each
                left = end - time.monotonic()
                if left <= 0 or stream.over:
                    raise TooLate(f"{what or name}: not within {deadline:g} s {stream.over}; last: {value}")
                stream.changed.wait(left)

    def seat(self, name: str = "main") -> snapshot.SeatView:
        seats: snapshot.Seats = self.wait_slice("seats", lambda value: value.seats)
        return next(seat for seat in seats.seats if seat.name == name)

    def wait_seat(
        self, condition: Callable[[snapshot.SeatView], Any], deadline: float = 60.0, seat: str = "main", what: str = ""
    ) -> snapshot.SeatView:
        def holds(seats: snapshot.Seats) -> bool:
            return any(view.name == seat and condition(view) for view in seats.seats)

        seats = self.wait_slice("seats", holds, deadline, what or f"seat {seat}")
        return next(view for view in seats.seats if view.name == seat)

    def wait_phase(
        self, phase: type[Any], profile: str | None = None, deadline: float = 60.0, seat: str = "main"
    ) -> snapshot.SeatView:
        """The seat once it is in that phase (for that profile); fails at once when it failed instead."""

        def holds(view: snapshot.SeatView) -> bool:
            return isinstance(view.phase, phase) and (profile is None or profile_of(view) == profile)

        return self.wait_seat(holds, deadline, seat, f"{phase.__name__} {profile or ''}")

    def load(self, profile: str, deadline: float = 60.0, **more: Any) -> snapshot.SeatView:
        """Wants the profile and waits until it is Ready; a failure is told at once."""
        self.want(profile, **more)

        def settled(view: snapshot.SeatView) -> bool:
            assert not self._failed_since_asked(view), f"{profile} failed: {view.phase}"
            return isinstance(view.phase, lifecycle.Ready) and view.phase.profile_id == profile

        return self.wait_seat(settled, deadline, what=f"{profile} is Ready")

    def wait_failed(self, deadline: float = 60.0) -> lifecycle.Failure:
        """Why the last thing that was wanted is not there: the seat's failure since then."""

        phase = self.wait_seat(self._failed_since_asked, deadline, what="a failure").phase
        assert isinstance(phase, lifecycle.Failed)
        return phase.failure

    def _failed_since_asked(self, view: snapshot.SeatView) -> bool:
        """What we hear may still be of the load before."""
        return isinstance(view.phase, lifecycle.Failed) and view.phase.since >= self._asked_at

    def wait_idle(self, deadline: float = 60.0) -> snapshot.SeatView:
        return self.wait_phase(lifecycle.Idle, deadline=deadline)

    # --- its endpoint ---

    @property
    def gateway_url(self) -> str:
        service = self.wait_slice("service", lambda value: value.gateway_url)
        return str(service.gateway_url)

    def gateway(self, timeout: float = 60.0) -> httpx.Client:
        """A client of /v1; close it, or use it in a `with`."""
        return httpx.Client(base_url=self.gateway_url, timeout=timeout)

    # --- what it wrote ---

    def events(self) -> list[dict[str, Any]]:
        """Every transition of every seat since the home exists, oldest first."""
        if not self.home.event_log.exists():
            return []
        lines = self.home.event_log.read_text("utf-8").splitlines()
        return [json.loads(line) for line in lines if line.endswith("}")]

    def phases(self) -> list[str]:
        return [line["to"] for line in self.events()]

    def log_text(self) -> str:
        parts = [self.output, self.home.paths.daemon_log]
        return "\n".join(file.read_text("utf-8", "replace") for file in parts if file.exists())

    def log_tail(self, lines: int = 60) -> str:
        return "\n".join(self.log_text().splitlines()[-lines:])

    def expect_warnings(self, *patterns: str) -> None:
        """Warnings that belong to this test; all others fail it."""
        self._expected += [re.compile(pattern) for pattern in patterns]

    def unexpected_warnings(self) -> list[str]:
        suspicious = re.compile(r"\b(WARNING|ERROR|CRITICAL)\b|Traceback \(most recent call last\)|Warning: ")
        quoted = re.compile(r'"level": ?"(warning|error|critical)"', re.IGNORECASE)
        found = [line for line in self.log_text().splitlines() if suspicious.search(line) or quoted.search(line)]
        mine = {str(event["run_id"]) for event in self.events()}
        found = [line for line in found if not ((left := LEFT_BEHIND.search(line)) and left[1] not in mine)]
        return [line for line in found if not any(pattern.search(line) for pattern in self._expected)]

    def engine_pid(self) -> int:
        view = self.seat()
        assert view.run is not None
        assert view.run.pid is not None
        return view.run.pid


def profile_of(view: snapshot.SeatView) -> str | None:
    phase = view.phase
    if isinstance(phase, lifecycle.Failed):
        return phase.failure.profile_id
    return getattr(phase, "profile_id", None)


# --- clients of /v1 --------------------------------------------------------------------------------------------------


def chat_body(model: str = "", content: str = "hello there", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": content}], **more}


def streamed(client: httpx.Client, **body: Any) -> Iterator[dict[str, Any]]:
    """The events of a streamed chat answer. The last one is {"done": True} when [DONE] came, and {"broken": why} when
    the connection ended in the middle of it."""
    with client.stream("POST", "/chat/completions", json=chat_body(**body, stream=True)) as answer:
        if answer.status_code != 200:
            answer.read()
            yield {"status": answer.status_code, **answer.json()}
            return
        try:
            for line in answer.iter_lines():
                if line == "data: [DONE]":
                    yield {"done": True}
                elif line.startswith("data:"):
                    yield json.loads(line[5:])
        except httpx.RemoteProtocolError as error:
            yield {"broken": str(error)}


class Loop(threading.Thread):
    """A client that asks /v1 again and again, as an editor would, and keeps every outcome (I6, I8)."""

    def __init__(self, url: str, model: str = "", stream: bool = True, timeout: float = 60.0, **body: Any) -> None:
        super().__init__(daemon=True, name="client loop")
        self._url, self._model, self._stream, self._timeout, self._body = url, model, stream, timeout, body
        self._over = threading.Event()
        self.outcomes: list[dict[str, Any]] = []

    def run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=self._timeout) as client:
            while not self._over.is_set():
                self.outcomes.append(self._once(client))

    def _once(self, client: httpx.Client) -> dict[str, Any]:
        begun = time.monotonic()
        text, done, problem, status = "", False, "", 0
        try:
            if self._stream:
                status = 200
                for event in streamed(client, model=self._model, **self._body):
                    status = event.get("status", status)
                    done = done or bool(event.get("done"))
                    if "error" in event or "broken" in event:
                        problem = json.dumps(event)
                    for choice in event.get("choices", ()):
                        text += choice["delta"].get("content") or ""
            else:
                answer = client.post("/chat/completions", json=chat_body(self._model, **self._body))
                status = answer.status_code
                if status == 200:
                    text, done = answer.json()["choices"][0]["message"]["content"], True
                else:
                    problem = answer.text
        except httpx.HTTPError as error:
            problem = f"{type(error).__name__}: {error}"
        whole = {"status": status, "text": text, "done": done, "problem": problem}
        return {**whole, "began": begun, "seconds": time.monotonic() - begun}

    def __enter__(self) -> "Loop":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join(self._timeout + 10)
        assert not self.is_alive(), "a request got no outcome within its deadline (I6)"


def kill_verified(pid: int, home: Home) -> None:
    """SIGKILL for a process that belongs to this home, and for no other."""
    mine = {process.pid: process for process in processes_of(home)}
    assert pid in mine, f"pid {pid} is not of this test"
    end(mine[pid])
