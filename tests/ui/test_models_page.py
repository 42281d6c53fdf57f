"""The home page in every state that a person meets: what it says, and what its buttons ask of the service."""

from __future__ import annotations

import msgspec
import pytest

from app.core import lifecycle as phases
from app.core.control import Unload, Want
from app.core.memory.plan_types import Remedy
from app.core.snapshot import Seats, SeatView
from app.ui import wording
from app.ui.store import Connection
from tests.ui import worlds
from tests.ui.conftest import StageOf
from tests.ui.reading import click, is_there, named, texts
from tests.ui.stage import until


def test_without_models_it_says_where_to_put_them(stage_of: StageOf) -> None:
    window = stage_of("empty").window
    assert "No models yet" in texts(window)
    assert "~/models" in texts(window)
    assert is_there(window, "Download a model")
    click(window, "Choose model folders")
    assert window.page_key == "settings"


def test_while_models_are_being_read_it_says_how_many(stage_of: StageOf) -> None:
    """Nobody is told to add models that are there and not read yet; those that are read can be used."""
    made = stage_of("first_scan")
    said = texts(made.window)
    assert "Reading your models" in said
    assert "1,204 models are still being read." in said
    assert "No models yet" not in said
    assert not is_there(made.window, "Choose model folders")
    made.store.put("library", msgspec.structs.replace(worlds.CPU_LIBRARY, unread=3))
    assert "· 3 more being read" in texts(made.window)
    assert is_there(made.window, "Load demo")
    made.store.put("library", worlds.CPU_LIBRARY)
    assert "more being read" not in texts(made.window)


def test_before_the_service_answers_it_waits_and_offers_nothing(stage_of: StageOf) -> None:
    window = stage_of(None).window
    assert "Waiting for the service" in texts(window)
    assert not named(window, "Stop").isEnabled()


def test_a_machine_without_gpu_is_told_that_the_cpu_will_do(stage_of: StageOf) -> None:
    window = stage_of("no_gpu").window
    said = texts(window)
    assert "No GPU: the CPU will do" in said
    assert "53.2 GiB free of 62.6 GiB" in said


def test_loading_is_one_click(stage_of: StageOf) -> None:
    made = stage_of("no_gpu")
    click(made.window, "Load demo")
    assert made.link.sent == [("/control/want", Want(profile="demo"))]


def test_another_profile_is_one_click_while_one_is_ready(stage_of: StageOf) -> None:
    made = stage_of("ready")
    assert "Qwen3 32B" in texts(made.window.header)
    click(made.window, "Switch gemma-3-12b")
    assert made.link.sent == [("/control/want", Want(profile="gemma-3-12b"))]


def test_the_ready_profile_opens_the_chat(stage_of: StageOf) -> None:
    made = stage_of("ready")
    wanted: list[str] = []
    made.window.open_page("models").page_wanted.disconnect()  # type: ignore[union-attr]
    made.window.open_page("models").page_wanted.connect(lambda key, what: wanted.append(key))  # type: ignore[union-attr]
    click(made.window, "Open chat with qwen3-32b")
    assert wanted == ["chat"]


def test_a_load_shows_stage_progress_and_rest_and_can_be_cancelled(stage_of: StageOf) -> None:
    made = stage_of("loading")
    said = texts(made.window)
    assert "Loading Qwen3 32B" in said
    assert "about 31 s left" in said
    assert is_there(made.window, "Stage 4 of 9: Weights")
    click(made.window, "Cancel loading qwen3-32b")
    click(made.window, "Stop")
    assert made.link.sent == [("/control/unload", Unload()), ("/control/unload", Unload())]


def test_a_failure_says_cause_advice_evidence_and_cure(stage_of: StageOf) -> None:
    made = stage_of("failing")
    said = texts(made.window)
    assert "Qwen3 32B did not start" in said
    assert "512 MiB more were asked for" in said
    assert "Close it, or load with a shorter context." in said
    assert "torch.OutOfMemoryError" in said
    click(made.window, "Remedy: Load with 16k context")
    click(made.window, "Try again")
    assert made.link.sent == [
        ("/control/want", Want(profile="qwen3-32b", settings={"context": 16384})),
        ("/control/want", Want(profile="qwen3-32b")),
    ]


def test_another_card_as_a_cure_goes_along_with_the_click(stage_of: StageOf) -> None:
    made = stage_of("failing")
    cure = Remedy(title="Use the second card", settings={}, gpus=("GPU-b",), kind="card")
    failure = msgspec.structs.replace(worlds.FAILURE, remedies=(cure,))
    made.store.put("seats", worlds.seat(phases.Failed(failure=failure)), worlds.NOW)
    click(made.window, "Remedy: Use the second card")
    assert made.link.sent == [("/control/want", Want(profile="qwen3-32b", gpus=("GPU-b",)))]


def test_the_evidence_leads_to_its_line_in_the_log(stage_of: StageOf) -> None:
    made = stage_of("failing")
    page = made.window.open_page("models")
    asked: list[object] = []
    page.page_wanted.disconnect()  # type: ignore[union-attr]
    page.page_wanted.connect(lambda key, what: asked.append((key, what)))  # type: ignore[union-attr]
    click(made.window, "Show log")
    assert asked == [("logs", worlds.FAILURE.evidence)]


def test_after_a_rollback_both_are_said_what_failed_and_what_is_back(stage_of: StageOf) -> None:
    window = stage_of("rolled_back").window
    said = texts(window)
    assert "Demo, long context did not start" in said
    assert "Demo is back with its settings." in said
    click(window, "Dismiss failure")
    assert "71.2 GiB" not in texts(window)


def test_what_does_not_fit_is_loaded_only_after_a_question(stage_of: StageOf) -> None:
    made = stage_of("two_gpus")
    assert "Needs 63.0 GiB of GPU memory; 21.2 GiB may be used." in texts(made.window)
    click(made.window, "Load anyway gpt-oss-120b")
    assert made.link.sent == []
    click(made.window, "Cancel")
    assert made.link.sent == []
    click(made.window, "Load anyway gpt-oss-120b")
    click(made.window, "Load anyway")
    assert made.link.sent == [("/control/want", Want(profile="gpt-oss-120b", override=True))]


def test_a_remedy_on_the_card_loads_with_its_settings(stage_of: StageOf) -> None:
    made = stage_of("two_gpus")
    click(made.window, "Load gpt-oss-120b: Put 24 layers on the CPU")
    assert made.link.sent == [("/control/want", Want(profile="gpt-oss-120b", settings={"gpu_layers": 12}))]


def test_what_cannot_be_loaded_here_says_why(stage_of: StageOf) -> None:
    window = stage_of("two_gpus").window
    said = texts(window)
    assert "Model file missing" in said
    assert "/models/mistral-small.gguf" in said
    assert "Install llama-cpp-python to use it" in said
    assert not named(window, "Load mistral-small").isEnabled()


def test_broken_profile_files_are_listed_calmly(stage_of: StageOf) -> None:
    said = texts(stage_of("two_gpus").window)
    assert "coder.toml: settings.context" in said
    assert "must be a whole number, not '32k'. Write 32768 without quotes." in said


def test_without_the_service_nothing_can_be_asked_and_a_person_can_try_again(stage_of: StageOf) -> None:
    made = stage_of("gone")
    assert "Service gone" in texts(made.window)
    assert "It said: disk full." in texts(made.window)
    assert not named(made.window, "Load qwen3-32b").isEnabled()
    assert not named(made.window, "Stop").isEnabled()
    click(made.window, "Try again")
    assert made.link.retries == 1


def test_search_keeps_what_matches_and_says_when_nothing_does(stage_of: StageOf) -> None:
    made = stage_of("two_gpus")
    field = named(made.window, "Search models")
    field.setText("llama.cpp q5")  # type: ignore[attr-defined]
    assert is_there(made.window, "Load gemma-3-12b")
    assert not is_there(made.window, "Load qwen3-32b")
    field.setText("nothing like it")  # type: ignore[attr-defined]
    assert "No model matches “nothing like it”." in texts(made.window)


def test_a_cancelled_switch_offers_the_model_before(stage_of: StageOf) -> None:
    made = stage_of("no_gpu")
    made.store.put("seats", Seats(seats=(SeatView(name="main", previous="demo"),)))
    click(made.window, "Load Demo again")
    assert made.link.sent == [("/control/want", Want(profile="demo"))]


def test_a_process_that_will_not_end_is_named(stage_of: StageOf) -> None:
    made = stage_of("ready")
    stuck = phases.StopFailed(profile_id="qwen3-32b", run_id="r-1", processes=("pid 4711 VLLM::Worker, state D",))
    made.store.put("seats", worlds.seat(stuck))
    assert "Could not be stopped" in texts(made.window.header)
    assert "pid 4711 VLLM::Worker, state D" in texts(made.window)


@pytest.mark.parametrize(
    "phase",
    [
        phases.Reserving(profile_id="qwen3-32b", run_id="r"),
        phases.Spawning(profile_id="qwen3-32b", run_id="r"),
        phases.Draining(profile_id="qwen3-32b", run_id="r", deadline=0),
        phases.Stopping(profile_id="qwen3-32b", run_id="r", deadline=0),
        phases.Killing(profile_id="qwen3-32b", run_id="r", deadline=0),
        phases.ReleasingVram(profile_id="qwen3-32b", run_id="r", deadline=0),
        phases.Backoff(profile_id="qwen3-32b", attempt=2, until=0),
    ],
)
def test_every_phase_on_the_way_is_shown_as_under_way(stage_of: StageOf, phase: phases.Phase) -> None:
    made = stage_of("two_gpus")
    made.store.put("seats", worlds.seat(phase))
    assert made.window.open_page("models").load_panel.isVisible()  # type: ignore[union-attr]
    assert "Qwen3 32B" in texts(made.window.header)


def test_a_switch_under_way_can_still_be_taken_back(stage_of: StageOf) -> None:
    made = stage_of("ready")
    leaving = phases.Draining(profile_id="qwen3-32b", run_id="r-1", deadline=0)
    made.store.put("seats", Seats(seats=(SeatView(name="main", phase=leaving, wanted="gemma-3-12b"),)))
    assert "Qwen3 32B → Gemma 3 12B" in texts(made.window.header)
    click(made.window, "Stop")
    assert made.link.sent == [("/control/unload", Unload())]


def test_the_pointed_profile_is_priced_into_the_memory_panel(stage_of: StageOf) -> None:
    made = stage_of("two_gpus")
    page = made.window.open_page("models")
    plan = made.store.card("gemma-3-12b").plan  # type: ignore[union-attr]
    bar = named(made.window, "Memory of device 0")
    before = bar.accessibleDescription()
    assert before.endswith(" free of 24.0 GiB")
    page._wishes.pointed.emit("gemma-3-12b")  # type: ignore[union-attr]
    until(lambda: is_there(made.window, "Used by others, Engine, Gemma 3 12B would take, Headroom kept free"))
    needs = wording.size(plan.devices[0].likely_bytes)  # type: ignore[union-attr]
    assert bar.accessibleDescription() == f"{before}; {needs} planned"
    page._wishes.pointed.emit("")  # type: ignore[union-attr]
    until(lambda: is_there(made.window, "Used by others, Engine"))
    assert bar.accessibleDescription() == before, "nothing of it stays when the pointer leaves"


def test_verdicts_are_words(stage_of: StageOf) -> None:
    said = texts(stage_of("two_gpus").window)
    for words in ("Fits · 10.9 GiB spare", "Tight", "Does not fit", "Engine not installed"):
        assert words in said


def test_a_profile_that_comes_later_appears_and_one_that_goes_disappears(stage_of: StageOf) -> None:
    made = stage_of("no_gpu")
    made.store.put("library", msgspec.structs.replace(worlds.CPU_LIBRARY, profiles=(worlds.DEMO, worlds.QWEN)))
    assert is_there(made.window, "Load qwen3-32b")
    assert not is_there(made.window, "Load demo-long")


def test_reconnecting_makes_it_work_again(stage_of: StageOf) -> None:
    made = stage_of("gone")
    made.store.set_connection(Connection.CONNECTED)
    made.store.put("seats", Seats(seats=(SeatView(name="main"),)))
    click(made.window, "Load gemma-3-12b")
    assert made.link.sent[-1] == ("/control/want", Want(profile="gemma-3-12b"))


def test_a_profile_without_its_engine_leads_to_the_engines(stage_of: StageOf) -> None:
    made = stage_of("two_gpus")
    click(made.window, "Get the engine of phi-4")
    assert made.window.page_key == "engines"
