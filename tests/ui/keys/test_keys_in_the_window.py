"""Keys as a person gives them: missing on a card, typed unseen, sent once, refused in words, forgotten (I18)."""

from __future__ import annotations

import msgspec
import pytest
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QLineEdit

from app.core import control
from app.core.errors import BadRequest
from app.core.snapshot import Keys
from app.ui.keys.words import HUB
from tests.ui import library_worlds, worlds
from tests.ui.conftest import StageOf
from tests.ui.keys.test_key_words import remote
from tests.ui.reading import click, is_there, named, texts, unnamed, wider_than
from tests.ui.stage import Stage

KEY = "sk-canary-typed-0123"


@pytest.fixture
def far(stage_of: StageOf, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """A window with a remote profile whose key nobody has given."""

    def make(page: str = "models", **kept: str) -> Stage:
        library = msgspec.structs.replace(
            library_worlds.MODELS, profiles=(remote("far", "work"), worlds.DEMO), models=()
        )
        monkeypatch.setitem(worlds.WORLDS, "far", library_worlds.world(library))
        made = stage_of("far", page=page, size=(1024, 640))
        made.store.put("keys", Keys(keys=kept))
        QApplication.processEvents()
        return made

    return make


def give(made: Stage, field: str, text: str) -> None:
    line = named(made.window, field)
    assert isinstance(line, QLineEdit)
    QTest.keyClicks(line, text)


def test_a_card_whose_key_is_missing_asks_for_it_and_can_be_loaded_then(far) -> None:  # type: ignore[no-untyped-def]
    made = far()
    assert not is_there(made.window, "Load far")
    assert "No key called “work” is kept yet." in texts(made.window)
    made.link.answers["/control/keys"] = control.Accepted(note="The key work is kept in the desktop's keyring.")
    click(made.window, "Give the key of far")
    assert not named(made.window, "Keep the key").isEnabled()
    field = named(made.window, "Key")
    assert field.echoMode() == QLineEdit.EchoMode.Password  # type: ignore[attr-defined]
    give(made, "Key", f" {KEY} ")
    click(made.window, "Keep the key")
    assert made.link.sent == [("/control/keys", control.GivenKey(name="work", key=KEY))]
    assert KEY not in repr(made.link.sent), "a log of what was sent would not have it"
    assert KEY not in texts(made.window)
    assert "kept in the desktop's keyring" in texts(made.window)
    assert not is_there(made.window, "Key")
    made.store.put("keys", Keys(keys={"work": "keyring"}))
    QApplication.processEvents()
    assert is_there(made.window, "Load far")


def test_a_refused_key_is_explained_where_it_was_typed_and_is_not_kept_in_the_field(far) -> None:  # type: ignore[no-untyped-def]
    made = far()
    made.link.answers["/control/keys"] = BadRequest(
        "That is no key: it must be one line of plain characters.", "Again."
    )
    click(made.window, "Give the key of far")
    give(made, "Key", "no-key")
    click(made.window, "Keep the key")
    assert "That is no key" in texts(made.window)
    assert named(made.window, "Key").text() == ""  # type: ignore[attr-defined]
    assert not named(made.window, "Keep the key").isEnabled(), "nothing is typed"
    give(made, "Key", "x")
    assert named(made.window, "Keep the key").isEnabled()


def test_the_settings_name_every_key_and_take_forget_and_replace_them(far) -> None:  # type: ignore[no-untyped-def]
    made = far("settings", old="file", **{HUB: "keyring"})
    said = texts(made.window)
    for words in ("Hugging Face access token", "Missing", "For Far.", "No profile uses it. In a file that only"):
        assert words in said, words
    made.link.answers |= dict.fromkeys(
        ("/control/keys/remove", "/control/hub/token"), control.Accepted(note="Forgotten.")
    )
    for name, wish in (
        ("old", ("/control/keys/remove", control.KeyOf(name="old"))),
        ("Hugging Face access token", ("/control/hub/token", control.HubToken(token=""))),
    ):
        click(made.window, f"Forget {name}")
        made.link.sent.clear()
        click(made.window, "Forget it")
        assert made.link.sent == [wish]
    made.link.answers["/control/keys"] = control.Accepted(note="Kept.")
    click(made.window, "Add a key")
    give(made, "Name of the key", "azure-eu")
    give(made, "Key", KEY)
    click(made.window, "Keep the key")
    assert made.link.sent[-1] == ("/control/keys", control.GivenKey(name="azure-eu", key=KEY))
    click(made.window, "Replace Hugging Face access token")
    give(made, "Access token", "hf_x")
    click(made.window, "Keep the access token")
    assert made.link.sent[-1] == ("/control/hub/token", control.HubToken(token="hf_x"))
    assert repr(made.link.sent[-1]) == "('/control/hub/token', HubToken())"


def test_the_plan_of_an_endpoint_asks_for_its_key_in_place_of_loading(far) -> None:  # type: ignore[no-untyped-def]
    made = far()
    made.presenter.go("plan", "far")
    QApplication.processEvents()
    click(made.window, "Give the key of far")
    assert is_there(made.window, "Key")
    assert made.link.sent == [] or all(path != "/control/want" for path, _ in made.link.sent)


def test_the_question_fits_a_small_window_and_every_control_has_a_name(far) -> None:  # type: ignore[no-untyped-def]
    made = far("settings", old="file")
    click(made.window, "Add a key")
    assert unnamed(made.window) == []
    assert wider_than(made.window, 1024) == []
    card = named(made.window, "A key").findChild(QLineEdit).parentWidget().parentWidget()
    assert card.height() < 400, "a small question is a small card"
