"""Reads a Hugging Face folder: config.json and the headers of its safetensors files, never the weights.

A safetensors header is eight bytes of length and that much JSON: name → dtype, shape, byte offsets.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from app.core.catalog.facts import ModelFacts, one_line
from app.core.catalog.hf_config import (
    MAX_LAYERS,
    Config,
    architecture_of,
    layers_of,
    number_type,
    rotation_numbers,
    text_part,
    whole,
    words,
)
from app.core.catalog.hf_quantisation import kv_quantisation_of, quantisation_of, weight_bits_of
from app.core.catalog.hf_tensors import (
    Entry,
    Shapes,
    dtype_of,
    packed_parameters_of,
    parameters_of,
    role_of,
    shapes_of,
    sum_tensors,
)
from app.core.catalog.hub_cache import name_of_folder
from app.core.catalog.plain_file import open_plain
from app.core.catalog.template import template_capabilities
from app.core.errors import ModelMissing, ModelUnreadable
from app.core.values import from_json

MAX_CONFIG_BYTES = 4 * 1024**2
MAX_CONFIG_VALUES = 200_000  # of one JSON file: each takes up to two hundred bytes of memory
MAX_HEADER_BYTES = 16 * 1024**2
MAX_FILES = 1_000
MAX_FILE_TENSORS = 60_000
MAX_FILE_BYTES = 2**56
MAX_TENSORS = 500_000  # four times those of the largest model that is published

T = TypeVar("T")

CONFIG = "config.json"
TEMPLATE_FILES = ("chat_template.jinja", "chat_template.json", "tokenizer_config.json")  # the first one that has it
EMBEDDING_FILES = ("modules.json",)  # of sentence-transformers: the model gives vectors
QUANTISATION_FILE = "hf_quant_config.json"  # where older exports of NVIDIA's tool keep it
_SHARD = re.compile(r"(?P<stem>.+)-\d{5}-of-(?P<count>\d{5})\.safetensors")


def read_folder_facts(folder: Path) -> ModelFacts:
    """The facts of a Hugging Face model folder; raises ModelMissing or ModelUnreadable."""
    config = _config(folder / CONFIG)
    files = weight_files(folder)
    if not files:
        raise ModelUnreadable(f"{folder} holds no safetensors file.", "Download the model's weights.")
    entries: dict[str, Entry] = {}
    for file in files:
        entries.update(_header(file))
        if len(entries) > MAX_TENSORS:
            raise ModelUnreadable(f"{folder} names more than {MAX_TENSORS:,} tensors.", "Download the model again.")
    templates = _templates(folder)
    default = templates.get("default") or next(iter(templates.values()), None)
    facts = facts_of(config, entries, exported=_exported(folder), template=default)
    embeds = any((folder / name).is_file() for name in EMBEDDING_FILES)
    try:
        statuses = [file.stat() for file in files]
    except OSError as error:
        raise ModelMissing(f"The model {folder} went away while it was read.", "Put it back.") from error
    return replace(
        facts,
        path=folder,
        name=name_of_folder(folder),
        file_bytes=sum(status.st_size for status in statuses),
        capabilities=_capabilities(config, "\n".join(templates.values()) or None, embeds),
        modified_ns=max(status.st_mtime_ns for status in statuses),
        files=files,
    )


def facts_of(
    config: Config, entries: Mapping[str, Entry], *, exported: Config | None = None, template: str | None = None
) -> ModelFacts:
    """What a config and the tensors of a model tell; the path and what hangs on it is the caller's to say."""
    text = text_part(config)
    shapes = shapes_of(entries)
    kept = layers_of(_completed(text, shapes))
    has_output = any(role_of(name, kept.layers, False)[0] == "output" for name in entries)
    said = text.get("tie_word_embeddings", config.get("tie_word_embeddings"))
    tied = said if isinstance(said, bool) else bool(entries) and not has_output
    tensors = sum_tensors(entries.items(), kept.layers, tied)
    quantised = next(
        (found for part in (config, text) if isinstance(found := part.get("quantization_config"), dict) and found),
        exported or {},
    )
    total = sum(group.bytes for group in tensors)
    return ModelFacts(
        path=Path(),
        format="safetensors",
        name="",
        architecture=architecture_of(config, text),
        file_bytes=total,
        weights_bytes=total,
        tensors=tensors,
        parameters=packed_parameters_of(entries, weight_bits_of(quantised)) if quantised else parameters_of(tensors),
        quantisation=quantisation_of(quantised) if quantised else dtype_of(tensors),
        embedding_length=whole(text, "hidden_size", "n_embd", "d_model"),
        feed_forward_length=whole(text, "intermediate_size", "ffn_hidden_size", "n_inner"),
        heads=whole(_completed(text, shapes), "num_attention_heads", "n_head", "n_heads"),
        vocabulary=whole(text, "vocab_size") or whole(config, "vocab_size") or shapes.vocabulary,
        experts=whole(text, "num_local_experts", "num_experts", "n_routed_experts"),
        experts_used=whole(text, "num_experts_per_tok", "num_experts_per_token", "moe_topk"),
        expert_feed_forward_length=whole(text, "moe_intermediate_size", "expert_ffn_hidden_size"),
        context_max=whole(text, "max_position_embeddings", "n_positions", "seq_length", "max_seq_len"),
        tied_embeddings=tied,
        rotation_numbers=rotation_numbers(text, kept.window_key_length or kept.key_length),
        number_type=number_type(config, text),
        kv_quantised=kv_quantisation_of(quantised),
        nested_scales=quantised.get("bnb_4bit_use_double_quant") is True,
        mtp_heads=min(
            whole(text, "num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_modules") or 0, MAX_LAYERS
        ),
        logit_softcap=text.get("final_logit_softcapping") is not None,
        chat_template=template,
        **{name: getattr(kept, name) for name in kept.__struct_fields__},
    )


def _completed(text: Config, shapes: Shapes) -> Config:
    """A config may leave heads and their size to its class; the shapes of the projections know them."""
    size = whole(text, "head_dim") or shapes.head_norm
    if size is None:
        return text
    found = {"head_dim": size}
    for name, rows in (("num_attention_heads", shapes.query_rows), ("num_key_value_heads", shapes.key_rows)):
        if rows is not None and name not in text:
            found[name] = rows // size
    return {**found, **text}


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The files that an engine loads: one that holds all of them again in another naming is left out."""
    files = sorted(folder.glob("*.safetensors"))
    usual = [file for file in files if not file.name.startswith("consolidated")]
    return tuple((usual or files)[:MAX_FILES])


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


def _capabilities(config: Config, template: str | None, embeds: bool) -> tuple[str, ...]:
    """A class without a purpose in its name (BertModel, Qwen3Model) gives vectors, not text."""
    classes = words(config, "architectures")
    if embeds or (classes and all(name.endswith("Model") for name in classes)):
        return ("embeddings",)
    media = (("vision", "vision_config"), ("audio", "audio_config"))
    parts = (config, config["thinker_config"]) if isinstance(config.get("thinker_config"), dict) else (config,)
    return (
        *template_capabilities(template),
        *(name for name, key in media if any(isinstance(part, dict) and part.get(key) for part in parts)),
    )


def _exported(folder: Path) -> dict[str, object]:
    """What NVIDIA's tool says beside the config; {} where it does not."""
    return _optional(folder / QUANTISATION_FILE).quantization or {}


def _templates(folder: Path) -> dict[str, str]:
    """The chat templates by their purpose: a file of its own ("default"), or those in the tokenizer's config."""
    for name in TEMPLATE_FILES:
        if name.endswith(".jinja"):
            try:
                text = _bytes(folder / name).decode("utf-8", "replace")
            except OSError:
                continue
            if text.strip():
                return {"default": text}
            continue
        found = _optional(folder / name).chat_template
        named = {each.name: each.template for each in found} if isinstance(found, list) else {"default": found or ""}
        if named := {purpose: text for purpose, text in named.items() if text.strip()}:
            return named
    return {}


class _Template(msgspec.Struct):
    name: str = ""
    template: str = ""


class _Beside(msgspec.Struct):
    """What is read of the files beside a config."""

    chat_template: str | list[_Template] | None = None
    quantization: dict[str, object] | None = None


def _optional(file: Path) -> _Beside:
    """What a JSON file says that may be missing or damaged: facts that hang on it are unknown then."""
    try:
        return _decoded(_Beside, _bytes(file))
    except (OSError, ValueError, RecursionError):
        return _Beside()


def _decoded(kind: type[T], data: bytes) -> T:
    """The value in `data`; raises ValueError, also when it would need far more memory than the file is long."""
    if sum(map(data.count, (b",", b"{", b"["))) > MAX_CONFIG_VALUES:
        raise ValueError("it has too many parts")
    return from_json(kind, data)


def _bytes(file: Path) -> bytes:
    """At most MAX_CONFIG_BYTES; nothing of a larger file."""
    opened, status = open_plain(file)
    with opened:
        if status.st_size > MAX_CONFIG_BYTES:
            return b""
        return opened.read(MAX_CONFIG_BYTES) or b""


def _config(file: Path) -> Config:
    try:
        data = _bytes(file)
        if not data and file.stat().st_size > MAX_CONFIG_BYTES:
            raise ModelUnreadable(f"{file} is too large for a model's config.", "Download the model again.")
        return _decoded(dict[str, object], data)
    except FileNotFoundError as error:
        raise ModelMissing(f"{file} is not there.", "Name a folder that holds a Hugging Face model.") from error
    except OSError as error:
        raise ModelUnreadable(f"{file} cannot be read: {error.strerror}.", "Check the file's permissions.") from error
    except (ValueError, RecursionError) as error:
        raise ModelUnreadable(
            f"{file} is not a model's config: {_shown(error)}.", "Download the model again."
        ) from error


def _shown(error: Exception) -> str:
    return one_line(str(error)).rstrip(".")


def _header(file: Path) -> dict[str, Entry]:
    try:
        opened, status = open_plain(file)
        size = status.st_size
        with opened:
            length = int.from_bytes(opened.read(8) or b"", "little")
            if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
                raise ModelUnreadable(f"{file} is not a usable safetensors file.", "Download the file again.")
            data = opened.read(length) or b""
        if data.count(b"{") > MAX_FILE_TENSORS or data.count(b",") > 12 * MAX_FILE_TENSORS:
            raise ValueError("it has too many parts")
        entries = from_json(dict[str, Entry], data)
        entries.pop("__metadata__", None)
    except OSError as error:
        raise ModelUnreadable(f"{file} cannot be read: {error.strerror}.", "Check the file's permissions.") from error
    except (ValueError, RecursionError) as error:
        raise ModelUnreadable(
            f"The header of {file} is damaged: {_shown(error)}.", "Download the file again."
        ) from error
    if any(not entry.dtype or entry.data_offsets[1] > MAX_FILE_BYTES for entry in entries.values()):
        raise ModelUnreadable(f"The header of {file} is damaged: no tensor is like that.", "Download the file again.")
    if any(not 0 <= entry.data_offsets[0] <= entry.data_offsets[1] for entry in entries.values()):
        raise ModelUnreadable(f"The header of {file} is damaged: a tensor ends before it begins.", "Download it again.")
    end = 8 + length + max((entry.data_offsets[1] for entry in entries.values()), default=0)
    if end > size:
        raise ModelUnreadable(
            f"{file} is cut short: {size:,} of {end:,} bytes are there.", "The download did not finish: get it again."
        )
    return entries
