"""A profile's text written from several places of the window at once: nothing is lost, and what is refused is told where it
belongs. The texts are real files under the service's own desk; the test carries each question to it, in an order of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from aiohttp import web

from app.core.control import ProfileText
from app.core.errors import DaemonUnreachable, EngineRoomError, UnknownProfile
from app.core.profiles import Profile
from app.core.resources import profiles_folder
from app.core.snapshot import ProfileCard, from_json, to_json
from app.daemon.profile_desk import ProfileDesk
from app.engines.registry import FAMILIES
from app.ui.pages.models import ModelsPage
from app.ui.plan.view import PlanView
from app.ui.profiles.editor import ProfileEditor
from tests.ui import profile_worlds
from tests.ui.conftest import StageOf
from tests.ui.profile_worlds import MINE, TEXT
from tests.ui.stage import HeldLink, Stage, paths_in, soon, turns

NAME = "gemma-3-12b"
CHANGED = "was changed by somebody else meanwhile. Look at it again, then save; nothing was written."
GONE = DaemonUnreachable("The Engine Room service does not answer.", "It is started again by itself.")


class Places:
    """The three places of one window that write a profile, and the files behind it."""

    def __init__(self, made: Stage, folder: Path) -> None:
        assert isinstance(made.link, HeldLink)
        self.stage, self.link = made, made.link
        self.shipped: set[str] = set()
        self.told: list[EngineRoomError] = []  # by the window, in no form
        self.link.refused.connect(self.told.append)
        self.link.answers |= profile_worlds.ANSWERS
        self.link.held |= {"/control/profiles", "/control/profiles/demo", f"/control/profiles/{NAME}"}
        paths = paths_in(folder)
        self.file = paths.profiles / f"{NAME}.toml"
        self.file.parent.mkdir(parents=True)
        self.file.write_text(TEXT, "utf-8")
        self.desk = ProfileDesk(paths, FAMILIES, self._card, turns)
        self.carried = 0

    def _card(self, profile_id: str) -> ProfileCard:
        if profile_id not in self.shipped:
            raise UnknownProfile(f"There is no profile {profile_id}.", "Look at the library.")
        profile = Profile(id=profile_id, title="", engine="llama.cpp", model="", source="shipped")
        return ProfileCard(profile=profile, facts=None, model_path="", available=True, engine_available=True)

    async def carry(self, count: int) -> None:
        """Takes the next questions to the desk, one after the other."""
        for _ in range(count):
            await self.link.until_asked(self.carried + 1)
            path, wish, _ = self.link.asked[self.carried]
            answer: object
            try:
                if isinstance(wish, ProfileText):
                    answer = await self.desk.save(wish)
                else:
                    answer = await self.desk.text(path.rpartition("/")[2])
            except EngineRoomError as error:
                answer = error
            await self.link.answer(self.carried, answer)
            self.carried += 1

    async def refuse(self, error: EngineRoomError) -> None:
        """Answers the next question itself."""
        await self.link.until_asked(self.carried + 1)
        await self.link.answer(self.carried, error)
        self.carried += 1

    def switch(self, key: str = "keep_loaded", profile_id: str = NAME) -> None:
        page = self.stage.window.open_page("models")
        assert isinstance(page, ModelsPage)
        page._set_comfort(profile_id, key, True)

    def plan(self) -> PlanView:
        self.stage.presenter.go("plan", NAME)
        view = self.stage.window.over("models")
        assert isinstance(view, PlanView)
        return view

    def save_plan(self, context_tokens: int = 4096) -> PlanView:
        view = self.plan()
        view.turn({"context_tokens": context_tokens})
        view.save()
        return view

    def editor(self, profile_id: str = NAME) -> ProfileEditor:
        self.stage.presenter.go("profile", profile_id)
        editor = self.stage.window.over("models")
        assert isinstance(editor, ProfileEditor)
        return editor

    async def edited(self, profile_id: str = NAME) -> ProfileEditor:
        """With a title that is not saved yet."""
        editor = self.editor(profile_id)
        await self.carry(1)
        assert editor.draft is not None
        editor.draft.set("title", "Mine now")
        return editor

    def text(self) -> str:
        return self.file.read_text("utf-8")


@pytest.fixture
async def places(stage_of: StageOf, tmp_path: Path) -> AsyncIterator[Places]:
    made = Places(stage_of("ready", link_of=HeldLink), tmp_path / "files")
    yield made
    await made.link.tasks.close()  # type: ignore[attr-defined]
    assert made.link.errors == [], "every refusal is a sentence"


async def test_a_switch_and_a_plan_that_write_one_profile_at_once_are_both_in_its_file(places: Places) -> None:
    places.switch()
    view = places.save_plan()
    await turns()
    assert len(places.link.asked) == 1, "the plan reads what the switch has written"
    await places.carry(4)
    assert places.text() == TEXT.replace("8192", "4096").replace(
        'aliases = ["everyday"]\n', 'aliases = ["everyday"]\nkeep_loaded = true\n'
    )
    assert (places.told, view.changes) == ([], {})
    assert view.notice.label.text().startswith("Saved.")


async def test_profiles_do_not_wait_for_each_other(places: Places) -> None:
    places.switch()
    places.switch(profile_id="demo")
    await places.link.until_asked(2)
    assert [path for path, _, _ in places.link.asked] == [f"/control/profiles/{NAME}", "/control/profiles/demo"]


async def test_an_editor_opened_while_a_plan_is_being_saved_begins_with_what_the_plan_wrote(places: Places) -> None:
    """It began with the text before, and then its own saving was refused: somebody else had changed the file, it said."""
    places.save_plan()
    await places.link.until_asked(1)
    editor = places.editor()
    await places.carry(3)
    assert editor.draft is not None
    assert editor.draft.value("settings.context_tokens") == 4096
    editor.draft.set("title", "Mine now")
    editor.save()
    await places.carry(1)
    assert places.text() == TEXT.replace("8192", "4096").replace("Gemma 3 12B", "Mine now")
    assert places.told == []


async def test_a_file_that_somebody_else_changed_is_refused_in_one_sentence_everywhere(places: Places) -> None:
    """I.e. between reading and writing; the file stays as that other left it."""
    said = []

    async def changed_by_hand() -> None:
        places.file.write_text(f"{places.text()}# by hand\n", "utf-8")
        await places.carry(1)

    places.switch()
    await places.carry(1)
    await changed_by_hand()
    said.append(places.stage.window.toast.accessibleName())
    view = places.save_plan()
    await places.carry(1)
    await changed_by_hand()
    assert view.changes == {"context_tokens": 4096}
    said.append(view.notice.label.text())
    editor = await places.edited()
    editor.save()
    await changed_by_hand()
    assert editor.is_changed
    said.append(editor.notice.label.text())
    assert [text.partition(".toml ")[2].partition(" It has ")[0] for text in said] == [CHANGED] * 3
    assert places.text() == TEXT + "# by hand\n" * 3


async def test_a_profile_deleted_meanwhile_is_told_and_what_was_written_in_its_editor_stays(places: Places) -> None:
    editor = await places.edited()
    places.file.unlink()
    places.switch()
    await places.carry(1)
    assert [error.summary for error in places.told] == [f"There is no profile {NAME}."]
    assert not places.file.exists(), "a switch alone makes no profile"
    editor.save()
    await places.carry(1)
    assert places.text() == TEXT.replace("Gemma 3 12B", "Mine now")


async def test_the_service_gone_meanwhile_costs_nothing_that_was_written(places: Places) -> None:
    editor = await places.edited()
    places.switch()
    editor.save()
    await places.refuse(GONE)
    assert [type(error) for error in places.told] == [DaemonUnreachable]
    await places.refuse(GONE)
    assert editor.notice.label.text() == "The Engine Room service does not answer. It is started again by itself."
    assert editor.is_changed
    editor.save()
    await places.carry(1)
    assert not editor.is_changed
    assert places.text() == TEXT.replace("Gemma 3 12B", "Mine now")


async def test_a_refusal_that_its_form_does_not_wait_for_any_more_is_told_by_the_window(places: Places) -> None:
    view = places.save_plan()
    view._ways.addItem("another way", "demo")
    view._choose_way(view._ways.count() - 1)
    await places.refuse(GONE)
    assert view.notice.isHidden(), "the profile that it shows now was not refused"
    assert places.told == [GONE]
    editor = await places.edited()
    editor.save()
    await places.link.until_asked(places.carried + 1)
    editor.closed.emit()
    await places.refuse(GONE)
    assert places.told == [GONE, GONE]


async def test_text_that_is_no_toml_is_told_and_kept(places: Places) -> None:
    places.file.write_text(f"{TEXT}this is not", "utf-8")
    places.switch()
    await places.carry(1)
    assert places.told[0].summary.startswith(f"{NAME}.toml: this is not valid TOML: ")
    assert places.text() == f"{TEXT}this is not"


async def test_a_copy_never_takes_the_place_of_a_profile_that_came_meanwhile(places: Places) -> None:
    places.shipped.add("demo")
    places.switch(profile_id="demo")
    await places.carry(1)
    demo = places.file.with_name("demo.toml")
    demo.write_text(TEXT, "utf-8")
    await places.carry(1)
    assert demo.read_text("utf-8") == TEXT
    assert CHANGED in str(places.told[0])
    demo.unlink()
    places.switch(profile_id="demo")
    await places.carry(2)
    assert "keep_loaded = true" in demo.read_text("utf-8")
    assert "\n".join((profiles_folder() / "demo.toml").read_text("utf-8").splitlines()[:2]) in demo.read_text("utf-8")
    twin = places.file.with_name(f"{NAME}-2.toml")
    editor = await places.edited(f"copy:{NAME}")
    twin.write_text(TEXT, "utf-8")
    library = places.stage.store.library
    both = tuple(
        msgspec.structs.replace(card, profile=msgspec.structs.replace(card.profile, id=name))
        for card in library.profiles
        if card.profile.id == NAME
        for name in (NAME, f"{NAME}-2")
    )
    places.stage.store.put("library", msgspec.structs.replace(library, profiles=both))
    editor.save()
    await places.carry(1)
    assert CHANGED in editor.notice.label.text()
    assert twin.read_text("utf-8") == TEXT
    editor.save()
    await places.carry(1)
    assert places.file.with_name(f"{NAME}-3.toml").is_file(), "the next free name"


async def test_a_window_that_closes_first_writes_what_was_asked_for(places: Places) -> None:
    texts, settled = places.stage.presenter.texts, []

    async def close() -> None:
        await texts.settled(60)
        settled.append(places.text())

    places.switch("keep_loaded")
    places.switch("load_at_start")
    places.link.tasks.start(close(), "close")
    await places.carry(3)
    assert settled == []
    await places.carry(1)
    await soon(lambda: settled)
    assert "keep_loaded = true\nload_at_start = true\n" in settled[0]
    places.switch()
    await texts.settled(0.01)  # nobody answers: it closes all the same


PROGRAM = """
import sys
from pathlib import Path
from app.ui.application import run
from app.ui.store import Connection
from tests.ui.stage import paths_in, soon
async def script(window, store, link):
    await soon(lambda: store.connection is Connection.GONE)  # it says no hello; calls it answers
    window.open_page("models")._set_comfort("gemma-3-12b", "keep_loaded", True)
    window.leave()
sys.exit(run(paths_in(Path(sys.argv[1])), start_service=False, script=script))
"""


def started(folder: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen", "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    return subprocess.Popen([sys.executable, "-c", PROGRAM, str(folder)], env=environment)


async def test_a_switch_pressed_just_before_the_window_closes_is_written(tmp_path: Path) -> None:
    """In a process of its own, over a real socket."""
    written: list[ProfileText] = []

    async def read(_: web.Request) -> web.Response:
        return web.Response(body=to_json(MINE))

    async def write(request: web.Request) -> web.Response:
        written.append(from_json(ProfileText, await request.read()))
        return web.Response(body=to_json(written[-1]))

    app = web.Application()
    app.router.add_get(f"/control/profiles/{NAME}", read)
    app.router.add_post("/control/profiles", write)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    socket = paths_in(tmp_path).socket
    socket.parent.mkdir(parents=True)
    await web.UnixSite(runner, str(socket)).start()
    window = started(tmp_path)
    try:
        await soon(lambda: window.poll() is not None)
    finally:
        window.kill()
        window.wait()
        await runner.cleanup()
    assert window.returncode == 0
    assert [wish.based_on for wish in written] == [TEXT]
    assert "keep_loaded = true" in written[0].text
