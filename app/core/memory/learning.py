"""Decides what earlier launches and the engine's own dry run say about a load: which figures they correct, and how far they go.

The order: a launch like this one was measured; the engine computed this load without allocating; launches of the same engine
build on the same device were off by so much. What formulas know exactly (weights, caches, states) is never lowered by any.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import median

import msgspec
from msgspec.structs import replace

from app.core.catalog.facts import Companion, ModelFacts
from app.core.memory.case import Placed, Room
from app.core.memory.load import FLASH_BY_DEFAULT, load_of
from app.core.memory.needs import COMPUTE_MARGIN_BYTES, COMPUTE_MARGIN_SHARE, Need
from app.core.memory.plan_types import Part
from app.core.options import Scalar

MIB = 1024**2
HOST = "host"
WHOLE = ""  # the part's name of a figure that is a device's sum
# Parts that no formula knows exactly, in the order in which a correction of their sum is put on them.
INEXACT = ("context", "process", "graphs", "compute", "vision compute", "draft compute")
PRINTED = ("compute",)  # of main memory only what logs tell is learnt
LEAST_LAUNCHES = 2  # for an offset; one alone may have been disturbed
MOST_LAUNCHES = 20  # the newest that count: drivers and engines change
MOST_OFFSET_BYTES = 2 * 1024**3  # what is further off is no habit of the engine's but another thing
LEAST_BAND_BYTES = 32 * MIB
PUBLISHED = 32  # repeats and opinions that a window is told, newest first

# Of llama.cpp what weighs is the load as the formulas see it, and these; a drafting model logs buffers like the model's own.
_BESIDE_THE_LOAD = ("mmproj_on_gpu", "load_mode", "split_mode", "main_gpu", "embeddings", "rerank", "speculation")


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    device: str  # a card's uuid or "host"
    part: str  # a plan's part, or WHOLE
    bytes: int


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    """One launch that became ready: what the formulas had said, what its log printed and what its processes held."""

    subject: str
    engine: str  # family and build
    at_unix: float
    predicted: tuple[Figure, ...]
    measured: tuple[Figure, ...]


class Opinion(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine computed for a load without allocating anything; no parts: it was asked and did not say."""

    subject: str
    engine: str
    parts: tuple[Figure, ...] = ()


class Repeat(msgspec.Struct, frozen=True, kw_only=True):
    """What launches like this one took, by part; `band_bytes` is by how much they differed."""

    subject: str
    launches: int
    parts: tuple[Figure, ...]
    band_bytes: int


class Offset(msgspec.Struct, frozen=True, kw_only=True):
    """By how much this engine build takes more (or less) of the device than its formulas' inexact parts say."""

    engine: str
    device: str
    bytes: int
    band_bytes: int
    launches: int


class Knowledge(msgspec.Struct, frozen=True, kw_only=True):
    """Everything beside formulas that a plan may use; bounded, and the same in the service and in a window."""

    repeats: tuple[Repeat, ...] = ()
    opinions: tuple[Opinion, ...] = ()
    offsets: tuple[Offset, ...] = ()

    def is_about(self, model: str) -> bool:
        subjects = [each.subject for each in self.repeats] + [each.subject for each in self.opinions]
        return any(subject.startswith(model) for subject in subjects)


NOTHING_KNOWN = Knowledge()


# --- what is the same ------------------------------------------------------------------------------------------------


def model_key(facts: ModelFacts, engine: str) -> str:
    """The beginning of the subject of every load of this very file on this engine build."""
    return _digest((str(facts.path), facts.modified_ns, facts.file_bytes, facts.weights_bytes, engine)) + "-"


def subject_of(
    facts: ModelFacts,
    settings: Mapping[str, Scalar],
    *,
    family: str,
    engine: str,
    accelerator: str,
    rooms: Sequence[Room],
    companions: Sequence[Companion] = (),
) -> str:
    """Two loads of one subject take the same memory: same file, engine build, devices, and settings that weigh something."""
    load: object = sorted(settings.items())
    if family in FLASH_BY_DEFAULT:
        on_gpu = accelerator != "cpu" and bool(rooms)
        beside = [
            (name, settings.get(name)) for name in _BESIDE_THE_LOAD if settings.get(name) not in (None, False, "")
        ]
        load = (load_of(facts, settings, family=family, on_gpu=on_gpu), beside)
    free = sum(room.card.free_bytes or 0 for room in rooms) or 1
    shares = [round(20 * (room.card.free_bytes or 0) / free) for room in rooms] if len(rooms) > 1 else []
    cards = [room.card.uuid for room in rooms]
    said = (accelerator, cards, shares, load, [str(companion.path) for companion in companions])
    return model_key(facts, engine) + _digest(said)


def _digest(value: object) -> str:
    return hashlib.blake2b(msgspec.json.encode(value), digest_size=10).hexdigest()


def engine_name(family: str, build: str, version: str) -> str:
    """The engine build that figures belong to: "llama-server b4567"; "" while the build is not known."""
    known = build or version
    return f"{family} {known}" if known else ""


# --- learning --------------------------------------------------------------------------------------------------------


def learn(launches: Sequence[Observed], opinions: Sequence[Opinion] = ()) -> Knowledge:
    """What launches teach, newest first; robust against single ones that were disturbed, and bounded."""
    alike: dict[str, list[Observed]] = defaultdict(list)
    deviations: dict[tuple[str, str], list[int]] = defaultdict(list)
    for launch in launches:
        if launch.subject and launch.measured:
            alike[launch.subject].append(launch)
        for device in dict.fromkeys(figure.device for figure in launch.predicted):
            off = _deviation(launch, device)
            if launch.engine and off is not None and abs(off) <= MOST_OFFSET_BYTES:
                deviations[launch.engine, device].append(off)
    return Knowledge(
        repeats=tuple(_repeat(subject, found[:MOST_LAUNCHES]) for subject, found in list(alike.items())[:PUBLISHED]),
        opinions=tuple(each for each in opinions if each.parts)[:PUBLISHED],
        offsets=tuple(
            _offset(engine, device, found[:MOST_LAUNCHES])
            for (engine, device), found in deviations.items()
            if len(found) >= LEAST_LAUNCHES
        )[:PUBLISHED],
    )


def _deviation(launch: Observed, device: str) -> int | None:
    """Measured less predicted of the parts that can be off: of a card by its sum, else of what the log printed. None = not told.

    In main memory the sum says little: mapped weights are the file's pages, and buffers count only once they were touched.
    """
    predicted = {figure.part: figure.bytes for figure in launch.predicted if figure.device == device}
    measured = {figure.part: figure.bytes for figure in launch.measured if figure.device == device}
    if WHOLE in measured and device != HOST:
        return measured[WHOLE] - sum(predicted.values())
    known = [part for part in PRINTED if part in measured and part in predicted]
    return sum(measured[part] - predicted[part] for part in known) if known else None


def _repeat(subject: str, launches: Sequence[Observed]) -> Repeat:
    every: dict[tuple[str, str], list[int]] = defaultdict(list)
    for launch in launches:
        for figure in launch.measured:
            every[figure.device, figure.part].append(figure.bytes)
    parts = tuple(Figure(device=at, part=part, bytes=int(median(found))) for (at, part), found in every.items())
    band = max((_spread(found) for (_, part), found in every.items() if part == WHOLE), default=0)
    return Repeat(subject=subject, launches=len(launches), parts=parts, band_bytes=band)


def _offset(engine: str, device: str, found: Sequence[int]) -> Offset:
    return Offset(
        engine=engine, device=device, bytes=int(median(found)), band_bytes=_spread(found), launches=len(found)
    )


def _spread(found: Sequence[int]) -> int:
    """How far from the middle half of them and more lie, by the other half's nearest: three times the median distance."""
    middle = median(found)
    return int(3 * median(abs(each - middle) for each in found)) if len(found) > 2 else int(max(found) - min(found))


# --- correcting ------------------------------------------------------------------------------------------------------


def corrected(placed: Placed, cards: Sequence[str], knowledge: Knowledge, subject: str, engine: str) -> Placed:
    """`placed` with what is known beside formulas; `cards` are the uuids that its needs belong to."""
    repeat = next((each for each in knowledge.repeats if subject and each.subject == subject), None)
    opinion = next((each for each in knowledge.opinions if subject and each.subject == subject), None)
    offsets = {each.device: each for each in knowledge.offsets if engine and each.engine == engine}
    if repeat is None and opinion is None and not offsets:
        return placed

    def of(need: Need, device: str) -> Need:
        if repeat is not None and (figures := _of_device(repeat.parts, device)):
            return _as_measured(need, figures, repeat, device)
        if opinion is not None and (figures := _of_device(opinion.parts, device)):
            return _as_computed(need, figures, f"dry run by {opinion.engine}")
        return _moved(need, offsets[device]) if device in offsets else need

    return replace(
        placed,
        cards=tuple(need and of(need, card) for need, card in zip(placed.cards, cards, strict=True)),
        host=of(placed.host, HOST),
    )


def _of_device(figures: Iterable[Figure], device: str) -> dict[str, int]:
    return {figure.part: figure.bytes for figure in figures if figure.device == device}


def _as_computed(need: Need, figures: Mapping[str, int], source: str) -> Need:
    """The engine's own figures in place of the formula's; what they cover has no margin any more."""
    parts = tuple(
        _part(part, figures[part.name], source) if part.name in figures and part.bytes else part for part in need.parts
    )
    compute = sum(part.bytes for part in need.parts if part.name == "compute") if "compute" in figures else None
    before, now = need.likely_bytes, sum(part.bytes for part in parts)
    below, above = before - need.low_bytes, need.high_bytes - before
    if compute is not None:
        below, above = below - int(compute * COMPUTE_MARGIN_SHARE), above - _margin(compute)
    return replace(
        need, parts=parts, low_bytes=max(0, now - max(0, below)), high_bytes=now + max(above, LEAST_BAND_BYTES)
    )


def _as_measured(need: Need, figures: Mapping[str, int], repeat: Repeat, device: str) -> Need:
    launches = f"{repeat.launches} launch{'es' if repeat.launches > 1 else ''}"
    found = _as_computed(need, figures, f"measured in {launches} like this one")
    if WHOLE not in figures or device == HOST:
        return found if any(part in figures for part in INEXACT) else need
    found = _with_sum(found, figures[WHOLE] - found.likely_bytes, f"measured in {launches} like this one")
    return _banded(found, max(repeat.band_bytes, LEAST_BAND_BYTES), repeat.launches)


def _moved(need: Need, offset: Offset) -> Need:
    source = f"learnt from {offset.launches} launches of this engine"
    found = _with_sum(need, offset.bytes, source, INEXACT if offset.device != HOST else PRINTED)
    compute = sum(part.bytes for part in need.parts if part.name == "compute")
    if offset.device != HOST:
        return _banded(found, max(offset.band_bytes, LEAST_BAND_BYTES, _margin(compute)), offset.launches)
    moved = found.likely_bytes - need.likely_bytes
    above = max(offset.band_bytes, need.high_bytes - need.likely_bytes)
    return replace(
        found,
        low_bytes=max(0, need.low_bytes + moved - offset.band_bytes),
        high_bytes=found.likely_bytes + above,
        launches=offset.launches,
    )


def _with_sum(need: Need, more: int, source: str, order: Sequence[str] = INEXACT) -> Need:
    """`more` (or less) on the inexact parts, the first of them first; none of them goes under nothing."""
    names = [name for name in order if any(part.name == name for part in need.parts)]
    if not names:
        return need
    left, parts = more, list(need.parts)
    for name in names:
        place = next(number for number, part in enumerate(parts) if part.name == name)
        now = max(0, parts[place].bytes + left)
        left -= now - parts[place].bytes
        parts[place] = _part(parts[place], now, source)
        if not left:
            break
    return replace(need, parts=tuple(parts))


def _banded(need: Need, band: int, launches: int) -> Need:
    likely = need.likely_bytes
    exact = sum(part.bytes for part in need.parts if part.name not in INEXACT)
    return replace(need, low_bytes=max(exact, likely - band), high_bytes=max(exact, likely + band), launches=launches)


def _part(part: Part, size: int, source: str) -> Part:
    """What a formula knows exactly is only ever raised."""
    bytes_ = size if part.name in INEXACT else max(part.bytes, size)
    formula = part.bytes if part.formula_bytes is None else part.formula_bytes
    return replace(part, bytes=bytes_, source=source, formula_bytes=formula, formula=part.formula or part.source)


def _margin(compute: int) -> int:
    return max(COMPUTE_MARGIN_BYTES, int(compute * COMPUTE_MARGIN_SHARE))
