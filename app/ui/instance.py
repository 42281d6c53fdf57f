"""Decides which window is the one of this account: a lock says who is first, a socket lets the second raise the first."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject

if TYPE_CHECKING:
    import socket


class SingleInstance(QObject):
    """Holds `<folder>/window.lock` for its lifetime; `raised` is called with an activation token when another start asks."""

    def __init__(self, folder: Path, raised: Callable[[str], None]) -> None:
        super().__init__()
        self._folder = folder
        self._raised = raised
        self._lock: int | None = None
        self._socket: socket.socket | None = None

    def take(self) -> bool:
        """True when this is the first window; else the first one has been asked to come forward."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(self._folder / "window.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            self._ask_other()
            return False
        self._lock = lock
        return True

    def close(self) -> None:
        if self._socket is not None:
            self._notifier.setEnabled(False)
            self._socket.close()
            self._socket = None
            self._address.unlink(missing_ok=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @property
    def _address(self) -> Path:
        return self._folder / "window.sock"

    def _ask_other(self) -> None:
        import socket

        token = os.environ.get("XDG_ACTIVATION_TOKEN", "")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asking:
            try:
                asking.sendto(b"raise " + token.encode(), os.fspath(self._address))
            except OSError:
                pass  # it is just starting or leaving: nothing to raise

    def listen(self) -> None:
        """Hears from now on when another start asks; not needed for the first paint."""
        import socket

        from PySide6.QtCore import QSocketNotifier

        self._address.unlink(missing_ok=True)  # left by a window that was killed; we hold the lock
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        listening.bind(os.fspath(self._address))
        self._address.chmod(0o600)
        self._socket = listening
        self._notifier = QSocketNotifier(listening.fileno(), QSocketNotifier.Type.Read, self)
        self._notifier.activated.connect(self._asked)

    def _asked(self) -> None:
        if self._socket is None:
            return
        try:
            message = self._socket.recv(4096)
        except OSError:
            return
        if message.startswith(b"raise "):
            self._raised(message[6:].decode("utf-8", "replace"))
