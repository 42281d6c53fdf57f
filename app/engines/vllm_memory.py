"""Decides how much memory vLLM is told to take, from what is free now: a plain rule, all of it in pure functions.

vLLM takes what it is told, whatever the model needs, and refuses to start when less is free. On a card it is told a share of
the whole card; without one, bytes for the KV cache alone, because it would else take most of the main memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import floor

from app.core.catalog.facts import ModelFacts

MIB = 1024**2
MOST_OF_A_CARD = 0.92  # vLLM's own choice; the rest is for what it does not count
LEAST_OF_A_CARD = 0.05
LEAST_KV_MIB = 256
USUAL_KV_MIB = 4_096  # without a card: several long conversations of a small model, and no more
HOST_KV_SHARE = 0.5  # of what is free beside the weights
LOADED_PER_WEIGHT = 1.2  # some weights are repacked while the first form is still there

KV_BYTES = {"fp8": 1.0, "fp8_e4m3": 1.0, "fp8_e5m2": 1.0, "int8_per_token_head": 1.0, "nvfp4": 0.5625}


def utilisation(usable_bytes: Mapping[str, int], total_bytes: Mapping[str, int]) -> float | None:
    """The share of each card that can be taken: what its owner lets us use, of the fullest card, in whole hundredths.

    `usable_bytes`: free now less the headroom, by card. None when nothing is known of a card's memory.
    """
    shares = [usable / total_bytes[card] for card, usable in usable_bytes.items() if total_bytes.get(card)]
    if not shares:
        return None
    return min(MOST_OF_A_CARD, max(LEAST_OF_A_CARD, floor(min(shares) * 100) / 100))


def sequence_bytes(facts: ModelFacts | None, context_tokens: int, kv_type: str) -> int:
    """The KV cache of one conversation of full length (vram.md 2.1: cells x heads x (key + value) x bytes); 0 = unknown."""
    if facts is None or not facts.kv_heads or not facts.key_length:
        return 0
    per_token = sum(facts.kv_heads) * (facts.key_length + (facts.value_length or facts.key_length))
    return int(context_tokens * per_token * KV_BYTES.get(kv_type, 2.0))


def host_kv_mib(facts: ModelFacts | None, context_tokens: int, kv_type: str, usable_bytes: int | None) -> int:
    """MiB of main memory for the KV cache: four full conversations, within half of what is free beside the weights.

    Never less than one full conversation, because the engine refuses that anyhow, and its own words say best why.
    """
    one = -(-sequence_bytes(facts, context_tokens, kv_type) // MIB)
    wanted = max(LEAST_KV_MIB, min(4 * one, USUAL_KV_MIB)) if one else LEAST_KV_MIB * 4
    if usable_bytes is not None:
        weights = int((facts.weights_bytes if facts is not None else 0) * LOADED_PER_WEIGHT)
        wanted = min(wanted, int((usable_bytes - weights) * HOST_KV_SHARE) // MIB)
    return max(wanted, one, LEAST_KV_MIB)
