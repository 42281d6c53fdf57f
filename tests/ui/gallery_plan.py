"""Draws the plan view in every state into PNG files, to be looked at: `gallery_plan.py FOLDER [name-part …]`."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
if "--double" in sys.argv:
    os.environ["QT_SCALE_FACTOR"] = "2"
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from PySide6.QtWidgets import QApplication

from tests.ui import library_worlds, profile_worlds, stage, worlds

SIZES = {"1024": (1024, 640), "1280": (1280, 800), "1920": (1920, 1080)}
STATES = {
    "fits": ("qwen3-14b", {}),
    "long": ("qwen3-14b", {"context_tokens": 131_072}),
    "split": ("llama-3.3-70b", {"gpu_layers": 36}),
    "refused": ("llama-3.3-70b", {}),
    "forms": ("gemma-3-27b-q4_k_m", {"slots": 8}),
    "measured": ("qwen3-14b", {}),
}


def main() -> None:
    folder, wanted = Path(sys.argv[1]), [part for part in sys.argv[2:] if not part.startswith("--")]
    folder.mkdir(parents=True, exist_ok=True)
    app = QApplication([])
    app.setStyle("Fusion")
    shots = [(state, theme, size) for state in STATES for theme, size in (("dark", "1280"), ("light", "1024"))]
    shots += [("fits", "light", "1920"), ("two", "dark", "1280")]
    with tempfile.TemporaryDirectory() as scratch:
        for number, (state, theme, size) in enumerate(shots):
            name = f"plan-{state}-{theme}-{size}"
            if wanted and not all(part in name for part in wanted):
                continue
            profile_id, changes = STATES.get(state, ("llama-3.3-70b", {"kv_type_k": "q8_0", "kv_type_v": "q8_0"}))
            world = library_worlds.world(gpus=worlds.TWO_GPUS) if state == "two" else library_worlds.world()
            if state == "measured":
                world = library_worlds.world(seats=library_worlds.loaded())
            made = stage.window(Path(scratch) / str(number), world, theme)
            made.link.answers.update(profile_worlds.ANSWERS)
            made.window.resize(*SIZES[size])
            made.window.show()
            made.presenter.go("plan", profile_id)
            view = made.window.over("models")
            view.turn(dict(changes))  # type: ignore[union-attr]
            view._reprice(solve=True)  # type: ignore[union-attr]
            for _ in range(8):
                app.processEvents()
            made.window.grab().save(str(folder / f"{name}.png"))
            made.window.deleteLater()
            app.processEvents()


if __name__ == "__main__":
    main()
