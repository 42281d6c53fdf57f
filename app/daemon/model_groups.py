"""Gathers what grouping needs of the files: identities, checksums, and what lies beside the models."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import msgspec

from app.core.catalog.facts import ModelFacts
from app.core.catalog.gguf import read_header
from app.core.catalog.gguf_facts import model_stem, shards_of
from app.core.catalog.grouping import Beside, Identity, Piece, belonging, drafts, grouped
from app.core.catalog.hub_cache import name_of_folder
from app.core.errors import ModelError
from app.core.snapshot import ModelGroup, ProfileCard
from app.daemon.folders import Seen, Stamp, Unfinished, identity_of, stamp_of

_CHECKSUM = re.compile(r"(?:sha256-)?([0-9a-f]{64})")


class Companions:
    """Which files lie beside which models, as `seen` has them; `found` are the models in it that could be read."""

    def __init__(self, seen: Seen, found: Mapping[Path, ModelFacts], apart: Iterable[Path]) -> None:
        """`apart`: GGUF files that turned out to be no models."""
        self.pieces = {path: _piece(path, facts, seen) for path, facts in found.items()}
        self._of: dict[Path, list[Beside]] = {}
        besides = [beside_of(path, stamp) for path in (*seen.beside, *apart) if (stamp := stamp_of(path)) is not None]
        besides += [_as_draft(piece) for piece in self.pieces.values() if drafts(piece.label)]
        near: dict[Path, list[Piece]] = {}
        for piece in self.pieces.values():
            near.setdefault(piece.folder, []).append(piece)
            near.setdefault(piece.folder.parent, []).append(piece)
        for beside in besides:
            if beside is not None:
                for piece in belonging(beside, near.get(beside.path.parent, ())):
                    self._of.setdefault(piece.path, []).append(beside)
        for path, each in seen.named.items():  # what a manifest names belongs, wherever it lies
            files = {text for named in each for key in ("mmproj", "lora") for text in _texts(named.settings.get(key))}
            for text in sorted(files):
                beside = beside_of(Path(text), stamp) if (stamp := stamp_of(Path(text))) is not None else None
                if beside is not None and beside not in self._of.get(path, ()):
                    self._of.setdefault(path, []).append(beside)

    def projector_of(self, model: Path) -> Path | None:
        """The one projector that belongs to the model; None where there is none, or a choice that a person has to make."""
        found = [beside.path for beside in self._of.get(model, ()) if beside.role == "vision"]
        return found[0] if len(found) == 1 else None

    def groups(self, cards: Iterable[ProfileCard], seen: Seen) -> tuple[ModelGroup, ...]:
        """All models, those in profiles as well as those found, and downloads that are not whole."""
        profiles: dict[Path, list[ProfileCard]] = {}
        for card in cards:
            if card.facts is not None:
                profiles.setdefault(Path(card.model_path), []).append(card)
        pieces, companions = [], dict(self._of)
        named = {identity: path for path in self.pieces if (identity := identity_of(path)) is not None}
        ids: dict[Path, list[str]] = {}
        for path, own in profiles.items():
            known = path if path in self.pieces else named.get(identity_of(path) or (0, 0), path)
            ids.setdefault(known, []).extend(card.profile.id for card in own)
        for path, each in {**dict.fromkeys(ids), **self.pieces}.items():
            piece = each
            if piece is None:
                facts = profiles[path][0].facts
                assert facts is not None
                piece = _piece(path, facts, seen)
            pieces.append(_with_ids(piece, ids.get(path, ())))
        pieces = [piece for piece in pieces if not self._is_only_draft(piece)]
        missing = [path for path, stamps in seen.models.items() if path not in self.pieces and None in stamps]
        pieces += [_lacking(path, seen) for path in missing if path.suffix.lower() == ".gguf"]
        pieces += [_unfinished(each) for each in seen.unfinished]
        return grouped(pieces, companions, {piece.path: digest for piece in pieces if (digest := _digest(piece.path))})

    def _is_only_draft(self, piece: Piece) -> bool:
        return any(beside.path == piece.path for found in self._of.values() for beside in found)


def beside_of(path: Path, stamp: Stamp) -> Beside | None:
    """What the file is; None for one that no engine loads beside a model, or that cannot be read."""
    identity = identity_of(path)
    read = _read(path, stamp)
    if identity is None or read is None:
        return None
    role, architecture, sides = read
    return Beside(path=path, role=role, architecture=architecture, sides=sides, file=(identity, stamp[1]))


@lru_cache(maxsize=1024)
def _read(path: Path, stamp: Stamp) -> tuple[str, str, frozenset[int]] | None:
    try:
        header = read_header(path)
    except (ModelError, OSError, ValueError):
        return None
    kind, architecture = (header.metadata.get(f"general.{key}") for key in ("type", "architecture"))
    if architecture == "clip" or kind == "mmproj":
        role = "vision"
    elif kind == "adapter":
        role = "lora"
    elif drafts(path.stem):
        role = "draft"
    else:
        return None
    return role, str(architecture), frozenset(side for tensor in header.tensors for side in tensor.shape)


def _piece(path: Path, facts: ModelFacts, seen: Seen) -> Piece:
    named = seen.named.get(path, ())
    folder = facts.format != "gguf"
    label = named[0].title if named else name_of_folder(path) if folder else model_stem(path)
    again = seen.again.get(path, ())
    return Piece(
        path=path,
        label=label,
        folder=path if folder else path.parent,
        facts=facts,
        sources=(seen.sources.get(path, "folder"),),
        again=again,
        files=_files_of(facts),
    )


def _with_ids(piece: Piece, ids: Sequence[str]) -> Piece:
    return msgspec.structs.replace(piece, profile_ids=tuple(ids))


def _as_draft(piece: Piece) -> Beside | None:
    facts = piece.facts
    if facts is None or facts.format != "gguf" or len(piece.files) != 1:
        return None
    return Beside(
        path=piece.path, role="draft", architecture=facts.architecture, sides=frozenset(), file=piece.files[0]
    )


def _files_of(facts: ModelFacts) -> tuple[tuple[Identity, int], ...]:
    """Of a folder everything that lies in it: tokenizer and code are the model's too."""
    try:
        files = [each for each in facts.path.iterdir() if each.is_file()] if facts.path.is_dir() else list(facts.files)
    except OSError:
        files = list(facts.files)
    return _sized(files)


def _sized(files: Iterable[Path]) -> tuple[tuple[Identity, int], ...]:
    found = []
    for file in files:
        try:
            status = file.stat()
        except OSError:
            continue
        found.append(((status.st_dev, status.st_ino), status.st_size))
    return tuple(found)


def _lacking(path: Path, seen: Seen) -> Piece:
    parts = shards_of(path)
    gone = sum(1 for stamp in seen.models[path] if stamp is None)
    return Piece(
        path=path,
        label=model_stem(path),
        folder=path.parent,
        facts=None,
        sources=(seen.sources.get(path, "folder"),),
        files=_sized(parts),
        incomplete=f"{gone:,} of its {len(parts):,} parts {'is' if gone == 1 else 'are'} not here yet.",
    )


def _unfinished(each: Unfinished) -> Piece:
    files = _sized([each.path]) if each.bytes else ()
    return Piece(
        path=each.path, label=each.name, folder=each.path.parent, facts=None, sources=(each.source,), files=files,
        incomplete=each.why,
    )  # fmt: skip


def _digest(path: Path) -> str:
    """The checksum that a store has made the file's name; "" where it has not. Only for single files."""
    try:
        found = _CHECKSUM.fullmatch(path.resolve().name)
    except (OSError, ValueError, RuntimeError):
        return ""
    return found[1] if found else ""


def _texts(value: object) -> tuple[str, ...]:
    return tuple(value.split(",")) if isinstance(value, str) else ()
