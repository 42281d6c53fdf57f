"""Reads the machine's own memory and processor use from /proc, within the limits of our control group."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from app.core.snapshot import HostSample


class HostReader:
    """Keeps the processor counters of the last reading, because utilisation is a difference."""

    def __init__(self, proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> None:
        self._proc = proc
        self._cgroups = cgroups
        self._last: tuple[int, int] | None = None
        self.bandwidth_bytes_per_second: float | None = None  # told by whoever measures it

    def read(self, engine_bytes: int | None = None, taken_at: float = 0.0) -> HostSample | None:
        """Memory in bytes, processor use 0..1 since the last call (None at the first); None where /proc is not Linux's."""
        try:
            total, available = memory_bytes(self._proc)
        except (OSError, KeyError, ValueError):
            return None
        for limit, used in _group_limits(self._proc, self._cgroups):
            total = min(total, limit)
            available = min(available, max(limit - used, 0))
        return HostSample(
            total_bytes=total,
            available_bytes=available,
            cpu_utilisation=self._cpu_utilisation(),
            engine_bytes=engine_bytes,
            taken_at=taken_at,
            bandwidth_bytes_per_second=self.bandwidth_bytes_per_second,
        )

    def _cpu_utilisation(self) -> float | None:
        try:
            with (self._proc / "stat").open() as stat:
                ticks = [int(field) for field in stat.readline().split()[1:9]]
        except (OSError, ValueError):
            return None
        if len(ticks) < 5:
            return None
        now = (sum(ticks), ticks[3] + ticks[4])  # all · idle and waiting for a disk
        last, self._last = self._last, now
        if last is None or now[0] <= last[0]:
            return None
        return min(max(1 - (now[1] - last[1]) / (now[0] - last[0]), 0.0), 1.0)


def memory_bytes(proc: Path = Path("/proc")) -> tuple[int, int]:
    """Total and available bytes of the machine (MemAvailable: what can be had without swapping).

    Raises OSError, KeyError or ValueError when /proc/meminfo is not Linux's.
    """
    fields = {}
    for line in (proc / "meminfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in ("MemTotal", "MemAvailable"):
            fields[name] = int(value.split()[0]) * 1024
    return fields["MemTotal"], fields["MemAvailable"]


def _group_limits(proc: Path, cgroups: Path) -> Iterator[tuple[int, int]]:
    """Limit and use of each control group above us that has a limit (cgroup v2): the kernel kills at the smallest.

    Pages of files that were read once can be dropped, so they do not count as used.
    """
    try:
        lines = (proc / "self/cgroup").read_text().splitlines()
    except OSError:
        return
    path = next((line[3:].strip("/") for line in lines if line.startswith("0::")), None)
    if path is None:
        return
    folder = cgroups / path
    for group in (folder, *folder.parents):
        if not group.is_relative_to(cgroups):
            return
        try:
            limit = int((group / "memory.max").read_text())  # "max" is no number: no limit
            used = int((group / "memory.current").read_text())
            counters = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            yield limit, max(used - int(counters.get("inactive_file", 0)), 0)
        except (OSError, ValueError):
            continue
