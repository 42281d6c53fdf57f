"""Decides whether a load fits: needs against live memory, per device, with numbers, the holders' names and remedies."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from app.core.catalog.facts import Companion, ModelFacts
from app.core.memory.admission import HOST, Ledger, Limits, card_plan, host_plan, room_of, verdict_of
from app.core.memory.case import Change, Evaluated, Family, Placed, Room
from app.core.memory.closing import closings_of, holders_of
from app.core.memory.learning import NOTHING_KNOWN, Knowledge, corrected, model_key, subject_of
from app.core.memory.llama_plan import LlamaPlan
from app.core.memory.load import FLASH_BY_DEFAULT, build_number
from app.core.memory.plan_types import DevicePlan, MemoryPlan, Speed, Verdict
from app.core.memory.remedies import longest_context, remedies_of
from app.core.memory.speed import speed_of
from app.core.memory.vllm_plan import VLLM_FAMILIES, vllm_family
from app.core.memory.words import gib, summary_of
from app.core.options import Scalar

if TYPE_CHECKING:  # the snapshot imports our types
    from app.core.snapshot import Gpus, GpuSample


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
    engine_build: int | None = None,
    solve: bool = False,
    engine: str = "",
    knowledge: Knowledge = NOTHING_KNOWN,
) -> MemoryPlan:
    """The plan of loading `facts` with `settings` (the engine's defaults merged in) now.

    `accelerator` is what the engine was built for ("cpu", "cuda", …). `leaving_bytes` credits, per device (uuid or "host"),
    what the model about to leave holds. `gpu_uuids` limits the cards, in the order in which the engine sees them. `companions`
    are loaded beside the model. `engine_build` is llama.cpp's number, where it changed the graph (None: what `engine` says,
    else a current one). `solve`: also look for remedies and the longest context, which are many prices in place of one.
    `knowledge` is what launches and dry runs have taught of `engine` (family and build; "" = not known which), by whose
    version vLLM's defaults and formulas change. Never raises: what cannot be known is UNKNOWN.
    """
    host_usable = None if gpus.host is None else gpus.host.available_bytes + (leaving_bytes or {}).get(HOST, 0)
    branch = _branch(
        facts,
        family,
        accelerator,
        companions,
        None if host_usable is None else host_usable - host_headroom_bytes,
        build_number(engine) if engine_build is None else engine_build,
        engine,
    )
    if isinstance(branch, str):
        return MemoryPlan(verdict=Verdict.UNKNOWN, devices=(), summary=branch)
    ledger = Ledger(
        limits=Limits(headroom_bytes=headroom_bytes, host_headroom_bytes=host_headroom_bytes, threshold=threshold),
        leaving=leaving_bytes or {},
        ours=our_run_ids,
    )
    case = _Case(branch, settings, gpus, gpu_uuids, ledger)
    if facts is not None and engine:
        case.know(
            knowledge,
            engine,
            lambda settings, rooms: subject_of(
                facts,
                settings,
                family=family,
                engine=engine,
                accelerator=accelerator,
                rooms=rooms,
                companions=companions,
            ),
            knowledge.is_about(model_key(facts, engine)),
        )
    if accelerator != "cpu" and not case.rooms and gpus.driver.value != "absent" and settings.get("gpu_layers") != 0:
        why = gpus.message or "the driver has not answered yet."
        return MemoryPlan(
            verdict=Verdict.UNKNOWN,
            devices=(),
            summary=f"The graphics card's free memory is not known: {why}",
        )
    found = case.evaluated(Change())
    refused = found.verdict in (Verdict.TIGHT, Verdict.DOES_NOT_FIT)
    holders = holders_of(found.devices, [room.card for room in case.rooms], our_run_ids)
    closings = closings_of(found.devices, holders) if refused else ()
    remedies = remedies_of(case) if solve and refused else ()
    return MemoryPlan(
        verdict=found.verdict,
        devices=found.devices,
        summary=found.placed.refusal or summary_of(found.verdict, found.devices, closings, holders),
        remedies=remedies,
        holders=holders,
        longest_context_tokens=longest_context(case, remedies)
        if solve and found.verdict is not Verdict.UNKNOWN
        else None,
        context_tokens=found.placed.context_tokens,
        closings=closings,
        notes=found.placed.notes,
        speed=speed_of(branch.reads(settings, case.rooms), [room.card for room in case.rooms], gpus.host),
        subject=case.subject,
    )


def speed_with(
    facts: ModelFacts,
    settings: Mapping[str, Scalar],
    family: str,
    accelerator: str,
    gpus: Gpus,
    gpu_uuids: Collection[str],
    conversations: int,
) -> Speed | None:
    """Tokens per second of so many conversations together; None where there is no formula, or a memory's speed is unknown."""
    branch = _branch(facts, family, accelerator, ())
    if isinstance(branch, str):
        return None
    limits = Limits(headroom_bytes=0, host_headroom_bytes=0, threshold=1.0)
    rooms = _Case(branch, settings, gpus, gpu_uuids, Ledger(limits=limits, leaving={}, ours=())).rooms
    return speed_of(branch.reads(settings, rooms), [room.card for room in rooms], gpus.host, conversations)


def _branch(
    facts: ModelFacts | None,
    family: str,
    accelerator: str,
    companions: Sequence[Companion],
    host_usable_bytes: int | None = None,
    engine_build: int | None = None,
    engine: str = "",
) -> Family | str:
    """The formulas for this model on this engine, or the sentence that says why there are none."""
    if facts is None:
        return "What this model needs is not known: its file was not read."
    if family in VLLM_FAMILIES:
        return vllm_family(facts, family, accelerator, host_usable_bytes, engine)
    if facts.format != "gguf" or family not in FLASH_BY_DEFAULT:
        return f"What this model needs is not known: there is no formula for {family} yet."
    untold_state = facts.recurrent_state_bytes is None and any(facts.graph.state_layers)
    if untold_state or not facts.layers or not facts.kv_heads or (any(facts.kv_heads) and not facts.key_length):
        return (
            f"What this model needs beyond its weights of {gib(facts.weights_bytes)} is not known: "
            f"its file does not describe the architecture {facts.architecture} fully."
        )
    return LlamaPlan(facts, family, accelerator, companions, engine_build)


class _Case:
    """A load against the memory of one moment; what was evaluated once is remembered."""

    def __init__(
        self, family: Family, settings: Mapping[str, Scalar], gpus: Gpus, wanted: Collection[str], ledger: Ledger
    ) -> None:
        self.family = family
        self._settings = settings
        self._gpus = gpus
        self._ledger = ledger
        self.rooms = self._rooms(wanted)
        self._known: dict[tuple[object, ...], Evaluated] = {}
        self._knowledge, self._engine, self._named = NOTHING_KNOWN, "", False
        self._subject_of: Callable[[Mapping[str, Scalar], Sequence[Room]], str] = lambda _settings, _rooms: ""

    def know(
        self,
        knowledge: Knowledge,
        engine: str,
        subject_of: Callable[[Mapping[str, Scalar], Sequence[Room]], str],
        named: bool,
    ) -> None:
        """`named`: there is something about this model, so that each trial's subject is worth working out."""
        self._knowledge, self._engine, self._subject_of, self._named = knowledge, engine, subject_of, named

    @property
    def subject(self) -> str:
        return self._subject_of(self._settings, self.rooms)

    @property
    def all_rooms(self) -> Sequence[Room]:
        return self._rooms(())

    def settings_with(self, change: Change) -> Mapping[str, Scalar]:
        return {**self._settings, **change.settings} if change.settings else self._settings

    def rooms_with(self, change: Change) -> Sequence[Room]:
        return self._rooms(change.gpus) if change.gpus else self.rooms

    def evaluated(self, change: Change) -> Evaluated:
        key = (change.gpus, *sorted(change.settings.items()))
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._evaluate(change)
        return found

    def _evaluate(self, change: Change) -> Evaluated:
        rooms = self.rooms_with(change)
        settings = self.settings_with(change)
        placed = self.family.placed(settings, rooms)
        if self._named or self._knowledge.offsets:
            subject = self._subject_of(settings, rooms) if self._named else ""
            placed = corrected(placed, [room.card.uuid for room in rooms], self._knowledge, subject, self._engine)
        devices = self._devices(placed, rooms)
        verdict = verdict_of(devices, self._ledger.limits)
        if placed.refusal and verdict is not Verdict.UNKNOWN:
            verdict = Verdict.DOES_NOT_FIT
        return Evaluated(placed=placed, devices=devices, verdict=verdict)

    def _devices(self, placed: Placed, rooms: Sequence[Room]) -> tuple[DevicePlan, ...]:
        host = self._gpus.host
        plans = [
            card_plan(need, room.card, self._ledger)
            for need, room in zip(placed.cards, rooms, strict=True)
            if need is not None
        ]
        if host is not None or not plans:  # unknown main memory does not matter when a card carries the load
            plans.append(host_plan(placed.host, host, self._ledger))
        return tuple(plans)

    def _rooms(self, wanted: Collection[str]) -> tuple[Room, ...]:
        return tuple(
            Room(
                card=card,
                credit_bytes=self._ledger.leaving.get(card.uuid, 0),
                available_bytes=room_of(card, self._ledger),
                is_named=bool(wanted),
            )
            for card in _cards(self._gpus, wanted)
        )


def _cards(gpus: Gpus, wanted: Collection[str]) -> tuple[GpuSample, ...]:
    """The cards to load onto, in the order in which they are wanted; a card that is divided (MIG) is none itself."""
    if wanted:
        known = {card.uuid: card for card in gpus.gpus}
        return tuple(known[uuid] for uuid in dict.fromkeys(wanted) if uuid in known)
    divided = {card.mig_parent for card in gpus.gpus if card.mig_parent}
    return tuple(card for card in gpus.gpus if card.uuid not in divided)


__all__ = ["HOST", "plan"]
