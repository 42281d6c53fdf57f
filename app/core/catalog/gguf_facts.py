"""Turns a GGUF header into facts of the model: bytes by role and layer, which layers own a cache, what it can do."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from app.core.catalog.block_types import FILE_TYPES
from app.core.catalog.facts import ModelFacts, TensorFacts, one_line
from app.core.catalog.gguf import GgufArray, GgufHeader, GgufTensor, Value, read_header
from app.core.catalog.graph_facts import graph_facts
from app.core.catalog.template import template_capabilities
from app.core.errors import ModelMissing, ModelUnreadable

MAX_LAYERS = 4_096
MAX_COUNT = 2**31 - 1

_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)
_LAYER = re.compile(r"blk\.(\d{1,5})\.(.+)")
_EXPERT = re.compile(r"ffn_(up|down|gate|gate_up)(_(ch)?exps|\.\d+)\b")
# Layers with such tensors keep a fixed state; unless they have attention too, they own no KV cache.
_RECURRENT = re.compile(r"(ssm_|shortconv\.|time_mix_)")
_ATTENTION = re.compile(r"attn_(k|kv_a_mqa|kv_b|kv)\.weight")

# Tables that llama.cpp's input layer always keeps in main memory, beside the token embedding.
_INPUT_TABLES = ("position_embd", "token_types", "token_embd_norm", "per_layer_token_embd")
_ENCODERS = frozenset(("bert", "nomic-bert", "nomic-bert-moe", "jina-bert-v2", "jina-bert-v3", "neo-bert", "modern-bert",
                       "gemma-embedding", "t5encoder"))  # fmt: skip
# Window period by architecture, where the file does not say: the last of so many layers sees the whole context.
_WINDOW_PERIODS = {
    "gemma2": 2, "gemma3": 6, "gemma3n": 5, "gpt-oss": 2, "cohere2": 4, "llama4": 4, "exaone4": 4, "olmo2": 4, "afmoe": 4,
    "exaone-moe": 4, "gemma-embedding": 6, "mellum": 4, "muse-glimmer": 4, "plamo3": 8, "cohere2moe": 4, "laguna": 4,
    "smallthinker": 4, "modern-bert": 3,
}  # fmt: skip
# Of each period it is the first layer that sees everything.
_WHOLE_FIRST = frozenset(("cohere2moe", "laguna", "smallthinker", "modern-bert"))
_WINDOWS_WHEN_UNTOLD = {"gemma2": 4_096}  # which llama.cpp itself knows
_EXAONE4_WITH_WINDOW = 64  # layers: only the model of this size has one
_LLAMA4_CHUNK = 8_192


def shards_of(path: Path) -> tuple[Path, ...]:
    """All parts of a split model when `path` is one of them (by name, whether they exist or not), else `path` alone."""
    found = _SHARD.fullmatch(path.name)
    if found is None or not 1 <= int(found["count"]) <= 1_000:
        return (path,)
    count = int(found["count"])
    return tuple(path.with_name(f"{found['stem']}-{number:05d}-of-{count:05d}.gguf") for number in range(1, count + 1))


def model_stem(path: Path) -> str:
    """The file's name without extension and part number."""
    found = _SHARD.fullmatch(path.name)
    return found["stem"] if found else path.stem


def is_companion(header: GgufHeader) -> bool:
    """Whether the file belongs to a model without being one: projector, adapter, importance matrix, bare vocabulary."""
    kind = header.metadata.get("general.type")
    return header.metadata.get("general.architecture") == "clip" or (isinstance(kind, str) and kind != "model")


def read_gguf_facts(path: Path) -> ModelFacts | None:
    """The facts of the model that `path` (or its parts) holds; None when it is a companion file.

    Raises ModelMissing (file or part) and ModelUnreadable.
    """
    files = shards_of(path)
    headers = []
    for number, file in enumerate(files, start=1):
        if len(files) > 1 and not file.exists():
            raise ModelMissing(
                f"Part {number} of {len(files)} of the model {model_stem(path)} is missing: {file.name}.",
                f"Download it into {file.parent}.",
            )
        headers.append(read_header(file))
    if is_companion(headers[0]):
        return None
    tensors = [tensor for header in headers for tensor in header.tensors]
    if not tensors:
        raise ModelUnreadable(f"{path} holds no weights.", "Get the complete model file.")
    facts = facts_from(headers[0].metadata, tensors, files[0])
    try:
        modified_ns = max(file.stat().st_mtime_ns for file in files)
    except OSError as error:
        raise ModelMissing(f"The model file {path} went away while it was read.", "Put it back.") from error
    return msgspec.structs.replace(
        facts,
        file_bytes=sum(header.file_bytes for header in headers),
        modified_ns=modified_ns,
        files=files,
    )


def facts_from(metadata: Mapping[str, Value], tensors: Sequence[GgufTensor], path: Path) -> ModelFacts:
    """What `metadata` and `tensors` say; anything absent, of a wrong type or absurd is unknown."""
    architecture = _text(metadata, "general.architecture") or "unknown"

    def number(key: str) -> int | None:
        return number_of(metadata.get(f"{architecture}.{key}"))

    layers = number("block_count")
    if layers is not None and layers > MAX_LAYERS:
        layers = None
    shapes = {tensor.name: tensor.shape for tensor in tensors if len(tensor.shape) > 1}
    width, heads = number("embedding_length"), number("attention.head_count")
    width = width or shapes.get("token_embd.weight", (None,))[0]  # a form tells what the file forgot to say
    per_head = width // heads if width and heads else None
    recurrent, state_bytes = _recurrent(tensors, number, layers or 0)
    template = _text(metadata, "tokenizer.chat_template")
    names = {tensor.name for tensor in tensors}
    embedding = next((tensor for tensor in tensors if tensor.name == "token_embd.weight"), None)
    vocabulary = metadata.get("tokenizer.ggml.tokens")
    window, windowed = _window(metadata, architecture, layers or 0, number("attention.sliding_window"))
    encoder = architecture in _ENCODERS
    return ModelFacts(
        path=path,
        format="gguf",
        name=one_line(_text(metadata, "general.name") or "") or model_stem(path),
        architecture=one_line(architecture, 100),
        file_bytes=0,
        weights_bytes=sum(tensor.bytes for tensor in tensors),
        tensors=_grouped(tensors),
        parameters=sum(tensor.elements for tensor in tensors),
        quantisation=_quantisation(metadata, tensors),
        layers=layers,
        embedding_length=width,
        feed_forward_length=number("feed_forward_length") or _longest(shapes, "ffn_down.weight"),
        heads=heads,
        kv_heads=_kv_heads(metadata, architecture, layers or 0, heads, recurrent),
        key_length=number("attention.key_length") or per_head,
        value_length=number("attention.value_length") or per_head,
        sliding_window=window,
        windowed_layers=windowed,
        window_key_length=number("attention.key_length_swa"),
        window_value_length=number("attention.value_length_swa"),
        latent_kv=number("attention.key_length_mla") is not None and number("attention.kv_lora_rank") is not None,
        kv_lora_rank=number("attention.kv_lora_rank"),
        q_lora_rank=number("attention.q_lora_rank"),
        mtp_heads=number("nextn_predict_layers") or 0,
        recurrent_state_bytes=state_bytes,
        logit_softcap=f"{architecture}.final_logit_softcapping" in metadata,
        graph=graph_facts(
            architecture,
            tensors,
            number,
            layers or 0,
            shifting_norm=f"{architecture}.attention.layer_norm_rms_epsilon" not in metadata
            and f"{architecture}.attention.layer_norm_epsilon" in metadata,
        ),
        tied_embeddings=embedding is not None and "output.weight" not in names and not encoder,
        experts=number("expert_count") or _longest(shapes, "ffn_down_exps.weight", 2),
        experts_used=number("expert_used_count"),
        expert_feed_forward_length=number("expert_feed_forward_length") or _longest(shapes, "ffn_down_exps.weight"),
        vocabulary=number("vocab_size")
        or (vocabulary.length if isinstance(vocabulary, GgufArray) else None)
        or (embedding.shape[1] if embedding is not None and len(embedding.shape) > 1 else None),
        context_max=number("context_length"),
        capabilities=_capabilities(
            _templates(metadata),
            embeds=encoder or number("pooling_type") is not None,  # 0 is "none"
        ),
        chat_template=template,
    )


def _longest(shapes: Mapping[str, Sequence[int]], name: str, side: int = 0) -> int | None:
    """The longest side of that name's matrices over all layers."""
    found = (shape[side] for at, shape in shapes.items() if at.endswith("." + name) and len(shape) > side)
    return max(found, default=None)


def _text(metadata: Mapping[str, Value], key: str) -> str | None:
    value = metadata.get(key)
    return value if isinstance(value, str) and value.strip() else None


def number_of(value: Value) -> int | None:
    """A sensible positive number; of a per-layer list the largest."""
    if isinstance(value, GgufArray):
        numbers = [item for item in value.values if isinstance(item, int)]
        value = max(numbers, default=None)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= MAX_COUNT:
        return None
    return value


def _kv_heads(
    metadata: Mapping[str, Value], architecture: str, layers: int, heads: int | None, recurrent: frozenset[int]
) -> tuple[int, ...]:
    """Heads with a cache for each layer; 0 where the layer keeps a state, shares another's cache or only predicts ahead."""
    value = metadata.get(f"{architecture}.attention.head_count_kv")
    if value is None:
        value = metadata.get(f"{architecture}.attention.head_count")  # no grouping: every head has its own
    if isinstance(value, GgufArray):
        counts = [item if isinstance(item, int) and 0 <= item <= MAX_COUNT else 0 for item in value.values[:layers]]
        if len(counts) < layers:
            return ()
    else:
        count = number_of(value) or heads or (0 if layers and len(recurrent) >= layers else None)
        if count is None:
            return ()
        counts = [count] * layers
    without = (number_of(metadata.get(f"{architecture}.nextn_predict_layers")) or 0) + (
        number_of(metadata.get(f"{architecture}.attention.shared_kv_layers")) or 0
    )
    owners = layers - min(without, layers)
    return tuple(0 if layer >= owners or layer in recurrent else count for layer, count in enumerate(counts))


def _window(
    metadata: Mapping[str, Value], architecture: str, layers: int, window: int | None
) -> tuple[int | None, tuple[bool, ...]]:
    """The window and which layers have it; an architecture whose pattern is unknown is taken to cache everything."""
    if architecture == "llama4":
        has_none = metadata.get("llama4.attention.sliding_window") == 0
        window = None if has_none else number_of(metadata.get("llama4.attention.chunk_size")) or _LLAMA4_CHUNK
    if architecture == "exaone4" and layers != _EXAONE4_WITH_WINDOW:
        window = None
    window = window or _WINDOWS_WHEN_UNTOLD.get(architecture)
    pattern = metadata.get(f"{architecture}.attention.sliding_window_pattern")
    if window is None:
        return None, ()
    if isinstance(pattern, GgufArray):
        flags = tuple(bool(flag) for flag in pattern.values[:layers])
        return (window, flags) if len(flags) == layers else (window, ())
    period = number_of(pattern) or _WINDOW_PERIODS.get(architecture)
    if period is None:
        return window, ()
    whole = 0 if architecture in _WHOLE_FIRST else period - 1
    return window, tuple(layer % period != whole for layer in range(layers))


def _recurrent(
    tensors: Sequence[GgufTensor], number: Callable[[str], int | None], layers: int
) -> tuple[frozenset[int], int | None]:
    """Layers with a fixed state instead of a cache, and that state's bytes per sequence.

    State-space layers: f32 of (conv - 1) x (inner + 2 x groups x state) + state x inner, llama.cpp's n_embd_r + n_embd_s.
    """
    stateful, attending = set(), set()
    for tensor in tensors:
        if found := _LAYER.match(tensor.name):
            layer = int(found[1])
            if _RECURRENT.match(found[2]):
                stateful.add(layer)
            elif _ATTENTION.fullmatch(found[2]):
                attending.add(layer)
    if not stateful:
        return frozenset(), 0
    bytes_per_layer: int | None = None
    conv, inner, state = (number(f"ssm.{key}") for key in ("conv_kernel", "inner_size", "state_size"))
    groups = number("ssm.group_count") or 0
    if conv and inner and state:
        bytes_per_layer = 4 * ((conv - 1) * (inner + 2 * groups * state) + state * inner)
    elif (width := number("embedding_length")) and (cache := number("shortconv.l_cache")):
        bytes_per_layer = 4 * width * (cache - 1)
    elif (width := number("embedding_length")) and (head := number("wkv.head_size")):
        bytes_per_layer = 4 * width * ((number("token_shift_count") or 2) + head)
    elif (head := number("kda.head_dim")) and (heads := number("attention.head_count")):
        bytes_per_layer = 4 * (3 * ((conv or 4) - 1) * heads * head + head * head * heads)
    total = None if bytes_per_layer is None else bytes_per_layer * min(len(stateful), layers or MAX_LAYERS)
    return frozenset(stateful - attending), total


def _role(name: str) -> tuple[str, int | None]:
    if found := _LAYER.match(name):
        return ("expert" if _EXPERT.match(found[2]) else "layer"), int(found[1])
    if name == "token_embd.weight":
        return "embedding", None
    if name.startswith(_INPUT_TABLES):
        return "host", None
    if name.startswith(("output", "cls")):
        return "output", None
    return "other", None


def _grouped(tensors: Sequence[GgufTensor]) -> tuple[TensorFacts, ...]:
    sums: dict[tuple[str, int | None, str], tuple[int, int]] = {}
    for tensor in tensors:
        key = (*_role(tensor.name), tensor.type)
        total, largest = sums.get(key, (0, 0))
        sums[key] = total + tensor.bytes, max(largest, tensor.bytes)
    return tuple(
        TensorFacts(role=role, layer=layer, type=kind, bytes=total, largest_bytes=largest)
        for (role, layer, kind), (total, largest) in sums.items()
    )


def _quantisation(metadata: Mapping[str, Value], tensors: Sequence[GgufTensor]) -> str | None:
    """The name that the file states, else the type that most bytes have."""
    stated = metadata.get("general.file_type")
    if isinstance(stated, int) and stated in FILE_TYPES:
        return FILE_TYPES[stated]
    sums: dict[str, int] = {}
    for tensor in tensors:
        sums[tensor.type] = sums.get(tensor.type, 0) + tensor.bytes
    return max(sums, key=lambda kind: sums[kind], default=None)


def _templates(metadata: Mapping[str, Value]) -> str | None:
    """The chat template and those for further purposes that stand beside it (`tokenizer.chat_template.tool_use`)."""
    names = sorted(name for name in metadata if name.startswith("tokenizer.chat_template"))
    return "\n".join(text for name in names if (text := _text(metadata, name))) or None


def _capabilities(templates: str | None, *, embeds: bool) -> tuple[str, ...]:
    return ("embeddings",) if embeds else template_capabilities(templates)
