"""What made a run or an answer can be read, copied and run again, also when the service has forgotten the run."""

from __future__ import annotations

import msgspec
from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication

from app.core.control import Accepted, RunOf
from app.core.conversation import made_by
from app.core.errors import ModelChanged, UnknownRun
from app.core.snapshot import Runs
from app.ui.manifest import as_text, memory, show_manifest
from tests.ui import stage, worlds
from tests.ui.conftest import StageOf
from tests.ui.manifest_worlds import MANIFEST, RUN
from tests.ui.reading import click, is_there, named, texts, unnamed

PATH = "/control/runs/r-1/manifest"


def opened(stage_of: StageOf, **answers: object) -> stage.Stage:
    made = stage_of("ready", page="logs")
    made.link.answers[PATH] = answers.get("manifest", MANIFEST)
    made.store.put("runs", Runs(runs=(RUN,)))
    click(made.window, "What made this run")
    QApplication.processEvents()
    return made


def test_the_log_page_shows_what_made_a_run(stage_of: StageOf) -> None:
    made = opened(stage_of)
    said = texts(made.window)
    for words in (
        "What made it: Qwen3 32B",
        "/models/qwen3-32b",
        "b3:5f0c1a7de2",
        "0.11.2",
        "NVIDIA CUDA",
        "32768",
        "Flash attention",
        "19.2 GiB (18.2 GiB to 20.2 GiB), measured 19.9 GiB (+4",
        "38 s",
        "580.95",
        "RTX 4090 GPU-1111",
        "vllm serve /models/qwen3-32b --max-model-len 32768",
    ):
        assert words in said, words
    assert unnamed(made.window) == []


def test_it_is_copied_as_text_and_closed_by_escape(stage_of: StageOf) -> None:
    made = opened(stage_of)
    click(made.window, "Copy what made this run")
    assert QGuiApplication.clipboard().text() == as_text(MANIFEST)
    assert "Fingerprint: b3:5f0c1a7de2" in as_text(MANIFEST)
    QTest.keyClick(named(made.window, "What made it"), Qt.Key.Key_Escape)
    QApplication.processEvents()
    assert not is_there(made.window, "What made it: Qwen3 32B")


def test_a_run_is_run_again_as_it_was(stage_of: StageOf) -> None:
    made = opened(stage_of)
    made.link.answers["/control/runs/again"] = Accepted()
    click(made.window, "Run again like this")
    assert made.link.sent[-1] == ("/control/runs/again", RunOf(run="r-1"))
    assert not is_there(made.window, "What made it: Qwen3 32B")


def test_when_the_model_has_changed_since_it_asks_first(stage_of: StageOf) -> None:
    made = opened(stage_of)
    made.link.answers["/control/runs/again"] = ModelChanged(
        "The model's file has changed since.", "It may answer otherwise."
    )
    click(made.window, "Run again like this")
    assert "The model's file has changed since. It may answer otherwise." in texts(made.window)
    click(made.window, "Run it")
    assert made.link.sent[-1] == ("/control/runs/again", RunOf(run="r-1", force=True))


def test_an_answer_remembers_what_made_it_when_the_run_is_forgotten(stage_of: StageOf) -> None:
    made = stage_of("ready")
    made.link.answers[PATH] = UnknownRun("There is no run r-1.")
    show_manifest(made.theme, made.window, made.link, "r-1", made_by(MANIFEST))  # type: ignore[arg-type]
    QApplication.processEvents()
    said = texts(made.window)
    assert "The service has forgotten this run" in said
    assert "b3:5f0c1a7de2" in said
    assert not is_there(made.window, "Run again like this")


def test_a_run_that_nobody_remembers_is_told(stage_of: StageOf) -> None:
    made = opened(stage_of, manifest=UnknownRun("There is no run r-1.", "It was cleared."))
    assert "There is no run r-1." in texts(made.window.toast)


def test_a_device_that_was_not_measured_has_its_plan_only() -> None:
    run = msgspec.structs.replace(RUN, measured_bytes={worlds.A: 0})
    assert memory(msgspec.structs.replace(MANIFEST, run=run))[1][1] == "19.2 GiB (18.2 GiB to 20.2 GiB)"
