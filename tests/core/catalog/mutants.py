"""Makes damaged model headers out of whole ones: most still begin as they should, and are wrong in what follows."""

from __future__ import annotations

import json
import os
import random
import struct
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

from app.core.catalog.safetensors import CONFIG
from tests.core.catalog.ggufs import write_gguf
from tests.core.catalog.test_safetensors import CONFIG as PLAIN_CONFIG
from tests.engines.architectures import BUILDERS, Model
from tests.rig.gguf_file import write_gguf as write_header

GGUF, SAFETENSORS = "gguf", "safetensors"
BESIDE = ("tokenizer_config.json", "model.safetensors.index.json", "hf_quant_config.json")
KINDS = (GGUF, GGUF, GGUF, GGUF, SAFETENSORS, SAFETENSORS, CONFIG, "beside")
WEIGHTS = "model.safetensors"
HUGE_FILE_BYTES = 2**40  # sparse: all that a header announces is there
LARGE = 1 / 4_000  # share of headers that are tens of megabytes

Undo = Callable[[], None]
NUMBERS = (0, 1, 2, 3, 4, 8, 9, 12, 31, 255, 2**16, 2**20, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**48, 2**60, 2**63 - 1,
           2**63, 2**64 - 8, 2**64 - 1)  # fmt: skip


def mutant(kind: str, chance: random.Random, seeds: Sequence[bytes], path: Path) -> tuple[bool, Undo]:
    """Writes one damaged model to `path`; whether it begins as it should, and what makes the folder whole again."""
    if kind == GGUF:
        data, size = mutated_gguf(chance, seeds)
        path.write_bytes(data)
        os.truncate(path, max(size, len(data)))
        return data[:4] == b"GGUF" and data[4:8] in (b"\3\0\0\0", b"\2\0\0\0"), _nothing
    name = WEIGHTS if kind == SAFETENSORS else kind if kind == CONFIG else chance.choice(BESIDE)
    file = path / name
    if kind == SAFETENSORS:
        data = mutated_weights(chance)
        file.write_bytes(data)
        os.truncate(file, chance.choice((len(data), len(data) + 264, len(data) + 10_000, HUGE_FILE_BYTES)))
        length = int.from_bytes(data[:8], "little")
        magic = data[8:9] == b"{" and 2 <= length <= 100 * 10**6
    else:
        data = mutated_json(chance, whole_folder()[name])
        file.write_bytes(data)
        magic = data[:1] == b"{"
    return magic, lambda: _write_whole(file)


def _nothing() -> None:
    pass


# --- GGUF --------------------------------------------------------------------------------------------------------------


def gguf_seeds(folder: Path) -> list[bytes]:
    """Whole headers, without weights."""
    folder.mkdir(parents=True)
    flags = {"attention.sliding_window_pattern": [True, False]}
    paths = [write_gguf(folder / "plain.gguf", flags=flags, numbers={"attention.sliding_window": 64})]
    for name in sorted(BUILDERS)[::3]:
        model = Model(name, 1)
        BUILDERS[name](model)
        short = {key: each[:20] if isinstance(each, list) else each for key, each in model.metadata.items()}
        paths.append(folder / f"{name}.gguf")
        write_header(paths[-1], short, model.tensors)
    headers = []
    for path in paths:
        with path.open("rb") as file:
            headers.append(file.read(32_000))  # of what follows nothing is of use
    return headers


@cache
def marks_of(header: bytes) -> tuple[int, ...]:
    """Where the header's counts, lengths, types and offsets stand."""
    marks = [4, 8, 16]
    tensors, pairs = struct.unpack_from("<QQ", header, 8)
    at = 24
    sizes = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}

    def text() -> None:
        nonlocal at
        length = number("<Q")
        at += length

    def number(form: str) -> int:
        nonlocal at
        marks.append(at)
        (value,) = struct.unpack_from(form, header, at)
        at += struct.calcsize(form)
        return int(value)

    try:
        for _ in range(pairs):
            text()
            kind, count = number("<I"), 1
            if kind == 9:
                kind, count = number("<I"), number("<Q")
            if kind == 8:
                for _ in range(count):
                    text()
            else:
                marks.append(at)
                at += sizes[kind] * count
        for _ in range(tensors):
            text()
            for _ in range(number("<I")):
                number("<Q")
            number("<I")
            number("<Q")
    except struct.error:  # a large vocabulary that was cut off
        pass
    return tuple(mark for mark in marks if mark + 8 <= len(header))


def mutated_gguf(chance: random.Random, seeds: Sequence[bytes]) -> tuple[bytes, int]:
    """A header and the size that its file shall have."""
    if chance.random() < LARGE:
        return chance.choice(LARGE_GGUF)(), chance.choice((0, HUGE_FILE_BYTES))
    seed = chance.choice(seeds)
    marks, data = marks_of(seed), bytearray(seed)
    for _ in range(chance.choice((1, 1, 1, 1, 2, 5))):
        match chance.randrange(10):
            case 0 | 1 | 2 | 3:
                at = chance.choice(marks)
                (value,) = struct.unpack_from("<Q", seed, at)
                near = (value + chance.randint(-3, 3)) % 2**64
                wrong = chance.choice(
                    (chance.choice(NUMBERS), near, chance.getrandbits(chance.choice((4, 12, 24, 64))))
                )
                width = chance.choice((4, 8))
                data[at : at + width] = (wrong % 2 ** (8 * width)).to_bytes(width, "little")
            case 4 | 5 | 6:
                at = chance.randrange(8 if chance.random() < 0.9 else 0, len(data))
                data[at : at + 1] = bytes([chance.randrange(256)])
            case 7:
                at, length = chance.randrange(8, len(data)), chance.randint(1, 200)
                other = chance.choice(seeds)
                start = chance.randrange(len(other))
                data[at : at + chance.choice((0, length))] = other[start : start + length]
            case 8:
                at = chance.randrange(8, len(data))
                del data[at : at + chance.randint(1, 60)]
            case _:
                del data[chance.randrange(8 if chance.random() < 0.95 else 0, len(data)) :]
        if len(data) < 16:
            break
    return bytes(data), chance.choice((0, 2**26, 2**36, 2**36, 2**36, 2**40))


def _text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def _header(pairs: list[bytes], tensors: Sequence[bytes] = ()) -> bytes:
    count = struct.pack("<IQQ", 3, len(tensors), len(pairs))
    return b"GGUF" + count + b"".join(pairs) + b"".join(tensors)


def _lists_of_numbers() -> bytes:
    numbers = struct.pack("<IIQ", 9, 4, 4096) + bytes(range(1, 129)) * 128
    return _header([_text(b"%d" % number) + numbers for number in range(1900)])


def _long_texts() -> bytes:
    value = struct.pack("<I", 8) + _text(b"x" * 1_048_000 + "😀".encode())
    return _header([_text(b"%d" % number) + value for number in range(31)])


def _broken_texts() -> bytes:
    value = struct.pack("<I", 8) + _text(b"\xff" * 1_048_576)
    return _header([_text(b"%d" % number) + value for number in range(31)])


def _lists_of_texts() -> bytes:
    value = struct.pack("<IIQ", 9, 8, 64) + _text(b"") * 64
    return _header([_text(b"%d" % number) + value for number in range(30_000)])


def _many_tensors() -> bytes:
    shape = struct.pack("<I4QIQ", 4, 300, 300, 300, 300, 0, 0)
    return _header([_text(b"general.architecture") + struct.pack("<I", 8) + _text(b"llama")],
                   [_text(b"blk.%d.ffn_up.weight%s" % (number, b"x" * 100)) + shape for number in range(65_000)])  # fmt: skip


def _many_pairs() -> bytes:
    return _header([_text(b"%0300d" % number) + struct.pack("<IQ", 10, 2**60 + number) for number in range(65_000)])


LARGE_GGUF: tuple[Callable[[], bytes], ...] = (
    _lists_of_numbers, _long_texts, _broken_texts, _lists_of_texts, _many_tensors, _many_pairs
)  # fmt: skip


# --- Hugging Face folders ----------------------------------------------------------------------------------------------


@cache
def whole_folder() -> dict[str, dict[str, Any]]:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in ("model.embed_tokens", "model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.k_proj",
                 "model.layers.0.self_attn.k_norm", "model.layers.1.mlp.experts.0.up_proj", "lm_head"):  # fmt: skip
        header[f"{name}.weight"] = {"dtype": "BF16", "shape": [8, 4], "data_offsets": [end, end + 64]}
        end += 64
    config = {
        **PLAIN_CONFIG, "architectures": ["Qwen3ForCausalLM"], "layer_types": ["full_attention", "linear_attention"],
        "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024},
        "quantization_config": {"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": {"num_bits": 4}}}},
        "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
        "sliding_window": 512, "torch_dtype": "bfloat16", "num_experts": 4, "num_experts_per_tok": 2,
        "mamba_d_state": 16, "linear_attn_config": {"full_attn_layers": [1], "num_heads": 4, "head_dim": 8},
        "block_configs": [{"attention": {"n_heads_in_group": 2}}, {}], "vision_config": {"depth": 2},
    }  # fmt: skip
    index = {"metadata": {"total_size": end}, "weight_map": dict.fromkeys(header, WEIGHTS)}
    return {
        WEIGHTS: header,
        CONFIG: config,
        BESIDE[0]: {"chat_template": [{"name": "default", "template": "{{ tools }}<think>"}]},
        BESIDE[1]: index,
        BESIDE[2]: {"quantization": {"quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8"}},
    }


def write_folder(folder: Path) -> Path:
    folder.mkdir()
    for name in whole_folder():
        _write_whole(folder / name)
    return folder


def _write_whole(file: Path) -> None:
    data = json.dumps(whole_folder()[file.name]).encode()
    if file.name == WEIGHTS:
        data = len(data).to_bytes(8, "little") + data + b"\0" * 1_000
    file.write_bytes(data)


def mutated_weights(chance: random.Random) -> bytes:
    large = chance.random() < LARGE
    data = chance.choice(LARGE_WEIGHTS)() if large else mutated_json(chance, whole_folder()[WEIGHTS])
    length = len(data)
    if chance.random() < 0.1:
        length = chance.choice((*NUMBERS, length - 1, length + 1, length + 8)) % 2**64
    return length.to_bytes(8, "little") + data


WEIRD: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2**31, 2**63, 2**64, 10**400, 1e308, -1e308, 1e-300, float("nan"), float("inf"), "", "x" * 1_000,
    "\ud800", "\n\x1b[2J", "../../etc", [], {}, [1] * 5_000, [[]] * 9, [2**63, -1], {"": {}}, "full_attention", [None], "auto",
)  # fmt: skip
NAMES = ("text_config", "thinker_config", "num_hidden_layers", "head_dim", "kv_lora_rank", "qk_rope_head_dim", "n_layer", "dtype",
         "num_kv_shared_layers", "hybrid_override_pattern", "full_attention_interval", "attn_layer_period", "attn_type_list",
         "attention_chunk_size", "no_rope_layers", "model_type", "architectures", "quantization_config", "conv_L_cache", "shape",
         "data_offsets", "attn_config", "quantization", "chat_template", "mamba_n_heads", "mamba_d_head", "vocab_size")  # fmt: skip


def mutated_json(chance: random.Random, whole: dict[str, Any]) -> bytes:
    """Damaged in what it says, or in how it is written."""
    if chance.random() < LARGE:
        return chance.choice(LARGE_JSON)()
    value = json.loads(json.dumps(whole))
    if chance.random() < 0.7:
        for _ in range(chance.choice((1, 1, 2, 4, 8))):
            inside: Any = value
            while isinstance(inside, dict | list) and inside:
                key = chance.choice(list(inside)) if isinstance(inside, dict) else chance.randrange(len(inside))
                if isinstance(inside[key], dict | list) and chance.random() < 0.7:
                    inside = inside[key]
                    continue
                if isinstance(inside, dict) and chance.random() < 0.4:
                    key = chance.choice(NAMES)
                inside[key] = deepcopy(chance.choice(WEIRD))
                break
        return json.dumps(value, ensure_ascii=chance.random() < 0.9).encode("utf-8", "surrogatepass")
    data = bytearray(json.dumps(value).encode())
    for _ in range(chance.choice((1, 1, 2, 5))):
        at = chance.randrange(1 if chance.random() < 0.95 else 0, len(data))
        match chance.randrange(5):
            case 0:
                data[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                data[at : at + chance.randint(0, 4)] = chance.choice(
                    (b"{", b"[", b'"', b"9" * 400, b"9" * 5_000, b"\\ud800", b"\0", b"1e999")
                )
            case 2:
                del data[at : at + chance.randint(1, 30)]
            case 3:
                data[at:at] = b'{"a":' * chance.choice((1, 50, 5_000))
            case _:
                start = chance.randrange(len(data))
                data[at:at] = data[start : start + 100]
    return bytes(data) or b" "


def _many_entries() -> bytes:
    entry = '"%d":{"dtype":"BF16","shape":[4,4],"data_offsets":[0,32]}'
    return ("{" + ",".join(entry % number for number in range(250_000)) + "}").encode()


def _many_named_entries() -> bytes:
    entry = (
        '"model.layers.%d.mlp.experts.%d.up_proj.weight":{"dtype":"BF16","shape":[4096,4096],"data_offsets":[%d,%d]}'
    )
    each = (entry % (number % 61, number, 10**12 + number, 10**12 + number) for number in range(100_000))
    return ("{" + ",".join(each) + "}").encode()


def _long_shape() -> bytes:
    return ('{"a":{"dtype":"F32","data_offsets":[0,4],"shape":[' + "1," * 2_000_000 + "1]}}").encode()


def _spaces() -> bytes:
    return b"{" + b" " * 60_000_000 + b"}"


LARGE_WEIGHTS: tuple[Callable[[], bytes], ...] = (_many_entries, _many_named_entries, _long_shape, _spaces)


def _long_list() -> bytes:
    return b'{"num_hidden_layers": 4096, "layer_types": [' + b"1000," * 700_000 + b"1]}"


def _long_text() -> bytes:
    return b'{"model_type": "' + b"x" * 4_000_000 + b'", "chat_template": "' + "😀".encode() * 10 + b'"}'


def _many_keys() -> bytes:
    return ("{" + ",".join(f'"{number}":{{}}' for number in range(300_000)) + "}").encode()


LARGE_JSON: tuple[Callable[[], bytes], ...] = (_long_list, _long_text, _many_keys)
