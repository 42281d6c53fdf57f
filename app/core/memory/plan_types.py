"""Defines the memory plan: what a load will need on each device, against what is free there, and the verdict."""

from __future__ import annotations

import enum

import msgspec


class Verdict(enum.Enum):
    FITS = "fits"
    TIGHT = "tight"  # the likely value fits, the high bound fits only without the headroom
    DOES_NOT_FIT = "does_not_fit"
    UNKNOWN = "unknown"  # no facts (a remote model, an unreadable header): nothing is claimed


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One part of a device's need. `source` names the formula, dry run or measurement that it came from."""

    name: str  # "weights" | "kv_cache" | "compute" | "context" | "graphs" | "allowance"
    bytes: int
    source: str


class DevicePlan(msgspec.Struct, frozen=True, kw_only=True):
    """A device's ledger. `device` is a GPU uuid or "host". All in bytes; `free_bytes` may be less than `credit_bytes`."""

    device: str
    name: str
    parts: tuple[Part, ...]
    low_bytes: int
    high_bytes: int
    total_bytes: int | None
    free_bytes: int | None
    credit_bytes: int = 0  # what the leaving model is expected to give back
    others_bytes: int = 0  # held by processes that are not ours
    headroom_bytes: int = 0
    available_bytes: int | None = None  # what admission compares the high bound with

    @property
    def likely_bytes(self) -> int:
        return sum(part.bytes for part in self.parts)


class Remedy(msgspec.Struct, frozen=True, kw_only=True):
    """One change of settings that would help, said in words; applying it means launching with `settings` merged in."""

    title: str
    settings: dict[str, str | int | float | bool]
    needs_bytes: int | None = None


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """A process that is not ours and holds memory of a device."""

    device: str
    pid: int
    name: str
    bytes: int | None


class MemoryPlan(msgspec.Struct, frozen=True, kw_only=True):
    verdict: Verdict
    devices: tuple[DevicePlan, ...]
    summary: str  # one sentence with the numbers, for the card and for the refusal
    remedies: tuple[Remedy, ...] = ()
    holders: tuple[Holder, ...] = ()
    overridden: bool = False

    @property
    def is_admitted(self) -> bool:
        """Whether a load may start without an override: the high bound fits beside the headroom. What cannot be known is
        not refused (I4: a probe that fails is no refusal)."""
        return self.verdict in (Verdict.FITS, Verdict.UNKNOWN)
