"""Each answer keeps what made it, in the short form that outlives the service's memory of its runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from app.core.control import Manifest
from app.core.conversation import MadeBy, made_by
from app.core.profiles import Profile
from app.core.snapshot import RunView, to_json
from app.ui.chat.store import ChatFile
from tests.ui.chat.rig import Asked, Room, until

RUN = RunView(
    id="run-7",
    profile_id="demo",
    title="Demo",
    engine="llama.cpp",
    engine_build="xllamacpp 1.2",
    argv=("server",),
    environment={},
    log_path="/log",
    started_at_unix=1.0,
)
MANIFEST = Manifest(
    run=RUN,
    profile=Profile(id="demo", title="Demo", engine="llama.cpp", model="m.gguf"),
    settings={"context_tokens": 1024, "slots": 2},
    model_path="/models/m.gguf",
    model_fingerprint="abc",
)


class Book:
    """The service's route for manifests: what is asked, and what it knows."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.known = {"run-7": MANIFEST}

    async def answer(self, request: web.Request) -> web.Response:
        run = request.match_info["id"]
        self.asked.append(run)
        if run not in self.known:
            return web.json_response({"kind": "no_such_run", "summary": "There is no such run."}, status=404)
        return web.Response(body=to_json(self.known[run]), content_type="application/json")


@pytest.fixture
def book() -> Book:
    return Book()


@pytest.fixture
async def room(tmp_path: Path, book: Book, qtbot: object) -> AsyncIterator[Room]:
    room = Room(tmp_path)
    room.service.routes.append(web.get("/control/runs/{id}/manifest", book.answer))
    await room.open()
    yield room
    await room.close()


def from_run(run: str, *pieces: str) -> object:
    async def script(asked: Asked) -> None:
        asked.stream.headers["X-Engine-Room-Run"] = run
        await asked.say(*pieces)
        await asked.end()

    return script


async def test_an_answer_keeps_what_made_it_and_the_service_is_asked_once_per_run(room: Room, book: Book) -> None:
    room.service.script = from_run("run-7", "Hi.")  # type: ignore[assignment]
    await room.say("hello")
    await until(lambda: room.last.made_by)
    assert room.last.run_id == "run-7", "the run that the endpoint named, whatever was loaded when it was asked"
    assert room.last.made_by == made_by(MANIFEST)
    assert room.last.made_by == MadeBy(
        title="Demo",
        engine="llama.cpp",
        engine_build="xllamacpp 1.2",
        settings={"context_tokens": 1024, "slots": 2},
        model_path="/models/m.gguf",
        model_fingerprint="abc",
    )
    await room.say("and again")
    await until(lambda: room.last.made_by)
    assert book.asked == ["run-7"]


async def test_it_is_there_when_the_service_has_forgotten_the_run(room: Room) -> None:
    room.service.script = from_run("run-7", "Hi.")  # type: ignore[assignment]
    await room.say("hello")
    await until(lambda: room.last.made_by)
    room.page.session.close()
    file = ChatFile(room.paths.chats)
    (kept,) = [m for c in file.conversations() for m in file.messages(c.id) if m.role == "assistant"]
    file.close()
    assert (kept.run_id, kept.made_by) == ("run-7", made_by(MANIFEST))


async def test_an_answer_of_a_run_that_the_service_does_not_tell_of_is_kept_all_the_same(
    room: Room, book: Book
) -> None:
    book.known = {}
    room.service.script = from_run("run-8", "Hi.")  # type: ignore[assignment]
    await room.say("hello")
    await until(lambda: book.asked == ["run-8"])
    assert (room.last.text, room.last.run_id, room.last.made_by) == ("Hi.", "run-8", None)
