"""Reads one figure from an engine's metrics page (Prometheus text): each line is name, labels in braces, value."""

from __future__ import annotations

import math
import re


def largest_value(page: str, name: str) -> float | None:
    """The largest value among the lines of that name, whatever their labels; None when there is none that is a number."""
    found = []
    for said in re.findall(rf"^{re.escape(name)}(?:\{{.*\}})?[ \t]+(\S+)", page, re.MULTILINE):
        try:
            value = float(said)
        except ValueError:
            continue
        if math.isfinite(value):
            found.append(value)
    return max(found, default=None)
