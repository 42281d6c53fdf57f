"""Computes the compute buffers of a load, one for each device: what of llama.cpp's graph each of them works on."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from app.core.catalog.facts import ModelFacts
from app.core.memory.graph import compute_bytes
from app.core.memory.layers import kinds_of_layers, layers_of, shape_of
from app.core.memory.load import Load
from app.core.memory.parts import cache_cells
from app.core.memory.shapes import F16, F32, I32, I64, Layer, Span

PIPELINE_COPIES = 4  # micro-batches under way at once when whole layers are spread over several cards
OFFLOAD_BATCH_TOKENS = 32  # from here on products with weights in main memory are computed on the card


class LayerPlace(msgspec.Struct, frozen=True, kw_only=True):
    """Where one layer is: the card that computes it (None: main memory), and bytes of weights and cache that lie elsewhere."""

    card: int | None
    cache_on_host: int = 0
    other_on_host: int = 0  # the largest single matrix
    expert_on_host: int = 0


def host_buffer(facts: ModelFacts, load: Load) -> int:
    """Everything is computed in main memory: one buffer holds inputs and graph."""
    return compute_bytes(shape_of(facts, load), Span(layers=layers_of(facts, load)))


def card_buffers(
    facts: ModelFacts,
    load: Load,
    places: Sequence[LayerPlace],
    output_card: int | None,
    cards: int,
    output_on_host: int = 0,
) -> tuple[int, ...]:
    """One buffer per card; cards without a layer have none. The first card also computes what lies in main memory, for
    which it is sent the weights, one matrix after the other, and the cache. That holds for the output's matrix too
    (`output_on_host` bytes) where the logits of a large batch are wanted: builds with room for few logits never do."""
    shape = shape_of(facts, load)
    large = shape.tokens >= OFFLOAD_BATCH_TOKENS
    sent_output = output_on_host if load.offload_products and shape.outputs >= OFFLOAD_BATCH_TOKENS else 0
    uploads = _uploads(facts, places) if load.offload_products else [(0, 0, 0)] * len(places)
    layers = layers_of(facts, load, uploads)
    pipelined = cards > 1 and load.gpu_layers > len(places) and not any(map(any, uploads)) and not load.overrides
    found = []
    for card in range(cards):
        own = [
            layer
            for layer, place in zip(layers, places, strict=False)
            if place.card == card or (card == 0 and place.card is None and large)
        ]
        brought = sent_output if card == 0 and output_card is None else 0
        if not own and card != output_card and not brought:
            found.append(0)
            continue
        span = Span(
            layers=tuple(own),
            embeds=False,
            is_last=card == output_card or bool(brought),
            output_upload=brought,
            inputs_kept=PIPELINE_COPIES if pipelined else 1,
        )
        found.append(compute_bytes(shape, span))
    return tuple(found)


def _uploads(facts: ModelFacts, places: Sequence[LayerPlace]) -> list[tuple[int, int, int]]:
    """What a card is sent for each layer: its cache, its largest matrix and its largest expert matrix. Of layers that are built
    alike the largest counts for all: a mixed quantisation gives every layer another size, and the buffer holds the largest."""
    if not any(place.other_on_host or place.expert_on_host for place in places):
        return [(place.cache_on_host, 0, 0) for place in places]
    kinds = kinds_of_layers(facts)
    largest: dict[object, tuple[int, int]] = {}
    for place, kind in zip(places, kinds, strict=False):
        other, expert = largest.get(kind, (0, 0))
        largest[kind] = max(other, place.other_on_host), max(expert, place.expert_on_host)
    return [
        (
            place.cache_on_host,
            largest[kind][0] if place.other_on_host else 0,
            largest[kind][1] if place.expert_on_host else 0,
        )
        for place, kind in zip(places, kinds, strict=False)
    ]


def staging_buffer(facts: ModelFacts, load: Load, layers: Sequence[Layer] = ()) -> int:
    """What main memory prepares for the cards: the inputs and the tokens' embeddings."""
    shape = shape_of(facts, load)
    tokens = shape.tokens
    full, window = cache_cells(facts, load)
    width = F16 if shape.flash and not shape.wide_mask else F32
    total = tokens * (I32 * (1 + shape.positions) + 2 * I64) + shape.outputs * I32
    embedded = shape.width * tokens * F32
    attends = any(facts.kv_heads)
    masks = 0
    if attends and not all(facts.windowed_layers or (False,)):
        masks += full
    if any(facts.windowed_layers):
        masks += window
    share = 1 if load.unified else max(1, load.slots)
    # Builds since mid-2025 also keep room for embeddings given instead of tokens, those since late 2026 for both mixed.
    copies = (2 if shape.glu else 1) + (3 if shape.mixed_inputs else 0)
    return total + copies * embedded + masks // share * tokens * width
