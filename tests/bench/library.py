"""Measures the model library: facts of large vocabularies against the `gguf` package, a thousand models scanned and rescanned.

`python -m tests.bench.library [--models N] [--rounds N]` prints one JSON object. What is compared is measured in turns in one
process, so that both see the same machine. Beside the wall clock stands the processor's time of this process: on a machine
that others use too it is the figure that can be repeated. The bare walk lists and stats the same folders and does nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import gguf

from app.core.catalog.gguf_facts import read_gguf_facts
from app.core.paths import Paths
from app.core.settings import LibrarySettings, Settings
from app.daemon.shelf import Shelf
from app.daemon.survey import Surveyor
from app.engines.base import Installation
from tests.bench.planner import model_with_vocabulary
from tests.rig.gguf_file import write_model

GOALS = {"times_faster_than_gguf": 15.0, "unchanged_milliseconds": 100.0}


class Taken:
    """Milliseconds of wall clock and processor, of several rounds."""

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.processor: list[float] = []

    def of(self, work: Callable[[], object]) -> None:
        begun, used = time.perf_counter(), time.process_time()
        work()
        self.processor.append(1e3 * (time.process_time() - used))
        self.wall.append(1e3 * (time.perf_counter() - begun))

    def figures(self) -> dict[str, float]:
        return {
            "median_ms": round(statistics.median(self.wall), 2),
            "best_ms": round(min(self.wall), 2),
            "median_processor_ms": round(statistics.median(self.processor), 2),
        }


def facts_figures(folder: Path, tokens: int, rounds: int) -> dict[str, object]:
    path = model_with_vocabulary(folder / f"{tokens}.gguf", tokens)
    ours, theirs = Taken(), Taken()
    for turn in range(rounds):
        ours.of(partial(read_gguf_facts, path))
        if turn == rounds // 2:  # once: it takes many seconds
            theirs.of(partial(gguf.GGUFReader, path))
    return {
        "ours": ours.figures(),
        "gguf_package": theirs.figures(),
        "times_faster": round(statistics.median(theirs.wall) / statistics.median(ours.wall), 1),
        "times_faster_by_processor": round(statistics.median(theirs.processor) / statistics.median(ours.processor), 1),
    }


def scan_figures(folder: Path, models: int, rounds: int) -> dict[str, object]:
    for number in range(models):  # each in a folder of its own, as downloads lie
        name = f"Model-{number}-7B"
        write_model(folder / "models" / f"publisher-{number % 40}" / f"{name}-GGUF" / f"{name}-Q4_K_M.gguf", name=name)
    settings = Settings(library=LibrarySettings(folders=(str(folder / "models"),), sources=()))
    paths = Paths(*(folder / name for name in ("config", "data", "state", "cache", "runtime")))
    paths.profiles.mkdir(parents=True)
    first, unchanged, bare = Taken(), Taken(), Taken()
    shelf = Shelf(Surveyor(paths, lambda _: Installation(family="llama.cpp", executable="/bin/true")))

    def scan() -> None:
        survey = shelf.survey(settings)
        assert survey is not None
        shelf.read(survey)
        assert len(shelf.listing(survey).cards) >= models

    def rescan() -> None:
        assert shelf.survey(settings) is None, "nothing has changed"

    first.of(scan)
    for _ in range(rounds):
        bare.of(partial(bare_walk, folder / "models"))
        unchanged.of(rescan)
    return {
        "models": models,
        "first": first.figures(),
        "unchanged": unchanged.figures(),
        "bare_walk": bare.figures(),
        "unchanged_against_bare_walk": round(statistics.median(unchanged.wall) / statistics.median(bare.wall), 2),
        "by_processor": round(statistics.median(unchanged.processor) / statistics.median(bare.processor), 2),
    }


def bare_walk(folder: Path) -> int:
    """Bytes of all files below the folder."""
    total, folders = 0, [str(folder)]
    while folders:
        with os.scandir(folders.pop()) as listing:
            for entry in listing:
                total += entry.stat().st_size
                if entry.is_dir():
                    folders.append(entry.path)
    return total


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=15)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        facts = {f"{tokens}_tokens": facts_figures(folder, tokens, asked.rounds) for tokens in (131_072, 262_144)}
        scans = scan_figures(folder, asked.models, asked.rounds)
    print(json.dumps({"load": os.getloadavg()[0], "facts": facts, "scan": scans, "goals": GOALS}, indent=1))


if __name__ == "__main__":
    main()
