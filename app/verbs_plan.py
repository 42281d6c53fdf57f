"""Holds the verbs that tell before a load: what a model would need and what would help, and which models are here. `plan`, `models`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from msgspec.structs import replace

from app.client import Client
from app.core import control
from app.core.errors import BadRequest
from app.core.memory.advice import MANY_USERS
from app.core.memory.plan_types import DevicePlan, EngineAdvice, MemoryPlan, Remedy, Speed, Verdict
from app.core.memory.words import learnt_words, size, source_words, spare_words
from app.core.profiles import slug
from app.core.snapshot import Library, ModelGroup, ModelVariant, ProfileCard
from app.speaking import Json, show, spoken
from app.verbs_seats import Preset, settings_of
from app.wiring import real_paths

VERDICTS = {
    Verdict.FITS: "fits",
    Verdict.TIGHT: "tight",
    Verdict.DOES_NOT_FIT: "does not fit",
    Verdict.UNKNOWN: "not known",
}


class ModelFound(msgspec.Struct, frozen=True, kw_only=True):
    """A model with those of its variants that were asked for, and each one's verdict now."""

    model: ModelGroup
    verdicts: list[Verdict | None]


class ModelsFound(msgspec.Struct, frozen=True, kw_only=True):
    models: list[ModelFound]
    unread: int = 0  # models that are still being read


def add_plan(app: typer.Typer) -> None:
    """Gives `app` the verbs."""
    app.command()(plan)
    app.command()(models)


@spoken
def plan(
    model: Annotated[str, typer.Argument(metavar="MODEL|PROFILE", help="A profile, or a model's file or folder.")] = "",
    setting: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A setting over the profile's.")
    ] = None,
    preset: Preset = "",
    engine: Annotated[str, typer.Option("--engine", help="For a file or folder: the engine to plan for.")] = "",
    seat: Annotated[str, typer.Option("--seat", help="The seat to load it on.")] = "",
    forget: Annotated[
        bool, typer.Option("--forget", help="Forget what earlier launches taught; the formulas count again.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Say what a model would need and whether it fits now, what would help, and how fast it would be; nothing is started."""
    if forget:
        with Client(real_paths()) as client:
            client.ensure()
            done = client.post("/control/memory/forget", control.ForgetMemory(), control.Accepted)
            if not model:
                show(done, done.note, as_json)
                return
    elif not model:
        raise BadRequest("No model was named.", "Name a profile, or a model's file or folder.")
    wish = control.Want(profile=model, settings=settings_of(setting), preset=preset, seat=seat)
    with Client(real_paths()) as client:
        client.ensure()
        library = client.slices()["library"]
        assert isinstance(library, Library)
        if not _is_profile(model, library) and (path := _model_file(model)) is not None:
            wish = _with_draft(wish, path, engine, library)
        found = client.post("/control/plan", wish, MemoryPlan)
    show(found, "\n".join(plan_lines(found)), as_json)


def _is_profile(name: str, library: Library) -> bool:
    return any(name == card.profile.id or name in card.profile.aliases for card in library.profiles)


def _model_file(text: str) -> Path | None:
    path = Path(text).expanduser()
    try:
        return path.resolve() if path.exists() else None
    except OSError:
        return None


def _with_draft(wish: control.Want, path: Path, engine: str, library: Library) -> control.Want:
    """The profile that the library has for this file, else one that says no more than the file."""
    if not engine:
        for card in library.profiles:
            if path in map(Path, (card.model_path, *_paths_of(card, library))):
                return replace(wish, profile=card.profile.id)
    engine = engine or ("vllm" if path.is_dir() else "llama.cpp")
    text = f"engine = {json.dumps(engine)}\nmodel = {json.dumps(str(path))}\n"
    return replace(wish, profile=slug(path.stem), text=text)


def _paths_of(card: ProfileCard, library: Library) -> tuple[str, ...]:
    return tuple(
        path
        for group in library.models
        for variant in group.variants
        if card.profile.id in variant.profile_ids
        for path in variant.paths
    )


# --- a plan as text --------------------------------------------------------------------------------------------------


def plan_lines(found: MemoryPlan) -> Iterator[str]:
    """The verdict, each device with its parts, then what would help."""
    yield f"{VERDICTS[found.verdict].capitalize()}. {found.summary}"
    for device in found.devices:
        yield from _device_lines(device)
    yield from found.notes
    if found.longest_context_tokens is not None:
        now = f", {found.context_tokens:,} are asked for" if found.context_tokens else ""
        yield f"longest context  {found.longest_context_tokens:,} tokens{now}"
    if found.speed is not None:
        yield f"expected speed   {speed_words(found.speed)}"
    for number, remedy in enumerate(found.remedies, 1):
        yield f"{number}. {remedy.title}  ({_change(remedy)})"
    if found.remedies:
        yield "`engine-room load … --remedy N` loads with one of these."
    yield from _advice_lines(found.advice)


def _device_lines(device: DevicePlan) -> Iterator[str]:
    usable = device.available_bytes
    room = "" if usable is None else f", {size(max(0, usable))} can be used: {spare_words(device.spare_bytes)}"
    yield (
        f"{device.name}  {size(device.low_bytes)} to {size(device.high_bytes)}, likely {size(device.likely_bytes)}"
        f" ({'—' if device.free_bytes is None else size(device.free_bytes)} free{room})"
    )
    if device.launches:
        yield f"  {learnt_words(device)}"
    for part in device.parts:
        yield f"  {part.name:<17} {size(part.bytes):>9}  {source_words(part)}"


def speed_words(speed: Speed) -> str:
    return f"{_rate(speed.low)} to {_rate(speed.high)} tokens/s, likely {_rate(speed.likely)} ({speed.source})"


def _rate(rate: float) -> str:
    return f"{rate:.1f}" if rate < 10 else f"{rate:,.0f}"


def _change(remedy: Remedy) -> str:
    said = [f"{name}={json.dumps(value)}" for name, value in remedy.settings.items()]
    return " ".join([*said, *(["gpus=" + ",".join(remedy.gpus)] if remedy.gpus else [])])


def _advice_lines(advice: Iterable[EngineAdvice]) -> Iterator[str]:
    for each in advice:
        in_all = " in all" if each.use == MANY_USERS else ""
        speed = f", likely {_rate(each.speed.likely)} tokens/s{in_all}" if each.speed is not None else ""
        yield f"{each.use}: {each.engine} ({VERDICTS[each.verdict]}{speed}). {each.reason}"


# --- the models that are here ----------------------------------------------------------------------------------------


@spoken
def models(
    fits: Annotated[bool, typer.Option("--fits", help="Only what fits now.")] = False,
    engine: Annotated[str, typer.Option("--engine", help="Only what this engine would load.")] = "",
    capability: Annotated[
        str, typer.Option("--capability", help="Only with this ability: chat, vision, tools, reasoning, embeddings.")
    ] = "",
    quantisation: Annotated[
        str, typer.Option("--quantisation", help="Only of this quantisation, such as Q4_K_M.")
    ] = "",
    as_json: Json = False,
) -> None:
    """List the models on this disk, each with its formats and quantisations, what it takes, and whether it fits now."""
    with Client(real_paths()) as client:
        client.ensure()
        library = client.slices()["library"]
    assert isinstance(library, Library)
    cards = {card.profile.id: card for card in library.profiles}

    def wanted(variant: ModelVariant) -> bool:
        own = [cards[name] for name in variant.profile_ids if name in cards]
        facts = next((card.facts for card in own if card.facts is not None), None)
        return (
            (not fits or any(card.plan is not None and card.plan.verdict is Verdict.FITS for card in own))
            and (not engine or any(card.profile.engine == engine for card in own))
            and (not capability or (facts is not None and capability in facts.capabilities))
            and (not quantisation or variant.quantisation.casefold() == quantisation.casefold())
        )

    found = [
        ModelFound(model=replace(group, variants=kept), verdicts=[_verdict(variant, cards) for variant in kept])
        for group in library.models
        if (kept := tuple(variant for variant in group.variants if wanted(variant)))
    ]
    asked = fits or engine or capability or quantisation
    none = "No model is like that." if asked and library.models else "No models are here yet."
    lines = list(_model_lines(found)) or [none] * (not library.unread)
    lines += [f"… {library.being_read}"] * bool(library.unread)
    show(ModelsFound(models=found, unread=library.unread), "\n".join(lines), as_json)


def _verdict(variant: ModelVariant, cards: Mapping[str, ProfileCard]) -> Verdict | None:
    """The best of the cards that load it; None where none does, or none has been priced yet."""
    plans = [cards[name].plan for name in variant.profile_ids if name in cards]
    found = [plan.verdict for plan in plans if plan is not None]
    return min(found, key=list(VERDICTS).index) if found else None


def _model_lines(found: Iterable[ModelFound]) -> Iterator[str]:
    for each in found:
        group = each.model
        yield f"{group.name}  {size(group.disk_bytes)} on the disk"
        for variant, verdict in zip(group.variants, each.verdicts, strict=True):
            words = variant.incomplete or ("" if verdict is None else VERDICTS[verdict])
            about = f"{variant.format or '—':<11} {variant.quantisation or '—':<9} {size(variant.disk_bytes):>9}"
            yield f"  {variant.title:<28} {about}  {words:<13} {', '.join(variant.profile_ids)}".rstrip()
        for beside in group.companions:
            yield f"  + {beside.role:<26} {'':<21} {size(beside.disk_bytes):>9}  {Path(beside.path).name}"
