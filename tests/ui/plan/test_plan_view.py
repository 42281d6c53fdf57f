"""The plan view (M3, M4, M6): what is turned is priced at once, a remedy changes exactly its argument, the load is as shown."""

from __future__ import annotations

import itertools
import random
import re

import msgspec
import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication

from app.core import lifecycle as phases
from app.core.control import ProfileText, Want
from app.core.memory.plan_types import MemoryPlan, Verdict
from app.core.seat_words import does_not_fit
from app.core.snapshot import HostSample
from app.ui.plan.dials import MarkedSlider, context_steps
from app.ui.plan.panel import device_name, measured_rows
from app.ui.plan.pricing import pricing_of
from app.ui.plan.stack import StackBar, pieces_of
from app.ui.plan.view import PlanView
from app.ui.widgets.text import ElidedLabel
from app.verbs_plan import plan_lines
from tests.ui import library_worlds as models
from tests.ui import profile_worlds, stage, worlds
from tests.ui.conftest import StageOf
from tests.ui.reading import click, is_there, named, texts, unnamed, wider_than
from tests.ui.stage import until

SAVED = ProfileText(profile="qwen3-14b", text='engine = "llama.cpp"\nmodel = "/m.gguf"\n', own=True)


@pytest.fixture
def plan_of(stage_of: StageOf):  # type: ignore[no-untyped-def]
    def make(
        profile_id: str = "qwen3-14b", world: worlds.World | None = None, size: tuple[int, int] = (1280, 900)
    ) -> tuple[stage.Stage, PlanView]:
        made = stage_of("no_gpu", size=size)
        stage.tell(made.store, world or models.world())
        made.link.answers.update(profile_worlds.ANSWERS)
        made.link.answers[f"/control/profiles/{profile_id}"] = SAVED
        made.presenter.go("plan", profile_id)
        QApplication.processEvents()
        view = made.window.over("models")
        assert isinstance(view, PlanView)
        return made, view

    return make


def slider(made: stage.Stage, name: str) -> MarkedSlider:
    found = named(made.window, name)
    assert isinstance(found, MarkedSlider)
    return found


def to(dial: MarkedSlider, view: PlanView, name: str, value: object) -> None:
    """As arrow keys do, until the setting is there."""
    dial.setFocus()
    for _ in range(200):
        if view.settings.get(name) == value:
            return
        now = view.settings.get(name)
        up = now is None or float(now) < float(value)  # type: ignore[arg-type]
        QTest.keyClick(dial, Qt.Key.Key_Right if up else Qt.Key.Key_Left)
    raise AssertionError(f"{name} never became {value}")


def test_a_card_opens_its_plan_and_back_leads_to_the_cards(stage_of: StageOf) -> None:
    made = stage_of("no_gpu")
    stage.tell(made.store, models.world())
    click(made.window, "Plan the memory of qwen3-14b")
    assert isinstance(made.window.over("models"), PlanView)
    assert "Qwen3 14B" in texts(made.window)
    click(made.window, "Back to Models")
    assert made.window.over("models") is None


def test_the_bars_tell_every_part_with_its_figure_and_source(plan_of) -> None:  # type: ignore[no-untyped-def]
    """M3: per device, other processes by name, each part with the formula that it comes from."""
    made, _view = plan_of()
    said = texts(made.window)
    for words in ("Weights", "KV cache", "Compute", "GPU context", "sum of the file's tensors", "Main memory"):
        assert words in said
    bar = named(made.window, "Memory of RTX 4090")
    spoken = bar.accessibleDescription()
    assert "gnome-shell" in spoken
    assert "pid 2210" in spoken
    assert spoken.endswith(" GiB spare")
    assert isinstance(bar, StackBar)
    bar.setFocus()
    for _ in range(6):
        if re.search(r"Weights: \d+\.\d GiB · sum of the file's tensors on this card", texts(made.window)):
            break
        QTest.keyClick(bar, Qt.Key.Key_Right)
    else:
        raise AssertionError("the arrow keys never reached the weights")


def test_speed_and_the_engine_for_each_use_are_told_with_reasons(plan_of) -> None:  # type: ignore[no-untyped-def]
    """M10."""
    made, _ = plan_of()
    said = texts(made.window)
    assert re.search(r"About \d+\.\d tokens per second \(\d+", said)
    assert "For one chat: llama.cpp. It is a GGUF file" in said
    assert "For many users: llama.cpp." in said


def test_the_pieces_of_a_bar_add_up_to_what_is_held_and_needed() -> None:
    plan = models.QWEN.plan
    assert plan is not None
    for device in plan.devices:
        pieces = pieces_of(device, plan.holders)
        assert abs(sum(piece.bytes for piece in pieces) - device.others_bytes - device.likely_bytes) < 1024**2
        assert [piece.solid for piece in pieces] == sorted((piece.solid for piece in pieces), reverse=True)


def test_the_window_prices_as_the_service_does(plan_of) -> None:  # type: ignore[no-untyped-def]
    _, view = plan_of()
    assert view.plan is not None
    assert models.QWEN.plan is not None
    mine = pricing_of(view._store, models.QWEN, ()).plan(models.QWEN.profile.settings)
    assert msgspec.structs.replace(mine, advice=()) == models.QWEN.plan


def test_a_longer_context_is_priced_at_once_and_the_longest_that_fits_is_marked(plan_of) -> None:  # type: ignore[no-untyped-def]
    made, view = plan_of()
    before = view.plan.devices[0].likely_bytes
    assert view.plan.verdict is Verdict.FITS
    to(slider(made, "Context"), view, "context_tokens", 131_072)
    until(lambda: view.plan.verdict is Verdict.DOES_NOT_FIT)
    assert view.plan.devices[0].likely_bytes > before
    assert "131,072 tokens" in texts(made.window)
    until(lambda: is_there(made.window, "Take the longest context that fits"))
    click(made.window, "Take the longest context that fits")
    until(lambda: view.plan.verdict is Verdict.FITS)
    longest = view.settings["context_tokens"]
    assert isinstance(longest, int)
    pricing = pricing_of(view._store, models.QWEN, ())
    assert pricing.plan({**view.settings, "context_tokens": longest + 256}).verdict is not Verdict.FITS


def test_a_remedy_changes_exactly_its_argument(plan_of) -> None:  # type: ignore[no-untyped-def]
    """M4: one click, and the plan that was promised is there."""
    made, view = plan_of("llama-3.3-70b")
    assert "Does not fit" in texts(made.window)
    remedy = view.panel.remedies[0]
    click(made.window, f"Remedy: {remedy.title}")
    assert view.changes == remedy.settings
    until(lambda: view.plan.is_admitted)


def test_load_like_this_asks_for_exactly_what_was_changed(plan_of) -> None:  # type: ignore[no-untyped-def]
    made, view = plan_of()
    to(slider(made, "Context"), view, "context_tokens", 32_768)
    click(made.window, "KV cache as: q8_0")
    click(made.window, "Load like this")
    changed = {"context_tokens": 32_768, "kv_type_k": "q8_0", "kv_type_v": "q8_0"}
    assert made.link.sent[-1] == ("/control/want", Want(profile="qwen3-14b", settings=changed))
    assert made.window.over("models") is None, "the page below shows the load"


def test_what_does_not_fit_is_loaded_only_after_a_question(plan_of) -> None:  # type: ignore[no-untyped-def]
    made, _view = plan_of("llama-3.3-70b")
    click(made.window, "Load like this")
    assert made.link.sent == []
    click(made.window, "Load anyway")
    assert made.link.sent == [("/control/want", Want(profile="llama-3.3-70b", override=True))]


@pytest.mark.parametrize("case", range(8))
def test_one_refusal_has_one_figure_wherever_it_is_shown(plan_of, case: int) -> None:  # type: ignore[no-untyped-def]
    """M4, I4: what the admission rule lacks stands on the model's card, in the plan with its bars, in the question before an
    override, in the load that was refused and on the command line; no other figure is said of it anywhere."""
    chance = random.Random(case)
    held, context = chance.uniform(14, 23.5), chance.choice((8_192, 32_768, 65_536, 131_072))
    gpus = msgspec.structs.replace(
        models.ONE_GPU,
        gpus=(worlds.gpu(0, worlds.A, "NVIDIA GeForce RTX 4090", 24, 0, held),),
        host=HostSample(total_bytes=64 * models.GIB, available_bytes=int(chance.uniform(0.5, 30) * models.GIB)),
    )
    assert models.QWEN.facts is not None
    tried = models.card("qwen3-14b", "Qwen3 14B", models.QWEN.facts, gpus, context)
    plan = tried.plan
    assert plan is not None
    assert not plan.is_admitted
    lacking = {device.device: -(device.spare_bytes or 0) for device in plan.devices if (device.spare_bytes or 0) < 0}
    worst = plain_size(max(lacking.values()))
    every = {plain_size(missing) for missing in lacking.values()}

    library = msgspec.structs.replace(models.MODELS, profiles=(tried,), models=(models.group("Qwen3 14B", (tried,)),))
    made, view = plan_of(world=models.world(library, gpus=gpus))
    assert missing_in(plan.summary) == [worst]
    assert missing_in(view.panel.sentence.text()) == [worst]
    assert set(missing_in(texts(view))) == every
    for device in plan.devices:
        bar = named(view, f"Memory of {device_name(device)}")
        assert missing_in(bar.accessibleDescription()) == [
            plain_size(lacking[n]) for n in lacking if n == device.device
        ]
    assert set(missing_in("\n".join(plan_lines(plan)))) == every

    click(made.window, "Load like this")
    asked = [text for text in texts(made.window).splitlines() if "anyway can fail" in text]
    assert missing_in("\n".join(asked)) == [worst]
    click(made.window, "Cancel")
    click(made.window, "Back to Models")
    until(lambda: missing_in(texts(made.window)) == [worst])  # on the card
    failure = does_not_fit("qwen3-14b", plan, refused=True)
    assert missing_in(failure.summary + failure.advice) == [worst]
    made.store.put("seats", worlds.seat(phases.Failed(failure=failure)))
    until(lambda: missing_in(texts(made.window)) == [worst, worst])  # on the card and above it


def plain_size(count: int) -> str:
    return f"{count / models.GIB:.1f} GiB" if count >= models.GIB else f"{count / models.MIB:,.0f} MiB"


def missing_in(text: str) -> list[str]:
    """Every figure that a text calls lacking, in whatever words it ever has."""
    assert "too much" not in text
    assert "more is missing" not in text
    return re.findall(r"([\d.,]+ [GM]iB) is missing", text)


def test_turning_back_is_no_change_and_reset_takes_all_back(plan_of) -> None:  # type: ignore[no-untyped-def]
    made, view = plan_of()
    view.turn({"context_tokens": 4096, "slots": 2})
    assert is_there(made.window, "Save to profile")
    view.turn({"context_tokens": 65_536})
    assert view.changes == {"slots": 2}
    click(made.window, "Reset the changes")
    assert view.changes == {}
    assert not is_there(made.window, "Save to profile")


def test_save_writes_the_changed_keys_and_nothing_else(plan_of) -> None:  # type: ignore[no-untyped-def]
    made, view = plan_of()
    made.link.answers["/control/profiles"] = SAVED
    view.turn({"context_tokens": 16_384})
    click(made.window, "Save to profile")
    path, sent = made.link.sent[-1]
    assert path == "/control/profiles"
    assert sent == ProfileText(
        profile="qwen3-14b", text=SAVED.text + "\n[settings]\ncontext_tokens = 16384\n", based_on=SAVED.text
    )
    assert view.changes == {}


def test_free_memory_that_changes_reprices_the_plan(plan_of) -> None:  # type: ignore[no-untyped-def]
    made, view = plan_of()
    busy = msgspec.structs.replace(
        models.ONE_GPU, gpus=(worlds.gpu(0, worlds.A, "NVIDIA GeForce RTX 4090", 24, 0, 12.0),)
    )
    made.store.put("gpus", busy)
    until(lambda: view.plan.verdict is Verdict.DOES_NOT_FIT)
    assert "Does not fit" in texts(view)
    assert "only 10.5 GiB of 24.0 GiB can be used (12.0 GiB are free" in view.panel.sentence.text()
    bar = named(view, "Memory of RTX 4090")
    assert "gnome-shell: 7.2 GiB · in use now, pid 2210; firefox: 4.8 GiB" in bar.accessibleDescription()
    assert is_there(view, "Load like this")
    assert named(view, "Load like this").text() == "Load anyway …"  # type: ignore[attr-defined]


def test_another_form_of_the_model_is_planned_in_its_place(plan_of) -> None:  # type: ignore[no-untyped-def]
    made, view = plan_of("gemma-3-27b-q4_k_m")
    forms = named(made.window, "Which form")
    assert forms.count() == 5
    before = view.plan.devices[0].likely_bytes
    forms.setCurrentIndex(4)
    forms.activated.emit(4)
    assert view.profile_id == "gemma-3-27b-iq3_xs"
    assert view.plan.devices[0].likely_bytes < before


def test_the_models_name_has_its_place_beside_everything_that_can_be_done(plan_of) -> None:  # type: ignore[no-untyped-def]
    """At the smallest size, with several forms and a change that can be kept or taken back."""
    made, view = plan_of("gemma-3-27b-q4_k_m")
    made.window.resize(1024, 640)
    view.turn({"slots": 8})
    until(lambda: named(made.window, "Reset the changes").isVisible())
    title = next(each for each in view.findChildren(ElidedLabel) if each.text() == "Gemma 3 27B")
    until(lambda: title.width() >= title.sizeHint().width())


def test_after_the_load_the_measurement_stands_beside_the_prediction(plan_of) -> None:  # type: ignore[no-untyped-def]
    made, _ = plan_of(world=models.world(seats=models.loaded()))
    said = texts(made.window)
    assert "Predicted and measured" in said
    assert "less predicted than used" in said


def test_what_was_not_measured_is_not_compared() -> None:
    seats = models.loaded()
    run = seats.seats[0].run
    assert run is not None
    assert len(measured_rows(run)) == 2
    assert measured_rows(msgspec.structs.replace(run, measured_bytes={})) == ()
    assert measured_rows(None) == ()


def test_without_a_card_there_are_no_layers_to_place(plan_of) -> None:  # type: ignore[no-untyped-def]
    made, _ = plan_of(world=models.world(gpus=worlds.NO_GPU))
    assert is_there(made.window, "Context")
    assert not is_there(made.window, "Layers on the GPU")


def test_a_model_without_facts_says_why_and_can_still_be_loaded(plan_of) -> None:  # type: ignore[no-untyped-def]
    blind = msgspec.structs.replace(models.QWEN, facts=None, plan=None)
    library = msgspec.structs.replace(models.MODELS, profiles=(blind,), models=())
    made, view = plan_of(world=models.world(library))
    assert view.plan.verdict is Verdict.UNKNOWN
    assert view.plan.summary in texts(made.window)
    click(made.window, "Load like this")
    assert made.link.sent == [("/control/want", Want(profile="qwen3-14b"))]


def test_everything_has_a_name_and_fits_into_the_smallest_window(plan_of) -> None:  # type: ignore[no-untyped-def]
    made, view = plan_of("gemma-3-27b-q4_k_m", size=(1024, 640))
    view.turn({"context_tokens": 131_072})
    until(lambda: bool(view.panel.remedies))
    QApplication.processEvents()
    assert unnamed(made.window) == []
    assert wider_than(made.window, 1024) == []


def test_context_steps_are_fine_enough_and_end_with_the_models_own_longest() -> None:
    steps = context_steps(40_960)
    assert steps[0] == 512
    assert steps[-1] == 40_960
    assert all(after / before <= 1.5 for before, after in itertools.pairwise(steps))


def test_the_editor_plans_its_draft_and_takes_what_is_turned(stage_of: StageOf) -> None:
    made = stage_of("no_gpu")
    stage.tell(made.store, models.world())
    made.link.answers.update(profile_worlds.ANSWERS)
    made.link.answers["/control/profiles/qwen3-14b"] = SAVED
    made.presenter.go("profile", "qwen3-14b")
    QApplication.processEvents()
    click(made.window, "View: Memory")
    editor = made.window.over("models")
    dial = slider(made, "Context")
    dial.setValue(dial.minimum())
    assert editor.draft.value("settings.context_tokens") == 512  # type: ignore[union-attr]
    assert "context_tokens = 512" in editor.draft.text  # type: ignore[union-attr]


def test_a_plan_keeps_its_remedies_until_others_are_solved(plan_of) -> None:  # type: ignore[no-untyped-def]
    """A slider in motion does not make rows jump away under the pointer."""
    _, view = plan_of("llama-3.3-70b")
    shown = view.panel._cure_rows.count()
    quick: MemoryPlan = pricing_of(view._store, view.card, ()).plan(view.settings, solve=False)
    view.panel.show_plan(quick, view.settings, solved=False)
    assert view.panel._cure_rows.count() == shown > 0
