"""Scores the vLLM formulas against measured starts: `score(rows)` for `tests.corpus.memory`.

A row's inputs are the columns of INPUTS; every other one is dropped before anything is planned. Facts come
from the model's name (`vllm_models`), because these rows have no columns for them. What a row does not say gets the engine's default;
such rows are counted apart from those that say all.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from app.core.catalog.facts import ModelFacts
from app.core.memory.vllm_cache import pool_of
from app.core.memory.vllm_load import GIB, usual_batch
from app.core.memory.vllm_parts import version_of
from app.core.memory.vllm_solve import Card, Solved, solve
from tests.corpus.vllm_models import facts_by_name

Row = Mapping[str, Any]
INPUTS = (
    "id", "vllm_version", "model", "model_note", "gpu", "gpu_total_gib", "tp", "pp", "dtype", "quantization", "kv_cache_dtype",
    "max_model_len", "gpu_memory_utilization", "max_num_seqs", "max_num_batched_tokens", "enforce_eager", "prefix_caching",
    "block_size", "lora_rank",
)  # fmt: skip
# A row that says of its setup that adapters are enabled does not say their rank: that of most published notebooks.
ASSUMED_LORA_RANK = 32
# Logs that do not say their version: most that are public are of the second half of 2025.
ASSUMED_VERSION = (0, 11, 1)
USUAL_BLOCK_TOKENS = 16
POOL_TOLERANCE_GIB = 0.8
SHARE = 0.01
PARTS_TOLERANCE_GIB = 0.5
CARDS_GIB = (
    ("a100.*80", 79.25),
    ("h100", 79.18),
    ("4090", 23.53),
    ("3090", 23.56),
    ("5090", 31.36),
    ("t4", 14.74),
    ("l4$", 22.03),
)


class Prediction:
    """What the formulas say of a row's inputs."""

    def __init__(self, row: Row) -> None:
        self.inputs = {name: row.get(name) for name in INPUTS}
        said = self.inputs
        if (
            "lora enabled" in str(row.get("note") or "").lower() and not said["lora_rank"]
        ):  # how it was set up, not measured
            said["lora_rank"] = ASSUMED_LORA_RANK
        self.facts = _facts(said)
        if self.facts is not None and "unsloth" in str(row.get("note") or "").lower():
            self.facts = msgspec.structs.replace(self.facts, nested_scales=False)  # that wrapper never unpacks them
        self.version = version_of(said["vllm_version"]) if isinstance(said["vllm_version"], str) else None
        total = said["gpu_total_gib"] or _usual_total(str(said["gpu"] or ""))
        self.total_gib = float(total) if total else None
        self.solved = self._solve() if self.facts is not None else None

    @property
    def says_all(self) -> bool:
        """All that the pool depends on is said by the row."""
        needed = (
            "model",
            "gpu_total_gib",
            "gpu_memory_utilization",
            "max_model_len",
            "max_num_seqs",
            "max_num_batched_tokens",
        )
        return all(self.inputs[name] is not None for name in needed) and self.version is not None and self.knows_weights

    @property
    def knows_weights(self) -> bool:
        return self.facts is not None and self.facts.weights_bytes > 0

    @property
    def has_pool(self) -> bool:
        """The card's size and the share are known, so that there is a pool to predict."""
        return (
            self.knows_weights
            and self.total_gib is not None
            and self.inputs["gpu_memory_utilization"] is not None
            and self.solved is not None
            and self.solved.pool_bytes is not None
        )

    def _solve(self) -> Solved:
        said, facts = self.inputs, self.facts
        assert facts is not None
        settings = {
            "context_tokens": said["max_model_len"], "max_sequences": said["max_num_seqs"],
            "batch_tokens": said["max_num_batched_tokens"], "kv_type": said["kv_cache_dtype"], "eager": bool(said["enforce_eager"]),
            "tensor_parallel": said["tp"] or 1, "pipeline_parallel": said["pp"] or 1, "block_tokens": said["block_size"],
            "gpu_memory_utilisation": said["gpu_memory_utilization"], "number_type": said["dtype"],
            "prefix_caching": said["prefix_caching"] is not False,
            **({"lora": "adapter", "lora_rank_max": str(said["lora_rank"])} if said["lora_rank"] else {}),
        }  # fmt: skip
        settings = {name: value for name, value in settings.items() if value is not None}
        if "context_tokens" not in settings and facts.context_max:
            settings["context_tokens"] = facts.context_max
        total = int(self.total_gib * GIB) if self.total_gib is not None else None
        # What nobody said is the engine's default here, not what we would have chosen for this card.
        settings.setdefault("max_sequences", usual_batch("cuda", total, str(said["gpu"] or ""))[1])
        ranks = (said["tp"] or 1) * (said["pp"] or 1)
        cards = [Card(total_bytes=total, usable_bytes=total, name=str(said["gpu"] or ""))] * ranks
        return solve(facts, settings, cards, accelerator="cuda", version=self.version or ASSUMED_VERSION, named=True)


def score(rows: Sequence[Row]) -> dict[str, Any]:
    """The bars of vLLM, part by part; each list says which rows make the figure."""
    found = [(row, Prediction(row)) for row in rows]
    return {
        "rows": len(rows),
        "rows_with_known_model": sum(1 for _, each in found if each.facts is not None),
        "kv_bytes_per_token": _kv(found),
        "weights_per_rank": _weights(found),
        "activation": _part(found, "activation_peak_gib", lambda solved: solved.ranks[0].activation),
        "non_torch": _part(found, "non_torch_gib", lambda solved: solved.ranks[0].libraries),
        "pool_all_inputs": _pools([(row, each) for row, each in found if each.has_pool and each.says_all]),
        "pool_with_defaults": _pools(
            [(row, each) for row, each in found if each.has_pool and not each.says_all and not _contradicts_itself(row)]
        ),
        "contradict_themselves": [str(row.get("id")) for row, _ in found if _contradicts_itself(row)],
        "weights_not_told": [str(row.get("id")) for row, each in found if each.facts and not each.knows_weights],
        "starts": _starts(found),
        "baselines": _baselines(found),
        "unknown_models": [str(row.get("id")) for row, each in found if each.facts is None],
    }


def printed_kv_bytes_per_token(row: Row) -> float | None:
    """The pool over its tokens, as the log prints both."""
    pool, tokens = row.get("available_kv_cache_gib"), row.get("gpu_kv_cache_tokens")
    if tokens is None and row.get("gpu_blocks"):
        tokens = row["gpu_blocks"] * (row.get("block_size") or USUAL_BLOCK_TOKENS)
    if tokens is None and row.get("max_concurrency_x") and row.get("concurrency_len"):
        tokens = row["max_concurrency_x"] * row["concurrency_len"]
    return pool * GIB / tokens if pool and tokens and pool > 0 else None


def printed_weights_gib(row: Row) -> float | None:
    found = row.get("model_loading_gib") or row.get("weights_gib")
    return float(found) if found else None


def _kv(found: Sequence[tuple[Row, Prediction]]) -> dict[str, Any]:
    errors = []
    for row, each in found:
        printed = printed_kv_bytes_per_token(row)
        pool = each.solved.pool if each.solved is not None else None
        layout = each.solved.layout if each.solved is not None else None
        if printed is None or layout is None or each.solved is None:
            continue
        # A printed pool has two decimals: what it is rounded by is no error of ours.
        rounding = 0.005 / row["available_kv_cache_gib"] if row.get("available_kv_cache_gib") else 0.0
        predicted = pool.bytes_per_token if pool is not None else _per_token(each.solved)
        errors.append(_error(row, predicted, printed, rounding))
    return _summary(errors)


def _per_token(solved: Solved) -> float:
    assert solved.layout is not None
    return pool_of(solved.layout, solved.load, GIB).bytes_per_token


def _weights(found: Sequence[tuple[Row, Prediction]]) -> dict[str, Any]:
    errors = [
        _error(row, max(rank.weights.likely for rank in each.solved.ranks) / GIB, printed)
        for row, each in found
        if each.solved is not None and each.knows_weights and (printed := printed_weights_gib(row)) is not None
    ]
    return _summary(errors)


def _part(found: Sequence[tuple[Row, Prediction]], column: str, part: Any) -> dict[str, Any]:
    errors = []
    for row, each in found:
        if each.solved is None or row.get(column) is None:
            continue
        size = part(each.solved)
        errors.append(
            {
                "id": row["id"],
                "predicted_gib": round(size.likely / GIB, 3),
                "printed_gib": row[column],
                "within_bounds": size.low / GIB - 0.01 <= row[column] <= size.high / GIB + 0.01,
                "all_inputs": each.says_all,
            }
        )
    gaps = [abs(error["predicted_gib"] - error["printed_gib"]) for error in errors]
    return {
        "rows": len(errors),
        "median_gap_gib": round(statistics.median(gaps), 3) if gaps else None,
        "within_bounds": sum(1 for error in errors if error["within_bounds"]),
        "each": errors,
    }


def _pools(found: Sequence[tuple[Row, Prediction]]) -> dict[str, Any]:
    errors = []
    for row, each in found:
        printed = row.get("available_kv_cache_gib")
        if printed is None or each.solved is None or each.solved.pool_bytes is None:
            continue
        low, likely, high = (size / GIB for size in each.solved.pool_bytes)
        errors.append(
            {
                "id": row["id"],
                "predicted_gib": round(likely, 2),
                "printed_gib": printed,
                "error_gib": round(likely - printed, 2),
                "within_bounds": low - 0.01 <= printed <= high + 0.01,
                "over_predicted_beyond_low": printed < low - 0.01,
            }
        )
    gaps = [abs(error["error_gib"]) for error in errors]
    return {
        "rows": len(errors),
        "within_tolerance": sum(1 for gap in gaps if gap <= POOL_TOLERANCE_GIB),
        "tolerance_gib": POOL_TOLERANCE_GIB,
        "median_gap_gib": round(statistics.median(gaps), 2) if gaps else None,
        "worst_gap_gib": max(gaps, default=None),
        "within_bounds": sum(1 for error in errors if error["within_bounds"]),
        "each": errors,
    }


def _starts(found: Sequence[tuple[Row, Prediction]]) -> dict[str, Any]:
    known = [(row, each.solved) for row, each in found if each.has_pool and each.solved is not None]
    odd = [(row, solved) for row, solved in known if _contradicts_itself(row)]
    known = [(row, solved) for row, solved in known if not _contradicts_itself(row)]
    failed = [(row, solved) for row, solved in known if str(row.get("outcome") or "").startswith("failed")]
    started = [(row, solved) for row, solved in known if row.get("outcome") == "started"]
    return {
        "failed_rows": len(failed),
        "failed_predicted": sum(1 for _, solved in failed if solved.holds_a_request is False),
        "failed_missed": [str(row["id"]) for row, solved in failed if solved.holds_a_request is not False],
        "started_rows": len(started),
        "contradict_themselves": [
            {"id": str(row["id"]), "outcome": row.get("outcome"), "would_start": solved.holds_a_request}
            for row, solved in odd
        ],
        "started_predicted_failing": [str(row["id"]) for row, solved in started if solved.holds_a_request is False],
    }


def _contradicts_itself(row: Row) -> bool:
    """Whether the parts that the log printed do not make the share that the row names: then one of its figures is of
    another start, and what it says of starting holds for that one."""
    parts = [
        row.get(name) for name in ("weights_gib", "activation_peak_gib", "non_torch_gib", "available_kv_cache_gib")
    ]
    total, share = row.get("gpu_total_gib"), row.get("gpu_memory_utilization")
    if total is None or share is None or any(part is None for part in parts):
        return False
    return bool(abs(sum(float(part or 0) for part in parts) - total * share) > PARTS_TOLERANCE_GIB)


def _baselines(found: Sequence[tuple[Row, Prediction]]) -> dict[str, Any]:
    """What simpler rules make of the same rows: the pool from the share less weights x 1.2 + 2 GiB, less 10 % of weights."""
    rules = {"weights_x_1.2_plus_2_gib": (1.2, 2.0), "weights_x_1.1": (1.1, 0.0), "weights_plus_2_gib": (1.0, 2.0)}
    gaps: dict[str, list[float]] = {name: [] for name in rules}
    for row, each in found:
        printed = row.get("available_kv_cache_gib")
        if printed is None or not each.has_pool or each.solved is None or each.total_gib is None:
            continue
        weights = each.solved.ranks[0].weights.likely / GIB
        budget = each.total_gib * float(each.inputs["gpu_memory_utilization"])
        for name, (factor, more) in rules.items():
            gaps[name].append(abs(budget - weights * factor - more - printed))
    return {
        f"{name}_median_gap_gib": round(statistics.median(each), 2) if each else None for name, each in gaps.items()
    }


def _error(row: Row, predicted: float, printed: float, rounding: float = 0.0) -> dict[str, Any]:
    return {
        "id": str(row["id"]),
        "model": str(row.get("model") or ""),
        "predicted": round(predicted, 4),
        "printed": round(printed, 4),
        "error": round(predicted / printed - 1, 5),
        "rounding": round(rounding, 5),
    }


def _summary(errors: Sequence[dict[str, Any]]) -> dict[str, Any]:
    sizes = [abs(error["error"]) for error in errors]
    outside = [error for error in errors if abs(error["error"]) > SHARE + error["rounding"]]
    return {
        "rows": len(errors),
        "within_1_percent": len(errors) - len(outside),
        "median_error": round(statistics.median(sizes), 5) if sizes else None,
        "worst_error": max(sizes, default=None),
        "outside": outside,
        "each": list(errors),
    }


def _facts(said: Mapping[str, Any]) -> ModelFacts | None:
    name = said["model"]
    return facts_by_name(name, said["quantization"]) if isinstance(name, str) else None


def _usual_total(gpu: str) -> float | None:
    plain = gpu.lower()
    return next((size for pattern, size in CARDS_GIB if re.search(pattern, plain)), None)
