"""Decides which of the installations a launch uses, and what to tell a person where it is none."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from app.core.errors import EngineNotInstalled
from app.core.snapshot import EngineView, InstallationView, Offer
from app.engines.base import Installation
from app.engines.registry import FAMILIES

# families that are found already and launched by a later version
TITLES = {"vllm": "vLLM"}


def effective_pin(rows: Sequence[Installation], profile_pin: str, family_pin: str) -> str:
    """A profile's pin first; a variable is the person's word for this session and goes before the family's pin."""
    return profile_pin or ("" if any(row.source == "variable" for row in rows) else family_pin)


def choose(rows: Sequence[Installation], pin: str) -> Installation | None:
    """One of a family's installations: the pinned one or none; else a variable's or none; else the first that is usable."""
    if pin:
        found = named(rows, pin)
    else:
        found = next((row for row in rows if row.source == "variable"), None)
        found = found or next((row for row in rows if not row.problem), None)
    return None if found is None or found.problem else found


def named(rows: Sequence[Installation], pin: str) -> Installation | None:
    """The installation of that id or path; a path may name the program, its folder or its environment."""
    for row in rows:
        program = Path(row.executable)
        if pin in (row.id, row.executable) or (
            pin.startswith("/") and Path(pin) in (program, program.parent, program.parent.parent)
        ):
            return row
    return None


def why_none(family_id: str, rows: Sequence[Installation], pin: str, profile_id: str = "") -> EngineNotInstalled:
    """Why `choose` found nothing, how to mend it, and which installations of the family are there."""
    title = title_of(family_id)
    ours = [row for row in rows if row.family == family_id]
    usable = [row for row in ours if not row.problem]
    there = f"There are: {', '.join(_short(row) for row in usable[:8])}." if usable else ""
    how = how_to_get(family_id)
    if pin:
        who = f"{profile_id} asks for" if profile_id else "What is pinned is"
        undo = (
            "Take `installation` out of the profile, or name another one."
            if profile_id
            else f"`engine-room engines unpin {family_id}` takes the best one again."
        )
        found = named(ours, pin) or named(rows, pin)
        if found is None:
            summary = f"{who} the {title} installation {_cut(pin)}, which is not there."
        elif found.family != family_id:
            summary = f"{who} the {title} installation {_cut(pin)}, which is one of {title_of(found.family)}."
        else:
            summary = f"{who} {_short(found)}, which cannot be used: {found.problem}"
        return EngineNotInstalled(summary, " ".join(part for part in (undo, there or how) if part))
    broken = next((row for row in ours if row.problem), None)
    if broken is not None:
        return EngineNotInstalled(f"{title} at {broken.executable} cannot be used: {broken.problem}", how)
    return EngineNotInstalled(f"{title} is not installed.", how)


def _short(row: Installation) -> str:
    words = ", ".join(part for part in (row.build, row.accelerator.upper()) if part)
    return f"{row.id} ({words})"


def _cut(text: str) -> str:
    return text if len(text) <= 120 else f"{text[:119]}…"


def title_of(family_id: str) -> str:
    return FAMILIES[family_id].title if family_id in FAMILIES else TITLES.get(family_id, family_id)


def how_to_get(family_id: str) -> str:
    if family_id in FAMILIES:
        return FAMILIES[family_id].how_to_get()
    return f"This version of Engine Room finds {title_of(family_id)} but cannot launch it yet."


def engine_views(
    rows: Sequence[Installation],
    pins: Mapping[str, str],
    *,
    in_use: Collection[tuple[str, str]] = (),
    offers: Mapping[str, tuple[Offer, ...]] | None = None,
    more: Mapping[str, Mapping[str, object]] | None = None,
) -> tuple[EngineView, ...]:
    """Every family that can be launched, and others of which something was found.

    `in_use`: (family, program) of what runs now. `more`: installation's id → further fields of its view.
    """
    found = dict.fromkeys((*FAMILIES, *(row.family for row in rows)))
    return tuple(
        _family_view(
            family_id,
            [row for row in rows if row.family == family_id],
            pins.get(family_id, ""),
            in_use,
            (offers or {}).get(family_id, ()),
            more or {},
        )
        for family_id in found
    )


def _family_view(
    family_id: str,
    rows: Sequence[Installation],
    family_pin: str,
    in_use: Collection[tuple[str, str]],
    offers: tuple[Offer, ...],
    more: Mapping[str, Mapping[str, object]],
) -> EngineView:
    pin = effective_pin(rows, "", family_pin)
    chosen = choose(rows, pin)
    if chosen is None:
        refusal = why_none(family_id, rows, pin)
        missing = not pin and not rows
        how = refusal.advice if missing else f"{refusal.summary} {refusal.advice}"
    ordered = sorted(rows, key=lambda row: (row is not chosen, bool(row.problem)))
    return EngineView(
        family=family_id,
        title=title_of(family_id),
        available=chosen is not None,
        build=build_words(chosen) if chosen else "",
        path=chosen.executable if chosen else "",
        how_to_get="" if chosen else how,
        installations=tuple(_view(row, row is chosen, in_use, more.get(row.id, {})) for row in ordered),
        pinned=family_pin,
        offers=offers,
    )


def _view(
    row: Installation, is_chosen: bool, in_use: Collection[tuple[str, str]], more: Mapping[str, object]
) -> InstallationView:
    return InstallationView(
        id=row.id,
        family=row.family,
        version=row.version,
        build=row.build,
        accelerator=row.accelerator,
        devices=row.devices,
        features=row.features,
        source=row.source,
        path=row.executable,
        chosen=is_chosen,
        in_use=(row.family, row.executable) in in_use,
        problem=row.problem,
        note=row.note,
        **more,  # type: ignore[arg-type]
    )


def build_words(row: Installation) -> str:
    return ", ".join(part for part in (row.build, row.accelerator.upper()) if part)


def note_of(row: Installation, asked: bool, tried: str) -> str:
    """What to say of a version that is not known here; such an engine is used all the same."""
    if row.problem:
        return ""
    if not row.version:
        return "It does not say which version it is; it should work." if asked else ""
    if tried and _newer(row.version, tried):
        return f"{row.version} is newer than {tried}, the newest that was tried with Engine Room; it should work."
    return ""


def _newer(version: str, than: str) -> bool:
    """Compares dotted numbers; anything else is not comparable and counts as known."""
    one, other = (re.match(r"v?(\d+(?:\.\d+)+)", text) for text in (version, than))
    if one is None or other is None:
        return False
    return [int(part) for part in one[1].split(".")] > [int(part) for part in other[1].split(".")]
