"""Owns the container of one run: knows its processes, proves that it answers on the run's port, ends it and what is left.

A container outlives its client, the keeper and us; it ends by its own engine's word alone. Where the kernel shows its
processes they are counted as the run's, and never signalled: they are not ours to signal. A container engine that does not
answer has ended nothing: the run goes on until it answers, or until the kernel shows that nothing of it is left (I1).
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Collection, Mapping
from pathlib import Path

from app.daemon import docker, processes
from app.daemon.leftovers import Leftover
from app.daemon.logtail import last_lines
from app.daemon.processes import ProcessIdentity, ProcessView
from app.daemon.procfs import all_processes, below, read_file, read_process
from app.daemon.runspec import RunSpec
from app.engines.base import Container

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.5  # between questions after a container that does not run yet
HIDDEN_SECONDS = 30.0  # and after one whose processes the kernel does not show, or of which Docker says nothing
END_SECONDS = 8.0
ID_LENGTH = 64


class ContainerCustody:
    """`head` is the container's first process as this machine's kernel numbers it; None as long as it is not known.

    `left` says what is left of the container after an `end` that was none.
    """

    def __init__(self, spec: RunSpec) -> None:
        assert spec.container is not None
        self.container: Container = spec.container
        self.head: ProcessIdentity | None = None
        self.certainly_gone = False
        self.left = ""
        self._environment = dict(spec.environment)
        self._log = Path(spec.log_path)
        self._look_at = 0.0

    def processes(self) -> list[ProcessView]:
        """Every living process in the container, as far as the kernel shows them. Blocks while nothing is known of it."""
        self._find_head()
        return self.seen()

    def seen(self) -> list[ProcessView]:
        """As `processes`, without asking anybody."""
        if self.head is None or not processes.alive(self.head):
            return []
        found = below({self.head.pid}, all_processes()) | {self.head.pid}
        return [view for pid in sorted(found) if (view := processes.view(pid)) is not None]

    def _find_head(self) -> None:
        now = time.monotonic()
        if self.head is not None or now < self._look_at:
            return
        self._look_at = now + LOOK_SECONDS
        try:
            self._note(docker.look(self.container, self._environment))
        except docker.NoAnswer as error:
            self._look_at = time.monotonic() + HIDDEN_SECONDS  # each silence costs whoever asks its seconds
            log.info("%s could not be looked at: %s", self.container.name, error)

    def _note(self, state: docker.State | None) -> None:
        if self.head is None and state is not None and state.running and state.pid > 1:
            self.head = _first_process(state)
            if self.head is None:
                self._look_at = time.monotonic() + HIDDEN_SECONDS

    def answers_on(self, port: int) -> bool:
        """Whether the port of this machine leads into this container, by the container engine's word for it (I13)."""
        try:
            state = docker.look(self.container, self._environment)
        except docker.NoAnswer:
            return False
        self._note(state)
        return state is not None and state.running and ("127.0.0.1", port) in state.ports

    def end(self, client_code: int | None = None) -> bool:
        """Ends the container; whether nothing of it runs any more. Else `left` says what is known, and to end it is to be
        tried again. `client_code` is how the client ended, when it did so by itself."""
        if self.certainly_gone:
            return True
        try:
            self.certainly_gone = docker.end(self.container, self._environment, END_SECONDS)
            why = "it still runs although it was killed"
        except docker.NoAnswer as error:
            if self._never_ran(client_code) or (self.head is not None and not processes.alive(self.head)):
                return True  # its name stays on record: what may be left of it holds no memory, a next start removes it
            why = f"Docker does not answer, so it may still run ({error})"
        left = "" if self.certainly_gone else f"container {self.container.name}: {why}"
        if left and left != self.left:
            log.info("%s", left)
        self.left = left
        return self.certainly_gone

    def never_made(self) -> None:
        """The client was not even started."""
        self.certainly_gone = True

    def _never_ran(self, client_code: int | None) -> bool:
        """Whether the client gave up before it had reached the service, by its own words at the end of the run's log."""
        said = "\n".join(line for _, line in last_lines(self._log) if line.startswith(docker.CLIENT_SAYS))
        return client_code == docker.CLIENT_FAILED and docker.trouble_in(said) is not None


def _first_process(state: docker.State) -> ProcessIdentity | None:
    """The container's first process; None where the number means another process here, as that of a service in a virtual
    machine does. A process is the container's when its control group or its parent, the container's shim, names the id."""
    number = state.id.encode()
    known = processes.identity(state.pid)
    process = read_process(state.pid)
    if known is None or process is None or process.start_ticks != known.start_ticks or len(number) < ID_LENGTH:
        return None
    named = (f"/proc/{state.pid}/cgroup", f"/proc/{process.parent}/cmdline")
    return known if any(number in (read_file(place) or b"") for place in named) and processes.alive(known) else None


def end_leftovers(
    folder: Path,
    environ: Mapping[str, str] = os.environ,
    skip: Collection[str] = (),
    only: Collection[str] | None = None,
) -> tuple[Leftover, ...]:
    """Ends the containers that earlier daemons left behind, found by their labels; `skip`: runs that are kept now; `only`:
    none but these runs. What could not be ended stays on record.

    Asked only when one may be there: a daemon that never started a container never waits for Docker.
    """

    def meant(run_id: str) -> bool:
        return run_id not in skip and (only is None or run_id in only)

    marked = {file: container for file, container in docker.marked(folder).items() if meant(file.stem)}
    owner, done, silent = docker.owner_of(folder), list[Leftover](), set[str]()
    clients = {container.client for container in marked.values() if container is not None}
    if None in marked.values() and (here := docker.client_of(environ)) is not None:
        clients.add(str(here))
    for client in sorted(clients):
        try:
            found = docker.ours(client, owner, environ)
        except docker.NoAnswer as error:
            silent.add(client)
            done.append(_told("", f"Whether {client} has a container left of an earlier run is not known: {error}."))
            continue
        done += [_ended(each, environ) for each in found.values() if meant(each.run_id)]
    left = {each.run_id for each in done if each.outcome == "survived"}
    for file, container in marked.items():
        if file.stem not in left and (container is None or container.client not in silent):
            file.unlink(missing_ok=True)
    return tuple(done)


def _ended(container: Container, environ: Mapping[str, str]) -> Leftover:
    try:
        gone = docker.end(container, environ, END_SECONDS)
        why = "it does not go"
    except docker.NoAnswer as error:
        gone, why = False, str(error)
    if gone:
        return _told(
            container.run_id,
            f"The container {container.name} was left behind by an Engine Room that ended unexpectedly; it was ended.",
            "ended",
        )
    return _told(container.run_id, f"The container {container.name} of an earlier run cannot be ended: {why}.")


def _told(run_id: str, sentence: str, outcome: str = "survived") -> Leftover:
    return Leftover(run_id=run_id, outcome=outcome, sentence=sentence)
