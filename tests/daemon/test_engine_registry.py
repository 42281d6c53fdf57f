"""The registry knows at any moment which engines are there, tells everybody, and never makes anybody wait for an engine."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from app.core import control
from app.core.errors import BadRequest, EngineNotInstalled, SettingInvalid
from app.core.profiles import Profile
from app.core.snapshot import Engines, EngineView, RunView, Seats, SeatView
from app.daemon.choosing import note_of
from app.daemon.engine_registry import EngineRegistry
from app.engines.base import Installation
from tests.rig.home import Home
from tests.rig.programs import asked, write_llama_server

FAMILY = "llama-server"


class Watched:
    """A registry over a home, and everything that it has published."""

    def __init__(self, home: Home, watch_seconds: float = 0.02) -> None:
        self.home = home
        home.environment["PATH"] = f"{home.bin}:{home.folder / 'second'}:/usr/bin:/bin"
        home.environment["OLLAMA_HOST"] = "elsewhere.invalid"
        self.published: list[Engines] = []
        self.registry = EngineRegistry(
            home.paths, home.environment, self.published.append, answer_seconds=600, watch_seconds=watch_seconds
        )
        self.first = home.bin / "llama-server"
        self.second = home.folder / "second" / "llama-server"

    @property
    def view(self) -> EngineView:
        return next(row for row in self.published[-1].families if row.family == FAMILY)

    async def until(self, condition: Callable[[EngineView], object], what: str) -> EngineView:
        async with asyncio.timeout(60):
            while not self.published or not condition(self.view):  # noqa: ASYNC110 - publishing is a plain call
                await asyncio.sleep(0.01)
        return self.view


@pytest.fixture
async def watched(home: Home) -> AsyncIterator[Watched]:
    watched = Watched(home)
    yield watched
    await watched.registry.close()


def profile(pin: str = "") -> Profile:
    return Profile(id="writer", title="Writer", engine=FAMILY, model="", installation=pin)


async def test_it_lists_by_files_first_then_what_the_engines_say(watched: Watched) -> None:
    write_llama_server(watched.first)
    await watched.registry.start()
    assert watched.published[0].families[1].installations[0].version == "", "nobody waits for an engine"
    assert watched.registry.find(FAMILY) is not None
    row = (await watched.until(lambda view: view.installations[0].version, "it was asked")).installations[0]
    assert (row.version, row.devices, row.chosen) == ("0.5.0", ("CUDA0: NVIDIA GeForce RTX 4090",), True)
    found = watched.registry.need(profile())
    assert "--metrics" in (watched.registry.known_flags(found) or ())


async def test_one_that_cannot_run_here_gives_way_to_the_next(watched: Watched) -> None:
    write_llama_server(watched.first, version="kill -ILL $$")
    write_llama_server(watched.second)
    await watched.registry.start()
    view = await watched.until(lambda view: view.path == str(watched.second), "the second one is used")
    broken = next(row for row in view.installations if row.path == str(watched.first))
    assert "CPU instructions" in broken.problem
    assert watched.registry.need(profile()).executable == str(watched.second)
    with pytest.raises(EngineNotInstalled, match="CPU instructions"):
        watched.registry.need(profile(broken.id))


async def test_engines_that_come_and_go_are_noticed(watched: Watched) -> None:
    await watched.registry.start()
    assert not watched.view.available
    write_llama_server(watched.first)
    await watched.until(lambda view: view.available, "it came")
    watched.first.unlink()
    view = await watched.until(lambda view: not view.available, "it went")
    assert view.how_to_get
    with pytest.raises(EngineNotInstalled, match="is not installed"):
        watched.registry.need(profile())


async def test_a_build_is_asked_once_also_by_the_next_service(watched: Watched) -> None:
    write_llama_server(watched.first)
    await watched.registry.start()
    await watched.until(lambda view: view.installations and view.installations[0].version, "it was asked")
    times = len(asked(watched.first))
    await watched.registry.refresh()
    later = EngineRegistry(watched.home.paths, watched.home.environment, watched.published.append)
    await later.start()
    assert watched.view.installations[0].version == "0.5.0", "known without asking"
    await later.close()
    assert len(asked(watched.first)) == times


async def test_a_hanging_engine_holds_nobody(watched: Watched) -> None:
    """Its help hangs; it is found, used, pinned, and the service ends at once all the same (I1)."""
    write_llama_server(watched.first, version="sleep 1000")
    await watched.registry.start()
    row = watched.registry.need(profile())
    async with asyncio.timeout(60):
        await watched.registry.pin(control.Pin(family=FAMILY, installation=row.id))
        await watched.registry.close()


async def test_pinning_and_going_back(watched: Watched) -> None:
    write_llama_server(watched.first)
    write_llama_server(watched.second)
    await watched.registry.start()
    second = next(row for row in watched.view.installations if row.path == str(watched.second))
    said = await watched.registry.pin(control.Pin(family=FAMILY, installation=second.id))
    assert second.id in said.note
    assert (watched.view.pinned, watched.view.path) == (second.id, str(watched.second))
    assert watched.view.installations[0].id == second.id, "the chosen one comes first"
    await watched.registry.pin(control.Pin(family=FAMILY))
    assert (watched.view.pinned, watched.view.path) == ("", str(watched.first))


async def test_a_pinned_engine_that_goes_is_missed_by_name(watched: Watched) -> None:
    write_llama_server(watched.first)
    write_llama_server(watched.second)
    await watched.registry.start()
    await watched.registry.pin(control.Pin(family=FAMILY, installation=str(watched.second)))
    watched.second.unlink()
    view = await watched.until(lambda view: not view.available, "the pinned one is missed")
    assert "unpin llama-server" in view.how_to_get
    with pytest.raises(EngineNotInstalled, match="not there") as refusal:
        watched.registry.need(profile())
    assert watched.registry.find(FAMILY, str(watched.first)) is not None
    assert view.installations[0].id in refusal.value.advice, "what is there is named"


async def test_bad_pins_and_places_are_refused_and_change_nothing(watched: Watched, tmp_path: Path) -> None:
    write_llama_server(watched.first)
    await watched.registry.start()
    for wish, kind in (
        (control.Pin(family="nonsense"), BadRequest),
        (control.Pin(family=FAMILY, installation="x" * 5000), EngineNotInstalled),
        (control.Pin(family="llama.cpp", installation=watched.view.installations[0].id), EngineNotInstalled),
    ):
        with pytest.raises(kind):
            await watched.registry.pin(wish)
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "calculator").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "calculator").chmod(0o755)
    for path in (
        "relative",
        "",
        "/nowhere",
        str(tmp_path / "notes.txt"),
        str(tmp_path / "calculator"),
        str(tmp_path / "empty"),
    ):
        with pytest.raises(BadRequest):
            await watched.registry.add(control.AddEngine(path=path))
    assert not watched.home.paths.engine_choices.exists()
    watched.home.paths.engine_choices.write_text("pins = broken")
    with pytest.raises(SettingInvalid):
        await watched.registry.add(control.AddEngine(path=str(watched.first)))
    assert watched.home.paths.engine_choices.read_text() == "pins = broken"


async def test_a_place_is_added_and_forgotten(watched: Watched, tmp_path: Path) -> None:
    program = write_llama_server(tmp_path / "fork" / "my-own-server")
    await watched.registry.start()
    said = await watched.registry.add(control.AddEngine(path=str(program)))
    assert "llama-server" in said.note
    assert watched.view.path == str(program)
    assert watched.view.installations[0].place == str(program)
    await watched.registry.add(control.AddEngine(path=str(program), forget=True))
    assert not watched.view.available


async def test_two_places_that_are_added_at_once_are_both_kept(watched: Watched, tmp_path: Path) -> None:
    programs = [write_llama_server(tmp_path / name / "llama-server") for name in ("one", "two")]
    await watched.registry.start()
    await asyncio.gather(*(watched.registry.add(control.AddEngine(path=str(program))) for program in programs))
    assert sorted(row.place for row in watched.view.installations) == [str(program) for program in programs]


async def test_a_call_to_look_again_in_the_middle_of_a_look_is_heeded_after_it(home: Home, tmp_path: Path) -> None:
    """Something is removed while another engine is being asked; no file tells of it a second time."""
    held = tmp_path / "held"
    os.mkfifo(held)
    watched = Watched(home, watch_seconds=3_600)
    write_llama_server(watched.first)
    await watched.registry.start()
    await watched.until(lambda view: view.installations[0].version, "the first look is over")
    write_llama_server(watched.second, version=f"read _ < {held}")
    watched.registry.look_again()
    try:
        writing = await asyncio.to_thread(os.open, held, os.O_WRONLY)  # opens when the second one reads: it is asked
        watched.first.unlink()
        watched.registry.look_again()
        os.close(writing)
        await watched.until(lambda view: len(view.installations) == 1, "that the first one has gone is noticed")
    finally:
        await watched.registry.close()


async def test_what_runs_is_marked(watched: Watched) -> None:
    write_llama_server(watched.first)
    await watched.registry.start()
    run = RunView(
        id="1", profile_id="p", title="P", engine=FAMILY, engine_build="", argv=(str(watched.first), "--port"),
        environment={}, log_path="", started_at_unix=0,
    )  # fmt: skip
    watched.registry.seats_changed(Seats(seats=(SeatView(name="main", run=run),)))
    assert watched.view.installations[0].in_use
    watched.registry.seats_changed(Seats(seats=(SeatView(name="main"),)))
    assert not watched.view.installations[0].in_use


@pytest.mark.parametrize(
    ("version", "asked_already", "note"),
    [
        ("2026.11.1", True, "newer than 2026.10.9"),
        ("2026.10.9", True, ""),
        ("2026.1", True, ""),
        ("b7000", True, ""),
        ("", True, "does not say which version"),
        ("", False, ""),
    ],
)
def test_an_engine_of_a_version_that_nobody_knows_gets_a_note(version: str, asked_already: bool, note: str) -> None:
    said = note_of(Installation(family=FAMILY, executable="/x", version=version), asked_already, "2026.10.9")
    assert (note in said) if note else said == ""
