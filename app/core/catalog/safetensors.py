"""Reads a Hugging Face folder: config.json and the headers of its safetensors files, never the weights.

A safetensors header is eight bytes of length and that much JSON: name → dtype, shape, byte offsets.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path

import msgspec

from app.core.catalog.facts import ModelFacts, TensorFacts
from app.core.catalog.hub_cache import name_of_folder
from app.core.catalog.template import template_capabilities
from app.core.errors import ModelMissing, ModelUnreadable
from app.core.values import from_json

MAX_CONFIG_BYTES = 4 * 1024**2
MAX_HEADER_BYTES = 64 * 1024**2
MAX_FILES = 1_000

CONFIG = "config.json"
TEMPLATE_FILES = ("chat_template.jinja", "chat_template.json", "tokenizer_config.json")  # the first one that has it
EMBEDDING_FILES = ("modules.json",)  # of sentence-transformers: the model gives vectors
QUANTISATION_FILE = "hf_quant_config.json"  # where older exports of NVIDIA's tool keep it
_SHARD = re.compile(r"(?P<stem>.+)-\d{5}-of-(?P<count>\d{5})\.safetensors")
_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d{1,4})\.")


class _Config(msgspec.Struct):
    """The keys that facts need; a model with a vision part nests its text part's in `text_config`."""

    model_type: str = "unknown"
    architectures: list[str] | None = None
    num_hidden_layers: int | None = None
    hidden_size: int | None = None
    intermediate_size: int | None = None
    num_attention_heads: int | None = None
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    vocab_size: int | None = None
    max_position_embeddings: int | None = None
    tie_word_embeddings: bool | None = None
    quantization_config: dict[str, object] | None = None
    num_experts: int | None = None
    num_local_experts: int | None = None
    n_routed_experts: int | None = None
    num_experts_per_tok: int | None = None
    moe_intermediate_size: int | None = None
    n_positions: int | None = None
    seq_length: int | None = None
    text: _Config | None = msgspec.field(name="text_config", default=None)
    vision_config: dict[str, object] | None = None


class _Entry(msgspec.Struct):
    dtype: str
    data_offsets: tuple[int, int]


def read_folder_facts(folder: Path) -> ModelFacts:
    """The facts of a Hugging Face model folder; raises ModelMissing or ModelUnreadable."""
    config = _config(folder / "config.json")
    text = config.text or config
    files = tuple(sorted(folder.glob("*.safetensors"))[:MAX_FILES])
    if not files:
        raise ModelUnreadable(f"{folder} holds no safetensors file.", "Download the model's weights.")
    sums: dict[tuple[str, int | None, str], int] = {}
    for file in files:
        for name, entry in _header(file).items():
            key = (*_role(name), entry.dtype)
            sums[key] = sums.get(key, 0) + entry.data_offsets[1] - entry.data_offsets[0]
    layers = text.num_hidden_layers if text.num_hidden_layers and 0 < text.num_hidden_layers < 4_096 else None
    per_head = text.head_dim or (
        text.hidden_size // text.num_attention_heads if text.hidden_size and text.num_attention_heads else None
    )
    kv_heads = text.num_key_value_heads or text.num_attention_heads
    template = _template(folder)
    quantised = config.quantization_config or text.quantization_config or _exported(folder)
    return ModelFacts(
        path=folder,
        format="safetensors",
        name=name_of_folder(folder),
        architecture=text.model_type,
        file_bytes=sum(file.stat().st_size for file in files),
        weights_bytes=sum(sums.values()),
        tensors=tuple(
            TensorFacts(role=role, layer=layer, type=dtype, bytes=total) for (role, layer, dtype), total in sums.items()
        ),
        parameters=None if quantised else _parameters(sums),
        quantisation=quantisation_of(quantised) if quantised else _dtype(sums),
        layers=layers,
        embedding_length=text.hidden_size,
        feed_forward_length=text.intermediate_size,
        heads=text.num_attention_heads,
        kv_heads=(kv_heads,) * layers if layers and kv_heads else (),
        key_length=per_head,
        value_length=per_head,
        vocabulary=text.vocab_size,
        experts=text.num_local_experts or text.num_experts or text.n_routed_experts,
        experts_used=text.num_experts_per_tok,
        expert_feed_forward_length=text.moe_intermediate_size,
        context_max=text.max_position_embeddings or text.n_positions or text.seq_length,
        tied_embeddings=bool(text.tie_word_embeddings),
        capabilities=_capabilities(config, template, any((folder / name).is_file() for name in EMBEDDING_FILES)),
        chat_template=template,
        modified_ns=max(file.stat().st_mtime_ns for file in files),
        files=files,
    )


def is_model_folder(names: Collection[str]) -> bool:
    """Whether a folder with entries of these names holds a model."""
    return "config.json" in names and any(name.endswith(".safetensors") for name in names)


def missing_parts(names: Collection[str]) -> tuple[str, ...]:
    """The parts of split weights that are not among the names of a folder's entries."""
    sets = {(found["stem"], found["count"]) for name in names if (found := _SHARD.fullmatch(name))}
    return tuple(
        part
        for stem, count in sorted(sets)
        if int(count) <= MAX_FILES
        for number in range(1, int(count) + 1)
        if (part := f"{stem}-{number:05d}-of-{count}.safetensors") not in names
    )


def parts_of_folder(folder: Path) -> tuple[Path, ...]:
    """The files on which the facts of a folder depend."""
    beside = tuple(folder / name for name in (CONFIG, *TEMPLATE_FILES, *EMBEDDING_FILES, QUANTISATION_FILE))
    return (*beside, *sorted(folder.glob("*.safetensors"))[:MAX_FILES])


def _capabilities(config: _Config, template: str | None, embeds: bool) -> tuple[str, ...]:
    """A class without a purpose in its name (BertModel, Qwen3Model) gives vectors, not text."""
    classes = config.architectures or []
    if embeds or (classes and all(name.endswith("Model") for name in classes)):
        return ("embeddings",)
    return (*template_capabilities(template), *(("vision",) if config.vision_config else ()))


def quantisation_of(config: Mapping[str, object]) -> str | None:
    """The name that people know, from a config's `quantization_config`: AWQ, GPTQ, FP8, NVFP4, bitsandbytes, …"""
    method = str(config.get("quant_method") or config.get("quant_algo") or "").lower()
    if method in ("modelopt", "compressed-tensors", "sparseml") or not method:
        return _packed(config) or method or None
    bits = config.get("bits", config.get("w_bit"))
    if method == "bitsandbytes":
        return "bitsandbytes 8-bit" if config.get("load_in_8bit") is True else "bitsandbytes 4-bit"
    name = _METHODS.get(method, method)
    return f"{name} {bits}-bit" if name in ("AWQ", "GPTQ") and isinstance(bits, int) and bits != 4 else name


def _packed(config: Mapping[str, object]) -> str | None:
    """Of the two formats that hold several kinds of numbers, the kind."""
    stated = str(config.get("quant_algo") or config.get("format") or "").lower()
    for mark, name in (("nvfp4", "NVFP4"), ("mxfp4", "MXFP4"), ("fp8", "FP8"), ("float-quantized", "FP8")):
        if mark in stated:
            return name
    groups = config.get("config_groups")
    for group in groups.values() if isinstance(groups, dict) else ():
        weights = group.get("weights") if isinstance(group, dict) else None
        if isinstance(weights, dict) and isinstance(bits := weights.get("num_bits"), int):
            inputs = group.get("input_activations")
            kind = "FP" if weights.get("type") == "float" else "INT"
            if kind == "INT" and not isinstance(inputs, dict):
                return f"W{bits}A16"
            return f"{kind}{bits}"
    return None


_METHODS = {"awq": "AWQ", "gptq": "GPTQ", "fp8": "FP8", "fbgemm_fp8": "FP8", "nvfp4": "NVFP4", "mxfp4": "MXFP4"}
_BYTES = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2, "F8_E4M3": 1, "F8_E5M2": 1}


def _parameters(sums: Mapping[tuple[str, int | None, str], int]) -> int | None:
    """Numbers in tensors whose type says how large one is; None when some have another."""
    if any(dtype not in _BYTES for _, _, dtype in sums):
        return None
    return sum(size // _BYTES[dtype] for (_, _, dtype), size in sums.items())


def _dtype(sums: Mapping[tuple[str, int | None, str], int]) -> str | None:
    """The type that most bytes have."""
    by_type: dict[str, int] = {}
    for (_, _, dtype), size in sums.items():
        by_type[dtype] = by_type.get(dtype, 0) + size
    return max(by_type, key=lambda dtype: by_type[dtype], default=None)


def _exported(folder: Path) -> dict[str, object]:
    """What NVIDIA's tool says beside the config; {} where it does not."""
    found = _optional(folder / QUANTISATION_FILE).get("quantization")
    return found if isinstance(found, dict) else {}


def _template(folder: Path) -> str | None:
    """The chat template: a file of its own, or part of the tokenizer's config; of several named ones the default."""
    for name in TEMPLATE_FILES:
        if name.endswith(".jinja"):
            try:
                text = _bytes(folder / name).decode("utf-8", "replace")
            except OSError:
                continue
            if text.strip():
                return text
        found = _optional(folder / name).get("chat_template") if name.endswith(".json") else None
        if isinstance(found, list):
            named = {each.get("name"): each.get("template") for each in found if isinstance(each, dict)}
            found = named.get("default") or next(iter(named.values()), None)
        if isinstance(found, str) and found.strip():
            return found
    return None


def _optional(file: Path) -> dict[str, object]:
    """The object in a JSON file that may be missing or damaged: facts that hang on it are unknown then."""
    try:
        return from_json(dict[str, object], _bytes(file))
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}


def _bytes(file: Path) -> bytes:
    """At most MAX_CONFIG_BYTES, of a plain file only: a pipe would never end."""
    if not file.is_file():
        raise FileNotFoundError(file)
    with file.open("rb") as opened:
        data = opened.read(MAX_CONFIG_BYTES + 1)
    return data if len(data) <= MAX_CONFIG_BYTES else b""


def _role(name: str) -> tuple[str, int | None]:
    if found := _LAYER.search(name):
        return "layer", int(found[1])
    if name.startswith("lm_head"):
        return "output", None
    return ("embedding" if "embed_tokens" in name else "other"), None


def _config(file: Path) -> _Config:
    try:
        if file.stat().st_size > MAX_CONFIG_BYTES:
            raise ModelUnreadable(f"{file} is too large for a model's config.", "Download the model again.")
        return from_json(_Config, file.read_bytes())
    except FileNotFoundError as error:
        raise ModelMissing(f"{file} is not there.", "Name a folder that holds a Hugging Face model.") from error
    except OSError as error:
        raise ModelUnreadable(f"{file} cannot be read: {error.strerror}.", "Check the file's permissions.") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ModelUnreadable(f"{file} is not a model's config: {error}.", "Download the model again.") from error


def _header(file: Path) -> dict[str, _Entry]:
    try:
        size = file.stat().st_size
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
                raise ModelUnreadable(f"{file} is not a usable safetensors file.", "Download the file again.")
            fields = from_json(dict[str, msgspec.Raw], opened.read(length))
        fields.pop("__metadata__", None)
        entries = {name: from_json(_Entry, bytes(raw)) for name, raw in fields.items()}
    except OSError as error:
        raise ModelUnreadable(f"{file} cannot be read: {error.strerror}.", "Check the file's permissions.") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ModelUnreadable(f"The header of {file} is damaged: {error}.", "Download the file again.") from error
    if any(not 0 <= entry.data_offsets[0] <= entry.data_offsets[1] for entry in entries.values()):
        raise ModelUnreadable(f"The header of {file} is damaged: a tensor ends before it begins.", "Download it again.")
    end = 8 + length + max((entry.data_offsets[1] for entry in entries.values()), default=0)
    if end > size:
        raise ModelUnreadable(
            f"{file} is cut short: {size:,} of {end:,} bytes are there.", "The download did not finish: get it again."
        )
    return entries
