"""Decides how tool calls and thoughts are read from a model's text, by the model's architecture and name: a table of data.

The names are vLLM's. A family is told by `model_type` of its config.json, and where several generations share one, by the
model's name. A wrong parser garbles answers, so what is not known gets none.
"""

from __future__ import annotations

import re

import msgspec

TOOL_PARSERS = (
    *("hermes", "qwen3_coder", "qwen3_xml", "llama3_json", "llama4_pythonic", "pythonic", "mistral", "openai"),
    *("deepseek_v3", "deepseek_v31", "deepseek_v32", "glm45", "glm47", "kimi_k2", "granite", "granite4", "gemma4"),
    *(
        "minimax_m2",
        "phi4_mini_json",
        "internlm",
        "jamba",
        "xlam",
        "olmo3",
        "seed_oss",
        "step3",
        "ernie45",
        "hunyuan_a13b",
    ),
)
REASONING_PARSERS = (
    *("deepseek_r1", "deepseek_v3", "qwen3", "openai_gptoss", "mistral", "granite", "glm45", "glm47", "kimi_k2"),
    *("gemma4", "minimax_m2", "nemotron_v3", "olmo3", "seed_oss", "step3", "ernie45", "hunyuan_a13b"),
)


class Parsers(msgspec.Struct, frozen=True):
    """Names of vLLM's parsers; "" = none."""

    tools: str = ""
    reasoning: str = ""


class Row(msgspec.Struct, frozen=True):
    architecture: str  # a pattern for the whole of it
    name: str  # a pattern for a part of the model's name; "" = any
    parsers: Parsers


# The first row that holds decides: special generations stand before their family.
ROWS: tuple[Row, ...] = tuple(
    Row(architecture, name, Parsers(tools, reasoning))
    for architecture, name, tools, reasoning in (
        (r".*", r"deepseek-r1-distill|deepseek-r1-0528-qwen", "", "deepseek_r1"),
        (r".*", r"qwen3.*coder", "qwen3_coder", ""),
        (r"qwen2|qwen2_vl|qwen2_5_vl", r"qwq", "hermes", "deepseek_r1"),
        (r"qwen2|qwen2_moe|qwen2_vl|qwen2_5_vl", r"hermes|instruct|chat|-vl", "hermes", ""),
        (r"qwen3(_vl)?(_moe)?(_text)?|qwen3_vl_moe_text", r"instruct-2507|vl.*instruct", "hermes", ""),
        (r"qwen3(_vl)?(_moe)?(_text)?|qwen3_vl_moe_text", r"thinking", "hermes", "qwen3"),
        (r"qwen3(_moe)?|qwen3_next", r"instruct", "hermes", ""),
        (r"qwen3(_moe)?|qwen3_next", r"^(?!.*base)", "hermes", "qwen3"),
        (r"qwen3_5(_moe)?(_text)?", r"^(?!.*base)", "qwen3_coder", "qwen3"),
        (r"gpt_oss", r"", "openai", "openai_gptoss"),
        (r"llama", r"hermes", "hermes", ""),
        (r"llama", r"llama-?3\.[123].*instruct", "llama3_json", ""),
        (r"llama4(_text)?", r"instruct", "llama4_pythonic", ""),
        (r"mistral|mistral3|ministral\w*|pixtral", r"magistral", "mistral", "mistral"),
        (r"mistral|mistral3|ministral\w*|pixtral|mixtral", r"instruct|devstral|small|ministral|nemo", "mistral", ""),
        (r"deepseek_v3", r"v3\.1", "deepseek_v31", "deepseek_v3"),
        (r"deepseek_v3", r"r1", "deepseek_v3", "deepseek_r1"),
        (r"deepseek_v3", r"kimi", "kimi_k2", ""),
        (r"deepseek_v3", r"v3", "deepseek_v3", ""),
        (r"deepseek_v32", r"", "deepseek_v32", "deepseek_v3"),
        (r"kimi_k2", r"thinking", "kimi_k2", "kimi_k2"),
        (r"kimi_k2", r"", "kimi_k2", ""),
        (r"glm4_moe(_lite)?", r"4\.7", "glm47", "glm47"),
        (r"glm4_moe", r"4\.[56]", "glm45", "glm45"),
        (r"granitemoehybrid", r"4", "granite4", ""),
        (r"granite(moe)?", r"3\.[23]", "granite", "granite"),
        (r"granite(moe)?", r"instruct", "granite", ""),
        (r"gemma4(_text)?", r"it\b|instruct", "gemma4", "gemma4"),
        (r"minimax_m2", r"", "minimax_m2", "minimax_m2"),
        (r"phi3", r"phi-?4-mini-instruct", "phi4_mini_json", ""),
        (r"internlm2|internlm3", r"chat|instruct", "internlm", ""),
        (r"jamba", r"", "jamba", ""),
        (r"olmo3", r"think", "olmo3", "olmo3"),
        (r"olmo3", r"instruct", "olmo3", ""),
        (r"seed_oss", r"instruct", "seed_oss", "seed_oss"),
        (r"ernie4_5(_moe)?", r"thinking", "ernie45", "ernie45"),
        (r"hunyuan_v1_moe", r"", "hunyuan_a13b", "hunyuan_a13b"),
        (r"step3_text|step3_vl", r"", "step3", "step3"),
    )
)


def parsers_for(architecture: str, name: str) -> Parsers:
    """The parsers of a model: `architecture` is its config's `model_type`, `name` its title or its folder's name."""
    said = name.lower()
    for row in ROWS:
        if re.fullmatch(row.architecture, architecture) and re.search(row.name, said):
            return row.parsers
    return Parsers()
