"""Remembers what follows from a model's facts alone, so that it is worked out once and not with every price."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from threading import Lock
from typing import TypeVar

from app.core.catalog.facts import ModelFacts

MODELS = 128
T = TypeVar("T")


def once_per_model(work: Callable[[ModelFacts], T]) -> Callable[[ModelFacts], T]:
    """`work`, done once for each facts object as long as it is among the latest; they are told apart by identity, because
    comparing thousands of tensors would cost more than the work."""
    kept: dict[int, tuple[ModelFacts, T]] = {}  # holding the object keeps its identity from being given away
    lock = Lock()

    @wraps(work)
    def remembered(facts: ModelFacts) -> T:
        found = kept.get(id(facts))
        if found is not None:
            return found[1]
        value = work(facts)
        with lock:
            kept[id(facts)] = facts, value
            while len(kept) > MODELS:
                del kept[next(iter(kept))]
        return value

    return remembered
