"""Describes further architectures, one of each way in which llama.cpp's graphs differ from those of the first builders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.engines.architectures import Model, mamba_block, state_space
from tests.rig.gguf_file import F16, F32


def heads_of_64(model: Model, kv_heads: int = 0) -> None:
    model.head = 64
    model.heads = model.width // 64
    model.kv_heads = kv_heads or model.heads // 2
    model.say({"attention.head_count": model.heads, "attention.head_count_kv": model.kv_heads})
    model.say({"attention.key_length": 64, "attention.value_length": 64, "rope.dimension_count": 64})


def fused_without_rotation(model: Model) -> None:
    """GPT-2: positions are added to the embedding, queries and keys are parts of one product."""
    model.shifting_norm()
    heads_of_64(model, model.width // 64)
    model.say(context_length=8192)
    model.tensors["position_embd.weight"] = (model.width, 8192), F32
    model.output()
    model.vector("output_norm.bias")
    for layer in range(model.layers):
        at = f"blk.{layer}."
        model.attention(at, fused=True)
        model.feed_forward(at, gate=False)
        model.vector(at + "attn_qkv.bias", 3 * model.width)
        model.vector(at + "ffn_up.bias", model.inner)
        for name in ("attn_norm", "attn_output", "ffn_norm", "ffn_down"):
            model.vector(f"{at}{name}.bias")


def norms_after(model: Model) -> None:
    """EXAONE 4: layers read their input as it is, what they say is normed."""
    heads_of_64(model)
    model.output()
    for layer in range(model.layers):
        at = f"blk.{layer}."
        model.attention(at, norms=True)
        del model.tensors[at + "attn_norm.weight"]
        model.feed_forward(at, norm=False)
        model.vector(at + "post_attention_norm.weight")
        model.vector(at + "post_ffw_norm.weight")


def parallel_with_window(model: Model) -> None:
    """Command R7B."""
    model.shifting_norm()
    heads_of_64(model)
    model.say({"attention.sliding_window": 256, "logit_scale": 0.1})
    for layer in range(model.layers):
        model.attention(f"blk.{layer}.")
        model.feed_forward(f"blk.{layer}.", norm=False)


def without_a_cache(model: Model) -> None:
    """LLaDA: every token sees the whole batch."""
    model.output()
    for layer in range(model.layers):
        model.attention(f"blk.{layer}.")
        model.feed_forward(f"blk.{layer}.")


def ahead(model: Model) -> None:
    """GLM 4.5: a dense layer, mixtures with a shared expert, a last layer that only predicts ahead."""
    model.output()
    count, inner = model.expert_counts()
    model.say(leading_dense_block_count=1, expert_shared_count=1, nextn_predict_layers=1, block_count=model.layers + 1)
    for layer in range(model.layers + 1):
        at = f"blk.{layer}."
        model.attention(at)
        model.vector(at + "post_attention_norm.weight")
        if layer == 0:
            model.feed_forward(at, norm=False)
        else:
            model.experts(at, count, inner, shared=inner, norm=False)
            model.vector(at + "exp_probs_b.bias", count)
    at = f"blk.{model.layers}.nextn."
    model.matrix(at + "eh_proj.weight", 2 * model.width, model.width)
    model.vector(at + "enorm.weight")
    model.vector(at + "hnorm.weight")


def image_features(model: Model) -> None:
    """Qwen3-VL: an image's features are added to the first layers, and embeddings have room for them."""
    model.say({"rope.dimension_sections": [16, 24, 24, 0], "n_deepstack_layers": 3})
    model.output()
    count, inner = model.expert_counts()
    for layer in range(model.layers):
        model.attention(f"blk.{layer}.", norms=True)
        model.experts(f"blk.{layer}.", count, inner)


def gemma4(model: Model) -> None:
    """Gemma 4, small with an embedding of its own for each layer, or a mixture with a dense feed-forward beside the experts."""
    per, whole = model.random.choice((0, 256)), 2 * model.head
    windowed = [1 if layer % 3 < 2 else 0 for layer in range(model.layers)]
    model.say({"attention.key_length": whole, "attention.value_length": whole, "rope.dimension_count": whole})
    model.say({"attention.key_length_swa": model.head, "attention.value_length_swa": model.head})
    model.say({"rope.dimension_count_swa": model.head, "attention.sliding_window": 256})
    model.say({"embedding_length_per_layer_input": per, "attention.sliding_window_pattern": windowed})
    model.say({"final_logit_softcapping": 30.0})
    count, inner = model.expert_counts() if not per else (0, 0)
    model.vector("rope_freqs.weight", whole // 2)
    if per:
        model.matrix("per_layer_token_embd.weight", per * model.layers, model.vocabulary)
        model.matrix("per_layer_model_proj.weight", model.width, per * model.layers)
        model.vector("per_layer_proj_norm.weight", per)
    for layer in range(model.layers):
        at = f"blk.{layer}."
        model.head = whole // 2 if windowed[layer] else whole
        model.attention(at, norms=True)
        model.feed_forward(at)
        names = ["post_attention_norm", "post_ffw_norm"]
        if per:
            model.matrix(at + "inp_gate.weight", model.width, per)
            model.matrix(at + "proj.weight", per, model.width)
            names += ["post_norm"]
        else:
            model.experts(at, count, inner, norm=False)
            model.vector(at + "ffn_gate_inp.scale")
            names += ["pre_ffw_norm_2", "post_ffw_norm_1", "post_ffw_norm_2"]
        for name in names:
            model.vector(f"{at}{name}.weight")


def both_in_a_layer(model: Model) -> None:
    """Falcon H1: every layer attends and keeps a state."""
    groups = model.random.choice((1, 2))
    heads = state_space(model, groups=groups)
    model.output()
    for layer in range(model.layers):
        at = f"blk.{layer}."
        mamba_block(model, at, groups, 128, heads)
        model.attention(at)
        model.feed_forward(at, norm=False)
        model.vector(at + "ffn_norm")


def one_thing_in_a_layer(model: Model) -> None:
    """Nemotron 3: a layer keeps a state, or attends, or is a mixture whose experts have no gate."""
    heads = state_space(model)
    kinds = ("state", "experts", "state", "attention") * (model.layers // 2)
    kinds = kinds[: model.layers]
    model.output()
    model.say({"attention.layer_norm_epsilon": 1e-5})
    model.say({"attention.head_count_kv": [model.kv_heads if kind == "attention" else 0 for kind in kinds]})
    model.say(feed_forward_length=[model.inner if kind == "experts" else 0 for kind in kinds])
    count, inner = model.expert_counts()
    model.say(expert_shared_feed_forward_length=2 * inner, expert_shared_count=1, expert_weights_scale=1.0)
    for layer, kind in enumerate(kinds):
        at = f"blk.{layer}."
        if kind == "state":
            mamba_block(model, at, 1, 128, heads)
        elif kind == "attention":
            model.attention(at)
        else:
            model.vector(at + "attn_norm.weight")
            model.experts(at, count, inner, shared=2 * inner, norm=False)
            del model.tensors[at + "ffn_gate_exps.weight"], model.tensors[at + "ffn_gate_shexp.weight"]
            model.vector(at + "exp_probs_b.bias", count)


def kimi_linear(model: Model) -> None:
    """Three layers with Kimi's delta rule, then one with latent attention."""
    heads, size, rank, rope, nope, value = model.heads, 128, 256, 64, 128, 128
    whole = [layer % 4 == 3 for layer in range(model.layers)]
    model.output()
    count, inner = model.expert_counts()
    model.say(leading_dense_block_count=1, expert_shared_count=1, expert_weights_scale=1.0, expert_gating_func=2)
    model.say({"ssm.conv_kernel": 4, "kda.head_dim": size, "attention.head_count_kv": [int(each) for each in whole]})
    model.say({"attention.key_length": rank + rope, "attention.value_length": rank, "rope.dimension_count": rope})
    model.say({"attention.key_length_mla": nope + rope, "attention.value_length_mla": value})
    model.say({"attention.kv_lora_rank": rank})
    for layer in range(model.layers):
        at = f"blk.{layer}."
        model.vector(at + "attn_norm.weight")
        if whole[layer]:
            model.vector(at + "attn_kv_a_norm.weight", rank)
            model.matrix(at + "attn_q.weight", model.width, heads * (nope + rope))
            model.matrix(at + "attn_kv_a_mqa.weight", model.width, rank + rope)
            model.matrix(at + "attn_k_b.weight", nope, rank, heads)
            model.matrix(at + "attn_v_b.weight", rank, value, heads)
            model.matrix(at + "attn_output.weight", heads * value, model.width)
        else:
            for name in "qkv":
                model.tensors[f"{at}ssm_conv1d_{name}.weight"] = (4, 1, size * heads), F32
                model.matrix(f"{at}attn_{name}.weight", model.width, size * heads)
            for name in "fg":
                model.matrix(f"{at}ssm_{name}_a.weight", model.width, size)
                model.tensors[f"{at}ssm_{name}_b.weight"] = (size, size * heads), F16
            model.matrix(at + "ssm_beta.weight", model.width, heads)
            model.tensors[at + "ssm_a"] = (1, heads), F32
            model.vector(at + "ssm_dt.bias", size * heads)
            model.vector(at + "ssm_norm.weight", size)
            model.matrix(at + "attn_output.weight", size * heads, model.width)
        if layer == 0:
            model.feed_forward(at)
        else:
            model.experts(at, count, inner, shared=inner)
            model.vector(at + "exp_probs_b.bias", count)


def rwkv7(model: Model) -> None:
    model.shifting_norm()
    model.output()
    width = model.width
    for name in ("output_norm.bias", "token_embd_norm.weight", "token_embd_norm.bias"):
        model.vector(name)
    model.say({"attention.head_count": 0, "wkv.head_size": 64, "attention.decay_lora_rank": 64})
    model.say({"attention.iclr_lora_rank": 64, "attention.value_residual_mix_lora_rank": 32})
    model.say({"attention.gate_lora_rank": 128})
    del model.metadata["rwkv7.attention.head_count_kv"]
    for layer in range(model.layers):
        at = f"blk.{layer}."
        for name in ("attn_norm", "attn_norm_2", "time_mix_ln"):
            model.vector(f"{at}{name}.weight")
            model.vector(f"{at}{name}.bias")
        for name, rank in (("w", 64), ("a", 64), ("v", 32 if layer else 64), ("g", 128)):
            model.tensors[f"{at}time_mix_{name}1.weight"] = (width, rank), F16
            model.tensors[f"{at}time_mix_{name}2.weight"] = (rank, width), F16
        for name in ("w0", "a0", "v0", "k_k", "k_a", "r_k"):
            model.vector(f"{at}time_mix_{name}.weight")
        model.tensors[at + "time_mix_lerp_fused.weight"] = (width, 1, 1, 6), F32
        model.tensors[at + "channel_mix_lerp_k.weight"] = (width, 1, 1), F32
        for name in ("key", "value", "receptance", "output"):
            model.matrix(f"{at}time_mix_{name}.weight", width, width)
        model.matrix(at + "channel_mix_key.weight", width, model.inner)
        model.matrix(at + "channel_mix_value.weight", model.inner, width)


FURTHER: dict[str, Callable[[Model], Any]] = {
    "gpt2": fused_without_rotation,
    "exaone4": norms_after,
    "cohere2": parallel_with_window,
    "llada": without_a_cache,
    "glm4moe": ahead,
    "qwen3vlmoe": image_features,
    "gemma4": gemma4,
    "falcon-h1": both_in_a_layer,
    "nemotron_h_moe": one_thing_in_a_layer,
    "kimi-linear": kimi_linear,
    "rwkv7": rwkv7,
}


def write_further(path: Path, architecture: str, seed: int) -> Path:
    """A header-only model of `architecture`; the same seed gives the same dimensions."""
    model = Model(architecture, seed)
    FURTHER[architecture](model)
    return model.write(path)
