"""The bench in the window: one button on the monitor, a row for each figure, and what made it behind a click."""

from __future__ import annotations

from msgspec.structs import replace
from PySide6.QtWidgets import QApplication

from app.core.bench import Benches
from app.core.control import BenchOf, JobOf
from app.core.snapshot import Job, Jobs
from app.ui.widgets.bench_card import BenchCard, hint
from tests.ui import stage, worlds
from tests.ui.conftest import StageOf
from tests.ui.manifest_worlds import MANIFEST
from tests.ui.reading import click, is_there, named, texts

JOB = Job(id="bench-9", title="Measuring Qwen3 32B", state="running", kind="bench", detail="Answer 2 of 3 …")


def opened(stage_of: StageOf, world: str = "ready") -> stage.Stage:
    made = stage_of(world, page="monitor", size=(1280, 2400))
    QApplication.processEvents()
    return made


def test_what_was_measured_is_listed_with_what_made_it(stage_of: StageOf) -> None:
    made = opened(stage_of)
    said = texts(made.window)
    for words in ("41.7 tok/s", "3,412 tok/s", "149 ms", "Mistral 7B, long context", "llama-server"):
        assert words in said, words
    made.link.answers["/control/runs/r-1/manifest"] = MANIFEST
    made.window.findChildren(BenchCard)[0]._open(worlds.BENCHES.benches[0])
    QApplication.processEvents()
    assert "b3:5f0c1a7de2" in texts(made.window), "the run's whole manifest"


def test_a_figure_keeps_what_made_it_when_its_run_is_forgotten(stage_of: StageOf) -> None:
    made = opened(stage_of)
    click(made.window, "What made this figure of A remote one")
    assert "What made it: A remote one" in texts(made.window)
    assert "The service has forgotten this run" in texts(made.window)


def test_measuring_is_one_click_and_can_be_called_off(stage_of: StageOf) -> None:
    made = opened(stage_of)
    click(made.window, "Measure the loaded model")
    assert made.link.sent == [("/control/bench", BenchOf())]
    made.store.put("jobs", Jobs(jobs=(JOB,)))
    assert "Measuring Qwen3 32B: Answer 2 of 3 …" in texts(made.window)
    assert not is_there(made.window, "Measure the loaded model")
    click(made.window, "Cancel the measurement")
    assert made.link.sent[-1] == ("/control/jobs/cancel", JobOf(job="bench-9"))
    fresh = replace(worlds.BENCHES.benches[0], id="bench-9", tokens_per_second=55.5)
    made.link.answers["/control/benches"] = Benches(benches=(fresh, *worlds.BENCHES.benches))
    made.store.put("jobs", Jobs(jobs=(replace(JOB, state="done"),)))
    QApplication.processEvents()
    assert "55.5 tok/s" in texts(made.window), "asked for anew when it is over"
    made.store.put("jobs", Jobs(jobs=(replace(JOB, id="b", state="failed", error="The answer was cut off."),)))
    assert "The answer was cut off." in texts(made.window)


def test_without_a_model_there_is_nothing_to_measure(stage_of: StageOf) -> None:
    made = opened(stage_of, "no_gpu")
    button = named(made.window, "Measure the loaded model")
    assert button.isEnabled() is (made.store.seat().run is not None)


def test_what_a_figure_rests_on_is_said() -> None:
    quiet, shared = worlds.BENCHES.benches[:2]
    assert hint(quiet) == "Medians of 3 answers: 508 tokens read, 128 written."
    assert hint(shared).endswith("Others were answered meanwhile, so it could have been faster.")
