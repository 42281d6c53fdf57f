"""A config.json says which layers own a KV cache, a window of it or a state, whatever family wrote it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.catalog.facts import ModelFacts
from app.core.catalog.hf_config import layers_of, text_part
from app.core.catalog.hf_quantisation import kv_quantisation_of
from app.core.catalog.hf_tensors import role_of
from app.core.catalog.read import read_facts
from app.core.catalog.safetensors import facts_of
from tests.core.catalog.test_safetensors import CONFIG, folder


def facts(**config: Any) -> ModelFacts:
    base = {
        "num_hidden_layers": 8,
        "hidden_size": 1024,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "head_dim": 128,
    }
    return facts_of({**base, **config}, {})  # fmt: skip


def pattern(found: ModelFacts) -> str:
    """One letter per layer: F full, W window, S state, B both, - neither."""
    letters = []
    for layer in range(found.layers or 0):
        cached = layer < len(found.kv_heads) and found.kv_heads[layer] > 0
        state = layer < len(found.state_layers) and found.state_layers[layer]
        window = layer < len(found.windowed_layers) and found.windowed_layers[layer]
        letters.append("B" if cached and state else "S" if state else "-" if not cached else "W" if window else "F")
    return "".join(letters)


@pytest.mark.parametrize(
    ("expected", "config"),
    [
        ("FFFFFFFF", {"model_type": "llama"}),
        ("FFFFFFFF", {"model_type": "qwen2", "sliding_window": 32_768, "use_sliding_window": False}),
        ("WWWWWWWW", {"model_type": "mistral", "sliding_window": 4096}),
        ("FFFFFFFF", {"model_type": "mistral", "sliding_window": None}),
        ("WFWFWFWF", {"model_type": "gemma2", "sliding_window": 4096}),
        ("WWWWWFWW", {"model_type": "gemma3_text", "sliding_window": 512}),
        ("WWWFWWWF", {"model_type": "cohere2", "sliding_window": 4096, "sliding_window_pattern": 4}),
        ("WFWFWFWF", {"model_type": "gpt_oss", "sliding_window": 128}),
        ("FFFFFFFW", {"sliding_window": 64, "layer_types": ["full_attention"] * 7 + ["sliding_attention"]}),
        ("WWWFWWWF", {"model_type": "llama4_text", "attention_chunk_size": 8192}),
        ("WWWFWWWF", {"model_type": "llama4_text", "attention_chunk_size": 8192, "no_rope_layers": [1, 1, 1, 0] * 2}),
        ("WWWWW---", {"model_type": "gemma3n_text", "sliding_window": 512, "num_kv_shared_layers": 3, "layer_types": ["sliding_attention"] * 8}),
        ("SSSFSSSF", {"model_type": "qwen3_next", "full_attention_interval": 4, "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 64, "linear_value_head_dim": 64}),
        ("S-S-S*--".replace("*", "F"), {"model_type": "nemotron_h", "hybrid_override_pattern": "M-M-M*--", "mamba_num_heads": 8, "mamba_head_dim": 64, "ssm_state_size": 128, "n_groups": 8}),
        ("SSSSFSSS", {"model_type": "jamba", "attn_layer_period": 8, "attn_layer_offset": 4, "mamba_d_state": 16, "mamba_d_conv": 4, "mamba_expand": 2}),
        ("SFSSSSSS", {"model_type": "granitemoehybrid", "layer_types": ["mamba", "attention", *["mamba"] * 6], "mamba_n_heads": 16, "mamba_d_head": 64, "mamba_d_state": 128, "mamba_n_groups": 1}),
        ("SSFSSFSS", {"model_type": "lfm2", "layer_types": ["conv", "conv", "full_attention", "conv", "conv", "full_attention", "conv", "conv"], "conv_L_cache": 3}),
        ("SSSFSSSF", {"model_type": "kimi_linear", "linear_attn_config": {"full_attn_layers": [4, 8], "kda_layers": [1, 2, 3, 5, 6, 7], "num_heads": 8, "head_dim": 128}}),
        ("BBBBBBBB", {"model_type": "falcon_h1", "mamba_n_heads": 16, "mamba_d_head": 64, "mamba_d_state": 128}),
        ("SSSSSSSS", {"model_type": "mamba2", "num_heads": 16, "state_size": 128}),
        ("F-FFFF-F", {"model_type": "nemotron-nas", "block_configs": [{"attention": {"n_heads_in_group": None if layer in (1, 6) else 4}} for layer in range(8)]}),
        ("FSSSSSSF", {"model_type": "minimax", "attn_type_list": [1, 0, 0, 0, 0, 0, 0, 1]}),
    ],
)  # fmt: skip
def test_which_layers_keep_what(expected: str, config: dict[str, Any]) -> None:
    found = facts(**config)
    assert pattern(found) == expected
    assert (found.layer_state is not None) == ("S" in expected or "B" in expected)


def test_heads_and_sizes_per_layer() -> None:
    gemma = facts(
        model_type="gemma4_text", sliding_window=1024, layer_types=(["sliding_attention"] * 3 + ["full_attention"]) * 2,
        num_key_value_heads=16, head_dim=256, global_head_dim=512, num_global_key_value_heads=4,
    )  # fmt: skip
    assert gemma.kv_heads == (16, 16, 16, 4) * 2
    assert (gemma.key_length, gemma.window_key_length) == (512, 256)
    assert facts(model_type="falcon", multi_query=True, num_key_value_heads=None).kv_heads == (1,) * 8
    latent = facts(model_type="deepseek_v32", kv_lora_rank=512, qk_rope_head_dim=64, v_head_dim=128, index_head_dim=128)
    assert (latent.latent_kv, latent.key_length, latent.kv_heads[0], latent.index_key_length) == (True, 576, 1, 128)
    no_size = facts(head_dim=None)
    assert (no_size.key_length, no_size.value_length) == (128, 128)


def test_a_state_is_counted_in_numbers() -> None:
    delta = facts(
        model_type="qwen3_5", full_attention_interval=4, linear_num_key_heads=16, linear_num_value_heads=48,
        linear_key_head_dim=128, linear_value_head_dim=128, linear_conv_kernel_dim=4, mamba_ssm_dtype="float32",
    ).layer_state  # fmt: skip
    assert delta is not None
    assert (delta.convolution, delta.state, delta.state_type) == (3 * (2 * 2048 + 6144), 48 * 128 * 128, "float32")
    mamba = facts(
        model_type="granitemoehybrid", layer_types=["mamba"] * 8, mamba_n_heads=48, mamba_d_head=64, mamba_d_state=128
    )
    assert mamba.layer_state is not None
    assert (mamba.layer_state.convolution, mamba.layer_state.state) == (3 * (3072 + 256), 48 * 64 * 128)


def test_the_text_part_is_found_however_it_is_nested() -> None:
    inner = {"num_hidden_layers": 4, "hidden_size": 8}
    for nested in (
        {"text_config": inner}, {"llm_config": inner}, {"thinker_config": {"text_config": inner}}, {"language_config": inner},
    ):  # fmt: skip
        assert text_part({**nested, "tie_word_embeddings": True})["num_hidden_layers"] == 4
    both = facts_of({"thinker_config": {"text_config": inner, "audio_config": {"d": 1}}}, {})
    assert both.layers == 4


@pytest.mark.parametrize(
    ("name", "role", "layer"),
    [
        ("model.embed_tokens.weight", "embedding", None), ("lm_head.weight", "output", None), ("model.norm.weight", "whole", None),
        ("model.layers.3.self_attn.q_proj.weight", "layer", 3), ("model.layers.3.self_attn.k_proj.bias", "key_value", 3),
        ("model.layers.3.self_attn.v_proj.qweight", "key_value", 3), ("model.layers.3.input_layernorm.weight", "whole", 3),
        ("model.layers.3.mlp.gate.weight", "whole", 3), ("model.layers.3.mlp.gate_proj.weight", "layer", 3),
        ("model.layers.3.mlp.experts.7.up_proj.weight", "expert", 3), ("model.layers.3.mlp.experts.gate_up_proj_blocks", "expert", 3),
        ("model.layers.3.mlp.shared_experts.up_proj.weight", "layer", 3), ("model.layers.3.self_attn.kv_a_proj_with_mqa.weight", "whole", 3),
        ("model.layers.3.self_attn.kv_b_proj.weight", "layer", 3), ("model.layers.9.embed_tokens.weight", "draft", None),
        ("mtp.layers.0.mlp.up_proj.weight", "draft", None), ("visual.blocks.0.attn.qkv.weight", "tower", None),
        ("model.vision_tower.encoder.layers.0.self_attn.k_proj.weight", "tower", None), ("multi_modal_projector.linear.weight", "tower", None),
        ("language_model.model.layers.0.self_attn.k_proj.weight", "key_value", 0), ("thinker.audio_tower.layers.1.fc1.weight", "tower", None),
        ("model.layers.0.self_attn.rotary_emb.inv_freq", "unused", None), ("transformer.h.5.attn.c_attn.weight", "layer", 5),
        ("transformer.wte.weight", "embedding", None), ("layers.2.attention.wk.weight", "key_value", 2), ("tok_embeddings.weight", "embedding", None),
    ],
)  # fmt: skip
def test_what_an_engine_does_with_a_tensor(name: str, role: str, layer: int | None) -> None:
    assert role_of(name, 9, tied=False) == (role, layer)


def test_what_is_tied_or_left_to_the_class_is_read_from_the_tensors(tmp_path: Path) -> None:
    config = {"model_type": "gemma3_text", "num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 128}
    shapes = {
        "model.embed_tokens.weight": [300, 64], "model.layers.0.self_attn.q_proj.weight": [128, 64],
        "model.layers.0.self_attn.k_proj.weight": [64, 64], "model.layers.0.self_attn.k_norm.weight": [32],
    }  # fmt: skip
    path = folder(tmp_path / "m", config)
    header, end = {}, 0
    for name, shape in shapes.items():
        size = 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    data = json.dumps(header).encode()
    (path / "model.safetensors").write_bytes(len(data).to_bytes(8, "little") + data + b"\0" * end)
    found = read_facts(path)
    assert (found.heads, found.kv_heads, found.key_length, found.vocabulary) == (4, (2, 2), 32, 300)
    assert found.tied_embeddings, "there is no output among the tensors"


def test_weights_in_two_namings_are_counted_once(tmp_path: Path) -> None:
    path = folder(tmp_path / "mistral")
    before = read_facts(path)
    (path / "consolidated.safetensors").write_bytes((path / "model.safetensors").read_bytes())
    assert read_facts(path).weights_bytes == before.weights_bytes


def test_the_number_type_of_the_cache_that_weights_carry_scales_for() -> None:
    assert kv_quantisation_of({"kv_cache_quant_algo": "FP8"}) == "fp8"
    assert kv_quantisation_of({"kv_cache_scheme": {"num_bits": 8, "type": "float"}}) == "fp8"
    assert kv_quantisation_of({"kv_cache_scheme": {"num_bits": 8, "type": "int"}}) is None
    assert kv_quantisation_of({"kv_cache_scheme": "x"}) is None


def test_rotations_of_a_stretched_model_and_of_one_with_eyes() -> None:
    plain = facts(max_position_embeddings=1000)
    assert plain.rotation_numbers == 128_000
    assert facts(max_position_embeddings=1000, rope_scaling={"mrope_section": [1]}).rotation_numbers == 512_000
    assert facts(max_position_embeddings=1000, partial_rotary_factor=0.5).rotation_numbers == 64_000
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1000}
    assert facts(max_position_embeddings=1000, rope_scaling=yarn).rotation_numbers == 512_000


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_KEYS = sorted(
    {
        *CONFIG, "layer_types", "sliding_window", "kv_lora_rank", "qk_rope_head_dim", "linear_attn_config", "block_configs",
        "hybrid_override_pattern", "full_attention_interval", "attn_type_list", "text_config", "rope_scaling", "conv_L_cache",
        "mamba_d_state", "num_kv_shared_layers", "quantization_config", "attention_chunk_size", "no_rope_layers",
    }
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(wrong=st.dictionaries(st.sampled_from(_KEYS), _JSON, max_size=5))
def test_a_config_with_anything_in_it_is_read(wrong: dict[str, Any]) -> None:
    found = facts_of({**CONFIG, **wrong}, {})
    assert found.layers is None or 0 < found.layers <= 4096
    assert len(found.kv_heads) in (0, found.layers)
    layers_of(wrong)
