"""A profile's file is read whole or refused with every problem named: file, key, what to do."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.catalog.facts import ModelFacts
from app.core.errors import ProfileInvalid
from app.core.options import Option, OptionKind
from app.core.profiles import ID, Profile, merged, parse_profile, profile_from_model, slug, with_defaults
from app.core.resources import builtin_model, profiles_folder, resources_folder
from app.engines.registry import FAMILIES

OPTIONS = (
    Option(name="context_tokens", kind=OptionKind.INTEGER, sentence="Context.", minimum=64),
    Option(name="slots", kind=OptionKind.INTEGER, sentence="Requests at once.", default=4, minimum=1, maximum=256),
    Option(name="flash_attention", kind=OptionKind.CHOICE, sentence="Attention.", choices=("on", "off")),
)
ENGINES = {"llama.cpp": OPTIONS, "other": ()}
FILE = Path("/profiles/mine.toml")


def parse(text: str, file: Path = FILE) -> Profile:
    return parse_profile(text, file, ENGINES)


def problems_of(text: str, file: Path = FILE) -> dict[str, str]:
    with pytest.raises(ProfileInvalid) as caught:
        parse(text, file)
    assert all(problem.file == str(file) for problem in caught.value.problems)
    return {problem.key: str(problem) for problem in caught.value.problems}


def test_a_full_profile_is_read() -> None:
    profile = parse(
        """
        title = "Mine"
        engine = "llama.cpp"
        model = "m.gguf"
        aliases = ["small", "fast"]
        fallback = "demo"
        extra_arguments = ["--verbose"]
        [settings]
        context_tokens = 4096
        flash_attention = "on"
        [sampling]
        temperature = 1
        top_k = 40
        [environment]
        CUDA_LAUNCH_BLOCKING = "1"
        """
    )
    assert (profile.id, profile.title, profile.engine, profile.model) == ("mine", "Mine", "llama.cpp", "m.gguf")
    assert profile.settings == {"context_tokens": 4096, "flash_attention": "on"}
    assert (profile.sampling.temperature, profile.sampling.top_k, profile.sampling.top_p) == (1.0, 40, None)
    assert profile.aliases == ("small", "fast")
    assert profile.environment == {"CUDA_LAUNCH_BLOCKING": "1"}
    assert profile.source == str(FILE)


def test_a_silent_profile_is_titled_by_its_file() -> None:
    assert parse('engine = "other"\nmodel = "m"').title == "mine"


def test_all_problems_are_named_at_once() -> None:
    found = problems_of(
        """
        engine = "llama.cpp"
        model = 7
        titel = "typo"
        aliases = "small"
        extra_arguments = ["-x", 3]
        settings = {context_tokens = "many", slots = 0, kontext = 1, flash_attention = "maybe"}
        sampling = {temperature = nan, topp = 0.5, top_k = 1e999, max_tokens = 99999999999999999999999999}
        environment = {PORT = 7000}
        """
    )
    assert set(found) == {
        "model", "titel", "aliases", "extra_arguments[1]", "settings.context_tokens", "settings.slots", "settings.kontext",
        "settings.flash_attention", "sampling.temperature", "sampling.top_k", "sampling.max_tokens", "sampling.topp", "environment.PORT",
    }  # fmt: skip
    assert "Did you mean title?" in found["titel"]
    assert "Did you mean top_p?" in found["sampling.topp"]
    assert "must be a whole number, not 'many'" in found["settings.context_tokens"]
    assert "must be at least 1" in found["settings.slots"]
    assert "It can be one of: context_tokens" in found["settings.kontext"]
    assert all(text.startswith("/profiles/mine.toml: ") for text in found.values())


def test_what_is_missing_is_said_with_an_example() -> None:
    found = problems_of("title = 'x'")
    assert 'engine = "llama.cpp"' in found["engine"]
    assert "model" in found


def test_an_unknown_engine_names_the_known_ones() -> None:
    assert "Use one of: llama.cpp, other." in problems_of('engine = "vlm"\nmodel = "m"')["engine"]


@pytest.mark.parametrize(
    "text", ["engine = ", "[a]\n[a]", "a" * 50, "x = " + "[" * 5_000, "=\0", "x = " + "9" * 10_000]
)
def test_what_is_not_toml_says_where(text: str) -> None:
    found = problems_of(text)
    assert "not valid TOML" in found[""]


def test_a_file_name_that_cannot_be_an_id_is_told() -> None:
    found = problems_of('engine = "other"\nmodel = "m"', Path("/profiles/my model.toml"))
    assert "Rename the file." in found[""]


@given(
    st.dictionaries(
        st.sampled_from(
            ["title", "engine", "model", "aliases", "settings", "sampling", "environment", "seat", "fallback", "x"]
        ),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from(["slots", "context_tokens", "top_k", "y"]), inner, max_size=3)
            ),
            max_leaves=6,
        ),
    )
)
def test_any_values_give_a_profile_or_problems(values: dict[str, object]) -> None:
    """Whatever TOML may hold, also by type, ends as a profile or as ProfileInvalid."""
    text = "\n".join(f"{key} = {_toml(value)}" for key, value in values.items() if value is not None)
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    try:
        profile = parse(text)
    except ProfileInvalid as error:
        assert error.problems  # noqa: PT017 - either outcome is right
    else:
        assert profile.engine in ENGINES


def _toml(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case dict():
            return "{" + ", ".join(f"{k} = {_toml(v)}" for k, v in value.items() if v is not None) + "}"
        case list():
            return "[" + ", ".join(_toml(item) for item in value if item is not None) + "]"
        case str():
            return '"' + "".join(c if c.isalnum() else "_" for c in value) + '"'
        case _:
            return repr(value)


def test_settings_laid_over_leave_the_profile_as_it_was() -> None:
    profile = Profile(id="a", title="a", engine="e", model="m", settings={"context_tokens": 1, "slots": 2})
    assert merged(profile, {"slots": 3}).settings == {"context_tokens": 1, "slots": 3}
    assert profile.settings["slots"] == 2
    assert merged(profile, {}) is profile


def test_defaults_lie_under_the_settings() -> None:
    assert with_defaults(OPTIONS, {"context_tokens": 5}) == {"slots": 4, "context_tokens": 5}
    assert with_defaults(OPTIONS, {"slots": 1}) == {"slots": 1}


@pytest.mark.parametrize(("context_max", "expected"), [(131_072, 32_768), (2_048, 2_048), (None, None)])
def test_a_found_model_gets_its_own_context_within_the_limit(context_max: int | None, expected: int | None) -> None:
    path = Path("/models/Qwen3-8B-Q4_K_M.gguf")
    facts = ModelFacts(
        path=path, format="gguf", name="Qwen3 8B", architecture="qwen3", file_bytes=1, weights_bytes=1, context_max=context_max
    )  # fmt: skip
    profile = profile_from_model(path, facts, profile_id="q", engine="llama.cpp", context_limit_tokens=32_768)
    assert (profile.title, profile.model, profile.source) == ("Qwen3 8B", str(path), "found")
    assert profile.settings.get("context_tokens") == expected


@given(st.text())
def test_every_name_has_a_slug_that_is_an_id(name: str) -> None:
    assert ID.fullmatch(slug(name))


def test_slugs_read_like_the_name() -> None:
    assert slug("Qwen3-8B-Q4_K_M") == "qwen3-8b-q4_k_m"
    assert slug("Große Modelle (neu)") == "gro-e-modelle-neu"


@pytest.mark.parametrize("name", ["demo", "demo-long"])
def test_the_shipped_profiles_are_valid_for_the_real_engines(name: str) -> None:
    file = profiles_folder() / f"{name}.toml"
    options = {family.id: family.options for family in FAMILIES.values()}
    profile = parse_profile(file.read_text("utf-8"), file, options)
    assert profile.model == "builtin:demo"
    assert profile.engine == "llama.cpp"


def test_a_switch_between_the_shipped_profiles_can_be_seen() -> None:
    options = {family.id: family.options for family in FAMILIES.values()}
    one, other = (
        parse_profile(file.read_text("utf-8"), file, options)
        for file in (profiles_folder() / "demo.toml", profiles_folder() / "demo-long.toml")
    )
    assert one.settings != other.settings
    assert one.sampling != other.sampling


def test_what_ships_is_found_in_a_checkout_and_in_an_installed_package(tmp_path: Path) -> None:
    assert builtin_model("builtin:demo", tmp_path / "app") == tmp_path / "resources/models/engine-room-demo.gguf"
    (tmp_path / "app/_resources").mkdir(parents=True)
    (tmp_path / "app/_profiles").mkdir()
    assert resources_folder(tmp_path / "app") == tmp_path / "app/_resources"
    assert profiles_folder(tmp_path / "app") == tmp_path / "app/_profiles"
    assert builtin_model("builtin:none") is None


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ('load_at_start = "yes"', "load_at_start"),
        ("keep_loaded = 1", "keep_loaded"),
        ("idle_unload_seconds = true", "idle_unload_seconds"),
        ("idle_unload_seconds = -1", "idle_unload_seconds"),
        ("idle_unload_seconds = 99999999", "idle_unload_seconds"),
    ],
)
def test_what_a_profile_says_of_its_stay_is_checked_like_all_else(line: str, key: str) -> None:
    text = f'engine = "llama.cpp"\nmodel = "x.gguf"\n{line}\n'
    with pytest.raises(ProfileInvalid) as refused:
        parse_profile(text, Path("p.toml"), {"llama.cpp": ()})
    assert refused.value.key == key
    good = (
        'engine = "llama.cpp"\nmodel = "x.gguf"\nload_at_start = true\nkeep_loaded = true\nidle_unload_seconds = 60\n'
    )
    profile = parse_profile(good, Path("p.toml"), {"llama.cpp": ()})
    assert (profile.load_at_start, profile.keep_loaded, profile.idle_unload_seconds) == (True, True, 60)
