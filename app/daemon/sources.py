"""Looks at every place where models lie: the person's folders and the stores of other programs, read in place."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from app.core.catalog.ollama import (
    LAID_OVER,
    MAX_MANIFEST_BYTES,
    MAX_TEXT_BYTES,
    Manifest,
    OllamaModel,
    model_of,
    names_of,
    parse_manifest,
    parse_parameters,
    tag_of,
)
from app.core.catalog.stores import HUGGING_FACE, OLLAMA, Store, stores_of
from app.core.errors import ModelUnreadable
from app.daemon.folders import ADVICE, Named, Seen, Stamp, Unfinished, Walker, stamp_of

MAX_REVISIONS = 50  # of one repository in the hub's cache
_COMMIT = re.compile(r"[0-9a-f]{40}")


class Sources:
    """Used by one thread at a time; remembers each manifest until its file changes."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._read: dict[Path, tuple[Stamp, bytes]] = {}
        self._used: set[Path] = set()
        self._paths: dict[str, Path] = {}

    def look(self, folders: Iterable[Path], enabled: Iterable[str], quiet_when_missing: Iterable[Path] = ()) -> Seen:
        """All models of the folders and of the stores whose kind is `enabled`; a store that is not there says nothing."""
        kinds, quiet = frozenset(enabled), frozenset(quiet_when_missing)
        self._used = set()
        walker = Walker(earlier=self._paths)
        for store in stores_of(self._environ):  # first: a store knows its models' names, a walk only their files'
            walker.count_anew()
            if store.kind in kinds and _is_there(store, walker):
                match store.kind:
                    case "huggingface":
                        _hub(store.folder, walker)
                    case "ollama":
                        self._ollama(store.folder, walker)
                    case _:
                        walker.search(store.folder, store.kind, quiet_when_missing=True)
        walker.count_anew()
        for folder in folders:
            walker.search(folder, quiet_when_missing=folder in quiet)
        self._read = {path: kept for path, kept in self._read.items() if path in self._used}
        self._paths = walker.paths
        return walker.seen()

    # --- Ollama ---

    def _ollama(self, folder: Path, walker: Walker) -> None:
        """Manifests lie at manifests/host/namespace/model/tag, what they name in one folder of blobs."""
        level = [folder / "manifests"]
        for depth in range(4):
            level = [
                Path(entry.path)
                for at in level
                for entry in walker.entries_of(at, ADVICE[OLLAMA])
                if entry.name[0] != "." and _is_folder(entry) == (depth < 3)
            ]
        for file in level:
            tag = tag_of((file.parts[-4], file.parts[-3], file.parts[-2], file.parts[-1]))
            if file.parts[-2].startswith(
                LAID_OVER
            ):  # a profile of ours laid its options over a model that is listed itself
                continue
            try:
                manifest = parse_manifest(self._bytes(file, MAX_MANIFEST_BYTES), str(file))
            except ModelUnreadable as error:
                walker.problem(file, error.summary, error.advice)
            except OSError as error:
                walker.problem(file, f"{file} cannot be read: {error.strerror}.", ADVICE[OLLAMA])
            else:
                self._ollama_model(manifest, tag, folder, walker)

    def _ollama_model(self, manifest: Manifest, tag: str, folder: Path, walker: Walker) -> None:
        model = model_of(manifest, tag, folder / "blobs")
        if model is None:
            return
        stamp = stamp_of(model.model)
        if stamp is None or (model.model_bytes and stamp[1] < model.model_bytes):
            if stamp is None and not os.access(folder / "blobs", os.X_OK):
                walker.problem(folder / "blobs", f"The folder {folder / 'blobs'} cannot be read.", ADVICE[OLLAMA])
                return
            walker.unfinished.append(
                Unfinished(
                    name=tag,
                    source=OLLAMA,
                    path=model.model,
                    why="Its file is not whole yet.",
                    bytes=stamp[1] if stamp else 0,
                )
            )
            return
        self._name(model, walker)

    def _name(self, model: OllamaModel, walker: Walker) -> None:
        settings, sampling = parse_parameters(self._text(model.parameters))
        if len(model.projectors) == 1 and model.projectors[0].is_file():
            settings["mmproj"] = str(model.projectors[0])
        if adapters := [str(path) for path in model.adapters if path.is_file()]:
            settings["lora"] = ",".join(adapters)
        aliases = names_of(model.tag)
        system = self._text(model.system).decode("utf-8", "replace")
        made = Named(title=model.tag, aliases=aliases, settings=settings, sampling=sampling, system_prompt=system)
        path = walker.add(model.model, OLLAMA)
        others = walker.named.get(path, ())
        for number, other in enumerate(others):
            if msgspec.structs.replace(made, title=other.title, aliases=other.aliases) == other:  # one model, two tags
                both = msgspec.structs.replace(other, aliases=tuple(dict.fromkeys((*other.aliases, *aliases))))
                if other.title.endswith(":latest"):
                    both = msgspec.structs.replace(both, title=made.title)
                walker.named[path] = (*others[:number], both, *others[number + 1 :])
                return
        walker.named[path] = (*others, made)
        walker.beside.update(path for path in (*model.projectors, *model.adapters) if path.is_file())

    def _text(self, path: Path | None) -> bytes:
        """The content of a small blob; nothing where it cannot be read: the model can be used without it."""
        try:
            return self._bytes(path, MAX_TEXT_BYTES) if path is not None else b""
        except (OSError, ModelUnreadable):
            return b""

    def _bytes(self, path: Path, at_most: int) -> bytes:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > at_most:
            raise ModelUnreadable(f"{path} is no small file.", "Get the model again with `ollama pull`.")
        self._used.add(path)
        stamp = status.st_mtime_ns, status.st_size
        kept = self._read.get(path)
        if kept is None or kept[0] != stamp:
            with path.open("rb") as file:
                kept = self._read[path] = stamp, file.read(at_most)
        return kept[1]


def _is_there(store: Store, walker: Walker) -> bool:
    """Whether the folder can be looked into; one that is there and shut is told."""
    try:
        return stat.S_ISDIR(store.folder.stat().st_mode)
    except PermissionError:
        walker.problem(
            store.folder, f"{store.folder} cannot be read: Permission denied.", ADVICE.get(store.kind, "Check its permissions.")
        )  # fmt: skip
    except (OSError, ValueError):
        pass
    return False


def _hub(cache: Path, walker: Walker) -> None:
    """The models of the hub's cache: of each repository what its newest revisions hold, each file once."""
    for entry in walker.entries_of(cache):
        if entry.name.startswith("models--") and _is_folder(entry):
            _repository(Path(entry.path), walker)


def _repository(folder: Path, walker: Walker) -> None:
    name = folder.name.removeprefix("models--").replace("--", "/", 1)
    revisions = [Path(entry.path) for entry in walker.entries_of(folder / "snapshots") if _is_folder(entry)]
    main = _main(folder)
    found: set[Path] = set()
    for revision in sorted(revisions, key=lambda each: (each.name != main, -_changed(each)))[:MAX_REVISIONS]:
        for path in walker.search(revision, HUGGING_FACE, quiet_when_missing=True):
            if (place := path.relative_to(revision)) in found:
                del walker.models[path]  # an older revision of the same file
            found.add(place)
    blobs = walker.entries_of(folder / "blobs")
    whole = {entry.name for entry in blobs}
    for entry in blobs:
        if entry.name.endswith(".incomplete") and entry.name.split(".")[0] not in whole:
            size = (stamp_of(Path(entry.path)) or (0, 0))[1]
            why = "A download into it has not finished."
            walker.unfinished.append(
                Unfinished(name=name, source=HUGGING_FACE, path=Path(entry.path), why=why, bytes=size)
            )


def _main(folder: Path) -> str:
    try:
        with (folder / "refs" / "main").open("rb") as file:
            commit = file.read(64).decode("ascii", "replace").strip()
    except OSError:
        return ""
    return commit if _COMMIT.fullmatch(commit) else ""


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself, or a drive that is gone
        return False


def _changed(folder: Path) -> int:
    return (stamp_of(folder) or (0, 0))[0]
