"""Scores the memory formulas against measured llama.cpp logs: `python -m tests.corpus.llamacpp_memory FILE [--engine NAME]`.

Only rows whose log names everything that the first form needs: plain attention, all layers on one card. Weights are taken
as printed (a log has no tensor list), so what is scored is the KV cache and the compute buffer.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from app.core.catalog.facts import ModelFacts
from app.core.memory.load import load_of
from app.core.memory.parts import MIB, compute, kv_cache

DEVICE = re.compile(r"(CUDA|ROCm|Vulkan|Metal)\d*$")
SOFTCAPPED = ("gemma2", "gemma4")


class Score(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    architecture: str
    kv_error_mib: float
    compute_error_mib: float
    sum_error_share: float


def device_sum(buffers: Mapping[str, float] | None) -> float:
    return sum(size for device, size in (buffers or {}).items() if DEVICE.match(device))


def usable(row: Mapping[str, Any]) -> bool:
    needed = ("arch", "n_layer", "n_head", "n_head_kv", "n_embd_head_k", "n_ctx", "n_ubatch", "n_vocab", "n_embd")
    return (
        all(row.get(key) not in (None, "") for key in needed)
        and len([device for device in row["compute_buffers_mib"] or () if DEVICE.match(device)]) == 1
        and row["offloaded_layers"] == row["total_layers"]
        and row["offloaded_layers"] is not None
        and not row["kv_lora_rank"]
        and not row["rs_buffers_mib"]
        and not row["n_swa"]
        and not any(device in ("CPU",) for device in row["kv_buffers_mib"] or ())
        and device_sum(row["kv_buffers_mib"]) > 0
        and device_sum(row["model_buffers_mib"]) > 0.5 * sum((row["model_buffers_mib"] or {}).values())
    )


def per_layer(value: Any, layers: int) -> tuple[int, ...]:
    values = json.loads(value) if isinstance(value, str) else value
    return tuple(values) if isinstance(values, list) else (int(values),) * layers


def score(row: Mapping[str, Any]) -> Score:
    layers = int(row["n_layer"])
    flash = str(row["flash_attn"]) in ("1", "enabled", "on", "auto->enabled")
    facts = ModelFacts(
        path=Path(row["id"]),
        format="gguf",
        name=str(row["model_name"]),
        architecture=row["arch"],
        file_bytes=0,
        weights_bytes=0,
        layers=layers,
        embedding_length=row["n_embd"],
        feed_forward_length=max(per_layer(row["n_ff"] or 0, layers)),
        heads=max(per_layer(row["n_head"], layers)),
        kv_heads=per_layer(row["n_head_kv"], layers),
        key_length=row["n_embd_head_k"],
        value_length=row["n_embd_head_v"] or row["n_embd_head_k"],
        experts_used=row["n_expert_used"] or None,
        expert_feed_forward_length=row["n_ff_exp"],
        logit_softcap=row["arch"] in SOFTCAPPED,
        vocabulary=row["n_vocab"],
    )
    settings = {
        "context_tokens": row["n_ctx"],
        "ubatch_tokens": row["n_ubatch"],
        "slots": row["n_seq_max"] or 1,
        "kv_type_k": row["type_k"],
        "kv_type_v": row["type_v"],
        "flash_attention": "on" if flash else "off",
    }
    load = load_of(facts, settings, family="llama-server", on_gpu=True)
    kv, buffer = sum(kv_cache(facts, load)) / MIB, compute(facts, load).likely / MIB
    printed_kv, printed_buffer = device_sum(row["kv_buffers_mib"]), device_sum(row["compute_buffers_mib"])
    printed = device_sum(row["model_buffers_mib"]) + printed_kv + printed_buffer
    return Score(
        id=row["id"],
        architecture=row["arch"],
        kv_error_mib=kv - printed_kv,
        compute_error_mib=buffer - printed_buffer,
        sum_error_share=(kv + buffer - printed_kv - printed_buffer) / printed,
    )


def scores(file: Path, engine: str) -> Iterator[Score]:
    for line in file.read_text("utf-8").splitlines():
        row = json.loads(line)
        if row["engine"] == engine and usable(row):
            yield score(row)


def by_architecture(found: Iterable[Score]) -> dict[str, tuple[float, float, float]]:
    """Architecture → median absolute errors of KV (MiB), compute (MiB) and the device's sum (share)."""
    groups: dict[str, list[Score]] = defaultdict(list)
    for item in found:
        groups[item.architecture].append(item)
    return {
        name: (
            statistics.median(abs(item.kv_error_mib) for item in group),
            statistics.median(abs(item.compute_error_mib) for item in group),
            statistics.median(abs(item.sum_error_share) for item in group),
        )
        for name, group in sorted(groups.items())
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--engine", default="llama.cpp")
    options = parser.parse_args()
    found = list(scores(options.file, options.engine))
    for item in found:
        print(
            f"{item.id} {item.architecture:12} KV {item.kv_error_mib:+8.2f} MiB  "
            f"compute {item.compute_error_mib:+8.2f} MiB  sum {item.sum_error_share:+.2%}"
        )
    groups = by_architecture(found)
    for name, (kv, buffer, share) in groups.items():
        print(f"{name:12} median: KV {kv:.2f} MiB, compute {buffer:.2f} MiB, sum {share:.2%}")
    if groups:
        mean = statistics.mean(share for _, _, share in groups.values())
        print(f"{len(found)} rows, {len(groups)} architectures, mean of medians: {mean:.2%} of the device's sum")


if __name__ == "__main__":
    main()
