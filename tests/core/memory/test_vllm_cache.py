"""How vLLM lays out its KV cache, and what a pool of bytes holds: held against what the engine printed."""

from __future__ import annotations

from typing import Any

import pytest

from app.core.catalog.facts import ModelFacts
from app.core.catalog.safetensors import facts_of
from app.core.memory.vllm_cache import layout_of, longest_context, pool_of, request_bytes, stage_bounds
from app.core.memory.vllm_load import VllmLoad, load_of
from tests.corpus.vllm_models import facts_by_name

MIB, GIB = 1024**2, 1024**3
SMALL = {
    "hidden_size": 256, "intermediate_size": 512, "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 32,
    "vocab_size": 512, "max_position_embeddings": 8192, "torch_dtype": "bfloat16",
}  # fmt: skip


def small(**config: Any) -> ModelFacts:
    return facts_of({**SMALL, **config}, {})


def named(name: str, quantization: str | None = None) -> ModelFacts:
    facts = facts_by_name(name, quantization)
    assert facts is not None
    return facts


def load(**values: Any) -> VllmLoad:
    return VllmLoad(**{"context_tokens": 4096, "sequences": 256, "batch_tokens": 2048, **values})


def test_a_model_published_in_32_bits_caches_16_unless_it_is_told_to_compute_in_32() -> None:
    """As the engine logged of one: 8 MiB for 4 layers of one head of 64 hold 8,064 tokens and the block that is kept."""
    config = {
        "model_type": "llama", "num_hidden_layers": 4, "hidden_size": 128, "num_attention_heads": 2, "num_key_value_heads": 1,
        "head_dim": 64, "intermediate_size": 256, "vocab_size": 260, "max_position_embeddings": 16_384, "torch_dtype": "float32",
    }  # fmt: skip
    facts = facts_of(config, {})
    for number_type, tokens in (("auto", 8_064), ("float32", 3_968)):
        load = load_of(facts, {"context_tokens": 16_384, "number_type": number_type}, accelerator="cpu")
        layout = layout_of(facts, load)
        assert layout is not None
        assert longest_context(layout, load, 8 * 1024**2, 16_384) == tokens


def test_layers_of_one_kind_share_one_block_table() -> None:
    layout = layout_of(named("Qwen2-7B"), load())
    assert layout is not None
    assert (layout.block_tokens, layout.block_bytes, len(layout.groups)) == (16, 16 * 57_344, 1)
    assert pool_of(layout, load(), 5 * GIB).bytes_per_token == 57_344


@pytest.mark.parametrize(
    ("ranks", "heads"), [(1, 4), (2, 2), (4, 1), (8, 1)], ids=["1", "2", "4", "8: KV heads are there twice"]
)
def test_kv_heads_are_divided_down_to_one_per_rank(ranks: int, heads: int) -> None:
    layout = layout_of(named("Qwen2-7B"), load(tensor_parallel=ranks))
    assert layout is not None
    assert layout.block_bytes == 16 * 28 * heads * 256 * 2


def test_one_latent_vector_for_all_heads_on_every_rank() -> None:
    one, eight = (layout_of(named("DeepSeek-R1"), load(tensor_parallel=ranks)) for ranks in (1, 8))
    assert one is not None
    assert one == eight
    assert one.block_bytes == 64 * 61 * 576 * 2


@pytest.mark.parametrize(
    ("kv_type", "each"), [("bfloat16", 2.0), ("fp8", 1.0), ("fp8_e5m2", 1.0), ("nvfp4", 0.5625), ("int8_per_token_head", 1 + 4 / 128)]
)  # fmt: skip
def test_the_number_type_of_the_cache(kv_type: str, each: float) -> None:
    layout = layout_of(named("Qwen3-8B"), load(kv_type=kv_type))
    assert layout is not None
    assert layout.block_bytes == 16 * 36 * 8 * 256 * each


def test_windows_and_full_layers_draw_from_one_pool_in_groups_of_equal_size() -> None:
    """gpt-oss-120b on four cards printed 2,640,144 tokens of 45.32 GiB (0.10): two groups of 18 layers."""
    old = load(tensor_parallel=4, version=(0, 10, 1))
    layout = layout_of(named("gpt-oss-120b"), old)
    assert layout is not None
    assert [(group.kind.keeps, group.layers) for group in layout.groups] == [("window", 18), ("full", 18)]
    assert pool_of(layout, old, int(45.32 * GIB)).tokens == pytest.approx(2_640_144, rel=2e-4)


def test_pages_of_other_sizes_hold_more_tokens_or_are_padded() -> None:
    """Gemma 4 has larger heads on its full layers, and layers that share the cache of others: 29,968 tokens of 2.74 GiB."""
    old = load(version=(0, 19))
    layout = layout_of(named("gemma-4-E4B"), old)
    assert layout is not None
    assert sum(group.layers for group in layout.groups) == 24, "18 of the 42 layers own no cache"
    assert {group.block_tokens for group in layout.groups} == {16, 32}
    assert pool_of(layout, old, int(2.74 * GIB)).tokens == pytest.approx(29_968, rel=0.002)


def test_a_state_makes_the_blocks_of_attention_as_large_as_itself() -> None:
    facts = named("Qwen3-Next-80B-A3B")
    layout = layout_of(facts, load())
    assert layout is not None
    assert [(group.kind.keeps, group.layers) for group in layout.groups] == [("state", 12)] * 3 + [("full", 12)]
    state = (3 * (2 * 16 * 128 + 32 * 128) + 32 * 128 * 128) * 2
    tokens = 16 * -(-state // (16 * 2048))
    assert layout.block_tokens == tokens
    assert layout.block_bytes == 12 * tokens * 2048


def test_the_running_cpu_build_printed_the_same() -> None:
    """Printed by 0.32 on a processor for a generated model of 12 layers, 10 of them with a window of 256 tokens."""
    kinds = (["sliding_attention"] * 5 + ["full_attention"]) * 2
    facts = small(model_type="gemma3_text", num_hidden_layers=12, sliding_window=256, layer_types=kinds)
    on_cpu = load(context_tokens=8000, batch_tokens=512, accelerator="cpu")
    layout = layout_of(facts, on_cpu)
    assert layout is not None
    pool = pool_of(layout, on_cpu, 64 * MIB)
    assert (pool.tokens, round(pool.requests, 2)) == (83_591, 10.45)
    plain = small(model_type="llama", num_hidden_layers=5)
    on_cpu = load(context_tokens=3000, batch_tokens=512, accelerator="cpu")
    layout = layout_of(plain, on_cpu)
    assert layout is not None
    pool = pool_of(layout, on_cpu, 64 * MIB)
    assert (pool.tokens, round(pool.requests, 2)) == (51_125, 17.04)
    hybrid = small(
        model_type="qwen3_next", num_hidden_layers=8, full_attention_interval=4, linear_num_key_heads=4,
        linear_num_value_heads=8, linear_key_head_dim=32, linear_value_head_dim=32, linear_conv_kernel_dim=4,
    )  # fmt: skip
    on_cpu = load(context_tokens=2000, batch_tokens=512, accelerator="cpu")
    layout = layout_of(hybrid, on_cpu)
    assert layout is not None
    pool = pool_of(layout, on_cpu, 64 * MIB)
    assert (pool.tokens, round(pool.requests, 2)) == (93_090, 46.55)


def test_one_request_more_than_the_pool_is_refused_and_the_longest_one_is_found() -> None:
    """The rule of the real engine: one request of full length and the block that it never gives out."""
    facts = small(model_type="llama", num_hidden_layers=4)
    on_cpu = load(context_tokens=2048, accelerator="cpu")
    layout = layout_of(facts, on_cpu)
    assert layout is not None
    assert request_bytes(layout, on_cpu) == 17 * layout.block_bytes
    assert longest_context(layout, on_cpu, 17 * layout.block_bytes, 8192) == 2048
    assert longest_context(layout, on_cpu, 17 * layout.block_bytes - 1, 8192) == 1920
    assert longest_context(layout, on_cpu, layout.block_bytes, 8192) == 0


def test_stages_get_whole_layers_and_the_last_one_no_more_than_others() -> None:
    assert stage_bounds(32, 2) == [(0, 16), (16, 32)]
    assert stage_bounds(30, 4) == [(0, 7), (7, 15), (15, 23), (23, 30)]
    assert stage_bounds(3, 1) == [(0, 3)]


def test_what_the_facts_do_not_say_is_not_guessed() -> None:
    assert layout_of(facts_of({"model_type": "new"}, {}), load()) is None
