"""The shapes of models that logs name, so that a row with a name and no facts can be planned.

Figures are those of the models' public config.json; where `model_facts.jsonl` has the model, a test holds them together.
A config is made of them and read by the same code as a folder's, and the tensors that the architecture implies stand for
the headers of its files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from app.core.catalog.facts import ModelFacts
from app.core.catalog.hf_tensors import Entry
from app.core.catalog.safetensors import facts_of

MILLION = 1_000_000
GROUP = 128  # weights that share a scale in AWQ and GPTQ
Shape = dict[str, Any]


def _dense(kind: str, layers: int, hidden: int, heads: int, kv: int, size: int, inner: int, words: int, context: int,
           tied: bool = False, **more: Any) -> Shape:  # fmt: skip
    return {
        "model_type": kind, "num_hidden_layers": layers, "hidden_size": hidden, "num_attention_heads": heads,
        "num_key_value_heads": kv, "head_dim": size, "intermediate_size": inner, "vocab_size": words,
        "max_position_embeddings": context, "tie_word_embeddings": tied, "torch_dtype": "bfloat16", **more,
    }  # fmt: skip


def _moe(shape: Shape, experts: int, used: int, inner: int, *, shared: int = 0, dense_first: int = 0) -> Shape:
    return {
        **shape, "num_experts": experts, "num_experts_per_tok": used, "moe_intermediate_size": inner,
        "shared_inner": shared, "first_k_dense_replace": dense_first,
    }  # fmt: skip


def _delta(shape: Shape, key_heads: int, value_heads: int) -> Shape:
    return {
        **shape, "full_attention_interval": 4, "linear_num_key_heads": key_heads, "linear_num_value_heads": value_heads,
        "linear_key_head_dim": 128, "linear_value_head_dim": 128, "linear_conv_kernel_dim": 4,
    }  # fmt: skip


def _latent(
    layers: int, hidden: int, heads: int, inner: int, words: int, context: int, query_rank: int | None
) -> Shape:
    return _dense(
        "deepseek_v3", layers, hidden, heads, heads, 0, inner, words, context, kv_lora_rank=512, qk_rope_head_dim=64,
        qk_nope_head_dim=128, v_head_dim=128, q_lora_rank=query_rank,
    )  # fmt: skip


def _windowed(shape: Shape, window: int, pattern: int) -> Shape:
    return {**shape, "sliding_window": window, "sliding_window_pattern": pattern}


def _gpt_oss(layers: int, experts: int) -> Shape:
    shape = _dense("gpt_oss", layers, 2880, 64, 8, 64, 2880, 201_088, 131_072, sliding_window=128)
    return {**_moe(shape, experts, 4, 2880), "expert_type": "mxfp4"}


_Q = "qwen2"
_IN_SPACE = {"rope_scaling": {"mrope_section": [16, 24, 24]}}
_FLOAT_STATE = {"mamba_ssm_dtype": "float32"}
_DISTILLED = r"(?:deepseek-)?r1-distill-"

# Looked through from the top: the first whose pattern is found in the name (lower case, "_" as "-").
MODELS: tuple[tuple[str, Shape], ...] = (
    (r"lightonocr-2-1b", _dense("qwen3", 28, 1024, 16, 8, 128, 3072, 151_936, 40_960, True, tower=410 * MILLION)),
    (r"qwen2[.-]5-vl-3b", _dense(_Q, 36, 2048, 16, 2, 128, 11_008, 151_936, 128_000, True, tower=669 * MILLION, **_IN_SPACE)),
    (r"qwen2[.-]5-vl-7b", _dense(_Q, 28, 3584, 28, 4, 128, 18_944, 152_064, 128_000, tower=676 * MILLION, **_IN_SPACE)),
    (r"qwen2-vl-7b", _dense(_Q, 28, 3584, 28, 4, 128, 18_944, 152_064, 32_768, tower=676 * MILLION, **_IN_SPACE)),
    (r"qwen2[.-]5-vl-32b", _dense(_Q, 64, 5120, 40, 8, 128, 27_648, 152_064, 128_000, tower=690 * MILLION, **_IN_SPACE)),
    (r"qwen2[.-]5-vl-72b", _dense(_Q, 80, 8192, 64, 8, 128, 29_568, 152_064, 128_000, tower=700 * MILLION, **_IN_SPACE)),
    (r"qwen3\.[56]-0\.8b", _delta(_dense("qwen3_5", 24, 1024, 8, 2, 256, 3584, 248_320, 262_144, True, **_FLOAT_STATE), 16, 16)),
    (r"qwen3\.[56]-2b", _delta(_dense("qwen3_5", 24, 2048, 8, 2, 256, 6144, 248_320, 262_144, True, **_FLOAT_STATE), 16, 16)),
    (r"qwen3\.[56]-4b", _delta(_dense("qwen3_5", 32, 2560, 16, 4, 256, 9216, 248_320, 262_144, True, **_FLOAT_STATE), 16, 32)),
    (r"qwen3\.[56]-9b", _delta(_dense("qwen3_5", 32, 4096, 16, 4, 256, 12_288, 248_320, 262_144, **_FLOAT_STATE), 16, 32)),
    (r"qwen3\.[56]-27b", _delta(_dense("qwen3_5", 64, 5120, 24, 4, 256, 17_408, 248_320, 262_144, **_FLOAT_STATE), 16, 48)),
    (r"qwen3\.[56]-35b", _moe(_delta(_dense("qwen3_5_moe", 40, 2048, 16, 2, 256, 0, 248_320, 262_144, **_FLOAT_STATE), 16, 32), 256, 8, 512, shared=512)),
    (r"qwen3\.[56]-122b", _moe(_delta(_dense("qwen3_5_moe", 48, 3072, 32, 2, 256, 0, 248_320, 262_144, **_FLOAT_STATE), 16, 64), 256, 8, 1024, shared=1024)),
    (r"qwen3\.[56]-397b", _moe(_delta(_dense("qwen3_5_moe", 60, 4096, 32, 2, 256, 0, 248_320, 262_144, **_FLOAT_STATE), 16, 64), 512, 10, 1024, shared=1024)),
    (r"qwen3-(?:coder-)?next", _moe(_delta(_dense("qwen3_next", 48, 2048, 16, 2, 256, 0, 151_936, 262_144), 16, 32), 512, 10, 512, shared=512)),
    (r"qwen3-(?:coder-|vl-)?30b", _moe(_dense("qwen3_moe", 48, 2048, 32, 4, 128, 6144, 151_936, 40_960), 128, 8, 768)),
    (r"qwen3-(?:vl-)?235b", _moe(_dense("qwen3_moe", 94, 4096, 64, 4, 128, 12_288, 151_936, 40_960), 128, 8, 1536)),
    (r"qwen3-coder-480b", _moe(_dense("qwen3_moe", 62, 6144, 96, 8, 128, 8192, 151_936, 262_144), 160, 8, 2560)),
    (r"qwen3-(?:embedding-|reranker-)?0\.6b", _dense("qwen3", 28, 1024, 16, 8, 128, 3072, 151_936, 40_960, True)),
    (r"qwen3-1\.7b", _dense("qwen3", 28, 2048, 16, 8, 128, 6144, 151_936, 40_960, True)),
    (r"qwen3-(?:embedding-)?4b", _dense("qwen3", 36, 2560, 32, 8, 128, 9728, 151_936, 40_960, True)),
    (r"deepseek-r1-0528-qwen3-8b", _dense("qwen3", 36, 4096, 32, 8, 128, 12_288, 151_936, 131_072)),
    (r"qwen3-(?:embedding-)?8b", _dense("qwen3", 36, 4096, 32, 8, 128, 12_288, 151_936, 40_960)),
    (r"qwen3-14b", _dense("qwen3", 40, 5120, 40, 8, 128, 17_408, 151_936, 40_960)),
    (r"qwen3-32b", _dense("qwen3", 64, 5120, 64, 8, 128, 25_600, 151_936, 40_960)),
    (r"qwen(?:2|2\.5|2-5|25)-(?:coder-|math-)?0\.5b", _dense(_Q, 24, 896, 14, 2, 64, 4864, 151_936, 32_768, True)),
    (r"qwen(?:2|2\.5|2-5|25)-(?:coder-|math-)?1\.5b", _dense(_Q, 28, 1536, 12, 2, 128, 8960, 151_936, 32_768, True)),
    (rf"{_DISTILLED}qwen-1\.5b|deepscaler|deepcoder-1\.5b", _dense(_Q, 28, 1536, 12, 2, 128, 8960, 151_936, 131_072)),
    (r"qwen(?:2|2\.5|2-5|25)-(?:coder-)?3b", _dense(_Q, 36, 2048, 16, 2, 128, 11_008, 151_936, 32_768, True)),
    (rf"qwen(?:2|2\.5|2-5|25)-(?:coder-|math-)?7b|{_DISTILLED}qwen-7b", _dense(_Q, 28, 3584, 28, 4, 128, 18_944, 152_064, 32_768)),
    (rf"qwen(?:2|2\.5|2-5|25)-(?:coder-)?14b|{_DISTILLED}qwen-14b", _dense(_Q, 48, 5120, 40, 8, 128, 13_824, 152_064, 32_768)),
    (rf"qwen(?:2|2\.5|2-5|25)-(?:coder-)?32b|qwq-32b|{_DISTILLED}qwen-32b", _dense(_Q, 64, 5120, 40, 8, 128, 27_648, 152_064, 32_768)),
    (r"qwen(?:2|2\.5|2-5|25)-(?:math-)?72b", _dense(_Q, 80, 8192, 64, 8, 128, 29_568, 152_064, 32_768)),
    (r"llama-?3\.2-1b", _dense("llama", 16, 2048, 32, 8, 64, 8192, 128_256, 131_072, True)),
    (r"llama-?3\.2-3b", _dense("llama", 28, 3072, 24, 8, 128, 8192, 128_256, 131_072, True)),
    (rf"llama-?3(?:\.[013])?-8b|{_DISTILLED}llama-8b|llama-3\.1-nemotron-nano-8b", _dense("llama", 32, 4096, 32, 8, 128, 14_336, 128_256, 131_072)),
    (rf"llama-?3(?:\.[013])?-(?:nemotron-)?70b|{_DISTILLED}llama-70b", _dense("llama", 80, 8192, 64, 8, 128, 28_672, 128_256, 131_072)),
    (r"llama-?3\.1-405b", _dense("llama", 126, 16_384, 128, 8, 128, 53_248, 128_256, 131_072)),
    (r"llama-?2-7b|vicuna-7b", _dense("llama", 32, 4096, 32, 32, 128, 11_008, 32_000, 4096)),
    (r"llama-?2-13b|vicuna-13b", _dense("llama", 40, 5120, 40, 40, 128, 13_824, 32_000, 4096)),
    (r"llama-?2-70b", _dense("llama", 80, 8192, 64, 8, 128, 28_672, 32_000, 4096)),
    (r"codellama-34b", _dense("llama", 48, 8192, 64, 8, 128, 22_016, 32_000, 16_384)),
    (r"codellama-7b", _dense("llama", 32, 4096, 32, 32, 128, 11_008, 32_016, 16_384)),
    (r"tinyllama", _dense("llama", 22, 2048, 32, 4, 64, 5632, 32_000, 2048)),
    (r"solar-10\.7b", _dense("llama", 48, 4096, 32, 8, 128, 14_336, 32_000, 4096)),
    (r"yi-(?:1\.5-)?34b", _dense("llama", 60, 7168, 56, 8, 128, 20_480, 64_000, 4096)),
    (r"smollm2-1\.7b", _dense("llama", 24, 2048, 32, 32, 64, 8192, 49_152, 8192, True)),
    (r"smollm2?-135m", _dense("llama", 30, 576, 9, 3, 64, 1536, 49_152, 8192, True)),
    (r"smollm2?-360m", _dense("llama", 32, 960, 15, 5, 64, 2560, 49_152, 8192, True)),
    (r"mixtral-8x7b", {**_moe(_dense("mixtral", 32, 4096, 32, 8, 128, 14_336, 32_000, 32_768), 8, 2, 14_336)}),
    (r"mixtral-8x22b", {**_moe(_dense("mixtral", 56, 6144, 48, 8, 128, 16_384, 32_768, 65_536), 8, 2, 16_384)}),
    (r"mistral-7b.*v0\.1", _dense("mistral", 32, 4096, 32, 8, 128, 14_336, 32_000, 32_768, sliding_window=4096)),
    (r"mistral-7b.*v0\.3", _dense("mistral", 32, 4096, 32, 8, 128, 14_336, 32_768, 32_768)),
    (r"mistral-7b", _dense("mistral", 32, 4096, 32, 8, 128, 14_336, 32_000, 32_768)),
    (r"mistral-nemo", _dense("mistral", 40, 5120, 32, 8, 128, 14_336, 131_072, 131_072)),
    (r"ministral-8b", _dense("mistral", 36, 4096, 32, 8, 128, 12_288, 131_072, 32_768)),
    (r"mistral-small-3\.[12]|mistral-small.*(?:2503|2506)", _dense("mistral", 40, 5120, 32, 8, 128, 32_768, 131_072, 131_072, tower=439 * MILLION)),
    (r"mistral-small|devstral-small|magistral-small", _dense("mistral", 40, 5120, 32, 8, 128, 32_768, 131_072, 131_072)),
    (r"mistral-large", _dense("mistral", 88, 12_288, 96, 8, 128, 28_672, 32_768, 131_072)),
    (r"codestral-22b", _dense("mistral", 56, 6144, 48, 8, 128, 16_384, 32_768, 32_768)),
    (r"gpt-oss-20b", _gpt_oss(24, 32)),
    (r"gpt-oss-120b", _gpt_oss(36, 128)),
    (r"gemma-2-2b", _windowed(_dense("gemma2", 26, 2304, 8, 4, 256, 9216, 256_000, 8192, True), 4096, 2)),
    (r"gemma-2-9b", _windowed(_dense("gemma2", 42, 3584, 16, 8, 256, 14_336, 256_000, 8192, True), 4096, 2)),
    (r"gemma-2-27b", _windowed(_dense("gemma2", 46, 4608, 32, 16, 128, 36_864, 256_000, 8192, True), 4096, 2)),
    (r"gemma-3-1b", _windowed(_dense("gemma3_text", 26, 1152, 4, 1, 256, 6912, 262_144, 32_768, True), 512, 6)),
    (r"gemma-3-4b|medgemma-4b", _windowed(_dense("gemma3_text", 34, 2560, 8, 4, 256, 10_240, 262_208, 131_072, True, tower=420 * MILLION), 1024, 6)),
    (r"gemma-3-12b", _windowed(_dense("gemma3_text", 48, 3840, 16, 8, 256, 15_360, 262_208, 131_072, True, tower=420 * MILLION), 1024, 6)),
    (r"gemma-3-27b|medgemma-27b", _windowed(_dense("gemma3_text", 62, 5376, 32, 16, 128, 21_504, 262_208, 131_072, True, tower=420 * MILLION), 1024, 6)),
    (r"gemma-4-e2b", _windowed(_dense("gemma4_text", 35, 1536, 8, 1, 256, 6144, 262_144, 131_072, True, global_head_dim=512, num_kv_shared_layers=20, weights=False), 512, 5)),
    (r"gemma-4-e4b", _windowed(_dense("gemma4_text", 42, 2560, 8, 2, 256, 10_240, 262_144, 131_072, True, global_head_dim=512, num_kv_shared_layers=18, weights=False), 512, 6)),
    (r"gemma-4-26b", {**_windowed(_dense("gemma4_text", 30, 2816, 16, 8, 256, 2112, 262_144, 262_144, True, global_head_dim=512, num_global_key_value_heads=2, weights=False), 1024, 6)}),
    (r"gemma-4-31b", {**_windowed(_dense("gemma4_text", 60, 5376, 32, 16, 256, 21_504, 262_144, 262_144, True, global_head_dim=512, num_global_key_value_heads=4, weights=False), 1024, 6)}),
    (r"phi-3(?:\.5)?-mini", _dense("phi3", 32, 3072, 32, 32, 96, 8192, 32_064, 131_072)),
    (r"phi-3-medium", _dense("phi3", 40, 5120, 40, 10, 128, 17_920, 32_064, 131_072)),
    (r"phi-4-mini", _dense("phi3", 32, 3072, 24, 8, 128, 8192, 200_064, 131_072, True)),
    (r"phi-4(?!-m)", _dense("phi3", 40, 5120, 40, 10, 128, 17_920, 100_352, 16_384)),
    (r"deepseek-(?:coder-)?v2-lite", _moe(_latent(27, 2048, 16, 10_944, 102_400, 163_840, None), 64, 6, 1408, shared=2816, dense_first=1)),
    (r"deepseek-v2|deepseek-coder-v2", _moe(_latent(60, 5120, 128, 12_288, 102_400, 163_840, 1536), 160, 6, 1536, shared=3072, dense_first=1)),
    (r"deepseek-(?:v3|r1)(?!.*distill)", {**_moe(_latent(61, 7168, 128, 18_432, 129_280, 163_840, 1536), 256, 8, 2048, shared=2048, dense_first=3), "made_for": "fp8"}),
    (r"kimi-k2", {**_moe(_latent(61, 7168, 64, 18_432, 163_840, 131_072, 1536), 384, 8, 2048, shared=2048, dense_first=1), "made_for": "fp8"}),
    (r"glm-4-9b|glm-4-0414-9b", _dense("glm4", 40, 4096, 32, 2, 128, 13_696, 151_552, 131_072)),
    (r"glm-4\.5-air", _moe(_dense("glm4_moe", 46, 4096, 96, 8, 128, 10_944, 151_552, 131_072), 128, 8, 1408, shared=1408, dense_first=1)),
    (r"glm-4\.[56]", _moe(_dense("glm4_moe", 92, 5120, 96, 8, 128, 12_288, 151_552, 202_752), 160, 8, 1536, shared=1536, dense_first=3)),
    (r"minimax-m2", {**_moe(_dense("minimax_m2", 62, 3072, 48, 8, 128, 0, 200_064, 196_608), 256, 8, 1536), "made_for": "fp8"}),
    (r"granite-3\.[0-3]-8b", _dense("granite", 40, 4096, 32, 8, 128, 12_800, 49_159, 131_072, True)),
    (r"granite-3\.[0-3]-2b", _dense("granite", 40, 2048, 32, 8, 64, 8192, 49_159, 131_072, True)),
    (r"command-r-v01|c4ai-command-r-35b", _dense("cohere", 40, 8192, 64, 64, 128, 22_528, 256_000, 131_072, True)),
    (r"opt-125m", {**_dense("opt", 12, 768, 12, 12, 64, 3072, 50_272, 2048, True, torch_dtype="float16"), "matrices": 2}),
)  # fmt: skip

# How the name or the row's column says that weights are packed.
QUANTISED: tuple[tuple[str, str], ...] = (
    (r"nvfp4|fp4\b", "nvfp4"), (r"mxfp4", "mxfp4"), (r"awq", "awq"), (r"gptq|w4a16|int4", "gptq"), (r"bnb|bitsandbytes|4bit", "bnb"),
    (r"fp8|w8a8", "fp8"),
)  # fmt: skip


DYNAMIC = re.compile(r"unsloth-bnb|dynamic-bnb")  # some of its matrices stay in 16 bits: only its headers say which


def facts_by_name(name: str, quantization: str | None) -> ModelFacts | None:
    """Facts of a model that a log names; None for a name that the table does not have. `weights_bytes` is 0 where the
    table does not know the weights."""
    plain = name.lower().replace("_", "-").replace(" ", "-")
    shape = next((shape for pattern, shape in MODELS if re.search(pattern, plain)), None)
    if shape is None:
        return None
    said = f"{quantization or ''} {plain}".lower() if (quantization or "").lower() != "none" else plain
    packed = next((kind for pattern, kind in QUANTISED if re.search(pattern, said)), shape.get("made_for"))
    config = {key: value for key, value in shape.items() if key not in _OURS}
    if packed is not None and packed != "mxfp4":
        config["quantization_config"] = {
            "quant_method": {"bnb": "bitsandbytes", "nvfp4": "nvfp4"}.get(packed, packed),
            "bnb_4bit_use_double_quant": packed == "bnb",
        }
    if shape.get("expert_type") == "mxfp4":
        config["quantization_config"] = {"quant_method": "mxfp4"}
        packed = None
    if shape.get("tower"):
        config["vision_config"] = {"known": True}
    is_told = shape.get("weights", True) and not DYNAMIC.search(plain)
    entries = dict(_entries(shape, packed)) if is_told else {}
    return facts_of(config, entries)


_OURS = ("tower", "weights", "made_for", "expert_type", "shared_inner", "matrices")
_TYPES = {"BF16": 2.0, "F32": 4.0, "F16": 2.0, "F8_E4M3": 1.0, "U8": 1.0, "I32": 4.0}


def _entries(shape: Shape, packed: str | None) -> Iterator[tuple[str, Entry]]:
    """The tensors that the architecture implies, layer by layer."""
    hidden, words = shape["hidden_size"], shape["vocab_size"]
    yield "model.embed_tokens.weight", _entry("BF16", words * hidden)
    if not shape["tie_word_embeddings"]:
        yield "lm_head.weight", _entry("BF16", words * hidden)
    yield "model.norm.weight", _entry("BF16", hidden)
    if tower := shape.get("tower"):
        yield "visual.blocks.weight", _entry("BF16", tower)
    for layer in range(shape["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        yield f"{at}input_layernorm.weight", _entry("BF16", 2 * hidden)
        for name, size in _attention(shape, layer):
            yield from _matrix(f"{at}self_attn.{name}", size, packed)
        yield from _inner(shape, layer, at, packed)


def _attention(shape: Shape, layer: int) -> Iterator[tuple[str, int]]:
    hidden, heads = shape["hidden_size"], shape["num_attention_heads"]
    if shape.get("kv_lora_rank"):
        rank, rope, nope, value = 512, 64, 128, 128
        if query := shape["q_lora_rank"]:
            yield "q_a_proj", hidden * query
            yield "q_b_proj", query * heads * (rope + nope)
        else:
            yield "q_proj", hidden * heads * (rope + nope)
        yield "kv_a_proj_with_mqa", hidden * (rank + rope)
        yield "kv_b_proj", rank * heads * (nope + value)
        yield "o_proj", heads * value * hidden
        return
    if shape.get("full_attention_interval") and (layer + 1) % shape["full_attention_interval"]:
        keys = shape["linear_num_key_heads"] * shape["linear_key_head_dim"]
        values = shape["linear_num_value_heads"] * shape["linear_value_head_dim"]
        yield "in_proj_qkvz", hidden * (2 * keys + 2 * values)
        yield "in_proj_ba", hidden * 2 * shape["linear_num_value_heads"]
        yield "conv1d", 4 * (2 * keys + values)
        yield "out_proj", values * hidden
        return
    size, kv = shape["head_dim"], shape["num_key_value_heads"]
    gated = 2 if shape.get("full_attention_interval") else 1  # these models put a gate beside each query
    yield "q_proj", hidden * heads * size * gated
    yield "k_proj", hidden * kv * size
    yield "v_proj", hidden * kv * size
    yield "o_proj", heads * size * hidden


def _inner(shape: Shape, layer: int, at: str, packed: str | None) -> Iterator[tuple[str, Entry]]:
    hidden, matrices = shape["hidden_size"], shape.get("matrices", 3)
    experts = shape.get("num_experts")
    if not experts or layer < shape.get("first_k_dense_replace", 0):
        yield from _matrix(f"{at}mlp.gate_up_down", matrices * hidden * shape["intermediate_size"], packed)
        return
    yield f"{at}mlp.gate.weight", _entry("BF16", hidden * experts)
    numbers = experts * 3 * hidden * shape["moe_intermediate_size"]
    yield from _matrix(f"{at}mlp.experts.w", numbers, shape.get("expert_type") or packed)
    if inner := shape.get("shared_inner"):
        yield from _matrix(f"{at}mlp.shared_expert.w", 3 * hidden * inner, packed)


def _matrix(name: str, numbers: int, packed: str | None) -> Iterator[tuple[str, Entry]]:
    match packed:
        case "fp8":
            yield f"{name}.weight", _entry("F8_E4M3", numbers)
            yield f"{name}.weight_scale_inv", _entry("F32", numbers // GROUP**2)
        case "awq" | "gptq":
            yield f"{name}.qweight", _entry("I32", numbers // 8)
            yield f"{name}.scales", _entry("F16", numbers // GROUP)
            yield f"{name}.qzeros", _entry("I32", numbers // GROUP // 8)
        case "bnb":
            yield f"{name}.weight", _entry("U8", numbers // 2)
            yield f"{name}.weight.absmax", _entry("U8", numbers // 64)
            yield f"{name}.weight.nested_absmax", _entry("F32", numbers // 64 // 256)
        case "mxfp4":
            yield f"{name}.weight", _entry("U8", numbers // 2 + numbers // 32)
        case "nvfp4":
            yield f"{name}.weight", _entry("U8", numbers // 2 + numbers // 16)
        case _:
            yield f"{name}.weight", _entry("BF16", numbers)


def _entry(dtype: str, numbers: int) -> Entry:
    return Entry(dtype=dtype, data_offsets=(0, int(numbers * _TYPES[dtype])))
