"""Turns a profile's settings into argv flags and environment by an engine's option table, refusing what it cannot say."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

from app.core.errors import SettingInvalid
from app.core.options import Option, Scalar, problem_with
from app.core.profiles import Profile


def checked_settings(profile: Profile, options: Iterable[Option], engine_title: str) -> dict[str, Scalar]:
    """The profile's settings over the options' defaults; raises SettingInvalid naming the profile and the key."""
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
    defaults = {name: option.default for name, option in table.items() if option.default is not None}
    return {**defaults, **profile.settings}


def flags(options: Iterable[Option], values: Mapping[str, Scalar]) -> list[str]:
    """argv for the options that have a flag and a value, in the table's order.

    A switch is said by its presence: a flag that begins with "--no-" when the value is false, any other when it is true.
    """
    argv: list[str] = []
    for option in options:
        value = values.get(option.name)
        if not option.flag or value is None:
            continue
        if isinstance(value, bool):
            if value is not option.flag.startswith("--no-"):
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
