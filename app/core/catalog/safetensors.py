"""Reads a Hugging Face folder: config.json and the headers of its safetensors files, never the weights.

A safetensors header is eight bytes of length and that much JSON: name → dtype, shape, byte offsets.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

import msgspec

from app.core.catalog.facts import ModelFacts, TensorFacts
from app.core.catalog.hub_cache import name_of_folder
from app.core.errors import ModelMissing, ModelUnreadable
from app.core.values import from_json

MAX_CONFIG_BYTES = 4 * 1024**2
MAX_HEADER_BYTES = 64 * 1024**2
MAX_FILES = 1_000

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
    quantisation = (config.quantization_config or {}).get("quant_method")
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
        quantisation=str(quantisation) if quantisation else None,
        layers=layers,
        embedding_length=text.hidden_size,
        feed_forward_length=text.intermediate_size,
        heads=text.num_attention_heads,
        kv_heads=(kv_heads,) * layers if layers and kv_heads else (),
        key_length=per_head,
        value_length=per_head,
        vocabulary=text.vocab_size,
        context_max=text.max_position_embeddings,
        tied_embeddings=bool(text.tie_word_embeddings),
        capabilities=_capabilities(config),
        modified_ns=max(file.stat().st_mtime_ns for file in files),
        files=files,
    )


def is_model_folder(names: Collection[str]) -> bool:
    """Whether a folder with entries of these names holds a model."""
    return "config.json" in names and any(name.endswith(".safetensors") for name in names)


def parts_of_folder(folder: Path) -> tuple[Path, ...]:
    """The files on which the facts of a folder depend."""
    return (folder / "config.json", *sorted(folder.glob("*.safetensors"))[:MAX_FILES])


def _capabilities(config: _Config) -> tuple[str, ...]:
    """A class without a purpose in its name (BertModel, Qwen3Model) gives vectors, not text."""
    classes = config.architectures or []
    if classes and all(name.endswith("Model") for name in classes):
        return ("embeddings",)
    return ("vision",) if config.vision_config else ()


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
