"""Owns the last ten minutes of samples, one per second, in arrays that never grow."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterator

from app.core.snapshot import DriverState, Gpus, History, Traffic

_GPU_FIELDS = (
    "used_bytes",
    "utilisation",
    "power_watts",
    "temperature_celsius",
    "sm_clock_mhz",
    "memory_clock_mhz",
)
_UNKNOWN = math.nan


class HistoryRing:
    """Keeps `seconds` of samples; a sample sooner than `interval_seconds` after the last replaces it.

    Series names: `gpu:<uuid>:<field of GpuSample>`, `host:used_bytes`, `host:cpu_utilisation`, `host:engine_bytes`,
    `tokens_per_second`, `prompt_tokens_per_second`, `first_token_seconds`, `kv_cache_usage`, `in_flight`, `queued`.
    """

    def __init__(self, clock: Callable[[], float], seconds: float = 600.0, interval_seconds: float = 1.0) -> None:
        self._clock = clock
        self._interval_seconds = interval_seconds
        self._size = max(int(seconds / interval_seconds), 1)
        self._times = array("d", [_UNKNOWN]) * self._size
        self._series: dict[str, array[float]] = {}
        self._count = 0  # samples ever kept; the newest is at (_count - 1) % _size
        self._next_at = -math.inf

    def add(self, gpus: Gpus, traffic: Traffic) -> None:
        """Keeps one sample of both. Figures of a driver that hangs are old, so they are left out."""
        now = self._clock()
        if now >= self._next_at:
            self._count += 1
            # A tenth of slack: a sampler's tick is never exact, and each of its samples has a place.
            self._next_at = now + 0.9 * self._interval_seconds
        place = (self._count - 1) % self._size
        self._times[place] = now
        for values in self._series.values():
            values[place] = _UNKNOWN
        for name, value in _values(gpus, traffic):
            if value is None:
                continue
            if name not in self._series:
                self._forget_empty()
                self._series[name] = array("d", [_UNKNOWN]) * self._size
            self._series[name][place] = value

    def view(self) -> History:
        """All samples, oldest first; a value that was not known is None."""
        kept = min(self._count, self._size)
        order = [(self._count - kept + n) % self._size for n in range(kept)]
        return History(
            times=tuple(self._times[place] for place in order),
            series={
                name: tuple(None if math.isnan(values[place]) else values[place] for place in order)
                for name, values in self._series.items()
            },
        )

    def _forget_empty(self) -> None:
        """A card that went away ten minutes ago leaves no series behind, so a changing machine cannot fill memory."""
        for name in [name for name, values in self._series.items() if all(map(math.isnan, values))]:
            del self._series[name]


def _values(gpus: Gpus, traffic: Traffic) -> Iterator[tuple[str, float | None]]:
    if gpus.driver is not DriverState.HUNG:
        for gpu in gpus.gpus:
            for field in _GPU_FIELDS:
                yield f"gpu:{gpu.uuid}:{field}", getattr(gpu, field)
    if (host := gpus.host) is not None:
        yield "host:used_bytes", host.total_bytes - host.available_bytes
        yield "host:cpu_utilisation", host.cpu_utilisation
        yield "host:engine_bytes", host.engine_bytes
    yield "tokens_per_second", traffic.generation_tokens_per_second
    yield "prompt_tokens_per_second", traffic.prompt_tokens_per_second
    yield "first_token_seconds", traffic.first_token_seconds
    yield "kv_cache_usage", traffic.kv_cache_usage
    yield "in_flight", traffic.in_flight
    yield "queued", traffic.queued
