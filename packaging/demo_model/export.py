"""Decides how the trained weights become one GGUF file: tensor names, tokenizer metadata and the ChatML template."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
import torch

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def export(folder: Path, target: Path) -> None:
    """Write `target` from `weights.pt`, `shape.json` and `tokenizer.json` in `folder`."""
    shape = json.loads((folder / "shape.json").read_text())
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]
    weights = torch.load(folder / "weights.pt", weights_only=True)
    writer = gguf.GGUFWriter(target, "llama")
    writer.add_name("Engine Room Demo")
    writer.add_description("A tiny demo model, trained from scratch on generated text to show the Engine Room app.")
    writer.add_size_label(f"{sum(w.numel() for w in weights.values()) / 1e6:.1f}M")
    writer.add_languages(["en"])
    writer.add_context_length(shape["context"])
    writer.add_embedding_length(shape["width"])
    writer.add_block_count(shape["layers"])
    writer.add_feed_forward_length(shape["feed_forward"])
    writer.add_head_count(shape["heads"])
    writer.add_head_count_kv(shape["kv_heads"])
    writer.add_layer_norm_rms_eps(shape["epsilon"])
    writer.add_rope_freq_base(shape["rope_base"])
    writer.add_rope_dimension_count(shape["width"] // shape["heads"])
    writer.add_vocab_size(shape["vocabulary"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)

    tokens = [token for token, _ in sorted(vocabulary["vocab"].items(), key=lambda item: item[1])]
    if len(tokens) != shape["vocabulary"]:
        raise ValueError(f"the tokenizer has {len(tokens)} tokens, the model {shape['vocabulary']}")
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in vocabulary["merges"]]
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([control if i < 3 else normal for i in range(len(tokens))])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(2)
    writer.add_eot_token_id(2)
    writer.add_pad_token_id(0)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHATML)

    for name, tensor in weights.items():
        data = tensor.float().numpy()
        if data.ndim == 1:
            writer.add_tensor(name, data.astype(np.float32))
        else:
            packed = gguf.quants.quantize(data, gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor(name, packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
