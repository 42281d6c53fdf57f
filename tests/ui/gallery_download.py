"""Draws the Download page in every state into PNG files, to be looked at: `gallery_download.py FOLDER [name-part …]`."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from PySide6.QtWidgets import QApplication

from tests.ui import stage
from tests.ui.download_worlds import STATES
from tests.ui.reading import click

SIZES = {"dark": (1280, 900), "light": (1024, 760)}


def main() -> None:
    folder, wanted = Path(sys.argv[1]), sys.argv[2:]
    folder.mkdir(parents=True, exist_ok=True)
    app = QApplication([])
    app.setStyle("Fusion")
    with tempfile.TemporaryDirectory() as scratch:
        for state, (world, answers, typed, unfolded) in STATES.items():
            for theme in ("dark", "light"):
                name = f"download-{state}-{theme}"
                if wanted and not all(part in name for part in wanted):
                    continue
                made = stage.window(Path(scratch) / name, world, theme)
                made.link.answers |= answers
                made.window.resize(*SIZES[theme])
                made.window.show()
                page = made.window.open_page("download")
                app.processEvents()
                page.search.setText(typed)
                page.search.returnPressed.emit()
                app.processEvents()
                if unfolded:
                    click(made.window, f"Show what there is of {unfolded}")
                if state == "reading":
                    page._reading = True
                    page._show_open(True)
                for _ in range(8):
                    app.processEvents()
                made.window.grab().save(str(folder / f"{name}.png"))
                made.window.deleteLater()
                app.processEvents()


if __name__ == "__main__":
    main()
