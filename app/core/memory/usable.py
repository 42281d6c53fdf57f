"""Decides how much memory a launch may plan with now, per device: what is free less what has to stay free."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the snapshot imports our package
    from app.core.snapshot import Gpus


def usable_bytes(
    gpus: Gpus, *, headroom_bytes: int, host_headroom_bytes: int, threshold: float = 1.0
) -> dict[str, int]:
    """Bytes by card's uuid and "host"; may be negative; a device that does not tell is not there. `threshold`: the share of a
    card that may be used in all, as admission has it."""
    found = {}
    for card in gpus.gpus:
        if card.free_bytes is None:
            continue
        found[card.uuid] = card.free_bytes - headroom_bytes
        if card.total_bytes is not None:
            kept = int(card.total_bytes * (1 - threshold))
            found[card.uuid] = min(found[card.uuid], card.free_bytes - kept)
    if gpus.host is not None:
        found["host"] = gpus.host.available_bytes - host_headroom_bytes
    return found


def total_bytes(gpus: Gpus) -> dict[str, int]:
    return {card.uuid: card.total_bytes for card in gpus.gpus if card.total_bytes is not None}
