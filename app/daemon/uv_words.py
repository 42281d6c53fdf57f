"""Reads what uv prints: how far its downloads are and how long they still take, and why it failed."""

from __future__ import annotations

import re

import msgspec

from app.daemon.work import Ended

_BYTES = re.compile(r"(?P<name>[\w.-]+) +-* +(?P<done>[\d.]+) (?P<unit>[KMG]iB|B)/(?P<total>[\d.]+) (?P<of>[KMG]iB|B)")
_UNITS = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_REFUSAL = re.compile(r"^\s*(?:error|cause|caused by|×|╰─▶|├─▶):?\s*(?P<words>.+)", re.IGNORECASE)
_BROKEN_FILE = re.compile(r"(?P<what>\S+) has an invalid package format")


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Of all downloads that uv has begun; `eta_seconds` is None until a byte has come."""

    bytes_done: int
    bytes_total: int
    eta_seconds: float | None


class Downloads:
    """One run of uv: the figures of each package that it draws a bar for (it draws none for small ones)."""

    def __init__(self) -> None:
        self._of_package: dict[str, tuple[float, float]] = {}
        self._begun = 0.0

    def heard(self, line: str, now: float) -> Figures | None:
        """What a line without colours makes known; None when it is about something else. `now` in seconds of any clock.

        The speed is that of all bytes since the first bar: resolving, which comes before, is no download.
        """
        found = list(_BYTES.finditer(line))
        if not found:
            return None
        if not self._of_package:
            self._begun = now
        for bar in found:
            done, total = float(bar["done"]) * _UNITS[bar["unit"]], float(bar["total"]) * _UNITS[bar["of"]]
            self._of_package[bar["name"]] = (done, total)
        done, total = (int(sum(column)) for column in zip(*self._of_package.values(), strict=True))
        seconds = now - self._begun
        eta = seconds * (total - done) / done if done and seconds > 0 else None
        return Figures(bytes_done=done, bytes_total=total, eta_seconds=eta)


def refusal(ended: Ended) -> str:
    """What failed, and its root, in uv's own words; where those hide what happened to a file, in ours."""
    for line in ended.said:
        if broken := _BROKEN_FILE.search(line):
            return f"the file of {broken['what']} that the package index gave broke off or is no package"
    words = [found["words"].strip().rstrip(".") for line in ended.said if (found := _REFUSAL.match(line))]
    words = words or [line.rstrip(".") for line in ended.said[-1:]] or ["uv said nothing"]
    return ": ".join(dict.fromkeys((words[0], words[-1])))
