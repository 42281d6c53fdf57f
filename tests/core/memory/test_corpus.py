"""The formulas against measured logs, where the corpus lies beside the checkout."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.corpus.llamacpp_rows import INPUTS, loads_in_one, measured_on_cards, planned, score
from tests.corpus.llamacpp_told import foreign_command

CORPUS = Path(__file__).parents[3].parent / "shared" / "data" / "llamacpp_memory.jsonl"
NO_CORPUS = "the measured cases are not on this machine"


def rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in CORPUS.read_text("utf-8").splitlines()]


@pytest.mark.skipif(not CORPUS.is_file(), reason=NO_CORPUS)
def test_what_was_measured_never_reaches_the_prediction() -> None:
    every = rows()
    measured = sorted({name for row in every for name in row} - set(INPUTS))
    assert "compute_buffers_mib" in measured
    assert "gpu_sum_mib" in measured
    shuffled = [dict(row) for row in every]
    for name in measured:
        values = [row.get(name) for row in shuffled]
        random.Random(name).shuffle(values)
        for row, value in zip(shuffled, values, strict=True):
            row[name] = value
    assert [planned(row) for row in every] == [planned(row) for row in shuffled]


@pytest.mark.skipif(not CORPUS.is_file(), reason=NO_CORPUS)
def test_the_bars_are_held_on_the_development_rows() -> None:
    result = score(rows())
    assert result["unreadable"] == []
    assert result["mainline"]["kv_cache"]["max"] <= 0.001
    assert result["mainline"]["state"]["max"] <= 0.001
    assert result["pooled"]["kv_cache"]["p95"] <= 0.001
    split = result["mainline"]["split_sum"]
    assert split["median"] <= 0.05
    assert split["p95"] <= 0.20
    full = result["pooled"]["full_offload_sum"]
    assert full["median"] <= 0.01
    assert full["p95"] <= 0.06
    assert full["macro_median"] <= 0.015
    assert result["fork"]["kv_cache"]["max"] <= 0.001
    assert result["fork"]["split_sum"]["median"] <= 0.05
    assert result["fork"]["split_sum"]["p95"] <= 0.20
    assert result["under_by_more_than_the_headroom"] == 0
    assert sum(result["not_planned"].values()) == result["rows"] - result["planned"]
    for engine in ("mainline", "fork"):
        part = result[engine]
        said = sum(part["not_told"].values()) + part["nothing_on_a_card"]
        of_engine = [row for row in result["each"] if row["engine"] == engine]
        unpriced = [row for row in of_engine if not row["told"] or row["sum_share"] is None]
        assert said == len(unpriced), "what is left out is counted with its reason"
    assert set(result["held_out"]) == {"recipe", "dense", "output"}
    assert all(part["sum"]["median"] <= 0.05 for part in result["held_out"].values())


def test_a_column_that_adds_up_two_loads_is_read_as_one() -> None:
    one = {"CUDA0": 3_000.0, "CPU": 1_096.0}
    row = {"file_size": "4,000 GiB (4,5 BPW)", "model_buffers_mib": one}
    assert loads_in_one(row) == 1
    row["model_buffers_mib"] = {name: 2 * size for name, size in one.items()}
    assert loads_in_one(row) == 2
    assert measured_on_cards(row, "weights") == 3_000.0
    row["model_buffers_mib"] = {"CUDA0": 3_000.0, "CPU_Mapped": 4_096.0}
    assert loads_in_one(row) == 1, "a mapping counts what went to the card once more"


def test_a_command_that_reads_several_texts_at_once_asks_for_a_larger_context() -> None:
    row: dict[str, Any] = {"n_ctx": 2_048, "n_batch": 2_048, "offloaded_layers": 5, "total_layers": 5}
    assert not foreign_command(row, "llama-perplexity -m a.gguf -c 512 -ngl 99")
    assert "n_ctx" in foreign_command(row, "llama-server -m a.gguf -c 512 -ngl 99")


def test_rows_of_any_form_are_scored_or_left_out_but_never_crash() -> None:
    whole = {
        "id": "x", "engine": "llama.cpp", "arch": "never-seen", "n_layer": 4, "n_head": "[8, 8, 8, 8]", "n_head_kv": "[2, 0, 2, 2]",
        "n_embd": 512, "n_vocab": 1000, "n_ff": 1024, "n_ctx": 4096, "type_k": "q9_9", "offloaded_layers": 5, "total_layers": 5,
        "model_buffers_mib": {"CUDA0": 50.0}, "kv_buffers_mib": {"CUDA0": 10.0}, "compute_buffers_mib": {"CUDA0": 20.0},
        "provenance": "full startup log",
    }  # fmt: skip
    odd = [None, "", "[1, 2", "many", -3, 1e400, [], {}, True, "1e9"]
    cases: list[dict[str, Any]] = [whole, {}, {"id": 7}]
    for name in (*INPUTS, "model_buffers_mib", "kv_buffers_mib"):
        cases += [{**whole, name: value} for value in odd]
        cases.append({key: value for key, value in whole.items() if key != name})
    result = score(cases)
    assert result["unreadable"] == []
    assert result["planned"] > len(cases) // 2
