"""Defines a profile: one TOML file that says which model to load on which engine with which settings."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from app.core.catalog.facts import ModelFacts
from app.core.errors import ProfileInvalid
from app.core.options import Option, OptionKind, Preset, Scalar, problem_with
from app.core.values import from_values

MAX_PROFILE_BYTES = 1024**2
MOST_SECONDS = 7 * 24 * 3600
ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Sampling(msgspec.Struct, frozen=True, kw_only=True):
    """Sampling defaults that the chat pane starts from; None = the engine's own."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    max_tokens: int | None = None


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """`model` is an absolute path, a path relative to the profile's file, or `builtin:demo`. `id` is the file's stem."""

    id: str
    title: str
    engine: str
    model: str
    description: str = ""
    settings: dict[str, Scalar] = {}
    sampling: Sampling = Sampling()
    system_prompt: str = ""
    aliases: tuple[str, ...] = ()
    gpus: tuple[str, ...] = ()  # uuids; empty = all that are there
    seat: str = "main"
    fallback: str | None = None
    installation: str = ""  # pins one installation of the engine by its id or its path; "" = the family's chosen one
    preset: str = ""  # a named set of the engine's settings, under `settings`; they are in `settings` already
    load_at_start: bool = False
    keep_loaded: bool = False  # pinned: never unloaded for being idle, never in a switch that a request asked for
    idle_unload_seconds: int | None = None  # None = the setting's; 0 = never
    extra_arguments: tuple[str, ...] = ()
    environment: dict[str, str] = {}
    source: str = ""  # "shipped", "found" (made from a model file) or the TOML file's path


SAMPLING_OPTIONS: tuple[Option, ...] = (
    Option(name="temperature", kind=OptionKind.NUMBER, sentence="How freely tokens are chosen.", minimum=0, maximum=10),
    Option(name="top_p", kind=OptionKind.NUMBER, sentence="Choose within this share.", minimum=0, maximum=1),
    Option(name="top_k", kind=OptionKind.INTEGER, sentence="Choose among so many; 0 = all.", minimum=0),
    Option(name="min_p", kind=OptionKind.NUMBER, sentence="Drop tokens below this share.", minimum=0, maximum=1),
    Option(name="repeat_penalty", kind=OptionKind.NUMBER, sentence="Penalty on repetition.", minimum=0, maximum=10),
    Option(name="max_tokens", kind=OptionKind.INTEGER, sentence="Longest answer.", minimum=1),
)

_TEXTS = ("title", "engine", "model", "description", "system_prompt", "seat", "fallback", "installation", "preset")
_LISTS = ("aliases", "gpus", "extra_arguments")
_TABLES = ("settings", "sampling", "environment")
_SWITCHES = ("load_at_start", "keep_loaded")
_COUNTS = ("idle_unload_seconds",)
_NEEDED = ("engine", "model")
KEYS = (*_TEXTS, *_LISTS, *_TABLES, *_SWITCHES, *_COUNTS)  # of a profile's file
TEXTS = _TEXTS


def parse_profile(
    text: str,
    file: Path,
    options_of_engine: Mapping[str, Sequence[Option]],
    presets_of_engine: Mapping[str, Sequence[Preset]] | None = None,
) -> Profile:
    """The profile that `text`, the content of `file`, describes.

    `options_of_engine` maps each known engine's id to its settings, `presets_of_engine` to its named sets of settings: the
    one that the profile names lies under the settings that it says itself. Raises the first problem as ProfileInvalid naming file
    and key; its `problems` holds all of them, in the file's order.
    """
    name = str(file)
    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ProfileInvalid(name, "", f"this is not valid TOML: {error}.", "Correct that line.") from error
    presets = presets_of_engine or {}
    problems = [*_problems(values, name, options_of_engine), *_preset_problems(values, name, presets)]
    if problems:
        raise problems[0].with_all(problems)
    if values.get("preset"):
        under = next(each.settings for each in presets[values["engine"]] if each.name == values["preset"])
        values["settings"] = {**under, **values.get("settings", {})}
    whole = {**values, "id": file.stem, "title": values.get("title") or file.stem, "source": name}
    return from_values(Profile, whole)


def _problems(
    values: Mapping[str, object], file: str, options_of_engine: Mapping[str, Sequence[Option]]
) -> Iterable[ProfileInvalid]:
    if not ID.fullmatch(Path(file).stem):
        yield ProfileInvalid(
            file, "", "a profile's file name is its id: letters, digits, dot, dash and underscore.", "Rename the file."
        )
    for key in _NEEDED:
        if key not in values:
            yield ProfileInvalid(file, key, "is missing.", f'Add a line such as {key} = "{_EXAMPLES[key]}".')
    for key, value in values.items():
        yield from _problem_of_key(key, value, file)
    engine = values.get("engine")
    options = options_of_engine.get(engine) if isinstance(engine, str) else None
    if isinstance(engine, str) and options is None:
        known = ", ".join(options_of_engine)
        yield ProfileInvalid(file, "engine", f"there is no engine {engine!r}.", f"Use one of: {known}.")
    settings, sampling = values.get("settings"), values.get("sampling")
    if isinstance(settings, dict) and options is not None:
        yield from _problems_of_table("settings", settings, options, file, str(engine))
    if isinstance(sampling, dict):
        yield from _problems_of_table("sampling", sampling, SAMPLING_OPTIONS, file, "sampling")


def _preset_problems(
    values: Mapping[str, object], file: str, presets_of_engine: Mapping[str, Sequence[Preset]]
) -> Iterable[ProfileInvalid]:
    preset, engine = values.get("preset"), values.get("engine")
    if isinstance(preset, str) and preset and isinstance(engine, str):
        known = tuple(each.name for each in presets_of_engine.get(engine, ()))
        if preset not in known:
            advice = _meant(preset, known) if known else "It has none."
            yield ProfileInvalid(file, "preset", f"{engine} has no preset {preset!r}.", advice)


_EXAMPLES = {"engine": "llama.cpp", "model": "/path/to/model.gguf"}


def _problem_of_key(key: str, value: object, file: str) -> Iterable[ProfileInvalid]:
    def wrong(where: str, must: str, found: object) -> ProfileInvalid:
        return ProfileInvalid(file, where, f"must be {must}, not {_shown(found)}.")

    if key in _TEXTS:
        if not isinstance(value, str):
            yield wrong(key, "text", value)
        elif key in _NEEDED and not value.strip():
            yield wrong(key, "filled in", value)
    elif key in _LISTS:
        if not isinstance(value, list):
            yield wrong(key, "a list of texts", value)
        else:
            yield from (wrong(f"{key}[{n}]", "text", item) for n, item in enumerate(value) if not isinstance(item, str))
    elif key in _TABLES:
        if not isinstance(value, dict):
            yield wrong(key, f"a table, written as [{key}]", value)
        elif key == "environment":
            yield from (
                wrong(f"{key}.{name}", "text", item) for name, item in value.items() if not isinstance(item, str)
            )
    elif key in _SWITCHES:
        if not isinstance(value, bool):
            yield wrong(key, "true or false", value)
    elif key in _COUNTS:
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MOST_SECONDS:
            yield wrong(key, f"a whole number from 0 to {MOST_SECONDS}", value)
    else:
        yield ProfileInvalid(file, key, "there is no such key.", _meant(key, KEYS))


def _problems_of_table(
    table: str, values: Mapping[str, object], options: Sequence[Option], file: str, owner: str
) -> Iterable[ProfileInvalid]:
    known = {option.name: option for option in options}
    for key, value in values.items():
        where = f"{table}.{key}"
        option = known.get(key)
        if option is None:
            yield ProfileInvalid(file, where, f"{owner} has no such setting.", _meant(key, tuple(known)))
        elif (problem := problem_with(option, value)) is not None:
            yield ProfileInvalid(file, where, f"{problem}.", option.sentence)


def _meant(key: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    return f"Did you mean {near[0]}?" if near else f"It can be one of: {', '.join(known)}."


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def with_defaults(options: Iterable[Option], settings: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """`settings` over the options' defaults: what an engine is really launched with, less what depends on the machine."""
    return {**{option.name: option.default for option in options if option.default is not None}, **settings}


def launches_alike(one: Profile, other: Profile) -> bool:
    """Whether both would start the same engine with the same words; titles, sampling and the like do not matter for it."""
    return all(getattr(one, name) == getattr(other, name) for name in _OF_A_LAUNCH)


_OF_A_LAUNCH = ("engine", "model", "settings", "gpus", "installation", "extra_arguments", "environment")


def merged(profile: Profile, settings: Mapping[str, Scalar]) -> Profile:
    """`profile` with `settings` laid over its own; used for one launch, never written back."""
    return msgspec.structs.replace(profile, settings={**profile.settings, **settings}) if settings else profile


def slug(name: str) -> str:
    """`name` as a profile id."""
    text = re.sub(r"[^a-z0-9._]+", "-", name.lower()).strip("-._")[:80].rstrip("-._")
    return text or "model"


def profile_from_model(
    path: Path, facts: ModelFacts | None, *, profile_id: str, engine: str, context_limit_tokens: int
) -> Profile:
    """A profile for a model found in a folder: its own longest context within the limit, everything else the engine's."""
    context = min(facts.context_max, context_limit_tokens) if facts is not None and facts.context_max else None
    return Profile(
        id=profile_id,
        title=facts.name if facts is not None else path.stem,
        engine=engine,
        model=str(path),
        settings={"context_tokens": context} if context else {},
        source="found",
    )
