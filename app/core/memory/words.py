"""Says a plan in one sentence with its numbers, for the card and for the refusal."""

from __future__ import annotations

from collections.abc import Sequence

from app.core.memory.plan_types import DevicePlan, Holder, Verdict

_GIB = 1024**3
HOLDER_WORTH_NAMING_BYTES = 64 * 1024**2


def gib(count: int) -> str:
    """Bytes as GiB: one decimal, two below one GiB."""
    value = count / _GIB
    return f"{value:.1f} GiB" if abs(value) >= 1 else f"{value:.2f} GiB"


def summary_of(verdict: Verdict, devices: Sequence[DevicePlan], holders: Sequence[Holder]) -> str:
    match verdict:
        case Verdict.FITS:
            return "Needs " + " and ".join(_need(device) for device in devices) + "."
        case Verdict.TIGHT:
            device = _worst(devices)
            return (
                f"Likely needs {gib(device.likely_bytes)} of {device.name}, possibly {gib(device.high_bytes)}; "
                f"{_room(device)}.{_named(device, holders)}"
            )
        case Verdict.UNKNOWN:
            unknown = next(device for device in devices if device.available_bytes is None)
            return f"Needs {_need(unknown)}; how much of it is free is not known."
        case Verdict.DOES_NOT_FIT:
            device = _worst(devices)
            return (
                f"Needs up to {gib(device.high_bytes)} of {device.name}, but {_room(device)}.{_named(device, holders)}"
            )


def _need(device: DevicePlan) -> str:
    return f"about {gib(device.likely_bytes)} of {device.name}"


def _worst(devices: Sequence[DevicePlan]) -> DevicePlan:
    """The device that lacks most."""
    known = [device for device in devices if device.available_bytes is not None]
    return max(known, key=lambda device: device.high_bytes - (device.available_bytes or 0))


def _room(device: DevicePlan) -> str:
    """Where the usable number comes from: what is free, what comes back, what is kept free."""
    usable = max(0, device.available_bytes or 0)
    free = f"{gib(device.free_bytes or 0)} are free"
    back = f", {gib(device.credit_bytes)} will come back" if device.credit_bytes else ""
    kept = f", {gib(device.headroom_bytes)} are kept free" if device.headroom_bytes else ""
    total = f" of {gib(device.total_bytes)}" if device.total_bytes is not None else ""
    return f"only {gib(usable)}{total} can be used ({free}{back}{kept})"


def _named(device: DevicePlan, holders: Sequence[Holder]) -> str:
    here = [
        f"{holder.name} (pid {holder.pid}) {gib(holder.bytes)}"
        for holder in holders
        if holder.device == device.device and (holder.bytes or 0) >= HOLDER_WORTH_NAMING_BYTES and holder.bytes
    ]
    if not here:
        return ""
    rest = f" and {len(here) - 3} more" if len(here) > 3 else ""
    return f" Others hold: {', '.join(here[:3])}{rest}."
