"""What other programs write about their models is understood, or left out; a name says which model it is (M1, M2)."""

import json
from pathlib import Path

import pytest

from app.core.catalog.grouping import base_name
from app.core.catalog.hf_quantisation import quantisation_of
from app.core.catalog.ollama import names_of, parse_manifest, parse_parameters, tag_of
from app.core.catalog.read import read_facts
from app.core.catalog.safetensors import missing_parts
from app.core.catalog.stores import stores_of
from app.core.errors import ModelUnreadable
from app.core.profiles import Sampling
from tests.core.catalog.test_safetensors import CONFIG, folder


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({"quant_method": "awq", "bits": 4}, "AWQ"),
        ({"quant_method": "gptq", "bits": 8}, "GPTQ 8-bit"),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "FP8"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes 4-bit"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "bitsandbytes 8-bit"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "NVFP4"),
        ({"quant_algo": "FP8"}, "FP8"),
        ({"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized"}, "NVFP4"),
        ({"quant_method": "compressed-tensors", "format": "float-quantized"}, "FP8"),
        (
            {
                "quant_method": "compressed-tensors",
                "format": "pack-quantized",
                "config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "int"}}},
            },
            "W4A16",
        ),
        (
            {
                "quant_method": "compressed-tensors",
                "format": "int-quantized",
                "config_groups": {"g": {"weights": {"num_bits": 8, "type": "int"}, "input_activations": {}}},
            },
            "INT8",
        ),
        ({"quant_method": "brandnew"}, "brandnew"),
        ({"quant_method": 3, "config_groups": {"a": None, "b": {"weights": {"num_bits": "x"}}}}, "3"),
        ({}, None),
    ],
)
def test_a_quantisation_has_the_name_that_people_know(config: dict[str, object], name: str | None) -> None:
    assert quantisation_of(config) == name


def test_facts_beside_the_config(tmp_path: Path) -> None:
    config = {**CONFIG, "architectures": ["Qwen3MoeForCausalLM"], "num_experts": 64, "num_experts_per_tok": 8}
    path = folder(tmp_path / "m", {**config, "moe_intermediate_size": 96, "vision_config": {"depth": 1}})
    template = "{% if tools %}{{ tools }}{% endif %}{% if enable_thinking %}<think>{% endif %}"
    (path / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    facts = read_facts(path)
    assert facts.capabilities == ("chat", "tools", "reasoning", "vision")
    assert (facts.experts, facts.experts_used, facts.expert_feed_forward_length) == (64, 8, 96)
    assert (facts.quantisation, facts.parameters, facts.chat_template) == ("BF16", 132, template)
    (path / "chat_template.jinja").write_text("{{ messages }}")
    assert read_facts(path).capabilities == ("chat", "vision"), "a file of its own goes first"
    (path / "hf_quant_config.json").write_text('{"quantization": {"quant_algo": "NVFP4"}}')
    facts = read_facts(path)
    assert (facts.quantisation, facts.parameters) == ("NVFP4", 132)
    (path / "modules.json").write_text("[]")
    assert read_facts(path).capabilities == ("embeddings",)


@pytest.mark.parametrize(
    "damage", ["", "[", "[]", '{"chat_template": 3}', "\0" * 50, '{"chat_template": [{"name": 1}, 4]}']
)
def test_damage_beside_the_config_costs_only_what_it_says(tmp_path: Path, damage: str) -> None:
    path = folder(tmp_path / "m")
    for name in ("tokenizer_config.json", "chat_template.json", "hf_quant_config.json"):
        (path / name).write_text(damage)
    facts = read_facts(path)
    assert (facts.layers, facts.chat_template, facts.quantisation) == (2, None, "BF16")


def test_parts_are_missed_by_their_names() -> None:
    assert missing_parts({"model-00001-of-00003.safetensors", "model-00003-of-00003.safetensors"}) == (
        "model-00002-of-00003.safetensors",
    )
    assert missing_parts({"model.safetensors", "config.json"}) == ()
    assert missing_parts({"m-00001-of-99999.safetensors"}) == (), "no model has so many"


@pytest.mark.parametrize(
    ("place", "tag", "names"),
    [
        ("registry.ollama.ai/library/llama3.2/3b", "llama3.2:3b", ("llama3.2:3b",)),
        ("registry.ollama.ai/library/llama3.2/latest", "llama3.2:latest", ("llama3.2:latest", "llama3.2")),
        ("registry.ollama.ai/me/mine/v1", "me/mine:v1", ("me/mine:v1",)),
        ("hf.co/org/repo-GGUF/Q4_K_M", "hf.co/org/repo-GGUF:Q4_K_M", ("hf.co/org/repo-GGUF:Q4_K_M",)),
    ],
)
def test_a_model_has_the_name_that_ollama_gives_it(place: str, tag: str, names: tuple[str, ...]) -> None:
    host, namespace, model, version = place.split("/")
    assert tag_of((host, namespace, model, version)) == tag
    assert names_of(tag) == names


def test_a_digest_that_is_a_path_is_refused() -> None:
    layer = {"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:../../../etc/passwd"}
    with pytest.raises(ModelUnreadable, match="is no checksum"):
        parse_manifest(json.dumps({"layers": [layer]}).encode(), "here")


def test_parameters_that_are_not_understood_are_left_out() -> None:
    assert parse_parameters(b'{"temperature": 99, "top_p": 0.9, "num_ctx": true, "stop": []}') == (
        {},
        Sampling(top_p=0.9),
    )
    assert parse_parameters(b"[") == ({}, Sampling())


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("Qwen3-4B-Instruct-2507-Q4_K_M", "qwen3-4b-instruct-2507"),
        ("org/Qwen3-4B-Instruct-2507-AWQ", "qwen3-4b-instruct-2507"),
        ("Qwen3-4B-Instruct-2507-UD-IQ2_XXS", "qwen3-4b-instruct-2507"),
        ("Qwen3 4B Instruct 2507", "qwen3-4b-instruct-2507"),
        ("unsloth/Qwen3-4B-Instruct-2507-bnb-4bit", "qwen3-4b-instruct-2507"),
        ("Llama-2-7b-hf", "llama-2-7b"),
        ("Llama-3.1-8B-Instruct-FP8-dynamic", "llama-3.1-8b-instruct"),
        ("llama3.2:3b", "llama3.2-3b"),
        ("gemma-3-4b-it.f16", "gemma-3-4b-it"),
        ("Llama-3.3-70B-Instruct-quantized.w4a16", "llama-3.3-70b-instruct"),
        ("model", ""),
        ("ggml-model-q4_0", ""),
    ],
)
def test_a_name_without_its_form_is_the_models(label: str, name: str) -> None:
    assert base_name(label) == name


def test_places_follow_the_variables_and_relative_ones_are_none() -> None:
    found = stores_of({"HOME": "/home/me", "HF_HOME": "/data/hf", "OLLAMA_MODELS": "o", "LLAMA_CACHE": "/l"})
    assert [(store.kind, str(store.folder)) for store in found] == [
        ("huggingface", "/data/hf/hub"),
        ("llama.cpp", "/l"),
        ("ollama", "/usr/share/ollama/.ollama/models"),
        ("lmstudio", "/home/me/.lmstudio/models"),
        ("lmstudio", "/home/me/.cache/lm-studio/models"),
    ]
