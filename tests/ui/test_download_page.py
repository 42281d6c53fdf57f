"""The Download page as a person uses it: searches, sees what fits, downloads, pauses, deletes, and takes it back."""

from __future__ import annotations

import msgspec
import pytest
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QLineEdit

from app.core import control
from app.core.snapshot import Jobs
from app.ui.pages.download import DownloadPage
from tests.ui import stage, worlds
from tests.ui.conftest import StageOf
from tests.ui.download_worlds import DONE, FETCHING, NAME, PAUSED, RUNNING, SHELF, STATES
from tests.ui.reading import click, is_there, named, texts, unnamed, wider_than


@pytest.fixture
def page_in(stage_of: StageOf, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    def make(state: str, size: tuple[int, int] = (1280, 900), theme: str = "dark") -> tuple[stage.Stage, DownloadPage]:
        world, answers, typed, unfolded = STATES[state]
        monkeypatch.setitem(worlds.WORLDS, f"download: {state}", world)
        made = stage_of(f"download: {state}", size=size, theme=theme)
        made.link.answers |= answers
        page = made.window.open_page("download")
        assert isinstance(page, DownloadPage)
        QApplication.processEvents()
        if typed:
            QTest.keyClicks(page.search, typed)
            page.search.returnPressed.emit()
            QApplication.processEvents()
        if unfolded:
            click(made.window, f"Show what there is of {unfolded}")
            QApplication.processEvents()
        made.link.sent.clear()
        return made, page

    return make


def test_a_search_shows_models_and_one_unfolds_into_its_forms(page_in) -> None:  # type: ignore[no-untyped-def]
    made, page = page_in("forms")
    said = texts(page)
    for words in ("Qwen2.5-VL-7B-Instruct-GGUF", "1.2M downloads", "Needs agreement", "Best that fits", "Does not fit"):
        assert words in said, words
    assert "with its projector" in said
    assert "Licence apache-2.0" in said
    click(made.window, f"Download {NAME} Q5_K_M")
    assert made.link.sent == [("/control/hub/pull", control.Pull(name=NAME, file="Qwen2.5-VL-7B-Instruct-Q5_K_M.gguf"))]
    click(made.window, f"Hide what there is of {NAME}")
    assert "Best that fits" not in texts(page)


def test_names_come_first_and_verdicts_when_the_headers_are_read(page_in) -> None:  # type: ignore[no-untyped-def]
    made, _ = page_in("found")
    click(made.window, f"Show what there is of {NAME}")
    asked = [wish.verdicts for path, wish in made.link.sent if path == "/control/hub/files"]
    assert asked[0] is False, "sizes do not wait for headers"


def test_what_the_hub_refuses_is_said_where_it_was_asked(page_in) -> None:  # type: ignore[no-untyped-def]
    _, page = page_in("failing")
    assert "The hub cannot be reached" in texts(page)
    _, page = page_in("gated")
    assert "given only to people who agreed to its terms" in texts(page)


def test_a_form_that_has_no_room_on_the_disk_is_not_offered(page_in) -> None:  # type: ignore[no-untyped-def]
    made, page = page_in("full")
    assert not named(made.window, f"Download {NAME} Q8_0").isEnabled()
    assert texts(page).count("A newer revision than the one on this disk was published.") == 1
    named(made.window, f"Update {NAME}")  # one only, also after the verdicts have come


def test_a_download_is_paused_resumed_cancelled_and_put_away(page_in) -> None:  # type: ignore[no-untyped-def]
    made, page = page_in("downloading")
    said = texts(page)
    for words in ("2.7 of 6.3 GiB · about 4 min left", "Paused. What has come stays.", "are here and stay", "is here"):
        assert words in said, words
    click(made.window, f"Pause {RUNNING.title}")
    click(made.window, f"Resume {PAUSED.title}")
    click(made.window, f"Cancel {RUNNING.title}")
    assert [(path, wish.job) for path, wish in made.link.sent] == [
        ("/control/jobs/pause", RUNNING.id),
        ("/control/jobs/resume", PAUSED.id),
        ("/control/jobs/cancel", RUNNING.id),
    ]
    click(made.window, f"Dismiss {DONE.title}")
    assert not is_there(made.window, f"Dismiss {DONE.title}")
    made.store.put("jobs", Jobs())
    assert not is_there(made.window, f"Pause {RUNNING.title}")


def test_an_ollama_that_runs_fetches_what_it_is_asked_for_and_is_shown_like_any_download(page_in) -> None:  # type: ignore[no-untyped-def]
    made, page = page_in("ollama")
    said = texts(page)
    for words in ("The Ollama at 127.0.0.1:11434 fetches it", "Fetched by Ollama", "0.6 of 2.0 GiB · about 41 s left"):
        assert words in said, words
    assert not is_there(made.window, "Pause llama3.2:3b")
    assert not named(made.window, "Have Ollama fetch it").isEnabled(), "no name is typed"
    QTest.keyClicks(named(made.window, "Model for Ollama to fetch"), "qwen3:8b")
    click(made.window, "Have Ollama fetch it")
    click(made.window, "Cancel llama3.2:3b")
    failed = msgspec.structs.replace(FETCHING, state="failed", error="Ollama broke off.", advice="Start it again.")
    made.store.put("jobs", Jobs(jobs=(failed,)))
    click(made.window, "Try again llama3.2:3b")
    assert made.link.sent == [
        ("/control/ollama/pull", control.OllamaPull(model="qwen3:8b")),
        ("/control/jobs/cancel", control.JobOf(job=FETCHING.id)),
        ("/control/ollama/pull", control.OllamaPull(model="llama3.2:3b")),
    ]
    assert "Ollama broke off." not in texts(page), "what is tried again is put away"


def test_without_an_ollama_nothing_of_it_is_offered(page_in) -> None:  # type: ignore[no-untyped-def]
    made, _ = page_in("empty")
    assert not is_there(made.window, "Have Ollama fetch it")


def test_deleting_goes_to_the_trash_and_comes_back(page_in) -> None:  # type: ignore[no-untyped-def]
    made, page = page_in("shelf")
    loaded, other = SHELF.models[0], SHELF.models[1]
    assert not named(made.window, f"Delete {loaded.title} of bartowski").isEnabled(), "an engine reads it"
    made.link.answers["/control/hub/delete"] = control.Accepted(note="It is in the trash: 2.9 GB.", profile="1-abcdef")
    made.link.answers["/control/hub/restore"] = control.Accepted(note="It is back.")
    click(made.window, f"Delete {other.title} of Qwen")
    assert made.link.sent[0] == ("/control/hub/delete", control.DeleteModel(path=other.path))
    assert "It is in the trash" in texts(page)
    click(made.window, "Undo")
    assert made.link.sent[-1] == ("/control/hub/restore", control.TrashOf(trash="1-abcdef"))
    click(made.window, "Empty the trash")
    assert "What is in the trash cannot be put back then." in texts(made.window)


def test_the_access_token_is_typed_unseen_and_kept_by_the_service(page_in) -> None:  # type: ignore[no-untyped-def]
    made, page = page_in("empty")
    assert "Nothing yet." in texts(page)
    made.link.answers["/control/hub/token"] = control.Accepted(note="The access token is in the keyring.")
    click(made.window, "Access token for models that need agreement")
    field = named(made.window, "Access token")
    assert isinstance(field, QLineEdit)
    assert field.echoMode() == field.EchoMode.Password
    QTest.keyClicks(field, "hf_abc")
    click(made.window, "Keep the access token")
    assert ("/control/hub/token", control.HubToken(token="hf_abc")) in made.link.sent
    assert "in the keyring" in texts(made.window)
    assert "hf_abc" not in texts(made.window), "I18: sent once, and forgotten here"
    assert not is_there(made.window, "Access token")


@pytest.mark.parametrize("state", STATES)
def test_nothing_is_cut_off_or_unnamed(page_in, state: str) -> None:  # type: ignore[no-untyped-def]
    made, page = page_in(state, size=(960, 640), theme="light")
    assert unnamed(page) == []
    assert wider_than(made.window, 960) == []
