"""Walks the folders in which a person keeps models: bounded, safe against loops, reading names and sizes only."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Mapping
from operator import attrgetter
from pathlib import Path

import msgspec

from app.core.catalog.gguf_facts import shards_of
from app.core.catalog.hub_cache import name_of_folder
from app.core.catalog.safetensors import is_model_folder, missing_parts, parts_of_folder
from app.core.catalog.stores import FOLDER, OLLAMA
from app.core.options import Scalar
from app.core.profiles import Sampling
from app.core.snapshot import Problem

MAX_DEPTH = 8
MAX_ENTRIES = 50_000  # over all folders

_CHECK = "Check its permissions."
ADVICE = {
    OLLAMA: "Join the group of the account that it belongs to (often `ollama`), or take ollama out of library.sources."
}
_PARTIAL = re.compile(
    r"(.+\.(?:gguf|safetensors))\.(?:downloadinprogress|incomplete|part|partial|crdownload)", re.IGNORECASE
)

_NAME = attrgetter("name")

Stamp = tuple[int, int]  # modification time in nanoseconds, size in bytes
Identity = tuple[int, int]  # device and inode: two names of one file have the same


class Unfinished(msgspec.Struct, frozen=True, kw_only=True):
    """A download that somebody began and that is not whole yet."""

    name: str
    source: str
    path: Path
    why: str
    bytes: int = 0  # that are here


class Named(msgspec.Struct, frozen=True, kw_only=True):
    """What a store says of a model beside its files. `settings` may name files: projector, adapters."""

    title: str
    aliases: tuple[str, ...] = ()
    settings: dict[str, Scalar] = {}
    sampling: Sampling = Sampling()
    system_prompt: str = ""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """The models below some folders: first GGUF file, or Hugging Face folder → stamps of all its parts (None = not there)."""

    models: dict[Path, tuple[Stamp | None, ...]]
    problems: tuple[Problem, ...]
    sources: dict[Path, str] = {}  # of each model
    identities: dict[Path, Identity] = {}  # of each model whose first file is there
    named: dict[Path, tuple[Named, ...]] = {}  # models that their store gives one or more names
    again: dict[Path, tuple[Path, ...]] = {}  # other places of the same file
    beside: dict[Path, Stamp | None] = {}  # files that by their names belong to a model
    unfinished: tuple[Unfinished, ...] = ()


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


def identity_of(path: Path) -> Identity | None:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def parts_of(path: Path) -> tuple[Path, ...]:
    """All files of the model at `path`."""
    return parts_of_folder(path) if path.is_dir() else shards_of(path)


def walk(folders: Iterable[Path], quiet_when_missing: Iterable[Path] = (), max_entries: int = MAX_ENTRIES) -> Seen:
    """Every model, in the order of names. Hidden entries and projector files are passed over, links are followed once."""
    walker = Walker(max_entries)
    for folder in folders:
        walker.search(folder, quiet_when_missing=folder in quiet_when_missing)
    return walker.seen()


class Walker:
    """Searches one folder after another; whatever was seen once, under any name, is not seen again."""

    def __init__(self, max_entries: int = MAX_ENTRIES, earlier: Mapping[str, Path] | None = None) -> None:
        """`earlier`: the `paths` of the last look. Thousands of paths that are the same objects are made and compared at once."""
        self._earlier = earlier or {}
        self.paths: dict[str, Path] = {}
        self.models: dict[Path, str] = {}  # → source
        self.named: dict[Path, tuple[Named, ...]] = {}
        self.beside: set[Path] = set()
        self.unfinished: list[Unfinished] = []
        self.problems: list[Problem] = []
        self.again: dict[Path, tuple[Path, ...]] = {}
        self._known: dict[Identity, str] = {}
        self._stamps: dict[Path, tuple[Stamp]] = {}  # of models that are one file
        self._identities: dict[Path, Identity] = {}
        self._fresh: list[Path] = []
        self._entries, self._max_entries = 0, max_entries
        self._source, self._quiet = FOLDER, False

    def seen(self) -> Seen:
        models = {path: self.models[path] for path in sorted(self.models, key=lambda path: path.parts)}
        stamps = self._stamps
        return Seen(
            models={first: stamps.get(first) or tuple(stamp_of(part) for part in parts_of(first)) for first in models},
            problems=tuple(self.problems),
            sources=models,
            identities={path: self._identities[path] for path in models if path in self._identities},
            named=self.named,
            beside={path: stamp_of(path) for path in sorted(self.beside)},
            again=self.again,
            unfinished=tuple(self.unfinished),
        )

    def count_anew(self) -> None:
        """A store of many files must not use up what may be looked at elsewhere."""
        self._entries = 0

    def search(self, folder: Path, source: str = FOLDER, quiet_when_missing: bool = False) -> list[Path]:
        """The models that were found below it now."""
        self._source, self._quiet, self._fresh = source, quiet_when_missing, []
        self._search(str(folder), 0, None)
        return self._fresh

    def add(self, model: Path, source: str) -> Path:
        """Puts a model onto the list, whatever its file is called; the path under which it is there."""
        status = model.stat()
        if (known := self._known_as(str(model), status)) is not None:
            return Path(known)
        self._found(model, source, status)
        return model

    def entries_of(self, folder: Path, advice: str = _CHECK) -> list[os.DirEntry[str]]:
        """What lies in the folder, in the order of names; nothing where it is not there."""
        try:
            with os.scandir(folder) as listing:
                return sorted(self._counted(listing, folder), key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            self.problem(folder, f"The folder {folder} cannot be read: {reason}.", advice)
            return []

    def _search(self, folder: str, depth: int, status: os.stat_result | None) -> None:
        """Paths are text until they are a model's: thousands are passed at each look."""
        try:
            status = status or os.stat(folder)  # noqa: PTH116
            if self._known_as(folder, status) is not None:
                return
            with os.scandir(folder) as listing:
                entries = sorted(self._counted(listing, folder), key=_NAME)
        except FileNotFoundError:
            if depth == 0 and not self._quiet:
                self.problem(folder, f"The model folder {folder} is not there.", "Make it, or change it in Settings.")
            return
        except NotADirectoryError:
            self.problem(folder, f"{folder} is not a folder.", "Name a folder in Settings.")
            return
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            self.problem(folder, f"The folder {folder} cannot be read: {reason}.", ADVICE.get(self._source, _CHECK))
            return
        names = {entry.name for entry in entries}
        if is_model_folder(names):
            if lacking := missing_parts(names):
                self._not_whole(Path(folder), name_of_folder(Path(folder)), f"{_files(len(lacking))} not here yet.")
            else:
                self._found(self._path(folder), self._source, status)
        for entry in entries:
            if entry.name[0] != ".":
                self._look_at(entry, depth)

    def _look_at(self, entry: os.DirEntry[str], depth: int) -> None:
        try:
            status = entry.stat()  # of what a link points to
        except OSError as error:
            if entry.name.lower().endswith(".gguf"):
                path = Path(entry.path)
                if self._source == FOLDER:
                    self.problem(path, f"{path} cannot be opened: {error.strerror}.", "Mend the link or remove it.")
                else:
                    self._not_whole(path, path.stem, "Its file is not here yet.")
            return
        if stat.S_ISDIR(status.st_mode):
            if depth < MAX_DEPTH:
                self._search(entry.path, depth + 1, status)
        elif stat.S_ISREG(status.st_mode):
            self._look_at_file(entry, status)

    def _look_at_file(self, entry: os.DirEntry[str], status: os.stat_result) -> None:
        lower = entry.name.lower()
        if lower.endswith(".gguf"):
            if _is_beside(lower):
                if self._known_as(entry.path, status) is None:
                    self.beside.add(Path(entry.path))
                return
            path = self._path(entry.path)
            parts = shards_of(path)
            if len(parts) > 1:
                self._found(parts[0], self._source, status if parts[0] == path else None)
            elif self._known_as(entry.path, status) is None:
                self._found(path, self._source, status)
                self._stamps[path] = ((status.st_mtime_ns, status.st_size),)
        elif found := _PARTIAL.fullmatch(entry.name):
            self._not_whole(Path(entry.path), Path(found[1]).stem, "Its download has not finished.", status.st_size)

    def _path(self, text: str) -> Path:
        path = self.paths[text] = self._earlier.get(text) or Path(text)
        return path

    def _not_whole(self, path: Path, name: str, why: str, size: int = 0) -> None:
        self.unfinished.append(Unfinished(name=name, source=self._source, path=path, why=why, bytes=size))

    def _found(self, model: Path, source: str, status: os.stat_result | None) -> None:
        if status is not None:
            self._identities[model] = status.st_dev, status.st_ino
        if model not in self.models:
            self.models[model] = source
            self._fresh.append(model)

    def _known_as(self, path: str, status: os.stat_result) -> str | None:
        """The other path under which the same file or folder was seen; None when this is the first time."""
        known = self._known.setdefault((status.st_dev, status.st_ino), path)
        if known is path:
            return None
        if path != known and (first := Path(known)) in self.models:
            self.again[first] = (*self.again.get(first, ()), Path(path))
        return known

    def _counted(self, listing: Iterable[os.DirEntry[str]], folder: Path | str) -> Iterable[os.DirEntry[str]]:
        for entry in listing:
            if not entry.name.isascii() and (name := _named_wrongly(entry.name)):
                self.problem(
                    folder,
                    f"{folder} holds a name that is no text in UTF-8: {name}.",
                    "Rename it, so that it can be listed.",
                )
                continue
            self._entries += 1
            if self._entries > self._max_entries + 1:
                return
            if self._entries > self._max_entries:
                self.problem(
                    folder,
                    f"More than {self._max_entries:,} files and folders: the rest of {folder} was not searched.",
                    "Name the folders that hold models in Settings.",
                )
                return
            yield entry

    def problem(self, where: Path | str, summary: str, advice: str) -> None:
        self.problems.append(Problem(where=str(where), summary=summary, advice=advice))


def _named_wrongly(name: str) -> str:
    """The name as it can be shown, when it is none that can be sent or written; "" for a usual one."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return os.fsencode(name).decode("utf-8", "backslashreplace")
    return ""


def is_text(name: str) -> bool:
    """Whether the name is one that can be sent and written."""
    return not _named_wrongly(name)


def _is_beside(lower: str) -> bool:
    """Whether a GGUF file of that name is no model: a projector, or heads that only guess ahead."""
    return "mmproj" in lower or lower.startswith("mtp-")


def _files(count: int) -> str:
    return "One of its files is" if count == 1 else f"{count:,} of its files are"
