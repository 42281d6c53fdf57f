"""Writes real but tiny Hugging Face model folders, whole or damaged, that vLLM accepts or refuses."""

import json
from pathlib import Path

import numpy as np

from tests.engines.tiny_model import TEMPLATE, byte_letters

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CONTEXT_TOKENS = 2_048


def write_tiny_folder(
    folder: Path, *, layers: int = 2, width: int = 64, shards: int = 2, template: bool = True, heads: int = 2
) -> Path:
    """A random Llama of some 100,000 parameters; its answers are noise, its forms are real. Returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = byte_letters()
    vocabulary = {token: number for number, token in enumerate([*letters, "ab", *SPECIAL])}
    _write(folder / "config.json", _config(len(vocabulary), layers, width, heads, vocabulary))
    _write(folder / "tokenizer.json", _tokenizer(vocabulary))
    _write(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": SPECIAL[0],
            "eos_token": SPECIAL[2],
            "model_max_length": CONTEXT_TOKENS,
            **({"chat_template": TEMPLATE} if template else {}),
        },
    )
    tensors = _tensors(len(vocabulary), layers, width, heads)
    names = list(tensors)
    weight_map = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = names[shard::shards]
        weight_map.update(dict.fromkeys(part, file))
        write_safetensors(folder / file, {name: tensors[name] for name in part})
    total = sum(tensor.nbytes for tensor in tensors.values())
    _write(folder / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": weight_map})
    return folder


def write_safetensors(path: Path, tensors: dict[str, np.ndarray]) -> None:
    """Eight bytes of length, a header as JSON, the numbers as 32-bit floats."""
    header, at = {}, 0
    for name, tensor in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [at, at + tensor.nbytes]}
        at += tensor.nbytes
    said = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    said += b" " * (-len(said) % 8)
    path.write_bytes(len(said).to_bytes(8, "little") + said + b"".join(t.tobytes() for t in tensors.values()))


def _config(vocabulary: int, layers: int, width: int, heads: int, tokens: dict[str, int]) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": width,
        "intermediate_size": width * 2,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": 1,
        "head_dim": width // heads,
        "vocab_size": vocabulary,
        "max_position_embeddings": CONTEXT_TOKENS,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10_000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
        "bos_token_id": tokens[SPECIAL[0]],
        "eos_token_id": tokens[SPECIAL[2]],
    }


def _tokenizer(vocabulary: dict[str, int]) -> dict[str, object]:
    special = [
        {"id": vocabulary[token], "content": token, "special": True}
        | dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        for token in SPECIAL
    ]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: number for token, number in vocabulary.items() if token not in SPECIAL},
            "merges": [["a", "b"]],
        },
    }


def _tensors(vocabulary: int, layers: int, width: int, heads: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(7)
    head = width // heads
    shapes = {"model.embed_tokens.weight": (vocabulary, width)}
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
        }
    shapes["lm_head.weight"] = (vocabulary, width)
    tensors = {name: (random.standard_normal(shape) * 0.05).astype(np.float32) for name, shape in shapes.items()}
    norms = [f"model.layers.{n}.{name}_layernorm.weight" for n in range(layers) for name in ("input", "post_attention")]
    return tensors | {name: np.ones(width, np.float32) for name in (*norms, "model.norm.weight")}


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1), "utf-8")
