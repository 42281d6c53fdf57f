"""Describes models of many architectures with random dimensions, as GGUF headers that the real engine loads without weights."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.rig.gguf_file import F16, F32, Q4_K, Q6_K, Q8_0, write_gguf

Shape = tuple[int, ...]
CONTEXT_MAX = 131_072


class Model:
    """One model being described: metadata under its architecture's name, tensors by name. Dimensions come from `seed`."""

    def __init__(self, architecture: str, seed: int, large: bool = False) -> None:
        self.architecture = architecture
        self.random = random.Random(f"{architecture} {seed}")
        self.scale = 8 if large else 1
        self.metadata: dict[str, object] = {"general.architecture": architecture, "general.name": "generated"}
        self.tensors: dict[str, tuple[Shape, int]] = {}
        self.type = self.random.choice((F16, Q8_0, Q4_K)) if not large else Q4_K
        self.layers = self.random.choice((4, 6, 8)) * (4 if large else 1)
        self.head = self.random.choice((64, 128))
        self.kv_heads = self.random.choice((1, 2, 4))
        self.heads = self.kv_heads * self.random.choice((2, 4)) * (2 if large else 1)
        self.width = 256 * self.random.randint(1, 4) * self.scale
        self.inner = 256 * self.random.randint(2, 9) * self.scale
        self.vocabulary = 256 * self.random.randint(3, 40) * (6 if large else 1)
        self.say(
            block_count=self.layers,
            context_length=CONTEXT_MAX,
            embedding_length=self.width,
            feed_forward_length=self.inner,
            vocab_size=self.vocabulary,
        )
        self.say(
            {
                "attention.head_count": self.heads,
                "attention.head_count_kv": self.kv_heads,
                "attention.key_length": self.head,
                "attention.value_length": self.head,
                "attention.layer_norm_rms_epsilon": 1e-5,
                "rope.dimension_count": self.head,
            }
        )
        self.tokeniser()
        self.tensors["token_embd.weight"] = (self.width, self.vocabulary), Q6_K if self.type == Q4_K else self.type
        self.vector("output_norm.weight")

    def say(self, values: dict[str, object] | None = None, **more: object) -> None:
        for key, value in {**(values or {}), **more}.items():
            self.metadata[f"{self.architecture}.{key}"] = value

    def square_heads(self) -> None:
        """Architectures whose heads share the width evenly."""
        self.heads = self.width // self.head
        self.kv_heads = self.heads
        self.say({"attention.head_count": self.heads, "attention.head_count_kv": self.kv_heads})

    def even_heads(self) -> None:
        """Architectures whose query is as wide as the model; a few query heads still share one with a cache."""
        self.heads = self.width // self.head
        self.kv_heads = self.heads // 2
        self.say({"attention.head_count": self.heads, "attention.head_count_kv": self.kv_heads})

    def tokeniser(self) -> None:
        """The smallest one that a server accepts: bytes, and names for the rest."""
        rest = self.vocabulary - 259
        tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *(f"t{n}" for n in range(rest))]
        self.metadata |= {
            "tokenizer.ggml.model": "llama",
            "tokenizer.ggml.tokens": tokens,
            "tokenizer.ggml.scores": [0.0] * self.vocabulary,
            "tokenizer.ggml.token_type": [2, 3, 3, *[6] * 256, *[1] * rest],
            "tokenizer.ggml.bos_token_id": 1,
            "tokenizer.ggml.eos_token_id": 2,
            "tokenizer.chat_template": "{% for m in messages %}{{ m.content }}{% endfor %}",
        }

    def shifting_norm(self) -> None:
        del self.metadata[f"{self.architecture}.attention.layer_norm_rms_epsilon"]
        self.say({"attention.layer_norm_epsilon": 1e-5})

    def vector(self, name: str, length: int | None = None) -> None:
        self.tensors[name] = (length or self.width,), F32

    def matrix(self, name: str, *shape: int) -> None:
        kind = self.type
        self.tensors[name] = shape, kind if shape[0] % 256 == 0 or kind != Q4_K else Q8_0

    def output(self) -> None:
        self.matrix("output.weight", self.width, self.vocabulary)

    def attention(self, at: str, *, fused: bool = False, bias: bool = False, norms: bool = False) -> None:
        query, cached = self.heads * self.head, self.kv_heads * self.head
        self.vector(at + "attn_norm.weight")
        if fused:
            self.matrix(at + "attn_qkv.weight", self.width, query + 2 * cached)
        else:
            for name, length in (("q", query), ("k", cached), ("v", cached)):
                self.matrix(f"{at}attn_{name}.weight", self.width, length)
                if bias:
                    self.vector(f"{at}attn_{name}.bias", length)
        if norms:
            self.vector(at + "attn_q_norm.weight", self.head)
            self.vector(at + "attn_k_norm.weight", self.head)
        self.matrix(at + "attn_output.weight", query, self.width)

    def feed_forward(self, at: str, *, gate: bool = True, fused: bool = False, norm: bool = True) -> None:
        if norm:
            self.vector(at + "ffn_norm.weight")
        if gate and not fused:
            self.matrix(at + "ffn_gate.weight", self.width, self.inner)
        self.matrix(at + "ffn_up.weight", self.width, self.inner * (2 if fused else 1))
        self.matrix(at + "ffn_down.weight", self.inner, self.width)

    def experts(self, at: str, count: int, inner: int, *, shared: int = 0, norm: bool = True) -> None:
        if norm:
            self.vector(at + "ffn_norm.weight")
        self.tensors[at + "ffn_gate_inp.weight"] = (self.width, count), F32
        self.matrix(at + "ffn_gate_exps.weight", self.width, inner, count)
        self.matrix(at + "ffn_up_exps.weight", self.width, inner, count)
        self.matrix(at + "ffn_down_exps.weight", inner, self.width, count)
        if shared:
            self.matrix(at + "ffn_gate_shexp.weight", self.width, shared)
            self.matrix(at + "ffn_up_shexp.weight", self.width, shared)
            self.matrix(at + "ffn_down_shexp.weight", shared, self.width)

    def expert_counts(self) -> tuple[int, int]:
        count, used = self.random.choice(((8, 2), (16, 4), (32, 4)))
        inner = 256 * self.random.randint(1, 3)
        self.say(expert_count=count, expert_used_count=used, expert_feed_forward_length=inner)
        return count, inner

    def write(self, path: Path) -> Path:
        write_gguf(path, self.metadata, self.tensors)
        return path


def plain(model: Model, *, bias: bool = False, norms: bool = False, tied: bool = False) -> None:
    if bias:
        model.even_heads()
    if not tied:
        model.output()
    for layer in range(model.layers):
        model.attention(f"blk.{layer}.", bias=bias, norms=norms)
        model.feed_forward(f"blk.{layer}.")


def mixture(model: Model) -> None:
    model.output()
    count, inner = model.expert_counts()
    for layer in range(model.layers):
        model.attention(f"blk.{layer}.", norms=True)
        model.experts(f"blk.{layer}.", count, inner)


def gemma(model: Model, *, norms: bool) -> None:
    model.say({"attention.sliding_window": 256})
    if not norms:
        model.say({"final_logit_softcapping": 30.0, "attn_logit_softcapping": 50.0})
    for layer in range(model.layers):
        at = f"blk.{layer}."
        model.attention(at, norms=norms)
        model.feed_forward(at)
        model.vector(at + "post_attention_norm.weight")
        model.vector(at + "post_ffw_norm.weight")


def phi(model: Model) -> None:
    model.head = 64
    model.square_heads()
    model.say({"rope.dimension_count": 64, "attention.key_length": 64, "attention.value_length": 64})
    model.output()
    for layer in range(model.layers):
        model.attention(f"blk.{layer}.", fused=True)
        model.feed_forward(f"blk.{layer}.", fused=True)


def neox(model: Model) -> None:
    model.shifting_norm()
    model.head = 64
    model.square_heads()
    model.say({"use_parallel_residual": True, "rope.dimension_count": 16})
    model.say({"attention.key_length": 64, "attention.value_length": 64})
    model.output()
    model.vector("output_norm.bias")
    for layer in range(model.layers):
        at = f"blk.{layer}."
        model.attention(at, fused=True)
        model.vector(at + "attn_norm.bias")
        model.vector(at + "attn_qkv.bias", 3 * model.width)
        model.vector(at + "attn_output.bias")
        model.feed_forward(at, gate=False)
        model.vector(at + "ffn_norm.bias")
        model.vector(at + "ffn_up.bias", model.inner)
        model.vector(at + "ffn_down.bias")


def command_r(model: Model) -> None:
    model.shifting_norm()
    model.head = 64
    model.square_heads()
    model.say(
        {"rope.dimension_count": 64, "attention.key_length": 64, "attention.value_length": 64, "logit_scale": 0.1}
    )
    for layer in range(model.layers):
        model.attention(f"blk.{layer}.")
        model.feed_forward(f"blk.{layer}.", norm=False)


def gpt_oss(model: Model) -> None:
    model.output()
    model.head = 64
    model.say({"attention.key_length": 64, "attention.value_length": 64, "rope.dimension_count": 64})
    model.say({"attention.sliding_window": 128})
    count, inner = model.expert_counts()
    for layer in range(model.layers):
        at = f"blk.{layer}."
        model.attention(at, bias=True)
        model.vector(at + "attn_output.bias")
        model.vector(at + "attn_sinks.weight", model.heads)
        model.vector(at + "post_attention_norm.weight")
        model.experts(at, count, inner, norm=False)
        model.vector(at + "ffn_gate_inp.bias", count)
        for name, length in (("gate", inner), ("up", inner), ("down", model.width)):
            model.tensors[f"{at}ffn_{name}_exps.bias"] = (length, count), F32


def deepseek(model: Model) -> None:
    model.output()
    rank, rope, nope, value, queries = 256, 64, 128, 128, 256
    model.say(
        {
            "attention.head_count_kv": 1,
            "attention.key_length": rank + rope,
            "attention.value_length": rank,
            "attention.key_length_mla": nope + rope,
            "attention.value_length_mla": value,
            "attention.kv_lora_rank": rank,
            "attention.q_lora_rank": queries,
            "rope.dimension_count": rope,
            "leading_dense_block_count": 1,
            "expert_shared_count": 1,
            "expert_weights_scale": 1.0,
        }
    )
    count, inner = model.expert_counts()
    for layer in range(model.layers):
        at = f"blk.{layer}."
        model.vector(at + "attn_norm.weight")
        model.vector(at + "attn_q_a_norm.weight", queries)
        model.vector(at + "attn_kv_a_norm.weight", rank)
        model.matrix(at + "attn_q_a.weight", model.width, queries)
        model.matrix(at + "attn_q_b.weight", queries, model.heads * (nope + rope))
        model.matrix(at + "attn_kv_a_mqa.weight", model.width, rank + rope)
        model.matrix(at + "attn_k_b.weight", nope, rank, model.heads)
        model.matrix(at + "attn_v_b.weight", rank, value, model.heads)
        model.matrix(at + "attn_output.weight", model.heads * value, model.width)
        if layer == 0:
            model.feed_forward(at)
        else:
            model.experts(at, count, inner, shared=inner)


def mamba_block(model: Model, at: str, groups: int, state: int, heads: int) -> None:
    inner, conv = 2 * model.width, 4
    channels = inner + 2 * groups * state
    model.vector(at + "attn_norm.weight")
    model.matrix(at + "ssm_in.weight", model.width, 2 * inner + 2 * groups * state + heads)
    model.tensors[at + "ssm_conv1d.weight"] = (conv, channels), F32
    model.vector(at + "ssm_conv1d.bias", channels)
    model.vector(at + "ssm_dt.bias", heads)
    model.tensors[at + "ssm_a"] = (1, heads), F32
    model.tensors[at + "ssm_d"] = (1, heads), F32
    model.tensors[at + "ssm_norm.weight"] = (inner // groups, groups), F32
    model.matrix(at + "ssm_out.weight", inner, model.width)


def state_space(model: Model, groups: int = 1, state: int = 128) -> int:
    heads = 2 * model.width // 64
    model.say(
        {
            "ssm.conv_kernel": 4,
            "ssm.inner_size": 2 * model.width,
            "ssm.state_size": state,
            "ssm.time_step_rank": heads,
            "ssm.group_count": groups,
        }
    )
    return heads


def granite_hybrid(model: Model) -> None:
    heads = state_space(model)
    model.say({"attention.head_count_kv": [model.kv_heads if n % 4 == 3 else 0 for n in range(model.layers)]})
    for layer in range(model.layers):
        at = f"blk.{layer}."
        if layer % 4 == 3:
            model.attention(at)
        else:
            mamba_block(model, at, 1, 128, heads)
        model.feed_forward(at)


def mamba2(model: Model) -> None:
    heads = state_space(model)
    model.say({"attention.head_count": 0, "attention.head_count_kv": 0, "feed_forward_length": 0})
    for layer in range(model.layers):
        mamba_block(model, f"blk.{layer}.", 1, 128, heads)


def lfm(model: Model) -> None:
    model.square_heads()
    model.kv_heads = model.heads // 2 or 1
    model.say({"shortconv.l_cache": 3})
    model.say({"attention.head_count_kv": [model.kv_heads if n % 3 == 2 else 0 for n in range(model.layers)]})
    del model.tensors["output_norm.weight"]
    model.vector("token_embd_norm.weight")
    for layer in range(model.layers):
        at = f"blk.{layer}."
        if layer % 3 == 2:
            model.attention(at, norms=True)
        else:
            model.vector(at + "attn_norm.weight")
            model.tensors[at + "shortconv.conv.weight"] = (3, model.width), F32
            model.matrix(at + "shortconv.in_proj.weight", model.width, 3 * model.width)
            model.matrix(at + "shortconv.out_proj.weight", model.width, model.width)
        model.feed_forward(at)


def qwen_hybrid(model: Model) -> None:
    """Qwen 3.5: three layers with a gated delta rule, then one with attention whose query carries a gate."""
    model.output()
    size, groups, heads = 128, 2, 4
    model.head = 128
    model.say({"attention.key_length": 128, "attention.value_length": 128, "rope.dimension_count": 64})
    model.say({"rope.dimension_sections": [16, 8, 8, 0], "full_attention_interval": 4})
    model.say({"ssm.conv_kernel": 4, "ssm.inner_size": size * heads, "ssm.state_size": size})
    model.say({"ssm.time_step_rank": heads, "ssm.group_count": groups})
    channels = size * (2 * groups + heads)
    for layer in range(model.layers):
        at = f"blk.{layer}."
        if layer % 4 == 3:
            model.attention(at, norms=True)
            model.matrix(at + "attn_q.weight", model.width, 2 * model.heads * 128)
        else:
            model.vector(at + "attn_norm.weight")
            model.matrix(at + "attn_qkv.weight", model.width, channels)
            model.matrix(at + "attn_gate.weight", model.width, size * heads)
            model.tensors[at + "ssm_conv1d.weight"] = (4, channels), F32
            model.vector(at + "ssm_dt.bias", heads)
            model.vector(at + "ssm_a", heads)
            model.matrix(at + "ssm_beta.weight", model.width, heads)
            model.matrix(at + "ssm_alpha.weight", model.width, heads)
            model.vector(at + "ssm_norm.weight", size)
            model.matrix(at + "ssm_out.weight", size * heads, model.width)
        model.feed_forward(at, norm=False)
        model.vector(at + "post_attention_norm.weight")


BUILDERS: dict[str, Callable[[Model], Any]] = {
    "llama": plain,
    "qwen2": lambda model: plain(model, bias=True, tied=True),
    "qwen3": lambda model: plain(model, norms=True),
    "qwen3moe": mixture,
    "gemma2": lambda model: gemma(model, norms=False),
    "gemma3": lambda model: gemma(model, norms=True),
    "phi3": phi,
    "gptneox": neox,
    "command-r": command_r,
    "gpt-oss": gpt_oss,
    "deepseek2": deepseek,
    "granitehybrid": granite_hybrid,
    "mamba2": mamba2,
    "lfm2": lfm,
    "qwen35": qwen_hybrid,
}


def write_architecture(path: Path, architecture: str, seed: int, *, large: bool = False) -> Path:
    """A header-only model of `architecture`; the same seed gives the same dimensions."""
    model = Model(architecture, seed, large)
    BUILDERS[architecture](model)
    return model.write(path)
