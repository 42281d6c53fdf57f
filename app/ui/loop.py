"""The window's event loop: Qt and asyncio as one, with what qasync leaves out of asyncio's run_forever."""

from __future__ import annotations

import sys

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
