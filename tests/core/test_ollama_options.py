"""Options of Ollama's clients are said in each engine's own names, and what cannot be had is named (G8)."""

from typing import Any

import pytest

from app.core.ollama_options import LLAMA_CPP, OPENAI, VLLM, by_engine_names, sentence_of
from app.engines.registry import FAMILIES

CASES: list[Any] = [
    ({"num_predict": 5}, LLAMA_CPP, {"max_tokens": 5}, "num_predict as max_tokens"),
    ({"num_predict": -1}, LLAMA_CPP, {}, "num_predict left out"),
    ({"num_predict": 5, "max_tokens": 7}, LLAMA_CPP, {"max_tokens": 7}, "num_predict left out"),
    ({"repeat_penalty": 1.1, "top_k": 20}, LLAMA_CPP, {"repeat_penalty": 1.1, "top_k": 20}, ""),
    (
        {"repeat_penalty": 1.1, "top_k": 20},
        VLLM,
        {"repetition_penalty": 1.1, "top_k": 20},
        "repeat_penalty as repetition_penalty",
    ),
    ({"repeat_penalty": 1.1, "seed": 3}, OPENAI, {"seed": 3}, "repeat_penalty left out"),
    (
        {"options": {"temperature": 0.2, "num_ctx": 8192, "top_k": 4}},
        VLLM,
        {"temperature": 0.2, "top_k": 4},
        "options.temperature as temperature, options.num_ctx left out, options.top_k as top_k",
    ),
    ({"options": {"temperature": 0.2}, "temperature": 0.9}, VLLM, {"temperature": 0.9}, "options.temperature left out"),
    ({"options": "no object", "keep_alive": "5m"}, OPENAI, {"options": "no object"}, "keep_alive left out"),
]


@pytest.mark.parametrize(("body", "names", "sent", "told"), CASES)
def test_each_option_goes_where_the_engine_has_it(body: Any, names: dict[str, str], sent: Any, told: str) -> None:
    values, said = by_engine_names({"model": "m", **body}, names)
    assert values == {"model": "m", **sent}
    assert sentence_of(said) == told


def test_every_family_says_what_it_makes_of_them() -> None:
    for family in FAMILIES.values():
        assert family.traits.ollama_options["num_predict"] == "max_tokens", family.id
        assert family.traits.ollama_options["num_ctx"] == "", family.id
