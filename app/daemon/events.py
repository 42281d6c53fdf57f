"""Owns the event log: every transition of every seat as one JSON line, for people who look for a cause and for tests."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

LIMIT_BYTES = 8 * 1024**2


class EventLog:
    """`die_at` ("before:12", "after:12") makes the daemon SIGKILL itself at that line: the exact crash points of the
    kill sweep. The file is bounded: past its limit it starts anew beside the old one."""

    def __init__(self, file: Path, die_at: str = "") -> None:
        self._file = file
        self._number = 0
        self._die_at = die_at

    def transition(self, seat: str, source: str, target: str, event: str, run_id: str) -> int:
        self._number += 1
        line = {"n": self._number, "t": round(time.monotonic(), 4), "seat": seat, "from": source, "to": target}
        self._append(json.dumps(line | {"event": event, "run_id": run_id}))
        self._die("before")
        return self._number

    def done(self) -> None:
        """The effects of the last transition have been begun."""
        self._die("after")

    def _die(self, moment: str) -> None:
        if self._die_at == f"{moment}:{self._number}":
            os.kill(os.getpid(), signal.SIGKILL)

    def _append(self, line: str) -> None:
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            if self._file.exists() and self._file.stat().st_size > LIMIT_BYTES:
                self._file.replace(self._file.with_suffix(".old.jsonl"))
            with self._file.open("a", encoding="utf-8") as out:
                out.write(line + "\n")
        except OSError:
            pass  # a full disk must not stop a switch; the state itself is on the board
