"""One row in an engine's table, and it is there: in the validation, the command, the form's data, the CLI and the document."""

from pathlib import Path

import pytest
import typer
from msgspec.structs import replace
from typer.testing import CliRunner

from app.core.control import OptionsView
from app.core.errors import ProfileInvalid, SettingInvalid
from app.core.options import (
    Option,
    OptionKind,
    path_items,
    paths_in,
    problem_with,
    version_key,
    version_problem,
    with_paths,
)
from app.core.profiles import parse_profile
from app.core.settings_table import as_document, grouped, preset_named
from app.core.snapshot import from_json
from app.engines.arguments import checked_settings, unknown_flags
from app.engines.llama_cpp import LlamaCpp
from app.engines.registry import FAMILIES, options_view
from app.verbs_settings import add_settings
from tests.engines.launches import launch

NEW = Option(
    name="moon_phase",
    title="Moon",
    group="Speed",
    kind=OptionKind.INTEGER,
    sentence="How full the moon is while the model thinks.",
    minimum=0,
    maximum=28,
    default=14,
    unit="days",
    flag="--moon-phase",
)


@pytest.fixture
def families() -> dict[str, LlamaCpp]:
    """An engine whose table has one row more, and nothing else."""
    return {"llama.cpp": LlamaCpp((*LlamaCpp().options, NEW))}


def test_a_new_row_is_validated(families: dict[str, LlamaCpp]) -> None:
    options = {name: family.options for name, family in families.items()}
    text = 'engine = "llama.cpp"\nmodel = "m"\n[settings]\nmoon_phase = {}\n'
    assert parse_profile(text.format(7), Path("/p/a.toml"), options).settings == {"moon_phase": 7}
    with pytest.raises(ProfileInvalid, match=r"settings\.moon_phase: must be at most 28, not 29"):
        parse_profile(text.format(29), Path("/p/a.toml"), options)


def test_a_new_row_reaches_the_engine(families: dict[str, LlamaCpp]) -> None:
    family = families["llama.cpp"]
    argv = family.command(launch("llama.cpp", {"moon_phase": 3})).argv
    assert argv[argv.index("--moon-phase") + 1] == "3"
    assert "--moon-phase 14" in " ".join(family.command(launch("llama.cpp")).argv), "its default, where nobody says"


def test_a_new_row_is_in_the_form_the_command_line_and_the_document(families: dict[str, LlamaCpp]) -> None:
    app = typer.Typer()
    app.command("other")(lambda: None)  # with one command only, typer would take its name for an argument
    add_settings(app, families)
    told = CliRunner().invoke(app, ["settings", "llama.cpp"]).output
    assert "moon_phase                 0 to 28 days; default 14" in told
    assert NEW.sentence in told
    assert "--moon-phase" in told
    view = from_json(OptionsView, CliRunner().invoke(app, ["settings", "--json"]).output)
    assert NEW in view.families["llama.cpp"], "what a window makes its form from"
    headings = [heading for heading, _ in grouped(view.families["llama.cpp"])]
    assert len(headings) == len(set(headings))
    speed = dict(grouped(view.families["llama.cpp"]))["Speed"]
    assert NEW in speed, "under its heading, although it was added at the end"
    row = "| `moon_phase` | 0 to 28 days; default 14 | How full the moon is while the model thinks. | `--moon-phase` |"
    assert row in as_document(options_view(families)).splitlines()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_row_can_be_shown(family: str) -> None:
    for option in FAMILIES[family].options:
        assert option.group, option.name
        assert option.title, option.name
        assert len(option.sentence) <= 160, option.name
        assert option.minimum is None or option.maximum is None or option.minimum < option.maximum, option.name
        if option.default is not None:
            assert problem_with(option, option.default) is None, option.name


WITHOUT_PRESETS = ("ollama", "remote")  # whose sequences and batches are not ours to choose


def test_who_has_no_presets_is_known() -> None:
    assert {family for family in FAMILIES if not FAMILIES[family].presets} == set(WITHOUT_PRESETS)


@pytest.mark.parametrize("family", [family for family in FAMILIES if family not in WITHOUT_PRESETS])
def test_presets_are_valid_differ_and_say_why(family: str) -> None:
    presets = FAMILIES[family].presets
    assert {preset.name for preset in presets} >= {"low-latency", "high-throughput"}
    options = {option.name: option for option in FAMILIES[family].options}
    for preset in presets:
        assert preset.sentence.endswith("."), preset.name
        for name, value in preset.settings.items():
            assert problem_with(options[name], value) is None, (preset.name, name)
    low, high = (preset_named(presets, name, family).settings for name in ("low-latency", "high-throughput"))
    shared = low.keys() & high.keys()
    assert shared, "both decide something, and differently"
    assert all(low[name] != high[name] for name in shared)
    with pytest.raises(SettingInvalid, match="no preset 'fast'"):
        preset_named(presets, "fast", family)


# --- versions --------------------------------------------------------------------------------------------------------


def test_builds_were_counted_before_they_had_versions() -> None:
    assert (
        version_key("b6325") < version_key("version: 10114 (ed7adbfef)") < version_key("0.5.0") < version_key("v0.10.1")
    )
    assert version_key("2026.10.11549") > version_key("2026.9.1")


def test_a_setting_that_the_installed_version_does_not_know_is_refused_by_name_and_never_said_by_default() -> None:
    young = replace(NEW, since="b7000", until="0.6.0")
    options = (young,)
    profile = launch("llama.cpp", {"moon_phase": 3}).profile
    silent = launch("llama.cpp").profile
    with pytest.raises(
        SettingInvalid, match=r"settings\.moon_phase came with b7000, and this engine is b6999"
    ) as refused:
        checked_settings(profile, options, "llama-server", "b6999")
    assert "another version" in refused.value.advice
    with pytest.raises(SettingInvalid, match=r"went with 0\.6\.0"):
        checked_settings(profile, options, "llama-server", "0.6.0")
    assert checked_settings(silent, options, "llama-server", "b6999") == {}
    for version in ("b7000", "0.5.9", ""):
        assert checked_settings(profile, options, "llama-server", version) == {"moon_phase": 3}
        assert version_problem(young, version) is None


# --- paths in settings -----------------------------------------------------------------------------------------------

LORA = Option(name="lora", kind=OptionKind.PATH, several=True, sentence="Adapters.")
ONE = Option(name="mmproj", kind=OptionKind.PATH, sentence="One file.")


def test_a_list_of_paths_keeps_its_scales() -> None:
    text = " a.gguf:0.5 , /b c.gguf,, d:e.gguf ,f.gguf:-1"
    assert path_items(LORA, text) == (("a.gguf", 0.5), ("/b c.gguf", None), ("d:e.gguf", None), ("f.gguf", -1.0))
    found = {"a.gguf": "/x/a.gguf", "/b c.gguf": "/b c.gguf", "d:e.gguf": "/x/d:e.gguf", "f.gguf": "/x/f.gguf"}
    assert with_paths(LORA, text, found) == "/x/a.gguf:0.5,/b c.gguf,/x/d:e.gguf,/x/f.gguf:-1"


def test_a_single_path_may_hold_anything() -> None:
    assert path_items(ONE, "a,b:1.gguf") == (("a,b:1.gguf", None),)
    assert with_paths(ONE, "a,b:1.gguf", {"a,b:1.gguf": "/x"}) == "/x"
    assert path_items(ONE, "") == ()
    assert paths_in((LORA, ONE), {"lora": "a,b", "slots": 3, "mmproj": "m"}) == ((LORA, "a"), (LORA, "b"), (ONE, "m"))


# --- flags -----------------------------------------------------------------------------------------------------------


def test_flags_are_told_from_values() -> None:
    known = {"--metrics", "-ngl", "--seed"}
    said = ("--metrics", "-ngl", "-1", "--seed=4", "--odd", "value", "--odd", "-x", "-", "--")
    assert unknown_flags(said, known) == ("--odd", "-x")
