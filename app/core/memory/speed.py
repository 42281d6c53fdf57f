"""Decides how fast a load will answer: the bytes that one token reads over the memory's bandwidth, as a band."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from app.core.memory.case import Reads
from app.core.memory.plan_types import Speed

if TYPE_CHECKING:  # the snapshot imports our types
    from app.core.snapshot import GpuSample, HostSample


def speed_of(reads: Reads, cards: Sequence[GpuSample], host: HostSample | None) -> Speed | None:
    return None
