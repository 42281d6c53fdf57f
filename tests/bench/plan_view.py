"""Measures the plan view: a slider's step until it is repainted with its price, against a bare slider's; prints JSON.

`python -m tests.bench.plan_view [--steps N]`. Both are measured in turns in one process on the offscreen platform, so that
they see the same machine. A frame is 16.7 ms; the pricing alone is told too.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication, QSlider

from app.ui.plan.pricing import pricing_of
from app.ui.plan.view import PlanView
from tests.ui import library_worlds, profile_worlds, stage


def told(milliseconds: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(milliseconds), 3), "best": round(min(milliseconds), 3)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=60)
    asked = parser.parse_args()
    app = QApplication([])
    app.setStyle("Fusion")
    with tempfile.TemporaryDirectory() as folder:
        made = stage.window(Path(folder), library_worlds.world(), "dark")
        made.link.answers.update(profile_worlds.ANSWERS)
        made.window.resize(1280, 800)
        made.window.show()
        made.presenter.go("plan", "qwen3-14b")
        view = made.window.over("models")
        assert isinstance(view, PlanView)
        bare = QSlider(Qt.Orientation.Horizontal)
        bare.setMaximum(40)
        bare.resize(1280, 800)
        bare.show()
        for _ in range(20):
            app.processEvents()
        dial = view.panel._dials["context"].slider
        assert dial is not None

        def moved(slider: QSlider, place: int) -> tuple[float, float]:
            """Milliseconds by the clock, and those of the processor: the machine may be busy with others."""
            begun, worked = time.perf_counter(), time.thread_time()
            slider.setValue(place)
            if slider is dial:  # what the frame's timer does, without the wait for it
                view._frame.stop()
                view._reprice()
                view.panel.repaint()
            else:
                slider.repaint()
            return 1000 * (time.perf_counter() - begun), 1000 * (time.thread_time() - worked)

        ours, theirs, prices = [], [], []
        for step in range(asked.steps):
            ours.append(moved(dial, 5 + step % 25))
            theirs.append(moved(bare, 5 + step % 25))
            pricing = pricing_of(view._store, library_worlds.QWEN, profile_worlds.OPTIONS.families["llama.cpp"])
            begun = time.perf_counter()
            pricing.plan({"context_tokens": 4096 + 256 * step}, solve=False)
            prices.append(1000 * (time.perf_counter() - begun))
            view._calm.stop()
        begun = time.perf_counter()
        view._reprice(solve=True)
        solved = 1000 * (time.perf_counter() - begun)
    print(
        json.dumps(
            {
                "load": os.getloadavg()[0],
                "slider_to_repaint_ms": told([clock for clock, _ in ours]),
                "slider_to_repaint_processor_ms": told([work for _, work in ours]),
                "bare_slider_ms": told([clock for clock, _ in theirs]),
                "ratio_of_best": round(min(ours)[0] / min(theirs)[0], 2),
                "plan_ms": told(prices),
                "solved_ms": round(solved, 1),
                "goals": {"slider_to_repaint_ms": 16.7, "plan_ms": 1.0},
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
