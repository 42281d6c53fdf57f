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
    """RWKV: five mixtures of a token with the one before it, then the recurrence."""
    graph, size = to.graph, to.hidden
    shifted = graph.node(size, normed)
    mixtures = graph.node(5 * size, normed, shifted)
    parts = [to.weighted(size, upload, mixtures) for _ in range(5)]
    states = own.inner * own.state * to.shape.sequences * F32
    return to.weighted(size, upload, graph.node(size + states, *parts))


WRITTEN: dict[str, Callable[[Writer, int, Recurrent, int], int]] = {
    "mamba2": state_space,
    "mamba": first_state_space,
    "delta": delta_rule,
    "convolution": convolution,
    "rwkv": rwkv,
}
