"""Decides how deep a model may sleep, whether its memory has come back, and whether there is room for it to wake; pure."""

from __future__ import annotations

from collections.abc import Mapping

from app.core.errors import DoesNotFit
from app.core.memory.words import gib
from app.core.snapshot import Gpus, HostSample

WEIGHTS_IN_MAIN_MEMORY = 1
WEIGHTS_DROPPED = 2
PROMPTS_KEPT = 3  # no sleep at all: it is unloaded, and what it has read waits on the disk
NOTEWORTHY_BYTES = 512 * 1024**2  # a context and graphs stay: what is less than this is not waited for


def level_for(asked: int | None, weights_bytes: int, host: HostSample | None, headroom_bytes: int) -> int:
    """The level at which to sleep: the one that was asked for, else 1 where main memory holds the weights and 2 where not.

    Raises DoesNotFit when level 1 was asked for and main memory would not hold them.
    """
    free = None if host is None else host.available_bytes - headroom_bytes
    holds = free is None or weights_bytes <= free
    if asked == WEIGHTS_IN_MAIN_MEMORY and not holds and free is not None:
        raise DoesNotFit(
            f"Sleeping with the weights in main memory takes {gib(weights_bytes)}, and {gib(max(0, free))} of it can be used.",
            "Level 2 drops the weights and reads them again from the disk when it wakes.",
        )
    if asked is not None:
        return asked
    return WEIGHTS_IN_MAIN_MEMORY if holds else WEIGHTS_DROPPED


def freed_bytes(awake: Mapping[str, int], now: Mapping[str, int]) -> int:
    """What has come back of the cards, in bytes; both by card's uuid."""
    return sum(held - now.get(card, 0) for card, held in awake.items() if card != "host")


def is_asleep(awake: Mapping[str, int], now: Mapping[str, int]) -> bool:
    """Whether every card has back at least half of what the run held of it: weights and KV cache are nearly all of it."""
    return all(
        now.get(card, 0) <= held / 2 for card, held in awake.items() if card != "host" and held > NOTEWORTHY_BYTES
    )


def no_room_to_wake(awake: Mapping[str, int], now: Mapping[str, int], gpus: Gpus, headroom_bytes: int) -> str:
    """A sentence naming the card that cannot take back what was freed, and who holds it; "" when all can (I4).

    A card that does not tell its free memory is no obstacle.
    """
    for card in gpus.gpus:
        needs = awake.get(card.uuid, 0) - now.get(card.uuid, 0)
        if needs <= 0 or card.free_bytes is None or needs + headroom_bytes <= card.free_bytes:
            continue
        others = sorted((p for p in card.processes or () if p.run_id is None), key=lambda p: -(p.bytes or 0))
        held = f"; {others[0].name} (pid {others[0].pid}) holds {gib(others[0].bytes or 0)}" if others else ""
        return f"It needs {gib(needs)} of {card.name} to wake, and {gib(card.free_bytes)} are free{held}."
    return ""
