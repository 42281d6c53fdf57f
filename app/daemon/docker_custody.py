"""Owns the container of one run: knows its processes, proves that it answers on the run's port, ends it and what is left.

A container outlives its client, the keeper and us; it ends by its own engine's word alone. Where the kernel shows its
processes they are counted as the run's, and never signalled: they are not ours to signal.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Collection, Mapping
from pathlib import Path

from app.daemon import docker, processes
from app.daemon.leftovers import Leftover
from app.daemon.processes import ProcessIdentity, ProcessView
from app.daemon.procfs import all_processes, below
from app.daemon.runspec import RunSpec
from app.engines.base import Container

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.5  # between questions after a container that does not run yet
END_SECONDS = 8.0


class ContainerCustody:
    """`head` is the container's first process as this machine's kernel numbers it; None as long as it is not known."""

    def __init__(self, spec: RunSpec) -> None:
        assert spec.container is not None
        self.container: Container = spec.container
        self.head: ProcessIdentity | None = None
        self.certainly_gone = False
        self._environment = dict(spec.environment)
        self._port = spec.port
        self._looked_at = 0.0

    def processes(self) -> list[ProcessView]:
        """Every living process in the container, as far as the kernel shows them. Blocks while nothing is known of it."""
        self._find_head()
        if self.head is None or not processes.alive(self.head):
            return []
        found = below({self.head.pid}, all_processes()) | {self.head.pid}
        return [view for pid in sorted(found) if (view := processes.view(pid)) is not None]

    def _find_head(self) -> None:
        now = time.monotonic()
        if self.head is not None or now - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = now
        try:
            self._note(docker.look(self.container, self._environment))
        except docker.NoAnswer as error:
            log.info("%s could not be looked at: %s", self.container.name, error)

    def _note(self, state: docker.State | None) -> None:
        if self.head is None and state is not None and state.running and state.pid > 1:
            self.head = processes.identity(state.pid)

    def answers_on(self, port: int) -> bool:
        """Whether the port of this machine leads into this container, by the container engine's word for it (I13)."""
        try:
            state = docker.look(self.container, self._environment)
        except docker.NoAnswer:
            return False
        self._note(state)
        return state is not None and state.running and ("127.0.0.1", port) in state.ports

    def end(self) -> tuple[ProcessView, ...]:
        """Ends the container. What is returned would not go: its processes, where the engine of containers is silent."""
        try:
            self.certainly_gone = docker.end(self.container, self._environment, END_SECONDS)
        except docker.NoAnswer as error:
            log.info("%s could not be ended by Docker: %s", self.container.name, error)
        return () if self.certainly_gone else tuple(self.processes())


def end_leftovers(
    folder: Path, environ: Mapping[str, str] = os.environ, skip: Collection[str] = ()
) -> tuple[Leftover, ...]:
    """Ends the containers that earlier daemons left behind, found by their labels; `skip`: runs that are kept now.

    Asked only when one may be there: a daemon that never started a container never waits for Docker.
    """
    marked = {file: container for file, container in docker.marked(folder).items() if file.stem not in skip}
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
        done += [_ended(each, environ) for each in found.values() if each.run_id not in skip]
    for file, container in marked.items():
        if container is None or container.client not in silent:
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
