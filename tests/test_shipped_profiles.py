"""The profiles that come with Engine Room: each can be read, says where its figures come from, and names what to download."""

import re
import tomllib
from pathlib import Path

import pytest

from app.core.catalog.hub_cache import is_hub_name
from app.core.profiles import parse_profile
from app.engines.registry import FAMILIES

FILES = sorted((Path(__file__).resolve().parents[1] / "profiles").glob("*.toml"))
DEMOS = ("demo", "demo-long")
MODELS = [file for file in FILES if file.stem not in DEMOS]
OPTIONS = {family.id: family.options for family in FAMILIES.values()}
PRESETS = {family.id: family.presets for family in FAMILIES.values()}
# The models that the five systems name, which the owner comes from.
NAMED = (
    *("qwen2.5-vl-7b-instruct", "qwen2.5-14b-instruct", "qwen2.5-coder-7b-instruct", "qwen2.5-3b-instruct"),
    *("qwen2.5-7b-instruct", "qwen2.5-32b-instruct", "qwen2.5-72b-instruct", "qwen3-4b-instruct-2507-awq"),
    *("llama-3.1-8b-instruct-gguf", "llama-3.2-3b-instruct-gguf", "phi-3-mini-4k-instruct", "mistral-7b-instruct-v0.3"),
    *(
        "mixtral-8x7b-instruct-v0.1",
        "codellama-34b-instruct",
        "llama-2-7b-chat",
        "llama-2-13b-chat",
        "llama-2-70b-chat",
    ),
)


def test_every_named_model_has_its_profile() -> None:
    assert {file.stem for file in MODELS} == set(NAMED)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_can_be_read(file: Path) -> None:
    profile = parse_profile(file.read_text("utf-8"), file, OPTIONS, PRESETS)
    assert profile.description
    assert profile.settings["context_tokens"] <= 32_768, "the longest context that is taken unasked"


@pytest.mark.parametrize("file", MODELS, ids=lambda file: file.stem)
def test_its_figures_have_a_source_and_its_model_can_be_had(file: Path) -> None:
    text = file.read_text("utf-8")
    values = tomllib.loads(text)
    comments = " ".join(re.findall(r"^# (.*)$", text, re.M))
    assert is_hub_name(values["model"])
    assert "config.json" in comments, "where the context and the cache's shape come from"
    assert "arameters" in comments
    if "sampling" in values:
        assert "Sampling" in comments
