"""Defines one row of the diagnosis table: a telling log line, what it means, and what a person can do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

import msgspec

from app.core.memory.plan_types import Remedy


class FailurePattern(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the diagnosis table: the first line that matches tells the cause.

    `summary` and `advice` may use the pattern's named groups as {name}. Lower `rank` wins over earlier lines: 10 names a
    cause, 30 a consequence that still says something, 50 only that something went wrong.
    """

    kind: str
    pattern: str
    summary: str
    advice: str
    rank: int = 10
    remedies: tuple[Remedy, ...] = ()

    def match(self, line: str) -> Mapping[str, str] | None:
        found = compiled(self.pattern).search(line)
        return None if found is None else {k: v or "" for k, v in found.groupdict().items()}


@lru_cache(maxsize=512)
def compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


@lru_cache(maxsize=32)
def any_of(patterns: tuple[str, ...]) -> re.Pattern[str]:
    """One expression for all rows, so that the thousands of harmless lines cost one search each."""
    return re.compile("|".join(f"(?:{re.sub(r'[(][?]P<[a-z_]+>', '(?:', pattern)})" for pattern in patterns))
