"""The CPU build of a real vLLM prints the tokens that we say, for models generated here (marker `engines`; minutes each)."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from app.core.catalog.safetensors import facts_of
from app.core.memory.vllm_cache import layout_of, longest_context, pool_of
from app.core.memory.vllm_load import MIB, load_of

PYTHON = os.environ.get("ENGINE_ROOM_VLLM", "")
pytestmark = [
    pytest.mark.engines,
    pytest.mark.skipif(not Path(PYTHON).is_file(), reason="no real vLLM: ENGINE_ROOM_VLLM does not name its Python"),
]

SECONDS = 1_200  # it imports for minutes where others compute
SHAPE = {
    "hidden_size": 256, "intermediate_size": 512, "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 32,
    "vocab_size": 512, "max_position_embeddings": 8192, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
    "torch_dtype": "bfloat16", "tie_word_embeddings": True, "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu",
}  # fmt: skip
LLAMA = {**SHAPE, "architectures": ["LlamaForCausalLM"], "model_type": "llama", "num_hidden_layers": 5}
GEMMA = {
    **SHAPE, "architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "num_hidden_layers": 12, "sliding_window": 256,
    "hidden_activation": "gelu_pytorch_tanh", "query_pre_attn_scalar": 32, "rope_local_base_freq": 10000.0,
    "layer_types": (["sliding_attention"] * 5 + ["full_attention"]) * 2,
}  # fmt: skip
HYBRID = {
    **SHAPE, "architectures": ["Qwen3NextForCausalLM"], "model_type": "qwen3_next", "num_hidden_layers": 8,
    "full_attention_interval": 4, "layer_types": (["linear_attention"] * 3 + ["full_attention"]) * 2,
    "linear_num_key_heads": 4, "linear_num_value_heads": 8, "linear_key_head_dim": 32, "linear_value_head_dim": 32,
    "linear_conv_kernel_dim": 4, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 128,
    "shared_expert_intermediate_size": 128, "decoder_sparse_step": 1, "norm_topk_prob": True, "mlp_only_layers": [],
    "partial_rotary_factor": 0.5, "tie_word_embeddings": False,
}  # fmt: skip
START = """
from vllm import LLM

if __name__ == "__main__":
    LLM(model={model!r}, load_format="dummy", skip_tokenizer_init=True, enforce_eager=True, kv_cache_memory_bytes={pool},
        max_model_len={length}, max_num_seqs=4, max_num_batched_tokens=512)
"""


def printed(folder: Path, config: dict[str, Any], *, length: int, pool: int) -> str:
    """What the engine writes while it starts on a model of this config with random weights."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    script = folder / "start.py"
    script.write_text(START.format(model=str(folder), pool=pool, length=length))
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    started = subprocess.Popen(
        [PYTHON, "-P", str(script)],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        return started.communicate(timeout=SECONDS)[0]
    finally:
        try:
            os.killpg(started.pid, signal.SIGKILL)  # its workers stay behind when it is ended
        except ProcessLookupError:
            pass


@pytest.mark.parametrize(
    ("config", "length"), [(LLAMA, 3_000), (GEMMA, 8_000), (HYBRID, 2_000)], ids=["llama", "windows", "hybrid"]
)
def test_the_engine_prints_the_tokens_that_we_say(tmp_path: Path, config: dict[str, Any], length: int) -> None:
    pool = 64 * MIB
    log = printed(tmp_path / "m", config, length=length, pool=pool)
    found = re.search(r"KV cache size: ([\d,]+) tokens, Maximum concurrency .*: ([\d.]+)x", log)
    assert found, log[-3_000:]
    load = load_of(facts_of(config, {}), {"context_tokens": length, "batch_tokens": 512}, accelerator="cpu")
    layout = layout_of(facts_of(config, {}), load)
    assert layout is not None
    ours = pool_of(layout, load, pool)
    assert (ours.tokens, f"{ours.requests:.2f}") == (int(found[1].replace(",", "")), found[2])


def test_the_engine_refuses_what_we_say_and_names_the_same_longest_request(tmp_path: Path) -> None:
    pool = 8 * MIB
    log = printed(tmp_path / "m", LLAMA, length=8_000, pool=pool)
    found = re.search(r"the estimated maximum model length is (\d+)", log)
    assert found, log[-3_000:]
    load = load_of(facts_of(LLAMA, {}), {"context_tokens": 8_000, "batch_tokens": 512}, accelerator="cpu")
    layout = layout_of(facts_of(LLAMA, {}), load)
    assert layout is not None
    assert longest_context(layout, load, pool, 8_000) == int(found[1])
