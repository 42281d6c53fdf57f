"""Decides from samples whether a stopped engine's memory has come back, and who holds it when it has not."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import msgspec

from app.core.snapshot import DriverState, GpuProcess, Gpus, GpuSample

MIB = 1024**2


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """What a device showed while the engine was still there. All in bytes; None = the driver does not tell."""

    device: str
    used_bytes: int
    engine_bytes: int | None
    others_bytes: int | None
    pids: tuple[int, ...] = ()  # the run's: a driver may go on listing a dead process that nobody can assign any more


def expected_from(gpus: Gpus, run_id: str, before: Gpus | None) -> tuple[Expected, ...]:
    """One entry per device that the run used, from the last sample with it; `before` is from before its launch."""
    found = []
    for gpu in gpus.gpus:
        if gpu.used_bytes is None:
            continue
        pids = tuple(process.pid for process in gpu.processes or () if process.run_id == run_id)
        ours = _bytes_of(gpu, pids)
        if ours is None and before is not None:
            earlier = next((g.used_bytes for g in before.gpus if g.uuid == gpu.uuid), None)
            ours = None if earlier is None else max(0, gpu.used_bytes - earlier)
        if ours == 0:
            continue
        found.append(
            Expected(
                device=gpu.uuid,
                used_bytes=gpu.used_bytes,
                engine_bytes=ours,
                others_bytes=_others(gpu, pids),
                pids=pids,
            )
        )
    return tuple(found)


def expected_unseen(planned_bytes: Mapping[str, int], before: Gpus, pids: tuple[int, ...]) -> tuple[Expected, ...]:
    """One entry per device of the plan, for a run that no sample ever showed: it ended before one was taken.

    What it took is not known, so the device must show what it showed `before` the launch again; `planned_bytes` (by device)
    names the amount.
    """
    return tuple(
        Expected(
            device=gpu.uuid,
            used_bytes=gpu.used_bytes + planned_bytes[gpu.uuid],
            engine_bytes=planned_bytes[gpu.uuid],
            others_bytes=_others(gpu, pids),
            pids=pids,
        )
        for gpu in before.gpus
        if gpu.used_bytes is not None and planned_bytes.get(gpu.uuid)
    )


def released(expected: Collection[Expected], now: Gpus) -> bool:
    """Whether every device has given back what the run held, growth of other programs allowed for (signed).

    Without a working driver there is nothing to wait for: the admission of the next load measures again (I4). One that is
    silent may only be slow, as it is while it takes a large engine down (I12).
    """
    if now.driver is not DriverState.OK:
        return now.driver is not DriverState.HUNG or not expected
    cards = {gpu.uuid: gpu for gpu in now.gpus}
    return all(_returned(entry, cards.get(entry.device)) for entry in expected)


def _returned(entry: Expected, gpu: GpuSample | None) -> bool:
    if gpu is None or gpu.used_bytes is None:
        return True
    if _bytes_of(gpu, entry.pids):
        return False
    if entry.engine_bytes is None:
        return True
    tolerance = max(256 * MIB, entry.engine_bytes // 50)
    others_now = _others(gpu, entry.pids)
    growth = 0 if entry.others_bytes is None or others_now is None else max(0, others_now - entry.others_bytes)
    return entry.used_bytes - gpu.used_bytes + growth >= entry.engine_bytes - tolerance


def holders(expected: Collection[Expected], now: Gpus) -> str:
    """A sentence that names who still holds the memory of a run that has ended; the driver's own where it tells nothing."""
    if now.driver is not DriverState.OK:
        return now.message
    sentences = []
    for gpu in now.gpus:
        entry = next((e for e in expected if e.device == gpu.uuid), None)
        if entry is None or _returned(entry, gpu):
            continue
        names = [
            f"{process.name} (pid {process.pid}, {(process.bytes or 0) / 1024**3:.1f} GiB)"
            for process in sorted(gpu.processes or (), key=lambda p: -(p.bytes or 0))[:3]
        ]
        who = ", ".join(names) if names else "no process that the driver names"
        missing = (entry.engine_bytes or 0) / 1024**3
        sentences.append(f"{gpu.name} has not given back {missing:.1f} GiB; it is held by {who}.")
    return " ".join(sentences)


def _bytes_of(gpu: GpuSample, pids: Collection[int]) -> int | None:
    if gpu.processes is None:
        return None
    return _sum(process for process in gpu.processes if process.pid in pids)


def _others(gpu: GpuSample, pids: Collection[int]) -> int | None:
    if gpu.processes is None:
        return None
    return _sum(process for process in gpu.processes if process.pid not in pids)


def _sum(processes: Iterable[GpuProcess]) -> int | None:
    total = 0
    for process in processes:
        if process.bytes is None:
            return None
        total += process.bytes
    return total
