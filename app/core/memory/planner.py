"""Decides whether a load fits: needs against live memory, per device, with numbers, the holders' names and remedies."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from app.core.catalog.facts import Companion, ModelFacts
from app.core.memory.companions import needs_beside, together
from app.core.memory.load import FLASH_BY_DEFAULT, load_of
from app.core.memory.needs import Need, needs_on_gpus, needs_on_host
from app.core.memory.parts import Weights, weights_of
from app.core.memory.plan_types import DevicePlan, Holder, MemoryPlan, Remedy, Verdict
from app.core.memory.words import gib, summary_of
from app.core.options import Scalar

if TYPE_CHECKING:  # the snapshot imports our types
    from app.core.snapshot import Gpus, GpuSample, HostSample

HOST = "host"
HOST_NAME = "main memory"
MAX_HOLDERS = 16
MAX_REMEDIES = 4
LEAST_CONTEXT_TOKENS = 1_024
CONTEXT_STEP_TOKENS = 256


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What admission keeps free: bytes on each card and in main memory, and the share of a card that may be used."""

    headroom_bytes: int
    host_headroom_bytes: int
    threshold: float


class _Case(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about a load but its settings, so that a remedy is one more call."""

    facts: ModelFacts
    weights: Weights
    family: str
    accelerator: str
    gpus: Gpus
    cards: tuple[GpuSample, ...]
    limits: Limits
    leaving: Mapping[str, int]
    ours: Collection[str]
    companions: Sequence[Companion]


def plan(
    facts: ModelFacts | None,
    settings: Mapping[str, Scalar],
    *,
    family: str,
    accelerator: str,
    gpus: Gpus,
    headroom_bytes: int,
    host_headroom_bytes: int,
    threshold: float,
    leaving_bytes: Mapping[str, int] | None = None,
    our_run_ids: Collection[str] = (),
    gpu_uuids: Collection[str] = (),
    companions: Sequence[Companion] = (),
) -> MemoryPlan:
    """The plan of loading `facts` with `settings` (the engine's defaults merged in) now.

    `accelerator` is what the engine was built for ("cpu", "cuda", …). `leaving_bytes` credits, per device (uuid or "host"),
    what the model about to leave holds. `gpu_uuids` limits the cards. `companions` are loaded beside the model. Never raises: what cannot be known is UNKNOWN.
    """
    reason = _not_plannable(facts, family)
    if facts is None or reason:
        return MemoryPlan(verdict=Verdict.UNKNOWN, devices=(), summary=reason)
    case = _Case(
        facts=facts,
        weights=weights_of(facts),
        family=family,
        accelerator=accelerator,
        gpus=gpus,
        cards=_cards(gpus, gpu_uuids),
        limits=Limits(headroom_bytes=headroom_bytes, host_headroom_bytes=host_headroom_bytes, threshold=threshold),
        leaving=leaving_bytes or {},
        ours=our_run_ids,
        companions=companions,
    )
    if accelerator != "cpu" and not case.cards and gpus.driver.value != "absent" and settings.get("gpu_layers") != 0:
        why = gpus.message or "the driver has not answered yet."
        return MemoryPlan(
            verdict=Verdict.UNKNOWN,
            devices=(),
            summary=f"The graphics card's free memory is not known: {why}",
        )
    devices = _devices(case, settings)
    verdict = _verdict(devices, case.limits)
    remedies = remedies_of(case, settings) if verdict in (Verdict.TIGHT, Verdict.DOES_NOT_FIT) else ()
    holders = _holders(case, devices)
    return MemoryPlan(
        verdict=verdict,
        devices=devices,
        summary=summary_of(verdict, devices, holders),
        remedies=remedies,
        holders=holders,
    )


def available_bytes(*, free: int, credit: int, headroom: int, total: int | None, staying: int, threshold: float) -> int:
    """What the high bound must not exceed: min(free + credit - headroom, threshold x total - what stays); may be negative."""
    by_free = free + credit - headroom
    return by_free if total is None else min(by_free, int(total * threshold) - staying)


def _not_plannable(facts: ModelFacts | None, family: str) -> str:
    if facts is None:
        return "What this model needs is not known: its file was not read."
    if facts.format != "gguf" or family not in FLASH_BY_DEFAULT:
        return f"What this model needs is not known: there is no formula for {family} yet."
    if not facts.layers or not facts.kv_heads or not facts.key_length:
        return (
            f"What this model needs beyond its weights of {gib(facts.weights_bytes)} is not known: "
            f"its file does not describe the architecture {facts.architecture} fully."
        )
    return ""


def _cards(gpus: Gpus, wanted: Collection[str]) -> tuple[GpuSample, ...]:
    """The cards to load onto; a card that is divided (MIG) is none itself."""
    divided = {card.mig_parent for card in gpus.gpus if card.mig_parent}
    return tuple(card for card in gpus.gpus if (card.uuid in wanted if wanted else card.uuid not in divided))


def _devices(case: _Case, settings: Mapping[str, Scalar]) -> tuple[DevicePlan, ...]:
    on_gpu = case.accelerator != "cpu" and bool(case.cards)
    load = load_of(case.facts, settings, family=case.family, on_gpu=on_gpu)
    host = case.gpus.host
    units = len(case.weights.layers) + 1
    if load.gpu_layers == 0:  # then the engine is shown no card at all
        _, beside = needs_beside(case.companions, settings, load, (), units, case.accelerator)
        return (_host_plan(together(needs_on_host(case.facts, load, case.weights), beside), host, case),)
    shares = load.tensor_split if len(load.tensor_split) == len(case.cards) else _shares(case)
    needs, on_host = needs_on_gpus(case.facts, load, shares, case.accelerator, case.weights)
    more, beside = needs_beside(case.companions, settings, load, shares, units, case.accelerator)
    plans = [
        _card_plan(together(need, added), card, case) for need, added, card in zip(needs, more, case.cards, strict=True)
    ]
    if host is not None:  # unknown main memory does not matter when a card carries the load
        plans.append(_host_plan(together(on_host, beside), host, case))
    return tuple(plans)


def _shares(case: _Case) -> list[float]:
    """How llama.cpp spreads layers when nobody says: by free memory, here with the leaving model's counted in."""
    free = [max(0, (card.free_bytes or 0) + case.leaving.get(card.uuid, 0)) for card in case.cards]
    return [float(amount) for amount in free] if any(free) else [1.0] * len(free)


def _card_plan(need: Need, card: GpuSample, case: _Case) -> DevicePlan:
    credit = case.leaving.get(card.uuid, 0)
    used = card.used_bytes
    if used is None and card.total_bytes is not None and card.free_bytes is not None:
        used = card.total_bytes - card.free_bytes
    known = [process.bytes or 0 for process in card.processes or () if process.run_id in case.ours and process.run_id]
    limits = case.limits
    return DevicePlan(
        device=card.uuid,
        name=card.name,
        parts=need.parts,
        low_bytes=need.low_bytes,
        high_bytes=need.high_bytes,
        total_bytes=card.total_bytes,
        free_bytes=card.free_bytes,
        credit_bytes=credit,
        others_bytes=max(0, (used or 0) - max(sum(known), credit)),
        headroom_bytes=limits.headroom_bytes,
        available_bytes=None
        if card.free_bytes is None
        else available_bytes(
            free=card.free_bytes,
            credit=credit,
            headroom=limits.headroom_bytes,
            total=card.total_bytes,
            staying=(used or 0) - credit,
            threshold=limits.threshold,
        ),
    )


def _host_plan(need: Need, host: HostSample | None, case: _Case) -> DevicePlan:
    credit = case.leaving.get(HOST, 0)
    headroom = case.limits.host_headroom_bytes
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
    )


def _verdict(devices: Sequence[DevicePlan], limits: Limits) -> Verdict:
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


def _holders(case: _Case, devices: Sequence[DevicePlan]) -> tuple[Holder, ...]:
    """Processes that are not ours and hold memory of a card that the plan uses, largest first."""
    used = {device.device for device in devices}
    holders = [
        Holder(device=card.uuid, pid=process.pid, name=process.name, bytes=process.bytes)
        for card in case.cards
        if card.uuid in used
        for process in card.processes or ()
        if process.run_id is None or process.run_id not in case.ours
    ]
    return tuple(sorted(holders, key=lambda holder: -(holder.bytes or 0))[:MAX_HOLDERS])


# --- remedies --------------------------------------------------------------------------------------------------------


def remedies_of(case: _Case, settings: Mapping[str, Scalar]) -> tuple[Remedy, ...]:
    """Changes of settings that make the load fit, each recomputed; in the order in which a person would give things up."""
    load = load_of(case.facts, settings, family=case.family, on_gpu=bool(case.cards) and case.accelerator != "cpu")
    found: list[Remedy] = []

    def fits(change: Mapping[str, Scalar]) -> bool:
        return _verdict(_devices(case, {**settings, **change}), case.limits) is Verdict.FITS

    def offer(title: str, change: dict[str, Scalar]) -> None:
        devices = _devices(case, {**settings, **change})
        cards = [device.likely_bytes for device in devices if device.device != HOST]
        found.append(Remedy(title=title, settings=change, needs_bytes=sum(cards) or devices[-1].likely_bytes))

    def longest_context(change: Mapping[str, Scalar]) -> int | None:
        most = (load.context_tokens - 1) // CONTEXT_STEP_TOKENS
        least = LEAST_CONTEXT_TOKENS // CONTEXT_STEP_TOKENS
        steps = _last(least, most, lambda n: fits({**change, "context_tokens": n * CONTEXT_STEP_TOKENS}))
        return None if steps is None else steps * CONTEXT_STEP_TOKENS

    if (context := longest_context({})) is not None:
        offer(f"Shorten the context to {context:,} tokens", {"context_tokens": context})
    if load.kv_type_k == load.kv_type_v == "f16":
        small: dict[str, Scalar] = {"kv_type_k": "q8_0", "kv_type_v": "q8_0", "flash_attention": "on"}
        if fits(small):
            offer("Keep the KV cache as q8_0", small)
        elif (context := longest_context(small)) is not None:
            offer(
                f"Keep the KV cache as q8_0 and shorten the context to {context:,} tokens",
                {**small, "context_tokens": context},
            )
    off_card: dict[str, Scalar] = {"mmproj_on_gpu": False}
    if load.gpu_layers and any(each.role == "vision" for each in case.companions) and fits(off_card):
        offer("Look at images in main memory instead of on the card", off_card)
    if load.gpu_layers:
        units = len(case.weights.layers)
        if any(case.weights.experts) and case.family != "llama-cpp-python":
            kept = _last(-units, -load.cpu_expert_layers - 1, lambda n: fits({"cpu_expert_layers": -n}))
            if kept is not None:
                offer(f"Keep the experts of {-kept} layers in main memory", {"cpu_expert_layers": -kept})
        layers = _last(1, load.gpu_layers - 1, lambda n: fits({"gpu_layers": n}))
        if layers is not None:
            offer(f"Put {layers} of {units + 1} layers on the card, the rest in main memory", {"gpu_layers": layers})
        elif fits({"gpu_layers": 0}):
            offer("Run on the processor", {"gpu_layers": 0})
    return tuple(found[:MAX_REMEDIES])


def _last(least: int, most: int, holds: Callable[[int], bool]) -> int | None:
    """The largest number from `least` to `most` for which `holds`, which is true up to some point; None when nowhere."""
    if most < least or not holds(least):
        return None
    while least < most:
        middle = (least + most + 1) // 2
        if holds(middle):
            least = middle
        else:
            most = middle - 1
    return least
