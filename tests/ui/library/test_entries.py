"""How the library becomes cards (M1, M4): one per model, every profile once, and filters that leave what is asked for."""

from __future__ import annotations

import msgspec

from app.core.snapshot import Library
from app.ui import wording
from app.ui.library.entries import Filter, choices_of, entries_of, filtered
from tests.ui import library_worlds as models
from tests.ui import worlds

ENTRIES = entries_of(models.MODELS)


def ids(wish: Filter) -> list[str]:
    return [card.profile.id for entry in filtered(ENTRIES, wish) for card in entry.cards]


def test_every_profile_is_on_exactly_one_card() -> None:
    shown = [card.profile.id for entry in ENTRIES for card in entry.cards]
    assert sorted(shown) == sorted(card.profile.id for card in models.MODELS.profiles)


def test_all_forms_of_a_model_are_one_card_the_largest_first() -> None:
    gemma = ENTRIES[0]
    assert gemma.title == "Gemma 3 27B"
    assert [card.facts.quantisation for card in gemma.cards if card.facts] == [
        "Q8_0",
        "Q6_K",
        "Q5_K_M",
        "Q4_K_M",
        "IQ3_XS",
    ]
    assert gemma.forms == 5
    assert gemma.store == "Hugging Face"


def test_disk_use_is_the_groups_own_so_that_a_file_with_two_names_counts_once() -> None:
    assert ENTRIES[0].disk_bytes == models.MODELS.models[0].disk_bytes
    assert ENTRIES[0].disk_bytes > sum(c.facts.file_bytes for c in ENTRIES[0].cards if c.facts), "the projector counts"


def test_a_model_with_one_way_is_called_as_its_profile() -> None:
    renamed = msgspec.structs.replace(
        models.QWEN, profile=msgspec.structs.replace(models.QWEN.profile, title="My Qwen")
    )
    found = entries_of(Library(profiles=(renamed,), models=(models.group("Qwen3 14B", (renamed,)),)))
    assert [entry.title for entry in found] == ["My Qwen"]


def test_two_profiles_of_one_file_are_two_ways_on_one_card_in_their_own_order() -> None:
    pair = (worlds.DEMO, worlds.DEMO_LONG)
    (entry,) = entries_of(Library(profiles=pair, models=(models.group("Engine Room Demo", pair),)))
    assert entry.title == "Engine Room Demo"
    assert [card.profile.id for card in entry.cards] == ["demo", "demo-long"]


def test_a_broken_off_download_has_a_card_that_says_so() -> None:
    last = ENTRIES[-1]
    assert last.cards == ()
    assert "broken off" in last.incomplete


def test_suggestions_that_are_not_here_stand_apart() -> None:
    assert [entry.title for entry in ENTRIES if entry.is_elsewhere] == ["Qwen2.5 VL 7B", "Mixtral 8x7B"]


def test_fits_now_leaves_the_forms_that_fit() -> None:
    left = ids(Filter(fits_now=True))
    assert "llama-3.3-70b" not in left
    assert "gemma-3-27b-q8_0" not in left
    assert {"gemma-3-27b-q4_k_m", "qwen3-14b"} <= set(left)


def test_filters_are_joined_by_and() -> None:
    assert ids(Filter(capability="tools", quantisation="Q4_K_M", fits_now=True)) == ["llama-3.1-8b-q4_k_m"]
    assert ids(Filter(engine="vllm")) == []
    assert set(ids(Filter(capability="vision"))) == {card.profile.id for card in models.GEMMA}


def test_sizes_are_of_the_file() -> None:
    assert ids(Filter(size="4", capability="embeddings")) == ["nomic-embed"]
    assert ids(Filter(size="more")) == ["llama-3.3-70b"]


def test_search_looks_at_model_form_store_and_ability() -> None:
    assert ids(Filter(text="gemma q4_k")) == ["gemma-3-27b-q4_k_m"]
    assert ids(Filter(text="ollama")) == ["nomic-embed"]
    assert ids(Filter(text="REASONING")) == ["qwen3-14b"]
    assert [entry.title for entry in filtered(ENTRIES, Filter(text="deepseek"))] == ["DeepSeek R1 Distill 32B"]


def test_only_what_tells_models_apart_is_offered() -> None:
    assert choices_of(models.MODELS).engines == ()
    assert choices_of(models.MODELS).capabilities == ("vision", "tools", "reasoning", "embeddings")
    assert choices_of(Library(profiles=(worlds.DEMO, worlds.DEMO_LONG))) == type(choices_of(Library()))()


def test_what_runs_elsewhere_says_so_in_place_of_a_need() -> None:
    far = models.attached("far", "Far", "remote", base_url="https://llm.example.com/v1")
    assert wording.verdict(far).text == "Runs elsewhere"
    assert wording.need(far.plan) == "Nothing of this machine's memory is needed: it runs elsewhere."


def test_an_engine_is_named_once() -> None:
    assert wording.engine_build("llama.cpp", "xllamacpp 2026.10.11549") == "llama.cpp 2026.10.11549"
    assert wording.engine_build("vllm", "0.11.2") == "vLLM 0.11.2"
    assert wording.engine_build("ollama", "Ollama 0.12.3, running") == "Ollama 0.12.3, running"
