"""Defines what is known of a model: the facts that its files state, every size in bytes, unknown is `None`."""

from __future__ import annotations

from pathlib import Path

import msgspec


class TensorFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One group of tensors of the same role and type: how many bytes it occupies when loaded."""

    role: str  # "embedding" | "output" | "layer" | "expert" | "other"
    layer: int | None
    type: str
    bytes: int


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
    experts: int | None = None
    experts_used: int | None = None
    vocabulary: int | None = None
    context_max: int | None = None
    capabilities: tuple[str, ...] = ()  # "chat" "vision" "tools" "embeddings" "reasoning"
    chat_template: str | None = None
    modified_ns: int = 0
