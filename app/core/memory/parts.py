"""Knows how much each part of a llama.cpp load takes: one function per part, facts and settings in, bytes out.

Formulas and what they were checked on: vram.md sections 1 (weights), 2 (cache), 3 (compute), 3.1 (context);
llamacpp.md section 7 (repacked weights on the CPU).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from app.core.catalog.facts import ModelFacts
from app.core.memory.load import CELL_STEP, KV_TYPE_BYTES, Load
from app.core.memory.remembered import once_per_model

MIB = 1024**2
F32, F16 = 4, 2

# What a GPU context with the engine's kernels takes, beyond any buffer that the engine prints: low, likely, high.
CONTEXT_BYTES = {
    "cuda": (250 * MIB, 457 * MIB, 512 * MIB),
    "rocm": (200 * MIB, 400 * MIB, 512 * MIB),
    "vulkan": (50 * MIB, 150 * MIB, 300 * MIB),
}
PROCESS_BYTES = {"cpu": 64 * MIB}  # code and heap of the server itself, in main memory
GPU_PROCESS_BYTES = 400 * MIB  # a GPU runtime's libraries come on top

# Types that llama.cpp rearranges into anonymous memory on common x86 CPUs, beside the mapped file.
REPACKED_TYPES = frozenset(("Q4_0", "Q4_K", "Q2_K", "IQ4_NL"))


class Weights(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes by where llama.cpp puts them. `layers` holds everything of a layer, `experts` how much of it is experts."""

    layers: tuple[int, ...]
    experts: tuple[int, ...]
    largest: tuple[int, ...]  # the largest tensor of each layer that is no expert
    largest_expert: tuple[int, ...]
    embedding: int
    host: int
    output: int  # with the tied embedding, which is uploaded as output matrix and stays in main memory too
    other: int
    repacked: int  # of the whole model
    ahead: int = 0  # of layers that only predict ahead, which are not loaded


@once_per_model
def weights_of(facts: ModelFacts) -> Weights:
    """Exact: the sum of the tensors' bytes, by role and layer."""
    count = max(0, (facts.layers or 0) - facts.graph.ahead_layers)  # those that only predict ahead are not loaded
    layers, experts, largest, largest_expert = [0] * count, [0] * count, [0] * count, [0] * count
    sums = {"embedding": 0, "host": 0, "output": 0, "other": 0}
    repacked = ahead = 0
    for group in facts.tensors:
        if group.layer is not None and count <= group.layer < (facts.layers or 0):
            ahead += group.bytes
            continue
        if group.layer is not None and group.layer < count:
            layers[group.layer] += group.bytes
            most = largest_expert if group.role == "expert" else largest
            most[group.layer] = max(most[group.layer], group.largest_bytes)
            if group.role == "expert":
                experts[group.layer] += group.bytes
        else:
            sums[group.role if group.role in sums else "other"] += group.bytes
        if group.type in REPACKED_TYPES and group.role in ("layer", "expert", "output"):
            repacked += group.bytes
    return Weights(
        layers=tuple(layers),
        experts=tuple(experts),
        largest=tuple(largest),
        largest_expert=tuple(largest_expert),
        embedding=sums["embedding"],
        host=sums["host"],
        output=sums["output"] + (sums["embedding"] if facts.tied_embeddings else 0),
        other=sums["other"],
        repacked=repacked,
        ahead=ahead,
    )


def padded(cells: int, step: int = CELL_STEP) -> int:
    return -(-cells // step) * step


def cache_cells(facts: ModelFacts, load: Load) -> tuple[int, int]:
    """Cells of a layer that caches everything, and of one that caches its window (vram.md 2.2).

    The context is the total of all slots. Where they share one pool (our engines are told so) it holds a window for each,
    where not each has its own part; both with room for one micro-batch.
    """
    full = padded(load.context_tokens, load.cell_step)
    if facts.sliding_window is None or load.full_window_cache:
        return full, full
    if load.unified:
        return full, padded(min(full, facts.sliding_window * load.slots + load.ubatch_tokens), load.cell_step)
    own = full // load.slots
    return full, padded(min(own, facts.sliding_window + load.ubatch_tokens), load.cell_step) * load.slots


def kv_cache(facts: ModelFacts, load: Load) -> tuple[int, ...]:
    """Bytes by layer: cells x KV heads x (key length x its type + value length x its type)."""
    full, windowed = cache_cells(facts, load)
    key, value = KV_TYPE_BYTES[load.kv_type_k], KV_TYPE_BYTES[load.kv_type_v]
    latent = facts.graph.latent_rank + facts.graph.rope_length if facts.latent_kv and facts.graph.latent_rank else 0
    key_length, value_length = latent or facts.key_length or 0, 0 if facts.latent_kv else facts.value_length or 0
    if facts.latent_kv and load.latents_twice:
        value_length = facts.graph.latent_rank
    window_key_length = facts.window_key_length or key_length
    window_value_length = facts.window_value_length or value_length
    if facts.graph.cacheless:
        return (0,) * len(facts.kv_heads)
    flags = facts.windowed_layers or (False,) * len(facts.kv_heads)
    layers = list(zip(facts.kv_heads, flags, strict=False))
    # Without flash attention values lie turned round, one row for each number, and every layer has as many rows as the widest.
    widest = 0 if load.flash_attention or latent else widest_value(facts)

    def bytes_of(heads: int, in_window: bool) -> int:
        keys = heads * (window_key_length if in_window else key_length)
        values = widest or heads * (window_value_length if in_window else value_length)
        return int((windowed if in_window else full) * (keys * key + values * value)) if heads else 0

    made = {layer: bytes_of(*layer) for layer in set(layers)}
    return tuple([made[layer] for layer in layers])


@once_per_model
def widest_value(facts: ModelFacts) -> int:
    """Numbers of one token's values in the layer that has most (llama.cpp's n_embd_v_gqa_max)."""
    flags = facts.windowed_layers or (False,) * len(facts.kv_heads)
    return max(
        (
            heads * ((facts.window_value_length if in_window else None) or facts.value_length or 0)
            for heads, in_window in zip(facts.kv_heads, flags, strict=False)
        ),
        default=0,
    )


def recurrent_state(facts: ModelFacts, load: Load) -> int:
    """Bytes of the fixed states of all sequences; they do not depend on the context."""
    return (facts.recurrent_state_bytes or 0) * load.slots * load.state_copies


def placement(units: int, on_gpu: int, shares: Sequence[float]) -> tuple[int | None, ...]:
    """For each layer, and last the output: the card's position, None = main memory. The last `on_gpu` go to the cards."""
    total = sum(shares)
    first = units - min(on_gpu, units)
    bounds, reached = [], 0.0
    for share in shares:
        reached += share / total if total > 0 else 1 / len(shares)
        bounds.append(reached)
    result: list[int | None] = [None] * first
    card, last, count = 0, len(bounds) - 1, units - first
    for unit in range(count):
        while card < last and unit / count >= bounds[card]:
            card += 1
        result.append(card)
    return tuple(result)
