"""Defines the seat's whole state, the events that it can hear of, and the effects that it can ask for."""

from __future__ import annotations

from typing import Literal

import msgspec

from app.core.lifecycle import Endpoint, Failure, Idle, Phase
from app.core.memory.plan_types import MemoryPlan
from app.core.options import Scalar

# --- what is wanted, and the seat's whole state ----------------------------------------------------------------------


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A load that somebody asked for. Two equal values mean the same load."""

    profile_id: str
    settings: dict[str, Scalar] = {}
    override: bool = False
    as_run: str = ""  # the profile as it was in this earlier run, in place of what it is now
    gpus: tuple[str, ...] = ()  # the cards by UUID, in place of the profile's own


class Resting(msgspec.Struct, frozen=True, kw_only=True):
    """Why what is wanted is not loaded, and what brings it back: a request (idle, parked), the time or the person (lent), or
    room for it (memory), which is looked for at `until`. Monotonic seconds; `until_unix` is the same moment for a clock
    on the wall."""

    reason: Literal["idle", "parked", "lent", "memory"]
    until: float | None = None
    until_unix: float | None = None


class SeatState(msgspec.Struct, frozen=True, kw_only=True):
    """All that decides a seat's future. `serving` is what the present run was launched for; `ending` is why it ends."""

    phase: Phase = Idle()
    wanted: Wanted | None = None
    asked: int = 0  # the number of the wish that this came of
    fallbacks: tuple[Wanted, ...] = ()  # what is loaded, in this order, when `wanted` cannot be
    resting: Resting | None = None  # `wanted` is to be away, or on its way there
    parking: int = 0  # the level at which it is to sleep while it rests; 0 = it is unloaded
    returning: bool = False  # the present load is one that comes back from its rest
    in_use: bool = False  # a request is in flight or waits
    idle_since: float = 0.0  # when the last one ended
    serving: Wanted | None = None
    endpoint: Endpoint | None = None
    previous: Wanted | None = None  # the last one that was Ready: what a cancel offers
    port_attempts: int = 0  # loads lost to somebody who took the port first
    rollback_to: Wanted | None = None  # what a failed switch puts back, once
    ending: Failure | None = None
    crashed: bool = False  # the present end was not asked for and came after Ready
    crashes: tuple[float, ...] = ()  # when; only those of the last ten minutes count
    heard_at: float = 0.0  # last sign of life of a load
    load_began_at: float = 0.0
    ready_since: float = 0.0
    runs_begun: int = 0
    run_prefix: str = "run"
    last_failure: Failure | None = None
    notice: str = ""


class Budgets(msgspec.Struct, frozen=True, kw_only=True):
    """The named time budget of each phase, in seconds (I12)."""

    reserve_seconds: float = 30
    spawn_seconds: float = 30
    drain_seconds: float = 30
    stop_grace_seconds: float = 10
    kill_seconds: float = 10
    load_stall_seconds: float = 300
    load_limit_seconds: float = 3_600
    vram_return_seconds: float = 15
    restarts: int = 3
    restart_window_seconds: float = 600
    backoff_seconds: float = 1
    park_seconds: float = 60
    wake_seconds: float = 120
    idle_unload_seconds: float = 0  # of what is loaded now; 0 = never
    idle_parking: int = 0  # the level at which an idle model sleeps; 0 = it is unloaded
    room_seconds: float = 5  # between two looks whether there is room for what could not come back


# --- events ----------------------------------------------------------------------------------------------------------


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """Something that could be loaded. `plan` is priced with the leaving model credited, None = not priced; `failure` says
    why it cannot be loaded whatever the memory: no engine, no file."""

    wanted: Wanted
    plan: MemoryPlan | None = None
    failure: Failure | None = None


class Want(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody wants the first of the choices that can be loaded (the others are its fallbacks), or nothing.

    `number` counts the wishes as they were uttered: to price one takes its time, and the last word counts. What nobody said
    now, as a wish of before the service's end, is 0.
    """

    choices: tuple[Choice, ...] = ()
    number: int = 0


def want(wanted: Wanted | None, plan: MemoryPlan | None = None) -> Want:
    return Want(choices=(Choice(wanted=wanted, plan=plan),) if wanted is not None else ())


class Lend(msgspec.Struct, frozen=True):
    """Somebody needs the card until then; what is wanted now comes back after it."""

    until: float
    until_unix: float


class Park(msgspec.Struct, frozen=True):
    """Somebody wants the memory back and the model soon again: it sleeps at that level, 0 = it is unloaded; a request
    brings it back."""

    level: int


class Parked(msgspec.Struct, frozen=True):
    """Measured: it sleeps and its memory is back."""

    run_id: str
    freed_bytes: int | None = None


class ParkFailed(msgspec.Struct, frozen=True):
    """It does not sleep, so it is unloaded; `why` is what a person should know of it."""

    run_id: str
    why: str


class WakeFailed(msgspec.Struct, frozen=True):
    run_id: str
    why: str


class GiveBack(msgspec.Struct, frozen=True):
    """What rests shall come back now."""


class Rest(msgspec.Struct, frozen=True):
    """What rested when the daemon ended goes on resting."""

    wanted: Wanted
    resting: Resting


class InUse(msgspec.Struct, frozen=True):
    """A first request has come to the seat, or its last one is over."""

    busy: bool


class Room(msgspec.Struct, frozen=True):
    """The answer to LookForRoom."""

    wanted: Wanted
    plan: MemoryPlan


class Restart(msgspec.Struct, frozen=True):
    pass


class Admitted(msgspec.Struct, frozen=True):
    run_id: str


class NotAdmitted(msgspec.Struct, frozen=True):
    run_id: str
    failure: Failure


class Spawned(msgspec.Struct, frozen=True):
    run_id: str


class SpawnFailed(msgspec.Struct, frozen=True):
    run_id: str
    failure: Failure


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """A sign of life while loading; `stage` when a log line named one."""

    run_id: str
    stage: str | None = None
    progress: float | None = None
    eta_seconds: float | None = None


class Answered(msgspec.Struct, frozen=True):
    """The engine owns its port, is the model we mean, and has generated one real token."""

    run_id: str
    endpoint: Endpoint


class LoadFailed(msgspec.Struct, frozen=True):
    """The load cannot succeed although a process may still be there."""

    run_id: str
    failure: Failure


class Exited(msgspec.Struct, frozen=True):
    """The engine's first process has ended although nobody asked it to; others of the run may still be there."""

    run_id: str
    failure: Failure


class Ended(msgspec.Struct, frozen=True):
    """No process of the run is left. `failure` says why, as far as it was not asked for."""

    run_id: str
    failure: Failure | None = None


class Survived(msgspec.Struct, frozen=True):
    run_id: str
    processes: tuple[str, ...]


class Drained(msgspec.Struct, frozen=True):
    run_id: str


class Quiet(msgspec.Struct, frozen=True):
    """An answer has had its first token and none since for longer than the stall budget."""

    run_id: str


class Flowing(msgspec.Struct, frozen=True):
    run_id: str


class Released(msgspec.Struct, frozen=True):
    """Measured: the memory is back; or it is not, and `held` says who holds it."""

    run_id: str
    held: str = ""


class Suspended(msgspec.Struct, frozen=True):
    """The machine has slept for so long: monotonic time stood still, and what was promised by the clock on the wall did not."""

    seconds: float


class Tick(msgspec.Struct, frozen=True):
    pass


Event = (
    Want
    | Lend
    | Park
    | Parked
    | ParkFailed
    | WakeFailed
    | GiveBack
    | Rest
    | InUse
    | Room
    | Restart
    | Admitted
    | NotAdmitted
    | Spawned
    | SpawnFailed
    | Heard
    | Answered
    | LoadFailed
    | Exited
    | Ended
    | Survived
    | Drained
    | Quiet
    | Flowing
    | Released
    | Suspended
    | Tick
)


# --- effects ---------------------------------------------------------------------------------------------------------


class Refuse(msgspec.Struct, frozen=True):
    """Tell the caller no; nothing was stopped."""

    failure: Failure


class Reserve(msgspec.Struct, frozen=True):
    """Check the memory against a fresh sample → Admitted | NotAdmitted."""

    run_id: str
    wanted: Wanted


class LookForRoom(msgspec.Struct, frozen=True):
    """Price it against the memory now → Room."""

    wanted: Wanted


class Spawn(msgspec.Struct, frozen=True):
    """→ Spawned | SpawnFailed, then Heard…, Answered | LoadFailed, and Ended once no process is left."""

    run_id: str
    wanted: Wanted


class AwaitDrain(msgspec.Struct, frozen=True):
    """→ Drained when no request is in flight to the run."""

    run_id: str


class CutStreams(msgspec.Struct, frozen=True):
    """End what is still being answered with an explicit error."""

    run_id: str


class ParkEngine(msgspec.Struct, frozen=True):
    """Ask it to sleep, measure → Parked | ParkFailed."""

    run_id: str
    level: int


class WakeEngine(msgspec.Struct, frozen=True):
    """Check the memory, ask it to wake, have it answer → Answered | WakeFailed."""

    run_id: str


class Stop(msgspec.Struct, frozen=True):
    """TERM, grace, KILL → Ended | Survived."""

    run_id: str


class Kill(msgspec.Struct, frozen=True):
    """KILL now → Ended | Survived."""

    run_id: str


class Inspect(msgspec.Struct, frozen=True):
    """Look which processes of the run are left → Ended | Survived."""

    run_id: str


class AwaitRelease(msgspec.Struct, frozen=True):
    """→ Released when measured memory is back, or with the holder's name when the budget is over."""

    run_id: str


Effect = (
    Refuse
    | Reserve
    | LookForRoom
    | Spawn
    | AwaitDrain
    | CutStreams
    | ParkEngine
    | WakeEngine
    | Stop
    | Kill
    | Inspect
    | AwaitRelease
)
Step = tuple[SeatState, tuple[Effect, ...]]
