"""Makes the settings and cards of a load out of what a log and its command say."""

from __future__ import annotations

import re
from collections.abc import Mapping

from app.core.catalog.facts import ModelFacts
from app.core.options import Scalar
from tests.corpus.columns import DEVICE, GIB, MIB, Row, number, whole
from tests.corpus.llamacpp_facts import expands_latents, flash, fork
from tests.corpus.llamacpp_told import card_gib, command_of


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
    command = command_of(row)
    if visible := re.search(r"CUDA_VISIBLE_DEVICES=[\"']?([\d,]+)", command):
        return max(1, len([each for each in visible[1].split(",") if each]))
    targets = {int(found) for found in re.findall(r"=CUDA(\d{1,2})\b", command)}
    main = re.search(r"(?:\s-mg|--main-gpu)[ =]+(\d{1,2})\b", command)
    return min(64, max(1, *counts, max(targets, default=0) + 1, int(main[1]) + 1 if main else 1))


UNTOLD_PIECE_MIB = 1_024  # people ask for 512 to 2048


def attention_piece(row: Row, facts: ModelFacts, command: str) -> int:
    """The fork's bound on one attention tensor, in MiB; 0: none. A log does not print it: where no command says it and the
    whole would not fit a card that the log names, it was bounded."""
    if not fork(row):
        return 0
    if told := re.search(r"\s-amb[ =]+(\d+)", command):
        return int(told[1])
    cells = whole(row, "n_ctx") or 0
    tokens = min(whole(row, "n_ubatch") or 512, cells)
    lengths = 256 if expands_latents(row) else tokens
    heads = facts.heads or 0
    unknown = facts.latent_kv and not command
    largest = heads * cells * lengths * 4
    return UNTOLD_PIECE_MIB if unknown and largest > 0.25 * max(card_gib(row), default=0.0) * GIB > 0 else 0


def settings_of(row: Row, facts: ModelFacts) -> dict[str, Scalar]:
    command = command_of(row)
    found: dict[str, Scalar] = {
        "context_tokens": whole(row, "n_ctx") or 4_096,
        "ubatch_tokens": whole(row, "n_ubatch") or 512,
        "batch_tokens": whole(row, "n_batch") or 2_048,
        "slots": whole(row, "n_seq_max") or 1,
        "cards_stay_visible": named_a_card(row),
        "kv_unified": str(row.get("kv_unified")).lower() != "false",
        "kv_type_k": str(row.get("type_k") or "f16").lower().rpartition(":")[2],  # the fork says "cKV:q8_0"
        "kv_type_v": str(row.get("type_v") or row.get("type_k") or "f16").lower().rpartition(":")[2],
        "flash_attention": "on" if flash(row) else "off",
    }
    offloaded, total = number(row.get("offloaded_layers")), number(row.get("total_layers"))
    given = number(row.get("n_gpu_layers"))
    if offloaded is not None:
        found["gpu_layers"] = 10_000 if total is not None and offloaded >= total else int(offloaded)
    elif given is None and not row.get("devices"):
        found["gpu_layers"] = 0
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
    if fork(row) and re.search(r"\s(-rtr|--run-time-repack)\b", command):
        found["op_offload"] = False  # rearranged weights are never sent to a card
    if expands_latents(row):
        found["expanded_latents"] = True
    if fork(row) and whole(row, "kv_lora_rank") and number(row.get("mla_attn")) == 1 and not flash(row):
        found["latents_twice"] = True
    if piece := attention_piece(row, facts, command):
        found["attention_piece_mib"] = piece
    if "--swa-full" in command:
        found["sliding_window_full"] = True
    return found


def named_a_card(row: Row) -> bool:
    """Whether anything in the log says that there is a card at all."""
    names = ("devices", "offloaded_layers", "n_gpu_layers", "free_mib_at_load", "tensor_split")
    return any(row.get(name) not in (None, "", [], {}) for name in names)


def free_of(row: Row) -> list[int]:
    """What was free on each card before the load: it decides how layers are spread."""
    free = row.get("free_mib_at_load")
    told = [number(size) for name, size in free.items() if DEVICE.match(str(name))] if isinstance(free, Mapping) else []
    found = [int((size or 0) * MIB) or GIB for size in told]
    return [*found, *[found[-1] if found else 1024 * GIB] * (cards_of(row) - len(found))]
