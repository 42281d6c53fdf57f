"""Writes small GGUF files with the `gguf` package, the oracle: what a test needs said, the rest a tiny llama."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

TEMPLATE = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>{% endfor %}"


def write_gguf(
    path: Path,
    *,
    architecture: str = "llama",
    name: str | None = "Tiny",
    layers: int = 2,
    width: int = 64,
    heads: int = 4,
    kv_heads: int | list[int] = 2,
    feed_forward: int = 128,
    vocabulary: int = 96,
    context: int = 1024,
    tied: bool = True,
    template: str | None = TEMPLATE,
    file_type: int | None = 1,
    numbers: dict[str, int] | None = None,
    flags: dict[str, list[bool]] | None = None,
    texts: dict[str, str] | None = None,
    tensors: dict[str, tuple[int, ...]] | None = None,
    bare: bool = False,
) -> Path:
    """A loadable-looking f16 model at `path`; `numbers`, `flags` are `<architecture>.key` entries, `texts` whole keys."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, architecture)
    if name:
        writer.add_name(name)
    if not bare:
        writer.add_block_count(layers)
        writer.add_embedding_length(width)
        writer.add_head_count(heads)
        writer.add_head_count_kv(kv_heads)
        writer.add_feed_forward_length(feed_forward)
        writer.add_context_length(context)
    if file_type is not None:
        writer.add_file_type(file_type)
    if template:
        writer.add_chat_template(template)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([f"token {i}" for i in range(vocabulary)])
    writer.add_token_scores([float(i) for i in range(vocabulary)])
    for key, value in (numbers or {}).items():
        writer.add_uint32(f"{architecture}.{key}", value)
    for key, values in (flags or {}).items():
        writer.add_array(f"{architecture}.{key}", values)
    for key, text in (texts or {}).items():
        writer.add_string(key, text)
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (vocabulary, width), "output_norm.weight": (width,)}
    if not tied:
        shapes["output.weight"] = (vocabulary, width)
    most_kv = max(kv_heads) if isinstance(kv_heads, list) else kv_heads
    for layer in range(layers):
        shapes |= {
            f"blk.{layer}.attn_q.weight": (width, width),
            f"blk.{layer}.attn_k.weight": (most_kv * width // heads, width),
            f"blk.{layer}.ffn_up.weight": (feed_forward, width),
            f"blk.{layer}.attn_norm.weight": (width,),
        }
    for tensor, shape in (tensors if tensors is not None else shapes).items():
        kind = np.float32 if len(shape) == 1 else np.float16
        writer.add_tensor(tensor, np.zeros(shape, dtype=kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
