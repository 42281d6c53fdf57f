"""Looks after the hub's cache on this disk: what is in it and how large, and a trash beside it that gives back."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from app.core.catalog.gguf_facts import model_stem, shards_of
from app.core.catalog.safetensors import is_model_folder
from app.core.errors import ModelMissing, NotWritable
from app.core.hub import Downloaded, Partial, Trashed, quantisation_of_name
from app.core.values import from_json, to_json

COMMIT = re.compile(r"[0-9a-f]{40}")
MAX_ENTRIES = 20_000
RECORD = "record.json"


class _Moved(msgspec.Struct, frozen=True, kw_only=True):
    """What the trash knows of one deletion: each file's place, below the cache, and for a link what it pointed to."""

    title: str
    deleted_at_unix: float
    disk_bytes: int
    files: tuple[str, ...]  # moved: they lie in the trash under their number
    links: dict[str, str]


def contents(cache: Path) -> tuple[tuple[Downloaded, ...], tuple[Partial, ...]]:
    """All models in the cache, and what unfinished downloads have left."""
    models: list[Downloaded] = []
    parts: list[Partial] = []
    for repository in _folders(cache):
        if not repository.name.startswith("models--"):
            continue
        name = repository.name.removeprefix("models--").replace("--", "/", 1)
        models += _of_repository(repository, name)
        size = sum(_size(part) for part in _partial_blobs(repository))
        if size:
            parts.append(Partial(name=name, disk_bytes=size))
    return tuple(models), tuple(parts)


def _of_repository(repository: Path, name: str) -> Iterator[Downloaded]:
    main = _main(repository)
    snapshots = sorted(_folders(repository / "snapshots"), key=lambda each: (each.name != main, each.name))
    uses: dict[str, int] = {}  # blob → links to it, in every revision
    for snapshot in snapshots:
        for link in _links(snapshot):
            uses[_blob_of(link)] = uses.get(_blob_of(link), 0) + 1
    seen: set[str] = set()
    for snapshot in snapshots:
        links = list(_links(snapshot))
        for path, own in _models_in(snapshot, links):
            place = str(path.relative_to(snapshot)) if path != snapshot else ""
            yield Downloaded(
                name=name,
                commit=snapshot.name,
                file=place,
                title=_title(name, place),
                path=str(path),
                disk_bytes=sum(_size(link) for link in own if uses.get(_blob_of(link), 0) <= 1),
                older=place in seen,
            )
            seen.add(place)


def _models_in(snapshot: Path, links: list[Path]) -> Iterator[tuple[Path, list[Path]]]:
    """Each thing that an engine loads, with the files that go with it. A projector goes with the last model beside it."""
    ggufs = [link for link in links if link.suffix.lower() == ".gguf"]
    models = [link for link in ggufs if "mmproj" not in link.name.lower() and shards_of(link)[0] == link]
    taken = {part for first in models for part in shards_of(first)}
    loose = [link for link in ggufs if link not in taken]
    for first in models:
        parts = [part for part in shards_of(first) if part in ggufs]
        if all(part.exists() for part in parts):
            yield first, parts + (loose if len(models) == 1 else [])
    if is_model_folder([link.name for link in links if link.parent == snapshot]):
        yield snapshot, [link for link in links if link not in ggufs]


def _title(name: str, place: str) -> str:
    own = name.rpartition("/")[2]
    return f"{own} {quantisation_of_name(place) or model_stem(Path(place))}" if place else own


# --- the trash -------------------------------------------------------------------------------------------------------


def trash_of(cache: Path) -> Path:
    """On the disk of the cache, so that deleting and undoing move nothing: beside it, or hidden in it where that is another."""
    beside = cache.with_name(f"{cache.name}-trash")
    try:
        if cache.parent.stat().st_dev == cache.stat().st_dev and os.access(cache.parent, os.W_OK):
            return beside
    except OSError:
        pass
    return cache / ".trash"


def trashed(cache: Path) -> tuple[Trashed, ...]:
    """What can come back, newest first."""
    found = []
    for folder in _folders(trash_of(cache)):
        if (moved := _record(folder)) is not None:
            found.append(
                Trashed(
                    id=folder.name,
                    title=moved.title,
                    deleted_at_unix=moved.deleted_at_unix,
                    disk_bytes=moved.disk_bytes,
                )
            )
    return tuple(sorted(found, key=lambda each: -each.deleted_at_unix))


def delete(cache: Path, model: Downloaded) -> Trashed:
    """Moves the model's files to the trash; content that another revision uses stays. Raises ModelMissing, NotWritable."""
    repository = cache / f"models--{model.name.replace('/', '--')}"
    snapshot = repository / "snapshots" / model.commit
    own = next((own for path, own in _models_in(snapshot, list(_links(snapshot))) if str(path) == model.path), None)
    if own is None:
        raise ModelMissing(f"{model.title} is not there any more.", "Look at the list again.")
    kept = {_blob_of(link) for other in _folders(repository / "snapshots") for link in _links(other) if link not in own}
    blobs = {repository / "blobs" / _blob_of(link) for link in own if link.is_symlink()} - {
        repository / "blobs" / name for name in kept
    }
    plain = [link for link in own if not link.is_symlink()]
    return _move(cache, model.title, sorted(blobs) + plain, [link for link in own if link.is_symlink()])


def discard_parts(cache: Path, name: str) -> int:
    """Deletes what unfinished downloads of that model have left; how many bytes that freed."""
    freed = 0
    for part in _partial_blobs(cache / f"models--{name.replace('/', '--')}"):
        freed += _size(part)
        part.unlink(missing_ok=True)
    return freed


def _move(cache: Path, title: str, files: list[Path], links: list[Path]) -> Trashed:
    trash = trash_of(cache)
    folder = trash / f"{int(time.time())}-{secrets.token_hex(3)}"
    files = [file for file in files if file.exists()]
    moved = _Moved(
        title=title,
        deleted_at_unix=time.time(),
        disk_bytes=sum(_size(file) for file in files),
        files=tuple(str(file.relative_to(cache)) for file in files),
        links={str(link.relative_to(cache)): str(link.readlink()) for link in links},
    )
    try:
        folder.mkdir(parents=True, mode=0o700)
        (folder / RECORD).write_bytes(to_json(moved))  # first: a cut-off deletion can be undone as well
        for link in links:
            link.unlink()
        for number, file in enumerate(files):
            file.rename(folder / str(number))
    except OSError as error:
        raise NotWritable(
            f"{title} cannot be moved to the trash at {folder}: {error.strerror}.",
            "Check the folder's owner and permissions.",
        ) from error
    for place in {link.parent for link in links}:
        _drop_empty(place, cache)
    return Trashed(id=folder.name, title=title, deleted_at_unix=moved.deleted_at_unix, disk_bytes=moved.disk_bytes)


def restore(cache: Path, trash_id: str) -> str:
    """Puts everything back where it was and says its title. What has come there in the meantime wins."""
    folder = _in_trash(cache, trash_id)
    moved = _record(folder)
    if moved is None:
        raise ModelMissing("That is not in the trash any more.", "Download the model again.")
    try:
        for number, place in enumerate(moved.files):
            target, source = cache / place, folder / str(number)
            if source.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                if not target.exists():
                    source.rename(target)
        for place, points_to in moved.links.items():
            link = cache / place
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.is_symlink() and not link.exists():
                link.symlink_to(points_to)
        shutil.rmtree(folder)
    except OSError as error:
        raise NotWritable(f"{moved.title} cannot be put back: {error.strerror}.", "Check the disk's room.") from error
    return moved.title


def empty(cache: Path, trash_id: str = "") -> int:
    """Deletes one thing in the trash for good, or all; how many bytes that freed."""
    freed = 0
    for folder in [_in_trash(cache, trash_id)] if trash_id else list(_folders(trash_of(cache))):
        moved = _record(folder)
        freed += moved.disk_bytes if moved is not None else 0
        shutil.rmtree(folder, ignore_errors=True)
    return freed


def _in_trash(cache: Path, trash_id: str) -> Path:
    if not re.fullmatch(r"\d{1,12}-[0-9a-f]{6}", trash_id):
        raise ModelMissing("That is not in the trash.", "Look at the list again.")
    return trash_of(cache) / trash_id


def _record(folder: Path) -> _Moved | None:
    try:
        moved = from_json(_Moved, (folder / RECORD).read_bytes())
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    places = (*moved.files, *moved.links)
    inside = all(not place.startswith("/") and ".." not in Path(place).parts for place in places)
    return moved if inside else None


# --- looking ---------------------------------------------------------------------------------------------------------


def loaded_from(model: Downloaded, runs: Mapping[str, str]) -> str:
    """The title of a run that reads the model now. `runs`: path of a model → title of its run."""
    own = Path(model.path)
    blobs = _content_of(own)
    for path, title in runs.items():
        if path == model.path or _content_of(Path(path)) & blobs:
            return title
    return ""


def _content_of(path: Path) -> set[Path]:
    if path.is_dir():
        return {link.resolve() for link in _links(path) if link.suffix == ".safetensors"}
    return {part.resolve() for part in shards_of(path)}


def _links(snapshot: Path) -> Iterator[Path]:
    """Every file and link below a revision's folder."""
    count = 0
    for folder, _, names in os.walk(snapshot):
        for name in sorted(names):
            count += 1
            if count > MAX_ENTRIES:
                return
            yield Path(folder) / name


def _folders(folder: Path) -> Iterator[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return
    for entry in entries:
        if entry.is_dir() and not entry.is_symlink():
            yield entry


def _blob_of(link: Path) -> str:
    try:
        return link.readlink().name
    except OSError:
        return str(link)


def _partial_blobs(repository: Path) -> list[Path]:
    try:
        return sorted((repository / "blobs").glob("*.incomplete"))
    except OSError:
        return []


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _main(repository: Path) -> str:
    try:
        commit = (repository / "refs" / "main").read_text("ascii").strip()
    except (OSError, ValueError):
        return ""
    return commit if COMMIT.fullmatch(commit) else ""


def _drop_empty(folder: Path, up_to: Path) -> None:
    """Removes folders that the deletion left empty, so that nothing takes them for a model."""
    while folder != up_to and folder.is_relative_to(up_to):
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent


def main_commits(cache: Path) -> dict[str, str]:
    """Repository → the commit of its main branch when it was downloaded last."""
    found = {}
    for repository in _folders(cache):
        if repository.name.startswith("models--") and (commit := _main(repository)):
            found[repository.name.removeprefix("models--").replace("--", "/", 1)] = commit
    return found
