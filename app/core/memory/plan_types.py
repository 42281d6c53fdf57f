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
    formula_bytes: int | None = None  # what the formula said, where `bytes` is a dry run's or a measurement's
    formula: str = ""  # and the source of that


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
    launches: int = 0  # measured launches that likely value and band rest on; 0 = formulas and the engine's dry run

    @property
    def likely_bytes(self) -> int:
        return sum(part.bytes for part in self.parts)

    @property
    def spare_bytes(self) -> int | None:
        """By how much the admission rule holds: what may be used less the high bound; negative = so much is missing. The only
        figure by which a load is said to have room or to lack it. None = not known."""
        return None if self.available_bytes is None else self.available_bytes - self.high_bytes


class Remedy(msgspec.Struct, frozen=True, kw_only=True):
    """One change that would help, said in words; applying it means launching with `settings` merged in, on the cards `gpus`
    where it names some (() = as they are)."""

    title: str
    settings: dict[str, str | int | float | bool]
    needs_bytes: int | None = None
    gpus: tuple[str, ...] = ()
    kind: str = ""  # "context", "kv_type", …; of a combination all of them with "+" between


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """A process that is not ours and holds memory of a device."""

    device: str
    pid: int
    name: str
    bytes: int | None


class Closing(msgspec.Struct, frozen=True, kw_only=True):
    """What closing programs of others would do for a device that has too little room: the fewest that suffice, or, when
    `missing_bytes` is left even then, all of them. `bytes` is what they hold together."""

    device: str
    processes: tuple[Holder, ...]
    bytes: int
    missing_bytes: int = 0


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens per second of a single conversation while it is answered, with its band; reading the prompt is not in it."""

    low: float
    likely: float
    high: float
    source: str  # "measured in 3 earlier answers", "7.9 GiB read per token at 1,008 GB/s (RTX 4090)"


class EngineAdvice(msgspec.Struct, frozen=True, kw_only=True):
    """Which engine for which use of this model, and why."""

    use: str  # "one chat" | "many users"
    engine: str  # a family's id; "" = none can load it
    reason: str  # a sentence
    verdict: Verdict = Verdict.UNKNOWN
    speed: Speed | None = None  # of all conversations together


class MemoryPlan(msgspec.Struct, frozen=True, kw_only=True):
    verdict: Verdict
    devices: tuple[DevicePlan, ...]
    summary: str  # one sentence with the numbers, for the card and for the refusal
    remedies: tuple[Remedy, ...] = ()
    holders: tuple[Holder, ...] = ()
    overridden: bool = False
    longest_context_tokens: int | None = None  # that fits, all else as it is; None = none does, or nobody knows
    context_tokens: int | None = None  # of this load, the engine's default filled in
    closings: tuple[Closing, ...] = ()  # one for each device that lacks room and is held by others
    notes: tuple[str, ...] = ()  # sentences: what was solved and what it trades
    speed: Speed | None = None
    advice: tuple[EngineAdvice, ...] = ()
    subject: str = ""  # names this load among all: file, engine build, devices, settings that weigh something

    @property
    def spare_bytes(self) -> int | None:
        """Of the device that has least; None = of none is it known."""
        return min((device.spare_bytes for device in self.devices if device.spare_bytes is not None), default=None)

    @property
    def is_admitted(self) -> bool:
        """Whether a load may start without an override: the high bound fits beside the headroom. What cannot be known is
        not refused (I4: a probe that fails is no refusal)."""
        return self.verdict in (Verdict.FITS, Verdict.UNKNOWN)
