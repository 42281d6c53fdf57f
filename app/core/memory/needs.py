"""Adds up a load's parts per device: what each card and main memory will hold, with a low and a high bound."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from app.core.catalog.facts import ModelFacts
from app.core.memory.load import Load
from app.core.memory.parts import (
    CONTEXT_BYTES,
    F32,
    GPU_PROCESS_BYTES,
    MIB,
    PROCESS_BYTES,
    Weights,
    compute,
    kv_cache,
    placement,
    recurrent_state,
    weights_of,
)
from app.core.memory.plan_types import Part

COMPUTE_MARGIN_BYTES = 96 * MIB  # 95 % of the fully offloaded logs lie within it (vram.md 3)
COMPUTE_MARGIN_SHARE = 0.10
PIPELINE_COPIES = 4


class Need(msgspec.Struct, frozen=True, kw_only=True):
    parts: tuple[Part, ...]
    low_bytes: int
    high_bytes: int

    @property
    def likely_bytes(self) -> int:
        return sum(part.bytes for part in self.parts)


def needs_on_host(facts: ModelFacts, load: Load, weights: Weights | None = None) -> Need:
    """Everything in main memory: the mapped file, its repacked copy, cache, compute, the process itself."""
    weights = weights or weights_of(facts)
    buffer = compute(facts, load)
    repacked = weights.repacked if load.repack else 0
    parts = (
        Part(name="weights", bytes=facts.weights_bytes, source="sum of the file's tensors"),
        Part(name="repacked weights", bytes=repacked, source="4-bit weights rearranged for the processor"),
        *_cache_parts(sum(kv_cache(facts, load)), recurrent_state(facts, load), load),
        Part(name="compute", bytes=buffer.likely, source="formula: largest step of a micro-batch"),
        Part(name="process", bytes=PROCESS_BYTES["cpu"], source="allowance for the server itself"),
    )
    parts = tuple(part for part in parts if part.bytes)
    likely = sum(part.bytes for part in parts)
    return Need(
        parts=parts,
        low_bytes=likely - repacked - (buffer.likely - buffer.low),
        high_bytes=likely + _margin(buffer.likely),
    )


def needs_on_gpus(
    facts: ModelFacts, load: Load, shares: Sequence[float], accelerator: str, weights: Weights | None = None
) -> tuple[tuple[Need, ...], Need]:
    """What each card needs (`shares` says how layers are spread, one entry per card), and what main memory needs."""
    weights = weights or weights_of(facts)
    layers = len(weights.layers)
    where = placement(layers + 1, load.gpu_layers, shares)
    caches = kv_cache(facts, load)
    state = recurrent_state(facts, load)
    stateful = [layer for layer in range(layers) if state and layer < len(caches) and not caches[layer]]
    count = len(shares)
    held, cached, states = [0] * count, [0] * count, [0] * count
    host_weights, host_cache, host_state, largest_on_host = weights.embedding + weights.host, 0, 0, 0
    for layer, card in enumerate(where[:-1]):
        own, kv = weights.layers[layer], caches[layer] if layer < len(caches) else 0
        recurrent = state // len(stateful) if layer in stateful else 0
        on_host = own if card is None else weights.experts[layer] if layer < load.cpu_expert_layers else 0
        host_weights += on_host
        if on_host:
            largest_on_host = max(largest_on_host, weights.largest[layer])
        if card is None:
            host_cache, host_state = host_cache + kv, host_state + recurrent
            continue
        held[card] += own - on_host
        if load.kv_on_gpu:
            cached[card] += kv
        else:
            host_cache += kv
        states[card] += recurrent
    if (card := where[-1]) is not None:
        held[card] += weights.output + weights.other
    else:
        tied = weights.embedding if facts.tied_embeddings else 0
        host_weights += weights.output - tied + weights.other

    buffer = compute(facts, load)
    pipelined = count > 1 and load.gpu_layers > layers
    copies = buffer.inputs * (PIPELINE_COPIES - 1) if pipelined else 0
    # Large batches are computed on the card even for layers in main memory: their weights are uploaded piece by piece.
    upload = largest_on_host
    low, likely, high = CONTEXT_BYTES.get(accelerator, CONTEXT_BYTES["cuda"])
    cards = []
    for card in range(count):
        scratch = upload if card == 0 else 0
        parts = tuple(
            part
            for part in (
                Part(name="weights", bytes=held[card], source="sum of the file's tensors on this card"),
                *_cache_parts(cached[card], states[card], load),
                Part(
                    name="compute",
                    bytes=buffer.likely + copies + scratch,
                    source="formula: largest step of a micro-batch",
                ),
                Part(name="context", bytes=likely, source=f"allowance for a {accelerator} context"),
            )
            if part.bytes
        )
        total = sum(part.bytes for part in parts)
        cards.append(
            Need(
                parts=parts,
                low_bytes=total - (buffer.likely - buffer.low) - scratch - (likely - low),
                high_bytes=total + _margin(buffer.likely + copies) + scratch + (high - likely),
            )
        )
    ubatch = min(load.ubatch_tokens, load.context_tokens)
    staging = ((facts.embedding_length or 0) + load.context_tokens) * ubatch * F32
    host_parts = tuple(
        part
        for part in (
            Part(name="weights", bytes=host_weights, source="tensors that stay in main memory"),
            *_cache_parts(host_cache, host_state, load),
            Part(name="compute", bytes=staging, source="formula: inputs of a micro-batch"),
            Part(name="process", bytes=GPU_PROCESS_BYTES, source="allowance for the server and the GPU's libraries"),
        )
        if part.bytes
    )
    on_host = sum(part.bytes for part in host_parts)
    host = Need(parts=host_parts, low_bytes=on_host - GPU_PROCESS_BYTES // 2, high_bytes=on_host + COMPUTE_MARGIN_BYTES)
    return tuple(cards), host


def _cache_parts(kv_bytes: int, state_bytes: int, load: Load) -> tuple[Part, ...]:
    kinds = load.kv_type_k if load.kv_type_k == load.kv_type_v else f"{load.kv_type_k}/{load.kv_type_v}"
    return (
        Part(name="kv_cache", bytes=kv_bytes, source=f"formula: {load.context_tokens:,} tokens as {kinds}"),
        Part(name="state", bytes=state_bytes, source=f"formula: fixed state of {load.slots} sequences"),
    )


def _margin(buffer_bytes: int) -> int:
    return max(COMPUTE_MARGIN_BYTES, int(buffer_bytes * COMPUTE_MARGIN_SHARE))
