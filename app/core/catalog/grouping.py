"""Decides which files are one model: its formats and quantisations together, with what is loaded beside them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from app.core.catalog.facts import ModelFacts
from app.core.snapshot import ModelFile, ModelGroup, ModelVariant

Identity = tuple[int, int]  # device and inode: two names of one file have the same

# What a name says of the numbers' form or of the packaging, not of the model.
_FORM = re.compile(
    r"(?<![a-z0-9])(?:(?:ud-|i1-)?(?:iq|tq|q)\d(?:_[0-9a-z]+)*|b?fp?16|fp?32|fp8(?:-(?:dynamic|block|kv))?|nvfp4|mxfp4"
    r"|awq|gptq|bnb|bitsandbytes|[48]-?bit|int[48]|w\d+a\d+|gguf|ggml|imat(?:rix)?|exl[23]|marlin|autoround|unsloth"
    r"|dynamic|quantized|hf|safetensors|latest)(?![a-z0-9])"
)
_PLAIN = frozenset(("", "model", "models", "ggml-model", "main", "weights", "pytorch-model", "consolidated", "output"))
_BETWEEN = re.compile(r"[^a-z0-9.]+")


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """One model as it was found, or one download that is not whole (`facts` unknown, `incomplete` says why)."""

    path: Path
    label: str  # what a person calls it: the repository, the tag, the file's stem
    folder: Path  # in which its companions lie
    facts: ModelFacts | None
    sources: tuple[str, ...]
    again: tuple[Path, ...] = ()
    profile_ids: tuple[str, ...] = ()
    files: tuple[tuple[Identity, int], ...] = ()  # with bytes
    incomplete: str = ""


class Beside(msgspec.Struct, frozen=True, kw_only=True):
    """A file that belongs to a model. `sides` are the lengths of its tensors' sides."""

    path: Path
    role: str  # "vision" | "draft" | "lora"
    architecture: str
    sides: frozenset[int]
    file: tuple[Identity, int]


def base_name(label: str) -> str:
    """The model's name without form, packaging and publisher: `org/Qwen3-4B-AWQ` and `Qwen3-4B-Q4_K_M` are both `qwen3-4b`."""
    text = label.rpartition("/")[2].lower()
    text = _BETWEEN.sub("-", _FORM.sub("-", text.replace(":", "-"))).strip("-.")
    return "" if text in _PLAIN else text


def belonging(beside: Beside, pieces: Sequence[Piece]) -> tuple[Piece, ...]:
    """The models of its folder, or of the folders in it, to which the file belongs.

    In a folder of one model that is clear. Among several the names decide. A projector that gives vectors of another width
    than the model's belongs to none: the engine would refuse it.
    """
    near = [piece for piece in pieces if piece.folder == beside.path.parent]
    near = near or [piece for piece in pieces if piece.folder.parent == beside.path.parent]
    near = [piece for piece in near if not drafts(piece.label)]
    if len({_name_of(piece) for piece in near}) > 1:
        near = [piece for piece in near if _named_after(beside.path, piece)]
    return tuple(piece for piece in near if _fits(beside, piece))


def _named_after(beside: Path, piece: Piece) -> bool:
    prefix, mark, rest = beside.stem.lower().partition("mmproj")
    own = base_name(prefix if mark and base_name(prefix) else rest if mark else prefix)
    name = _name_of(piece)
    return bool(own and name) and (name.startswith(own) or own.startswith(name))


def _fits(beside: Beside, piece: Piece) -> bool:
    facts = piece.facts
    if facts is None or facts.format != "gguf":
        return False
    match beside.role:
        case "vision":
            return facts.embedding_length is None or facts.embedding_length in beside.sides
        case "lora":
            return facts.architecture == beside.architecture
    return True


def drafts(label: str) -> bool:
    """Whether a model of that name was made to guess ahead for a larger one."""
    return re.search(r"(?<![a-z0-9])(?:draft|mtp|eagle3?)(?![a-z0-9])", label.lower()) is not None


def grouped(
    pieces: Sequence[Piece], companions: Mapping[Path, Sequence[Beside]], digests: Mapping[Path, str]
) -> tuple[ModelGroup, ...]:
    """All pieces as models. `companions`: what belongs to each path; `digests`: checksums where a store knows them."""
    groups: list[list[Piece]] = []
    of_key: dict[tuple[object, ...], list[Piece]] = {}
    for piece in sorted(pieces, key=lambda each: each.facts is None):  # what is not whole joins what is
        keys = _keys(piece, digests.get(piece.path))
        mine = [group for key in keys if (group := of_key.get(key)) is not None]
        group = mine[0] if mine else []
        for other in mine[1:]:
            if other is not group:
                group.extend(other)
                groups.remove(other)
                of_key.update({key: group for key, value in of_key.items() if value is other})
        if not mine:
            groups.append(group)
        group.append(piece)
        of_key.update(dict.fromkeys(keys, group))
        of_key.setdefault(("name", _name_of(piece)), group)
    return tuple(sorted((_group(group, companions, digests) for group in groups), key=lambda each: each.name.lower()))


def _keys(piece: Piece, digest: str | None) -> tuple[tuple[object, ...], ...]:
    facts, name = piece.facts, _name_of(piece)
    if facts is None:
        return (("name", name),)
    shape = (facts.embedding_length, facts.heads)
    keys: list[tuple[object, ...]] = [("name", name, *shape)]
    inner = base_name(facts.name)
    if any(letter.isdigit() for letter in inner):
        keys.append(("name", inner, *shape))  # many files say only "model" of themselves
    if digest:
        keys.append(("content", digest))
    return tuple(keys)


def _name_of(piece: Piece) -> str:
    return base_name(piece.label) or base_name(piece.folder.name) or str(piece.path)


def _group(
    pieces: Sequence[Piece], companions: Mapping[Path, Sequence[Beside]], digests: Mapping[Path, str]
) -> ModelGroup:
    beside = {each.path: each for piece in pieces for each in companions.get(piece.path, ())}
    used = dict(file for piece in pieces for file in piece.files) | dict(each.file for each in beside.values())
    same: dict[object, list[Piece]] = {}
    for piece in pieces:
        same.setdefault(digests.get(piece.path) or piece.path, []).append(piece)
    named = next((piece for piece in pieces if not piece.incomplete), pieces[0])
    return ModelGroup(
        name=(named.facts.name if named.facts and base_name(named.facts.name) else "") or named.label,
        variants=tuple(_variant(each) for each in same.values()),
        companions=tuple(
            ModelFile(role=each.role, path=str(each.path), disk_bytes=each.file[1]) for each in beside.values()
        ),
        disk_bytes=sum(used.values()),
    )


def _variant(pieces: Sequence[Piece]) -> ModelVariant:
    """Pieces of the same content; the first one's facts are everybody's."""
    first = pieces[0]
    return ModelVariant(
        title=first.label,
        format=first.facts.format if first.facts else "",
        quantisation=(first.facts.quantisation or "") if first.facts else "",
        paths=tuple(str(path) for piece in pieces for path in (piece.path, *piece.again)),
        sources=_once(source for piece in pieces for source in piece.sources),
        profile_ids=_once(each for piece in pieces for each in piece.profile_ids),
        disk_bytes=sum(dict(file for piece in pieces for file in piece.files).values()),
        incomplete=first.incomplete,
    )


def _once(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts))
