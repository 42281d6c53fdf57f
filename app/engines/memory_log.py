"""Reads from an engine's log how much memory each of its buffers takes, by device and by the plan's names of parts."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from app.core.memory.learning import HOST, Figure
from app.engines.vllm import Vllm
from app.engines.vllm_docker import VllmDocker

MIB, GIB = 1024**2, 1024**3
LOG_BYTES = 4 * MIB  # of a log's beginning: a load is at its start

# llama.cpp: "CUDA0 compute buffer size =   266.50 MiB". Weights are left out: formulas know them, and mapped ones are counted
# once for each device. A card is named by its place among those that the engine sees.
_BUFFER = re.compile(r"\s(\S+)\s+(KV|RS|compute|output) buffer size =\s+([\d.]+) MiB")
_CARD = re.compile(r"(?:CUDA|ROCm|Vulkan|SYCL|HIP)(\d+)")
_PARTS = {"KV": "kv_cache", "RS": "state", "compute": "compute", "output": "outputs"}
_SIZES = {"kv_cache": re.compile(r"llama_kv_cache\S*: size =\s+([\d.]+) MiB"),
          "state": re.compile(r"llama_memory_recurrent: size =\s+([\d.]+) MiB")}  # fmt: skip

# vLLM prints by rank; ranks are alike, and the first one speaks for all. Its words by version: the last pattern of each part
# is of 0.6 to 0.8; a build for the processor says what it was told. Old versions say GB and mean GiB.
_VLLM = {
    "weights": (
        re.compile(r"Model loading took ([\d.]+) Gi?B"),
        re.compile(r"Loading model weights took ([\d.]+) Gi?B"),
    ),
    "kv_cache": (
        re.compile(r"Available KV cache memory: (-?[\d.]+) GiB"),
        re.compile(r"Explicitly set \(([\d.]+)/[\d.]+\) GiB for KV cache"),
        re.compile(r"memory reserved for KV Cache is (-?[\d.]+) ?GiB"),
    ),
    "graphs": (re.compile(r"Graph capturing finished in .*?took (-?[\d.]+) GiB"),),
    "compute": (
        re.compile(r"([\d.]+) ?GiB for peak activation"),
        re.compile(r"activation peak memory takes ([\d.]+) ?GiB"),
    ),
}


def figures_of(family: str, log: str, cards: Sequence[str], settings: Mapping[str, object]) -> tuple[Figure, ...]:
    """What the log of a load says; `cards` are the uuids that the engine sees, in its order. () where it does not tell.

    With a drafting model nothing is read: its buffers carry the names of the model's own.
    """
    if family in (Vllm.id, VllmDocker.id):
        stages = settings.get("pipeline_parallel")
        return _vllm_figures(log, cards, alike=not (isinstance(stages, int) and stages > 1))
    if settings.get("draft_model") or settings.get("speculation"):
        return ()
    return _llama_figures(log, cards)


def dry_figures_of(log: str, cards: Sequence[str]) -> tuple[Figure, ...]:
    """What llama.cpp's dry run says. Its caches are not allocated, so that only their size over all devices is printed."""
    found = [figure for figure in _llama_figures(log, cards) if figure.part in ("compute", "outputs")]
    holders = {figure.device for figure in found if figure.part == "compute"}
    if len(holders) == 1:
        at = holders.pop()
        for part, pattern in _SIZES.items():
            size = sum(float(each) for each in pattern.findall(log))
            if size:
                found.append(Figure(device=at, part=part, bytes=round(size * MIB)))
    return tuple(found)


def _llama_figures(log: str, cards: Sequence[str]) -> tuple[Figure, ...]:
    sums: dict[tuple[str, str], float] = defaultdict(float)
    for name, kind, size in _BUFFER.findall(log):
        card = _CARD.fullmatch(name)
        if card is not None and int(card[1]) >= len(cards):
            return ()  # a card that nobody gave it: whose figures these are is not known
        sums[cards[int(card[1])] if card is not None else HOST, _PARTS[kind]] += float(size)
    return tuple(Figure(device=at, part=part, bytes=round(size * MIB)) for (at, part), size in sums.items() if size)


def _vllm_figures(log: str, cards: Sequence[str], *, alike: bool) -> tuple[Figure, ...]:
    """`alike`: every rank holds as much of the weights; the stages of a pipeline do not."""
    found = []
    for part, patterns in _VLLM.items():
        if part == "weights" and not alike:
            continue
        said = next((said for pattern in patterns if (said := pattern.search(log))), None)
        if said is not None and float(said[1]) > 0:
            found += [Figure(device=at, part=part, bytes=round(float(said[1]) * GIB)) for at in cards or (HOST,)]
    return tuple(found)
