"""Puts into words what a seat goes through and why a load was refused or given up."""

from __future__ import annotations

from app.core.lifecycle import Failure, Loading, Reserving, Spawning
from app.core.memory.plan_types import MemoryPlan

STAGE_WORDS = {
    "starting": "starting the engine",
    "download": "fetching the engine's image",
    "reading": "reading the model file",
    "config": "reading the model's configuration",
    "imports": "starting the engine's processes",
    "weights": "loading the weights",
    "compile": "compiling",
    "kv_cache": "making room for the KV cache",
    "graphs": "capturing graphs",
    "warm_up": "warming up",
    "first_token": "waiting for a first token",
}
STAGES = tuple(STAGE_WORDS)


def does_not_fit(profile_id: str, plan: MemoryPlan, *, refused: bool = False) -> Failure:
    """`refused`: at the door, before anything was stopped."""
    advice = (
        "; or ".join(remedy.title for remedy in plan.remedies[:3])
        or "Close what holds the memory, or choose a smaller model"
    )
    return Failure(
        kind="does_not_fit",
        profile_id=profile_id,
        phase="reserving",
        summary=plan.summary,
        advice=f"{advice}. Nothing was stopped." if refused else f"{advice}.",
        remedies=plan.remedies,
        plan=plan,
    )


def slow(phase: Reserving | Spawning | Loading, what: str) -> Failure:
    return Failure(
        kind="load_timeout",
        profile_id=phase.profile_id,
        phase=type(phase).__name__.lower(),
        summary=f"{phase.profile_id} did not load: {what} took longer than its budget.",
        advice="Look at the log; the budgets are in the settings under supervision.",
    )


def no_progress(phase: Loading, seconds: float) -> Failure:
    return Failure(
        kind="load_timeout",
        profile_id=phase.profile_id,
        phase=phase.stage,
        summary=f"{phase.profile_id} did not load: no sign of progress for {seconds:.0f} s while {STAGE_WORDS[phase.stage]}.",
        advice="Look at the log's last lines; a slow disk may need a larger supervision.load_stall_seconds.",
    )


def no_room_yet(failure: Failure) -> str:
    return f"{failure.profile_id} comes back as soon as there is room for it. {failure.summary}"


def in_its_place(failure: Failure, other: str) -> str:
    return f"{failure.profile_id} could not be loaded: {failure.summary} Its fallback {other} is loaded in its place."
