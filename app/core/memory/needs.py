"""Adds up a load's parts per device: what each card and main memory will hold, with a low and a high bound."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from app.core.catalog.facts import ModelFacts
from app.core.memory.buffers import LayerPlace, card_buffers, host_buffer, staging_buffer
from app.core.memory.load import Load
from app.core.memory.parts import (
    CONTEXT_BYTES,
    F32,
    GPU_PROCESS_BYTES,
    MIB,
    PROCESS_BYTES,
    Weights,
    kv_cache,
    placement,
    recurrent_state,
    weights_of,
)
from app.core.memory.plan_types import Part

# How far a compute buffer may be from its formula: builds differ in how they write a graph down.
COMPUTE_MARGIN_BYTES = 96 * MIB
COMPUTE_MARGIN_SHARE = 0.10
GRAPH = "formula: llama.cpp's graph allocator, at one micro-batch"
_EXPERT_NAMES = ("ffn_gate_exps.weight", "ffn_up_exps.weight", "ffn_down_exps.weight")
_MIXER_NAMES = ("attn_q.weight", "attn_k.weight", "attn_output.weight")
_DENSE_NAMES = ("ffn_gate.weight", "ffn_up.weight", "ffn_down.weight")


class Need(msgspec.Struct, frozen=True, kw_only=True):
    parts: tuple[Part, ...]
    low_bytes: int
    high_bytes: int
    launches: int = 0  # measured launches that this rests on

    @property
    def likely_bytes(self) -> int:
        return sum(part.bytes for part in self.parts)


def needs_on_host(facts: ModelFacts, load: Load, weights: Weights | None = None) -> Need:
    """Everything in main memory: the mapped file, its repacked copy, cache, compute, the process itself."""
    weights = weights or weights_of(facts)
    buffer = host_buffer(facts, load)
    ahead = weights.ahead if load.state_copies == 1 else 0  # loaded only to guess ahead
    repacked = weights.repacked if load.repack else 0
    parts = (
        Part(name="weights", bytes=facts.weights_bytes - ahead, source="sum of the file's tensors"),
        Part(name="repacked weights", bytes=repacked, source="4-bit weights rearranged for the processor"),
        *_cache_parts(sum(kv_cache(facts, load)), recurrent_state(facts, load), load),
        Part(name="compute", bytes=buffer, source=GRAPH),
        _outputs(facts, load),
        Part(name="process", bytes=PROCESS_BYTES["cpu"], source="allowance for the server itself"),
    )
    return _need(parts, less=repacked, compute=buffer)


def needs_on_gpus(
    facts: ModelFacts, load: Load, shares: Sequence[float], accelerator: str, weights: Weights | None = None
) -> tuple[tuple[Need, ...], Need]:
    """What each card needs (`shares` says how layers are spread, one entry per card), and what main memory needs."""
    weights = weights or weights_of(facts)
    layers, count = len(weights.layers), len(shares)
    if load.output_first or load.gpu_layers > layers:
        where = placement(layers + 1, load.gpu_layers, shares)
    else:
        where = (*placement(layers, load.gpu_layers, shares), None)
    caches = kv_cache(facts, load)
    state = recurrent_state(facts, load)
    stateful = _stateful(facts, caches) if state else ()
    held, cached, states = [0] * count, [0] * count, [0] * count
    host_weights, host_cache, host_state = weights.embedding + weights.host, 0, 0
    dense_share = _dense_share(facts)
    places = []
    made: dict[tuple[int | None, int, int, int], LayerPlace] = {}  # most layers are like another one
    for layer, card in enumerate(where[:-1]):
        kv = caches[layer] if layer < len(caches) else 0
        recurrent = state // len(stateful) if layer in stateful else 0
        experts, own = weights.experts[layer], weights.layers[layer]
        experts_at: int | None = None if layer < load.cpu_expert_layers else card
        mixer_at = dense_at = card
        dense = 0
        if load.overrides:
            experts_at, mixer_at, dense_at = _targets(load, layer, card, experts_at, count)
            dense = int((own - experts) * (0.0 if experts else dense_share))
        if experts_at == mixer_at == dense_at:
            spread: tuple[tuple[int | None, int], ...] = ((mixer_at, own),)
        else:
            spread = ((experts_at, experts), (dense_at, dense), (mixer_at, own - experts - dense))
        for at, size in spread:
            if at is None:
                host_weights += size
            else:
                held[at] += size
        cache_at = card if load.kv_on_gpu else None
        if cache_at is None:
            host_cache += kv
        else:
            cached[cache_at] += kv
        if card is None:
            host_state += recurrent
        else:
            states[card] += recurrent
        place = (
            card,
            kv if cache_at is None else 0,
            weights.largest[layer] if mixer_at is None or (dense and dense_at is None) else 0,
            weights.largest_expert[layer] if experts_at is None else 0,
        )
        if place not in made:
            made[place] = LayerPlace(card=card, cache_on_host=place[1], other_on_host=place[2], expert_on_host=place[3])
        places.append(made[place])
    output_card = where[-1]
    if output_card is not None:
        held[output_card] += weights.output + weights.other
    else:
        tied = weights.embedding if facts.tied_embeddings else 0
        host_weights += weights.output - tied + weights.other

    buffers = card_buffers(facts, load, places, output_card, count, weights.output if output_card is None else 0)
    low, likely, high = CONTEXT_BYTES.get(accelerator, CONTEXT_BYTES["cuda"])
    cards = []
    for card in range(count):
        parts = (
            Part(name="weights", bytes=held[card], source="sum of the file's tensors on this card"),
            *_cache_parts(cached[card], states[card], load),
            Part(name="compute", bytes=buffers[card], source=GRAPH),
            Part(name="context", bytes=likely, source=f"allowance for a {accelerator} context"),
        )
        cards.append(_need(parts, less=likely - low, compute=buffers[card], more=high - likely))
    staging = staging_buffer(facts, load)
    host_parts = (
        Part(name="weights", bytes=host_weights, source="tensors that stay in main memory"),
        *_cache_parts(host_cache, host_state, load),
        Part(name="compute", bytes=staging, source="formula: inputs of a micro-batch"),
        _outputs(facts, load),
        Part(name="process", bytes=GPU_PROCESS_BYTES, source="allowance for the server and the GPU's libraries"),
    )
    return tuple(cards), _need(host_parts, less=GPU_PROCESS_BYTES // 2, compute=0)


def _need(parts: Sequence[Part], *, less: int, compute: int, more: int = 0) -> Need:
    """`less` and `more` are what the inexact parts may fall below or rise above what is likely."""
    likely = sum(part.bytes for part in parts)
    margin = max(COMPUTE_MARGIN_BYTES, int(compute * COMPUTE_MARGIN_SHARE))
    return Need(
        parts=tuple(part for part in parts if part.bytes),
        low_bytes=max(0, likely - less - int(compute * COMPUTE_MARGIN_SHARE)),
        high_bytes=likely + more + margin,
    )


def _targets(
    load: Load, layer: int, card: int | None, experts: int | None, cards: int
) -> tuple[int | None, int | None, int | None]:
    """Where rules put a layer's experts, its attention or state, and its dense feed-forward: main memory (None) or a card.
    `card` and `experts` are where they would lie without."""
    return (
        _overridden(load, layer, _EXPERT_NAMES, experts, cards),
        _overridden(load, layer, _MIXER_NAMES, card, cards),
        _overridden(load, layer, _DENSE_NAMES, card, cards),
    )


def _dense_share(facts: ModelFacts) -> float:
    """How much of a layer without experts is its feed-forward, by dimensions: only a rule for some tensors asks for it."""
    heads, width = facts.heads or 0, facts.embedding_length or 0
    kv_heads = max(facts.kv_heads, default=0)
    mixer = heads * (facts.key_length or 0) * 2 + kv_heads * ((facts.key_length or 0) + (facts.value_length or 0))
    dense = (2 if facts.graph.ungated else 3) * (facts.feed_forward_length or 0)
    return dense / (dense + mixer) if width and dense else 0.0


def _overridden(load: Load, layer: int, names: Sequence[str], usual: int | None, cards: int) -> int | None:
    """Where most of the tensors of these names go."""
    found: list[int | None] = []
    for name in names:
        at = usual
        for pattern, device in load.overrides:
            if _matches(pattern, f"blk.{layer}.{name}"):
                number = re.search(r"(\d+)$", device)
                at = None if device.upper().startswith("CPU") else min(int(number[1]), cards - 1) if number else usual
                break
        found.append(at)
    return max(set(found), key=found.count)


def _matches(pattern: str, name: str) -> bool:
    try:
        return re.search(pattern, name) is not None
    except re.error:
        return False


def _stateful(facts: ModelFacts, caches: Sequence[int]) -> frozenset[int]:
    flags = facts.graph.state_layers
    if any(flags):
        return frozenset(layer for layer, keeps in enumerate(flags) if keeps)
    return frozenset(layer for layer, bytes_ in enumerate(caches) if not bytes_)


def _outputs(facts: ModelFacts, load: Load) -> Part:
    """Where the logits are handed over: one row for each slot."""
    return Part(
        name="outputs", bytes=(facts.vocabulary or 0) * load.slots * F32, source="formula: logits of one token per slot"
    )


def _cache_parts(kv_bytes: int, state_bytes: int, load: Load) -> tuple[Part, ...]:
    kinds = load.kv_type_k if load.kv_type_k == load.kv_type_v else f"{load.kv_type_k}/{load.kv_type_v}"
    return (
        Part(name="kv_cache", bytes=kv_bytes, source=f"formula: {load.context_tokens:,} tokens as {kinds}"),
        Part(name="state", bytes=state_bytes, source=f"formula: fixed state of {load.slots} sequences"),
    )
