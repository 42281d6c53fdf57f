"""Writes down llama.cpp's graph for one micro-batch: which tensors there are, how large, and who reads them.

Read from llama.cpp's graph code and from the graphs that it prints (GGML_SCHED_DEBUG=2) for generated models of each kind
of layer; sizes are facts of the model and of the load, nothing is fitted. Only what takes a place of its own is here:
views and reshapes are their source, weights and caches have buffers of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import msgspec

from app.core.memory import beside, recurrent
from app.core.memory.arena import Graph
from app.core.memory.attention import attention, projected, turning_sides
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
            writer.following = next(filter(recurrent.is_ordered, layers[position + 1 :]), None)
            is_last = self._span.is_last and position == len(layers) - 1
            if writer.shape.hidden_streams:
                hidden = beside.streamed_layer(writer, hidden, layer)
            else:
                hidden = writer.layer(hidden, layer, is_last=is_last)
            if position < writer.shape.image_layers and self._span.embeds:
                hidden = writer.graph.same(writer.hidden, hidden, writer.whole)
        if self._span.is_last:
            if writer.shape.hidden_streams:
                hidden = writer.chosen(beside.merged(writer, hidden))
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
        self.attending: Layer | None = None  # whose attention goes on when its state is written
        self.found = (-1, -1)
        self.attended = self.embedded = -1
        self.first_value = -1
        self.has_experts = False
        self.hidden = shape.width * self.row
        entering = self.hidden * (1 + shape.image_layers)
        self.mixes = span.embeds and shape.mixed_inputs
        attentions = [layer.attention for layer in span.layers if layer.attention is not None]
        sizes: list[int] = []

        def given(size: int) -> int:
            sizes.append(size)
            return graph.input(size)

        self.tokens = given(shape.tokens * I32) if span.embeds else given(self.hidden)
        if span.embeds and shape.glu:  # a place for embeddings that are given instead of tokens; kept for the whole run
            graph.readers[given(entering)] += 1
        self.mixed = [given(size) for size in (self.count * I32, entering, self.count * I64)] if self.mixes else []
        self.table = given(shape.per_layer * shape.tokens) if shape.per_layer and not span.embeds else -1
        self.whole = -1  # embeddings with the features of an image behind them
        self.projected = -1  # what all layers add of embeddings of their own, once it is worked out
        self.positions = given(shape.tokens * I32 * shape.positions) if attentions else -1
        self.masks: dict[bool, int] = {}
        self.writes: dict[bool, tuple[int, int]] = {}
        for windowed in (False, True):
            own = next((each for each in attentions if each.windowed is windowed), None)
            if own is None:
                continue
            values = shape.value_rows if not shape.flash and not own.latent_rank else 1
            if shape.cached:
                self.writes[windowed] = given(shape.tokens * I64), given(shape.tokens * I64 * values)
            for side in turning_sides(shape, own):
                graph.readers[given(side * side * F32)] += 1
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
        hidden = self.tokens
        if self.span.embeds:
            if self.shape.per_layer and not self.shape.hidden_streams:
                beside.look_up(self)
            hidden = self.looked_up()
        if self.shape.hidden_streams:
            return beside.entered(self, hidden)
        self.embedded = hidden
        if self.shape.per_layer:
            self.graph.readers[hidden] += 1  # until the layers' own embeddings are worked out
        return hidden

    def looked_up(self) -> int:
        graph, entering = self.graph, self.hidden * (1 + self.shape.image_layers)
        hidden = self.whole = graph.node(self.hidden, self.tokens)
        if self.mixed:  # written down beside it, though not computed: embeddings put among tokens; their copy is kept
            tokens, given, slots = self.mixed
            mixed = graph.node(self.hidden, tokens)
            if entering > self.hidden:
                hidden, mixed = graph.node(entering, hidden), graph.node(entering, mixed)
            copied = graph.node(entering, given)
            graph.node(0, mixed, slots, copied)
            graph.readers[copied] += 1
        elif entering > self.hidden:
            hidden = graph.node(entering, hidden)
        self.whole = hidden
        return hidden

    def layer(self, hidden: int, layer: Layer, *, is_last: bool) -> int:
        graph = self.graph
        self.has_experts = layer.feed_forward is not None and layer.feed_forward.used > 0
        if self.fetched < 0 and layer.attention is None:
            self.fetch(layer)
        normed = hidden if layer.norms_after else self.normed(hidden)
        late = bool(self.shape.late_outputs)
        if layer.parallel and layer.feed_forward is not None and layer.attention is not None:
            # The attention's last product comes after the feed-forward: only the final sum asks for it.
            attended, whole = attention(self, normed, layer.attention, layer), self.hidden
            if is_last and not late:
                hidden, normed = self.chosen(hidden), normed if layer.parallel_norm else self.chosen(normed)
            if layer.parallel_norm:
                normed = self.normed(hidden)
            joined = graph.same(self.hidden, self.feed_forward(normed, layer), hidden)
            mixed = projected(self, whole, attended, layer)
            if is_last and not late:
                mixed = self.chosen(mixed)
            return graph.same(self.hidden, joined, mixed)
        # A sum takes the place of its first part, which must be no view, and asks for that first.
        is_view = layer.recurrent is not None and layer.recurrent.kind in ("delta", "convolution")
        first = layer.residual_first == "both" or is_view
        if is_last and not late and first:
            rows = self.rows_of(hidden)
            mixed, hidden = self.chosen(self.mixer(normed, layer, hidden)), rows
        else:
            mixed = self.mixer(normed, layer, hidden)
            if is_last and not late:
                mixed, hidden = self.chosen(mixed), self.chosen(hidden)
        joined = graph.same(self.hidden, hidden, mixed) if first else graph.same(self.hidden, mixed, hidden)
        if layer.feed_forward is None:
            return joined
        if layer.recurrent is not None and layer.recurrent.kind.startswith("rwkv"):
            graph.node(0, normed)  # the last token is kept for the next time
        if layer.norms_after and self.shape.shifting_norm:
            joined = self.normed(joined)
        fed = self.fed(joined, layer)
        left = graph.same(self.hidden, joined, fed) if layer.residual_first else graph.same(self.hidden, fed, joined)
        return beside.added(self, left) if self.shape.per_layer else left

    def fetch(self, layer: Layer) -> None:
        """Brings what a layer remembers of earlier tokens, for the kinds that ask for it before anything else."""
        own = layer.recurrent
        is_early = own is not None and own.kind in recurrent.EARLY
        self.fetched = self.graph.node(recurrent.remembered_bytes(own, self.shape)) if own and is_early else -1

    def fetch_next(self) -> None:
        """The last step of a layer that is asked for by name, unless it has experts, which come later: what comes after is
        written when the next such step needs it, and that is what the next layer remembers."""
        if self.attending is not None:
            self.attended = projected(self, self.hidden, self.found, self.attending)
        if not self.has_experts:
            self.fetch_following()

    def fetch_following(self) -> None:
        self.fetched = -1
        if self.following is not None and self.following.attention is None:
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

    def mixer(self, normed: int, layer: Layer, hidden: int) -> int:
        if layer.recurrent is not None and layer.attention is not None:
            self.found, self.attending = attention(self, normed, layer.attention, layer), layer
            self.fetch(layer)
            again = self.graph.node(self.hidden, hidden)  # its state reads a norm of its own
            mixed = recurrent.WRITTEN[layer.recurrent.kind](self, again, layer.recurrent, layer.mixer_upload)
            self.attending = None
            return self.graph.same(self.hidden, self.attended, mixed)
        if layer.recurrent is not None:
            return recurrent.WRITTEN[layer.recurrent.kind](self, normed, layer.recurrent, layer.mixer_upload)
        if layer.attention is not None:
            found = attention(self, normed, layer.attention, layer)
            self.fetch_next()
            return projected(self, self.hidden, found, layer)
        return normed

    def fed(self, joined: int, layer: Layer) -> int:
        own = layer.feed_forward
        assert own is not None
        if not own.beside_inner:
            return self.feed_forward(joined if layer.norms_after else self.normed(joined), layer)
        mixed = self.experts(joined, own, layer.expert_upload)  # router, experts and the dense one each have a norm
        self.fetch_following()
        dense = self.dense(self.normed(joined), own.beside_inner, own, layer.dense_upload)
        return self.graph.same(self.hidden, dense, mixed)

    def feed_forward(self, normed: int, layer: Layer) -> int:
        own = layer.feed_forward
        assert own is not None
        if not own.used:
            return self.dense(normed, own.inner, own, layer.dense_upload)
        mixed = self.experts(normed, own, layer.expert_upload)
        self.fetch_following()
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
        logits = graph.node(own.experts * self.row, self.normed(normed) if own.beside_inner else normed)
        chances = graph.same(graph.sizes[logits], logits)
        ranking = graph.node(graph.sizes[logits], chances)
        weights = graph.node(own.used * self.row, chances, ranking)
        normed = self.normed(normed) if own.beside_inner else normed
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
