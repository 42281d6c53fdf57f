"""Sums a Hugging Face model's tensors by what an engine does with them: divided over cards, kept whole, not loaded.

The names are those of the checkpoints' own layers; a tensor nobody knows counts as one that every card keeps.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import msgspec

from app.core.catalog.facts import TensorFacts

TYPE_BYTES = {
    "F64": 8.0, "I64": 8.0, "U64": 8.0, "F32": 4.0, "I32": 4.0, "U32": 4.0, "BF16": 2.0, "F16": 2.0, "I16": 2.0,
    "F8_E4M3": 1.0, "F8_E5M2": 1.0, "F8_E8M0": 1.0, "U8": 1.0, "I8": 1.0, "BOOL": 1.0, "F4": 0.5,
}  # fmt: skip

_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d{1,4})\.")
_TOWER = re.compile(
    r"visual|vision|audio|multi_?modal_projector|mm_projector|patch_(?:merger|embed)|image_|aligner|resampler|vpm\.|apm\.|"
    r"embed_(?:vision|audio)|sound_|speech_|^vit\."
)
_UNUSED = re.compile(r"rotary_emb\.inv_freq|^talker\.|^token2wav\.|masked_bias$|attn\.bias$")
_WHOLE = re.compile(
    r"norm|\bln_|(?:^|\.)ln[._]|_a_proj|kv_a_|\.wq_a\.|mlp\.gate\.|router|\.gate\.(?:weight|bias|e_score)|g_idx|e_score_correction|"
    r"shared_expert_gate|shared_head|input_scale|k_scale|v_scale|o_proj\.bias|down_proj\.bias|indexer|self_attn\.sinks"
)
_KEY_VALUE = re.compile(r"\.(?:k_proj|v_proj|key_proj|value_proj|wk|wv)\.")
_EXPERT = re.compile(r"experts?\.|block_sparse_moe")
_EMBEDDING = re.compile(
    r"embed_tokens\.|(?:^|\.)wte\.|word_embeddings\.|tok_embeddings\.|embed_in\.|^embeddings?\.weight"
)
_OUTPUT = re.compile(r"(?:^|\.)lm_head\.|^output\.weight|embed_out\.|^head\.weight")
_SHARED_EXPERT = re.compile(r"shared_expert")


class Entry(msgspec.Struct):
    """One tensor of a safetensors header; what a header leaves out is told by values that no tensor has."""

    dtype: str = ""
    data_offsets: tuple[int, int] = (-1, -1)
    shape: tuple[int, ...] = ()

    @property
    def bytes(self) -> int:
        return self.data_offsets[1] - self.data_offsets[0]


class Shapes(msgspec.Struct):
    """What the tensors' shapes tell where a config leaves it to its class: rows of projections, length of a head's norm."""

    query_rows: int | None = None
    key_rows: int | None = None
    head_norm: int | None = None
    vocabulary: int | None = None


def role_of(name: str, layers: int | None, tied: bool) -> tuple[str, int | None]:
    """The tensor's role (facts.py) and its layer."""
    if _UNUSED.search(name):
        return "unused", None
    if re.search(r"(?:^|\.)mtp\.|nextn|eagle", name):
        return "draft", None
    found = _LAYER.search(name)
    if _TOWER.search(name.split(".layers.")[0] if found else name) or name.startswith(("visual.", "vision")):
        return "tower", None
    if found is not None:
        layer = int(found[1])
        if layers is not None and layer >= layers:
            return "draft", None  # layers behind the last one guess ahead (DeepSeek, GLM)
        return _role_in_layer(name), layer
    if _OUTPUT.search(name):
        return ("unused" if tied else "output"), None
    return ("embedding" if _EMBEDDING.search(name) else "whole"), None


def _role_in_layer(name: str) -> str:
    if _WHOLE.search(name):
        return "whole"
    if _EXPERT.search(name) and not _SHARED_EXPERT.search(name):
        return "expert"
    return "key_value" if _KEY_VALUE.search(name) else "layer"


def sum_tensors(entries: Iterable[tuple[str, Entry]], layers: int | None, tied: bool) -> tuple[TensorFacts, ...]:
    sums: dict[tuple[str, int | None, str], list[int]] = {}
    for name, entry in entries:
        found = sums.setdefault((*role_of(name, layers, tied), entry.dtype), [0, 0])
        found[0] += entry.bytes
        found[1] = max(found[1], entry.bytes)
    return tuple(
        TensorFacts(role=role, layer=layer, type=dtype, bytes=total, largest_bytes=largest)
        for (role, layer, dtype), (total, largest) in sums.items()
    )


def shapes_of(entries: Mapping[str, Entry]) -> Shapes:
    found = Shapes()
    for name, entry in entries.items():
        if not entry.shape or entry.dtype not in TYPE_BYTES or _TOWER.search(name):
            continue
        if found.query_rows is None and name.endswith(".q_proj.weight"):
            found.query_rows = entry.shape[0]
        elif found.key_rows is None and name.endswith(".k_proj.weight"):
            found.key_rows = entry.shape[0]
        elif found.head_norm is None and name.endswith((".k_norm.weight", ".k_layernorm.weight")):
            found.head_norm = entry.shape[0]
        elif found.vocabulary is None and _EMBEDDING.search(name) and len(entry.shape) == 2:
            found.vocabulary = entry.shape[0]
    return found


def parameters_of(tensors: Iterable[TensorFacts]) -> int | None:
    """Numbers in tensors whose type says how large one is; None when some have another."""
    total = 0.0
    for group in tensors:
        if group.type not in TYPE_BYTES:
            return None
        total += group.bytes / TYPE_BYTES[group.type]
    return int(total)


def packed_parameters_of(entries: Mapping[str, Entry], bits: int) -> int | None:
    """Numbers of a quantised model: packed ones (`bits` each in 32-bit words, four each in bytes) are counted, what belongs to
    the packing is not. None when some tensor has a type that nobody knows."""
    total = 0.0
    for name, entry in entries.items():
        if entry.dtype not in TYPE_BYTES:
            return None
        if _OF_PACKING.search(name):
            continue
        if entry.dtype in ("I32", "U32"):
            total += 8 * entry.bytes / bits
        else:
            total += entry.bytes / (0.5 if entry.dtype == "U8" else TYPE_BYTES[entry.dtype])
    return int(total)


# Scales, zero points and tables beside quantised weights: GPTQ and AWQ, compressed-tensors, NVIDIA's, bitsandbytes', MXFP4.
_OF_PACKING = re.compile(
    r"scales?(?:_inv|_2)?$|qzeros$|g_idx$|zero_point$|weight_shape$|absmax$|quant_map$|quant_state|nested_|\.SCB$|weight_format$"
)


def dtype_of(tensors: Iterable[TensorFacts]) -> str | None:
    """The type that most bytes have."""
    by_type: dict[str, int] = {}
    for group in tensors:
        by_type[group.type] = by_type.get(group.type, 0) + group.bytes
    return max(by_type, key=lambda dtype: by_type[dtype], default=None)
