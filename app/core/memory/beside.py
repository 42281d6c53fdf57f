"""Writes down what some models have beside their layers: an embedding for each layer, several streams of the hidden state.

Read from llama.cpp's graphs of Gemma 3n and Gemma 4.
"""

from __future__ import annotations

from typing import Protocol

from app.core.memory.attention import Writer as Attending
from app.core.memory.attention import attention, projected
from app.core.memory.shapes import Layer

LAUREL_RANK = 64  # of the small matrix beside attention; it weighs little


class Writer(Attending, Protocol):
    hidden: int
    tokens: int
    table: int
    embedded: int
    projected: int

    def normed(self, tensor: int) -> int: ...

    def feed_forward(self, normed: int, layer: Layer) -> int: ...


def added(to: Writer, left: int) -> int:
    """A layer's result with its own embedding, under a gate that the result itself opens."""
    return to.graph.same(to.hidden, left, own_embedding(to, left))


def look_up(to: Writer) -> None:
    """The layers' own embeddings of the tokens; the engine keeps them for the whole run."""
    to.table = to.graph.node(to.shape.per_layer * to.shape.tokens, to.tokens)


def own_embedding(to: Writer, opens: int) -> int:
    graph, size = to.graph, to.shape.per_layer_length * to.row
    gate = graph.same(size, graph.node(size, opens))
    if to.projected < 0:
        work_out(to)
    under = graph.same(size, gate, to.projected, only=gate)
    return graph.same(to.hidden, graph.node(to.hidden, under))


def work_out(to: Writer) -> None:
    """The embeddings of all layers at once: looked up, and projected from the tokens' common one."""
    graph, size = to.graph, to.shape.per_layer * to.shape.tokens
    graph.readers[to.embedded] -= 1  # it was kept until now
    common = graph.node(size, graph.same(size, graph.node(size, to.embedded)))  # its norm is given a place of its own
    to.projected = graph.node(size, graph.same(size, common, graph.same(size, to.table)))


def entered(to: Writer, hidden: int) -> int:
    """The streams side by side: the hidden state, and its projections scaled to its length."""
    graph, more = to.graph, (to.shape.hidden_streams - 1) * to.hidden
    if to.table < 0:
        look_up(to)
    to.embedded = hidden
    graph.readers[hidden] += 1
    return graph.node(to.hidden + more, hidden, rescaled(to, graph.node(more, graph.node(more, hidden)), more))


def rescaled(to: Writer, streams: int, size: int) -> int:
    graph = to.graph
    scaled, squares = graph.node(size, streams), graph.same(size, streams)
    return graph.same(size, scaled, squares, only=scaled)


def streamed_layer(to: Writer, stacked: int, layer: Layer) -> int:
    """A layer that works on one of the streams and predicts, then corrects, the others (AltUp), with a low-rank path beside
    its attention (Laurel)."""
    graph, size, hidden = to.graph, stacked_bytes(to), to.hidden
    assert layer.attention is not None
    turned = graph.node(size, stacked)
    graph.node(0, graph.same(hidden, graph.node(hidden, stacked)))  # the router
    predicted = graph.same(size, graph.node(size, graph.node(size, turned)), stacked)
    normed = graph.node(hidden, predicted)
    attended = projected(to, hidden, attention(to, normed, layer.attention, layer), layer)
    attended = graph.same(hidden, attended, predicted, only=attended)
    low = graph.node(LAUREL_RANK * to.row, normed)
    joined = graph.same(hidden, attended, graph.same(hidden, graph.node(hidden, low), normed))
    left = graph.same(hidden, to.feed_forward(graph.node(hidden, joined), layer), joined)
    news = graph.node(size, graph.node(hidden, left, predicted))
    graph.node(0, graph.same(hidden, left))  # the router again
    corrected = graph.same(size, news, predicted)
    own = own_embedding(to, graph.node(hidden, corrected))
    return graph.node(size, corrected, graph.node(size - hidden, corrected, own))


def merged(to: Writer, stacked: int) -> int:
    """The mean of the streams, the further ones projected back."""
    graph, more = to.graph, stacked_bytes(to) - to.hidden
    back = rescaled(to, graph.node(more, stacked), more)
    return graph.node(to.hidden, stacked, back)


def stacked_bytes(to: Writer) -> int:
    return to.shape.hidden_streams * to.hidden
