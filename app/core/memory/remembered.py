"""Remembers what follows from a model's facts alone, so that it is worked out once and not with every price."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import TypeVar

from app.core.catalog.facts import ModelFacts

MODELS = 128
T = TypeVar("T")


class _Same:
    """Facts told apart by identity: comparing thousands of tensors would cost more than the work."""

    __slots__ = ("facts",)

    def __init__(self, facts: ModelFacts) -> None:
        self.facts = facts  # held, so that its identity is not given away

    def __hash__(self) -> int:
        return id(self.facts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.facts is other.facts


def once_per_model(work: Callable[[ModelFacts], T]) -> Callable[[ModelFacts], T]:
    """`work`, done once for each facts object as long as it is among the latest."""
    kept = lru_cache(MODELS)(lambda same: work(same.facts))

    @wraps(work)
    def remembered(facts: ModelFacts) -> T:
        return kept(_Same(facts))

    return remembered
