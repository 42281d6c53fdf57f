"""Draws the library in every state into PNG files, to be looked at: `gallery_library.py FOLDER [name-part …]`."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
if "--double" in sys.argv:
    os.environ["QT_SCALE_FACTOR"] = "2"
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import msgspec
from PySide6.QtWidgets import QApplication

from app.ui.pages.models import ModelsPage
from tests.ui import library_worlds, stage, worlds

SIZES = {"1024": (1024, 640), "1280": (1280, 800), "1920": (1920, 1080)}
WORLDS = {
    "empty": worlds.WORLDS["empty"],
    "first_scan": worlds.WORLDS["first_scan"],
    "scanning": library_worlds.world(msgspec.structs.replace(library_worlds.MODELS, unread=1_204)),
    "demo": library_worlds.world(
        library_worlds.Library(
            profiles=(worlds.DEMO, worlds.DEMO_LONG),
            models=(library_worlds.group("Engine Room Demo", (worlds.DEMO, worlds.DEMO_LONG)),),
        ),
        gpus=worlds.NO_GPU,
    ),
    "models": library_worlds.world(),
    "broken": library_worlds.world(library_worlds.BROKEN),
    "many": library_worlds.world(library_worlds.many(200)),
    "ready": worlds.WORLDS["ready"],
}


def main() -> None:
    folder, wanted = Path(sys.argv[1]), [part for part in sys.argv[2:] if not part.startswith("--")]
    folder.mkdir(parents=True, exist_ok=True)
    app = QApplication([])
    app.setStyle("Fusion")
    shots = [(w, t, s) for w in WORLDS for t, s in (("dark", "1280"), ("light", "1024"), ("light", "1920"))]
    shots += [("filtered", "dark", "1280"), ("filtered", "light", "1024"), ("end", "dark", "1280")]
    with tempfile.TemporaryDirectory() as scratch:
        for number, (world, theme, size) in enumerate(shots):
            name = f"library-{world}-{theme}-{size}"
            if wanted and not all(part in name for part in wanted):
                continue
            shown = WORLDS.get(world, WORLDS["broken"])
            made = stage.window(Path(scratch) / str(number), shown, theme)
            made.window.resize(*SIZES[size])
            made.window.show()
            page = made.window.open_page("models")
            assert isinstance(page, ModelsPage)
            for _ in range(8):
                app.processEvents()
            if world == "filtered":
                page.filters.ask(fits_now=True, capability="tools")
            if world == "end":
                page._elsewhere_head.click()
                app.processEvents()
                page.verticalScrollBar().setValue(page.verticalScrollBar().maximum())
            for _ in range(8):
                app.processEvents()
            made.window.grab().save(str(folder / f"{name}.png"))
            made.window.deleteLater()
            app.processEvents()


if __name__ == "__main__":
    main()
