"""Says what a model needs of this machine's memory that is computed on another one: nothing."""

from __future__ import annotations

from app.core.memory.plan_types import MemoryPlan, Verdict

NOTHING_NEEDED = MemoryPlan(
    verdict=Verdict.FITS, devices=(), summary="Nothing of this machine's memory is needed: it runs elsewhere."
)
