"""Defines what a graph is written from: how each kind of layer is built, what all layers share, what one device computes."""

from __future__ import annotations

import msgspec

F32, F16, I32, I64 = 4, 2, 4, 8


class Attention(msgspec.Struct, frozen=True, kw_only=True):
    heads: int
    kv_heads: int
    key_length: int
    value_length: int
    windowed: bool = False
    gated: bool = False  # the query's matrix yields a gate too
    gate_apart: bool = False  # the gate comes out of a matrix of its own
    fused: bool = False  # query, key and value come out of one matrix
    latent_rank: int = 0  # MLA: what is cached of a token, without its position's part
    latent_query: int = 0
    rope_length: int = 0  # MLA: the part of a head that carries the position
    rotated: bool = True
    shares: bool = False  # it looks into another layer's cache and writes nothing
    expanded: bool = False  # MLA: keys and values of all cells are unpacked again
    piece_bytes: int = 0  # for as many heads at once as stay below; 0: for all heads


class Recurrent(msgspec.Struct, frozen=True, kw_only=True):
    """A layer with a fixed state: state space ("mamba", "mamba2"), delta rule ("delta", "kda"), convolution, "rwkv", "rwkv7"."""

    kind: str
    inner: int
    convolution: int = 4
    state: int = 0
    groups: int = 0
    heads: int = 0


class FeedForward(msgspec.Struct, frozen=True, kw_only=True):
    inner: int = 0
    gated: bool = True
    fused: bool = False  # gate and up come out of one matrix
    experts: int = 0
    used: int = 0
    expert_inner: int = 0
    shared_inner: int = 0
    beside_inner: int = 0  # a dense one beside the experts


class Layer(msgspec.Struct, frozen=True, kw_only=True):
    """`uploads` holds, for a layer whose weights lie in main memory, its largest matrices' bytes: mixer, dense, experts."""

    attention: Attention | None = None
    recurrent: Recurrent | None = None
    feed_forward: FeedForward | None = None
    parallel: bool = False  # attention and feed-forward read the same input
    residual_first: str = ""  # "second", "both": of the layer's two sums
    norms_after: bool = False  # attention and feed-forward read their input as it is
    parallel_norm: bool = False  # the feed-forward has a norm of its own then
    mixer_upload: int = 0
    cache_upload: int = 0
    dense_upload: int = 0
    expert_upload: int = 0


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """What all layers share. `outputs` is the number of tokens whose logits the engine makes room for; `cells` are what one
    sequence's tokens look at, `window_cells` those of a layer that sees a window."""

    width: int
    vocabulary: int
    tokens: int
    outputs: int
    cells: int = 0
    window_cells: int = 0
    sequences: int = 1
    flash: bool = True
    shifting_norm: bool = False  # layer norm rather than root mean square
    turned_keys: bool = False  # a quantised cache holds rotated keys (values): both sides are turned for it
    turned_values: bool = False
    wide_keys: bool = False  # the cache holds f32, which flash attention takes as a copy in f16
    wide_values: bool = False
    cached: bool = True  # False: every token sees the micro-batch and no more
    value_rows: int = 0  # numbers of one token's values in the layer that has most
    windows: bool = False  # some layers see a window: two caches, and keys are computed before values
    per_layer: int = 0  # bytes, of one token, of what all layers add of embeddings of their own
    per_layer_length: int = 0
    hidden_streams: int = 0  # times the hidden state goes through the layers side by side
    image_layers: int = 0  # first layers that an image's features are added to
    streams: int = 1  # parts of the cache, where each sequence has its own
    positions: int = 1  # position numbers per token (images have more)
    late_outputs: str = ""  # "layer", "norm": all tokens go through the whole last layer, or its norm too
    glu: bool = True  # gate and up are multiplied into a tensor of its own (builds since mid-2025)
    mixed_inputs: bool = False  # room for tokens and embeddings in one micro-batch (builds since late 2026)
    wide_mask: bool = False  # the mask arrives as f32 and is converted on the device (builds until 2026)


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """The part of the graph that one device computes: its layers, and whether it reads tokens and writes logits."""

    layers: tuple[Layer, ...]
    embeds: bool = True
    is_last: bool = True
    output_upload: int = 0  # bytes of the output's matrix that lies in main memory and is brought for the product
    inputs_kept: int = 1  # copies of each input held for the whole run (pipeline parallelism has four)
