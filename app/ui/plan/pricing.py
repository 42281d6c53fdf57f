"""Prices a load in the window itself: the service's own function, over the facts, the live memory and the limits that it told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from app.core.memory.advice import LLAMA, VLLM, advice_for
from app.core.memory.elsewhere import NOTHING_NEEDED
from app.core.memory.learning import NOTHING_KNOWN, Knowledge, engine_name
from app.core.memory.plan_types import MemoryPlan, Verdict
from app.core.memory.planner import plan
from app.core.options import Option, Scalar
from app.core.profiles import with_defaults
from app.core.snapshot import Engines, Gpus, InstallationView, ProfileCard
from app.ui.store import Store

HEADROOM_BYTES, HOST_HEADROOM_BYTES, THRESHOLD = int(1.5 * 1024**3), 1024**3, 0.95  # until the service has told its own


class Pricing(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about a load but its settings."""

    card: ProfileCard
    options: tuple[Option, ...]
    accelerator: str
    gpus: Gpus
    limits: dict[str, int | float]
    leaving_bytes: dict[str, int]
    gpu_uuids: tuple[str, ...]  # empty = all
    our_run_ids: frozenset[str]
    engine: str = ""  # the build that would be launched
    knowledge: Knowledge = NOTHING_KNOWN

    def plan(self, settings: Mapping[str, Scalar], solve: bool = True) -> MemoryPlan:
        """Without `solve` it takes less than a millisecond, and tells neither remedies nor the longest context."""
        facts = self.card.facts
        if self.card.plan == NOTHING_NEEDED:
            return NOTHING_NEEDED
        found = plan(
            facts,
            with_defaults(self.options, settings),
            family=self.card.profile.engine,
            accelerator=self.accelerator,
            gpus=self.gpus,
            headroom_bytes=int(self.limits.get("headroom_bytes", HEADROOM_BYTES)),
            host_headroom_bytes=int(self.limits.get("host_headroom_bytes", HOST_HEADROOM_BYTES)),
            threshold=float(self.limits.get("threshold", THRESHOLD)),
            leaving_bytes=self.leaving_bytes,
            our_run_ids=self.our_run_ids,
            gpu_uuids=self.gpu_uuids,
            companions=self.card.companions,
            solve=solve,
            engine=self.engine,
            knowledge=self.knowledge,
        )
        if facts is None or found.verdict is Verdict.UNKNOWN:
            return found
        engine = LLAMA if facts.format == "gguf" else VLLM
        return msgspec.structs.replace(
            found, advice=advice_for(facts, {engine: found}, {}, has_card=bool(self.gpus.gpus))
        )


def pricing_of(
    store: Store, card: ProfileCard, options: Sequence[Option], gpus_instead: tuple[str, ...] = ()
) -> Pricing:
    """As things are now; what the profile's own seat holds counts as given back. `gpus_instead` stand for its own cards."""
    gpus = store.gpus
    run = store.seat(card.profile.seat).run
    leaving = {}
    if run is not None and run.ended_at_unix is None:
        leaving = run.measured_bytes | held_by(run.id, gpus)
    told = store.service.settings.get("memory")
    limits = (
        {str(key): value for key, value in told.items() if isinstance(value, int | float)}
        if isinstance(told, dict)
        else {}
    )
    return Pricing(
        card=card,
        options=tuple(options),
        accelerator=accelerator_of(store.engines, card, gpus),
        gpus=gpus,
        limits=limits,
        leaving_bytes=leaving,
        gpu_uuids=gpus_instead or card.profile.gpus,
        engine=engine_here(store.engines, card),
        knowledge=store.learnt,
        our_run_ids=frozenset(p.run_id for gpu in gpus.gpus for p in gpu.processes or () if p.run_id),
    )


def held_by(run_id: str, gpus: Gpus) -> dict[str, int]:
    """Card → bytes that this run of ours holds there, where the driver tells by process."""
    return {
        gpu.uuid: sum(p.bytes or 0 for p in gpu.processes if p.run_id == run_id)
        for gpu in gpus.gpus
        if gpu.processes is not None
    }


def accelerator_of(engines: Engines, card: ProfileCard, gpus: Gpus) -> str:
    """What the engine that would be launched was built for; without one, what suits this machine."""
    chosen = _chosen(engines, card)
    takes_what_is_there = card.profile.engine == "ollama"  # and does not say so beforehand
    if chosen is not None and not (takes_what_is_there and gpus.gpus):
        return chosen.accelerator
    return "cuda" if gpus.gpus else "cpu"


def engine_here(engines: Engines, card: ProfileCard) -> str:
    """The engine build that would be launched, as what is learnt names it."""
    chosen = _chosen(engines, card)
    return engine_name(chosen.family, chosen.build, chosen.version) if chosen is not None else ""


def _chosen(engines: Engines, card: ProfileCard) -> InstallationView | None:
    profile = card.profile
    installed: tuple[InstallationView, ...] = next(
        (family.installations for family in engines.families if family.family == profile.engine), ()
    )
    pinned = (one for one in installed if profile.installation and profile.installation in (one.id, one.path))
    return next(pinned, next((one for one in installed if one.chosen), None))
