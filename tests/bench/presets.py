"""Measures whether the presets do what their names say: `python -m tests.bench.presets [--out FILE]`, prints JSON.

The built-in llama.cpp runs three times side by side, as a profile without settings and with each preset; only one of them is
asked at a time, and they take turns, so that drift of the machine falls on all. Asked are: one user (a new prompt, then an
answer of so many tokens), one user who has edited the middle of a long conversation, one user while three others ask, and
eight users at once. Reported per model: medians, and the ratio to the default, of the medians and of the best; over 1 is better
than the default. The figures that end in `cpu` are the same in the engine's own processor time, which other programs on the
machine change little.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp

from app.core.counting import StreamCounter
from app.core.options import Scalar
from app.daemon import processes
from app.engines.base import Installation
from app.engines.registry import FAMILIES
from tests.bench.defaults import DEMO, write_model
from tests.engines.launches import command_of, launch
from tests.engines.running import Running, free_port, running
from tests.rig.embedded import install_embedded_engine

FAMILY = FAMILIES["llama.cpp"]
WORDS = [
    "river",
    "mill",
    "stone",
    "road",
    "lamp",
    "news",
    "rain",
    "market",
    "ship",
    "dog",
    "quiet",
    "brown",
    "early",
    "window",
    "field",
]
CONTEXT_TOKENS = 4096
USERS = 8


class Heard(NamedTuple):
    first_token_seconds: float
    seconds_per_token: float
    tokens: int
    first_token_cpu: float
    token_cpu: float


class Asking:
    """One engine, asked as a client asks it."""

    def __init__(self, name: str, engine: Running, chance: random.Random, words: int) -> None:
        self.name, self._engine, self._chance, self._words = name, engine, chance, words

    def cpu(self) -> float:
        """Processor seconds of the engine's threads so far."""
        tasks = Path(f"/proc/{self._engine.process.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9

    def text(self, words: int) -> str:
        return " ".join(self._chance.choice(WORDS) for _ in range(words))

    async def ask(
        self,
        session: aiohttp.ClientSession,
        messages: list[dict[str, str]],
        tokens: int,
        began_to_answer: asyncio.Event | None = None,
    ) -> Heard:
        body = {"messages": messages, "max_tokens": tokens, "stream": True, "temperature": 0, "ignore_eos": True}
        body["stream_options"] = {"include_usage": True}
        counter, began, first, last = StreamCounter(), time.perf_counter(), 0.0, 0.0
        cpu_before, cpu_first = self.cpu(), 0.0
        async with session.post(f"{self._engine.url}/v1/chat/completions", json=body) as answer:
            answer.raise_for_status()
            async for piece in answer.content.iter_any():
                if counter.feed(piece):
                    last = time.perf_counter() - began
                    first, cpu_first = first or last, cpu_first or self.cpu()
                    if began_to_answer is not None:
                        began_to_answer.set()
        written = counter.counts().completion_tokens or counter.chunks
        rest = max(1, written - 1)
        return Heard(first, (last - first) / rest, written, cpu_first - cpu_before, (self.cpu() - cpu_first) / rest)

    def fresh(self, words: int = 0) -> list[dict[str, str]]:
        return [{"role": "user", "content": self.text(words or self._words)}]

    async def alone(self, session: aiohttp.ClientSession) -> dict[str, float]:
        heard = await self.ask(session, self.fresh(), 48)
        return {
            "first_token_seconds": heard.first_token_seconds,
            "first_token_cpu": heard.first_token_cpu,
            "seconds_per_token": heard.seconds_per_token,
            "token_cpu": heard.token_cpu,
        }

    async def edited(self, session: aiohttp.ClientSession) -> dict[str, float]:
        """A long conversation, and then the same one without its second message, as after an edit."""
        turns = [{"role": ("user", "assistant")[n % 2], "content": self.text(self._words // 3)} for n in range(7)]
        await self.ask(session, turns, 2)
        heard = await self.ask(session, [turns[0], *turns[3:]], 2)
        return {
            "edited_first_token_seconds": heard.first_token_seconds,
            "edited_first_token_cpu": heard.first_token_cpu,
        }

    async def among_others(self, session: aiohttp.ClientSession) -> dict[str, float]:
        """The pace of the one who came first, while three others want answers too."""
        is_answered = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            first = group.create_task(self.ask(session, self.fresh(8), 32, is_answered))
            await is_answered.wait()  # it holds a slot before anybody else asks; a failure of it ends the group
            for _ in range(3):
                group.create_task(self.ask(session, self.fresh(8), 32))
        return {"seconds_per_token_among_others": first.result().seconds_per_token}

    async def crowd(self, session: aiohttp.ClientSession) -> dict[str, float]:
        began, cpu = time.perf_counter(), self.cpu()
        heard = await asyncio.gather(*(self.ask(session, self.fresh(8), 32) for _ in range(USERS)))
        tokens = sum(one.tokens for one in heard)
        return {
            "crowd_tokens_per_second": tokens / (time.perf_counter() - began),
            "crowd_tokens_per_second_cpu": tokens / (self.cpu() - cpu),
        }


HIGHER_IS_BETTER = ("crowd_tokens_per_second", "crowd_tokens_per_second_cpu")


async def measured(asked: Sequence[Asking], rounds: int, chance: random.Random) -> dict[str, dict[str, list[float]]]:
    """Every figure by engine and name."""
    found: dict[str, dict[str, list[float]]] = {one.name: {} for one in asked}
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(
        timeout=timeout, connector=aiohttp.TCPConnector(limit=0, force_close=True)
    ) as session:
        for number in range(rounds + 1):  # the first warms up
            for one in chance.sample(list(asked), len(asked)):
                for scene in (one.alone, one.edited, one.among_others, one.crowd):
                    for name, value in (await scene(session)).items():
                        if number:
                            found[one.name].setdefault(name, []).append(value)
    return found


def best(name: str, values: list[float]) -> float:
    """Of the quietest moment: other programs can only make an engine slower."""
    return max(values) if name in HIGHER_IS_BETTER else min(values)


def ratios(figures: dict[str, float], default: dict[str, float]) -> dict[str, float]:
    """How much better than the default: 1.2 = a fifth."""
    return {
        name: round(value / default[name] if name in HIGHER_IS_BETTER else default[name] / value, 3)
        for name, value in figures.items()
    }


def of_model(model: Path, wanted: dict[str, dict[str, Scalar]], words: int, rounds: int, seed: int) -> dict[str, Any]:
    python = install_embedded_engine()
    chance = random.Random(seed)
    with contextlib.ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        asked = []
        for name, settings in wanted.items():
            made = launch(
                FAMILY.id,
                {"context_tokens": CONTEXT_TOKENS, **settings},
                installation=Installation(family=FAMILY.id, executable=str(python)),
                model_path=str(model),
                port=(port := free_port()),
                physical_cores=processes.physical_cores(),
            )
            engine = stack.enter_context(running(command_of(made), Path(folder) / f"{name}.log", port))
            engine.until_ready(FAMILY.readiness.health_path)
            asked.append(Asking(name, engine, chance, words))
        found = asyncio.run(measured(asked, rounds, chance))
    medians = {name: {key: statistics.median(row[key]) for key in row} for name, row in found.items()}
    quietest = {name: {key: best(key, row[key]) for key in row} for name, row in found.items()}
    return {
        "model": model.name,
        "model_bytes": model.stat().st_size,
        "medians": {name: {key: round(value, 5) for key, value in row.items()} for name, row in medians.items()},
        "ratios": {name: ratios(row, medians["default"]) for name, row in medians.items() if name != "default"},
        "ratios_of_the_best": {
            name: ratios(row, quietest["default"]) for name, row in quietest.items() if name != "default"
        },
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.presets", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--words",
        type=int,
        default=60,
        help="of the one user's prompt; half of them for the demo, whose context is small",
    )
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--only", choices=("demo", "generated"), help="one of the two models")
    parser.add_argument("--try", dest="tried", help='also these settings, as JSON: {"name": {"slots": 8}, …}')
    parser.add_argument("--out", type=Path, help="also write the JSON there")
    chosen = parser.parse_args()
    presets: dict[str, dict[str, Scalar]] = {preset.name: dict(preset.settings) for preset in FAMILY.presets}
    wanted: dict[str, dict[str, Scalar]] = {"default": {}, **presets, **json.loads(chosen.tried or "{}")}
    results = []
    with tempfile.TemporaryDirectory() as folder:
        models = [DEMO] if chosen.only != "generated" else []
        models += [write_model(Path(folder) / "generated-q8_0.gguf")] if chosen.only != "demo" else []
        for model in models:
            results.append(
                of_model(
                    model, wanted, chosen.words if model != DEMO else chosen.words // 2, chosen.rounds, chosen.seed
                )
            )
            print(
                f"{model.name}: {results[-1]['ratios']} {results[-1]['ratios_of_the_best']}",
                file=sys.stderr,
                flush=True,
            )
    report = {"cores": processes.physical_cores(), "load_average": os.getloadavg()[0], "results": results}
    text = json.dumps(report, indent=1)
    print(text)
    if chosen.out:
        chosen.out.write_text(text + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
