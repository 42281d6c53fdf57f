"""Writes a tiny Hugging Face model of random numbers: enough for an engine to prove that it loads and answers at all."""

from __future__ import annotations

import json
import random
import sys
from array import array
from itertools import pairwise
from pathlib import Path

CONTEXT_TOKENS = 2_048
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write_tiny_folder(
    folder: Path,
    *,
    layers: int = 2,
    width: int = 64,
    shards: int = 2,
    template: bool = True,
    heads: int = 2,
    context_tokens: int = CONTEXT_TOKENS,
) -> Path:
    """A Llama of some 100,000 parameters, told in config, tokeniser and weights; its answers are noise. Returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    words = {word: number for number, word in enumerate([*_byte_letters(), "ab", *SPECIAL])}
    _write(folder / "config.json", _config(words, layers, width, heads, context_tokens))
    _write(folder / "tokenizer.json", _tokenizer(words))
    template_said = {"chat_template": TEMPLATE} if template else {}
    _write(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": SPECIAL[0],
            "eos_token": SPECIAL[2],
            "model_max_length": context_tokens,
            **template_said,
        },
    )
    shapes = _shapes(len(words), layers, width, heads)
    noise = random.Random(7)
    where = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        names = list(shapes)[shard::shards]
        where.update(dict.fromkeys(names, file))
        _write_safetensors(folder / file, {name: (shapes[name], _numbers(shapes[name], noise)) for name in names})
    total = 4 * sum(_count(shape) for shape in shapes.values())
    _write(folder / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": where})
    return folder


def _byte_letters() -> list[str]:
    """The 256 byte tokens of a byte-level vocabulary: printable bytes as themselves, the others moved beyond 255."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}
    return [letters[byte] for byte in range(256)]


def _config(words: dict[str, int], layers: int, width: int, heads: int, context_tokens: int) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": width,
        "intermediate_size": width * 2,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": 1,
        "head_dim": width // heads,
        "vocab_size": len(words),
        "max_position_embeddings": context_tokens,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10_000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
        "bos_token_id": words[SPECIAL[0]],
        "eos_token_id": words[SPECIAL[2]],
    }


def _tokenizer(words: dict[str, int]) -> dict[str, object]:
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    bytes_ = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": words[word], "content": word, "special": True, **plain} for word in SPECIAL],
        "normalizer": None,
        "pre_tokenizer": bytes_,
        "post_processor": None,
        "decoder": bytes_,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {word: number for word, number in words.items() if word not in SPECIAL},
            "merges": [["a", "b"]],
        },
    }


def _shapes(words: int, layers: int, width: int, heads: int) -> dict[str, tuple[int, ...]]:
    head = width // heads
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (words, width)}
    for layer in range(layers):
        at = f"model.layers.{layer}."
        shapes |= {
            f"{at}self_attn.q_proj.weight": (width, width),
            f"{at}self_attn.k_proj.weight": (head, width),
            f"{at}self_attn.v_proj.weight": (head, width),
            f"{at}self_attn.o_proj.weight": (width, width),
            f"{at}mlp.gate_proj.weight": (width * 2, width),
            f"{at}mlp.up_proj.weight": (width * 2, width),
            f"{at}mlp.down_proj.weight": (width, width * 2),
            f"{at}input_layernorm.weight": (width,),
            f"{at}post_attention_layernorm.weight": (width,),
        }
    return shapes | {"model.norm.weight": (width,), "lm_head.weight": (words, width)}


def _count(shape: tuple[int, ...]) -> int:
    return shape[0] * (shape[1] if len(shape) > 1 else 1)


def _numbers(shape: tuple[int, ...], noise: random.Random) -> bytes:
    """32-bit floats: ones for a norm, small noise for a matrix."""
    count = _count(shape)
    numbers = array("f", [1.0] * count if len(shape) == 1 else (noise.uniform(-0.09, 0.09) for _ in range(count)))
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()


def _write_safetensors(path: Path, tensors: dict[str, tuple[tuple[int, ...], bytes]]) -> None:
    """Eight bytes of length, a header as JSON, the numbers."""
    ends = [0]
    for _, data in tensors.values():
        ends.append(ends[-1] + len(data))
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    for (name, (shape, _)), offsets in zip(tensors.items(), pairwise(ends), strict=True):
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": offsets}
    said = json.dumps(header).encode()
    said += b" " * (-len(said) % 8)
    path.write_bytes(len(said).to_bytes(8, "little") + said + b"".join(data for _, data in tensors.values()))


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value), "utf-8")
