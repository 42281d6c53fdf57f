"""Walks the folders in which a person keeps models: bounded, safe against loops, reading names and sizes only."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

import msgspec

from app.core.catalog.gguf_facts import shards_of
from app.core.catalog.safetensors import is_model_folder, parts_of_folder
from app.core.snapshot import Problem

MAX_DEPTH = 8
MAX_ENTRIES = 50_000  # over all folders

Stamp = tuple[int, int]  # modification time in nanoseconds, size in bytes


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """The models below some folders: first GGUF file, or Hugging Face folder → stamps of all its parts (None = not there)."""

    models: dict[Path, tuple[Stamp | None, ...]]
    problems: tuple[Problem, ...]


def expanded(text: str) -> Path:
    """The path with the home folder put in; as it is where there is no such account."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def stamp_of(path: Path) -> Stamp | None:
    """What changes when a file does; None when it is not there or may not be looked at."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_mtime_ns, status.st_size


def parts_of(path: Path) -> tuple[Path, ...]:
    """All files of the model at `path`."""
    return parts_of_folder(path) if path.is_dir() else shards_of(path)


def walk(folders: Iterable[Path], quiet_when_missing: Iterable[Path] = (), max_entries: int = MAX_ENTRIES) -> Seen:
    """Every model, in the order of names. Hidden entries and projector files are passed over, links are followed once."""
    walker = _Walker(frozenset(quiet_when_missing), max_entries)
    for folder in folders:
        walker.search(folder, 0)
    return Seen(
        models={first: tuple(stamp_of(part) for part in parts_of(first)) for first in sorted(walker.models)},
        problems=tuple(walker.problems),
    )


class _Walker:
    def __init__(self, quiet: frozenset[Path], max_entries: int) -> None:
        self.models: set[Path] = set()
        self.problems: list[Problem] = []
        self._quiet = quiet
        self._seen: set[tuple[int, int]] = set()
        self._entries, self._max_entries = 0, max_entries

    def search(self, folder: Path, depth: int) -> None:
        try:
            status = folder.stat()
            if not self._first_time(status):
                return
            with os.scandir(folder) as listing:
                entries = sorted(self._counted(listing, folder), key=lambda entry: entry.name)
        except FileNotFoundError:
            if depth == 0 and folder not in self._quiet:
                self._problem(folder, f"The model folder {folder} is not there.", "Make it, or change it in Settings.")
            return
        except NotADirectoryError:
            self._problem(folder, f"{folder} is not a folder.", "Name a folder in Settings.")
            return
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            self._problem(folder, f"The folder {folder} cannot be read: {reason}.", "Check its permissions.")
            return
        if is_model_folder({entry.name for entry in entries}):
            self.models.add(folder)
        for entry in entries:
            if not entry.name.startswith("."):
                self._look_at(entry, depth)

    def _look_at(self, entry: os.DirEntry[str], depth: int) -> None:
        path = Path(entry.path)
        try:
            status = entry.stat()  # of what a link points to
        except OSError as error:
            if entry.name.lower().endswith(".gguf"):
                self._problem(path, f"{path} cannot be opened: {error.strerror}.", "Mend the link or remove it.")
            return
        if stat.S_ISDIR(status.st_mode):
            if depth < MAX_DEPTH:
                self.search(path, depth + 1)
        elif stat.S_ISREG(status.st_mode) and _is_model(entry.name):
            first = shards_of(path)[0]
            if first != path or self._first_time(status):
                self.models.add(first)

    def _first_time(self, status: os.stat_result) -> bool:
        identity = (status.st_dev, status.st_ino)
        if identity in self._seen:
            return False
        self._seen.add(identity)
        return True

    def _counted(self, listing: Iterable[os.DirEntry[str]], folder: Path) -> Iterable[os.DirEntry[str]]:
        for entry in listing:
            self._entries += 1
            if self._entries > self._max_entries:
                self._problem(
                    folder,
                    f"More than {self._max_entries:,} files and folders: the rest of {folder} was not searched.",
                    "Name the folders that hold models in Settings.",
                )
                return
            yield entry

    def _problem(self, where: Path, summary: str, advice: str) -> None:
        self.problems.append(Problem(where=str(where), summary=summary, advice=advice))


def _is_model(name: str) -> bool:
    lower = name.lower()
    return lower.endswith(".gguf") and "mmproj" not in lower
