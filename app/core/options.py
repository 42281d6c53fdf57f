"""Defines an engine's setting as one table row, from which form, CLI help, validation, argv and documentation are made."""

from __future__ import annotations

import enum

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
    environment: str = ""  # environment variable, when that is the way


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


def _words(number: float) -> str:
    """A number as a person writes it: 10,000,000 rather than 1e+07."""
    return f"{int(number):,}" if float(number).is_integer() else f"{number:g}"
