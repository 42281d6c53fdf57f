"""Scores rows of llama.cpp logs: facts and settings of each row go into `plan`, what was measured is compared afterwards.

Only INPUTS reach the planner. A log has no tensor list, so weights by role come from the printed file size, the type's name
and the dimensions. Rows whose log lacks what the formulas need are counted, never guessed at.
"""

from __future__ import annotations

import json
import math
import re
import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from app.core.catalog.facts import GraphFacts, ModelFacts, TensorFacts
from app.core.memory import plan
from app.core.memory.plan_types import DevicePlan, MemoryPlan
from app.core.options import Scalar
from app.core.snapshot import DriverState, Gpus, GpuSample, HostSample

Row = Mapping[str, Any]
MIB, GIB = 1024**2, 1024**3
INPUTS = (
    "id", "engine", "provenance", "model_name", "arch", "file_type", "file_size", "model_params", "n_vocab", "n_ctx_train",
    "n_embd", "n_layer", "n_head", "n_head_kv", "n_embd_head_k", "n_embd_head_v", "n_rot", "n_ff", "n_ff_exp", "n_expert",
    "n_expert_used", "n_expert_shared", "n_layer_dense_lead", "n_swa", "n_swa_pattern", "kv_lora_rank", "ssm_d_conv",
    "ssm_d_inner", "ssm_d_state", "ssm_dt_rank", "ssm_n_group", "n_ctx", "n_batch", "n_ubatch", "n_seq_max", "kv_unified",
    "flash_attn", "mla_attn", "type_k", "type_v", "offloaded_layers", "total_layers", "n_gpu_layers", "tensor_split",
    "devices", "free_mib_at_load", "fit_target_mib", "command",
)  # fmt: skip
DEVICE = re.compile(r"(CUDA|ROCm|HIP|Vulkan|Metal|SYCL|RPC)\d*(_Mapped)?$")
HEADROOM_BYTES = 3 * GIB // 2
PARTS = {
    "weights": "model_buffers_mib",
    "kv_cache": "kv_buffers_mib",
    "state": "rs_buffers_mib",
    "compute": "compute_buffers_mib",
}
BITS = (
    ("BF16", 16.0), ("F16", 16.0), ("F32", 32.0), ("Q8", 8.5), ("Q6_K", 6.5625), ("Q5_K", 5.5), ("Q5_1", 6.0), ("Q5", 5.5),
    ("IQ4_XS", 4.25), ("IQ4", 4.5), ("Q4_1", 5.0), ("MXFP4", 4.25), ("Q4", 4.5), ("IQ3_XXS", 3.4375), ("IQ3", 3.4375),
    ("Q3", 3.4375), ("IQ2", 2.625), ("Q2", 2.625), ("IQ1", 2.625), ("TQ1", 4.5), ("TQ2", 4.5),
)  # fmt: skip
TIED = frozenset(
    ("gemma", "gemma2", "gemma3", "gemma3n", "gemma4", "command-r", "cohere2", "granite", "granitehybrid", "lfm2")
)
UNGATED = frozenset(
    ("gptneox", "starcoder", "starcoder2", "gpt2", "falcon", "phi2", "bloom", "mpt", "bert", "nemotron")
)
SHIFTING = UNGATED | {"command-r", "cohere2", "stablelm"}
PER_LAYER_HEADS = frozenset(("gemma3n", "gemma4"))  # a log prints one layer's heads and dims only
SOFTCAPPED = frozenset(("gemma2", "gemma4", "grok"))
EVERY_FOURTH = frozenset(("qwen3next", "qwen35", "qwen35moe"))
WINDOW_PERIODS = {"gemma2": 2, "gemma3": 6, "gemma3n": 5, "gemma4": 6, "gpt-oss": 2, "cohere2": 4, "llama4": 4}
OF_2026 = re.compile(r"qwen-?3\.[5-9]|gemma-?4|glm-?5|qwen4", re.IGNORECASE)


def inputs_of(row: Row) -> dict[str, Any]:
    """The row without anything that was measured."""
    return {name: row.get(name) for name in INPUTS}


# --- reading columns, whatever form they have ---------------------------------------------------------------------------


def number(value: Any) -> float | None:
    """A number, also of a text that begins with one ("3.84 B"); None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, str) and (found := re.match(r"\s*(-?[\d.]+)\s*([KMBT]?)", value)):
        try:
            return float(found[1]) * {"": 1, "K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}[found[2]]
        except ValueError:
            return None
    return None


def whole(row: Row, name: str) -> int | None:
    """A positive whole number; of a list the largest."""
    values = listed(row.get(name))
    best = max(values, default=None)
    return best if best and best > 0 else None


def listed(value: Any) -> list[int]:
    if isinstance(value, str) and value.strip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError:
            return []
    values = value if isinstance(value, list) else [value]
    found = [number(item) for item in values]
    return [int(item) for item in found if item is not None]


def per_layer(value: Any, layers: int) -> tuple[int, ...]:
    values = listed(value)
    if len(values) == 1:
        return tuple(values) * layers
    return tuple(values[:layers]) if len(values) >= layers else ()


def size_of(value: Any) -> int | None:
    """Bytes of a text such as "16.38 GiB (4.32 BPW)"."""
    found = re.match(r"\s*([\d.]+)\s*([KMGT])i?B", value) if isinstance(value, str) else None
    try:
        return int(float(found[1]) * 1024 ** (" KMGT".index(found[2]))) if found else None
    except ValueError:
        return None


def bits_of(row: Row) -> float | None:
    for name in ("file_type", "model_name", "command"):
        text = str(row.get(name) or "").upper()
        if name == "command":
            text = " ".join(re.findall(r"\S+\.GGUF", text))
        if found := next((bits for begin, bits in BITS if begin in text), None):
            return found
    return None


def device_sum(buffers: Any) -> float:
    if not isinstance(buffers, Mapping):
        return 0.0
    return sum(
        float(size) for device, size in buffers.items() if DEVICE.match(str(device)) and number(size) is not None
    )


def cards_of(row: Row) -> int:
    """How many cards the engine was given, by what it printed of them or was told."""
    split = str(row.get("tensor_split") or "")
    free = row.get("free_mib_at_load")
    devices = row.get("devices")
    counts = [
        len([part for part in split.split(",") if number(part)]) if split else 0,
        len([name for name in free if DEVICE.match(str(name))]) if isinstance(free, Mapping) else 0,
        len(devices) if isinstance(devices, list) else 0,
    ]
    command = str(row.get("command") or "")
    if visible := re.search(r"CUDA_VISIBLE_DEVICES=[\"']?([\d,]+)", command):
        return max(1, len([each for each in visible[1].split(",") if each]))
    targets = {int(found) for found in re.findall(r"=CUDA(\d{1,2})\b", command)}
    return min(64, max(1, *counts, max(targets, default=0) + 1))


def placement_told(row: Row) -> bool:
    """Whether the row says where everything lies. Experts can be in main memory although all layers count as offloaded;
    then only a command says so, and only one that is whole and of this very log."""
    command = str(row.get("command") or "")
    if whole(row, "n_expert") and not (command and "..." not in command):
        return False
    offloaded, total, given = (number(row.get(name)) for name in ("offloaded_layers", "total_layers", "n_gpu_layers"))
    if offloaded is None and given is None:
        return False
    for pattern, name in (
        (r"(?:\s-c|--ctx-size)[ =]+(\d+)", "n_ctx"),
        (r"(?:\s-ub|--ubatch-size)[ =]+(\d+)", "n_ubatch"),
    ):
        said, printed = re.search(pattern, command), whole(row, name)
        if said and printed and abs(int(said[1]) - printed) >= 256:
            return False
    layers = re.search(r"(?:-ngl|--n-gpu-layers|--gpu-layers)[ =]+(\d+)", command)
    if layers and offloaded is not None and total is not None and min(int(layers[1]), total) != offloaded:
        return False
    return not (whole(row, "n_expert") and offloaded and not layers and given is None)


# --- facts and settings -------------------------------------------------------------------------------------------------


def facts_of(row: Row) -> ModelFacts | None:
    """What the log printed of the model; None where it does not say what the formulas need."""
    layers, width, arch = whole(row, "n_layer"), whole(row, "n_embd"), str(row.get("arch") or "unknown")
    heads, vocabulary = whole(row, "n_head"), whole(row, "n_vocab")
    if not layers or not width or not vocabulary or layers > 4096:
        return None
    per_head = width // heads if heads else None
    kv_heads = per_layer(row.get("n_head_kv") if row.get("n_head_kv") is not None else row.get("n_head"), layers)
    rank, rotated = whole(row, "kv_lora_rank"), whole(row, "n_rot") or 64
    stateful: tuple[bool, ...] = ()
    inner, state, groups = (
        whole(row, "ssm_d_inner") or 0,
        whole(row, "ssm_d_state") or 0,
        whole(row, "ssm_n_group") or 0,
    )
    convolution = whole(row, "ssm_d_conv") or 0
    if inner and state:
        every = 4 if arch in EVERY_FOURTH and all(kv_heads) else 0
        if every:
            kv_heads = tuple(count if layer % every == every - 1 else 0 for layer, count in enumerate(kv_heads))
        stateful = tuple(not count for count in kv_heads)
    state_bytes = 4 * ((convolution - 1) * (inner + 2 * groups * state) + state * inner) * sum(stateful) if inner else 0
    window, windowed = window_of(row, arch, layers)
    used = whole(row, "n_expert_used")
    key_length = whole(row, "n_embd_head_k") or per_head
    shared = (whole(row, "n_expert_shared") or 0) * (whole(row, "n_ff_exp") or 0)
    lead = whole(row, "n_layer_dense_lead") or 0
    if rank and fork(row) and str(row.get("mla_attn")) in ("0", "False"):  # the fork without MLA caches every head
        kv_heads = (heads or 1,) * layers
    compressed = "ckv" in str(row.get("type_k")).lower()
    latent = bool(rank) and (compressed or str(row.get("mla_attn")) not in ("0", "0.0", "False"))
    if latent:
        kv_heads = (1,) * layers
    facts = ModelFacts(
        path=Path(str(row.get("id") or "row")),
        format="gguf",
        name=str(row.get("model_name") or arch),
        architecture=arch,
        file_bytes=0,
        weights_bytes=0,
        layers=layers,
        embedding_length=width,
        feed_forward_length=whole(row, "n_ff"),
        heads=heads,
        kv_heads=kv_heads,
        key_length=(rank or 0) + rotated if latent else key_length,
        value_length=whole(row, "n_embd_head_v") or key_length,
        sliding_window=window,
        windowed_layers=windowed,
        latent_kv=latent,
        recurrent_state_bytes=state_bytes,
        logit_softcap=arch in SOFTCAPPED,
        experts=whole(row, "n_expert"),
        experts_used=used,
        expert_feed_forward_length=whole(row, "n_ff_exp") or (whole(row, "n_ff") if used else None),
        vocabulary=vocabulary,
        context_max=whole(row, "n_ctx_train"),
        graph=GraphFacts(
            fused_attention=arch in ("phi3", "gptneox", "falcon"),
            fused_gate=arch in ("phi3", "glm4", "chatglm"),
            gated_attention=arch in EVERY_FOURTH,
            ungated=arch in UNGATED,
            shifting_norm=arch in SHIFTING,
            parallel=arch in ("falcon", "gptneox", "command-r", "cohere2", "phi2"),
            shared_expert_length=shared,
            expert_layers=tuple(layer >= lead for layer in range(layers)) if used else (),
            ahead_layers=1 if arch == "glm4moe" and not fork(row) else 0,
            state_layers=stateful,
            state_kind=("delta" if arch in EVERY_FOURTH else "mamba2") if any(stateful) else "",
            state_inner=inner,
            state_size=state,
            state_groups=groups,
            state_heads=whole(row, "ssm_dt_rank") or 0,
            convolution=convolution,
            latent_rank=rank or 0 if latent else 0,
            latent_query=1536 if latent else 0,
            rope_length=rotated,
            latent_key_length=key_length or 0,
            latent_value_length=whole(row, "n_embd_head_v") or 0,
        ),
    )
    return with_weights(row, facts)


def window_of(row: Row, arch: str, layers: int) -> tuple[int | None, tuple[bool, ...]]:
    """The fork and the builds before mid-2025 cache the whole context in every layer."""
    window = whole(row, "n_swa")
    period = whole(row, "n_swa_pattern") or 0
    period = period if period > 1 else WINDOW_PERIODS.get(arch, 0)
    if not window or not period or fork(row) or (build_of(row) == 5_000 and arch in ("gemma2", "gemma3", "cohere2")):
        return None, ()
    return window, tuple(layer % period < period - 1 for layer in range(layers))


def with_weights(row: Row, facts: ModelFacts) -> ModelFacts:
    """Shares the file's size among embedding, output and layers: by dimensions, embedding and output by their usual type."""
    import msgspec

    layers, width, vocabulary = facts.layers or 0, facts.embedding_length or 0, facts.vocabulary or 0
    table = width * vocabulary
    attention = width * ((facts.heads or 1) * (facts.key_length or 64) * 2)
    if not facts.latent_kv:
        attention += width * max(facts.kv_heads, default=0) * ((facts.key_length or 0) + (facts.value_length or 0))
    inner = (facts.feed_forward_length or 0) * width * (2 if facts.graph.ungated else 3)
    expert = width * (facts.expert_feed_forward_length or 0)
    flags = facts.graph.expert_layers or (False,) * layers
    experts = [3 * expert * (facts.experts or 0) if flag else 0 for flag in flags]
    shared = 3 * width * facts.graph.shared_expert_length
    others = [attention + (shared if flag else inner) for flag in flags]
    counted = sum(experts) + sum(others)
    parameters = number(row.get("model_params"))
    tied = facts.architecture in TIED
    if parameters:
        tied = abs(parameters - counted - table) < abs(parameters - counted - 2 * table)
    bits = bits_of(row) or 4.5
    total = size_of(row.get("file_size")) or int((parameters or counted + 2 * table) * bits * 1.016 / 8)
    whole_bits = bits if bits >= 6.5 else 6.5625
    embedding = int(table * (whole_bits if tied else bits) / 8)
    output = 0 if tied else int(table * whole_bits / 8)
    rest = max(0, total - embedding - output)
    density = rest / counted if counted else 0.0
    tensors = [TensorFacts(role="embedding", layer=None, type="", bytes=embedding, largest_bytes=embedding)]
    if output:
        tensors.append(TensorFacts(role="output", layer=None, type="", bytes=output, largest_bytes=output))
    for layer in range(layers):
        largest = max(attention // 2, shared // 3 if flags[layer] else inner // 3)
        tensors.append(
            TensorFacts(
                role="layer",
                layer=layer,
                type="",
                bytes=int(others[layer] * density),
                largest_bytes=int(largest * density),
            )
        )
        if experts[layer]:
            size = int(experts[layer] * density)
            tensors.append(TensorFacts(role="expert", layer=layer, type="", bytes=size, largest_bytes=size // 3))
    return msgspec.structs.replace(
        facts,
        weights_bytes=sum(tensor.bytes for tensor in tensors),
        file_bytes=total,
        tensors=tuple(tensors),
        tied_embeddings=tied,
        parameters=int(parameters) if parameters else None,
    )


def fork(row: Row) -> bool:
    return "ik_" in str(row.get("engine") or "")


def build_of(row: Row) -> int | None:
    """The kind of build by what the log says: models of 2026, words that builds since mid-2025 print, else an older one."""
    if fork(row):
        return 5_000
    if OF_2026.search(f"{row.get('model_name')} {row.get('arch')}"):
        return None
    newer = row.get("kv_unified") is not None or row.get("fit_target_mib") is not None
    return 7_000 if newer or "enabled" in str(row.get("flash_attn")) else 5_000


def settings_of(row: Row, facts: ModelFacts) -> dict[str, Scalar]:
    command = str(row.get("command") or "")
    flash = str(row.get("flash_attn")).lower()
    found: dict[str, Scalar] = {
        "context_tokens": whole(row, "n_ctx") or 4_096,
        "ubatch_tokens": whole(row, "n_ubatch") or 512,
        "batch_tokens": whole(row, "n_batch") or 2_048,
        "slots": whole(row, "n_seq_max") or 1,
        "cards_stay_visible": True,
        "kv_unified": str(row.get("kv_unified")).lower() != "false",
        "kv_type_k": str(row.get("type_k") or "f16").lower().rpartition(":")[2],  # the fork says "cKV:q8_0"
        "kv_type_v": str(row.get("type_v") or row.get("type_k") or "f16").lower().rpartition(":")[2],
        "flash_attention": "on" if flash in ("1", "1.0", "on", "true", "enabled", "auto->enabled") else "off",
    }
    offloaded, total = number(row.get("offloaded_layers")), number(row.get("total_layers"))
    given = number(row.get("n_gpu_layers"))
    if offloaded is not None:
        found["gpu_layers"] = 10_000 if total is not None and offloaded >= total else int(offloaded)
    elif given is not None:
        found["gpu_layers"] = max(0, int(given)) if given >= 0 else 10_000
    if split := row.get("tensor_split"):
        found["tensor_split"] = str(split)
    rules = [
        rule.strip("\"'") for rule in re.findall(r"(?:-ot|--override-tensor)[ =]+(\"[^\"]*\"|'[^']*'|\S+)", command)
    ]
    if rules:
        found["override_tensor"] = ",".join(rule.replace("\\\\", "\\") for rule in rules)
    if experts := re.search(r"(?:-ncmoe|--n-cpu-moe)[ =]+(\d+)", command):
        found["cpu_expert_layers"] = int(experts[1])
    elif re.search(r"--cpu-moe|-cmoe\b", command):
        found["cpu_expert_layers"] = facts.layers or 0
    if "--no-kv-offload" in command or "-nkvo" in command:
        found["kv_on_gpu"] = False
    if "--swa-full" in command:
        found["sliding_window_full"] = True
    return found


def planned(row: Row) -> tuple[ModelFacts, MemoryPlan] | None:
    """The plan of a row's inputs; None where the log does not say enough."""
    row = inputs_of(row)
    facts = facts_of(row)
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


def free_of(row: Row) -> list[int]:
    """What was free on each card before the load: it decides how layers are spread."""
    free = row.get("free_mib_at_load")
    told = [number(size) for name, size in free.items() if DEVICE.match(str(name))] if isinstance(free, Mapping) else []
    found = [int((size or 0) * MIB) or GIB for size in told]
    return [*found, *[found[-1] if found else 1024 * GIB] * (cards_of(row) - len(found))]


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


def compared(row: Row) -> dict[str, Any] | None:
    found = planned(row)
    if found is None:
        return None
    facts, result = found
    errors: dict[str, float] = {}
    caches: dict[str, float | None] = {}
    for part, column in PARTS.items():
        if isinstance(row.get(column), Mapping):
            if part == "kv_cache" and (row.get("type_k") in (None, "") or facts.architecture in PER_LAYER_HEADS):
                continue  # the row does not carry the facts for it
            if part in ("kv_cache", "state"):  # exact wherever it lies, so all devices together
                printed = sum(number(size) or 0.0 for size in row[column].values())
                predicted = everywhere(result.devices, part)
                if part == "kv_cache" and fork(row):  # it keeps states in the same buffer
                    predicted += everywhere(result.devices, "state")
                caches[part] = _share(predicted - printed, printed)
            errors[part] = on_cards(result.devices, part) - device_sum(row[column])
    complete = all(isinstance(row.get(PARTS[part]), Mapping) for part in ("weights", "kv_cache", "compute"))
    given = inputs_of(row)
    told = placement_told(given) and (size_of(row.get("file_size")) is not None or bits_of(given) is not None)
    measured = sum(device_sum(row.get(column)) for column in PARTS.values())
    likely = on_cards(result.devices)
    highs = sum(device.high_bytes for device in result.devices if device.device != "host") / MIB
    kv = facts.layers and sum(facts.kv_heads) * ((facts.key_length or 0) + (facts.value_length or 0)) * 2
    flat = (kv or 0) * (whole(row, "n_ctx") or 0) / MIB
    offloaded, total = number(row.get("offloaded_layers")), number(row.get("total_layers"))
    on_host = str(row.get("command") or "")
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
        "told": told and facts.architecture not in PER_LAYER_HEADS,
        "errors_mib": {name: round(value, 2) for name, value in errors.items()},
        "kv_share": caches.get("kv_cache"),
        "state_share": caches.get("state"),
        "compute_share": _share(errors.get("compute"), device_sum(row.get("compute_buffers_mib"))),
        "weights_share": _share(errors.get("weights"), device_sum(row.get("model_buffers_mib"))),
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


def score(rows: Sequence[Row]) -> dict[str, Any]:
    """Part by part, mainline apart from the fork; never raises for what a row lacks."""
    found: list[dict[str, Any]] = []
    failed: list[str] = []
    for row in rows:
        try:
            compared_row = compared(row)
        except (ValueError, TypeError, KeyError, ArithmeticError) as error:
            failed.append(f"{row.get('id')}: {type(error).__name__}: {error}")
            continue
        if compared_row is not None:
            found.append(compared_row)
    result: dict[str, Any] = {"rows": len(rows), "planned": len(found), "unreadable": failed}

    def told(name: str, chosen: Callable[[Mapping[str, Any]], bool]) -> None:
        picked = [row for row in found if chosen(row)]
        full = [row for row in picked if row["complete"] and not row["partial"] and row["told"]]
        split = [row for row in picked if row["partial"] and row["sum_share"] is not None and row["told"]]
        result[name] = {
            "kv_cache": spread([row["kv_share"] for row in picked if row["kv_share"] is not None]),
            "state": spread([row["state_share"] for row in picked if row["state_share"] is not None]),
            "weights": spread([row["weights_share"] for row in full if row["weights_share"] is not None]),
            "compute": spread([row["compute_share"] for row in full if row["compute_share"] is not None]),
            "placement_or_size_not_told": sum(1 for row in picked if not row["told"]),
            "full_offload_sum": spread([row["sum_share"] for row in full]) | macro(full, "sum_share"),
            "split_sum": spread([row["sum_share"] for row in split]) | macro(split, "sum_share"),
            "baseline_file_x_1_2": spread([row["file_x_1_2"] for row in full]),
            "baseline_file_flat_kv_500_mib": spread([row["file_flat_kv"] for row in full]),
        }

    told("mainline", lambda row: row["engine"] == "mainline")
    told("fork", lambda row: row["engine"] == "fork")
    told("pooled", lambda row: True)
    result["under_predictions"] = [
        {"id": row["id"], "arch": row["arch"], "below_high_bound_mib": round(row["under_mib"], 1)}
        for row in found
        if row["under_mib"] > 0 and row["told"]
    ]
    result["under_by_more_than_the_headroom"] = sum(
        1 for row in found if row["told"] and row["under_mib"] * MIB > HEADROOM_BYTES
    )
    result["each"] = found
    return result
