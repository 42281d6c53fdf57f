"""Draws the window in every state, theme and size into PNG files, to be looked at: `gallery.py FOLDER [name-part …]`."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from PySide6.QtWidgets import QApplication

from tests.ui import stage, worlds

SIZES = {"1024": (1024, 640), "1280": (1280, 800), "1920": (1920, 1080)}


def shots() -> Iterator[tuple[str, str, str, str]]:
    """(world, page, theme, size) of each picture."""
    for world in (*worlds.WORLDS, "gone", "connecting"):
        yield world, "models", "dark", "1280"
        yield world, "models", "light", "1024"
    for page in ("monitor", "settings"):
        for world in ("ready", "no_gpu", "gone", "connecting"):
            yield world, page, "dark", "1280"
            yield world, page, "light", "1024"
    for page in ("models", "monitor", "settings"):
        yield "ready", page, "light", "1920"
    for page in ("chat", "logs"):
        yield "ready", page, "dark", "1280"
        yield "ready", page, "light", "1024"


def main() -> None:
    folder, wanted = Path(sys.argv[1]), sys.argv[2:]
    folder.mkdir(parents=True, exist_ok=True)
    app = QApplication([])
    app.setStyle("Fusion")
    with tempfile.TemporaryDirectory() as scratch:
        for number, (world, page, theme, size) in enumerate(shots()):
            name = f"{page}-{world}-{theme}-{size}"
            if wanted and not all(part in name for part in wanted):
                continue
            made = stage.window(Path(scratch) / str(number), worlds.WORLDS.get(world), theme, gone=world == "gone")
            made.window.resize(*SIZES[size])
            try:
                made.window.open_page(page)
            except ImportError as missing:
                print(f"{name}: {missing}")
                continue
            made.window.show()
            for _ in range(8):
                app.processEvents()
            if world == "two_gpus":
                made.window.open_page("models")._point("gemma-3-12b")  # what hovering shows
                made.window.open_page("models")._show_memory()
                app.processEvents()
            made.window.grab().save(str(folder / f"{name}.png"))
            made.window.deleteLater()
            app.processEvents()


if __name__ == "__main__":
    main()
