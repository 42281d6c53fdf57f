"""Measures the planner: milliseconds of one plan, and how much faster facts are read than the `gguf` package reads a file.

`python -m tests.bench.planner` prints one JSON object.
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
