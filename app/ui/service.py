"""Decides when the window starts the service, and does it: detached, with its output in the service's own log."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from app.core.daemon_command import daemon_command, private_opener
from app.core.paths import Paths

ATTEMPTS, WITHIN_SECONDS = 3, 60.0
PATIENCE_SECONDS = 20.0


class ServiceProcess:
    """At most three starts a minute; after that a person must ask (`allow`). Calls block for milliseconds only."""

    def __init__(self, paths: Paths, argv: tuple[str, ...] = ()) -> None:
        """`argv`: another command in the service's place, for tests."""
        self._paths = paths
        self._command = daemon_command(os.environ)
        if argv:
            self._command = self._command._replace(argv=argv)
        self._process: subprocess.Popen[bytes] | None = None
        self._starts: list[float] = []

    def allow(self) -> None:
        self._starts.clear()

    def answered(self) -> None:
        """The service is there, whoever started it."""

    def is_young(self, now: float) -> bool:
        """Whether a service was just started and may answer any moment."""
        return bool(self._starts) and now - self._starts[-1] < PATIENCE_SECONDS

    def ensure(self, now: float) -> str:
        """Starts the service unless a start is under way; returns "" or a sentence saying why there is none."""
        exit_code = self._process.poll() if self._process is not None else None
        if self._process is not None and exit_code is None:
            if self.is_young(now):
                return ""
            return f"The Engine Room service runs (pid {self._process.pid}) but does not answer. Its log: {self._log}"
        self._starts = [at for at in self._starts if now - at < WITHIN_SECONDS]
        if len(self._starts) >= ATTEMPTS:
            return self._trouble(exit_code)
        try:
            self._start(now)
        except OSError as error:
            return f"The Engine Room service could not be started: {error.strerror or error}. Its log: {self._log}"
        return ""

    @property
    def _log(self) -> Path:
        return self._paths.daemon_log

    def _start(self, now: float) -> None:
        self._log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(self._paths.daemon_output, "ab", opener=private_opener) as output:
            self._process = subprocess.Popen(
                self._command.argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd="/",
                env=self._command.environment,
            )
        self._starts.append(now)

    def _trouble(self, exit_code: int | None) -> str:
        last = ""
        try:
            last = (
                self._paths.daemon_output.read_bytes()[-4000:].decode("utf-8", "replace").strip().splitlines()[-1][:300]
            )
        except (OSError, IndexError):
            pass
        ended = f" (exit code {exit_code})" if exit_code is not None else ""
        said = f" It said: {last}" if last else ""
        return f"The Engine Room service ended {ATTEMPTS} times within a minute{ended}.{said} Its log: {self._log}"
