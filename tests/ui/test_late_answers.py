"""Answers of the service that come late, in another order, or when their asker has gone: nothing is lost, nothing jumps back.

The stand-in of the link holds each answer back until the test gives it; all order is the test's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import msgspec
import pytest
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QAbstractButton, QLineEdit, QWidget

from app.core import control
from app.core.control import Cache, Caches, ProfileText, SettingsView
from app.core.errors import DaemonUnreachable
from app.ui.plan.view import PlanView
from app.ui.profiles.editor import ProfileEditor
from app.ui.store import Connection
from app.ui.widgets.pill import Pill
from tests.ui import download_worlds, library_worlds, profile_worlds, stage
from tests.ui.conftest import StageOf
from tests.ui.reading import click, is_there, named
from tests.ui.stage import HeldLink, Stage, soon, turns

Held = tuple[Stage, HeldLink]


@pytest.fixture
async def held_of(stage_of: StageOf) -> AsyncIterator[Callable[..., Held]]:
    links: list[HeldLink] = []

    def make(world: str, *held: str) -> Held:
        """With the models page open, which asks nothing: putting a window up lets Qt work, and no task may begin in that."""
        made = stage_of(world, link_of=HeldLink)
        assert isinstance(made.link, HeldLink)
        made.link.held |= set(held)
        links.append(made.link)
        return made, made.link

    yield make
    for link in links:
        await link.tasks.close()  # type: ignore[attr-defined]


GEMMA, QWEN = "/control/profiles/gemma-3-12b", "/control/profiles/qwen3-14b"
PROFILES = "/control/profiles"


def editor(made: Stage) -> ProfileEditor:
    found = made.window.over("models")
    assert isinstance(found, ProfileEditor)
    return found


async def editing(held_of: Callable[..., Held], *held: str) -> Held:
    made, link = held_of("ready", *held)
    link.answers |= profile_worlds.ANSWERS
    made.presenter.go("profile", "gemma-3-12b")
    await soon(lambda: editor(made).draft is not None)
    return made, link


def saved(wish: object) -> ProfileText:
    assert isinstance(wish, ProfileText)
    return ProfileText(profile=wish.profile, text=wish.text, own=True)


async def test_saving_again_before_the_first_saving_is_answered_is_based_on_the_first(held_of) -> None:  # type: ignore[no-untyped-def]
    """Else the service takes the second for a change of a file that somebody else has written meanwhile, and refuses it."""
    made, link = await editing(held_of, PROFILES)
    one = editor(made)
    assert one.draft is not None
    one.draft.set("title", "One")
    one.save()
    await link.until_asked(1)
    one.draft.set("title", "Two")
    one.save()
    await turns()
    await link.answer(0, saved(link.asked[0][1]))
    await link.until_asked(2)
    first, second = (wish for _, wish, _ in link.asked)
    assert isinstance(first, ProfileText)
    assert isinstance(second, ProfileText)
    assert 'title = "Two"' in second.text
    assert second.based_on == first.text
    await link.answer(1, saved(second))
    assert not one.is_changed
    one.save()
    await turns()
    assert len(link.asked) == 2, "there is nothing to save"


async def test_an_editor_that_was_left_takes_no_answer_any_more(held_of) -> None:  # type: ignore[no-untyped-def]
    made, link = await editing(held_of, "/control/profiles/remove", "/control/export")
    one = editor(made)
    one.show_tab("command")
    one._remove()
    one._remove()
    one._export("shell")
    await link.until_asked(3)
    one.closed.emit()
    made.presenter.go("plan", "gemma-3-12b")
    await soon(lambda: not _alive(one))
    await link.answer(0, control.Accepted())
    await link.answer(1, DaemonUnreachable("It is gone."))
    await link.answer(2, DaemonUnreachable("It is gone."))
    assert link.errors == []
    assert isinstance(made.window.over("models"), PlanView), "what lies over the page now is another one's"


def _alive(widget: object) -> bool:
    import shiboken6

    return bool(shiboken6.isValid(widget))


async def test_an_editor_opened_while_nobody_answers_is_filled_when_somebody_does(held_of) -> None:  # type: ignore[no-untyped-def]
    made, link = held_of("ready")
    made.store.set_connection(Connection.GONE, "The Engine Room service is not running.")
    made.presenter.go("profile", "gemma-3-12b")
    await turns()
    assert editor(made).draft is None
    link.answers |= profile_worlds.ANSWERS
    made.store.set_connection(Connection.CONNECTED)
    await turns()
    assert editor(made).draft is not None, "it said for ever that nobody answers"


async def test_a_plan_opened_while_nobody_answers_gets_its_dials_when_somebody_does(held_of) -> None:  # type: ignore[no-untyped-def]
    made, link = held_of("no_gpu")
    stage.tell(made.store, library_worlds.world())
    made.store.set_connection(Connection.GONE, "The Engine Room service is not running.")
    made.presenter.go("plan", "qwen3-14b")
    await turns()
    assert not is_there(made.window, "Context")
    link.answers |= profile_worlds.ANSWERS
    made.store.set_connection(Connection.CONNECTED)
    await turns()
    view = made.window.over("models")
    assert isinstance(view, PlanView)
    assert view._options, "the sliders never came"


async def plan_being_saved(held_of) -> tuple[PlanView, stage.HeldLink]:  # type: ignore[no-untyped-def]
    """A plan whose change is on its way into its profile; the first question about it is not answered yet."""
    made, link = held_of("no_gpu", QWEN, PROFILES)
    stage.tell(made.store, library_worlds.world())
    link.answers |= profile_worlds.ANSWERS
    made.presenter.go("plan", "qwen3-14b")
    await turns()
    view = made.window.over("models")
    assert isinstance(view, PlanView)
    view.turn({"context_tokens": 16384})
    view.save()
    await link.until_asked(1)
    return view, link


async def test_a_plan_is_saved_into_the_profile_that_was_shown_when_save_was_pressed(held_of) -> None:  # type: ignore[no-untyped-def]
    view, link = await plan_being_saved(held_of)
    view._ways.addItem("another way", "demo")
    view._choose_way(view._ways.count() - 1)
    assert view.profile_id == "demo"
    view.turn({"context_tokens": 16384})
    await link.answer(0, ProfileText(profile="qwen3-14b", text='engine = "llama.cpp"\nmodel = "/m.gguf"\n', own=True))
    await link.until_asked(2)
    wish = link.asked[1][1]
    assert isinstance(wish, ProfileText)
    assert wish.profile == "qwen3-14b", "one profile's text was written over another's"
    await link.answer(1, saved(wish))
    assert view.changes == {"context_tokens": 16384}, "these changes are of the other profile, and not saved"


async def test_a_plan_saved_twice_is_based_on_what_the_first_saving_wrote(held_of) -> None:  # type: ignore[no-untyped-def]
    view, link = await plan_being_saved(held_of)
    view.turn({"context_tokens": 8192})
    view.save()
    await turns()
    before = ProfileText(profile="qwen3-14b", text='engine = "llama.cpp"\nmodel = "/m.gguf"\n', own=True)
    await link.answer(0, before)
    await link.until_asked(2)
    assert link.asked[1][0] == PROFILES, "the second saving read the file before the first had written it"
    await link.answer(1, saved(link.asked[1][1]))
    await link.until_asked(3)
    assert link.asked[2][0] == QWEN


async def test_two_switches_of_one_profile_are_written_one_after_the_other(held_of) -> None:  # type: ignore[no-untyped-def]
    made, link = held_of("ready", GEMMA, PROFILES)
    page = made.window.open_page("models")
    page._set_comfort("gemma-3-12b", "keep_loaded", True)
    page._set_comfort("gemma-3-12b", "load_at_start", True)
    await link.until_asked(1)
    await turns()
    await link.answer(0, profile_worlds.MINE)
    await link.until_asked(2)
    assert [path for path, _, _ in link.asked] == [GEMMA, PROFILES], (
        "the second read the file before the first wrote it"
    )
    await link.answer(1, saved(link.asked[1][1]))
    await link.until_asked(3)
    await link.answer(2, saved(link.asked[1][1]))
    await link.until_asked(4)
    wish = link.asked[3][1]
    assert isinstance(wish, ProfileText)
    assert "keep_loaded = true" in wish.text
    assert "load_at_start = true" in wish.text


SETTINGS = "/control/settings"


def settings(**values: object) -> SettingsView:
    fields = tuple(
        msgspec.structs.replace(field, value=values.get(field.key.replace(".", "_"), field.value))
        for field in stage.FIELDS
    )
    return SettingsView(file="~/.config/engine-room/settings.toml", fields=fields, restart_needed=())


def line(made: Stage, name: str) -> QLineEdit:
    found = named(made.window, name)
    assert isinstance(found, QLineEdit)
    return found


def toggle(made: Stage) -> QAbstractButton:
    found = named(made.window, "Allow other accounts")
    assert isinstance(found, QAbstractButton)
    return found


async def test_what_is_being_typed_stays_when_the_answer_to_another_setting_comes(held_of) -> None:  # type: ignore[no-untyped-def]
    made, link = held_of("ready")
    made.window.open_page("settings")
    await soon(lambda: is_there(made.window, "Allow other accounts"))
    link.held.add(SETTINGS)
    toggle(made).click()
    await link.until_asked(1)
    port = line(made, "Port")
    port.clear()
    QTest.keyClicks(port, "80")
    await link.answer(0, settings(gateway_allow_other_accounts=True))
    assert port.text() == "80", "the digits vanished under the fingers"
    QTest.keyClicks(port, "80")
    port.editingFinished.emit()
    await link.until_asked(2)
    assert link.asked[1][1] == control.SettingsChange(values={"gateway.port": 8080})
    await link.answer(1, settings(gateway_port=8080, gateway_allow_other_accounts=True))
    assert port.text() == "8080"


async def test_settings_are_changed_in_the_order_in_which_they_were_chosen(held_of) -> None:  # type: ignore[no-untyped-def]
    """On and off again at once: each on a connection of its own, the two could change places, or their answers could."""
    made, link = held_of("ready")
    made.window.open_page("settings")
    await soon(lambda: is_there(made.window, "Allow other accounts"))
    link.held.add(SETTINGS)
    switch = toggle(made)
    switch.click()
    switch.click()
    await link.until_asked(1)
    await turns()
    assert [wish for _, wish, _ in link.asked] == [
        control.SettingsChange(values={"gateway.allow_other_accounts": True})
    ], "both are on their way at once"
    await link.answer(0, settings(gateway_allow_other_accounts=True))
    await link.until_asked(2)
    assert not switch.isChecked(), "it sprang back to what the person has changed already"
    assert link.asked[1][1] == control.SettingsChange(values={"gateway.allow_other_accounts": False})
    await link.answer(1, settings())
    assert not switch.isChecked()


DOWNLOADS, FILES = "/control/hub/downloads", "/control/hub/files"


async def test_an_older_list_of_what_is_on_this_disk_never_takes_the_newer_ones_place(held_of) -> None:  # type: ignore[no-untyped-def]
    made, link = held_of("ready", DOWNLOADS)
    page = made.window.open_page("download")
    await link.until_asked(1)
    page._then_fetch("/control/hub/empty", control.TrashOf())
    link.answers["/control/hub/empty"] = control.Accepted()
    await link.until_asked(2)
    newer = msgspec.structs.replace(download_worlds.SHELF, trash=())
    await link.answer(1, newer)
    await link.answer(0, download_worlds.SHELF)
    assert page._downloads == newer, "what was deleted came back to the list"


async def test_looking_for_updates_does_not_bring_back_what_was_deleted_meanwhile(held_of) -> None:  # type: ignore[no-untyped-def]
    made, link = held_of("ready", "/control/hub/updates")
    link.answers[DOWNLOADS] = download_worlds.SHELF
    page = made.window.open_page("download")
    await turns()
    await soon(lambda: is_there(made.window, "Check for updates"))
    click(made.window, "Check for updates")
    await link.until_asked(1)
    fewer = msgspec.structs.replace(download_worlds.SHELF, models=download_worlds.SHELF.models[1:])
    link.answers |= {DOWNLOADS: fewer, "/control/hub/delete": control.Accepted()}
    page._delete(download_worlds.SHELF.models[0])
    await turns()
    assert page._downloads == fewer
    await link.answer(0, download_worlds.SHELF)
    assert page._downloads == fewer
    assert named(made.window, "Check for updates").isEnabled(), "and it is not being checked any more"


async def test_the_disk_is_listed_when_the_service_comes_back(held_of) -> None:  # type: ignore[no-untyped-def]
    made, link = held_of("ready")
    made.store.set_connection(Connection.GONE, "The Engine Room service is not running.")
    page = made.window.open_page("download")
    await turns()
    link.answers[DOWNLOADS] = download_worlds.SHELF
    made.store.set_connection(Connection.CONNECTED)
    await turns()
    assert page._downloads == download_worlds.SHELF, "the slices are the same as before: nothing asked for the list"


async def test_the_caches_are_listed_when_the_service_comes_and_the_newest_list_stays(held_of) -> None:  # type: ignore[no-untyped-def]
    """The page that was open at the last close opens before anybody answers."""
    made, link = held_of("ready", "/control/caches")
    made.store.set_connection(Connection.STARTING)
    page = made.window.open_page("engines")
    await turns()
    assert link.asked == []
    made.store.set_connection(Connection.CONNECTED)
    await link.until_asked(1)
    page._fetch_caches()
    await link.until_asked(2)
    one = Cache(id="wheels", title="Packages", sentence="Fetched again.", path="/c", disk_bytes=7)
    await link.answer(1, Caches(caches=(one,)))
    await link.answer(0, Caches(caches=(one, one)))
    assert page._caches == (one,)


def said(page: QWidget) -> list[str]:
    """What the pills say that are to be seen."""
    return [pill.text for pill in page.findChildren(Pill) if pill.isVisibleTo(page)]


async def test_a_listing_asked_for_earlier_never_covers_a_later_one(held_of) -> None:  # type: ignore[no-untyped-def]
    """A download that ends asks anew what is here, while verdicts are still being read for the list before."""
    world, answers, typed, _ = download_worlds.STATES["found"]
    made, link = held_of("ready", FILES)
    stage.tell(made.store, world)
    link.answers |= answers
    page = made.window.open_page("download")
    page.search.setText(typed)
    page.search.returnPressed.emit()
    await turns()
    page._toggle(download_worlds.NAME)
    await link.until_asked(1)
    verdicts = download_worlds.LISTING
    forms = tuple(msgspec.structs.replace(form, plan=None, recommended=False) for form in verdicts.forms)
    await link.answer(0, msgspec.structs.replace(verdicts, forms=forms))
    await link.until_asked(2)
    made.store.jobs_changed.emit()  # something else goes on meanwhile
    assert "Not known" not in said(page), "verdicts are still to come"
    assert "Reading …" in said(page)
    link.tasks.start(page._list(download_worlds.NAME), "again")
    await link.until_asked(3)
    later = msgspec.structs.replace(verdicts, outdated=True)
    await link.answer(2, later)
    await link.until_asked(4)
    await link.answer(3, later)
    assert page._listing == later
    await link.answer(1, verdicts)
    assert page._listing == later, "what was asked before covered it"
    assert "Reading …" not in said(page)
