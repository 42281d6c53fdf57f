"""Scores rows of llama.cpp logs: facts and settings of each row go into `plan`, what was measured is compared afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def score(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {"rows": len(rows)}
