"""Says what an engine can be told, from its table: as lines for a terminal and as a document; pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from app.core.control import OptionsView
from app.core.errors import SettingInvalid
from app.core.options import Option, OptionKind, Preset, Scalar

OTHER = "Other"


def one_engine(view: OptionsView, family: str) -> OptionsView:
    """The part of the view that is about one engine; raises SettingInvalid naming the engines that there are."""
    if family not in view.families:
        raise SettingInvalid(f"There is no engine {family!r}.", f"There are: {', '.join(view.families)}.")
    return OptionsView(
        families={family: view.families[family]},
        presets={family: view.presets.get(family, ())},
        titles={family: view.titles.get(family, family)},
    )


def as_lines(view: OptionsView) -> list[str]:
    """The settings of each engine under their headings: name, what it takes, what it means, how the engine gets it."""
    lines: list[str] = []
    for family, options in view.families.items():
        lines += [f"{family}  {view.titles.get(family, '')}".rstrip()]
        for heading, rows in grouped(options):
            lines += ["", f"  {heading}"]
            for option in rows:
                said = f"  {said_by(option)}"
                lines += [
                    f"    {option.name:<26} {takes(option)}{given(option)}",
                    f"      {option.sentence}",
                    f"    {said}",
                ]
        lines += ["", "  Presets (engine-room load PROFILE --preset NAME)"]
        for preset in view.presets.get(family, ()):
            lines += [f"    {preset.name:<26} {settings_words(preset)}", f"      {preset.sentence}"]
        lines.append("")
    return lines[:-1]


def as_document(view: OptionsView) -> str:
    """The same as Markdown: one table per engine and heading."""
    parts = [
        "# What each engine can be told",
        "",
        "Made from the engines' tables by `python -m tests.derived`; `engine-room settings ENGINE` prints the same.",
        "A profile says them under `[settings]`; what it leaves out is the engine's own choice unless a default is named.",
    ]
    for family, options in view.families.items():
        parts += ["", f"## {family}: {view.titles.get(family, family)}"]
        for heading, rows in grouped(options):
            parts += ["", f"### {heading}", "", "| setting | takes | meaning | said by |", "|---|---|---|---|"]
            parts += [
                f"| `{option.name}` | {_cell(takes(option) + given(option))} | {_cell(option.sentence)} | {_cell(_code(said_by(option)))} |"
                for option in rows
            ]
        parts += ["", "### Presets", "", "| preset | settings | why |", "|---|---|---|"]
        parts += [
            f"| `{preset.name}` | {_cell(settings_words(preset))} | {_cell(preset.sentence)} |"
            for preset in view.presets.get(family, ())
        ]
    return "\n".join(parts) + "\n"


def grouped(options: Iterable[Option]) -> Iterator[tuple[str, tuple[Option, ...]]]:
    """The options under their headings, headings in the order in which they first appear."""
    rows = list(options)
    order = {heading: place for place, heading in reversed(list(enumerate(option.group or OTHER for option in rows)))}
    rows.sort(key=lambda option: order[option.group or OTHER])
    for heading, found in groupby(rows, key=lambda option: option.group or OTHER):
        yield heading, tuple(found)


def takes(option: Option) -> str:
    """What may be given: "1 to 256", "one of layer, row, none", "true or false"."""
    match option.kind:
        case OptionKind.SWITCH:
            return "true or false"
        case OptionKind.CHOICE:
            return f"one of {', '.join(option.choices)}"
        case OptionKind.PATH:
            one, more = ("a folder", "folders") if option.folder else ("a file", "files")
            return f"{more}, with commas between" if option.several else one
        case OptionKind.TEXT:
            names = f", for example {', '.join(option.suggestions[:4])}" if option.suggestions else ""
            return ("a list, with commas between" if option.several else "text") + names
    what = "a whole number" if option.kind is OptionKind.INTEGER else "a number"
    low, high = option.minimum, option.maximum
    unit = f" {option.unit}" if option.unit else ""
    if low is not None and high is not None:
        return f"{_number(low)} to {_number(high)}{unit}"
    if low is not None:
        return f"{what} from {_number(low)}{unit}"
    return f"{what}{unit}" if high is None else f"{what} up to {_number(high)}{unit}"


def given(option: Option) -> str:
    """The default and the versions, as the end of a phrase."""
    words = [] if option.default is None else [f"default {scalar_words(option.default)}"]
    words += [f"since {option.since}"] if option.since else []
    words += [f"until {option.until}"] if option.until else []
    return f"; {', '.join(words)}" if words else ""


def said_by(option: Option) -> str:
    """The flag or the variable that carries it."""
    if option.flag:
        return " or ".join(filter(None, (option.flag, option.flag_off)))
    return f"{option.environment}=…"


def settings_words(preset: Preset) -> str:
    return ", ".join(f"{name} = {scalar_words(value)}" for name, value in preset.settings.items())


def scalar_words(value: Scalar) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return _number(value) if isinstance(value, int | float) else value


def preset_named(presets: Sequence[Preset], name: str, family: str) -> Preset:
    """The preset of that name; raises SettingInvalid naming those that the engine has."""
    for preset in presets:
        if preset.name == name:
            return preset
    known = ", ".join(preset.name for preset in presets)
    raise SettingInvalid(f"{family} has no preset {name!r}.", f"It has: {known}." if known else "It has none.")


def _number(value: float) -> str:
    return f"{int(value):,}" if float(value).is_integer() else f"{value:g}"


def _code(text: str) -> str:
    return " or ".join(f"`{part}`" for part in text.split(" or "))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
