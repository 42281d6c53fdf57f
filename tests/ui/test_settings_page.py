"""The settings form: made from what the service describes, and told by the service what is wrong."""

from __future__ import annotations

import msgspec
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication

from app.core.control import SettingsChange, SettingsView
from app.core.errors import SettingInvalid
from app.ui.pages.settings import shown, typed
from tests.ui import stage
from tests.ui.conftest import StageOf
from tests.ui.reading import click, named, texts


def _enter(window: object, name: str, text: str) -> None:
    field = named(window, name)  # type: ignore[arg-type]
    field.setText(text)  # type: ignore[attr-defined]
    QTest.keyClick(field, Qt.Key.Key_Return)


def test_every_setting_is_there_with_its_sentence(stage_of: StageOf) -> None:
    said = texts(stage_of("ready", page="settings").window)
    for field in stage.FIELDS:
        if not field.key.startswith("window."):
            assert field.sentence in said
    assert "settings.toml" in said


def test_a_changed_number_is_sent_as_a_number(stage_of: StageOf) -> None:
    made = stage_of("ready", page="settings")
    _enter(made.window, "Concurrency", "12")
    assert made.link.sent == [("/control/settings", SettingsChange(values={"gateway.concurrency": 12}))]


def test_a_refused_value_is_explained_at_its_row_and_kept_for_correction(stage_of: StageOf) -> None:
    made = stage_of("ready", page="settings")
    made.link.answers["/control/settings"] = SettingInvalid(
        "gateway.concurrency: must be at least 1.", "Correct the value."
    )
    _enter(made.window, "Concurrency", "0")
    assert "gateway.concurrency: must be at least 1. Correct the value." in texts(made.window)
    assert named(made.window, "Concurrency").text() == "0"  # type: ignore[attr-defined]


def test_sizes_are_typed_in_gib_and_sent_in_bytes(stage_of: StageOf) -> None:
    made = stage_of("ready", page="settings")
    _enter(made.window, "Headroom", "2")
    assert made.link.sent[-1][1] == SettingsChange(values={"memory.headroom_bytes": 2 * 1024**3})


def test_a_switch_and_a_reset_are_one_click(stage_of: StageOf) -> None:
    made = stage_of("ready", page="settings")
    click(made.window, "Allow other accounts")
    click(made.window, "Reset Threshold to its default")
    assert [value for _, value in made.link.sent] == [
        SettingsChange(values={"gateway.allow_other_accounts": True}),
        SettingsChange(values={"memory.threshold": None}),
    ]


def test_what_the_environment_sets_cannot_be_changed_and_says_so(stage_of: StageOf) -> None:
    window = stage_of("ready", page="settings").window
    assert not named(window, "Request timeout").isEnabled()
    assert "Set by the environment; it cannot be changed here." in texts(window)


def test_a_change_that_needs_a_restart_says_so(stage_of: StageOf) -> None:
    assert "Counts after the service is started again." in texts(stage_of("ready", page="settings").window)


def test_without_the_service_the_theme_can_still_be_chosen(stage_of: StageOf) -> None:
    made = stage_of("gone", page="settings")
    click(made.window, "Theme: Light")
    assert made.theme.choice == "light"
    assert made.link.sent == []


def test_values_shown_and_typed_agree() -> None:
    """What is shown, typed again, is the value: nothing changes by being looked at."""
    for field in stage.FIELDS:
        if field.kind in ("integer", "number", "list", "text"):
            assert typed(field, shown(field)) == field.value
    assert typed(stage.FIELDS[0], "seven") == "seven"
    for odd in ("nan", "inf", "1e999"):
        assert {typed(field, odd) for field in stage.FIELDS if field.kind in ("integer", "number")} == {odd}


def test_a_view_with_other_settings_rebuilds_the_form(stage_of: StageOf, qapp: QApplication) -> None:
    made = stage_of("ready", page="settings")
    fewer = SettingsView(file="x", fields=(msgspec.structs.replace(stage.FIELDS[0], value=7001),))
    made.link.answers["/control/settings"] = fewer
    _enter(made.window, "Port", "7001")
    qapp.processEvents()
    assert named(made.window, "Port").text() == "7001"  # type: ignore[attr-defined]
    assert "Requests answered at once" not in texts(made.window)
