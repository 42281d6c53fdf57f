"""Says a plan in one sentence with its numbers, for the card and for the refusal."""

from __future__ import annotations

from collections.abc import Sequence

from app.core.memory.plan_types import Closing, DevicePlan, Holder, Part, Verdict

_GIB, _MIB = 1024**3, 1024**2
HOLDER_WORTH_NAMING_BYTES = 64 * 1024**2
MOST_NAMED = 3
WORTH_TELLING_BYTES = 1024**2 // 10  # a formula that is no further off is the same


def gib(count: int) -> str:
    """Bytes as GiB: one decimal, two below one GiB."""
    value = count / _GIB
    return f"{value:.1f} GiB" if abs(value) >= 1 else f"{value:.2f} GiB"


def size(count: int) -> str:
    """Bytes in the unit that shows something: GiB with one decimal, MiB below one GiB."""
    return gib(count) if abs(count) >= _GIB else f"{count / 1024**2:,.0f} MiB"


def spare_words(spare: int | None) -> str:
    """ "10.9 GiB spare", "19.0 GiB is missing": the figure that decides, said alike wherever a plan is shown."""
    if spare is None:
        return "free: not known"
    return f"{size(spare)} spare" if spare >= 0 else f"{size(max(-spare, _MIB))} is missing"  # never 0 MiB


def source_words(part: Part) -> str:
    """Where a part's figure comes from, and what the formula says where that is another."""
    said = part.formula_bytes
    if said is None or abs(said - part.bytes) < WORTH_TELLING_BYTES:
        return part.source
    return f"{part.source}; the formula says {exact_size(said)}"


def exact_size(count: int) -> str:
    return gib(count) if count >= 10 * _GIB else f"{count / 1024**2:,.1f} MiB"


def learnt_words(device: DevicePlan) -> str:
    """ "18.2 ± 0.4 GiB, from 3 launches" """
    band = max(device.high_bytes - device.likely_bytes, device.likely_bytes - device.low_bytes)
    launches = f"from {device.launches} launch{'es' if device.launches > 1 else ''}"
    if device.likely_bytes >= _GIB:
        return f"{device.likely_bytes / _GIB:.1f} ± {band / _GIB:.1f} GiB, {launches}"
    return f"{device.likely_bytes / 1024**2:,.0f} ± {band / 1024**2:,.0f} MiB, {launches}"


def summary_of(
    verdict: Verdict, devices: Sequence[DevicePlan], closings: Sequence[Closing], holders: Sequence[Holder] = ()
) -> str:
    """One or two sentences; the second says who holds the memory and what closing that would do."""
    match verdict:
        case Verdict.FITS:
            return "Needs " + " and ".join(_need(device) for device in devices) + "."
        case Verdict.TIGHT:
            device = _worst(devices)
            return (
                f"Likely needs {gib(device.likely_bytes)} of {device.name}, possibly {gib(device.high_bytes)}; "
                f"{_room(device)}: {spare_words(device.spare_bytes)}.{_held(device, closings, holders)}"
            )
        case Verdict.UNKNOWN:
            unknown = next(device for device in devices if device.available_bytes is None)
            return f"Needs {_need(unknown)}; how much of it is free is not known."
        case Verdict.DOES_NOT_FIT:
            device = _worst(devices)
            return (
                f"Needs up to {gib(device.high_bytes)} of {device.name}, but {_room(device)}: "
                f"{spare_words(device.spare_bytes)}.{_held(device, closings, holders)}"
            )


def _need(device: DevicePlan) -> str:
    return f"about {gib(device.likely_bytes)} of {device.name}"


def _worst(devices: Sequence[DevicePlan]) -> DevicePlan:
    """The device that lacks most."""
    known = [(device.spare_bytes, number) for number, device in enumerate(devices) if device.spare_bytes is not None]
    return devices[min(known)[1]]


def _room(device: DevicePlan) -> str:
    """Where the usable number comes from: what is free, what comes back, what is kept free."""
    usable = max(0, device.available_bytes or 0)
    free = f"{gib(device.free_bytes or 0)} are free"
    back = f", {gib(device.credit_bytes)} will come back" if device.credit_bytes else ""
    kept = f", {gib(device.headroom_bytes)} are kept free" if device.headroom_bytes else ""
    total = f" of {gib(device.total_bytes)}" if device.total_bytes is not None else ""
    return f"only {gib(usable)}{total} can be used ({free}{back}{kept})"


def _held(device: DevicePlan, closings: Sequence[Closing], holders: Sequence[Holder]) -> str:
    closing = next((each for each in closings if each.device == device.device), None)
    if closing is not None:
        return f" {closing_words(closing)}"
    here = [
        f"{_program(holder)} {gib(holder.bytes)}"
        for holder in holders
        if holder.device == device.device and (holder.bytes or 0) >= HOLDER_WORTH_NAMING_BYTES and holder.bytes
    ]
    if not here:
        return ""
    rest = f" and {len(here) - MOST_NAMED} more" if len(here) > MOST_NAMED else ""
    return f" Others hold: {', '.join(here[:MOST_NAMED])}{rest}."


def closing_words(closing: Closing) -> str:
    """ "2.1 GiB held by blender (pid 41); closing it would be enough." What is missing is said once, before this."""
    names = [_program(holder) for holder in closing.processes]
    shown = names if len(names) <= MOST_NAMED else [*names[:MOST_NAMED], f"{len(names) - MOST_NAMED} more"]
    who = shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
    them = "it" if len(names) == 1 else "them"
    return (
        f"{gib(closing.bytes)} held by {who}; closing {them} would {'not ' if closing.missing_bytes else ''}be enough."
    )


def _program(holder: Holder) -> str:
    return f"{holder.name} (pid {holder.pid})"
