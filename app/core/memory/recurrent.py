"""Writes down the layers with a fixed state: state space, gated delta rule, short convolution, RWKV.

Each function takes the writer, the normed input, the layer's numbers and the bytes of weights to be sent, and returns the
number of the layer's result. What a state-space layer or a convolution remembers of earlier tokens is fetched before the
layer in front of it is finished (`fetch`): llama.cpp asks for that copy first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from app.core.memory.arena import Graph
from app.core.memory.shapes import F32, Layer, Recurrent, Shape

EARLY = ("mamba2", "mamba", "convolution")  # the kinds whose memory is fetched before the layer's norm


class Writer(Protocol):
    graph: Graph
    shape: Shape
    row: int
    hidden: int
    fetched: int
    first_value: int

    def weighted(self, size: int, upload: int, *sources: int) -> int: ...

    def fetch_next(self) -> None: ...


def is_ordered(layer: Layer) -> bool:
    """Whether a step of the layer is asked for by name; of others everything is written when a later layer needs it."""
    return bool(layer.attention or layer.recurrent or (layer.feed_forward and layer.feed_forward.used))


def remembered_bytes(own: Recurrent, shape: Shape) -> int:
    """What the convolution keeps of the tokens before, of all sequences."""
    if own.kind == "convolution":
        return (own.convolution - 1) * shape.width * shape.sequences * F32
    channels = own.inner if own.kind == "mamba" else own.inner + 2 * own.groups * own.state
    return (own.convolution - 1) * channels * shape.sequences * F32


def state_space(to: Writer, normed: int, own: Recurrent, upload: int) -> int:
    """Mamba 2: one projection, a short convolution, the scan, a gate."""
    graph, row, sequences = to.graph, to.row, to.shape.sequences
    channels, size = own.inner + 2 * own.groups * own.state, own.inner * row
    before = to.fetched
    every = to.weighted((own.inner + channels + own.heads) * row, upload, normed)
    joined = graph.node(channels * row + remembered_bytes(own, to.shape), before, every)
    mixed = graph.same(channels * row, graph.same(channels * row, graph.node(channels * row, joined)))
    steps = graph.same(own.heads * row, graph.node(own.heads * row, every))
    scanned = graph.node(size + own.inner * own.state * sequences * F32, mixed, steps)
    graph.node(0, graph.node(own.inner * own.state * (sequences - 1) * F32))  # states of sequences that may rest
    graph.node(0, scanned)  # the new states go back into their cache
    to.fetch_next()
    gate = graph.node(size, every)
    passed = graph.node(size, mixed)
    skipped = graph.beginning(size, scanned, passed)
    return to.weighted(to.hidden, upload, graph.same(size, graph.node(size, gate, skipped)))


def first_state_space(to: Writer, normed: int, own: Recurrent, upload: int) -> int:
    """Mamba 1: as Mamba 2, but step sizes and both matrices come out of the convolved input."""
    graph, row, sequences = to.graph, to.row, to.shape.sequences
    size, before = own.inner * row, to.fetched
    every = to.weighted(2 * size, upload, normed)
    joined = graph.node(size + remembered_bytes(own, to.shape), before, every)
    mixed = graph.same(size, graph.node(size, joined))
    low = graph.node((own.heads + 2 * own.state) * row, mixed)
    steps = graph.same(size, graph.node(size, low))
    scanned = graph.node(size + own.inner * own.state * sequences * F32, mixed, steps, low)
    graph.node(0, graph.node(own.inner * own.state * (sequences - 1) * F32))
    graph.node(0, scanned)
    to.fetch_next()
    skipped = graph.beginning(size, scanned, graph.node(size, mixed))
    return to.weighted(to.hidden, upload, graph.node(size, every, skipped))


def delta_rule(to: Writer, normed: int, own: Recurrent, upload: int) -> int:
    """Gated delta rule: convolved query, key and value; a state per head; the result under a gate."""
    graph, row, sequences = to.graph, to.row, to.shape.sequences
    keys = own.state * own.groups
    channels, size = own.inner + 2 * keys, own.inner * row
    kept = remembered_bytes(own, to.shape)
    states = own.inner * own.state * sequences * F32
    before = graph.node(kept)
    every = to.weighted(channels * row, upload, normed)
    joined = graph.node(channels * row + kept, before, every)
    state = graph.node(states)
    mixed = graph.same(channels * row, graph.node(channels * row, joined))
    query = graph.same(keys * row, graph.node(keys * row, mixed))
    key = graph.same(keys * row, graph.node(keys * row, mixed))
    decay = graph.node(own.heads * row, normed)
    strength = graph.node(own.heads * row, normed)
    result = graph.node(size + states, query, key, mixed, decay, strength, state)
    graph.node(0, result)
    scaled = graph.beginning(size, result)
    gate = graph.same(size, to.weighted(size, upload, normed))
    return to.weighted(to.hidden, upload, graph.same(size, scaled, gate))


def key_wise_delta_rule(to: Writer, normed: int, own: Recurrent, upload: int) -> int:
    """Kimi's delta rule: a convolution each for query, key and value, and a decay for every number of a key."""
    graph, size, sequences = to.graph, own.inner * to.row, to.shape.sequences
    kept = (own.convolution - 1) * own.inner * sequences * F32
    states = own.inner * own.state * sequences * F32
    before = graph.node(3 * kept)
    joined = [graph.node(size + kept, before, to.weighted(size, upload, normed)) for _ in range(3)]
    state = graph.node(states)
    parts = [graph.same(size, graph.node(size, each)) for each in joined]
    decay = graph.same(size, graph.node(size, graph.node(own.state * to.row, normed)))
    strength = graph.node(own.heads * to.row, normed)
    result = graph.node(size + states, *parts, decay, strength, state)
    graph.node(0, result)
    found = graph.node(size, result)
    gate = graph.same(size, graph.node(size, graph.node(own.state * to.row, normed)))
    return to.weighted(to.hidden, upload, graph.node(size, graph.same(size, found, gate)))


def convolution(to: Writer, normed: int, own: Recurrent, upload: int) -> int:
    """A gated short convolution over the width."""
    graph, size = to.graph, to.hidden
    before = to.fetched
    every = to.weighted(3 * size, upload, normed)
    joined = graph.node(size + remembered_bytes(own, to.shape), before, graph.node(size, every))
    to.fetch_next()
    convolved = graph.node(size, joined)
    gated = graph.same(size, every, convolved, only=convolved)
    return to.weighted(size, upload, gated)


def rwkv(to: Writer, normed: int, own: Recurrent, upload: int) -> int:
    """RWKV 6: five mixtures of a token with the one before it, in proportions that the token itself tells, then the state."""
    graph, size = to.graph, to.hidden
    states = own.inner * own.state * to.shape.sequences * F32
    state, change = graph.node(states), token_change(to, normed)
    told = graph.same(size, graph.node(size, change), normed)
    mixtures = graph.same(5 * size, graph.same(5 * size, graph.node(5 * size, told), change), normed)
    parts = [to.weighted(size, upload, mixtures) for _ in range(4)]
    result = graph.node(size + states, *parts, state)
    graph.node(0, result)  # the new states go back into their cache
    found = graph.node(size, result)
    gate = graph.same(size, to.weighted(size, upload, mixtures))
    return to.weighted(size, upload, graph.same(size, found, gate))


def rwkv7(to: Writer, normed: int, own: Recurrent, upload: int) -> int:
    """RWKV 7: six mixtures in fixed proportions, and a delta rule with a rate of its own for each number."""
    graph, size = to.graph, to.hidden
    states = own.inner * own.state * to.shape.sequences * F32
    state, change = graph.node(states), token_change(to, normed)
    mixtures = graph.same(6 * size, graph.node(6 * size, change), normed)
    asked, decay, key, rate = (to.weighted(size, upload, mixtures) for _ in range(4))
    scaled = graph.node(size, key)
    further = graph.same(size, graph.same(size, graph.node(size, rate, scaled), scaled), key)
    value = to.weighted(size, upload, mixtures)
    if to.first_value < 0:
        to.first_value = value
        graph.readers[value] += 1  # every later layer mixes it into its own
    unit = graph.same(size, key)
    taken = graph.node(size, unit)
    given = graph.same(size, unit, rate)
    result = graph.node(size + states, asked, decay, further, value, taken, given, state)
    graph.node(0, result)
    found = graph.node(size, result)
    found = graph.same(size, found, graph.same(size, value, graph.same(size, further, asked), only=value))
    gate = graph.node(size, graph.node(size // 4, mixtures))
    return to.weighted(size, upload, graph.same(size, found, gate))


def token_change(to: Writer, normed: int) -> int:
    """How a token differs from the one before it."""
    return to.graph.same(to.hidden, to.graph.node(to.hidden, normed), normed)


WRITTEN: dict[str, Callable[[Writer, int, Recurrent, int], int]] = {
    "mamba2": state_space,
    "mamba": first_state_space,
    "delta": delta_rule,
    "kda": key_wise_delta_rule,
    "convolution": convolution,
    "rwkv": rwkv,
    "rwkv7": rwkv7,
}
