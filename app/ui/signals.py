"""Turns SIGTERM, SIGINT and SIGHUP into a call in Qt's loop."""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Callable

from PySide6.QtCore import QSocketNotifier


class Signals:
    """A byte on a socket wakes the loop, whatever it is doing; `tell` says who is called for each signal until `close`.

    A signal that comes before there is anybody to tell is kept for them.
    """

    def __init__(self) -> None:
        self._reading, self._writing = socket.socketpair()
        for end in (self._reading, self._writing):
            end.setblocking(False)
        self._before = signal.set_wakeup_fd(self._writing.fileno(), warn_on_full_buffer=False)
        self._notifier = QSocketNotifier(self._reading.fileno(), QSocketNotifier.Type.Read)
        self._notifier.activated.connect(self._woken)
        self._tell: Callable[[], None] | None = None
        self._pending = False
        self._handlers = {
            number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        }

    def _woken(self) -> None:
        with contextlib.suppress(BlockingIOError):
            numbers = self._reading.recv(64)
            if any(number in self._handlers for number in numbers):
                self._pending = True
                self._pass_on()

    def tell(self, told: Callable[[], None]) -> None:
        self._tell = told
        self._pass_on()

    def _pass_on(self) -> None:
        if self._pending and self._tell is not None:
            self._pending = False
            self._tell()

    def close(self) -> None:
        self._notifier.setEnabled(False)
        signal.set_wakeup_fd(self._before)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._reading.close()
        self._writing.close()
