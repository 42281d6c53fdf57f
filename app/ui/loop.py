"""The window's event loop: Qt and asyncio as one, with what qasync leaves out of asyncio's own loop."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

import qasync


class WindowLoop(qasync.QEventLoop):
    """qasync does not install asyncio's hooks for asynchronous generators. Without them a stream that is dropped half-read

    (a cancelled chat, a lost connection) is finalised outside the loop, which fails and leaks its connection.
    """

    def run_forever(self) -> int:
        before = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(firstiter=self._asyncgen_firstiter_hook, finalizer=self._asyncgen_finalizer_hook)
        try:
            return super().run_forever()
        finally:
            sys.set_asyncgen_hooks(*before)

    def _add_reader(self, fd: object, callback: Callable[..., object], *args: object) -> None:
        super()._add_reader(fd, _unless_done(callback), *args)

    def _add_writer(self, fd: object, callback: Callable[..., object], *args: object) -> None:
        super()._add_writer(fd, _unless_done(callback), *args)


def _unless_done(callback: Callable[..., object]) -> Callable[..., object]:
    """Who waits for a socket gives a future's `set_result` and removes it in a later step; until then qasync calls again
    as long as the socket is ready, and it calls when the wait was cancelled in between."""
    future = getattr(callback, "__self__", None)
    if not isinstance(future, asyncio.Future):
        return callback
    return lambda *args: None if future.done() else callback(*args)
