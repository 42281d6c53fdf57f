"""Solves what vLLM is told about memory from what is free now: its share of each card, the context, the answers at once.

vLLM takes what it is told, whatever the model needs, and refuses to start when less is free or when the rest beside the
weights cannot hold one request of full length. What a profile says is kept; what it leaves open is chosen so that the
engine starts also if every part takes its high bound. A launch and its plan use this same function.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import floor

import msgspec

from app.core.catalog.facts import ModelFacts
from app.core.memory.vllm_cache import Layout, Pool, layout_of, longest_context, pool_of, request_bytes
from app.core.memory.vllm_load import GIB, MIB, NEWEST, USUAL_UTILISATION, Version, VllmLoad, load_of
from app.core.memory.vllm_parts import GRAPHS_COUNTED, Size, activation, graphs, libraries, weights
from app.core.memory.words import gib
from app.core.options import Scalar

Stages = tuple[Size, ...]  # the weights of one rank of each pipeline stage
WeightsByLoad = dict[tuple[object, ...], Stages]

LEAST_OF_A_CARD = 0.05
# What CUDA itself takes on a card before vLLM looks at it: low, likely, high. It is not part of the engine's share.
CONTEXT_BYTES = (250 * MIB, 450 * MIB, 600 * MIB)
LEAST_SEQUENCES, LEAST_CONTEXT_TOKENS, CONTEXT_STEP_TOKENS = 16, 1_024, 256
LEAST_KV_BYTES, UNKNOWN_KV_BYTES = 256 * MIB, GIB
USUAL_KV_BYTES = 4 * GIB  # without a card: several long conversations of a small model, and no more
USUAL_REQUESTS = 4
HOST_KV_SHARE = 0.5  # of what is free beside the weights
LOADED_PER_WEIGHT = 1.2  # on a processor: some weights are repacked while the first form is still there


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """A card as vLLM may use it. `usable_bytes`: free less what has to stay free, may be negative; None = not told."""

    total_bytes: int | None
    usable_bytes: int | None
    name: str = ""


class Rank(msgspec.Struct, frozen=True, kw_only=True):
    """What one rank takes beside its KV cache, and the bytes that the engine was given for all of it (None: not known)."""

    weights: Size
    activation: Size
    libraries: Size
    graphs: Size
    graphs_counted: bool
    budget_bytes: int | None = None

    @property
    def fixed_bytes(self) -> int:
        """Beside the KV cache, within the engine's share."""
        counted = self.graphs.likely if self.graphs_counted else 0
        return self.weights.likely + self.activation.likely + self.libraries.likely + counted

    @property
    def fixed_high_bytes(self) -> int:
        counted = self.graphs.high if self.graphs_counted else 0
        return self.weights.high + self.activation.high + self.libraries.high + counted

    @property
    def fixed_low_bytes(self) -> int:
        counted = self.graphs.low if self.graphs_counted else 0
        return self.weights.low + self.activation.low + self.libraries.low + counted


class Solved(msgspec.Struct, frozen=True, kw_only=True):
    """A load with everything filled in. `settings`: what was chosen, for the launch; `pool_bytes` per rank: low, likely,
    high; None where a card does not tell its size."""

    load: VllmLoad
    ranks: tuple[Rank, ...]  # one for each card, or the only one of a processor
    layout: Layout | None
    request_bytes: int
    pool_bytes: tuple[int, int, int] | None
    settings: dict[str, Scalar] = {}

    @property
    def pool(self) -> Pool | None:
        if self.layout is None or self.pool_bytes is None:
            return None
        return pool_of(self.layout, self.load, self.pool_bytes[1])

    @property
    def holds_a_request(self) -> bool | None:
        """Whether the engine would start; None when it is not known."""
        if self.pool_bytes is None:
            return None
        return self.pool_bytes[1] > 0 and self.pool_bytes[1] >= self.request_bytes


def share_of(cards: Sequence[Card]) -> float | None:
    """The share of each card that can be taken: what is usable of the fullest, less CUDA's own, in whole hundredths."""
    shares = [
        (card.usable_bytes - CONTEXT_BYTES[2]) / card.total_bytes
        for card in cards
        if card.total_bytes and card.usable_bytes is not None
    ]
    if not shares:
        return None
    return min(USUAL_UTILISATION, max(LEAST_OF_A_CARD, floor(min(shares) * 100) / 100))


def solve(
    facts: ModelFacts,
    settings: Mapping[str, Scalar],
    cards: Sequence[Card],
    *,
    accelerator: str,
    host_usable_bytes: int | None = None,
    version: Version = NEWEST,
    named: bool = False,
    known: WeightsByLoad | None = None,
) -> Solved:
    """The load as the engine will be told it. `cards`: those that may be used, in order; `named`: the profile names them, so
    all of them share the model; `known`: weights of loads that were asked about before. Raises nothing; a card less than there
    are ranks is the caller's to refuse."""
    first = cards[0] if cards else None
    load = load_of(
        facts,
        settings,
        accelerator=accelerator,
        card_bytes=first.total_bytes if first else None,
        card_name=first.name if first else "",
        version=version,
        cards=len(cards) if named else 1,
    )
    used = cards[: load.ranks]
    stages = _weights(facts, load, {} if known is None else known)
    chosen: dict[str, Scalar] = {}
    if not load.on_cpu and load.utilisation is None and (share := share_of(used)) is not None:
        chosen["gpu_memory_utilisation"] = share
        load = msgspec.structs.replace(load, utilisation=share)
    found = _priced(facts, load, used, host_usable_bytes, chosen, stages)
    if _starts_surely(found):
        return found
    for choose in (_fewer_sequences, _shorter_context):
        better = choose(facts, settings, found, used, host_usable_bytes, stages)
        if better is not None:
            found = better
            if _starts_surely(found):
                break
    return found


def _weights(facts: ModelFacts, load: VllmLoad, known: WeightsByLoad) -> Stages:
    """They depend on a few fields of a load only, and are most of a plan's work."""
    key = (
        *(load.tensor_parallel, load.pipeline_parallel, load.number_bytes, load.quantisation),
        *(load.lora_rank, load.loras, load.offload_bytes, load.version),
    )
    found = known.get(key)
    if found is None:
        found = known[key] = weights(facts, load)
    return found


def _priced(
    facts: ModelFacts,
    load: VllmLoad,
    cards: Sequence[Card],
    host: int | None,
    chosen: dict[str, Scalar],
    stages: Stages,
) -> Solved:
    layout = layout_of(facts, load)
    request = request_bytes(layout, load) if layout is not None else 0
    ranks = ranks_of(facts, load, cards, stages)
    if load.on_cpu:
        kv = load.kv_cache_bytes or host_kv_bytes(facts, request, host)
        return Solved(
            load=msgspec.structs.replace(load, kv_cache_bytes=kv),
            ranks=ranks,
            layout=layout,
            request_bytes=request,
            pool_bytes=(kv, kv, kv),
            settings={**chosen, "kv_cache_mib": kv // MIB},
        )
    pool = _pool(load, ranks)
    return Solved(load=load, ranks=ranks, layout=layout, request_bytes=request, pool_bytes=pool, settings=chosen)


def ranks_of(facts: ModelFacts, load: VllmLoad, cards: Sequence[Card], stages: Stages) -> tuple[Rank, ...]:
    """Rank by rank: the ranks of a stage lie side by side."""
    step, beside, recorded = activation(facts, load), libraries(load), graphs(facts, load)
    share = load.utilisation
    found = []
    for number in range(load.ranks):
        total = cards[number].total_bytes if number < len(cards) else None
        found.append(
            Rank(
                weights=stages[number // load.tensor_parallel],
                activation=step,
                libraries=beside,
                graphs=recorded,
                graphs_counted=load.version >= GRAPHS_COUNTED,
                budget_bytes=int(total * share) if total is not None and share is not None else None,
            )
        )
    return tuple(found)


def _pool(load: VllmLoad, ranks: Sequence[Rank]) -> tuple[int, int, int] | None:
    """The KV cache of each rank is that of the rank with the least: low, likely, high; negative = so much is missing."""
    if load.kv_cache_bytes is not None:
        return load.kv_cache_bytes, load.kv_cache_bytes, load.kv_cache_bytes
    known = [(rank.budget_bytes, rank) for rank in ranks if rank.budget_bytes is not None]
    if not known:
        return None
    return (
        min(budget - rank.fixed_high_bytes for budget, rank in known),
        min(budget - rank.fixed_bytes for budget, rank in known),
        min(budget - rank.fixed_low_bytes for budget, rank in known),
    )


def _starts_surely(found: Solved) -> bool:
    return found.pool_bytes is None or found.pool_bytes[0] >= max(1, found.request_bytes)


def _fewer_sequences(
    facts: ModelFacts,
    settings: Mapping[str, Scalar],
    found: Solved,
    cards: Sequence[Card],
    host: int | None,
    stages: Stages,
) -> Solved | None:
    """Half as many answers at once, as often as it helps: the sampler's memory grows with them."""
    if "max_sequences" in settings or found.load.on_cpu or found.load.kv_cache_bytes is not None:
        return None
    sequences = found.load.sequences
    best: Solved | None = None
    while sequences > LEAST_SEQUENCES:
        sequences //= 2
        load = msgspec.structs.replace(found.load, sequences=sequences)
        tried = _priced(facts, load, cards, host, {**found.settings, "max_sequences": sequences}, stages)
        before = (best or found).pool_bytes
        if tried.pool_bytes is None or before is None or tried.pool_bytes[0] <= before[0]:
            break
        best = tried
        if _starts_surely(tried):
            break
    return best


def _shorter_context(
    facts: ModelFacts,
    settings: Mapping[str, Scalar],
    found: Solved,
    cards: Sequence[Card],
    host: int | None,
    stages: Stages,
) -> Solved | None:
    """The longest context of which one request surely fits; none below a thousand tokens is chosen by itself."""
    if "context_tokens" in settings or found.layout is None or found.pool_bytes is None or found.load.on_cpu:
        return None
    for pool in found.pool_bytes[:2]:  # where none surely fits, one that likely does
        longest = longest_context(found.layout, found.load, pool, found.load.context_tokens)
        longest -= longest % CONTEXT_STEP_TOKENS
        if longest >= LEAST_CONTEXT_TOKENS:
            break
    else:
        return None
    load = msgspec.structs.replace(found.load, context_tokens=longest)
    return _priced(facts, load, cards, host, {**found.settings, "context_tokens": longest}, stages)


def host_kv_bytes(facts: ModelFacts, one: int, usable_bytes: int | None) -> int:
    """Main memory for the KV cache, in whole MiB: four requests of full length, within half of what is free beside the
    weights. Never less than one, because the engine refuses that anyhow, and its own words say best why."""
    wanted = max(LEAST_KV_BYTES, min(USUAL_REQUESTS * one, USUAL_KV_BYTES)) if one else UNKNOWN_KV_BYTES
    if usable_bytes is not None:
        wanted = min(wanted, int((usable_bytes - facts.weights_bytes * LOADED_PER_WEIGHT) * HOST_KV_SHARE))
    wanted = max(wanted, LEAST_KV_BYTES)
    return max(wanted // MIB, -(-one // MIB)) * MIB


def trade_off(found: Solved) -> tuple[str, ...]:
    """What was chosen and what it trades, in sentences."""
    pool, load = found.pool, found.load
    if pool is None or not found.holds_a_request:
        return ()
    taken = f"{load.utilisation:.0%} of {'each card' if load.ranks > 1 else 'the card'}" if load.utilisation else ""
    where = f"vLLM takes {taken}; " if taken and load.kv_cache_bytes is None else ""
    each = "" if load.ranks == 1 else " on each card"
    notes = [
        f"{where}{gib(pool.bytes)} of KV cache{each} hold {pool.tokens:,} tokens: "
        f"{pool.requests:.1f} conversations of {load.context_tokens:,} tokens."
    ]
    if "context_tokens" in found.settings:
        notes.append(f"The context was shortened to {load.context_tokens:,} tokens, the longest that fits.")
    if "max_sequences" in found.settings:
        notes.append(
            f"{load.sequences:,} answers at once instead of more, so that the step leaves room for the context."
        )
    half = load.context_tokens // 2
    if pool.requests < 2 and half >= LEAST_CONTEXT_TOKENS and found.layout is not None:
        shorter = pool_of(found.layout, msgspec.structs.replace(load, context_tokens=half), pool.bytes)
        notes.append(f"With {half:,} tokens of context it would hold {shorter.requests:.1f} of them at once.")
    return tuple(notes)
