"""Solves what would make a load fit: a family's remedies in the order of least loss, each recomputed, then combinations of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from app.core.memory.admission import HOST
from app.core.memory.case import Change, Evaluated, Family, Offer, Room, Row
from app.core.memory.plan_types import Remedy, Verdict
from app.core.options import Scalar

MAX_REMEDIES = 6
CONTEXT_STEP_TOKENS = 256
LONGEST_CONTEXT_TOKENS = 1_048_576  # looked for where a model does not say how long it can


class Case(Protocol):
    """A load that can be held against the memory of one moment, as often as somebody asks."""

    family: Family

    def evaluated(self, change: Change) -> Evaluated: ...

    def settings_with(self, change: Change) -> Mapping[str, Scalar]: ...

    def rooms_with(self, change: Change) -> Sequence[Room]: ...

    @property
    def all_rooms(self) -> Sequence[Room]: ...


class Variation:
    """A case with something changed already; what rows try comes on top (it is an `Attempt`)."""

    def __init__(self, case: Case, base: Change) -> None:
        self._case = case
        self.base = base
        self.settings = case.settings_with(base)
        self.rooms = case.rooms_with(base)

    @property
    def family(self) -> Family:
        return self._case.family

    @property
    def all_rooms(self) -> Sequence[Room]:
        return self._case.all_rooms

    def evaluated(self, change: Change) -> Evaluated:
        return self._case.evaluated(self.base.and_then(change))

    def fits(self, change: Change) -> bool:
        return _fits(self.evaluated(change))

    def largest(self, least: int, most: int, change: Callable[[int], Change]) -> int | None:
        return surely_or_likely(least, most, lambda number: self.evaluated(change(number)))


def remedies_of(case: Case) -> tuple[Remedy, ...]:
    """What suffices alone, in the order of the family's rows; where nothing does, the shortest combinations that do."""
    rows = case.family.rows
    plain = Variation(case, Change())
    heavy = weights_exceed_a_device(case)
    tried = [row for row in rows if row.moves_weights or not heavy]
    found = [_remedy(case, offer.kind or row.kind, offer) for row in tried for offer in row.offers(plain)]
    return tuple((found or _combined(case, rows))[:MAX_REMEDIES])


def weights_exceed_a_device(case: Case) -> bool:
    """Whether the weights as they lie are too much for a device by themselves: then nothing helps that leaves them there."""
    return any(
        device.available_bytes is not None
        and sum(part.bytes for part in device.parts if part.name == "weights") > device.available_bytes
        for device in case.evaluated(Change()).devices
    )


def longest_context(case: Case, remedies: Sequence[Remedy] = ()) -> int | None:
    """The longest context in whole steps that fits with all else as it is, at most what the model is made for. A remedy
    that shortens the context alone, among those that were found before, is the answer already."""
    family = case.family
    if weights_exceed_a_device(case):
        return None
    for remedy in remedies:
        if remedy.kind == "context" and isinstance(tokens := remedy.settings.get("context_tokens"), int):
            return tokens
    most = (family.context_max or LONGEST_CONTEXT_TOKENS) // CONTEXT_STEP_TOKENS
    now = case.evaluated(Change())
    known = (now.placed.context_tokens or 0) // CONTEXT_STEP_TOKENS if _fits_surely(now) else 0
    steps = surely_or_likely(
        min(max(1, known), most),
        most,
        lambda number: case.evaluated(Change(settings=family.with_context(number * CONTEXT_STEP_TOKENS))),
        guess=True,
    )
    return None if steps is None else steps * CONTEXT_STEP_TOKENS


def surely_or_likely(
    least: int, most: int, evaluated: Callable[[int], Evaluated], *, guess: bool = False
) -> int | None:
    """The largest that fits without a doubt; where there is none, the largest that fits at all."""
    found = largest(least, most, evaluated, guess=guess, fits=_fits_surely)
    return largest(least, most, evaluated, guess=guess) if found is None else found


def largest(
    least: int,
    most: int,
    evaluated: Callable[[int], Evaluated],
    *,
    guess: bool = False,
    fits: Callable[[Evaluated], bool] | None = None,
) -> int | None:
    """The largest number from `least` to `most` that fits, where that is so up to some point; None when nowhere.

    Memory grows nearly linearly, so the next number to try is where the room would be used up; every second one is the
    middle, which bounds the number of trials. `guess`: rather the upper end fits than the lower one does not.
    """
    fits = fits or _fits
    if most < least:
        return None
    if guess and fits(evaluated(most)):
        return most
    low = evaluated(least)
    if not fits(low):
        return None
    high = evaluated(most)
    if not guess and fits(high):
        return most
    below, above = low.spare_bytes, high.spare_bytes
    by_line = True
    while most - least > 1:
        middle = (least + most) // 2
        if by_line and below >= 0 > above:
            middle = min(most - 1, max(least + 1, least + (most - least) * below // (below - above)))
        tried = evaluated(middle)
        before = most - least
        if fits(tried):
            least, below = middle, tried.spare_bytes
        else:
            most, above = middle, tried.spare_bytes
        by_line = (most - least) * 2 <= before or not by_line
    return least


def _combined(case: Case, rows: Sequence[Row]) -> list[Remedy]:
    """Steps taken as far as they go, one after the other in the order of least loss, until they suffice together or with one
    more remedy; then every step that is not needed after all is taken back."""
    steps: list[tuple[str, Offer]] = []
    found: list[Remedy] = []
    for row in rows:
        if row.most is None:
            continue
        step = row.most(Variation(case, _all(steps)))
        if step is None:
            continue
        steps.append((row.kind, step))
        if len(steps) > 1 and _fits(case.evaluated(_all(steps))):
            return [_remedy_of(case, _needed(case, steps, ()))]
    for row in rows:
        if row.most is not None or not steps:
            continue
        for offer in row.offers(Variation(case, _all(steps))):
            chosen = _needed(case, steps, ((row.kind, offer),))
            refined = _again(case, row, chosen)
            found.append(_remedy_of(case, refined))
            break
    return found or _in_a_chain(case, rows, steps)


def _again(case: Case, row: Row, chosen: Sequence[tuple[str, Offer]]) -> Sequence[tuple[str, Offer]]:
    """The last remedy solved once more with the steps that were kept."""
    steps = [each for each in chosen if each[0] != row.kind]
    offer = next(iter(row.offers(Variation(case, _all(steps)))), None)
    return chosen if offer is None else (*steps, (row.kind, offer))


def _in_a_chain(case: Case, rows: Sequence[Row], steps: Sequence[tuple[str, Offer]]) -> list[Remedy]:
    """The last resort: two remedies that are solved, on top of all steps, the first of them at its least context."""
    context = [each for each in rows if each.kind == "context"]
    if not context:
        return []
    short = Offer(
        title=f"Shorten the context to {LEAST_CHAIN_CONTEXT_TOKENS:,} tokens",
        change=Change(settings=case.family.with_context(LEAST_CHAIN_CONTEXT_TOKENS)),
    )
    base = [*steps, ("context", short)]
    for row in rows:
        if row.most is not None or row.kind == "context":
            continue
        for offer in row.offers(Variation(case, _all(base))):
            return [_remedy_of(case, _needed(case, base, ((row.kind, offer),)))]
    return []


LEAST_CHAIN_CONTEXT_TOKENS = 2_048


def _needed(
    case: Case, steps: Sequence[tuple[str, Offer]], last: Sequence[tuple[str, Offer]]
) -> Sequence[tuple[str, Offer]]:
    """Without the steps that the others make needless, the most painful ones first."""
    kept = list(steps)
    for step in reversed(steps):
        without = [each for each in kept if each is not step]
        if (without or last) and _fits(case.evaluated(_all([*without, *last]))):
            kept = without
    return (*kept, *last)


def _all(steps: Sequence[tuple[str, Offer]]) -> Change:
    whole = Change()
    for _, offer in steps:
        whole = whole.and_then(offer.change)
    return whole


def _remedy_of(case: Case, steps: Sequence[tuple[str, Offer]]) -> Remedy:
    titles = [offer.title for _, offer in steps]
    title = " and ".join([titles[0], *(each[:1].lower() + each[1:] for each in titles[1:])])
    return _remedy(case, "+".join(kind for kind, _ in steps), Offer(title=title, change=_all(steps)))


def _remedy(case: Case, kind: str, offer: Offer) -> Remedy:
    devices = case.evaluated(offer.change).devices
    cards = [device.likely_bytes for device in devices if device.device != HOST]
    return Remedy(
        title=offer.title,
        settings=dict(offer.change.settings),
        needs_bytes=sum(cards) or devices[-1].likely_bytes,
        gpus=offer.change.gpus,
        kind=kind,
    )


def _fits_surely(found: Evaluated) -> bool:
    return _fits(found) and not found.placed.is_doubtful


def _fits(found: Evaluated) -> bool:
    return found.verdict is Verdict.FITS
