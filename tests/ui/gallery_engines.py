"""Draws the Engines page in every state into PNG files, to be looked at: `gallery_engines.py FOLDER [name-part …]`."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from PySide6.QtWidgets import QApplication

from tests.ui import stage
from tests.ui.engine_worlds import CACHES, ENGINE_WORLDS
from tests.ui.reading import click

SIZES = {"dark": (1280, 900), "light": (1024, 640)}


def main() -> None:
    folder, wanted = Path(sys.argv[1]), sys.argv[2:]
    folder.mkdir(parents=True, exist_ok=True)
    app = QApplication([])
    app.setStyle("Fusion")
    with tempfile.TemporaryDirectory() as scratch:
        for world_name, world in ENGINE_WORLDS.items():
            for theme in ("dark", "light"):
                for act in ("", "unfolded"):
                    name = f"engines-{world_name}-{theme}" + (f"-{act}" if act else "")
                    if (wanted and not all(part in name for part in wanted)) or (act and world_name != "update"):
                        continue
                    made = stage.window(Path(scratch) / name, world, theme)
                    made.link.answers["/control/caches"] = CACHES
                    made.window.resize(*SIZES[theme])
                    made.window.open_page("engines")
                    made.window.show()
                    if act:
                        click(made.window, "More versions of llama.cpp")
                    for _ in range(8):
                        app.processEvents()
                    made.window.grab().save(str(folder / f"{name}.png"))
                    made.window.deleteLater()
                    app.processEvents()


if __name__ == "__main__":
    main()
