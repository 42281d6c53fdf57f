"""Writes down llama.cpp's graph for one micro-batch: which tensors there are, how large, and who reads them.

Read from llama.cpp's graph code and from the graphs that it prints (GGML_SCHED_DEBUG=2) for generated models of each kind
of layer; sizes are facts of the model and of the load, nothing is fitted. Only what takes a place of its own is here:
views and reshapes are their source, weights and caches have buffers of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import msgspec

from app.core.memory import recurrent
from app.core.memory.arena import Graph
from app.core.memory.shapes import F16, F32, I32, I64, Attention, FeedForward, Layer, Shape, Span

_MANY = 1 << 20  # cells; every size is a whole number of bytes per cell
NEIGHBOURHOODS = 3  # the gaps that are left differ from the first layers of a kind to the next ones


def compute_bytes(shape: Shape, span: Span) -> int:
    """Bytes of the compute buffer of the device that computes `span`."""
    return _compute_bytes(shape, msgspec.structs.replace(span, layers=telling(span.layers)))


@lru_cache(maxsize=1_024)
def _compute_bytes(shape: Shape, span: Span) -> int:
    return _written(msgspec.structs.replace(shape, cells=0, window_cells=0), span).peak(shape.cells, shape.window_cells)


@lru_cache(maxsize=256)
def _written(shape: Shape, span: Span) -> Written:
    return Written(shape, span)


class Written:
    """A graph for any number of cells: every tensor's size grows evenly with them, only where it is put does not.

    It is written down anew for the first number that is asked about; who asks about a second will ask about more.
    """

    def __init__(self, shape: Shape, span: Span) -> None:
        self._shape = shape
        self._span = span
        self._is_even = not any(layer.attention and layer.attention.piece_bytes for layer in span.layers)
        self._asked = False
        self._graph = Graph()
        self._forms: list[tuple[int, int, int]] = []  # of each tensor: bytes, bytes per cell, bytes per window cell
        self._kept = (0, 0, 0)

    def peak(self, cells: int, window_cells: int) -> int:
        if not self._asked or not self._is_even:
            self._asked = True
            writer = self._write(cells, window_cells)
            return writer.graph.peak() + writer.kept
        if not self._forms:
            self._measure()
        sizes = [fixed + cells * each + window_cells * windowed for fixed, each, windowed in self._forms]
        fixed, each, windowed = self._kept
        return self._graph.peak(sizes) + fixed + cells * each + window_cells * windowed

    def _measure(self) -> None:
        """How each size grows, from the same graph without cells, with cells, and with window cells."""
        bare, full, window = (self._write(*cells) for cells in ((0, 0), (_MANY, 0), (0, _MANY)))

        def form(fixed: int, grown: int, windowed: int) -> tuple[int, int, int]:
            return fixed, (grown - fixed) // _MANY, (windowed - fixed) // _MANY

        self._graph, self._kept = bare.graph, form(bare.kept, full.kept, window.kept)
        self._forms = list(map(form, bare.graph.sizes, full.graph.sizes, window.graph.sizes))

    def _write(self, cells: int, window_cells: int) -> _Writer:
        writer = _Writer(msgspec.structs.replace(self._shape, cells=cells, window_cells=window_cells), self._span)
        hidden = writer.embedding()
        layers = self._span.layers
        for position, layer in enumerate(layers):
            writer.following = layers[position + 1] if position + 1 < len(layers) else None
            hidden = writer.layer(hidden, layer, is_last=self._span.is_last and position == len(layers) - 1)
        if self._span.is_last:
            writer.logits(hidden)
        return writer


def telling(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """The layers that can change the peak: each neighbourhood a few times at most, and the last."""
    seen: dict[tuple[int, int], int] = {}  # by identity: equal layers are one value (see layers_of)
    found: list[Layer] = []
    before = 0
    for layer in layers[:-1]:
        pair = (before, id(layer))
        count = seen.get(pair, 0)
        if count < NEIGHBOURHOODS:
            found.append(layer)
        seen[pair] = count + 1
        before = id(layer)
    return (*found, *layers[-1:])


def pieces(size: int, own: Attention) -> int:
    """Bytes of an attention tensor of which only so many heads are held at once."""
    parts = 1
    while own.piece_bytes and size // parts > own.piece_bytes and own.heads % (2 * parts) == 0:
        parts *= 2
    return size // parts


class _Writer:
    """Writes the graph of one span; all methods return the number of the tensor that carries on."""

    def __init__(self, shape: Shape, span: Span) -> None:
        self.shape = shape
        self.span = span
        self.graph = graph = Graph()
        self.row = shape.tokens * F32
        self.count = shape.tokens
        self.following: Layer | None = None
        self.fetched = -1  # what the layer being written remembers of earlier tokens, once it is there
        self.hidden = shape.width * self.row
        self.mixes = span.embeds and shape.mixed_inputs
        attentions = [layer.attention for layer in span.layers if layer.attention is not None]
        sizes: list[int] = []

        def given(size: int) -> int:
            sizes.append(size)
            return graph.input(size)

        self.tokens = given(shape.tokens * I32) if span.embeds else given(self.hidden)
        if span.embeds and shape.glu:  # a place for embeddings that are given instead of tokens; kept for the whole run
            graph.readers[given(self.hidden)] += 1
        self.mixed = [given(size) for size in (self.count * I32, self.hidden, self.count * I64)] if self.mixes else []
        self.positions = given(shape.tokens * I32 * shape.positions) if attentions else -1
        self.masks: dict[bool, int] = {}
        self.writes: dict[bool, tuple[int, int]] = {}
        for windowed in (False, True):
            own = next((each for each in attentions if each.windowed is windowed), None)
            if own is None:
                continue
            values = own.kv_heads * own.value_length if not shape.flash and not own.latent_rank else 1
            self.writes[windowed] = given(shape.tokens * I64), given(shape.tokens * I64 * values)
            width = F16 if shape.flash and not shape.wide_mask else F32
            self.masks[windowed] = given(self.cells(own) * shape.tokens * width)
        self.wanted = given(shape.outputs * I32) if span.is_last else -1
        self.kept = (span.inputs_kept - 1) * sum(sizes)
        if shape.flash and shape.wide_mask:
            for windowed, mask in self.masks.items():
                self.masks[windowed] = graph.node(graph.sizes[mask] // 2, mask)

    def cells(self, own: Attention) -> int:
        return self.shape.window_cells if own.windowed else self.shape.cells

    def embedding(self) -> int:
        if not self.span.embeds:
            return self.tokens
        hidden = self.graph.node(self.hidden, self.tokens)
        if self.mixed:  # written down beside it, though not computed: embeddings put among tokens; their copy is kept
            tokens, given, slots = self.mixed
            looked_up = self.graph.node(self.hidden, tokens)
            copied = self.graph.node(self.hidden, given)
            self.graph.node(0, looked_up, slots, copied)
            self.graph.readers[copied] += 1
        return hidden

    def layer(self, hidden: int, layer: Layer, *, is_last: bool) -> int:
        graph = self.graph
        if self.fetched < 0:
            self.fetch(layer)
        normed = self.normed(hidden)
        late = bool(self.shape.late_outputs)
        if layer.parallel and layer.feed_forward is not None and layer.attention is not None:
            # The attention's last product comes after the feed-forward: only the final sum asks for it.
            attended, whole = self.attention(normed, layer.attention, layer), self.hidden
            if is_last and not late:
                hidden, normed = self.chosen(hidden), normed if layer.parallel_norm else self.chosen(normed)
            if layer.parallel_norm:
                normed = self.normed(hidden)
            joined = graph.same(self.hidden, self.feed_forward(normed, layer), hidden)
            mixed = self.projected(whole, attended, layer)
            if is_last and not late:
                mixed = self.chosen(mixed)
            return graph.same(self.hidden, joined, mixed)
        # A sum takes the place of its first part, which must be no view, and asks for that first.
        is_view = layer.recurrent is not None and layer.recurrent.kind in ("delta", "convolution")
        first = layer.residual_first == "both" or is_view
        if is_last and not late and first:
            rows = self.rows_of(hidden)
            mixed, hidden = self.chosen(self.mixer(normed, layer)), rows
        else:
            mixed = self.mixer(normed, layer)
            if is_last and not late:
                mixed, hidden = self.chosen(mixed), self.chosen(hidden)
        joined = graph.same(self.hidden, hidden, mixed) if first else graph.same(self.hidden, mixed, hidden)
        if layer.feed_forward is None:
            return joined
        fed = self.feed_forward(self.normed(joined), layer)
        return graph.same(self.hidden, joined, fed) if layer.residual_first else graph.same(self.hidden, fed, joined)

    def fetch(self, layer: Layer) -> None:
        """Brings what a layer remembers of earlier tokens, for the kinds that ask for it before anything else."""
        own = layer.recurrent
        is_early = own is not None and own.kind in recurrent.EARLY
        self.fetched = self.graph.node(recurrent.remembered_bytes(own, self.shape)) if own and is_early else -1

    def fetch_next(self) -> None:
        self.fetched = -1
        if self.following is not None:
            self.fetch(self.following)

    def rows_of(self, tensor: int) -> int:
        return self.graph.node(self.shape.width * self.shape.outputs * F32, tensor, self.wanted)

    def normed(self, tensor: int) -> int:
        """Scaled to unit length in place, or shifted too, which is not done in place."""
        return (self.graph.node if self.shape.shifting_norm else self.graph.same)(self.hidden, tensor)

    def chosen(self, tensor: int) -> int:
        """The rows of the tokens whose logits are wanted; from here on the graph is that narrow."""
        self.count = self.shape.outputs
        self.row = self.count * F32
        self.hidden = self.shape.width * self.row
        return self.rows_of(tensor)

    def weighted(self, size: int, upload: int, *sources: int) -> int:
        """A matrix product; `upload` bytes of its weights are brought to the device for it."""
        return self.graph.node(size, *sources, self.graph.node(upload)) if upload else self.graph.node(size, *sources)

    def mixer(self, normed: int, layer: Layer) -> int:
        if layer.recurrent is not None:
            mixed = recurrent.WRITTEN[layer.recurrent.kind](self, normed, layer.recurrent, layer.mixer_upload)
            if layer.attention is None:
                return mixed
            attended = self.projected(self.hidden, self.attention(normed, layer.attention, layer), layer)
            return self.graph.same(self.hidden, mixed, attended)
        if layer.attention is not None:
            found = self.attention(normed, layer.attention, layer)
            self.fetch_next()
            return self.projected(self.hidden, found, layer)
        return normed

    def attention(self, normed: int, own: Attention, layer: Layer) -> tuple[int, int]:
        """What attention finds, and the query's product, of which half may be a gate."""
        graph, row, upload = self.graph, self.row, layer.mixer_upload
        if own.latent_rank:
            if own.expanded:
                return self.expanded(normed, own, layer)
            query, key, value = self.latent(normed, own, upload)
            full = query
        elif own.fused:
            keys, values = own.kv_heads * own.key_length * row, own.kv_heads * own.value_length * row
            every = full = self.weighted(own.heads * own.key_length * row + keys + values, upload, normed)
            query = self.turned(graph.node(own.heads * own.key_length * row, every, self.positions), keys=True)
            key = self.turned(graph.node(keys, every, self.positions), keys=True)
            value = every
            if self.shape.turned_values or not self.shape.flash:
                value = graph.node(values, every)
        else:
            length = own.heads * own.key_length * row
            full = self.weighted(length * (2 if own.gated else 1), upload, normed)
            query = self.turned(graph.node(length, full, self.positions), keys=True)
            value = self.weighted(own.kv_heads * own.value_length * row, upload, normed)
            value = self.turned(value, keys=False)
            key = self.weighted(own.kv_heads * own.key_length * row, upload, normed)
            key = self.turned(graph.node(graph.sizes[key], key, self.positions), keys=True)
        key_places, value_places = self.writes[own.windowed]
        graph.node(0, key, key_places)
        graph.node(0, value, value_places)
        return self.attended(query, own, layer.cache_upload), full

    def projected(self, size: int, attended: tuple[int, int], layer: Layer) -> int:
        """What attention found, turned back, under its gate and through its last matrix."""
        graph, own, (out, full) = self.graph, layer.attention, attended
        assert own is not None
        if self.shape.flash and not own.latent_rank:
            out = self.turned(out, keys=False)
        if own.gated:
            gate = graph.same(graph.sizes[out], graph.node(graph.sizes[out], full))
            out = graph.same(graph.sizes[out], out, gate, only=gate)
        return self.weighted(size, layer.mixer_upload, out)

    def turned(self, tensor: int, *, keys: bool) -> int:
        turns = self.shape.turned_keys if keys else self.shape.turned_values
        return self.graph.node(self.graph.sizes[tensor], tensor) if turns else tensor

    def attended(self, query: int, own: Attention, cache_upload: int) -> int:
        graph, row = self.graph, self.row
        mask = self.masks[own.windowed]
        length = own.latent_rank or own.value_length
        extra = (graph.node(cache_upload),) if cache_upload else ()
        if self.shape.flash:
            out = graph.node(own.heads * length * row, query, mask, *extra)
        else:
            cells = self.cells(own)
            values = (graph.node(cells * length * F16),) if own.latent_rank else ()  # asked for first
            scores = graph.node(pieces(own.heads * cells * row, own), query, *extra)
            weights = graph.same(graph.sizes[scores], scores, mask)
            out = graph.node(own.heads * length * row, weights, *values)
        if own.latent_rank:
            out = graph.node(own.heads * own.value_length * row, out)
            return graph.node(graph.sizes[out], out)
        return out if self.shape.flash else graph.node(graph.sizes[out], out)

    def latent(self, normed: int, own: Attention, upload: int) -> tuple[int, int, int]:
        graph, row = self.graph, self.row
        nope = max(0, own.key_length - own.rope_length)
        low = graph.same(own.latent_query * row, self.weighted(own.latent_query * row, upload, normed))
        low = low if own.latent_query else normed
        query = self.weighted(own.heads * own.key_length * row, upload, low)
        absorbed = graph.node(own.heads * own.latent_rank * row, query)
        turned = graph.node(own.heads * own.rope_length * row, query, self.positions)
        assert nope >= 0
        query = graph.node(own.heads * (own.latent_rank + own.rope_length) * row, absorbed, turned)
        pressed = self.weighted((own.latent_rank + own.rope_length) * row, upload, normed)
        content = graph.node(own.latent_rank * row, pressed)
        place = graph.node(own.rope_length * row, pressed, self.positions)
        key = graph.node((own.latent_rank + own.rope_length) * row, content, place)
        return query, key, key

    def expanded(self, normed: int, own: Attention, layer: Layer) -> tuple[int, int]:
        """MLA of which keys and values are unpacked for all cells, some heads after the other, then seen by one kernel."""
        graph, row = self.graph, self.row
        low = graph.same(own.latent_query * row, self.weighted(own.latent_query * row, layer.mixer_upload, normed))
        query = self.weighted(own.heads * own.key_length * row, layer.mixer_upload, low if own.latent_query else normed)
        turned = graph.node(own.heads * own.rope_length * row, query, self.positions)
        query = graph.node(own.heads * own.key_length * row, query, turned)
        pressed = self.weighted((own.latent_rank + own.rope_length) * row, layer.mixer_upload, normed)
        place = graph.node(own.rope_length * row, pressed, self.positions)
        graph.node(0, pressed, place, *self.writes[own.windowed])
        lengths = own.key_length - own.rope_length + own.value_length
        cells = self.cells(own)
        unpacked = graph.node(pieces(own.heads * lengths * cells * F32, own))
        key = graph.node(own.heads * own.key_length * cells * F16, unpacked)
        value = graph.node(own.heads * own.value_length * cells * F16, unpacked)
        out = graph.node(own.heads * own.value_length * row, query, key, value, self.masks[own.windowed])
        return out, query

    def feed_forward(self, normed: int, layer: Layer) -> int:
        own = layer.feed_forward
        assert own is not None
        if not own.used:
            return self.dense(normed, own.inner, own, layer.dense_upload)
        mixed = self.experts(normed, own, layer.expert_upload)
        if own.shared_inner:
            shared = self.dense(normed, own.shared_inner, own, layer.dense_upload)
            mixed = self.graph.same(self.hidden, mixed, shared)
        return mixed

    def dense(self, normed: int, inner: int, own: FeedForward, upload: int) -> int:
        graph, size = self.graph, inner * self.row
        if own.fused:
            inside = graph.node(size, self.weighted(2 * size, upload, normed))
        elif own.gated:
            gate, up = self.weighted(size, upload, normed), self.weighted(size, upload, normed)
            inside = self.joined(size, gate, up)
        else:
            inside = graph.same(size, self.weighted(size, upload, normed))
        return self.weighted(self.hidden, upload, inside)

    def joined(self, size: int, gate: int, up: int) -> int:
        if self.shape.glu:
            return self.graph.node(size, gate, up)
        return self.graph.same(size, self.graph.same(size, gate), up)

    def experts(self, normed: int, own: FeedForward, upload: int) -> int:
        graph = self.graph
        logits = graph.node(own.experts * self.row, normed)
        chances = graph.same(graph.sizes[logits], logits)
        ranking = graph.node(graph.sizes[logits], chances)
        weights = graph.node(own.used * self.row, chances, ranking)
        size = own.used * own.expert_inner * self.row
        if own.fused:
            inside = graph.node(size, self.weighted(2 * size, upload, normed, ranking))
        elif own.gated:
            gate = self.weighted(size, upload, normed, ranking)
            up = self.weighted(size, upload, normed, ranking)
            inside = self.joined(size, gate, up)
        else:
            inside = graph.same(size, self.weighted(size, upload, normed, ranking))
        each = self.weighted(own.used * self.hidden, upload, inside, ranking)
        each = graph.same(own.used * self.hidden, each, weights)
        if own.used == 1:
            return graph.node(self.hidden, each)
        total = graph.node(self.hidden, each, each)
        for _ in range(own.used - 2):
            total = graph.same(self.hidden, total, each)
        return total

    def logits(self, hidden: int) -> int:
        late = self.shape.late_outputs
        if late == "layer":
            self.graph.readers[hidden] += 1  # kept for those who predict ahead
            hidden = self.chosen(hidden)
        normed = self.normed(hidden)
        if late == "norm":
            self.graph.readers[normed] += 1
            normed = self.chosen(normed)
        return self.weighted(self.shape.vocabulary * self.row, self.span.output_upload, normed)
