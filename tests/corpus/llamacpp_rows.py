"""Scores rows of llama.cpp logs: facts and settings of each row go into `plan`, what was measured is compared afterwards.

Only INPUTS reach the planner. A log has no tensor list, so weights by role come from the printed file size, the type's name
and the dimensions. Rows whose log lacks what the formulas need are counted, never guessed at.
"""

from __future__ import annotations

import math
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from app.core.catalog.facts import ModelFacts
from app.core.memory import plan
from app.core.memory.plan_types import DevicePlan, MemoryPlan
from app.core.snapshot import DriverState, Gpus, GpuSample, HostSample
from tests.corpus.columns import GIB, MIB, Row, device_sum, number, size_of, whole
from tests.corpus.llamacpp_facts import CHOSEN, PER_LAYER_HEADS, Bits, build_of, facts_of, fork, missing_facts
from tests.corpus.llamacpp_settings import cards_of, free_of, settings_of
from tests.corpus.llamacpp_told import OTHER_LAYERS, command_of, too_large_for, why_untold

INPUTS = (
    "id", "engine", "provenance", "model_name", "arch", "file_type", "file_size", "model_params", "n_vocab", "n_ctx_train",
    "n_embd", "n_layer", "n_head", "n_head_kv", "n_embd_head_k", "n_embd_head_v", "n_rot", "n_ff", "n_ff_exp", "n_expert",
    "n_expert_used", "n_expert_shared", "n_layer_dense_lead", "n_swa", "n_swa_pattern", "kv_lora_rank", "ssm_d_conv",
    "ssm_d_inner", "ssm_d_state", "ssm_dt_rank", "ssm_n_group", "n_ctx", "n_batch", "n_ubatch", "n_seq_max", "kv_unified",
    "flash_attn", "mla_attn", "type_k", "type_v", "offloaded_layers", "total_layers", "n_gpu_layers", "tensor_split",
    "devices", "free_mib_at_load", "fit_target_mib", "command",
)  # fmt: skip
HEADROOM_BYTES = 3 * GIB // 2  # of each card
REPEATED = 0.01  # how far the weights of a log may be from whole times the file
PARTS = {
    "weights": "model_buffers_mib",
    "kv_cache": "kv_buffers_mib",
    "state": "rs_buffers_mib",
    "compute": "compute_buffers_mib",
}


def inputs_of(row: Row) -> dict[str, Any]:
    """The row without anything that was measured."""
    return {name: row.get(name) for name in INPUTS}


def planned(row: Row, bits: Bits = CHOSEN) -> tuple[ModelFacts, MemoryPlan] | None:
    """The plan of a row's inputs; None where the log does not say enough."""
    row = inputs_of(row)
    facts = facts_of(row, bits)
    if facts is None:
        return None
    cards = tuple(
        GpuSample(
            uuid=f"GPU-{n}", index=n, name="card", total_bytes=1024 * GIB, used_bytes=0, free_bytes=free, processes=()
        )
        for n, free in enumerate(free_of(row))
    )
    host = HostSample(total_bytes=2048 * GIB, available_bytes=2048 * GIB)
    result = plan(
        facts,
        settings_of(row, facts),
        family="llama-server",
        accelerator="cuda",
        gpus=Gpus(driver=DriverState.OK, gpus=cards, host=host),
        headroom_bytes=0,
        host_headroom_bytes=0,
        threshold=1.0,
        engine_build=build_of(row),
        solve=False,
    )
    return (facts, result) if result.devices else None


# --- comparing ----------------------------------------------------------------------------------------------------------


def on_cards(devices: Sequence[DevicePlan], part: str | None = None) -> float:
    return (
        sum(
            each.bytes
            for device in devices
            if device.device != "host"
            for each in device.parts
            if (each.name == part if part else each.name in PARTS)
        )
        / MIB
    )


def everywhere(devices: Sequence[DevicePlan], part: str) -> float:
    return sum(each.bytes for device in devices for each in device.parts if each.name == part) / MIB


def loads_in_one(row: Row) -> int:
    """How many loads the column of weights adds up: the printed weights are so many times the file, though none of them is
    a mapping (the rows' own `model_sum_over_file`). What was measured is of one load then; the score names such rows."""
    buffers, size = row.get("model_buffers_mib"), size_of(row.get("file_size"))
    if not isinstance(buffers, Mapping) or not size or any("Mapped" in str(name) for name in buffers):
        return 1
    times = sum(number(each) or 0.0 for each in buffers.values()) * MIB / size
    return round(times) if times >= 1.5 and abs(times / round(times) - 1) <= REPEATED else 1


def measured_on_cards(row: Row, part: str) -> float:
    """MiB of a part on the cards, as the log of one load has it."""
    return device_sum(row.get(PARTS[part])) / (loads_in_one(row) if part == "weights" else 1)


def measured_on_host(row: Row) -> float | None:
    """MiB in main memory of a load that put nothing on a card; None where a part is not printed."""
    columns = [row.get(PARTS[part]) for part in ("weights", "kv_cache", "compute")]
    if not all(isinstance(column, Mapping) and not device_sum(column) for column in columns):
        return None
    sums = [sum(number(size) or 0.0 for size in column.values()) for column in columns if isinstance(column, Mapping)]
    return sums[0] / loads_in_one(row) + sums[1] + sums[2] if all(sums) else None


def untold(given: Row, facts: ModelFacts, result: MemoryPlan) -> str | None:
    """Why the sums of this row cannot be priced from its inputs; None where they can."""
    if reason := why_untold(given):
        return reason
    if facts.architecture in PER_LAYER_HEADS:
        return "a log prints one layer's heads and dimensions only, and this model's layers differ"
    cards = [device.parts for device in result.devices if device.device != "host"]
    held = [sum(part.bytes for part in parts if part.name == "weights") for parts in cards]
    if command_of(given) and too_large_for(given, held):
        return "the command's weights exceed the cards that the log names: two runs in one row"
    return None


def compared(row: Row, bits: Bits = CHOSEN) -> dict[str, Any] | None:
    found = planned(row, bits)
    if found is None:
        return None
    facts, result = found
    given = inputs_of(row)
    reason = untold(given, facts, result)
    errors: dict[str, float] = {}
    caches: dict[str, float | None] = {}
    for part, column in PARTS.items():
        if isinstance(row.get(column), Mapping):
            if part == "kv_cache" and (
                reason == OTHER_LAYERS or row.get("type_k") in (None, "") or facts.architecture in PER_LAYER_HEADS
            ):
                continue  # the row does not carry the facts for it
            if part in ("kv_cache", "state"):  # exact wherever it lies, so all devices together
                printed = sum(number(size) or 0.0 for size in row[column].values())
                predicted = everywhere(result.devices, part)
                if part == "kv_cache" and fork(row):  # it keeps states in the same buffer
                    predicted += everywhere(result.devices, "state")
                caches[part] = _share(predicted - printed, printed)
            errors[part] = on_cards(result.devices, part) - measured_on_cards(row, part)
    complete = all(isinstance(row.get(PARTS[part]), Mapping) for part in ("weights", "kv_cache", "compute"))
    measured = sum(measured_on_cards(row, part) for part in PARTS)
    in_memory = measured_on_host(row) if not measured else None
    held = sum(everywhere(result.devices, part) for part in PARTS)
    likely = on_cards(result.devices)
    highs = sum(device.high_bytes for device in result.devices if device.device != "host") / MIB
    kv = facts.layers and sum(facts.kv_heads) * ((facts.key_length or 0) + (facts.value_length or 0)) * 2
    flat = (kv or 0) * (whole(row, "n_ctx") or 0) / MIB
    offloaded, total = number(row.get("offloaded_layers")), number(row.get("total_layers"))
    on_host = command_of(given)
    partial = (
        offloaded is None
        or total is None
        or offloaded < total
        or bool(re.search(r"-ot\b|override-tensor|cpu-moe|-ncmoe", on_host))
        or cards_of(inputs_of(row)) > 1
    )
    return {
        "id": str(row.get("id")),
        "arch": facts.architecture,
        "engine": "fork" if fork(row) else "mainline",
        "complete": complete and measured > 0 and str(row.get("provenance")) == "full startup log",
        "partial": partial,
        "told": reason is None,
        "not_told": reason,
        "loads_in_one": loads_in_one(row),
        "host_share": (held - in_memory) / in_memory if in_memory else None,
        "cards": sum(1 for device in result.devices if device.device != "host") or 1,
        "errors_mib": {name: round(value, 2) for name, value in errors.items()},
        "kv_share": caches.get("kv_cache"),
        "state_share": caches.get("state"),
        "compute_share": _share(errors.get("compute"), device_sum(row.get("compute_buffers_mib"))),
        "weights_share": _share(errors.get("weights"), measured_on_cards(row, "weights")),
        "sum_share": (likely - measured) / measured if measured and complete else None,
        "sum_error_mib": likely - measured if measured and complete else None,
        "under_mib": max(0.0, measured - highs) if measured and complete else 0.0,
        "file_x_1_2": (facts.file_bytes * 1.2 / MIB - measured) / measured if measured and complete else None,
        "file_flat_kv": (facts.file_bytes / MIB + flat + 500 - measured) / measured if measured and complete else None,
    }


def _share(error: float | None, printed: float) -> float | None:
    return None if error is None or printed <= 0 else error / printed


def spread(values: Sequence[float]) -> dict[str, float | int]:
    """Of the errors' sizes: how many, median, 95th percentile, largest; as shares of what was printed."""
    sizes = sorted(abs(value) for value in values)
    if not sizes:
        return {"rows": 0}
    return {
        "rows": len(sizes),
        "median": round(statistics.median(sizes), 5),
        "p95": round(sizes[min(len(sizes) - 1, math.ceil(0.95 * len(sizes)) - 1)], 5),
        "max": round(sizes[-1], 5),
    }


def macro(rows: Sequence[Mapping[str, Any]], column: str) -> dict[str, Any]:
    """By architecture, and the median of the architectures' medians."""
    groups: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if row[column] is not None:
            groups[row["arch"]].append(abs(row[column]))
    medians = {name: round(statistics.median(values), 5) for name, values in sorted(groups.items())}
    return {
        "by_architecture": medians,
        "macro_median": round(statistics.median(medians.values()), 5) if medians else None,
    }


CHOICES = {"recipe": (4.5, 5.5, 6.5, 8.5), "dense": (3.5, 4.5, 5.5, 6.5), "output": (4.5, 5.5, 6.5625, 8.5)}


def held_out(rows: Sequence[Row]) -> dict[str, Any]:
    """Every chosen constant once more: for each architecture the value that is best for all others, scored on this one."""
    found: dict[str, Any] = {}
    for name, values in CHOICES.items():
        errors: dict[float, dict[str, list[float]]] = {}
        for value in values:
            groups: dict[str, list[float]] = defaultdict(list)
            for row in rows:
                try:
                    scored = compared(row, msgspec.structs.replace(CHOSEN, **{name: value}))
                except (ValueError, TypeError, KeyError, ArithmeticError):
                    continue
                if scored and scored["told"] and scored["sum_share"] is not None:
                    groups[scored["arch"]].append(abs(scored["sum_share"]))
            errors[value] = groups
        picked: dict[str, float] = {}
        held: list[float] = []
        for arch in errors[values[0]]:
            others = {
                value: [statistics.fmean(each) for other, each in groups.items() if other != arch]
                for value, groups in errors.items()
            }
            best = min(values, key=lambda value: statistics.fmean(others[value] or [0.0]))
            picked[arch] = best
            held += errors[best].get(arch, [])
        found[name] = {"used": getattr(CHOSEN, name), "picked": picked, "sum": spread(held)}
    return found


def score(rows: Sequence[Row]) -> dict[str, Any]:
    """Part by part, mainline apart from the fork; never raises for what a row lacks."""
    found: list[dict[str, Any]] = []
    failed: list[str] = []
    unplanned: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        try:
            compared_row = compared(row)
            if compared_row is None:
                unplanned[missing_facts(row) or "not described fully"].append(str(row.get("id")))
        except (ValueError, TypeError, KeyError, ArithmeticError) as error:
            failed.append(f"{row.get('id')}: {type(error).__name__}: {error}")
            continue
        if compared_row is not None:
            found.append(compared_row)
    result: dict[str, Any] = {"rows": len(rows), "planned": len(found), "unreadable": failed}
    result["not_planned"] = {reason: len(ids) for reason, ids in unplanned.items()}
    result["not_planned_rows"] = [{"reason": reason, "ids": ids} for reason, ids in unplanned.items()]
    result["several_loads_in_one"] = [row["id"] for row in found if row["loads_in_one"] > 1]

    def told(name: str, chosen: Callable[[Mapping[str, Any]], bool]) -> None:
        picked = [row for row in found if chosen(row)]
        full = [row for row in picked if row["complete"] and not row["partial"] and row["told"]]
        split = [row for row in picked if row["partial"] and row["sum_share"] is not None and row["told"]]
        result[name] = {
            "kv_cache": spread([row["kv_share"] for row in picked if row["kv_share"] is not None]),
            "state": spread([row["state_share"] for row in picked if row["state_share"] is not None]),
            "weights": spread([row["weights_share"] for row in full if row["weights_share"] is not None]),
            "compute": spread([row["compute_share"] for row in full if row["compute_share"] is not None]),
            "nothing_on_a_card": sum(1 for row in picked if row["told"] and row["sum_share"] is None),
            "not_told": dict(Counter(row["not_told"] for row in picked if not row["told"]).most_common()),
            "full_offload_sum": spread([row["sum_share"] for row in full]) | macro(full, "sum_share"),
            "split_sum": spread([row["sum_share"] for row in split]) | macro(split, "sum_share"),
            "split_sum_without_repeated_loads": spread([row["sum_share"] for row in split if row["loads_in_one"] == 1]),
            "main_memory_sum": spread(
                [row["host_share"] for row in picked if row["told"] and row["host_share"] is not None]
            ),
            "baseline_file_x_1_2": spread([row["file_x_1_2"] for row in full]),
            "baseline_file_flat_kv_500_mib": spread([row["file_flat_kv"] for row in full]),
        }

    told("mainline", lambda row: row["engine"] == "mainline")
    told("fork", lambda row: row["engine"] == "fork")
    told("pooled", lambda row: True)
    result["under_predictions"] = [
        {
            "id": row["id"],
            "arch": row["arch"],
            "below_high_bound_mib": round(row["under_mib"], 1),
            "cards": row["cards"],
            "loads_in_one": row["loads_in_one"],
        }
        for row in found
        if row["under_mib"] > 0 and row["told"]
    ]
    result["held_out"] = held_out(rows)
    result["under_by_more_than_the_headroom"] = sum(
        1 for row in found if row["told"] and row["under_mib"] * MIB > HEADROOM_BYTES * row["cards"]
    )
    result["each"] = found
    return result
