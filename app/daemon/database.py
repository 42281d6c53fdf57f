"""Owns the daemon's SQLite file: runs with outcome, timings and manifest, and what must be known after a crash."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import msgspec

from app.core.bench import Bench
from app.core.control import Manifest
from app.core.errors import NotWritable
from app.core.load_time import LoadTimes
from app.core.snapshot import RunView, from_json, to_json

T = TypeVar("T")
LOADS_READ = 12  # of a profile: enough that some were made with the settings of now
# One script per version, oldest first: a file of an earlier version gets those that it lacks. Only ever additions, so that
# an older Engine Room can still use the file.
SCHEMAS = (
    """
CREATE TABLE IF NOT EXISTS runs (
    id TEXT PRIMARY KEY, profile_id TEXT NOT NULL, started_at REAL NOT NULL, ready_seconds REAL, view BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS runs_by_profile ON runs (profile_id, started_at);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
""",
    """
CREATE TABLE IF NOT EXISTS manifests (run_id TEXT PRIMARY KEY, value BLOB NOT NULL);
""",
    """
CREATE TABLE IF NOT EXISTS memory (
    kind TEXT NOT NULL, id TEXT NOT NULL, at REAL NOT NULL, value BLOB NOT NULL, PRIMARY KEY (kind, id)
);
""",
    """
CREATE TABLE IF NOT EXISTS benches (id TEXT PRIMARY KEY, run_id TEXT NOT NULL, at REAL NOT NULL, value BLOB NOT NULL);
""",
)
MEMORY_KEPT = 300  # rows of each kind about memory
BENCHES_KEPT = 200


class Database:
    """All work happens in one thread of its own, in order.

    A write that fails (a full disk) stops nobody: it waits in memory, is tried again with the next one and at the end, and
    `on_trouble` is told the sentence, "" when all is written again.
    """

    def __init__(self, file: Path, runs_kept: int, on_trouble: Callable[[str], None] = lambda _: None) -> None:
        self._file = file
        self._runs_kept = runs_kept
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="database")
        self._connection: sqlite3.Connection | None = None
        self._on_trouble = on_trouble
        self._trouble = ""
        self._unwritten: dict[
            str, Callable[[], object]
        ] = {}  # by what it is about: only the latest value of each counts

    async def open(self) -> None:
        await self._do(self._open)

    def _open(self) -> None:
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            connection = sqlite3.connect(self._file, timeout=5)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            _bring_up_to_date(connection)
        except (sqlite3.Error, OSError) as error:
            raise NotWritable(
                f"The database {self._file} cannot be opened: {error}.",
                "Check that the folder is writable and the disk is not full; if the file is damaged, move it away.",
            ) from error
        self._connection = connection

    async def _do(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _execute(self, statement: str, values: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
        assert self._connection is not None
        with self._connection:
            return self._connection.execute(statement, values).fetchall()

    async def _write(self, about: str, work: Callable[[], object]) -> None:
        def attempt() -> str:
            self._unwritten.pop(about, None)
            self._unwritten[about] = work
            return self._write_waiting()

        trouble = await self._do(attempt)
        if trouble != self._trouble:
            self._trouble = trouble
            self._on_trouble(trouble)

    def _write_waiting(self) -> str:
        for about, work in list(self._unwritten.items()):
            try:
                work()
            except sqlite3.Error as error:
                return f"{self._file} cannot be written: {error}. What it should hold is kept in memory until it can."
            del self._unwritten[about]
        return ""

    async def keep_run(self, run: RunView, living: Collection[str] = ()) -> None:
        """The oldest beyond the bound go, but none of `living`: another seat's run may live through many of ours."""
        kept = tuple(living)

        def work() -> None:
            self._execute(
                "INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?)",
                (run.id, run.profile_id, run.started_at_unix, run.ready_seconds, to_json(run)),
            )
            self._execute(
                "DELETE FROM runs WHERE id NOT IN (SELECT id FROM runs ORDER BY started_at DESC LIMIT ?)"
                f" AND id NOT IN ({', '.join('?' * len(kept))})",
                (self._runs_kept, *kept),
            )
            self._execute("DELETE FROM manifests WHERE run_id NOT IN (SELECT id FROM runs)")

        await self._write(f"run {run.id}", work)

    async def keep_manifest(self, manifest: Manifest) -> None:
        """Kept as long as its run, which must be kept first."""

        def work() -> None:
            self._execute(
                "INSERT OR REPLACE INTO manifests SELECT ?1, ?2 WHERE EXISTS (SELECT 1 FROM runs WHERE id = ?1)",
                (manifest.run.id, to_json(manifest)),
            )

        await self._write(f"manifest {manifest.run.id}", work)

    async def manifest(self, run_id: str) -> Manifest | None:
        """None when the run is not known, or was kept by a version without manifests or with other ones."""

        def work() -> Manifest | None:
            rows = self._execute("SELECT value FROM manifests WHERE run_id = ?", (run_id,))
            try:
                return from_json(Manifest, rows[0][0]) if rows else None  # type: ignore[arg-type]
            except ValueError:
                return None

        return await self._do(work)

    async def runs(self) -> tuple[RunView, ...]:
        """Newest first. A row of another version is left out rather than spoiling the rest."""

        def work() -> tuple[RunView, ...]:
            found = []
            for (blob,) in self._execute("SELECT view FROM runs ORDER BY started_at DESC"):
                try:
                    found.append(from_json(RunView, blob))  # type: ignore[arg-type]
                except ValueError:
                    continue
            return tuple(found)

        return await self._do(work)

    async def run(self, run_id: str) -> RunView | None:
        return next((run for run in await self.runs() if run.id == run_id), None)

    async def load_times(self, profile_id: str) -> tuple[LoadTimes, ...]:
        """The stages of the profile's last successful starts, newest first, as their manifests tell them."""

        def work() -> tuple[LoadTimes, ...]:
            found = []
            for seconds, blob in self._execute(
                "SELECT ready_seconds, value FROM runs JOIN manifests ON run_id = id"
                " WHERE profile_id = ? AND ready_seconds IS NOT NULL ORDER BY started_at DESC LIMIT ?",
                (profile_id, LOADS_READ),
            ):
                try:
                    manifest = from_json(Manifest, blob)  # type: ignore[arg-type]
                except ValueError:
                    continue
                found.append(
                    LoadTimes(
                        stages=manifest.stages,
                        ready_seconds=float(seconds),  # type: ignore[arg-type]
                        engine_build=manifest.run.engine_build,
                        model=manifest.model_path,
                        settings=manifest.profile.settings,
                    )
                )
            return tuple(found)

        return await self._do(work)

    async def keep_memory(self, kind: str, name: str, at_unix: float, value: msgspec.Struct) -> None:
        """What was learnt about memory ("launch", "opinion"); the oldest of its kind beyond the bound go."""

        def work() -> None:
            self._execute("INSERT OR REPLACE INTO memory VALUES (?, ?, ?, ?)", (kind, name, at_unix, to_json(value)))
            self._execute(
                "DELETE FROM memory WHERE kind = ?1 AND id NOT IN"
                " (SELECT id FROM memory WHERE kind = ?1 ORDER BY at DESC LIMIT ?2)",
                (kind, MEMORY_KEPT),
            )

        await self._write(f"memory {kind} {name}", work)

    async def memory(self, kind: str, form: type[T]) -> tuple[T, ...]:
        """Newest first. A row that is damaged or of another version is left out."""

        def work() -> tuple[T, ...]:
            found = []
            for (blob,) in self._execute("SELECT value FROM memory WHERE kind = ? ORDER BY at DESC", (kind,)):
                try:
                    found.append(from_json(form, blob))  # type: ignore[arg-type]
                except (ValueError, TypeError):
                    continue
            return tuple(found)

        return await self._do(work)

    async def forget_memory(self) -> None:
        await self._write("forget memory", lambda: self._execute("DELETE FROM memory"))

    async def keep_bench(self, bench: Bench) -> None:
        """The oldest beyond the bound go. A bench stays when its run is forgotten."""

        def work() -> None:
            row = (bench.id, bench.run_id, bench.at_unix, to_json(bench))
            self._execute("INSERT OR REPLACE INTO benches VALUES (?, ?, ?, ?)", row)
            self._execute(
                "DELETE FROM benches WHERE id NOT IN (SELECT id FROM benches ORDER BY at DESC LIMIT ?)", (BENCHES_KEPT,)
            )

        await self._write(f"bench {bench.id}", work)

    async def benches(self) -> tuple[Bench, ...]:
        """Newest first. A row of another version is left out."""

        def work() -> tuple[Bench, ...]:
            found = []
            for (blob,) in self._execute("SELECT value FROM benches ORDER BY at DESC"):
                try:
                    found.append(from_json(Bench, blob))  # type: ignore[arg-type]
                except ValueError:
                    continue
            return tuple(found)

        return await self._do(work)

    async def remember(self, name: str, value: str | None) -> None:
        def work() -> None:
            if value is None:
                self._execute("DELETE FROM facts WHERE name = ?", (name,))
            else:
                self._execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

        await self._write(f"fact {name}", work)

    async def recall(self, name: str) -> str | None:
        rows = await self._do(lambda: self._execute("SELECT value FROM facts WHERE name = ?", (name,)))
        return str(rows[0][0]) if rows else None

    async def recall_all(self, prefix: str) -> tuple[str, ...]:
        """The values of all names that begin so."""
        rows = await self._do(
            lambda: self._execute("SELECT value FROM facts WHERE substr(name, 1, ?) = ?", (len(prefix), prefix))
        )
        return tuple(str(row[0]) for row in rows)

    async def close(self) -> None:
        def end() -> None:
            if self._connection is not None:
                self._write_waiting()
                self._connection.close()

        await self._do(end)
        self._thread.shutdown()


def _bring_up_to_date(connection: sqlite3.Connection) -> None:
    """Each step is one transaction: a kill in the middle leaves the version before it."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    for number, script in enumerate(SCHEMAS, 1):
        if version < number:
            connection.executescript(f"BEGIN IMMEDIATE; {script} PRAGMA user_version = {number}; COMMIT;")
