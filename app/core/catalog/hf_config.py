"""Turns a Hugging Face config.json into facts: which layers own a KV cache or a state, heads, dims, windows, experts.

Every figure is bounded, and a key of a wrong type counts as not there: a config is somebody else's file. A model with
eyes or ears nests the keys of its text part (`text_config`, `llm_config`, `thinker_config`, …).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from app.core.catalog.facts import LayerState, one_line

Config = Mapping[str, object]

MAX_LAYERS = 4_096
MAX_NUMBER = 2**40
TEXT_PARTS = ("text_config", "llm_config", "language_config", "thinker_config", "language_model")
WINDOWED = frozenset(("sliding_attention", "sliding", "local", "local_attention", "sliding_window", "swa"))
CHUNKED = frozenset(("chunked_attention", "chunked"))
STATEFUL = frozenset(
    ("linear_attention", "mamba", "mamba2", "conv", "kda", "gdn", "recurrent", "ssm", "lightning_attention", "M")
)
WITHOUT_CACHE = frozenset(("mlp", "moe", "-", "E", "ffn"))


class Layers(msgspec.Struct, frozen=True, kw_only=True):
    """What the layers keep; the fields are those of `ModelFacts`."""

    layers: int | None
    kv_heads: tuple[int, ...] = ()
    key_length: int | None = None
    value_length: int | None = None
    sliding_window: int | None = None
    windowed_layers: tuple[bool, ...] = ()
    window_key_length: int | None = None
    window_value_length: int | None = None
    window_kv_heads: int | None = None
    window_is_chunk: bool = False
    latent_kv: bool = False
    kv_lora_rank: int | None = None
    q_lora_rank: int | None = None
    index_key_length: int | None = None
    state_layers: tuple[bool, ...] = ()
    layer_state: LayerState | None = None


def text_part(config: Config) -> Config:
    """The keys of the text model: those nested in a text part, completed by the outer ones."""
    inner: Config = config
    for _ in range(3):
        found = next((part for name in TEXT_PARTS if isinstance(part := inner.get(name), dict) and part), None)
        if found is None:
            break
        inner = {**{key: value for key, value in inner.items() if key in _SHARED}, **found}
    return inner


_SHARED = ("tie_word_embeddings", "torch_dtype", "dtype", "quantization_config", "vocab_size")


def whole(config: Config, *names: str) -> int | None:
    """The first of these keys that holds a positive whole number of a believable size."""
    for name in names:
        value = config.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value < MAX_NUMBER:
            return value
    return None


def words(config: Config, name: str) -> list[str]:
    found = config.get(name)
    return [str(each) for each in found[:MAX_LAYERS]] if isinstance(found, list) else []


def architecture_of(config: Config, text: Config) -> str:
    for each in (text, config):
        found = each.get("model_type")
        if isinstance(found, str) and (found := one_line(found, 100)):
            return found
    return "unknown"


def number_type(config: Config, text: Config) -> str | None:
    for each in (text, config):
        for name in ("dtype", "torch_dtype"):
            found = each.get(name)
            if isinstance(found, str) and (found := one_line(found, 40)):
                return found.removeprefix("torch.")
    return None


def layers_of(text: Config) -> Layers:
    """Decides for each layer whether it owns a KV cache (how many heads of which size), a window of it, or a state."""
    count = whole(text, "num_hidden_layers", "n_layer", "n_layers", "num_layers")
    if count is None or count > MAX_LAYERS:
        return Layers(layers=None)
    kinds = _kinds(text, count)
    heads = whole(text, "num_attention_heads", "n_head", "n_heads")
    per_head = whole(text, "head_dim", "attention_head_dim") or _divided(
        whole(text, "hidden_size", "n_embd", "d_model"), heads
    )
    own = _kv_heads(text, heads)
    latent = _latent(text)
    if latent is not None:
        per_head, own = latent, 1
    shared = min(whole(text, "num_kv_shared_layers") or 0, count)
    each = _heads_by_layer(text, count)
    full_heads = whole(text, "num_global_key_value_heads") or own
    full_length = whole(text, "global_head_dim") or per_head
    caching = tuple(kind in ("full", "window", "chunk", "both") for kind in kinds)
    windowed = tuple(kind in ("window", "chunk") for kind in kinds)
    window = _window(text, any(kind == "chunk" for kind in kinds)) if any(windowed) else None
    if window is None:
        windowed = ()
    kv_heads = tuple(
        0
        if not caching[layer] or layer >= count - shared
        else each[layer]
        if each
        else (own or 0)
        if windowed and windowed[layer]
        else (full_heads or 0)
        for layer in range(count)
    )
    stateful = tuple(kind in ("state", "both") for kind in kinds)
    value = whole(text, "v_head_dim") if latent is None else None
    return Layers(
        layers=count,
        kv_heads=kv_heads if any(kv_heads) or any(stateful) else (),
        key_length=full_length,
        value_length=full_length if latent is not None or value is None else value,
        sliding_window=window,
        windowed_layers=windowed,
        window_key_length=per_head if windowed and per_head != full_length else None,
        window_value_length=per_head if windowed and per_head != full_length else None,
        window_kv_heads=own if windowed and own != full_heads else None,
        window_is_chunk=bool(windowed) and any(kind == "chunk" for kind in kinds),
        latent_kv=latent is not None,
        kv_lora_rank=whole(text, "kv_lora_rank") if latent is not None else None,
        q_lora_rank=whole(text, "q_lora_rank") if latent is not None else None,
        index_key_length=whole(text, "index_head_dim") if latent is not None else None,
        state_layers=stateful if any(stateful) else (),
        layer_state=_state(text) if any(stateful) else None,
    )


def rotation_numbers(text: Config, per_head: int | None) -> int | None:
    """Numbers in the table of sines and cosines: positions x the part of a head that is rotated. Models with positions in
    three dimensions (eyes) get four times as many, stretched ones as many as they are stretched to."""
    positions = whole(text, "max_position_embeddings")
    size = whole(text, "qk_rope_head_dim") or per_head
    if positions is None or size is None:
        return None
    found = text.get("rope_parameters") or text.get("rope_scaling")
    scaling: Config = found if isinstance(found, dict) else {}
    part = text.get("partial_rotary_factor", scaling.get("partial_rotary_factor"))
    if isinstance(part, int | float) and 0 < part < 1:
        size = int(size * part)
    original, factor = whole(scaling, "original_max_position_embeddings"), scaling.get("factor")
    stretched = scaling.get("rope_type", scaling.get("type")) == "yarn"
    if stretched and original and isinstance(factor, int | float) and 1 < factor < 1_000:
        positions = int(original * factor)
    return positions * size * (4 if isinstance(scaling.get("mrope_section"), list) else 1)


def _divided(whole_size: int | None, parts: int | None) -> int | None:
    return whole_size // parts if whole_size and parts else None


def _latent(text: Config) -> int | None:
    """MLA caches one vector for all heads: the compressed one and the rotated part of the key."""
    rank, rotated = whole(text, "kv_lora_rank"), whole(text, "qk_rope_head_dim")
    return rank + rotated if rank and rotated else None


def _kv_heads(text: Config, heads: int | None) -> int | None:
    if text.get("multi_query") is True and not text.get("new_decoder_architecture"):
        return whole(text, "multi_query_group_num") or 1
    named = whole(
        text, "num_key_value_heads", "num_kv_heads", "n_head_kv", "multi_query_group_num", "num_attention_groups"
    )
    if named is None and isinstance(nested := text.get("attn_config"), dict):
        named = whole(nested, "kv_n_heads")
    return named or heads


def _heads_by_layer(text: Config, count: int) -> tuple[int, ...]:
    """Where each layer says its own: a list of them, or blocks made by a search (Nemotron)."""
    for name in ("num_key_value_heads", "num_kv_heads", "num_key_value_heads_per_layer"):
        found = text.get(name)
        if isinstance(found, list) and len(found) == count:
            return tuple(each if isinstance(each, int) and 0 <= each < MAX_NUMBER else 0 for each in found)
    blocks = text.get("block_configs")
    heads = whole(text, "num_attention_heads")
    if not isinstance(blocks, list) or len(blocks) != count or not heads:
        return ()
    found_heads = []
    for block in blocks:
        attention = block.get("attention") if isinstance(block, dict) else None
        group = whole(attention, "n_heads_in_group") if isinstance(attention, dict) else None
        found_heads.append(heads // group if group else 0)
    return tuple(found_heads)


# --- which layer is of which kind --------------------------------------------------------------------------------------


def _kinds(text: Config, count: int) -> list[str]:
    """Per layer: "full", "window", "chunk", "state", "both" (attention and state in one layer) or "none"."""
    for find in (_kinds_named, _kinds_by_pattern, _kinds_by_numbers, _kinds_by_period):
        found = find(text, count)
        if found is not None:
            return found
    everywhere = "window" if _windowed_everywhere(text) else "full"
    return [everywhere] * count


def _kinds_named(text: Config, count: int) -> list[str] | None:
    for key in ("layer_types", "layers_block_type"):
        named = words(text, key)
        if len(named) >= count:
            return [_kind(name) for name in named[:count]]
    return None


def _kind(name: str) -> str:
    if name in WINDOWED:
        return "window"
    if name in CHUNKED:
        return "chunk"
    if name in STATEFUL:
        return "state"
    return "none" if name in WITHOUT_CACHE else "both" if name == "hybrid" else "full"


def _kinds_by_pattern(text: Config, count: int) -> list[str] | None:
    """One letter per layer (Nemotron-H): M is a state, * attention, the others neither."""
    pattern = text.get("hybrid_override_pattern")
    if not isinstance(pattern, str) or len(pattern) < count:
        return None
    return [{"M": "state", "*": "full"}.get(letter, "none") for letter in pattern[:count]]


def _kinds_by_numbers(text: Config, count: int) -> list[str] | None:
    """Lists of the layers that are of one kind."""
    if isinstance(linear := text.get("linear_attn_config"), dict):  # Kimi Linear counts from one
        named = linear.get("full_attn_layers")
        full = {each - 1 for each in named if isinstance(each, int)} if isinstance(named, list) else set()
        return ["full" if layer in full else "state" for layer in range(count)]
    kinds = text.get("attn_type_list")
    if isinstance(kinds, list) and len(kinds) >= count:  # MiniMax: 1 is attention, 0 a linear one
        return ["full" if kind == 1 else "state" for kind in kinds[:count]]
    unrotated = text.get("no_rope_layers")
    if whole(text, "attention_chunk_size") and isinstance(unrotated, list) and len(unrotated) >= count:
        return ["chunk" if each else "full" for each in unrotated[:count]]  # Llama 4: 0 sees everything
    full_ones = text.get("full_attn_idxs") or text.get("attn_layer_indices")
    if isinstance(full_ones, list):
        return ["full" if layer in full_ones else "state" for layer in range(count)]
    return None


def _kinds_by_period(text: Config, count: int) -> list[str] | None:
    """Every n-th layer is another."""
    model = str(text.get("model_type") or "")
    if period := whole(text, "full_attention_interval"):
        return ["full" if (layer + 1) % period == 0 else "state" for layer in range(count)]
    if period := whole(text, "attn_layer_period"):  # Jamba
        offset = text.get("attn_layer_offset")
        first = offset if isinstance(offset, int) else 0
        return ["full" if layer % period == first else "state" for layer in range(count)]
    if model.startswith(("mamba", "falcon_mamba", "rwkv")):
        return ["state"] * count
    if model == "falcon_h1":
        return ["both"] * count
    if whole(text, "attention_chunk_size") and model.startswith("llama4"):
        period = whole(text, "no_rope_layer_interval") or 4
        return ["full" if (layer + 1) % period == 0 else "chunk" for layer in range(count)]
    if not whole(text, "sliding_window") or text.get("use_sliding_window") is False:
        return None
    pattern = whole(text, "sliding_window_pattern", "_sliding_window_pattern")
    if pattern is None:
        pattern = next((period for name, period in _PERIODS.items() if model.startswith(name)), None)
    if pattern is None or pattern < 2:
        return None
    return ["full" if (layer + 1) % pattern == 0 else "window" for layer in range(count)]


_PERIODS = {"gemma2": 2, "gemma3n": 5, "gemma3": 6, "gemma4": 6, "gpt_oss": 2, "cohere2": 4, "exaone4": 4}
# Families whose every layer looks back over the window, where the config names one. Qwen2 names one that it does not use.
_ALL_WINDOWED = ("mistral", "mixtral", "phi3", "starcoder2", "phimoe")


def _windowed_everywhere(text: Config) -> bool:
    model = str(text.get("model_type") or "")
    return model.startswith(_ALL_WINDOWED) and whole(text, "sliding_window") is not None


def _window(text: Config, chunked: bool) -> int | None:
    return whole(text, "attention_chunk_size") if chunked else whole(text, "sliding_window")


# --- states ------------------------------------------------------------------------------------------------------------


def _state(text: Config) -> LayerState | None:
    """Numbers kept per sequence by one layer; the shapes are those of the published architectures (vram.md 2.4)."""
    finders: Sequence[Callable[[Config], LayerState | None]] = (_delta, _kda, _mamba2, _mamba1, _convolution, _linear)
    return next((found for find in finders if (found := find(text)) is not None), None)


def _stated_type(text: Config) -> str | None:
    found = text.get("mamba_ssm_dtype") or text.get("mamba_ssm_cache_dtype")
    return found if isinstance(found, str) and found != "auto" else None


def _delta(text: Config) -> LayerState | None:
    key_heads, heads = whole(text, "linear_num_key_heads"), whole(text, "linear_num_value_heads")
    key, value = whole(text, "linear_key_head_dim"), whole(text, "linear_value_head_dim")
    if not (key_heads and heads and key and value):
        return None
    kernel = whole(text, "linear_conv_kernel_dim") or 4
    convolution = (kernel - 1) * (2 * key * key_heads + value * heads)
    return LayerState(convolution=convolution, state=heads * value * key, state_type=_stated_type(text), kind="delta")


def _kda(text: Config) -> LayerState | None:
    linear = text.get("linear_attn_config")
    if not isinstance(linear, dict):
        return None
    heads, size = whole(linear, "num_heads"), whole(linear, "head_dim")
    if not (heads and size):
        return None
    kernel = whole(linear, "short_conv_kernel_size") or 4
    return LayerState(
        convolution=(kernel - 1) * 3 * heads * size, state=heads * size * size, state_type="float32", kind="kda"
    )


def _mamba2(text: Config) -> LayerState | None:
    heads = whole(text, "mamba_n_heads", "mamba_num_heads", "n_mamba_heads") or (
        whole(text, "num_heads") if str(text.get("model_type")).startswith("mamba2") else None
    )
    size = whole(text, "mamba_d_head", "mamba_head_dim", "mamba_headdim") or (
        whole(text, "head_dim") if str(text.get("model_type")).startswith("mamba2") else None
    )
    depth = whole(text, "mamba_d_state", "ssm_state_size", "state_size")
    if heads and not size and (expanded := whole(text, "mamba_d_ssm", "mamba_intermediate_size")):
        size = expanded // heads
    if not (heads and size and depth):
        return None
    groups = whole(text, "mamba_n_groups", "mamba_ngroups", "n_groups") or 1
    kernel = whole(text, "mamba_d_conv", "conv_kernel", "mamba_conv_kernel") or 4
    convolution = (kernel - 1) * (heads * size + 2 * groups * depth)
    return LayerState(convolution=convolution, state=heads * size * depth, state_type=_stated_type(text), kind="mamba2")


def _mamba1(text: Config) -> LayerState | None:
    depth = whole(text, "mamba_d_state", "state_size", "ssm_state_size")
    hidden = whole(text, "hidden_size", "d_model")
    if not (depth and hidden):
        return None
    inner = whole(text, "intermediate_size") if str(text.get("model_type")).endswith("mamba") else None
    inner = inner or hidden * (whole(text, "mamba_expand", "expand") or 2)
    kernel = whole(text, "mamba_d_conv", "conv_kernel") or 4
    return LayerState(
        convolution=(kernel - 1) * inner, state=inner * depth, state_type=_stated_type(text), kind="mamba1"
    )


def _convolution(text: Config) -> LayerState | None:
    length = whole(text, "conv_L_cache")
    hidden = whole(text, "conv_dim", "hidden_size")
    if not (length and hidden):
        return None
    return LayerState(convolution=(length - 1) * hidden, state=0, kind="convolution")


def _linear(text: Config) -> LayerState | None:
    heads, size = whole(text, "num_attention_heads"), whole(text, "head_dim")
    if not (heads and size):
        return None
    return LayerState(convolution=0, state=heads * size * size, state_type="float32", kind="linear")
