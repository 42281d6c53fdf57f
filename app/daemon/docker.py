"""Asks and tells a container engine by its own client: what a container of ours does, its end, and why nobody answers.

Nothing here is done to a container that does not carry our two labels: the run's id, and which Engine Room started it.
Everything blocks for seconds at most; call it in a thread.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from app.core.diagnosis.docker import DOCKER, NO_PERMISSION, NO_SERVICE, START_SERVICE
from app.core.errors import EngineNotInstalled
from app.core.values import from_json, to_json
from app.daemon.asking import Answer, ask
from app.daemon.engine_places import on_path
from app.engines.base import Container
from app.engines.vllm_docker import OWNER_LABEL, RUN_LABEL

ASK_SECONDS = 5.0
LOOK_SECONDS = 0.1
GONE = "no such container"
CLIENTS = ("docker", "podman")
CLIENT_FAILED = (
    125  # the exit code of `run` when it is the client or the service that failed, not what is in the container
)
CLIENT_SAYS = "docker: "  # begins what `run` says of that


def not_installed() -> EngineNotInstalled:
    """A new one each time: an error that is raised twice drags along what the first one came through."""
    return EngineNotInstalled(
        "Docker is not installed: there is no program `docker` on PATH.",
        "Install Docker Engine (or Podman), or choose the engine vllm, which needs neither.",
    )


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What the container engine says of one container. `pid` is its first process, 0 when it has none."""

    id: str
    running: bool
    pid: int = 0
    exit_code: int | None = None
    labels: dict[str, str] = {}
    ports: tuple[tuple[str, int], ...] = ()  # (address, port) of this machine that lead into it

    def is_of(self, container: Container) -> bool:
        return self.labels.get(RUN_LABEL) == container.run_id and self.labels.get(OWNER_LABEL) == container.owner


class NoAnswer(Exception):
    """The container engine did not answer; the argument is why, as it said it."""


def client_of(environ: Mapping[str, str]) -> Path | None:
    return next((client for name in CLIENTS for client in on_path(name, environ)), None)


def owner_of(folder: Path) -> str:
    """Which Engine Room a container belongs to: this machine, this account, this folder of runs."""
    try:
        machine = Path("/etc/machine-id").read_text("ascii").strip()
    except (OSError, ValueError):
        machine = os.uname().nodename
    words = f"{machine}\n{os.getuid()}\n{os.path.realpath(folder)}"
    return hashlib.sha256(words.encode(errors="surrogateescape")).hexdigest()[:24]


def trouble_in(text: str) -> EngineNotInstalled | None:
    """What keeps the client from its service, from the client's own words; None when they name no such thing."""
    for row in DOCKER:
        if row.summary in (NO_SERVICE, NO_PERMISSION) and any(
            row.match(line) is not None for line in text.splitlines()
        ):
            return EngineNotInstalled(row.summary, row.advice)
    return None


def check_service(client: str, environ: Mapping[str, str], seconds: float = ASK_SECONDS) -> None:
    """Raises EngineNotInstalled, with what to do, when no container could be started now."""
    if not os.access(client, os.X_OK):
        raise not_installed()
    answer = ask((client, "version", "--format", "{{.Server.Version}}"), environ, seconds=seconds)
    if answer.code == 0:
        return
    known = trouble_in(answer.text)
    if known is not None:
        raise known
    said = answer.why or _last_line(answer)
    raise EngineNotInstalled(f"{NO_SERVICE[:-1]}: {said}.", START_SERVICE)


def look(container: Container, environ: Mapping[str, str], seconds: float = ASK_SECONDS) -> State | None:
    """The container as it is now; None when it is not there, or is not ours. Raises NoAnswer."""
    answer = _said((container.client, "container", "inspect", container.name), environ, seconds)
    if answer.code != 0:
        return None
    try:
        state = state_from(answer.text)
    except (ValueError, KeyError, TypeError, msgspec.ValidationError) as error:
        raise NoAnswer(f"what it said cannot be read: {error}") from error
    return state if state is not None and state.is_of(container) else None


def state_from(text: str) -> State | None:
    rows = json.loads(text[text.index("[") :])
    if not rows:
        return None
    row = rows[0]
    published = (row.get("NetworkSettings") or {}).get("Ports") or {}
    return State(
        id=str(row["Id"]),
        running=bool(row["State"]["Running"]),
        pid=int(row["State"].get("Pid") or 0),
        exit_code=row["State"].get("ExitCode"),
        labels={str(name): str(value) for name, value in ((row.get("Config") or {}).get("Labels") or {}).items()},
        ports=tuple((str(one["HostIp"]), int(one["HostPort"])) for many in published.values() for one in many or ()),
    )


def end(container: Container, environ: Mapping[str, str], seconds: float = ASK_SECONDS) -> bool:
    """Kills and removes it; whether it is certainly gone. Raises NoAnswer."""
    until = time.monotonic() + seconds
    while True:
        state = look(container, environ)
        if state is None:
            return True
        if state.running:
            _said((container.client, "kill", state.id), environ, ASK_SECONDS)
        else:
            _said((container.client, "rm", "--force", state.id), environ, ASK_SECONDS)
        if time.monotonic() > until:
            return look(container, environ) is None
        time.sleep(LOOK_SECONDS)


def ours(client: str, owner: str, environ: Mapping[str, str]) -> dict[str, Container]:
    """Every container of this Engine Room, by its id, whatever became of it. Raises NoAnswer."""
    rows = f'{{{{.ID}}}}\t{{{{.Names}}}}\t{{{{.Label "{RUN_LABEL}"}}}}'
    label = f"label={OWNER_LABEL}={owner}"
    answer = _said((client, "ps", "--all", "--no-trunc", "--filter", label, "--format", rows), environ, ASK_SECONDS)
    found = {}
    for line in answer.text.splitlines():
        number, _, rest = line.partition("\t")
        name, _, run_id = rest.partition("\t")
        if run_id:
            found[number] = Container(client=client, name=name, run_id=run_id, owner=owner)
    return found


def _said(argv: Iterable[str], environ: Mapping[str, str], seconds: float) -> Answer:
    """An answer that means something: done, or that there is no such container."""
    try:
        answer = ask(argv, environ, seconds=seconds)
    except OSError as error:
        raise NoAnswer(str(error.strerror)) from error
    unknown = GONE in answer.text.lower() or "is not running" in answer.text or "removal of container" in answer.text
    if answer.code == 0 or (answer.code is not None and unknown):
        return answer
    raise NoAnswer(answer.why or _last_line(answer))


def _last_line(answer: Answer) -> str:
    lines = [line.strip() for line in answer.text.splitlines() if line.strip()]
    return lines[-1].rstrip(".")[:300] if lines else f"its client ends with {answer.code}"


# --- what is remembered of a container as long as it may be there -----------------------------------------------------

SUFFIX = ".container"


def mark(folder: Path, container: Container) -> None:
    """Durable before the container is made: only with such a file is Docker asked for leftovers at the next start."""
    file = folder / f"{container.run_id}{SUFFIX}"
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(to_json(container))
        opened.flush()
        os.fsync(descriptor)


def unmark(folder: Path, container: Container) -> None:
    (folder / f"{container.run_id}{SUFFIX}").unlink(missing_ok=True)


def marked(folder: Path) -> dict[Path, Container | None]:
    """File → container; None for a file that cannot be believed."""
    found: dict[Path, Container | None] = {}
    for file in sorted(folder.glob(f"*{SUFFIX}")):
        try:
            found[file] = from_json(Container, file.read_bytes())
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            found[file] = None
    return found
