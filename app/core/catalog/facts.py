"""Defines what is known of a model: the facts that its files state, every size in bytes, unknown is `None`."""

from __future__ import annotations

from pathlib import Path

import msgspec


def one_line(text: str, longest: int = 200) -> str:
    """The text as it can stand in a list and a sentence: bounded, without line breaks and control characters."""
    return " ".join("".join(each if each.isprintable() else " " for each in text[: longest + 1]).split())[:longest]


class TensorFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One group of tensors of the same role and type: how many bytes it occupies when loaded."""

    role: str  # "embedding" | "output" | "layer" | "expert" | "host" (always in main memory) | "other"; of a folder beside
    # these "key_value" (divided by KV heads), "whole" (the same on every rank), "tower" (eyes, ears), "draft" (not loaded)
    layer: int | None
    type: str
    bytes: int
    largest_bytes: int = 0  # the largest single tensor of the group


class LayerState(msgspec.Struct, frozen=True, kw_only=True):
    """What a layer without a KV cache keeps of each sequence: numbers of its short convolution, and of its state proper."""

    convolution: int
    state: int
    state_type: str | None = None  # number type of the state where the config says one; None: that of the model
    kind: str = "mamba2"  # "mamba1" | "mamba2" | "delta" (gated delta net) | "kda" | "convolution" | "linear"


class GraphFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What shapes llama.cpp's graph beside the plain dimensions; zero and empty: not there, or not known."""

    fused_attention: bool = False  # query, key and value come out of one matrix
    gated_attention: bool = False  # the query's matrix yields a gate for the result
    gate_apart: bool = False  # a matrix of its own yields it
    parallel: bool = False  # attention and feed-forward read the same input
    parallel_norm: bool = False  # and the feed-forward has a norm of its own
    shifting_norm: bool = False  # layer norm rather than root mean square
    ungated: bool = False  # one matrix leads into the feed-forward
    fused_gate: bool = False  # gate and up are one matrix
    ungated_experts: bool = False
    fused_expert_gate: bool = False
    shared_expert_length: int = 0
    feed_forward_lengths: tuple[int, ...] = ()  # of the dense ones, per layer, 0 = none; empty: all alike, as told
    expert_layers: tuple[bool, ...] = ()  # one entry per layer; empty: all, where there are experts
    state_layers: tuple[bool, ...] = ()  # one entry per layer when some keep a state; these may attend as well
    state_kind: str = ""  # "mamba" | "mamba2" | "delta" | "kda" | "convolution" | "rwkv" | "rwkv7"
    state_inner: int = 0
    state_size: int = 0
    state_groups: int = 0
    state_heads: int = 0
    convolution: int = 0
    latent_rank: int = 0  # MLA
    latent_query: int = 0
    rope_length: int = 0
    latent_key_length: int = 0
    latent_value_length: int = 0
    cacheless: bool = False  # every token sees the whole batch and nothing else: no KV cache is made
    headless: bool = False  # it ends without logits
    unrotated: bool = False  # heads carry no position
    norms_after: bool = False  # attention and feed-forward read their input as it is; what they say is normed
    per_layer_length: int = 0  # each layer adds so many numbers of an embedding of its own
    hidden_streams: int = 0  # the hidden state goes through the layers so many times side by side (AltUp)
    image_layers: int = 0  # first layers that an image's features are added to
    ahead_layers: int = 0  # last layers that only predict ahead: neither loaded nor computed unless asked for


class ModelFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a model's headers say. `key_length`/`value_length` are per head; list fields hold one entry per layer."""

    path: Path
    format: str  # "gguf" | "safetensors"
    name: str
    architecture: str
    file_bytes: int
    weights_bytes: int
    tensors: tuple[TensorFacts, ...] = ()
    parameters: int | None = None
    quantisation: str | None = None
    layers: int | None = None
    embedding_length: int | None = None
    feed_forward_length: int | None = None
    heads: int | None = None
    kv_heads: tuple[int, ...] = ()  # one entry per layer; 0 = this layer owns no KV
    key_length: int | None = None
    value_length: int | None = None
    sliding_window: int | None = None
    windowed_layers: tuple[bool, ...] = ()  # one entry per layer when there is a window; True = caches only the window
    window_key_length: int | None = None  # where windowed layers have heads of another size
    window_value_length: int | None = None
    window_kv_heads: int | None = None  # where windowed layers have another number of them; `kv_heads` says it by layer
    window_is_chunk: bool = False  # a windowed layer sees its own chunk of the context, not the latest tokens
    latent_kv: bool = False  # MLA: one latent vector is cached as key, values are a view of it
    kv_lora_rank: int | None = None  # MLA: numbers of that vector, its rotated part not counted
    q_lora_rank: int | None = None  # MLA: to which queries are compressed, where they are
    mtp_heads: int = 0  # layers that only predict further tokens; `layers` counts them where the format does (GGUF)
    index_key_length: int | None = (
        None  # of sparse attention: numbers that the indexer caches for each token, in 8 bits
    )
    state_layers: tuple[bool, ...] = ()  # one entry per layer when some keep a state in place of a KV cache
    layer_state: LayerState | None = None
    rotation_numbers: int | None = (
        None  # of the table of rotations by position that an engine may keep; None = not known
    )
    number_type: str | None = None  # in which the model computes: "bfloat16", "float16", "float32"
    nested_scales: bool = False  # bitsandbytes: the scales of its 4-bit weights lie in the file as 8-bit numbers
    kv_quantised: str | None = (
        None  # the number type of the KV cache that the weights were made for, where not the model's
    )
    recurrent_state_bytes: int | None = None  # per sequence, all layers; 0 = none, None = not known
    logit_softcap: bool = False
    graph: GraphFacts = GraphFacts()
    tied_embeddings: bool = False  # the token embedding is the output matrix too
    experts: int | None = None
    experts_used: int | None = None
    expert_feed_forward_length: int | None = None
    vocabulary: int | None = None
    context_max: int | None = None
    capabilities: tuple[str, ...] = ()  # "chat" "vision" "tools" "embeddings" "reasoning"
    chat_template: str | None = None
    modified_ns: int = 0
    files: tuple[Path, ...] = ()  # all parts of a split model, the first included


class Companion(msgspec.Struct, frozen=True, kw_only=True):
    """A file that is loaded beside a model: a projector for images, a draft model, an adapter."""

    role: str  # "vision" | "draft" | "lora"
    path: Path
    weights_bytes: int
    facts: ModelFacts | None = None  # of a draft model
    patches: int | None = None  # of a projector: pieces that one image is cut into, at the size it was trained on
    heads: int | None = None  # of a projector
