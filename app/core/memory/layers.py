"""Turns what is known of a model and of a load into the shape of llama.cpp's graph: how each layer is built."""

from __future__ import annotations

from collections.abc import Sequence

from app.core.catalog.facts import ModelFacts
from app.core.memory.load import KV_TYPE_BYTES, Load
from app.core.memory.parts import cache_cells, widest_value
from app.core.memory.remembered import once_per_model
from app.core.memory.shapes import F16, F32, Attention, FeedForward, Layer, Recurrent, Shape

# Their graph narrows to the wanted tokens only after the last layer.
_LATE_OUTPUTS = {"qwen3next": "norm", "qwen35": "norm", "qwen35moe": "norm", "gpt-oss": "layer"}
# They add a layer's result to what went in, others the other way round; it decides whose place the sum takes.
_RESIDUAL_FIRST = {"lfm2": "both", "lfm2moe": "both", "phi3": "second", "phimoe": "second", "jamba": "both"}
USED_WHEN_UNTOLD = 8  # experts of a token, where a mixture's file is silent: most use no more
_IMAGE_POSITIONS = frozenset(("qwen2vl", "qwen3vl", "qwen3vlmoe", "qwen35", "qwen35moe"))


def shape_of(facts: ModelFacts, load: Load) -> Shape:
    full, window = cache_cells(facts, load)
    asked = min(load.ubatch_tokens, load.batch_tokens, load.context_tokens)
    tokens = -(-asked // load.slots) * load.slots if load.glu else asked  # as many of each sequence
    share = 1 if load.unified else max(1, load.slots)
    turns = not load.wide_mask and not facts.graph.cacheless
    return Shape(
        width=facts.embedding_length or 0,
        vocabulary=0 if facts.graph.headless else facts.vocabulary or 0,
        tokens=tokens,
        outputs=min(asked, load.outputs) if load.outputs else tokens,
        cells=tokens if facts.graph.cacheless else full // share,
        window_cells=tokens if facts.graph.cacheless else window // share,
        sequences=load.slots,
        flash=load.flash_attention,
        shifting_norm=facts.graph.shifting_norm,
        turned_keys=turns and KV_TYPE_BYTES[load.kv_type_k] < F16 and (facts.key_length or 0) % 64 == 0,
        turned_values=turns and KV_TYPE_BYTES[load.kv_type_v] < F16 and (facts.value_length or 0) % 64 == 0,
        wide_keys=load.kv_type_k == "f32",
        wide_values=load.kv_type_v == "f32",
        cached=not facts.graph.cacheless,
        value_rows=widest_value(facts),
        windows=any(facts.windowed_layers),
        per_layer=facts.graph.per_layer_length * (facts.layers or 0) * F32,
        per_layer_length=facts.graph.per_layer_length,
        hidden_streams=facts.graph.hidden_streams,
        image_layers=facts.graph.image_layers if load.glu else 0,
        streams=share,
        positions=4 if facts.architecture in _IMAGE_POSITIONS else 1,
        late_outputs=_LATE_OUTPUTS.get(facts.architecture, ""),
        glu=load.glu,
        mixed_inputs=load.mixed_inputs,
        wide_mask=load.wide_mask,
    )


def layers_of(facts: ModelFacts, load: Load, uploads: Sequence[tuple[int, int, int]] = ()) -> tuple[Layer, ...]:
    """One entry per layer of the graph. `uploads` says for each layer how many bytes of cache, of its largest other matrix
    and of its largest expert matrix a card has to be sent, 0 where they lie there."""
    kinds = kinds_of_layers(facts)
    nothing = (0, 0, 0)
    sent = [*uploads, *[nothing] * (len(kinds) - len(uploads))] if any(map(any, uploads)) else [nothing] * len(kinds)
    built = list(zip(kinds, sent, strict=False))
    made = {each: _layer(facts, load, *each[0], each[1]) for each in set(built)}  # equal layers are one value
    return tuple([made[each] for each in built])


@once_per_model
def kinds_of_layers(facts: ModelFacts) -> tuple[tuple[int, bool, bool, bool, int], ...]:
    """Of each layer: its KV heads, whether it sees a window, keeps a state, has experts, and its dense feed-forward's length."""
    lengths = facts.graph.feed_forward_lengths

    def flagged(flags: Sequence[bool], layer: int) -> bool:
        return layer < len(flags) and flags[layer]

    return tuple(
        (
            facts.kv_heads[layer] if layer < len(facts.kv_heads) else 0,
            flagged(facts.windowed_layers, layer),
            flagged(facts.graph.state_layers, layer),
            _has_experts(facts, layer),
            (lengths[layer] if layer < len(lengths) else 0) if lengths else facts.feed_forward_length or 0,
        )
        for layer in range(max(0, (facts.layers or 0) - facts.graph.ahead_layers))
    )


def _has_experts(facts: ModelFacts, layer: int) -> bool:
    flags = facts.graph.expert_layers
    return bool(_experts_used(facts)) and (not flags or (layer < len(flags) and flags[layer]))


def _experts_used(facts: ModelFacts) -> int:
    return facts.experts_used or min(USED_WHEN_UNTOLD, facts.experts or 0)


def _layer(
    facts: ModelFacts,
    load: Load,
    kv_heads: int,
    windowed: bool,
    keeps_state: bool,
    has_experts: bool,
    inner: int,
    sent: tuple[int, int, int],
) -> Layer:
    graph = facts.graph
    shares_a_cache = not kv_heads and not keeps_state and any(facts.kv_heads) and bool(facts.heads)
    attends = kv_heads > 0 or shares_a_cache
    feeds = FeedForward(
        inner=inner,
        gated=not (graph.ungated_experts if has_experts else graph.ungated),
        fused=graph.fused_expert_gate if has_experts else graph.fused_gate,
        experts=facts.experts or 0 if has_experts else 0,
        used=_experts_used(facts) if has_experts else 0,
        expert_inner=facts.expert_feed_forward_length or facts.feed_forward_length or 0,
        beside_inner=inner if has_experts and graph.feed_forward_lengths else 0,
        shared_inner=graph.shared_expert_length if has_experts else 0,
    )
    return Layer(
        attention=_attention(facts, load, kv_heads or max(facts.kv_heads, default=1), windowed, shares_a_cache)
        if attends
        else None,
        recurrent=_recurrent(facts) if keeps_state else None,
        feed_forward=feeds if inner or has_experts else None,
        residual_first=_RESIDUAL_FIRST.get(facts.architecture, ""),
        parallel=graph.parallel,
        parallel_norm=graph.parallel_norm,
        norms_after=graph.norms_after,
        cache_upload=sent[0],
        mixer_upload=sent[1],
        dense_upload=sent[1],
        expert_upload=sent[2],
    )


def _attention(facts: ModelFacts, load: Load, kv_heads: int, windowed: bool, shares: bool) -> Attention:
    graph = facts.graph
    latent = facts.latent_kv and graph.latent_rank > 0
    key_length = (facts.window_key_length if windowed else None) or facts.key_length or 0
    value_length = (facts.window_value_length if windowed else None) or facts.value_length or 0
    return Attention(
        heads=facts.heads or kv_heads,
        kv_heads=kv_heads,
        key_length=graph.latent_key_length or key_length if latent else key_length,
        value_length=graph.latent_value_length or value_length if latent else value_length,
        windowed=windowed,
        rotated=not graph.unrotated,
        shares=shares,
        gated=graph.gated_attention,
        gate_apart=graph.gate_apart,
        fused=graph.fused_attention,
        latent_rank=graph.latent_rank if latent else 0,
        latent_query=graph.latent_query if latent else 0,
        rope_length=graph.rope_length if latent else 0,
        expanded=latent and load.expanded_latents and load.flash_attention,
        piece_bytes=load.attention_piece_bytes,
    )


def _recurrent(facts: ModelFacts) -> Recurrent:
    graph = facts.graph
    return Recurrent(
        kind=graph.state_kind or "mamba2",
        inner=graph.state_inner,
        convolution=graph.convolution or 1,
        state=graph.state_size,
        groups=graph.state_groups,
        heads=graph.state_heads,
    )
