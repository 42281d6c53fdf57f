"""Editing a profile: the form comes from the settings table, form and text are one thing, and nothing written is lost."""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec
import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QFileDialog

from app.core import control
from app.core.errors import Detail, DoesNotFit, ProfileInvalid
from app.core.options import Option, OptionKind
from app.core.profiles import Profile
from app.ui.profiles.editor import ProfileEditor
from tests.ui import profile_worlds, stage
from tests.ui.conftest import StageOf
from tests.ui.profile_worlds import EXPORT, FOUND, MINE, OPTIONS, TEXT
from tests.ui.reading import click, is_there, named, texts, unnamed, wider_than
from tests.ui.stage import until


@pytest.fixture
def editor_of(stage_of: StageOf):  # type: ignore[no-untyped-def]
    def make(answers: dict[str, object] | None = None, size: tuple[int, int] = (1280, 900)) -> stage.Stage:
        made = stage_of("two_gpus", size=size)
        made.link.answers.update({**profile_worlds.ANSWERS, **(answers or {})})
        made.presenter.go("profile", "gemma-3-12b")
        until(lambda: is_there(made.window, "Environment"))
        return made

    return make


def editor(made: stage.Stage) -> ProfileEditor:
    QApplication.processEvents()
    found = made.window.over("models")
    assert isinstance(found, ProfileEditor)
    return found


def enter(made: stage.Stage, name: str, text: str) -> None:
    field = named(made.window, name)
    field.setFocus()
    field.selectAll()  # type: ignore[attr-defined]
    QTest.keyClicks(field, text) if text else QTest.keyClick(field, Qt.Key.Key_Delete)
    QApplication.processEvents()


def last(made: stage.Stage, path: str) -> msgspec.Struct:
    return next(value for sent, value in reversed(made.link.sent) if sent == path)


def test_a_row_added_to_the_table_appears_in_the_form_and_nowhere_else_must_anything_be_done(editor_of) -> None:  # type: ignore[no-untyped-def]
    row = Option(
        name="warp_factor",
        kind=OptionKind.INTEGER,
        sentence="How fast space is bent.",
        title="Warp factor",
        group="Speed",
        unit="c",
        default=3,
        minimum=1,
        maximum=9,
    )
    families = {**OPTIONS.families, "llama.cpp": (*OPTIONS.families["llama.cpp"], row)}
    made = editor_of({"/control/engines/options": msgspec.structs.replace(OPTIONS, families=families)})
    assert "How fast space is bent." in texts(made.window)
    field = named(made.window, "Warp factor")
    assert field.placeholderText() == "3"  # type: ignore[attr-defined]
    enter(made, "Warp factor", "7")
    assert tomllib.loads(editor(made).draft.text)["settings"]["warp_factor"] == 7
    enter(made, "Warp factor", "11")
    assert "Must be at most 9, not 11" in texts(made.window)
    assert not named(made.window, "Save the profile").isEnabled()


def test_what_is_typed_is_saved_and_what_the_person_wrote_stays(editor_of) -> None:  # type: ignore[no-untyped-def]
    made = editor_of()
    enter(made, "Context", "16k")
    saved = msgspec.structs.replace(MINE, text=TEXT.replace("8192", "16384"))
    made.link.answers["/control/profiles"] = saved
    click(made.window, "Save the profile")
    assert last(made, "/control/profiles") == msgspec.structs.replace(saved, based_on=TEXT)
    assert "Saved." in texts(made.window)
    assert not named(made.window, "Save the profile").isEnabled()
    click(made.window, "Back to Models")
    assert made.window.over("models") is None
    assert is_there(made.window, "Load gemma-3-12b")


def test_a_decimal_comma_is_told_and_never_taken_for_another_number(editor_of) -> None:  # type: ignore[no-untyped-def]
    made = editor_of()
    enter(made, "Context", "16,384")
    assert editor(made).draft.value("settings.context_tokens") == 16384
    for odd in ("nan", "1e999"):
        enter(made, "Context", odd)
        assert editor(made).draft.value("settings.context_tokens") == odd
        assert "# 16k is tight" in editor(made).draft.text, "no number costs the person's own words"
    enter(made, "Context", "16,5")
    assert editor(made).draft.value("settings.context_tokens") == "16,5"
    assert not named(made.window, "Save the profile").isEnabled()


def test_what_is_typed_while_it_is_being_saved_is_not_lost(editor_of) -> None:  # type: ignore[no-untyped-def]
    draft = editor(editor_of()).draft
    draft.set("title", "First")
    sent = draft.text
    draft.set("title", "Second")
    draft.saved_as(msgspec.structs.replace(MINE, text=sent), sent)
    assert draft.value("title") == "Second"
    assert draft.is_changed
    assert draft.based_on == sent


def test_a_found_profile_is_saved_as_the_persons_own(editor_of) -> None:  # type: ignore[no-untyped-def]
    made = editor_of({"/control/profiles/gemma-3-12b": FOUND})
    assert "Saving makes your own copy" in texts(made.window)
    made.link.answers["/control/profiles"] = MINE
    click(made.window, "Save the profile")
    sent = last(made, "/control/profiles")
    assert (sent.own, sent.based_on) == (True, None)  # type: ignore[attr-defined]


def test_a_duplicate_has_a_name_of_its_own(stage_of: StageOf) -> None:
    made = stage_of("two_gpus")
    made.link.answers.update(profile_worlds.ANSWERS)
    made.presenter.go("profile", "copy:gemma-3-12b")
    made.link.answers["/control/profiles"] = MINE
    click(made.window, "Save the profile")
    sent = last(made, "/control/profiles")
    assert isinstance(sent, control.ProfileText)
    assert sent.profile == "gemma-3-12b-2"
    assert tomllib.loads(sent.text)["title"] == "Gemma 3 12B (copy)"
    assert "aliases" not in tomllib.loads(sent.text)


def test_the_form_and_the_text_are_one_thing(editor_of) -> None:  # type: ignore[no-untyped-def]
    made = editor_of()
    click(made.window, "View: Text")
    field = named(made.window, "Profile as text")
    field.setPlainText(TEXT.replace("slots = 2", "slots = 6"))  # type: ignore[attr-defined]
    click(made.window, "View: Form")
    assert named(made.window, "Answers at once").text() == "6"  # type: ignore[attr-defined]
    enter(made, "Answers at once", "")
    click(made.window, "View: Text")
    assert "slots" not in named(made.window, "Profile as text").toPlainText()  # type: ignore[attr-defined]
    assert "# 16k is tight" in named(made.window, "Profile as text").toPlainText()  # type: ignore[attr-defined]


def test_text_that_is_no_toml_says_where_and_cannot_be_saved_nor_spoilt_by_the_form(editor_of) -> None:  # type: ignore[no-untyped-def]
    made = editor_of()
    broken = TEXT + "\nthis is not"
    click(made.window, "View: Text")
    named(made.window, "Profile as text").setPlainText(broken)  # type: ignore[attr-defined]
    QApplication.processEvents()
    assert "not valid TOML" in texts(made.window)
    click(made.window, "View: Form")
    assert "The text has a problem" in texts(made.window)
    assert not named(made.window, "Context").isEnabled()
    assert named(made.window, "Context").text() == "8192"  # type: ignore[attr-defined]
    assert editor(made).draft.text == broken
    assert not named(made.window, "Save the profile").isEnabled()


def test_every_problem_stands_at_its_field(editor_of) -> None:  # type: ignore[no-untyped-def]
    made = editor_of()
    enter(made, "Context", "lots")
    enter(made, "Answers at once", "1000")
    said = texts(made.window)
    assert "Must be a whole number, not 'lots'" in said
    assert "Must be at most 256, not 1,000" in said


def test_what_only_the_service_can_find_wrong_stands_at_its_field_too(editor_of) -> None:  # type: ignore[no-untyped-def]
    made = editor_of()
    refusal = ProfileInvalid("gemma-3-12b.toml", "model", "there is no such file.")
    refusal.details = (Detail(key="model", summary="There is no such file."),)
    made.link.answers["/control/profiles"] = refusal
    enter(made, "Context", "4096")
    click(made.window, "Save the profile")
    assert "There is no such file." in texts(editor(made).form)
    assert editor(made).draft.is_changed


def test_presets_lie_under_what_the_person_sets(editor_of) -> None:  # type: ignore[no-untyped-def]
    made = editor_of()
    preset = OPTIONS.presets["llama.cpp"][0]
    click(made.window, f"Tune for: {preset.title}")
    assert preset.sentence in texts(made.window)
    draft = editor(made).draft
    assert tomllib.loads(draft.text)["preset"] == preset.name
    assert draft.settings["slots"] == 2
    assert draft.effective({})["slots"] == 2
    name, value = next((n, v) for n, v in preset.settings.items() if n != "slots")
    assert draft.effective({})[name] == value
    click(made.window, "Tune for: Neither")
    assert "preset" not in tomllib.loads(draft.text)


def test_the_price_follows_the_settings(editor_of) -> None:  # type: ignore[no-untyped-def]
    made = editor_of()
    assert "Fits · 10.9 GiB spare" in texts(editor(made))
    from tests.ui import worlds

    made.link.answers["/control/plan"] = worlds.plan(
        worlds.Verdict.DOES_NOT_FIT, 63.0, 24, 22.7, summary="Needs 63.0 GiB; 21.2 GiB may be used."
    )
    enter(made, "Context", "131072")
    until(lambda: "Needs 63.0 GiB; 21.2 GiB may be used." in texts(editor(made)))
    wish = last(made, "/control/plan")
    assert isinstance(wish, control.Want)
    assert tomllib.loads(wish.text)["settings"]["context_tokens"] == 131072, "the whole draft is priced, saved or not"


def test_the_effective_command_is_shown_copied_and_its_unknown_flags_named(editor_of) -> None:  # type: ignore[no-untyped-def]
    made = editor_of()
    click(made.window, "View: Command")
    shown = named(made.window, "Command line").toPlainText()  # type: ignore[attr-defined]
    assert "  --ctx-size 8192 \\" in shown
    assert "HF_TOKEN='••••••'" in shown
    assert "does not know --speedy" in texts(made.window)
    click(made.window, "Copy the command line")
    assert QGuiApplication.clipboard().text().startswith("CUDA_VISIBLE_DEVICES=GPU-1111 HF_TOKEN=")


def test_a_command_that_cannot_be_made_says_why(editor_of) -> None:  # type: ignore[no-untyped-def]
    made = editor_of({"/control/command": DoesNotFit("llama-server is not installed.")})
    click(made.window, "View: Command")
    assert "not installed" in named(made.window, "Command line").placeholderText()  # type: ignore[attr-defined]
    assert not named(made.window, "Copy the command line").isEnabled()


def test_a_saved_profile_is_exported_by_a_dialog_that_never_blocks(editor_of, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    made = editor_of()
    click(made.window, "View: Command")
    click(made.window, "Export as Shell script")
    assert last(made, "/control/export") == control.ExportOf(profile="gemma-3-12b", kind="shell")
    dialog = editor(made).findChild(QFileDialog)
    file = tmp_path / "run.sh"
    dialog.fileSelected.emit(str(file))
    dialog.close()
    assert file.read_text() == EXPORT.text
    assert file.stat().st_mode & 0o111
    assert "Put your key into KEY_FILE." in texts(made.window)
    click(made.window, "View: Form")
    enter(made, "Context", "4096")
    click(made.window, "View: Command")
    assert not named(made.window, "Export as Shell script").isEnabled()


def test_leaving_with_changes_asks_and_other_pages_do_not_lose_them(editor_of) -> None:  # type: ignore[no-untyped-def]
    made = editor_of()
    enter(made, "Context", "4096")
    click(made.window, "Navigation: Monitor")
    click(made.window, "Navigation: Models")
    assert named(made.window, "Context").text() == "4096"  # type: ignore[attr-defined]
    click(made.window, "Back to Models")
    click(made.window, "Go on editing")
    assert editor(made).draft.is_changed
    click(made.window, "Back to Models")
    click(made.window, "Discard")
    assert made.window.over("models") is None


def test_leaving_can_save_first(editor_of) -> None:  # type: ignore[no-untyped-def]
    made = editor_of({"/control/profiles": MINE})
    enter(made, "Context", "4096")
    click(made.window, "Back to Models")
    click(made.window, "Save")
    assert last(made, "/control/profiles").text == TEXT.replace("8192", "4096")  # type: ignore[attr-defined]
    assert made.window.over("models") is None


def test_lists_and_tables_are_written_one_a_line(editor_of) -> None:  # type: ignore[no-untyped-def]
    made = editor_of()
    named(made.window, "Extra arguments").setPlainText("--speedy\n--seed\n42")  # type: ignore[attr-defined]
    named(made.window, "Environment").setPlainText("A=1\nB=x=y")  # type: ignore[attr-defined]
    profile = editor(made).draft.profile
    assert isinstance(profile, Profile)
    assert profile.extra_arguments == ("--speedy", "--seed", "42")
    assert profile.environment == {"A": "1", "B": "x=y"}
    named(made.window, "Environment").setPlainText("B=x=y")  # type: ignore[attr-defined]
    assert editor(made).draft.profile.environment == {"B": "x=y"}
    assert "# The one for everyday" in editor(made).draft.text


def test_comfort_is_set_by_switches(editor_of) -> None:  # type: ignore[no-untyped-def]
    made = editor_of()
    for name in ("Load at start", "Keep loaded"):
        named(made.window, name).click()  # type: ignore[attr-defined]
    profile = editor(made).draft.profile
    assert (profile.load_at_start, profile.keep_loaded) == (True, True)
    named(made.window, "Load at start").click()  # type: ignore[attr-defined]
    assert "load_at_start" not in editor(made).draft.values


def test_finding_a_setting_opens_what_is_folded(editor_of) -> None:  # type: ignore[no-untyped-def]
    made = editor_of()
    assert not is_there(made.window, "Prompt cache")
    named(made.window, "Find a setting").setText("prompt cache")  # type: ignore[attr-defined]
    QApplication.processEvents()
    assert is_there(made.window, "Prompt cache")
    assert not is_there(made.window, "Context")
    named(made.window, "Find a setting").setText("nothing like it")  # type: ignore[attr-defined]
    QApplication.processEvents()
    assert "Any flag can be given under Extra arguments." in texts(made.window)


def test_deleting_asks_and_goes_to_the_trash(editor_of) -> None:  # type: ignore[no-untyped-def]
    made = editor_of({"/control/profiles/remove": control.Accepted()})
    click(made.window, "Delete this profile")
    click(made.window, "Delete")
    assert last(made, "/control/profiles/remove") == control.ProfileOf(profile="gemma-3-12b")
    assert made.window.over("models") is None


def test_every_engines_form_can_be_shown(editor_of) -> None:  # type: ignore[no-untyped-def]
    made = editor_of()
    for family, options in OPTIONS.families.items():
        editor(made).draft.set("engine", family)
        QApplication.processEvents()
        said = texts(made.window)
        assert all(option.sentence in said for option in options if not option.advanced)


def test_it_fits_a_small_screen_and_every_control_has_a_name(editor_of) -> None:  # type: ignore[no-untyped-def]
    made = editor_of(size=(1024, 640))
    for tab in ("Form", "Text", "Command"):
        click(made.window, f"View: {tab}")
        assert made.window.width() == 1024
        assert wider_than(made.window, 1024) == []
        assert unnamed(made.window) == []


def test_closing_the_window_asks_about_what_is_not_saved(editor_of) -> None:  # type: ignore[no-untyped-def]
    made = editor_of()
    enter(made, "Context", "4096")
    click(made.window, "Navigation: Monitor")
    made.window.close()
    QApplication.processEvents()
    assert made.window.isVisible()
    click(made.window, "Go on editing")
    assert named(made.window, "Context").text() == "4096"  # type: ignore[attr-defined]


def test_cards_are_chosen_where_there_are_several(editor_of) -> None:  # type: ignore[no-untyped-def]
    made = editor_of()
    assert "GPU-1111 (NVIDIA GeForce RTX 4090)" in texts(made.window)
    named(made.window, "Graphics cards").setPlainText("GPU-2222")  # type: ignore[attr-defined]
    assert editor(made).draft.profile.gpus == ("GPU-2222",)
