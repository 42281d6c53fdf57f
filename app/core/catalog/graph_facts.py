"""Reads from a GGUF file what shapes llama.cpp's graph: how each layer is built, by the names and forms of its tensors."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from app.core.catalog.facts import GraphFacts
from app.core.catalog.gguf import GgufTensor

# Architectures whose attention and feed-forward read the same input (their graph in llama.cpp says it, no tensor does).
PARALLEL = frozenset(("cohere2", "command-r", "falcon", "gptj", "gptneox", "phi2", "plamo", "stablelm2", "codeshell"))
# Architectures that llama.cpp gives no memory of earlier tokens (its create_memory), and those of them that end in vectors.
CACHELESS = frozenset(("bert", "nomic-bert", "nomic-bert-moe", "jina-bert-v2", "jina-bert-v3", "neo-bert", "modern-bert",
                       "eurobert", "gemma-embedding", "dream", "llada", "llada-moe", "rnd1"))  # fmt: skip
HEADLESS = CACHELESS - {"dream", "llada", "llada-moe", "rnd1"}
# Their graph turns no query and no key: positions are added once, or bias the scores, or come from the state.
UNROTATED = frozenset(("gpt2", "starcoder", "bloom", "mpt", "jais", "refact", "bert", "jina-bert-v2", "jamba", "nemotron_h",
                       "nemotron_h_moe"))  # fmt: skip
_LAYER = re.compile(r"blk\.(\d{1,5})\.(.+)")
_KINDS = (
    ("time_mix_", "rwkv"),
    ("shortconv.", "convolution"),
    ("ssm_beta", "delta"),
    ("ssm_ba", "delta"),
    ("ssm_alpha", "delta"),
    ("ssm_x.", "mamba"),
    ("ssm_in.", "mamba2"),
)


def graph_facts(
    architecture: str,
    tensors: Sequence[GgufTensor],
    number: Callable[[str], int | None],
    layers: int,
    *,
    shifting_norm: bool,
) -> GraphFacts:
    """`number` reads one of the architecture's own keys; what the file does not show is taken to be the common form."""
    names: dict[str, GgufTensor] = {}
    experts, states, dense = [False] * layers, [False] * layers, [0] * layers
    kind = ""
    for tensor in tensors:
        found = _LAYER.match(tensor.name)
        if found is None:
            continue
        layer, name = int(found[1]), found[2]
        names.setdefault(name, tensor)
        if layer >= layers:
            continue
        if name.startswith("ffn_gate_inp."):
            experts[layer] = True
        elif name == "ffn_down.weight" and tensor.shape:
            dense[layer] = tensor.shape[0]
        elif name.startswith(("ssm_", "shortconv.", "time_mix_")):
            states[layer] = True
            if kind not in ("delta", "mamba", "rwkv", "convolution"):
                kind = next((what for begin, what in _KINDS if name.startswith(begin)), kind)

    def rows(name: str) -> int:
        tensor = names.get(name)
        return tensor.shape[1] if tensor is not None and len(tensor.shape) > 1 else 0

    heads, key_length = number("attention.head_count") or 0, number("attention.key_length") or 0
    if "time_mix_r_k.weight" in names:
        kind = "rwkv7"
    if key_wise := number("kda.head_dim") or 0:
        kind = "kda"
    shared = rows("ffn_up_shexp.weight")
    inner = heads * key_wise or number("ssm.inner_size") or number("embedding_length") or 0
    up, down = rows("ffn_up.weight"), names.get("ffn_down.weight")
    attends_fused = "attn_qkv.weight" in names and "attn_q.weight" not in names and kind != "delta"
    return GraphFacts(
        fused_attention=attends_fused,
        gated_attention=bool(heads and key_length) and rows("attn_q.weight") == 2 * heads * key_length,
        gate_apart="attn_gate.weight" in names and kind != "delta",
        shifting_norm=shifting_norm,
        parallel=architecture in PARALLEL,
        parallel_norm="ffn_norm.weight" in names or "attn_norm_2.weight" in names,
        ungated=("ffn_up.weight" in names and "ffn_gate.weight" not in names) or "channel_mix_key.weight" in names,
        fused_gate=down is not None and up > 0 and up == 2 * down.shape[0],
        ungated_experts="ffn_up_exps.weight" in names and "ffn_gate_exps.weight" not in names,
        fused_expert_gate="ffn_gate_up_exps.weight" in names,
        shared_expert_length=shared,
        feed_forward_lengths=tuple(dense) if any(experts) or len(set(dense)) > 1 else (),
        expert_layers=tuple(experts) if any(experts) else (),
        state_layers=tuple(states) if any(states) else (),
        state_kind=kind,
        state_inner=inner,
        state_size=key_wise or number("ssm.state_size") or number("wkv.head_size") or 0,
        state_groups=number("ssm.group_count") or 0,
        state_heads=number("ssm.time_step_rank") or (heads if key_wise else 0),
        convolution=number("ssm.conv_kernel") or number("shortconv.l_cache") or 0,
        latent_rank=number("attention.kv_lora_rank") or 0,
        latent_query=number("attention.q_lora_rank") or 0,
        rope_length=number("rope.dimension_count") or 0,
        latent_key_length=number("attention.key_length_mla") or 0,
        latent_value_length=number("attention.value_length_mla") or 0,
        cacheless=architecture in CACHELESS,
        headless=architecture in HEADLESS,
        unrotated=architecture in UNROTATED,
        norms_after="attn_norm.weight" not in names
        and ("post_attention_norm.weight" in names or "attn_output_norm.weight" in names),
        per_layer_length=(number("embedding_length_per_layer_input") or 0) if "inp_gate.weight" in names else 0,
        hidden_streams=(number("altup.num_inputs") or 4) if "altup_router.weight" in names else 0,
        image_layers=number("n_deepstack_layers") or 0,
        ahead_layers=number("nextn_predict_layers") or 0,
    )
