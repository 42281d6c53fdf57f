"""Owns what is known of every run, present and past: its view, its place in the database, its log, its secrets."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace

from app.core.lifecycle import Failure
from app.core.redaction import masked, secrets_of
from app.core.snapshot import RunView
from app.daemon.database import Database
from app.daemon.preparing import Prepared
from app.daemon.tasks import Tasks

log = logging.getLogger(__name__)


class RunBook:
    """At most `kept()` runs, and all that live; with a run's view go its log and all that was prepared for it. Newest last."""

    def __init__(self, database: Database, folder: Path, kept: Callable[[], int], changed: Callable[[], None]) -> None:
        self._database = database
        self._folder = folder
        self._kept = kept
        self._changed = changed
        self._tasks = Tasks()
        self.views: dict[str, RunView] = {}
        self.prepared: dict[str, Prepared] = {}
        self.on_kept: Callable[[RunView, Prepared], None] = lambda _view, _prepared: None  # its manifest follows it
        self._environments: dict[str, dict[str, str]] = {}  # profile id → environment, for the secrets of old runs

    async def open(self) -> None:
        """Reads the past. A run without an end ended with the daemon that had it; a log without a run goes."""
        for run in reversed(await self._database.runs()):
            if run.ended_at_unix is None:
                run = replace(run, outcome="leftover", ended_at_unix=time.time())
                await self._database.keep_run(run)
            self.views[run.id] = run
        known = {f"{run_id}.log" for run_id in self.views}
        for file in self._folder.glob("*.log"):
            if file.name not in known:
                file.unlink(missing_ok=True)

    def keep(self, view: RunView) -> None:
        self.views[view.id] = view
        for run_id in list(self.views)[: -self._kept()]:
            if self.views[run_id].ended_at_unix is not None:  # another seat's run may live through many of ours
                self._forget(run_id)
        self._tasks.start(self._write(view), f"keep {view.id}")
        if (prepared := self.prepared.get(view.id)) is not None:
            self.on_kept(view, prepared)
        self._changed()

    def _forget(self, run_id: str) -> None:
        view = self.views.pop(run_id)
        self.prepared.pop(run_id, None)
        Path(view.log_path).unlink(missing_ok=True)

    async def _write(self, view: RunView) -> None:
        """A run that cannot be written is still on the board; the database tells its own trouble."""
        try:
            living = [run_id for run_id, each in self.views.items() if each.ended_at_unix is None]
            await self._database.keep_run(view, living)
        except Exception as error:
            log.warning("the run %s could not be written: %s", view.id, error)

    def finish(self, run_id: str, outcome: str, failure: Failure | None) -> None:
        view = self.views.get(run_id)
        if view is not None and view.ended_at_unix is None:
            self.keep(replace(view, outcome=outcome, failure=failure, ended_at_unix=time.time()))

    def note_environment(self, profile_id: str, environment: dict[str, str]) -> None:
        """A profile's environment, so that its values stay hidden in logs that outlive the daemon."""
        self._environments[profile_id] = environment

    def secrets_of(self, run_id: str) -> tuple[str, ...]:
        """Every value that must not be shown of this run's log: the profile's, the engine's key, the daemon's own."""
        view, prepared = self.views.get(run_id), self.prepared.get(run_id)
        hidden = list(secrets_of(os.environ))
        if view is not None:
            hidden += secrets_of(self._environments.get(view.profile_id, {}))
        if prepared is not None:
            hidden += secrets_of(prepared.profile.environment)
            if prepared.command is not None:
                hidden += prepared.command.secrets
            if prepared.launch is not None and prepared.launch.api_key:
                hidden.append(prepared.launch.api_key)
        return tuple(dict.fromkeys(hidden))

    def redacted(self, run_id: str, failure: Failure) -> Failure:
        """A failure travels and is kept: what it quotes of the log is redacted here, at its birth (I18)."""
        hidden = self.secrets_of(run_id)

        def clean(text: str) -> str:
            return masked(text.encode(), hidden).decode("utf-8", "replace")

        evidence = failure.evidence
        return replace(
            failure,
            summary=clean(failure.summary),
            advice=clean(failure.advice),
            last_lines=tuple(clean(line) for line in failure.last_lines),
            evidence=None if evidence is None else replace(evidence, line=clean(evidence.line)),
        )

    async def close(self) -> None:
        """Waits until what was kept is written."""
        await self._tasks.settle()
