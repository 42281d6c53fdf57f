"""What is learnt from a load's log: the buffers of llama.cpp by device, vLLM's parts in the words of each of its versions (M7)."""

from __future__ import annotations

import pytest

from app.core.memory.learning import HOST, Figure
from app.engines.memory_log import figures_of

MIB, GIB = 1024**2, 1024**3
CARDS = ("GPU-a", "GPU-b")
LLAMA = """\
load_tensors:        CUDA0 model buffer size =  4403.49 MiB
llama_kv_cache:      CUDA0 KV buffer size =   640.00 MiB
llama_kv_cache:      CUDA1 KV buffer size =   384.00 MiB
llama_memory_recurrent:      CUDA1 RS buffer size =    75.38 MiB
sched_reserve:      CUDA0 compute buffer size =   266.50 MiB
sched_reserve:  CUDA_Host compute buffer size =    28.01 MiB
llama_context:  CUDA_Host  output buffer size =     0.49 MiB
"""
NEW = """\
(Worker pid=7) INFO 01-02 03:04:05 [gpu_model_runner.py:3] Model loading took 14.2488 GiB and 4.1 seconds
(Worker pid=7) INFO 01-02 03:04:05 [gpu_worker.py:3] Available KV cache memory: 5.01 GiB
(EngineCore pid=6) INFO 01-02 03:04:05 [kv_cache_utils.py:8] GPU KV cache size: 93,872 tokens
(Worker pid=7) INFO 01-02 03:04:05 [gpu_model_runner.py:4] Graph capturing finished in 21 secs, took 0.50 GiB
(Worker pid=7) INFO 01-02 03:04:05 [gpu_worker.py:9] Desired GPU memory utilization is (0.25, 19.81 GiB). Actual usage is \
14.25 GiB for weight, 0.39 GiB for peak activation, 0.16 GiB for non-torch memory, and 0.5 GiB for CUDAGraph memory.
"""
OLD = """\
INFO 01-02 03:04:05 model_runner.py:1] Loading model weights took 2.2160 GB
INFO 01-02 03:04:05 worker.py:2] model weights take 2.22GiB; non_torch_memory takes 0.05GiB; PyTorch activation peak memory \
takes 1.05GiB; the rest of the memory reserved for KV Cache is 4.01GiB.
INFO 01-02 03:04:05 model_runner.py:3] Graph capturing finished in 30 secs, took -0.42 GiB
"""
PROCESSOR = """\
(Worker pid=7) INFO 01-02 03:04:05 [cpu_worker.py:2] Explicitly set (1.0/13.46) GiB for KV cache on node 0.
(EngineCore pid=6) INFO 01-02 03:04:05 [kv_cache_utils.py:8] CPU KV cache size: 524,288 tokens, Maximum concurrency for 512 \
tokens per request: 1024.00x
"""


def told(family: str, log: str, cards: tuple[str, ...] = CARDS, **settings: object) -> dict[tuple[str, str], float]:
    return {(each.device, each.part): each.bytes / MIB for each in figures_of(family, log, cards, settings)}


def test_llama_cpp_s_buffers_belong_to_devices_and_weights_are_left_out() -> None:
    found = told("llama-server", LLAMA)
    assert found == {
        ("GPU-a", "kv_cache"): 640, ("GPU-b", "kv_cache"): 384, ("GPU-b", "state"): pytest.approx(75.38, abs=0.01),
        ("GPU-a", "compute"): 266.5, (HOST, "compute"): pytest.approx(28.01, abs=0.01), (HOST, "outputs"): pytest.approx(0.49, abs=0.01),
    }  # fmt: skip
    assert told("llama-server", LLAMA, cards=CARDS[:1]) == {}, "a card that nobody gave it"
    assert told("llama-server", LLAMA, draft_model="d.gguf") == {}, "a draft's buffers carry the same names"


@pytest.mark.parametrize("family", ["vllm", "vllm-docker"])
@pytest.mark.parametrize(
    ("log", "parts"),
    [
        (NEW, {"weights": 14.2488, "kv_cache": 5.01, "graphs": 0.5, "compute": 0.39}),
        (OLD, {"weights": 2.216, "kv_cache": 4.01, "compute": 1.05}),  # graphs that freed memory teach nothing
        ("no word of memory\n", {}),
    ],
    ids=["since 0.9", "until 0.8", "nothing"],
)
def test_vllm_s_parts_are_read_in_the_words_of_its_versions(family: str, log: str, parts: dict[str, float]) -> None:
    found = told(family, log)
    assert found == {
        (card, part): pytest.approx(gib * 1024, abs=0.01) for card in CARDS for part, gib in parts.items()
    }, "ranks are alike, and the first speaks for all"


def test_stages_of_a_pipeline_do_not_hold_the_same_weights() -> None:
    found = told("vllm", NEW, pipeline_parallel=2)
    assert {part for _, part in found} == {"kv_cache", "graphs", "compute"}


def test_vllm_on_a_processor_says_what_it_was_told() -> None:
    assert figures_of("vllm", PROCESSOR, (), {}) == (Figure(device=HOST, part="kv_cache", bytes=GIB),)
