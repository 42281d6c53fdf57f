"""Owns the instance lock: one daemon per state folder, told by the kernel and not by a file that may be stale."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

from app.core.errors import AnotherDaemon, NotWritable


class InstanceLock:
    """One daemon per state folder; the lock is the kernel's, so it ends with the process, however that ends."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._held: IO[str] | None = None

    def take(self) -> None:
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            held = self._file.open("a+")
        except OSError as error:
            raise NotWritable(
                f"{self._file.parent} cannot be written: {error.strerror}.",
                "Check the folder's owner and permissions, or set XDG_STATE_HOME to another one.",
            ) from error
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            held.seek(0)
            holder = held.read().strip() or "unknown"
            held.close()
            raise AnotherDaemon(
                f"Engine Room's service is running already (process {holder}).",
                "Use that one; `engine-room status` shows it.",
            ) from error
        held.truncate(0)
        held.write(str(os.getpid()))
        held.flush()
        self._held = held

    def release(self) -> None:
        if self._held is not None:
            self._held.close()
            self._held = None
