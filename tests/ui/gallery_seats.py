"""Draws seats, lending and idle hints into PNG files, to be looked at: `gallery_seats.py FOLDER [name-part …]`."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import msgspec
from PySide6.QtWidgets import QApplication

from app.core.snapshot import Seats, SeatView
from tests.ui import stage, worlds
from tests.ui.test_seats_ui import FREE, READY, loading_on_second

SIZES = {"dark": (1280, 800), "light": (1024, 640)}
STATES: dict[str, tuple[SeatView, ...]] = {
    "one": (READY,),
    "two_free": (READY, FREE),
    "two_loading": (READY, loading_on_second()),
    "lent": (SeatView(name="main", wanted="qwen3-32b", resting="lent", lent_until_unix=time.time() + 1500),),
    "idle_hint": (msgspec.structs.replace(READY, idle_unload_at_unix=time.time() + 200),),
    "resting": (SeatView(name="main", wanted="qwen3-32b", resting="idle"), loading_on_second()),
    "outdated": (msgspec.structs.replace(READY, outdated=True),),
}


def main() -> None:
    folder, wanted = Path(sys.argv[1]), sys.argv[2:]
    folder.mkdir(parents=True, exist_ok=True)
    app = QApplication([])
    app.setStyle("Fusion")
    with tempfile.TemporaryDirectory() as scratch:
        for state, seats in STATES.items():
            for theme in ("dark", "light"):
                name = f"seats-{state}-{theme}"
                if wanted and not all(part in name for part in wanted):
                    continue
                world = msgspec.structs.replace(worlds.WORLDS["ready"], seats=Seats(seats=seats))
                made = stage.window(Path(scratch) / name, world, theme)
                made.window.resize(*SIZES[theme])
                made.window.show()
                for _ in range(8):
                    app.processEvents()
                made.window.grab().save(str(folder / f"{name}.png"))
                made.window.deleteLater()
                app.processEvents()


if __name__ == "__main__":
    main()
