"""Guards the pin of PySide6: version 6.12.0 drops a reference to True on each emit under Python 3.11 and ends the process."""

from __future__ import annotations

import sys

from PySide6.QtCore import QObject, Signal


class Emitter(QObject):
    told = Signal()


def test_five_thousand_emits_leave_the_references_of_true_alone() -> None:
    emitter, calls = Emitter(), []
    emitter.told.connect(lambda: calls.append(None))
    before = sys.getrefcount(True)
    for _ in range(5_000):
        emitter.told.emit()
    assert len(calls) == 5_000
    assert abs(sys.getrefcount(True) - before) < 50
