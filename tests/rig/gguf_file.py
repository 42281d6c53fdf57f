"""Writes small GGUF files, honest, damaged or with gigabytes of holes, by hand so that the reader under test has no twin."""

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

ALIGNMENT = 32
F32, F16, Q8_0, Q4_K, Q6_K = 0, 1, 8, 12, 14
BYTES_OF = {
    F32: (1, 4),
    F16: (1, 2),
    Q8_0: (32, 34),
    Q4_K: (256, 144),
    Q6_K: (256, 210),
}  # values per block, bytes per block


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def _value(value: object) -> bytes:
    match value:
        case bool():
            return struct.pack("<I?", 7, value)
        case int():
            return struct.pack("<II", 4, value)
        case float():
            return struct.pack("<If", 6, value)
        case str():
            return struct.pack("<I", 8) + _text(value)
        case list():
            if value and isinstance(value[0], str):
                return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(_text, value))
            if value and isinstance(value[0], float):
                return struct.pack("<IIQ", 9, 6, len(value)) + b"".join(struct.pack("<f", item) for item in value)
            return struct.pack("<IIQ", 9, 5, len(value)) + b"".join(struct.pack("<i", item) for item in value)
    raise TypeError(f"{value!r} has no place in this writer")


def tensor_bytes(shape: Sequence[int], kind: int) -> int:
    per_block, block_bytes = BYTES_OF[kind]
    count = 1
    for length in shape:
        count *= length
    return count // per_block * block_bytes


def write_gguf(path: Path, metadata: Mapping[str, object], tensors: Mapping[str, tuple[Sequence[int], int]]) -> int:
    """Writes the header and a hole where the weights would be (sparse: a 40 GiB model costs a few kB). Returns the size."""
    offset, entries = 0, b""
    for name, (shape, kind) in tensors.items():
        entries += _text(name) + struct.pack("<I", len(shape))
        entries += b"".join(struct.pack("<Q", length) for length in shape) + struct.pack("<IQ", kind, offset)
        offset += -(-tensor_bytes(shape, kind) // ALIGNMENT) * ALIGNMENT
    pairs = b"".join(_text(key) + _value(value) for key, value in metadata.items())
    header = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata)) + pairs + entries
    header += b"\0" * (-len(header) % ALIGNMENT)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + offset)
    return len(header) + offset


def write_model(
    path: Path,
    *,
    weights_bytes: int = 2_000_000,
    layers: int = 2,
    embedding: int = 256,
    heads: int = 4,
    kv_heads: int = 2,
    context: int = 4096,
    vocabulary: int = 64,
    name: str = "",
    architecture: str = "llama",
    template: str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}",
) -> Path:
    """A model of about `weights_bytes` whose facts can be read; it generates nothing."""
    key = architecture
    metadata: dict[str, object] = {
        "general.architecture": architecture,
        "general.name": name or path.stem,
        "general.file_type": 7,
        "general.quantization_version": 2,
        f"{key}.block_count": layers,
        f"{key}.context_length": context,
        f"{key}.embedding_length": embedding,
        f"{key}.feed_forward_length": embedding * 4,
        f"{key}.attention.head_count": heads,
        f"{key}.attention.head_count_kv": kv_heads,
        f"{key}.attention.layer_norm_rms_epsilon": 1e-5,
        f"{key}.rope.dimension_count": embedding // heads,
        f"{key}.vocab_size": vocabulary,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": [f"t{n}" for n in range(vocabulary)],
        "tokenizer.ggml.token_type": [1] * vocabulary,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.chat_template": template,
    }
    tensors: dict[str, tuple[Sequence[int], int]] = {
        "token_embd.weight": ((embedding, vocabulary), Q8_0),
        "output_norm.weight": ((embedding,), F32),
    }
    per_layer = max(32, weights_bytes * 32 // 34 // layers // embedding // 32 * 32)
    for layer in range(layers):
        tensors[f"blk.{layer}.attn_norm.weight"] = ((embedding,), F32)
        tensors[f"blk.{layer}.ffn_down.weight"] = ((embedding, per_layer), Q8_0)
    write_gguf(path, metadata, tensors)
    return path


def write_slow_to_read(path: Path, texts: int = 2_000_000) -> Path:
    """A model with a vocabulary of millions of empty words: a hole on the disk, and long work for whoever reads its header."""
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, 2) + _text("general.architecture") + _value("llama")
    head += _text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, texts)
    tensor = _text("token_embd.weight") + struct.pack("<IQQIQ", 2, 32, 32, F32, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(head)
        file.seek(8 * texts, 1)
        file.write(tensor)
        file.truncate(-(-file.tell() // ALIGNMENT) * ALIGNMENT + tensor_bytes((32, 32), F32))
    return path
