"""Defines an engine's setting as one table row, from which form, CLI help, validation, argv and documentation are made."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Mapping

import msgspec

Scalar = str | int | float | bool
LARGEST = 2**63 - 1  # a file may hold any number of digits; nothing that an engine takes is larger


class OptionKind(enum.Enum):
    INTEGER = "integer"
    NUMBER = "number"
    SWITCH = "switch"
    TEXT = "text"
    CHOICE = "choice"
    PATH = "path"


class Option(msgspec.Struct, frozen=True, kw_only=True):
    """One setting of an engine family. `default` is what we launch with when a profile is silent; None = engine's own."""

    name: str
    kind: OptionKind
    sentence: str
    default: Scalar | None = None
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    unit: str = ""
    title: str = ""  # a form's label; "" = made of the name
    group: str = ""  # a form's heading: "Context and memory", "Speed", "Model parts", "Chat", "Server"
    advanced: bool = False  # a form shows it only on demand
    since: str = ""  # first engine version that knows it; "" = all
    until: str = ""  # first engine version that has it no more
    flag: str = ""  # argv flag, e.g. "--ctx-size"; "" when the engine gets it another way
    flag_off: str = ""  # of a switch that is said in both positions: what says "off"
    environment: str = ""  # environment variable, when that is the way
    several: bool = False  # the text is a list with commas between; of paths, each may end in `:number`, its scale
    folder: bool = False  # of a path: a folder is meant, or is as good as a file
    suggestions: tuple[str, ...] = ()  # values that a form offers for a text; others are allowed

    @property
    def label(self) -> str:
        return self.title or self.name.replace("_", " ").capitalize()


class Preset(msgspec.Struct, frozen=True, kw_only=True):
    """A named set of settings for one purpose. It lies under what a profile says itself, over the options' defaults."""

    name: str
    title: str
    sentence: str  # why these values
    settings: dict[str, Scalar]


def problem_with(option: Option, value: object) -> str | None:
    """Why `value` cannot be this option's, as the end of a sentence; None when it can."""
    if isinstance(value, int | float) and abs(value) > LARGEST:
        return "is too large a number"
    match option.kind:
        case OptionKind.SWITCH:
            if not isinstance(value, bool):
                return f"must be true or false, not {value!r}"
        case OptionKind.INTEGER:
            if isinstance(value, bool) or not isinstance(value, int):
                return f"must be a whole number, not {value!r}"
        case OptionKind.NUMBER:
            if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
                return f"must be a number, not {value!r}"
        case OptionKind.CHOICE:
            if value not in option.choices:
                return f"must be one of {', '.join(option.choices)}, not {value!r}"
        case OptionKind.TEXT | OptionKind.PATH:
            if not isinstance(value, str):
                return f"must be text, not {value!r}"
    if isinstance(value, int | float) and not isinstance(value, bool):
        if option.minimum is not None and value < option.minimum:
            return f"must be at least {_words(option.minimum)}, not {_words(value)}"
        if option.maximum is not None and value > option.maximum:
            return f"must be at most {_words(option.maximum)}, not {_words(value)}"
    return None


def version_problem(option: Option, version: str) -> str | None:
    """Why an engine of `version` cannot be told this, as the end of a sentence; None when it can, or when nobody knows."""
    if not version:
        return None
    if option.since and version_key(version) < version_key(option.since):
        return f"came with {option.since}, and this engine is {version}"
    if option.until and version_key(version) >= version_key(option.until):
        return f"went with {option.until}, and this engine is {version}"
    return None


def version_key(version: str) -> tuple[int, ...]:
    """What versions are compared by. llama.cpp counted builds (b6325) before it had versions (0.5.0): those are younger."""
    found = re.search(r"\d+(?:\.\d+)+", version)
    if found:
        return (1, *(int(part) for part in found[0].split(".")))
    build = re.search(r"\d+", version)
    return (0, int(build[0])) if build else (0, 0)


def paths_in(options: Iterable[Option], settings: Mapping[str, Scalar]) -> tuple[tuple[Option, str], ...]:
    """The files that `settings` name, as written, each with its option."""
    return tuple(
        (option, item)
        for option in options
        if option.kind is OptionKind.PATH
        for item, _ in path_items(option, settings.get(option.name))
    )


def path_items(option: Option, value: Scalar | None) -> tuple[tuple[str, float | None], ...]:
    """The paths in a setting's value, each with its scale where it has one of its own."""
    text = value if isinstance(value, str) else ""
    if not option.several:
        return ((text, None),) if text else ()
    found = []
    for item in (part.strip() for part in text.split(",")):
        path, colon, scale = item.rpartition(":")
        number = _number(scale) if colon else None
        if item:
            found.append((item, None) if number is None else (path.rstrip(), number))
    return tuple(found)


def with_paths(option: Option, value: str, paths: Mapping[str, str]) -> str:
    """`value` with each of its paths replaced by what `paths` has for it."""
    if not option.several:
        return paths[value]
    items = path_items(option, value)
    return ",".join(paths[path] + ("" if scale is None else f":{scale:g}") for path, scale in items)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _words(number: float) -> str:
    """A number as a person writes it: 10,000,000 rather than 1e+07."""
    return f"{int(number):,}" if float(number).is_integer() else f"{number:g}"
