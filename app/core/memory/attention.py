"""Writes down attention: plain, of a window, latent (MLA), with a cache or without one.

Each function takes the writer; `attention` returns what is found and the query's product, of which half may be a gate.
"""

from __future__ import annotations

from typing import Protocol

from app.core.memory.arena import Graph
from app.core.memory.shapes import F16, F32, Attention, Layer, Shape


class Writer(Protocol):
    graph: Graph
    shape: Shape
    row: int
    positions: int
    masks: dict[bool, int]
    writes: dict[bool, tuple[int, int]]

    def cells(self, own: Attention) -> int: ...

    def weighted(self, size: int, upload: int, *sources: int) -> int: ...


def pieces(size: int, own: Attention) -> int:
    """Bytes of an attention tensor of which only so many heads are held at once."""
    parts = 1
    while own.piece_bytes and size // parts > own.piece_bytes and own.heads % (2 * parts) == 0:
        parts *= 2
    return size // parts


def attention(to: Writer, normed: int, own: Attention, layer: Layer) -> tuple[int, int]:
    """What attention finds, and what its gate comes from: half of the query's product, or the input."""
    graph, row, upload = to.graph, to.row, layer.mixer_upload
    if own.latent_rank:
        if own.expanded:
            return expanded(to, normed, own, layer)
        query, key, value = latent(to, normed, own, upload)
        full = query
    elif own.fused:
        keys, values = own.kv_heads * own.key_length * row, own.kv_heads * own.value_length * row
        every = full = to.weighted(own.heads * own.key_length * row + keys + values, upload, normed)
        query = turned(to, placed(to, own.heads * own.key_length * row, every, own), keys=True)
        key = turned(to, placed(to, keys, every, own), keys=True)
        value = every
        if to.shape.turned_values or (not to.shape.flash and to.shape.cached):
            value = graph.node(values, every)
    else:
        length = own.heads * own.key_length * row
        full = to.weighted(length * (2 if own.gated else 1), upload, normed)
        query = turned(to, placed(to, length, full, own), keys=True)
        full = normed if own.gate_apart else full
        if own.shares:
            return attended(to, query, own, layer.cache_upload), full
        keys_first = to.shape.windows or not to.shape.cached
        key = keyed(to, normed, own, upload) if keys_first else -1
        value = to.weighted(own.kv_heads * own.value_length * row, upload, normed)
        value = turned(to, value, keys=False)
        key = key if keys_first else keyed(to, normed, own, upload)
    if not to.shape.cached:
        return attended(to, query, own, 0, key, value), full
    key_places, value_places = to.writes[own.windowed]
    graph.node(0, key, key_places)
    graph.node(0, value, value_places)
    return attended(to, query, own, layer.cache_upload), full


def placed(to: Writer, size: int, source: int, own: Attention) -> int:
    """A query or key, turned by its position; where nothing turns it, it is (a part of) the product."""
    if own.rotated:
        return to.graph.node(size, source, to.positions)
    return to.graph.node(size, source) if own.fused and to.shape.turned_keys else source


def keyed(to: Writer, normed: int, own: Attention, upload: int) -> int:
    key = to.weighted(own.kv_heads * own.key_length * to.row, upload, normed)
    return turned(to, placed(to, to.graph.sizes[key], key, own), keys=True)


def projected(to: Writer, size: int, attended: tuple[int, int], layer: Layer) -> int:
    """What attention found, turned back, under its gate and through its last matrix."""
    graph, own, (out, full) = to.graph, layer.attention, attended
    assert own is not None
    if to.shape.flash and not own.latent_rank:
        out = turned(to, out, keys=False)
    if own.gated or own.gate_apart:
        gate = graph.same(graph.sizes[out], graph.node(graph.sizes[out], full))
        out = graph.same(graph.sizes[out], out, gate, only=gate)
    return to.weighted(size, layer.mixer_upload, out)


def turning_sides(shape: Shape, own: Attention) -> list[int]:
    """Sides of the matrices that keys and values are turned with for a quantised cache: the largest power of two that divides
    a key's length, and 64 for values (llama.cpp's build_input_k_rot, build_input_v_rot)."""
    if own.latent_rank or not shape.cached:
        return []
    sides = (shape.turned_keys, own.key_length & -own.key_length), (shape.turned_values, 64)
    return [side for turns, side in sides if turns]


def turned(to: Writer, tensor: int, *, keys: bool) -> int:
    turns = to.shape.turned_keys if keys else to.shape.turned_values
    return to.graph.node(to.graph.sizes[tensor], tensor) if turns else tensor


def attended(to: Writer, query: int, own: Attention, cache_upload: int, key: int = -1, value: int = -1) -> int:
    """What the query finds in the cache, or in `key` and `value` themselves where there is none."""
    graph, row = to.graph, to.row
    mask = to.masks[own.windowed]
    length = own.latent_rank or own.value_length
    extra = (graph.node(cache_upload),) if cache_upload else ()
    cells, streams = to.cells(own), to.shape.streams
    if to.shape.flash:
        if key < 0:
            copies = [graph.node(cells * streams * numbers * F16) for numbers in copied(to, own)]
        else:
            lengths, given = (own.key_length, own.value_length), (key, value)
            copies = [
                graph.node(own.kv_heads * each * to.shape.tokens * F16, at)
                for each, at in zip(lengths, given, strict=True)
            ]
        out = graph.node(own.heads * length * row, query, *copies, mask, *extra)
    else:
        width = F32 if to.shape.wide_keys else F16
        values = (graph.node(cells * streams * length * width),) if own.latent_rank else ()  # asked for first
        if key >= 0:
            values = (graph.node(own.kv_heads * own.value_length * row, value),)
        scores = graph.node(pieces(own.heads * cells * row, own), query, *extra, *((key,) if key >= 0 else ()))
        weights = graph.same(graph.sizes[scores], scores, mask)
        out = graph.node(own.heads * length * row, weights, *values)
    if own.latent_rank:
        out = graph.node(own.heads * own.value_length * row, out)
        return graph.node(graph.sizes[out], out)
    return out if to.shape.flash else graph.node(graph.sizes[out], out)


def copied(to: Writer, own: Attention) -> list[int]:
    """Numbers of a cell that flash attention takes as f16 only: keys and values of a cache in f32."""
    keys = (own.latent_rank + own.rope_length) if own.latent_rank else own.kv_heads * own.key_length
    values = own.latent_rank or own.kv_heads * own.value_length
    wide_values = to.shape.wide_keys if own.latent_rank else to.shape.wide_values
    return [numbers for numbers, wide in ((keys, to.shape.wide_keys), (values, wide_values)) if wide]


def latent(to: Writer, normed: int, own: Attention, upload: int) -> tuple[int, int, int]:
    graph, row = to.graph, to.row
    low = graph.same(own.latent_query * row, to.weighted(own.latent_query * row, upload, normed))
    low = low if own.latent_query else normed
    query = to.weighted(own.heads * own.key_length * row, upload, low)
    absorbed = graph.node(own.heads * own.latent_rank * row, query)
    turned = graph.node(own.heads * own.rope_length * row, query, to.positions)
    query = graph.node(own.heads * (own.latent_rank + own.rope_length) * row, absorbed, turned)
    pressed = to.weighted((own.latent_rank + own.rope_length) * row, upload, normed)
    content = graph.node(own.latent_rank * row, pressed)
    place = graph.node(own.rope_length * row, pressed, to.positions)
    key = graph.node((own.latent_rank + own.rope_length) * row, content, place)
    return query, key, key


def expanded(to: Writer, normed: int, own: Attention, layer: Layer) -> tuple[int, int]:
    """MLA of which keys and values are unpacked for all cells, some heads after the other, then seen by one kernel."""
    graph, row = to.graph, to.row
    low = graph.same(own.latent_query * row, to.weighted(own.latent_query * row, layer.mixer_upload, normed))
    query = to.weighted(own.heads * own.key_length * row, layer.mixer_upload, low if own.latent_query else normed)
    turned = graph.node(own.heads * own.rope_length * row, query, to.positions)
    query = graph.node(own.heads * own.key_length * row, query, turned)
    pressed = to.weighted((own.latent_rank + own.rope_length) * row, layer.mixer_upload, normed)
    place = graph.node(own.rope_length * row, pressed, to.positions)
    graph.node(0, pressed, place, *to.writes[own.windowed])
    lengths = own.key_length - own.rope_length + own.value_length
    cells = to.cells(own)
    unpacked = graph.node(pieces(own.heads * lengths * cells * F32, own))
    key = graph.node(own.heads * own.key_length * cells * F16, unpacked)
    value = graph.node(own.heads * own.value_length * cells * F16, unpacked)
    out = graph.node(own.heads * own.value_length * row, query, key, value, to.masks[own.windowed])
    return out, query
