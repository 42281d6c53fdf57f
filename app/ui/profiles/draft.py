"""Owns a profile while it is edited: its text is the truth, every view of it sets and unsets keys of that text."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from PySide6.QtCore import QObject, Signal

from app.core.control import OptionsView, ProfileText
from app.core.errors import ProfileInvalid
from app.core.options import Option, Scalar
from app.core.profile_text import with_value
from app.core.profiles import SAMPLING_OPTIONS, Profile, parse_profile


class Draft(QObject):
    """`problems` holds what is wrong, by key ("" = the whole text); it is found by the function that the service uses."""

    changed = Signal()

    def __init__(self, saved: ProfileText, options: OptionsView) -> None:
        super().__init__()
        self.options = options
        self.id = saved.profile
        self.own = saved.own
        self._saved = saved.text
        self.text = saved.text
        self.values: dict[str, object] = {}
        self.profile: Profile | None = None
        self.is_readable = True  # whether the text is TOML at all: keys can be set only then
        self.problems: dict[str, str] = {}
        self._read()

    @property
    def is_changed(self) -> bool:
        return self.text != self._saved

    @property
    def engine(self) -> str:
        value = self.values.get("engine", "")
        return value if isinstance(value, str) else ""

    @property
    def settings(self) -> dict[str, Scalar]:
        """As written, whether they hold or not."""
        table = self.values.get("settings")
        return {k: v for k, v in table.items() if isinstance(v, Scalar)} if isinstance(table, dict) else {}

    def rows(self) -> Sequence[Option]:
        return self.options.families.get(self.engine, ())

    def value(self, key: str) -> object | None:
        """The value at "title" or "settings.context_tokens"; None when the profile is silent about it."""
        first, _, rest = key.partition(".")
        found = self.values.get(first)
        return (found.get(rest) if isinstance(found, dict) else None) if rest else found

    def set(self, key: str, value: object | None) -> None:
        """Sets or, with None, unsets one key; nothing happens while the text is no TOML."""
        before = self.value(key)
        if isinstance(value, dict) or (value is None and isinstance(before, dict)):
            names = {**(before if isinstance(before, dict) else {}), **(value or {})}
            self._set({(key, name): (value or {}).get(name) for name in names})
        else:
            self.set_all({key: value})

    def set_all(self, values: Mapping[str, object | None]) -> None:
        """Many keys in one step."""
        self._set({tuple(key.split(".", 1)): value for key, value in values.items()})

    def _set(self, values: Mapping[tuple[str, ...], object | None]) -> None:
        text = self.text
        try:
            for path, value in values.items():
                text = with_value(text, path, value)
        except tomllib.TOMLDecodeError:
            return
        self.write(text)

    def write(self, text: str) -> None:
        if text != self.text:
            self.text = text
            self._read()
            self.changed.emit()

    def refuse(self, problems: Mapping[str, str]) -> None:
        """What the service found wrong with it, until it is changed."""
        self.problems = dict(problems)
        self.changed.emit()

    @property
    def based_on(self) -> str | None:
        """The text of the person's own file that this was made from."""
        return self._saved if self.own else None

    @property
    def preset(self) -> dict[str, Scalar]:
        """The settings of the preset that the profile names."""
        name = self.value("preset")
        return next((p.settings for p in self.options.presets.get(self.engine, ()) if p.name == name), {})

    def effective(self, saved: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """The settings to lay over a profile whose file says `saved`, so that it loads as this draft would: what the draft
        is silent about goes back to the engine's default where that is known."""
        defaults = {row.name: row.default for row in self.rows() if row.default is not None and row.name in saved}
        return {**defaults, **self.preset, **self.settings}

    def saved_as(self, saved: ProfileText, sent: str) -> None:
        """The service has taken the text that was sent: `saved` is what stands in the file now. What was written since
        then stays, as a change that is not saved yet."""
        self.id, self.own, self._saved = saved.profile, True, saved.text
        self.text = saved.text if self.text == sent else self.text
        self._read()
        self.changed.emit()

    def _read(self) -> None:
        self.is_readable = True
        try:
            self.values = tomllib.loads(self.text)
        except (ValueError, RecursionError):  # the form goes on showing what was there before, and waits
            self.is_readable = False
        try:
            self.profile = parse_profile(
                self.text, Path(f"{self.id}.toml"), self.options.families, self.options.presets
            )
            self.problems = {}
        except ProfileInvalid as error:
            self.profile = None
            said = {
                option.sentence for option in (*self.rows(), *SAMPLING_OPTIONS)
            }  # these stand beside the field already
            self.problems = {
                one.key: one.problem if one.advice in said else f"{one.problem} {one.advice}".strip()
                for one in reversed(error.problems)
            }
