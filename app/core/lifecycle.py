"""Defines what a seat can be: its phases, each with only the fields that exist in it, and why a run failed."""

from __future__ import annotations

from typing import Literal

import msgspec

from app.core.memory.plan_types import MemoryPlan, Remedy


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """Where a failure can be seen: the run's log, from the byte where the telling line begins."""

    run_id: str
    log_offset: int
    line: str


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why a run ended or never began, as a sentence and an advice."""

    kind: str  # does_not_fit · out_of_memory · bad_model · port_taken · bad_argument · missing_library · engine_not_installed · load_timeout · no_token · wrong_model · crashed · killed · cancelled
    summary: str
    advice: str = ""
    profile_id: str = ""
    phase: str = ""
    exit_code: int | None = None
    signal: int | None = None
    evidence: Evidence | None = None
    last_lines: tuple[str, ...] = ()
    remedies: tuple[Remedy, ...] = ()
    plan: MemoryPlan | None = None


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where a ready engine answers, for the gateway only."""

    base_url: str  # "http://127.0.0.1:PORT"
    model_name: str  # the name that the engine serves it under
    engine: str  # engine family id
    context_tokens: int | None = None


class AttachedState(msgspec.Struct, frozen=True, kw_only=True):
    """An engine that we did not start: no process of it is known here, so that none can be signalled (I5)."""

    state: Literal["probing", "ready", "unreachable"]
    where: str  # its address; of several the first
    since: float = 0.0  # the daemon's monotonic time in seconds
    reason: str = ""  # a sentence: why it cannot be reached


class _Phase(msgspec.Struct, frozen=True, kw_only=True, tag_field="phase"):
    """`since` is the daemon's monotonic time in seconds."""

    since: float = 0.0


class Idle(_Phase, frozen=True, kw_only=True, tag="idle"):
    pass


class Reserving(_Phase, frozen=True, kw_only=True, tag="reserving"):
    profile_id: str
    run_id: str


class Spawning(_Phase, frozen=True, kw_only=True, tag="spawning"):
    profile_id: str
    run_id: str


class Loading(_Phase, frozen=True, kw_only=True, tag="loading"):
    profile_id: str
    run_id: str
    stage: str = "starting"  # one of STAGE_WORDS, in that order
    progress: float | None = None  # 0..1 over the whole load, None = not known
    eta_seconds: float | None = None


class Ready(_Phase, frozen=True, kw_only=True, tag="ready"):
    profile_id: str
    run_id: str
    endpoint: Endpoint


class Stalled(_Phase, frozen=True, kw_only=True, tag="stalled"):
    """An answer has had its first token and none for a while: shown, never killed for it."""

    profile_id: str
    run_id: str
    endpoint: Endpoint


class Draining(_Phase, frozen=True, kw_only=True, tag="draining"):
    profile_id: str
    run_id: str
    deadline: float


class Parking(_Phase, frozen=True, kw_only=True, tag="parking"):
    """Its answers are given; it is asked to sleep, and its memory is measured until it has come back."""

    profile_id: str
    run_id: str
    level: int  # 1: the weights go to main memory · 2: they are dropped
    deadline: float


class Sleeping(_Phase, frozen=True, kw_only=True, tag="sleeping"):
    """A tier between loaded and unloaded: the process is there, most of its memory is not."""

    profile_id: str
    run_id: str
    level: int
    freed_bytes: int | None = None  # measured, over all cards


class Waking(_Phase, frozen=True, kw_only=True, tag="waking"):
    """Asked to wake; Ready only after a real token, as after a load."""

    profile_id: str
    run_id: str
    deadline: float


class Stopping(_Phase, frozen=True, kw_only=True, tag="stopping"):
    profile_id: str
    run_id: str
    deadline: float


class Killing(_Phase, frozen=True, kw_only=True, tag="killing"):
    profile_id: str
    run_id: str
    deadline: float


class ReleasingVram(_Phase, frozen=True, kw_only=True, tag="releasing_vram"):
    profile_id: str
    run_id: str
    deadline: float


class Backoff(_Phase, frozen=True, kw_only=True, tag="backoff"):
    profile_id: str
    attempt: int
    until: float


class Failed(_Phase, frozen=True, kw_only=True, tag="failed"):
    failure: Failure


class StopFailed(_Phase, frozen=True, kw_only=True, tag="stop_failed"):
    """Processes that would not end; the seat stays taken."""

    profile_id: str
    run_id: str
    processes: tuple[str, ...]  # "pid 4711 llama-server, state D (waiting in nvidia_close)"


Phase = (
    Idle
    | Reserving
    | Spawning
    | Loading
    | Ready
    | Stalled
    | Draining
    | Parking
    | Sleeping
    | Waking
    | Stopping
    | Killing
    | ReleasingVram
    | Backoff
    | Failed
    | StopFailed
)
