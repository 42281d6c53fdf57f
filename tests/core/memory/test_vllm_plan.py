"""What a vLLM load needs, whether the engine would start, and what would help; figures are those of measured starts."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from app.core.catalog.facts import ModelFacts
from app.core.memory.plan_types import MemoryPlan, Verdict
from app.core.memory.vllm_load import NEWEST, VllmLoad, load_of, usual_batch
from app.core.memory.vllm_parts import activation, capture_sizes, graphs, known_version, libraries, version_of, weights
from app.core.options import Scalar
from app.core.snapshot import GpuSample
from tests.core.memory.test_plan import card, machine, planned
from tests.corpus.vllm_models import facts_by_name

MIB, GIB = 1024**2, 1024**3


def named(name: str, quantization: str | None = None) -> ModelFacts:
    facts = facts_by_name(name, quantization)
    assert facts is not None
    return facts


def vllm(facts: ModelFacts, settings: dict[str, Scalar], *cards: GpuSample, **more: Any) -> MemoryPlan:
    return planned(facts, settings, machine(*cards, available_gib=60, total_gib=64), family="vllm", **more)


def load(**values: Any) -> VllmLoad:
    return VllmLoad(
        **{"context_tokens": 16_000, "sequences": 1024, "batch_tokens": 8192, "version": (0, 11, 1), **values}
    )


# --- parts --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "quantization", "ranks", "gib"),
    [
        ("Llama-3.1-8B", None, 1, 14.99), ("Qwen3-0.6B", None, 1, 1.12), ("Qwen3-32B", None, 1, 61.03), ("Qwen3-32B", None, 2, 30.59),
        ("Llama-3.3-70B-FP8", "fp8", 1, 67.72), ("Llama-3.3-70B-FP8", "fp8", 2, 33.88), ("gpt-oss-20b", "mxfp4", 1, 13.47),
        ("gpt-oss-120b", "mxfp4", 1, 64.38), ("gpt-oss-120b", "mxfp4", 4, 17.22), ("Mistral-Small-3.2-24B", None, 1, 44.76),
    ],
)  # fmt: skip
def test_weights_of_one_rank_are_what_the_engine_loaded(
    name: str, quantization: str | None, ranks: int, gib: float
) -> None:
    (found,) = weights(named(name, quantization), load(tensor_parallel=ranks))
    assert found.likely / GIB == pytest.approx(gib, rel=0.01)
    assert found.low < found.likely < found.high


def test_stages_hold_their_layers_and_the_vocabulary_lies_at_both_ends() -> None:
    facts = named("Qwen2-7B")
    first, last = weights(facts, load(pipeline_parallel=2))
    assert first.likely == pytest.approx(last.likely, rel=1e-5)  # the last one has the norm behind all layers
    whole = weights(facts, load())[0].likely
    assert first.likely + last.likely == pytest.approx(whole, rel=0.01)
    tied = weights(named("Qwen3-4B"), load(pipeline_parallel=2))
    assert tied[0].likely == pytest.approx(tied[1].likely, rel=1e-5), "a tied vocabulary is needed at both ends"


def test_quantising_while_loading_and_weights_in_main_memory() -> None:
    facts = named("Llama-3.1-8B")
    plain, fp8, four = (weights(facts, load(quantisation=kind))[0].likely for kind in (None, "fp8", "bitsandbytes"))
    assert plain - fp8 == pytest.approx(6.98e9, rel=0.01)
    assert plain - four == pytest.approx(6.98e9 * (2 - 0.5625), rel=0.01)
    older = weights(facts, load(quantisation="bitsandbytes", version=(0, 9, 1)))[0].likely
    assert four - older == pytest.approx(6.98e9 * (4 - 1) / 64, rel=0.01), "scales were kept in 8 bits then"
    assert plain - weights(facts, load(offload_bytes=4 * GIB))[0].likely == 4 * GIB


def test_nested_scales_are_unpacked_by_later_versions() -> None:
    """Quantised before, 4 bits and 8-bit scales lie in the file; what is loaded depends on the version."""
    facts = facts_by_name("Llama-3.1-8B-bnb-4bit", None)
    assert facts is not None
    assert facts.nested_scales
    packed = weights(facts, load(version=(0, 9, 1)))[0].likely
    unpacked = weights(facts, load(version=(0, 9, 2)))[0].likely
    assert unpacked - packed == pytest.approx(6.98e9 * (4 - 1) / 64, rel=0.01)
    flat = replace(facts, nested_scales=False)
    assert weights(flat, load(version=(0, 9, 2)))[0].likely == packed


@pytest.mark.parametrize(
    ("name", "values", "gib"),
    [
        ("Llama-3.1-8B", {}, 4.76), ("Qwen3-0.6B", {}, 5.56), ("Qwen3-32B", {}, 5.64), ("gpt-oss-20b", {}, 7.38),
        ("Qwen3-8B", {"sequences": 128, "batch_tokens": 256, "version": (0, 8, 5)}, 0.70),
        ("Qwen2.5-3B", {"sequences": 192, "batch_tokens": 1024, "version": (0, 7, 1)}, 1.05),
        ("Qwen3-4B", {"sequences": 160, "batch_tokens": 2048, "version": (0, 8, 5)}, 0.88),
    ],
)  # fmt: skip
def test_the_largest_step_is_what_the_engine_measured(name: str, values: dict[str, Any], gib: float) -> None:
    """At a large card's defaults the sampler is the widest moment: sequences x vocabulary, not the model's layers."""
    found = activation(named(name), load(**values))
    assert found.likely / GIB == pytest.approx(gib, rel=0.03)
    assert found.low <= found.likely <= found.high


def test_graphs_are_recorded_for_some_sizes_and_not_at_all_when_eager() -> None:
    assert [capture_sizes(load(sequences=each)) for each in (4, 64, 256, 1024)] == [4, 19, 51, 51]
    assert graphs(named("Qwen2-7B"), load(eager=True)).high == 0
    found = graphs(named("Qwen2-7B"), load(sequences=256))
    assert found.low < 0.5 * GIB < found.high, "0.50 GiB were measured"
    assert libraries(load(tensor_parallel=2)).likely > libraries(load()).likely


def test_defaults_follow_the_card() -> None:
    assert usual_batch("cuda", 24 * GIB, "RTX 4090") == (2048, 256)
    assert usual_batch("cuda", 80 * GIB, "NVIDIA A100-SXM4-80GB") == (2048, 256)
    assert usual_batch("cuda", 80 * GIB, "NVIDIA H100") == (8192, 1024)
    assert usual_batch("cuda", 180 * GIB, "NVIDIA B200") == (16_384, 1024)
    assert usual_batch("cpu", None, "") == (2048, 128)
    found = load_of(named("Qwen2-7B"), {"max_sequences": 2, "context_tokens": 128}, accelerator="cuda")
    assert (found.batch_tokens, found.sequences) == (256, 2), "never more tokens than all sequences have"
    assert load_of(named("Qwen2-7B"), {"context_tokens": "x", "eager": 3}, accelerator="cuda").context_tokens == 32_768
    assert version_of("0.10.1.1") == (0, 10, 1)
    assert version_of("latest") is None
    assert known_version("0.10.1.1") == (0, 10, 1)
    assert known_version("0.1.dev5+g12ab") == known_version("latest") == known_version("") == NEWEST


# --- starts -------------------------------------------------------------------------------------------------------------


def test_a_model_that_starts_takes_its_share_and_says_what_it_holds() -> None:
    found = vllm(named("Qwen2-7B"), {}, card(23))
    assert found.verdict is Verdict.FITS
    (device, _) = found.devices
    assert [part.name for part in device.parts] == ["weights", "kv_cache", "compute", "graphs", "context"]
    assert all(part.source for part in device.parts)
    assert device.low_bytes < device.likely_bytes < device.high_bytes <= (device.available_bytes or 0)
    assert "of KV cache hold" in found.notes[0]
    assert "conversations of 32,768 tokens" in found.notes[0]


def test_the_plan_is_that_of_the_installed_version() -> None:
    """What a version keeps back of the cache decides what starts; the launch solves with the same."""
    one: dict[str, Scalar] = {"context_tokens": 32_768, "max_sequences": 1}
    old, current, unnamed = (
        vllm(named("Qwen2-7B"), one, card(23), engine=engine).devices[0].parts
        for engine in ("vllm 0.10.2", "vllm 0.32.0+cu130", "")
    )
    assert old != current == unnamed


def test_what_cannot_start_is_said_before() -> None:
    """Both ways in which the engine refuses: nothing left for the cache, and less than one conversation of full length."""
    said: dict[str, Scalar] = {"gpu_memory_utilisation": 0.6, "context_tokens": 32_768}
    nothing = vllm(named("Qwen2-7B"), said, card(23))
    assert nothing.verdict is Verdict.DOES_NOT_FIT
    assert "leave nothing for the KV cache" in nothing.summary
    short = vllm(named("Qwen2-7B"), {**said, "gpu_memory_utilisation": 0.66}, card(23))
    assert short.verdict is Verdict.DOES_NOT_FIT
    assert "one conversation of 32,768 tokens takes 1.8 GiB of KV cache, and there is room for 1.2 GiB" in short.summary
    assert "cards are needed" in vllm(named("Qwen2-7B"), {"tensor_parallel": 2}, card(23)).summary


@pytest.mark.parametrize(
    ("kind", "settings", "cards", "change"),
    [
        ("utilisation", {"gpu_memory_utilisation": 0.92, "context_tokens": 8192}, [card(21)], {"gpu_memory_utilisation": 0.78}),
        ("kv_bytes", {"context_tokens": 8192, "kv_cache_mib": 64, "max_sequences": 16}, [card(21)], {"kv_cache_mib": 449}),
        ("kv_bytes", {"context_tokens": 8192, "kv_cache_mib": 16_384, "max_sequences": 16}, [card(21)], None),
        ("context", {"context_tokens": 32_768, "max_sequences": 16}, [card(18)], None),
        ("sequences", {"gpu_memory_utilisation": 0.69, "context_tokens": 8192, "max_sequences": 1024}, [card(19)], None),
        ("kv_type", {"context_tokens": 32_768, "kv_cache_mib": 1024, "max_sequences": 16}, [card(20)], {"kv_type": "fp8"}),
        ("card", {"context_tokens": 32_768, "max_sequences": 16}, [card(10), card(23, uuid="GPU-b")], {}),
        ("cards", {"context_tokens": 32_768, "max_sequences": 16}, [card(14), card(14, uuid="GPU-b")], {"tensor_parallel": 2}),
    ],
    ids=["utilisation", "too few bytes", "too many bytes", "context", "sequences", "kv_type", "card", "cards"],
)  # fmt: skip
def test_each_kind_of_remedy_is_offered_and_fits(
    kind: str, settings: dict[str, Scalar], cards: list[GpuSample], change: dict[str, Scalar] | None
) -> None:
    facts = named("Qwen2-7B")
    found = vllm(facts, settings, *cards)
    assert found.verdict is not Verdict.FITS
    remedy = next(each for each in found.remedies if each.kind == kind)
    if change is not None:
        assert remedy.settings == change
    again = vllm(facts, {**settings, **remedy.settings}, *cards, gpu_uuids=remedy.gpus)
    assert again.verdict is Verdict.FITS, again.summary


def test_the_longest_context_surely_starts_and_may_be_longer_than_the_pool_of_now() -> None:
    """With a longer one fewer answers at once are chosen, so that the largest step leaves more for the cache; the mark does
    not move with the slider."""
    facts, share = named("Qwen3-8B"), {"gpu_memory_utilisation": 0.85}
    marks = set()
    for tokens in (8_192, 16_384, 32_768):
        found = vllm(facts, {**share, "context_tokens": tokens}, card(23.5))
        assert found.verdict is Verdict.FITS
        marks.add(found.longest_context_tokens)
    (longest,) = marks
    assert longest is not None
    now = vllm(facts, {**share, "context_tokens": 16_384}, card(23.5)).notes[0]
    assert longest > int(now.split(" hold ")[1].split(" tokens")[0].replace(",", "")), "more than what is held now"
    taken = vllm(facts, {**share, "context_tokens": longest}, card(23.5))
    assert not any("may refuse" in note for note in taken.notes)
    assert any("answers at once instead of more" in note for note in taken.notes)
    further = vllm(facts, {**share, "context_tokens": longest + 256}, card(23.5))
    assert further.verdict is not Verdict.FITS or any("may refuse" in note for note in further.notes)


def test_a_hybrid_holds_many_more_tokens_than_its_layers_would_suggest() -> None:
    """40 of 54 GiB: of 40 layers only ten cache the context."""
    large = replace(card(88, 95), name="RTX PRO 6000")
    found = vllm(named("Qwen3.6-35B-A3B"), {"context_tokens": 131_072}, large)
    assert found.verdict is Verdict.FITS, found.summary
    conversations = float(found.notes[0].split(" tokens: ")[1].split()[0])
    assert conversations > 4


def test_without_a_card_it_is_main_memory() -> None:
    found = vllm(named("Qwen2.5-1.5B"), {})
    assert found.verdict is Verdict.FITS
    assert [device.device for device in found.devices] == ["host"]
    assert {part.name for part in found.devices[0].parts} == {"weights", "kv_cache", "compute", "process"}


def test_an_architecture_that_is_not_understood_is_unknown_not_refused() -> None:
    """I4: what cannot be known is no refusal."""
    found = vllm(replace(named("Qwen2-7B"), kv_heads=(), architecture="new_thing"), {}, card(23))
    assert found.verdict is Verdict.UNKNOWN
    assert "does not describe the architecture new_thing fully" in found.summary


def test_a_card_that_does_not_tell_its_memory_is_unknown() -> None:
    silent = replace(card(20), free_bytes=None, used_bytes=None)
    assert vllm(named("Qwen2-7B"), {}, silent).verdict is Verdict.UNKNOWN


def test_no_settings_break_a_plan() -> None:
    odd: dict[str, Scalar] = {
        "context_tokens": -1, "max_sequences": True, "tensor_parallel": "2", "gpu_memory_utilisation": "much", "kv_type": 3,
        "block_tokens": 0, "lora": 1, "batch_tokens": 1,
    }  # fmt: skip
    for name in ("Qwen2-7B", "gpt-oss-20b", "DeepSeek-R1", "Qwen3.6-27B", "gemma-4-E4B"):
        assert vllm(named(name), odd, card(20)).summary
