"""What the daemon keeps: runs with their times, and what was wanted when it died."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from app.core.control import Manifest
from app.core.errors import NotWritable
from app.core.profiles import Profile
from app.core.snapshot import RunView, to_json
from app.daemon.database import Database


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    found = Database(tmp_path / "data" / "engine-room.sqlite3", runs_kept=3)
    await found.open()
    yield found
    await found.close()


def run(number: int, ready_seconds: float | None = None) -> RunView:
    return RunView(
        id=f"run-{number}",
        profile_id="demo",
        title="Demo",
        engine="llama.cpp",
        engine_build="1",
        argv=("llama-server",),
        environment={},
        log_path="/log",
        started_at_unix=float(number),
        ready_seconds=ready_seconds,
    )


async def test_runs_come_back_newest_first_and_bounded(database: Database) -> None:
    for number in range(5):
        await database.keep_run(run(number))
    assert [found.id for found in await database.runs()] == ["run-4", "run-3", "run-2"]


async def test_a_run_that_lives_is_not_pruned_by_those_of_another_seat(database: Database) -> None:
    for number in range(6):
        await database.keep_run(run(number), living=("run-0",))
    assert [found.id for found in await database.runs()] == ["run-5", "run-4", "run-3", "run-0"]
    await database.keep_run(run(6))
    assert [found.id for found in await database.runs()] == ["run-6", "run-5", "run-4"], "when it has ended, it goes"


async def test_the_stages_of_a_profiles_last_starts_are_kept_newest_first(database: Database) -> None:
    """S3: what a later load's remaining time is learnt from; a load that failed teaches nothing."""
    assert await database.load_times("demo") == ()
    for number, seconds in enumerate((1.0, None, 2.0)):
        view = run(number, seconds)
        await database.keep_run(view)
        stages = {"weights": number / 2}
        profile = Profile(id="demo", title="Demo", engine="vllm", model="m", settings={"eager": True})
        await database.keep_manifest(Manifest(run=view, profile=profile, model_path="/m", stages=stages))
    newest, oldest = await database.load_times("demo")
    assert (newest.ready_seconds, newest.stages) == (2.0, {"weights": 1.0})
    assert (newest.model, newest.settings, newest.engine_build) == ("/m", {"eager": True}, view.engine_build)
    assert (oldest.ready_seconds, oldest.stages) == (1.0, {"weights": 0.0})
    assert await database.load_times("other") == ()


async def test_what_was_wanted_is_remembered_and_forgotten(database: Database) -> None:
    await database.remember("wanted:main", "demo")
    assert await database.recall("wanted:main") == "demo"
    await database.remember("wanted:main", None)
    assert await database.recall("wanted:main") is None


V1 = """
CREATE TABLE IF NOT EXISTS runs (
    id TEXT PRIMARY KEY, profile_id TEXT NOT NULL, started_at REAL NOT NULL, ready_seconds REAL, view BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS runs_by_profile ON runs (profile_id, started_at);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
PRAGMA user_version = 1;
"""


def manifest(number: int) -> Manifest:
    profile = Profile(id="demo", title="Demo", engine="llama.cpp", model="m.gguf")
    return Manifest(run=run(number), profile=profile, settings={"threads": 3, "warm_up": True}, stages={"weights": 0.5})


async def test_a_file_of_the_version_before_gets_what_it_lacks_and_loses_nothing(tmp_path: Path) -> None:
    """Version 1 had no manifests. And an Engine Room of that version can use the file again afterwards."""
    file = tmp_path / "engine-room.sqlite3"
    with closing(sqlite3.connect(file)) as old, old:
        old.executescript(V1)
        old.execute("INSERT INTO runs VALUES ('run-1', 'demo', 1.0, 2.5, ?)", (to_json(run(1, 2.5)),))
        old.execute("INSERT INTO facts VALUES ('wanted:main', 'demo')")
    for _ in range(2):
        database = Database(file, runs_kept=3)
        await database.open()
        assert [found.id for found in await database.runs()] == ["run-1"]
        assert await database.recall("wanted:main") == "demo"
        assert await database.recall_all("wanted:") == ("demo",)
        assert await database.manifest("run-1") in (None, manifest(1))
        await database.keep_manifest(manifest(1))
        assert await database.manifest("run-1") == manifest(1)
        await database.close()
        with closing(sqlite3.connect(file)) as old, old:
            old.executescript(V1)


async def test_a_manifest_is_kept_as_long_as_its_run(database: Database) -> None:
    """I16."""
    for number in range(5):
        await database.keep_run(run(number))
        await database.keep_manifest(manifest(number))
    await database.keep_manifest(manifest(0))  # of a run that is forgotten already
    found = [await database.manifest(f"run-{number}") for number in range(5)]
    assert found == [None, None, manifest(2), manifest(3), manifest(4)]


async def test_a_manifest_of_another_form_is_none(database: Database) -> None:
    await database.keep_run(run(1))
    await database._do(lambda: database._execute("INSERT INTO manifests VALUES ('run-1', 'no json')"))
    assert await database.manifest("run-1") is None


async def test_a_damaged_file_gives_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "engine-room.sqlite3"
    file.write_bytes(b"this is no database" * 100)
    database = Database(file, runs_kept=3)
    with pytest.raises(NotWritable, match="cannot be opened"):
        await database.open()
    await database.close()


async def test_a_write_that_fails_waits_and_is_made_good(database: Database) -> None:
    """The disk full is simulated by SQLite's own limit on the file's pages."""
    told: list[str] = []
    database._on_trouble = told.append
    (pages,) = (await database._do(lambda: database._execute("PRAGMA page_count")))[0]
    await database._do(lambda: database._execute(f"PRAGMA max_page_count = {pages}"))
    large = "x" * 50_000
    await database.remember("large", large)
    await database.remember("large", large + "y")
    assert len(told) == 1
    assert "full" in told[0]
    assert await database.recall("large") is None
    await database._do(lambda: database._execute("PRAGMA max_page_count = 100000"))
    await database.remember("small", "1")
    assert told[1:] == [""]
    assert await database.recall("large") == large + "y"
