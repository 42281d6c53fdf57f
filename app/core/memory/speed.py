"""Decides how fast a load will answer: the bytes that one token reads over the memory's bandwidth, as an honest band.

Writing an answer is bound by reading: each token reads every weight that takes part, and the cache of what was said. Reading
a prompt is bound by computing, and nothing is said about it. The shares below enclose seven published measurements of
llama.cpp, from 47 to 762 tokens per second and from a laptop's card to an old processor: tests/core/memory/test_speed.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from app.core.memory.bandwidths import card_bandwidth
from app.core.memory.case import Reads
from app.core.memory.plan_types import Speed
from app.core.memory.words import size as size_words

if TYPE_CHECKING:  # the snapshot imports our types
    from app.core.snapshot import GpuSample, HostSample

# (share of the bandwidth that is reached, seconds of each token that are not reading), at the least and so on
LOW, LIKELY, HIGH = (0.50, 3e-3), (0.75, 1e-3), (0.95, 0.3e-3)
BATCH_SHARE = 0.6  # of the ideal: answers that are computed together are not quite free
MOST_AT_ONCE = 64  # beyond so many, computing is what takes the time on nearly every card
LEAST_MEASURED_TOKENS = 16


def speed_of(reads: Reads, cards: Sequence[GpuSample], host: HostSample | None, conversations: int = 1) -> Speed | None:
    """Tokens per second of all `conversations` together; None where a memory's speed is not known, or nothing is read.

    Layers on several cards are read one card after the other; with tensor parallelism all at the same time.
    """
    rates = [card_bandwidth(card.name) if card.mig_parent is None else None for card in cards]
    host_rate = host.bandwidth_bytes_per_second if host is not None else None
    each = [*zip(reads.cards, rates, strict=True), (reads.host, host_rate)]
    used = [(size, rate) for size, rate in each if size]
    if not used or any(rate is None for _, rate in used):
        return None
    times = [size / rate for size, rate in used if rate]
    seconds = max(times) if reads.at_once else sum(times)
    total = sum(size for size, _ in used)
    grown = 1.0
    if conversations > 1:  # the weights are read once for all, each cache for itself
        caches = max(0, total - reads.weights_bytes)
        grown = (total + (conversations - 1) * caches) / total

    def rate_at(share: float, beside: float, batch: float = 1.0) -> float:
        return conversations * batch / (seconds * grown / share + beside)

    batch = BATCH_SHARE if conversations > 1 else 1.0
    names = [card.name for card, size in zip(cards, reads.cards, strict=True) if size]
    names += ["main memory"] if reads.host else []
    where = " and ".join(dict.fromkeys(names))
    return Speed(
        low=rate_at(*LOW, batch),
        likely=rate_at(*LIKELY, batch),
        high=rate_at(*HIGH),
        source=f"formula: {size_words(total)} are read for each token, {total / seconds / 1e9:,.0f} GB/s of {where}",
    )


def measured_speed(rates: Sequence[float]) -> Speed | None:
    """What earlier answers of the same launch reached: it goes before any formula."""
    if not rates:
        return None
    ordered = sorted(rates)
    middle = ordered[len(ordered) // 2]
    count = f"{len(ordered)} earlier answer{'s' if len(ordered) > 1 else ''}"
    return Speed(low=ordered[0], likely=middle, high=ordered[-1], source=f"measured in {count}")
