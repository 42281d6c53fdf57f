"""A Hugging Face folder is understood from its config and headers alone; a damaged one is told."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.core.catalog.hf_tensors import TYPE_BYTES, Entry, packed_parameters_of
from app.core.catalog.read import read_facts
from app.core.errors import ModelError, ModelMissing, ModelUnreadable
from tests.core.catalog.ggufs import write_gguf

CONFIG = {
    "model_type": "qwen3", "num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 32, "vocab_size": 100, "max_position_embeddings": 4096,
    "tie_word_embeddings": True,
}  # fmt: skip


def folder(path: Path, config: object = CONFIG, **sizes: int) -> Path:
    """A model folder with one safetensors file whose tensors have these sizes."""
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps(config))
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, size in (sizes or {"model.embed_tokens.weight": 200, "model.layers.1.q.weight": 64}).items():
        header[name] = {"dtype": "BF16", "shape": [size // 2], "data_offsets": [end, end + size]}
        end += size
    data = json.dumps(header).encode()
    (path / "model.safetensors").write_bytes(len(data).to_bytes(8, "little") + data + b"\0" * end)
    return path


def test_the_facts_of_a_folder(tmp_path: Path) -> None:
    facts = read_facts(folder(tmp_path / "Qwen3-tiny"))
    assert (facts.format, facts.name, facts.architecture) == ("safetensors", "Qwen3-tiny", "qwen3")
    assert (facts.weights_bytes, facts.layers, facts.kv_heads, facts.key_length) == (264, 2, (2, 2), 32)
    assert (facts.context_max, facts.vocabulary, facts.tied_embeddings) == (4096, 100, True)
    assert {(group.role, group.layer, group.type, group.bytes) for group in facts.tensors} == {
        ("embedding", None, "BF16", 200),
        ("layer", 1, "BF16", 64),
    }


def test_a_model_with_eyes_nests_its_text_part(tmp_path: Path) -> None:
    config = {"model_type": "gemma3", "text_config": {**CONFIG, "model_type": "gemma3_text"}, "vision_config": {}}
    facts = read_facts(folder(tmp_path / "m", {**config, "vision_config": {"depth": 1}}))
    assert (facts.layers, facts.architecture, facts.capabilities) == (2, "gemma3_text", ("vision",))


def test_a_cut_or_damaged_folder_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match=r"config\.json is not there"):
        read_facts(tmp_path)
    cut = folder(tmp_path / "cut")
    weights = cut / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(ModelUnreadable, match="cut short"):
        read_facts(cut)
    weights.write_bytes(b"\xff" * 40)
    with pytest.raises(ModelUnreadable, match="not a usable safetensors file"):
        read_facts(cut)
    weights.unlink()
    with pytest.raises(ModelUnreadable, match="holds no safetensors"):
        read_facts(cut)
    (cut / "config.json").write_text("[" * 100_000)
    with pytest.raises(ModelUnreadable, match="not a model's config"):
        read_facts(cut)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 300), wound=st.binary(min_size=1, max_size=6), config=st.booleans())
def test_a_damaged_folder_is_read_or_refused_and_nothing_else(
    tmp_path: Path, at: int, wound: bytes, config: bool
) -> None:
    path = folder(tmp_path / "m")
    file = path / ("config.json" if config else "model.safetensors")
    data = bytearray(file.read_bytes())
    data[at : at + len(wound)] = wound
    file.write_bytes(data)
    try:
        read_facts(path)
    except ModelError as error:
        assert error.advice  # noqa: PT017 - either outcome is right


def test_a_projector_is_not_taken_for_a_model(tmp_path: Path) -> None:
    with pytest.raises(ModelUnreadable, match="belongs to one"):
        read_facts(write_gguf(tmp_path / "p.gguf", architecture="clip"))


def of_tensors(path: Path, config: object, tensors: dict[str, tuple[str, tuple[int, ...]]]) -> Path:
    """A model folder whose tensors have these types and shapes."""
    path.mkdir()
    (path / "config.json").write_text(json.dumps(config))
    header, end = {}, 0
    for name, (dtype, shape) in tensors.items():
        size = int(math.prod(shape) * TYPE_BYTES[dtype])
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    data = json.dumps(header).encode()
    (path / "model.safetensors").write_bytes(len(data).to_bytes(8, "little") + data + bytes(end))
    return path


Q = "model.layers.0.self_attn.q_proj."
EXPERTS = "model.layers.0.mlp.experts.gate_up_proj_"


@pytest.mark.parametrize(
    ("name", "quantised", "tensors"),
    [
        ("AWQ", {"quant_method": "awq", "bits": 4},
         {"qweight": ("I32", (256, 16)), "qzeros": ("I32", (2, 16)), "scales": ("F16", (2, 128))}),
        ("GPTQ 8-bit", {"quant_method": "gptq", "bits": 8},
         {"qweight": ("I32", (64, 128)), "qzeros": ("I32", (2, 32)), "scales": ("F16", (2, 128)), "g_idx": ("I32", (256,))}),
        ("FP8", {"quant_method": "fp8"}, {"weight": ("F8_E4M3", (128, 256)), "weight_scale_inv": ("F32", (1, 2))}),
        ("NVFP4", {"quant_method": "modelopt", "quant_algo": "NVFP4"},
         {"weight": ("U8", (128, 128)), "weight_scale": ("F8_E4M3", (128, 16)), "weight_scale_2": ("F32", ()),
          "input_scale": ("F32", ())}),
        ("bitsandbytes 4-bit", {"quant_method": "bitsandbytes", "load_in_4bit": True},
         {"weight": ("U8", (16_384, 1)), "weight.absmax": ("U8", (512,)), "weight.nested_absmax": ("F32", (2,)),
          "weight.quant_map": ("F32", (16,)), "weight.quant_state.bitsandbytes__nf4": ("U8", (80,))}),
        ("bitsandbytes 8-bit", {"quant_method": "bitsandbytes", "load_in_8bit": True},
         {"weight": ("I8", (128, 256)), "SCB": ("F32", (128,))}),
        ("W4A16", {"quant_method": "compressed-tensors", "format": "pack-quantized",
                   "config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "int"}}}},
         {"weight_packed": ("I32", (128, 32)), "weight_scale": ("BF16", (128, 2)), "weight_shape": ("I64", (2,))}),
    ],
)  # fmt: skip
def test_a_quantised_model_says_its_form_and_how_many_parameters_it_has(
    tmp_path: Path, name: str, quantised: dict[str, object], tensors: dict[str, tuple[str, tuple[int, ...]]]
) -> None:
    """The same matrix of 128 x 256 in every form; scales, zero points and tables are no parameters (M2)."""
    whole = {"model.embed_tokens.weight": ("BF16", (100, 64)), **{Q + key: value for key, value in tensors.items()}}
    facts = read_facts(of_tensors(tmp_path / "m", {**CONFIG, "quantization_config": quantised}, whole))
    assert (facts.quantisation, facts.parameters) == (name, 100 * 64 + 128 * 256)


def test_packed_experts_are_counted_and_a_type_of_a_newer_tool_makes_it_unknown() -> None:
    packed = {EXPERTS + "blocks": Entry("U8", (0, 1_600)), EXPERTS + "scales": Entry("U8", (1_600, 1_700))}
    assert packed_parameters_of(packed, 4) == 3_200
    assert packed_parameters_of({"w": Entry("F6_E3M2", (0, 8))}, 4) is None


def test_latent_ranks_and_heads_that_predict_ahead_are_facts(tmp_path: Path) -> None:
    config = {**CONFIG, "model_type": "deepseek_v3", "kv_lora_rank": 512, "q_lora_rank": 1536, "qk_rope_head_dim": 64,
              "num_nextn_predict_layers": 1}  # fmt: skip
    facts = read_facts(folder(tmp_path / "m", config))
    assert (facts.latent_kv, facts.kv_lora_rank, facts.q_lora_rank, facts.key_length) == (True, 512, 1536, 576)
    assert (facts.layers, facts.mtp_heads) == (2, 1)


def test_all_templates_of_a_tokenizer_show_what_the_model_can_do(tmp_path: Path) -> None:
    model = folder(tmp_path / "m")
    named = [{"name": "tool_use", "template": "{{ tools }}"}, {"name": "default", "template": "{{ messages }}"}]
    (model / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    facts = read_facts(model)
    assert (facts.chat_template, facts.capabilities) == ("{{ messages }}", ("chat", "tools"))
