"""Measures our default settings against a search: `python -m tests.bench.defaults [--out FILE]`, prints JSON.

The engine's own bench tool runs what a profile without settings is launched with, and 20 points drawn by a fixed seed from
all combinations of threads, batch, micro-batch, flash attention and repacking. A first look over all points, in turns, finds
the two best; then default and best take turns, so that drift of the machine falls on both. A point's speed is that of its
fastest run, because other programs can only slow one down. Reported per model, for prompts and for generation apart: the
default's speed as a share of the best's; 0.95 must be reached. One core stays free in search and default alike (the reason
stands at the setting `threads`); `--all-cores` tells what that costs on a machine with nothing else to do.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gguf
import numpy as np

from app.core.options import Scalar
from app.core.profiles import Profile
from app.core.resources import resources_folder
from app.daemon import processes
from app.engines.base import Installation, Launch
from app.engines.registry import FAMILIES
from tests.engines.tiny_model import byte_letters
from tests.rig.embedded import KEPT_IN

PROMPT_TOKENS = 512
GENERATED_TOKENS = 64
LONG_MODEL_BYTES = 50 * 1024**2
REPETITIONS = (40, 2)  # of a model smaller than that, whose answers take milliseconds, and of another
MUST_REACH = 0.95
Row = dict[str, Any]
DEMO = resources_folder() / "models" / "engine-room-demo.gguf"


class Point(NamedTuple):
    threads: int
    batch: int = 2048
    ubatch: int = 512
    flash_attention: str = "auto"
    repack: bool = True

    @property
    def arguments(self) -> list[str]:
        return [
            *("-t", str(self.threads), "-b", str(self.batch), "-ub", str(self.ubatch)),
            *("-fa", self.flash_attention, "--repack", str(int(self.repack))),
        ]


def default_points(model: Path, cores: int) -> tuple[Point, Point]:
    """What a profile without settings is launched with: for prompts, and for generation (their threads may differ)."""
    family = FAMILIES["llama-server"]
    launch = Launch(
        profile=Profile(id="bench", title="", engine=family.id, model=str(model)),
        model_path=str(model),
        installation=Installation(family=family.id, executable="llama-server"),
        port=0,
        run_id="",
        model_name="bench",
        physical_cores=cores,
    )
    values: dict[str, Scalar] = dict(family.effective_settings(launch))
    generation = Point(
        threads=int(values["threads"]),
        batch=int(values.get("batch_tokens", 2048)),
        ubatch=int(values.get("ubatch_tokens", 512)),
        flash_attention=str(values.get("flash_attention", "auto")),
        repack=bool(values.get("repack", True)),
    )
    return generation._replace(threads=int(values.get("threads_batch", generation.threads))), generation


def search_points(cores: int, count: int, seed: int) -> list[Point]:
    """`count` different points out of the whole grid."""
    threads = sorted({max(1, (cores - 1) // 2), max(1, cores - 1)})
    grid = itertools.product(threads, (512, 2048), (64, 128, 256, 512, 1024), ("on", "off"), (True, False))
    whole = [Point(*values) for values in grid if values[2] <= values[1]]
    return random.Random(seed).sample(whole, min(count, len(whole)))


def measured(bench: Path, model: Path, point: Point, what: str) -> float:
    """Tokens per second of the fastest repetition, after the tool's own warm-up."""
    tokens = ("-p", str(PROMPT_TOKENS), "-n", "0") if what == "prompt" else ("-p", "0", "-n", str(GENERATED_TOKENS))
    repetitions = REPETITIONS[model.stat().st_size >= LONG_MODEL_BYTES]
    command = [str(bench), "-m", str(model), *tokens, "-r", str(repetitions), "-o", "json", *point.arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (row,) = json.loads(done.stdout)
    return float(max(row["samples_ts"]))


def taking_turns(
    bench: Path, model: Path, points: Sequence[Point], what: str, rounds: int, order: random.Random
) -> dict[Point, float]:
    """Each point's best speed; every round measures all of them in another order."""
    speeds = dict.fromkeys(points, 0.0)
    for _ in range(rounds):
        for point in order.sample(list(speeds), len(speeds)):
            speeds[point] = max(speeds[point], measured(bench, model, point, what))
    return speeds


def compared(
    bench: Path, model: Path, what: str, cores: int, rounds: tuple[int, int], count: int, seed: int, all_cores: bool
) -> Row:
    """The ratio of one model for `what`, with what it is made of."""
    order = random.Random(seed)
    default = dict(zip(("prompt", "generation"), default_points(model, cores), strict=True))[what]
    first = taking_turns(bench, model, search_points(cores, count, seed), what, rounds[0], order)
    found = sorted(first, key=first.__getitem__, reverse=True)[:2]
    whole_machine = [default._replace(threads=cores)] if all_cores else []
    last = taking_turns(bench, model, [default, *whole_machine, *found], what, rounds[1], order)
    best = max(found, key=last.__getitem__)
    return {
        "model": model.name,
        "model_bytes": model.stat().st_size,
        "what": what,
        "ratio": round(last[default] / last[best], 3),
        "default": default._asdict(),
        "default_tokens_per_second": round(last[default], 1),
        "best": best._asdict(),
        "best_tokens_per_second": round(last[best], 1),
        "share_of_all_cores": round(last[default] / last[whole_machine[0]], 3) if whole_machine else None,
        "search": [[*point, round(speed, 1)] for point, speed in sorted(first.items(), key=lambda item: -item[1])],
    }


def write_model(path: Path, *, seed: int = 7, layers: int = 16, width: int = 768, vocabulary: int = 32_000) -> Path:
    """A llama of 125 million random weights in Q8_0 (about 135 MB), in the shape of the smallest real ones."""
    heads, kv_heads, inner = width // 64, width // 256, width * 8 // 3
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name("bench")
    writer.add_context_length(4096)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(64)
    tokens = [*byte_letters(), *(f"w{number}" for number in range(vocabulary - 258)), "<|endoftext|>", "<|im_end|>"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * (vocabulary - 2) + [3] * 2)
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(vocabulary - 2)
    writer.add_eos_token_id(vocabulary - 1)
    kind = gguf.GGMLQuantizationType.Q8_0
    chance = np.random.default_rng(seed)

    def weights(name: str, rows: int, columns: int) -> None:
        values = (chance.standard_normal((rows, columns), dtype=np.float32) * 0.02).astype(np.float32)
        writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)

    def ones(name: str) -> None:
        writer.add_tensor(name, np.ones(width, np.float32))

    weights("token_embd.weight", vocabulary, width)
    for layer in range(layers):
        at = f"blk.{layer}."
        ones(at + "attn_norm.weight")
        ones(at + "ffn_norm.weight")
        weights(at + "attn_q.weight", width, width)
        weights(at + "attn_k.weight", kv_heads * 64, width)
        weights(at + "attn_v.weight", kv_heads * 64, width)
        weights(at + "attn_output.weight", width, width)
        weights(at + "ffn_gate.weight", inner, width)
        weights(at + "ffn_up.weight", inner, width)
        weights(at + "ffn_down.weight", width, inner)
    ones("output_norm.weight")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def bench_tool() -> Path:
    """The one that the installer built beside llama-server, or that ENGINE_ROOM_LLAMA_BENCH names."""
    named = os.environ.get("ENGINE_ROOM_LLAMA_BENCH")
    found = [Path(named)] if named else sorted(KEPT_IN.glob("*/native/llama-bench"))
    if not found:
        raise SystemExit(
            "There is no llama-bench: ./packaging/test --engines builds one, or name it in ENGINE_ROOM_LLAMA_BENCH."
        )
    return found[-1]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.defaults", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, nargs=2, default=(1, 12), help="of the first look, and of the comparison")
    parser.add_argument("--points", type=int, default=20, help="points of the search")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument(
        "--all-cores", action="store_true", help="also the default with no core left free, for comparison"
    )
    parser.add_argument("--model", type=Path, action="append", help="models instead of the demo and a generated one")
    parser.add_argument("--out", type=Path, help="also write the JSON there")
    chosen = parser.parse_args()
    bench = bench_tool()
    cores = processes.physical_cores()
    with tempfile.TemporaryDirectory() as folder:
        models = chosen.model or [DEMO, write_model(Path(folder) / "generated-q8_0.gguf")]
        results = []
        for model in models:
            for what in ("prompt", "generation"):
                row = compared(
                    bench, model, what, cores, tuple(chosen.rounds), chosen.points, chosen.seed, chosen.all_cores
                )
                print(f"{model.name}, {what}: {row['ratio']}", file=sys.stderr, flush=True)
                results.append(row)
    report = {"cores": cores, "load_average": os.getloadavg()[0], "rounds": chosen.rounds, "results": results}
    text = json.dumps(report, indent=1)
    print(text)
    if chosen.out:
        chosen.out.write_text(text + "\n", "utf-8")
    return 0 if min(float(row["ratio"]) for row in results) >= MUST_REACH else 1


if __name__ == "__main__":
    sys.exit(main())
