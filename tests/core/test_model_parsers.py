"""Which parser reads a model's tool calls and thoughts: the table's order decides, and what is not known gets none."""

import re

import pytest

from app.core.model_parsers import ROWS, Parsers, parsers_for


@pytest.mark.parametrize(
    ("architecture", "name", "tools", "reasoning"),
    [
        ("qwen3", "Qwen3-8B", "hermes", "qwen3"),
        ("qwen3_moe", "Qwen3-30B-A3B-Instruct-2507", "hermes", ""),
        ("qwen3_moe", "Qwen3-30B-A3B-Thinking-2507", "hermes", "qwen3"),
        ("qwen3_moe", "Qwen3-Coder-30B-A3B-Instruct", "qwen3_coder", ""),
        ("qwen2", "Qwen2.5-7B-Instruct", "hermes", ""),
        ("qwen2", "QwQ-32B", "hermes", "deepseek_r1"),
        ("qwen2", "DeepSeek-R1-Distill-Qwen-7B", "", "deepseek_r1"),
        ("qwen2", "Qwen2.5-7B", "", ""),
        ("qwen3", "Qwen3-8B-Base", "", ""),
        ("gpt_oss", "gpt-oss-20b", "openai", "openai_gptoss"),
        ("llama", "Llama-3.1-8B-Instruct", "llama3_json", ""),
        ("llama", "Hermes-3-Llama-3.1-8B", "hermes", ""),
        ("llama", "Llama-2-7b-hf", "", ""),
        ("mistral", "Mistral-7B-Instruct-v0.3", "mistral", ""),
        ("mistral", "Magistral-Small-2506", "mistral", "mistral"),
        ("deepseek_v3", "DeepSeek-R1-0528", "deepseek_v3", "deepseek_r1"),
        ("deepseek_v3", "DeepSeek-V3.1", "deepseek_v31", "deepseek_v3"),
        ("glm4_moe", "GLM-4.6", "glm45", "glm45"),
        ("zzama", "anything", "", ""),
    ],
)
def test_the_family_and_its_generation_decide(architecture: str, name: str, tools: str, reasoning: str) -> None:
    assert parsers_for(architecture, name) == Parsers(tools, reasoning)


def test_every_row_can_be_read_and_says_something() -> None:
    for row in ROWS:
        assert re.compile(row.architecture)
        assert re.compile(row.name)
        assert row.parsers != Parsers()
