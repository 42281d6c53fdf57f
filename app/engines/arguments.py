"""Turns a profile's settings into argv flags and environment by an engine's option table, refusing what it cannot say."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Set

from app.core.errors import SettingInvalid
from app.core.options import Option, Scalar, problem_with, version_problem
from app.core.profiles import Profile


def checked_settings(
    profile: Profile, options: Iterable[Option], engine_title: str, version: str = ""
) -> dict[str, Scalar]:
    """The profile's settings over the options' defaults; raises SettingInvalid naming the profile and the key.

    What an engine of `version` does not know is refused when the profile asks for it, and left out when it is our default.
    """
    table = {option.name: option for option in options}
    for name, value in profile.settings.items():
        where = f"Profile {profile.id}: settings.{name}"
        option = table.get(name)
        if option is None:
            near = difflib.get_close_matches(name, table, n=1)
            advice = f"Did you mean {near[0]}?" if near else f"It has: {', '.join(sorted(table))}."
            raise SettingInvalid(f"{where}: {engine_title} has no such setting.", advice)
        problem = problem_with(option, value)
        if problem is not None:
            raise SettingInvalid(f"{where} {problem}.", option.sentence)
        if (too_old := version_problem(option, version)) is not None:
            raise SettingInvalid(f"{where} {too_old}.", "Take it out, or choose another version of the engine.")
    defaults = {
        name: option.default
        for name, option in table.items()
        if option.default is not None and version_problem(option, version) is None
    }
    return {**defaults, **profile.settings}


def flags(options: Iterable[Option], values: Mapping[str, Scalar]) -> list[str]:
    """argv for the options that have a flag and a value, in the table's order.

    A switch is said by its presence: a flag that begins with "--no-" when the value is false, any other when it is true;
    one with a flag for "off" is said either way.
    """
    argv: list[str] = []
    for option in options:
        value = values.get(option.name)
        if not option.flag or value is None:
            continue
        if isinstance(value, bool):
            if option.flag_off:
                argv.append(option.flag if value else option.flag_off)
            elif value is not option.flag.startswith("--no-"):
                argv.append(option.flag)
        else:
            argv += [option.flag, text_of(value)]
    return argv


def environment(options: Iterable[Option], values: Mapping[str, Scalar]) -> dict[str, str]:
    """The environment for the options that are said by a variable and have a value."""
    said = {option.environment: values.get(option.name) for option in options if option.environment}
    return {name: text_of(value) for name, value in said.items() if value is not None}


def text_of(value: Scalar) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    return str(value)


def unknown_flags(extra_arguments: Iterable[str], known: Set[str]) -> tuple[str, ...]:
    """The flags among a profile's extra arguments that the build's own help does not name, each once, in order."""
    said = (word.partition("=")[0] for word in extra_arguments if FLAG.match(word))
    return tuple(dict.fromkeys(flag for flag in said if known.isdisjoint(_spellings(flag))))


def _spellings(flag: str) -> tuple[str, ...]:
    """How a help may name it: engines take _ for -, a part of a value after a dot, and a number right after -O."""
    short = re.fullmatch(r"(-[A-Za-z])\d+", flag)
    whole = short[1] if short else flag.partition(".")[0]
    return flag, flag.replace("_", "-"), whole, whole.replace("_", "-")


FLAG = re.compile(r"--?[A-Za-z]")  # "-1" is a number
