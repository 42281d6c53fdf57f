"""Decides whether a device has room for a need: the admission rule, its ledger per device, and the verdict over all of them.

A load is admitted when its high bound is at most min(free + credit of the leaving model - headroom, threshold x total - what
others hold), on every device, in signed arithmetic (ARCHITECTURE.md, I4).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from app.core.memory.needs import Need
from app.core.memory.plan_types import DevicePlan, Verdict

if TYPE_CHECKING:  # the snapshot imports our types
    from app.core.snapshot import GpuSample, HostSample

HOST = "host"
HOST_NAME = "main memory"


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What admission keeps free: bytes on each card and in main memory, and the share of a card that may be used."""

    headroom_bytes: int
    host_headroom_bytes: int
    threshold: float


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """What is known beside the sample: the limits, what the leaving model gives back, and which runs are ours."""

    limits: Limits
    leaving: Mapping[str, int]
    ours: Collection[str]


def available_bytes(*, free: int, credit: int, headroom: int, total: int | None, staying: int, threshold: float) -> int:
    """What the high bound must not exceed: min(free + credit - headroom, threshold x total - what stays); may be negative."""
    by_free = free + credit - headroom
    return by_free if total is None else min(by_free, int(total * threshold) - staying)


def room_of(card: GpuSample, ledger: Ledger) -> int | None:
    """What a load may use of a card now; None when the card does not tell."""
    if card.free_bytes is None:
        return None
    credit = ledger.leaving.get(card.uuid, 0)
    return available_bytes(
        free=card.free_bytes,
        credit=credit,
        headroom=ledger.limits.headroom_bytes,
        total=card.total_bytes,
        staying=_used(card) - credit,
        threshold=ledger.limits.threshold,
    )


def card_plan(need: Need, card: GpuSample, ledger: Ledger) -> DevicePlan:
    credit = ledger.leaving.get(card.uuid, 0)
    known = [process.bytes or 0 for process in card.processes or () if process.run_id in ledger.ours and process.run_id]
    return DevicePlan(
        device=card.uuid,
        name=card.name,
        parts=need.parts,
        low_bytes=need.low_bytes,
        high_bytes=need.high_bytes,
        total_bytes=card.total_bytes,
        free_bytes=card.free_bytes,
        credit_bytes=credit,
        others_bytes=max(0, _used(card) - max(sum(known), credit)),
        headroom_bytes=ledger.limits.headroom_bytes,
        available_bytes=room_of(card, ledger),
        launches=need.launches,
    )


def host_plan(need: Need, host: HostSample | None, ledger: Ledger) -> DevicePlan:
    credit = ledger.leaving.get(HOST, 0)
    headroom = ledger.limits.host_headroom_bytes
    others = 0
    if host is not None:
        others = max(0, host.total_bytes - host.available_bytes - max(credit, host.engine_bytes or 0))
    return DevicePlan(
        device=HOST,
        name=HOST_NAME,
        parts=need.parts,
        low_bytes=need.low_bytes,
        high_bytes=need.high_bytes,
        total_bytes=host.total_bytes if host else None,
        free_bytes=host.available_bytes if host else None,
        credit_bytes=credit,
        others_bytes=others,
        headroom_bytes=headroom,
        available_bytes=host.available_bytes + credit - headroom if host else None,
        launches=need.launches,
    )


def verdict_of(devices: Sequence[DevicePlan], limits: Limits) -> Verdict:
    """The worst device decides; not knowing one weighs less than knowing that another is too small."""
    each = [_device_verdict(device, limits) for device in devices]
    for verdict in (Verdict.DOES_NOT_FIT, Verdict.UNKNOWN, Verdict.TIGHT):
        if verdict in each:
            return verdict
    return Verdict.FITS


def _device_verdict(device: DevicePlan, limits: Limits) -> Verdict:
    if device.available_bytes is None or device.free_bytes is None:
        return Verdict.UNKNOWN
    if device.high_bytes <= device.available_bytes:
        return Verdict.FITS
    without_headroom = available_bytes(
        free=device.free_bytes,
        credit=device.credit_bytes,
        headroom=0,
        total=None if device.device == HOST else device.total_bytes,
        staying=(device.total_bytes or 0) - device.free_bytes - device.credit_bytes,
        threshold=limits.threshold,
    )
    if device.likely_bytes <= device.available_bytes and device.high_bytes <= without_headroom:
        return Verdict.TIGHT
    return Verdict.DOES_NOT_FIT


def _used(card: GpuSample) -> int:
    """What is held on the card, the driver's own share counted in."""
    if card.used_bytes is not None:
        return card.used_bytes
    if card.total_bytes is not None and card.free_bytes is not None:
        return card.total_bytes - card.free_bytes
    return 0
