"""Measures the planner: milliseconds of a verdict and of all remedies, and how much faster facts are read than by `gguf`.

`python -m tests.bench.planner` prints one JSON object. Plans are measured in processor time, best and median, because the
machine may be busy with others; each is one that nobody made before.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import gguf

from app.core.catalog.facts import ModelFacts
from app.core.catalog.gguf_facts import read_gguf_facts
from app.core.memory import plan
from app.core.memory.plan_types import MemoryPlan
from app.core.options import Scalar
from app.core.snapshot import DriverState, Gpus, GpuSample, HostSample
from tests.corpus.llamacpp_facts import facts_of
from tests.corpus.vllm_models import facts_by_name
from tests.engines.architectures import BUILDERS, Model

GIB = 1024**3
ROUNDS = 5


def median_seconds(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    taken = []
    for _ in range(rounds):
        begun = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def model_with_vocabulary(path: Path, tokens: int) -> Path:
    """A header-only model with merges, as large vocabularies come with."""
    model = Model("llama", 1)
    model.vocabulary = tokens
    model.say(vocab_size=tokens)
    model.tokeniser()
    model.tensors["token_embd.weight"] = (model.width, tokens), model.type
    model.metadata["tokenizer.ggml.merges"] = [f"t{number} t{number + 1}" for number in range(tokens)]
    BUILDERS["llama"](model)
    return model.write(path)


TOO_LARGE: dict[str, tuple[dict[str, object], float, int]] = {  # what a log would print of it, free GiB, cards
    "dense_70b": (
        {"arch": "llama", "n_embd": 8192, "n_layer": 80, "n_head": 64, "n_head_kv": 8, "n_ff": 28672, "n_vocab": 128256, "file_size": "39.6 GiB", "model_params": "70.55 B"},
        23, 1,
    ),
    "dense_70b_on_four_cards": (
        {"arch": "llama", "n_embd": 8192, "n_layer": 80, "n_head": 64, "n_head_kv": 8, "n_ff": 28672, "n_vocab": 128256, "file_size": "39.6 GiB", "model_params": "70.55 B"},
        13, 4,
    ),
    "mixture_30b": (
        {"arch": "qwen3moe", "n_embd": 2048, "n_layer": 48, "n_head": 32, "n_head_kv": 4, "n_ff": 6144, "n_ff_exp": 768, "n_expert": 128, "n_expert_used": 8, "n_vocab": 151936,
         "n_embd_head_k": 128, "file_size": "17.3 GiB", "model_params": "30.5 B"},
        15, 1,
    ),
    "hybrid_27b": (
        {"arch": "qwen35", "n_embd": 5120, "n_layer": 64, "n_head": 24, "n_head_kv": 4, "n_embd_head_k": 256, "n_ff": 17408, "n_vocab": 248320, "ssm_d_conv": 4, "ssm_d_inner": 6144,
         "ssm_d_state": 128, "ssm_n_group": 16, "ssm_dt_rank": 48, "file_size": "16.5 GiB", "model_params": "27 B"},
        15, 1,
    ),
}  # fmt: skip
IN_VLLM = {"vllm_8b": ("Llama-3.1-8B", 19, 1), "vllm_32b_on_four_cards": ("Qwen3-32B", 17, 4)}
CARD_GIB = 24


def cards(free_gib: float, count: int) -> Gpus:
    host = HostSample(total_bytes=256 * GIB, available_bytes=240 * GIB)
    each = tuple(
        GpuSample(
            uuid=f"GPU-{number}", index=number, name="NVIDIA GeForce RTX 4090", total_bytes=CARD_GIB * GIB,
            used_bytes=int((CARD_GIB - free_gib) * GIB), free_bytes=int(free_gib * GIB), processes=(),
        )
        for number in range(count)
    )  # fmt: skip
    return Gpus(driver=DriverState.OK, gpus=each, host=host)


def times_of(facts: ModelFacts | None, family: str, gpus: Gpus, solve: bool, rounds: int) -> dict[str, object]:
    """Processor milliseconds of a plan, each with another context, and which remedies it found."""
    taken, kinds = [], set()
    for number in range(rounds):
        settings: dict[str, Scalar] = {"context_tokens": 32_768 + 256 * (2 * number + solve)}
        begun = time.thread_time()
        found = plan(
            facts, settings, family=family, accelerator="cuda", gpus=gpus, headroom_bytes=GIB, host_headroom_bytes=GIB,
            threshold=0.95, solve=solve,
        )  # fmt: skip
        taken.append(1e3 * (time.thread_time() - begun))
        kinds.update(remedy.kind for remedy in found.remedies)
    return {"median": round(statistics.median(taken), 3), "best": round(min(taken), 3), "remedies": sorted(kinds)}


def planned(facts: ModelFacts | None, gpus: Gpus, contexts: Iterator[int]) -> MemoryPlan:
    settings: dict[str, Scalar] = {"context_tokens": next(contexts), "flash_attention": "on"}
    return plan(
        facts, settings, family="llama.cpp", accelerator="cuda", gpus=gpus, headroom_bytes=GIB, host_headroom_bytes=GIB,
        threshold=0.95, solve=False,
    )  # fmt: skip


def main() -> None:
    host = HostSample(total_bytes=64 * GIB, available_bytes=60 * GIB)
    card = GpuSample(
        uuid="GPU-a", index=0, name="card", total_bytes=24 * GIB, used_bytes=GIB, free_bytes=23 * GIB, processes=()
    )
    gpus = Gpus(driver=DriverState.OK, gpus=(card,), host=host)
    result: dict[str, object] = {}
    loads = [
        (name, facts_of({"id": name, "engine": "llama.cpp", "file_type": "Q4_K", **row}), "llama.cpp", free, count)
        for name, (row, free, count) in TOO_LARGE.items()
    ]
    loads += [(name, facts_by_name(model, None), "vllm", free, count) for name, (model, free, count) in IN_VLLM.items()]
    for name, facts, family, free, count in loads:
        for solve in (False, True):
            found = times_of(facts, family, cards(free, count), solve, ROUNDS * (4 if solve else 20))
            result[f"{name}_{'verdict_and_remedies' if solve else 'verdict'}_milliseconds"] = found
    with tempfile.TemporaryDirectory() as folder:
        for tokens in (131_072, 262_144):
            path = model_with_vocabulary(Path(folder) / f"{tokens}.gguf", tokens)
            ours, theirs = (
                median_seconds(partial(read_gguf_facts, path)),
                median_seconds(partial(gguf.GGUFReader, path), 1),
            )
            result[f"facts_{tokens}_tokens"] = {
                "milliseconds": round(ours * 1e3, 2),
                "gguf_package_milliseconds": round(theirs * 1e3, 1),
                "times_faster": round(theirs / ours, 1),
            }
        for architecture in ("llama", "gemma3", "qwen3moe", "qwen35"):
            model = Model(architecture, 3, large=True)
            BUILDERS[architecture](model)
            facts = read_gguf_facts(model.write(Path(folder) / f"{architecture}.gguf"))
            contexts = iter(range(4096, 4096 + 256 * 400, 256))  # each is a plan that nobody made before
            once = partial(planned, facts, gpus, contexts)
            once()
            result[f"plan_{architecture}_milliseconds"] = round(median_seconds(once, 200) * 1e3, 3)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
