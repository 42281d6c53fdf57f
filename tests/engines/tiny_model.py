"""Writes real but tiny llama models, whole or damaged, that a real engine accepts or refuses within milliseconds."""

from pathlib import Path

import gguf
import numpy as np

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_letters() -> list[str]:
    """The 256 byte tokens of a GPT-2 vocabulary: printable bytes as themselves, the others moved beyond 255."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}
    return [letters[byte] for byte in range(256)]


def write_tiny_model(
    path: Path,
    *,
    architecture: str = "llama",
    layers: int = 2,
    width: int = 64,
    context: int = 512,
    ranks: bool = False,
) -> Path:
    """A random model, of about 90,000 parameters unless told otherwise; its answers are noise, its forms are real.

    `ranks` makes it one that scores documents (Qwen 3 has such models, Llama has not).
    """
    architecture = "qwen3" if ranks else architecture
    writer = gguf.GGUFWriter(str(path), architecture)
    writer.add_name("tiny")
    writer.add_context_length(context)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(width * 2)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(width // 2)
    tokens = [*byte_letters(), "ab", "<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * 257 + [3] * 3)
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(257)
    writer.add_eos_token_id(259)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
    random = np.random.default_rng(7)

    def weights(name: str, *shape: int) -> None:
        writer.add_tensor(name, (random.standard_normal(shape) * 0.05).astype(np.float32))

    def ones(name: str, length: int = width) -> None:
        writer.add_tensor(name, np.ones(length, np.float32))

    weights("token_embd.weight", len(tokens), width)
    for layer in range(layers):
        at = f"blk.{layer}."
        ones(at + "attn_norm.weight")
        ones(at + "ffn_norm.weight")
        if ranks:
            ones(at + "attn_q_norm.weight", width // 2)
            ones(at + "attn_k_norm.weight", width // 2)
        weights(at + "attn_q.weight", width, width)
        weights(at + "attn_k.weight", width // 2, width)
        weights(at + "attn_v.weight", width // 2, width)
        weights(at + "attn_output.weight", width, width)
        weights(at + "ffn_gate.weight", width * 2, width)
        weights(at + "ffn_up.weight", width * 2, width)
        weights(at + "ffn_down.weight", width, width * 2)
    ones("output_norm.weight")
    if ranks:
        writer.add_pooling_type(gguf.PoolingType.RANK)
        weights("cls.output.weight", 1, width)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
