"""Answers of the service that come late, in another order, or when their asker has gone: nothing is lost, nothing jumps back.

The stand-in of the link holds each answer back until the test gives it; all order is the test's.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from app.core import control
from app.core.control import ProfileText
from app.core.errors import DaemonUnreachable
from app.ui.plan.view import PlanView
from app.ui.profiles.editor import ProfileEditor
from app.ui.store import Connection
from tests.ui import library_worlds, profile_worlds, stage
from tests.ui.conftest import StageOf
from tests.ui.reading import is_there
from tests.ui.stage import HeldLink, Stage, soon, turns

Held = tuple[Stage, HeldLink]


@pytest.fixture
def held_of(stage_of: StageOf) -> Callable[..., Held]:
    def make(world: str, page: str = "models", *held: str) -> Held:
        made = stage_of(world, page=page, link_of=HeldLink)
        assert isinstance(made.link, HeldLink)
        made.link.held |= set(held)
        return made, made.link

    return make


GEMMA, QWEN = "/control/profiles/gemma-3-12b", "/control/profiles/qwen3-14b"
PROFILES = "/control/profiles"


def editor(made: Stage) -> ProfileEditor:
    found = made.window.over("models")
    assert isinstance(found, ProfileEditor)
    return found


async def editing(held_of: Callable[..., Held], *held: str) -> Held:
    made, link = held_of("ready", "models", *held)
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


async def test_a_plan_is_saved_into_the_profile_that_was_shown_when_save_was_pressed(held_of) -> None:  # type: ignore[no-untyped-def]
    made, link = held_of("no_gpu", "models", QWEN, PROFILES)
    stage.tell(made.store, library_worlds.world())
    link.answers |= profile_worlds.ANSWERS
    made.presenter.go("plan", "qwen3-14b")
    await turns()
    view = made.window.over("models")
    assert isinstance(view, PlanView)
    view.turn({"context_tokens": 16384})
    view.save()
    await link.until_asked(1)
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
    made, link = held_of("no_gpu", "models", QWEN, PROFILES)
    stage.tell(made.store, library_worlds.world())
    link.answers |= profile_worlds.ANSWERS
    made.presenter.go("plan", "qwen3-14b")
    await turns()
    view = made.window.over("models")
    assert isinstance(view, PlanView)
    view.turn({"context_tokens": 16384})
    view.save()
    await link.until_asked(1)
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
    made, link = held_of("ready", "models", GEMMA, PROFILES)
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
