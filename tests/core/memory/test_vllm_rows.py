"""The vLLM formulas against measured starts, where the corpus lies beside the checkout (issue: bars about vLLM)."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.corpus.vllm_models import facts_by_name
from tests.corpus.vllm_rows import INPUTS, Prediction, score

DATA = Path(__file__).parents[3].parent / "shared" / "data"
ROWS = DATA / "vllm_memory.jsonl"
FACTS = DATA / "model_facts.jsonl"
here = pytest.mark.skipif(not ROWS.is_file(), reason="the measured cases are not on this machine")


def rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in ROWS.read_text("utf-8").splitlines()]


@here
def test_the_bars_are_held_on_the_development_rows() -> None:
    found = score(rows())
    kv = found["kv_bytes_per_token"]
    assert kv["rows"] >= 11
    assert kv["outside"] == []
    weights = found["weights_per_rank"]
    assert weights["rows"] >= 19
    assert weights["outside"] == []
    assert "vl010" in found["weights_not_told"], "which of its matrices stay in 16 bits, only its headers say"
    whole = found["pool_all_inputs"]
    assert whole["rows"] >= 2
    assert whole["within_tolerance"] == whole["rows"]
    usual = found["pool_with_defaults"]
    assert usual["median_gap_gib"] < 0.4
    assert usual["within_tolerance"] == usual["rows"] >= 11
    assert found["contradict_themselves"] == ["vl022"]
    starts = found["starts"]
    assert [each["id"] for each in starts["contradict_themselves"]] == ["vl022"], (
        "its parts make 95 % of the card, not 90 %"
    )
    assert (starts["failed_missed"], starts["started_predicted_failing"]) == ([], [])
    assert starts["failed_rows"] >= 2


@here
def test_what_was_measured_changes_no_prediction() -> None:
    """Every measured column shuffled among the rows: the predictions stay, only what they are held against changes."""
    before = rows()
    measured = sorted({name for row in before for name in row} - set(INPUTS) - {"note"})
    shuffled = [dict(row) for row in before]
    order = random.Random(7)
    for name in measured:
        values = [row[name] for row in shuffled]
        order.shuffle(values)
        for row, value in zip(shuffled, values, strict=True):
            row[name] = value
    for one, other in zip(before, shuffled, strict=True):
        assert Prediction(one).solved == Prediction(other).solved


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("Qwen2.5-14B-Instruct", 14.77e9), ("Qwen3-32B", 32.762e9), ("Llama-3.1-8B-Instruct", 8.03e9), ("Qwen3-30B-A3B", 30.532e9),
        ("Qwen3-235B-A22B", 235.094e9), ("Qwen3-Coder-480B-A35B", 480.155e9), ("DeepSeek-R1", 671.026e9), ("Qwen3.5-9B", 8.954e9),
        ("DeepSeek-Coder-V2-Lite", 15.706e9), ("Qwen3.6-35B-A3B", 34.661e9), ("Qwen3-Coder-Next", 79.674e9), ("gemma-2-2b-it", 2.614e9),
        ("Kimi-K2-Instruct", 1027e9), ("GLM-4.6", 356.786e9 - 5.2e9), ("Qwen3.5-0.8B", 0.752e9), ("granite-3.1-2b", 2.53e9),
        ("Phi-4-mini-instruct", 3.84e9), ("Mixtral-8x7B", 46.7e9), ("Yi-34B", 34.39e9), ("SmolLM2-1.7B", 1.711e9),
    ],
)  # fmt: skip
def test_the_table_of_models_has_the_known_numbers_of_parameters(name: str, parameters: float) -> None:
    facts = facts_by_name(name, None)
    assert facts is not None
    known = facts.parameters
    if (
        known is None
    ):  # of a model that is published in 8 bits: its bytes are its parameters, but for embeddings and scales
        known = facts.weights_bytes - facts.vocabulary * facts.embedding_length * 2  # type: ignore[operator]
    assert known == pytest.approx(parameters, rel=0.006)


@pytest.mark.skipif(not FACTS.is_file(), reason="the measured cases are not on this machine")
def test_the_table_agrees_with_printed_facts() -> None:
    """Layers, heads and dims of the table are those that engines printed of the same models."""
    compared = 0
    for line in FACTS.read_text("utf-8").splitlines():
        row = json.loads(line)
        facts = facts_by_name(row["name"].replace(" ", "-"), None)
        if (
            facts is None
            or facts.latent_kv
            or "DRAFT" in row["name"]
            or row["kind"].startswith("stated")
            or row["n_layer"] is None
        ):
            continue
        heads = row["n_head_kv"]
        spare = 1 if facts.architecture.startswith("glm4_moe") else 0  # its guessing layer is counted there
        assert facts.layers == row["n_layer"] - spare, row["name"]
        if isinstance(heads, int) and row["head_dim_k"]:
            assert (max(facts.kv_heads), facts.window_key_length or facts.key_length) == (heads, row["head_dim_k"]), (
                row["name"]
            )
            compared += 1
    assert compared >= 15
