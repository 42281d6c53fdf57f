"""Reads the columns of measured rows, whatever form they have: numbers, lists, sizes, buffers by device."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

Row = Mapping[str, Any]
MIB, GIB = 1024**2, 1024**3
DEVICE = re.compile(r"(CUDA|ROCm|HIP|Vulkan|Metal|SYCL|RPC)\d*(_Mapped|_Split)?$")


def number(value: Any) -> float | None:
    """A number, also of a text that begins with one ("3.84 B"); None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, str) and (found := re.match(r"\s*(-?[\d.]+)\s*([KMBT]?)", value)):
        try:
            return float(found[1]) * {"": 1, "K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}[found[2]]
        except ValueError:
            return None
    return None


def whole(row: Row, name: str) -> int | None:
    """A positive whole number; of a list the largest."""
    values = listed(row.get(name))
    best = max(values, default=None)
    return best if best and best > 0 else None


def listed(value: Any) -> list[int]:
    if isinstance(value, str) and value.strip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError:
            return []
    values = value if isinstance(value, list) else [value]
    found = [number(item) for item in values]
    return [int(item) for item in found if item is not None]


def per_layer(value: Any, layers: int) -> tuple[int, ...]:
    values = listed(value)
    if len(values) == 1:
        return tuple(values) * layers
    return tuple(values[:layers]) if len(values) >= layers else ()


def size_of(value: Any) -> int | None:
    """Bytes of a text such as "16.38 GiB (4.32 BPW)"."""
    found = re.match(r"\s*([\d.,]+)\s*([KMGT])i?B", value) if isinstance(value, str) else None
    try:  # some machines print a comma
        return int(float(found[1].replace(",", ".")) * 1024 ** (" KMGT".index(found[2]))) if found else None
    except ValueError:
        return None


def device_sum(buffers: Any) -> float:
    if not isinstance(buffers, Mapping):
        return 0.0
    return sum(
        float(size) for device, size in buffers.items() if DEVICE.match(str(device)) and number(size) is not None
    )
