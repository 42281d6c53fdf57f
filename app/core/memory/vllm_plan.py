"""Decides what a vLLM load puts where: the needs of each card and of main memory, whether the engine would start, and why not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from app.core.catalog.facts import ModelFacts
from app.core.memory.case import Placed, Reads, Room, Row
from app.core.memory.needs import Need
from app.core.memory.plan_types import Part
from app.core.memory.vllm_cache import longest_context
from app.core.memory.vllm_load import GIB, MIB, NEWEST, Version
from app.core.memory.vllm_parts import known_version
from app.core.memory.vllm_remedies import ROWS
from app.core.memory.vllm_solve import (
    CONTEXT_BYTES,
    LOADED_PER_WEIGHT,
    Card,
    Rank,
    Solved,
    WeightsByLoad,
    solve,
    trade_off,
)
from app.core.memory.words import gib
from app.core.options import Scalar

VLLM_FAMILIES = frozenset(("vllm", "vllm-docker"))
# The server, its core and one worker without a model: PyTorch's libraries and heap (vllm-cpu.md section 2).
PROCESS_BYTES = (int(1.2 * GIB), int(1.6 * GIB), int(2.4 * GIB))
WORKER_BYTES = 1 * GIB  # each further rank
UNKNOWN_CACHES = ("deepseek_v4",)  # whose layers keep what no formula here says


def vllm_family(
    facts: ModelFacts, family: str, accelerator: str, host_usable_bytes: int | None = None, engine: str = ""
) -> VllmPlan | str:
    """The formulas for this model on that engine ("vllm 0.32.0"; "" = a current one), or the sentence that says why there are none."""
    described = facts.layers and facts.embedding_length and (any(facts.kv_heads) or facts.layer_state is not None)
    stateful = any(facts.state_layers) and facts.layer_state is None
    if not described or stateful or facts.architecture in UNKNOWN_CACHES:
        return (
            f"What this model needs beyond its weights of {gib(facts.weights_bytes)} is not known: "
            f"its config does not describe the architecture {facts.architecture} fully."
        )
    return VllmPlan(facts, family, accelerator, host_usable_bytes, known_version(engine))


class VllmPlan:
    """One model on one of the vLLM families."""

    rows: tuple[Row, ...] = ROWS

    def __init__(
        self,
        facts: ModelFacts,
        family: str,
        accelerator: str,
        host_usable_bytes: int | None = None,
        version: Version = NEWEST,
    ) -> None:
        self.facts = facts
        self.family = family
        self.accelerator = accelerator
        self.host_usable_bytes = host_usable_bytes
        self.version = version
        self.context_max = facts.context_max
        self._weights: WeightsByLoad = {}
        self._solved: dict[tuple[object, ...], Solved] = {}

    def solved(self, settings: Mapping[str, Scalar], rooms: Sequence[Room]) -> Solved:
        """Remembered: the rows of remedies ask for the same load again and again."""
        where = tuple((room.card.uuid, room.available_bytes, room.is_named) for room in rooms)
        key = (*where, *sorted(settings.items()))
        found = self._solved.get(key)
        if found is None:
            found = self._solved[key] = self._solve(settings, rooms)
        return found

    def _solve(self, settings: Mapping[str, Scalar], rooms: Sequence[Room]) -> Solved:
        cards = [
            Card(total_bytes=room.card.total_bytes, usable_bytes=room.available_bytes, name=room.card.name)
            for room in rooms
        ]
        return solve(
            self.facts,
            settings,
            cards,
            accelerator=self.accelerator,
            host_usable_bytes=self.host_usable_bytes,
            version=self.version,
            named=any(room.is_named for room in rooms),
            known=self._weights,
        )

    def placed(self, settings: Mapping[str, Scalar], rooms: Sequence[Room]) -> Placed:
        found = self.solved(settings, rooms)
        load = found.load
        if load.on_cpu or not rooms:
            return Placed(
                cards=(None,) * len(rooms),
                host=_host_need(self.facts, found),
                refusal=self._refusal(found, rooms),
                context_tokens=load.context_tokens,
                notes=trade_off(found),
            )
        cards = [_card_need(rank, found) for rank in found.ranks[: len(rooms)]]
        return Placed(
            cards=(*cards, *[None] * (len(rooms) - len(cards))),
            host=_gpu_host_need(found),
            refusal=self._refusal(found, rooms),
            context_tokens=load.context_tokens,
            notes=(*trade_off(found), *(doubt := _doubt(found))),
            is_doubtful=bool(doubt),
        )

    def with_context(self, tokens: int) -> dict[str, Scalar]:
        return {"context_tokens": tokens}

    def reads(self, settings: Mapping[str, Scalar], rooms: Sequence[Room]) -> Reads:
        """Of experts only those that a token uses; of the cache half of a conversation of full length."""
        found = self.solved(settings, rooms)
        facts, load = self.facts, found.load
        used = min(1.0, facts.experts_used / facts.experts) if facts.experts and facts.experts_used else 1.0
        idle = sum(group.bytes for group in facts.tensors if group.role == "expert") * (1 - used)
        looked_up = sum(group.bytes for group in facts.tensors if group.role in ("embedding", "tower"))
        looked_up = 0 if facts.tied_embeddings else looked_up
        spared = (idle + looked_up) / load.ranks
        each = tuple(int(max(0, rank.weights.likely - spared)) for rank in found.ranks)
        cache = found.request_bytes // 2
        if load.on_cpu or not rooms:
            return Reads(cards=(0,) * len(rooms), host=each[0] + cache, weights_bytes=each[0])
        shown = [size + cache for size in each[: len(rooms)]]
        return Reads(
            cards=(*shown, *[0] * (len(rooms) - len(shown))),
            host=0,
            weights_bytes=sum(each[: len(rooms)]),
            at_once=load.pipeline_parallel == 1,
        )

    def _refusal(self, found: Solved, rooms: Sequence[Room]) -> str:
        """Why the engine would not start with what it was told, in numbers; "" where it would."""
        load = found.load
        if not load.on_cpu and load.ranks > len(rooms) > 0:
            return f"{load.ranks} cards are needed (tensor x pipeline parallel), and {len(rooms)} can be used."
        if found.holds_a_request is not False:
            return ""
        if "gpu_memory_utilisation" in found.settings and load.kv_cache_bytes is None:
            return ""  # not said by anybody: what is free is too little, and the ledger says it with its numbers
        pool = found.pool_bytes[1] if found.pool_bytes is not None else 0
        rank = max(found.ranks, key=lambda each: each.fixed_bytes)
        if pool <= 0:
            return (
                f"vLLM would not start: {load.utilisation or 0:.0%} of the card are {gib(rank.budget_bytes or 0)}, and weights "
                f"({gib(rank.weights.likely)}) and its largest step ({gib(rank.activation.likely)}) leave nothing for the KV cache."
            )
        longest = longest_context(found.layout, load, pool, load.context_tokens) if found.layout is not None else 0
        return (
            f"vLLM would not start: one conversation of {load.context_tokens:,} tokens takes {gib(found.request_bytes)} of KV "
            f"cache, and there is room for {gib(pool)}, enough for about {longest:,} tokens."
        )


def _doubt(found: Solved) -> tuple[str, ...]:
    """Likely it starts, and it may not: said beside the plan."""
    if found.pool_bytes is None or not found.holds_a_request or found.pool_bytes[0] >= found.request_bytes:
        return ()
    return (
        f"It may refuse to start: if its parts take their high bounds, {gib(max(0, found.pool_bytes[0]))} are left for the KV "
        f"cache, and one conversation of {found.load.context_tokens:,} tokens takes {gib(found.request_bytes)}.",
    )


def _card_need(rank: Rank, found: Solved) -> Need:
    """Everything on a card: the engine's share as it divides it, and CUDA's own. Where the share was not said and is too
    small, what the engine needs at least."""
    load = found.load
    pool = found.pool_bytes[1] if found.pool_bytes is not None else 0
    starts = found.holds_a_request is not False
    own = pool if starts else found.request_bytes
    if starts and rank.budget_bytes is not None and load.kv_cache_bytes is None:
        own = max(pool, rank.budget_bytes - rank.fixed_bytes) if pool > 0 else own
    each = (
        Part(name="weights", bytes=rank.weights.likely, source=rank.weights.source),
        Part(name="kv_cache", bytes=max(0, own), source=_cache_source(found)),
        Part(name="compute", bytes=rank.activation.likely, source=rank.activation.source),
        Part(name="graphs", bytes=rank.graphs.likely, source=rank.graphs.source),
        Part(
            name="context",
            bytes=rank.libraries.likely + CONTEXT_BYTES[1],
            source="allowance for CUDA and its libraries",
        ),
    )
    parts = tuple(part for part in each if part.bytes)
    total = sum(part.bytes for part in parts)
    around = CONTEXT_BYTES[2] - CONTEXT_BYTES[1], CONTEXT_BYTES[1] - CONTEXT_BYTES[0]
    if starts and load.kv_cache_bytes is None and rank.budget_bytes is not None:
        uncounted = 0 if rank.graphs_counted else rank.graphs.high - rank.graphs.likely
        return Need(
            parts=parts, low_bytes=total - around[1] - rank.graphs.likely, high_bytes=total + around[0] + uncounted
        )
    return Need(
        parts=parts,
        low_bytes=total - around[1] - (rank.fixed_bytes - rank.fixed_low_bytes),
        high_bytes=total + around[0] + (rank.fixed_high_bytes - rank.fixed_bytes),
    )


def _cache_source(found: Solved) -> str:
    if found.pool is None or not found.holds_a_request:
        return f"formula: one conversation of {found.load.context_tokens:,} tokens as {found.load.kv_type}"
    if found.load.kv_cache_bytes is not None:
        return f"as said: {found.pool.tokens:,} tokens as {found.load.kv_type}"
    return f"what the engine's share leaves: {found.pool.tokens:,} tokens as {found.load.kv_type}"


def _host_need(facts: ModelFacts, found: Solved) -> Need:
    """Without a card: everything in main memory."""
    rank, kv = found.ranks[0], found.load.kv_cache_bytes or 0
    parts = (
        Part(name="weights", bytes=rank.weights.likely, source=rank.weights.source),
        Part(name="kv_cache", bytes=kv, source=_cache_source(found)),
        Part(name="compute", bytes=rank.activation.likely, source=rank.activation.source),
        Part(name="process", bytes=PROCESS_BYTES[1], source="measured on the server without a model"),
    )
    total = sum(part.bytes for part in parts)
    repacked = int(rank.weights.likely * (LOADED_PER_WEIGHT - 1))
    spread = rank.activation.high - rank.activation.likely
    return Need(
        parts=parts,
        low_bytes=total - (PROCESS_BYTES[1] - PROCESS_BYTES[0]) - rank.activation.likely,
        high_bytes=total + repacked + spread + PROCESS_BYTES[2] - PROCESS_BYTES[1],
    )


def _gpu_host_need(found: Solved) -> Need:
    """Beside the cards: the server's processes, and what was asked to be kept in main memory."""
    load = found.load
    process = PROCESS_BYTES[1] + (load.ranks - 1) * WORKER_BYTES
    offloaded = load.offload_bytes * load.ranks
    parts = tuple(
        part
        for part in (
            Part(name="weights", bytes=offloaded, source="as said: weights kept in main memory"),
            Part(name="process", bytes=process, source="measured on the server without a model"),
        )
        if part.bytes
    )
    total = offloaded + process
    return Need(parts=parts, low_bytes=total - process // 2, high_bytes=total + 512 * MIB)
