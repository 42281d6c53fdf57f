"""Defines what the world may know: the named slices, always whole, and their JSON form (daemon and window both import this)."""

from __future__ import annotations

import enum

import msgspec

from app.core.catalog.facts import Companion, ModelFacts
from app.core.lifecycle import AttachedState, Failure, Idle, Phase
from app.core.memory.learning import Knowledge
from app.core.memory.plan_types import MemoryPlan
from app.core.profiles import Profile
from app.core.values import from_json as from_json
from app.core.values import to_json as to_json

API_VERSION = 1


class Hello(msgspec.Struct, frozen=True, kw_only=True):
    """The first thing a client asks; `api` must equal API_VERSION, else the client says which side to update."""

    product: str
    version: str
    api: int
    pid: int
    started_at: float  # monotonic seconds of the daemon
    state_folder: str
    started: bool = True  # False while leftovers are ended and the library is read for the first time


# --- seats -----------------------------------------------------------------------------------------------------------


class RunView(msgspec.Struct, frozen=True, kw_only=True):
    """A run as shown: what was launched, how it went. Paths are the daemon's machine's."""

    id: str
    profile_id: str
    title: str
    engine: str
    engine_build: str
    argv: tuple[str, ...]
    environment: dict[str, str]  # only what we set; secrets masked
    log_path: str
    started_at_unix: float
    seat: str = "main"
    ended_at_unix: float | None = None
    ready_seconds: float | None = None
    pid: int | None = None
    port: int | None = None
    outcome: str = "running"  # running · stopped · failed · leftover
    failure: Failure | None = None
    plan: MemoryPlan | None = None
    measured_bytes: dict[str, int] = {}  # device → bytes after ready
    wake_seconds: float | None = None  # of the last time that it was woken
    notice: str = ""  # what was seen of it that should not be: "Cards that were not selected were used: …"


class SeatView(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    wanted: str | None = None  # profile id
    phase: Phase = Idle()
    run: RunView | None = None
    previous: str | None = None  # profile that a failure would put back, or that a cancel offers
    notice: str = ""  # "demo-long did not start; demo is back with its settings"
    last_failure: Failure | None = None  # why the wanted model is not there, kept after a rollback until the next want
    lent_until_unix: float | None = None  # the card is lent: `wanted` comes back then
    outdated: bool = False  # its profile was changed since it was loaded: restart to apply
    idle_unload_at_unix: float | None = None  # set only while nobody asks anything and an idle policy holds
    attached: AttachedState | None = None  # the engine is not ours: it is asked for things, never ended
    resting: str = ""  # why `wanted` is away: idle (a request brings it back) · lent (the time) · memory (room)


class Seats(msgspec.Struct, frozen=True, kw_only=True):
    seats: tuple[SeatView, ...] = ()


# --- gpus ------------------------------------------------------------------------------------------------------------


class DriverState(enum.Enum):
    STARTING = "starting"
    OK = "ok"
    ABSENT = "absent"  # no NVIDIA driver on this machine
    BROKEN = "broken"  # it answers with errors
    HUNG = "hung"  # a call has not come back


class GpuProcess(msgspec.Struct, frozen=True, kw_only=True):
    pid: int
    name: str
    bytes: int | None
    run_id: str | None = None  # set when the process belongs to an engine of ours


class GpuSample(msgspec.Struct, frozen=True, kw_only=True):
    """One card (or MIG slice) at one moment. Unknown or unsupported is None."""

    uuid: str
    index: int
    name: str
    total_bytes: int | None
    used_bytes: int | None
    free_bytes: int | None
    reserved_bytes: int | None = None  # kept by the driver itself: used + free + reserved = total where it is told
    processes: tuple[GpuProcess, ...] | None = None
    utilisation: float | None = None  # 0..1
    power_watts: float | None = None
    power_limit_watts: float | None = None
    temperature_celsius: float | None = None
    sm_clock_mhz: int | None = None
    memory_clock_mhz: int | None = None
    throttle_reasons: tuple[str, ...] | None = None
    mig_parent: str | None = None


class HostSample(msgspec.Struct, frozen=True, kw_only=True):
    total_bytes: int
    available_bytes: int
    cpu_utilisation: float | None = None
    engine_bytes: int | None = None  # resident memory of our engines' processes
    taken_at: float = 0.0  # monotonic seconds: stays young while the GPU figures age because the driver hangs
    bandwidth_bytes_per_second: float | None = None  # of main memory, measured once; None until somebody needs it


class Gpus(msgspec.Struct, frozen=True, kw_only=True):
    driver: DriverState = DriverState.STARTING
    message: str = ""  # a sentence when the driver is not OK
    driver_version: str | None = None
    gpus: tuple[GpuSample, ...] = ()
    host: HostSample | None = None
    taken_at: float = 0.0  # monotonic seconds when the GPU figures were asked for; old while HUNG; 0 = never


# --- traffic ---------------------------------------------------------------------------------------------------------


class RequestView(msgspec.Struct, frozen=True, kw_only=True):
    """One finished request, without its content."""

    id: str
    path: str
    status: int
    model: str
    started_at_unix: float
    first_token_seconds: float | None
    duration_seconds: float
    prompt_tokens: int | None
    completion_tokens: int | None
    tokens_per_second: float | None
    outcome: str  # answered · cancelled · failed · refused


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    in_flight: int = 0
    queued: int = 0
    generation_tokens_per_second: float = 0.0  # over the last second
    prompt_tokens_per_second: float | None = None
    first_token_seconds: float | None = None  # of the last answer
    kv_cache_usage: float | None = None  # 0..1
    requests_total: int = 0
    failed_total: int = 0
    cancelled_total: int = 0
    completion_tokens_total: int = 0
    prompt_tokens_total: int = 0
    recent: tuple[RequestView, ...] = ()  # newest first, at most 20


# --- library, runs, jobs, service ------------------------------------------------------------------------------------


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Something that cannot be used, said so that a person can mend it."""

    where: str
    summary: str
    advice: str = ""


class ProfileCard(msgspec.Struct, frozen=True, kw_only=True):
    """A profile with all that is needed to show and price it."""

    profile: Profile
    facts: ModelFacts | None
    model_path: str
    available: bool  # the model file is there and readable
    engine_available: bool
    problem: Problem | None = None
    plan: MemoryPlan | None = None  # against the memory of the moment it was priced
    warning: str = ""  # it can be loaded, but something in it may not be what was meant
    store: str = ""  # the program in whose store the model lies: "Ollama", …; "" = the person's own folders
    companions: tuple[Companion, ...] = ()  # what is loaded beside the model, so that a window can price it too


class ModelFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file that is loaded beside a model."""

    role: str  # "vision" | "draft" | "lora"
    path: str
    disk_bytes: int


class ModelVariant(msgspec.Struct, frozen=True, kw_only=True):
    """One form of a model: a quantisation as a file, a folder, a download that is not whole."""

    title: str
    format: str = ""  # "gguf" | "safetensors"; "" = not known yet
    quantisation: str = ""
    paths: tuple[str, ...]  # every place of the same content, the one that is loaded first
    sources: tuple[str, ...] = ()  # "folder" | "huggingface" | "llama.cpp" | "ollama" | "lmstudio"
    profile_ids: tuple[str, ...] = ()  # the cards that load it
    disk_bytes: int = 0
    incomplete: str = ""  # a sentence: what is not here yet


class ModelGroup(msgspec.Struct, frozen=True, kw_only=True):
    """One model with all that is here of it. `disk_bytes` counts each file once, however many names it has."""

    name: str
    variants: tuple[ModelVariant, ...]
    companions: tuple[ModelFile, ...] = ()
    disk_bytes: int = 0


class Library(msgspec.Struct, frozen=True, kw_only=True):
    profiles: tuple[ProfileCard, ...] = ()
    problems: tuple[Problem, ...] = ()
    folders: tuple[str, ...] = ()
    models: tuple[ModelGroup, ...] = ()
    unread: int = 0  # models that were found and are still being read

    @property
    def being_read(self) -> str:
        """A sentence while models are being read, else ""."""
        if not self.unread:
            return ""
        return "One model is still being read." if self.unread == 1 else f"{self.unread:,} models are still being read."


class Runs(msgspec.Struct, frozen=True, kw_only=True):
    runs: tuple[RunView, ...] = ()  # newest first, bounded


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """Work that takes its time and may be cancelled: an installation, a removal, a canary. Kept for a while when over."""

    id: str
    title: str
    state: str  # running · paused · done · failed · cancelled
    progress: float | None = None  # 0..1
    detail: str = ""  # what it does now, for a person
    error: str = ""
    advice: str = ""
    kind: str = ""  # install · remove · canary · clear · pull · bench
    subject: str = ""  # what it is about: a family, an installation's id, a cache, a model of the hub
    bytes_done: int | None = None
    bytes_total: int | None = None
    steps_done: int | None = None  # of a build
    steps_total: int | None = None
    eta_seconds: float | None = None
    started_at_unix: float = 0.0
    ended_at_unix: float | None = None
    log_path: str = ""  # kept when it failed
    result: dict[str, object] = {}  # of a canary: see CanaryResult in control
    notes: tuple[str, ...] = ()  # sentences that stay true: what was chosen, why one build gave way to another


class Jobs(msgspec.Struct, frozen=True, kw_only=True):
    jobs: tuple[Job, ...] = ()  # newest first


# --- engines ---------------------------------------------------------------------------------------------------------


class InstallationView(msgspec.Struct, frozen=True, kw_only=True):
    """One installed engine. `id` is stable while it stays where it is; a profile or a family pins it by that."""

    id: str
    family: str
    version: str = ""
    build: str = ""  # as the engine calls itself
    accelerator: str = "cpu"
    devices: tuple[str, ...] = ()  # as the engine lists them
    features: tuple[str, ...] = ()  # "metrics", "lora", "mmproj", "draft", …
    source: str = "path"  # ours · path · own · venv · conda · file · variable · docker · ollama
    path: str = ""
    place: str = ""  # the place that the person added, in which it was found; "" = it was found without
    disk_bytes: int | None = None  # only of ours: others are not ours to measure or to remove
    installed_at_unix: float | None = None
    chosen: bool = False  # what a profile without a pin would use now
    in_use: bool = False  # a run of ours executes it
    problem: str = ""  # why it cannot be used: "it needs CPU instructions that this processor lacks"
    note: str = ""  # what a person should know although it can be used: "newer than any that was tried"


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """An engine build that could be installed here."""

    family: str
    version: str
    accelerator: str
    how: str = "wheel"  # wheel · build
    suits: bool = True  # such a device is here
    needs: str = ""
    installed: str = ""  # id of the installation, when it is there already


class EngineView(msgspec.Struct, frozen=True, kw_only=True):
    """An engine family and what is installed of it."""

    family: str
    title: str
    available: bool
    build: str = ""  # of the chosen one
    path: str = ""
    how_to_get: str = ""
    installations: tuple[InstallationView, ...] = ()  # the chosen one first
    pinned: str = ""  # the installation that the person has pinned for the whole family
    offers: tuple[Offer, ...] = ()  # best first


class Engines(msgspec.Struct, frozen=True, kw_only=True):
    families: tuple[EngineView, ...] = ()
    accelerators: tuple[str, ...] = ()  # what is here, best first


class Keys(msgspec.Struct, frozen=True, kw_only=True):
    """The names of the keys that are kept, and where each lies: "keyring" or "file". Their values never travel."""

    keys: dict[str, str] = {}


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """The daemon about itself."""

    version: str = ""
    gateway_url: str = ""  # "http://127.0.0.1:7000/v1"; "" when it could not listen
    gateway_notice: str = ""  # "Port 7000 is held by …; using 7001"
    problems: tuple[Problem, ...] = ()
    settings: dict[str, object] = {}


class History(msgspec.Struct, frozen=True, kw_only=True):
    """Ten minutes of samples, oldest first; fetched on request, never streamed."""

    times: tuple[float, ...] = ()
    series: dict[
        str, tuple[float | None, ...]
    ] = {}  # "gpu:<uuid>:used_bytes", "tokens_per_second", "first_token_seconds", …


SLICES: dict[str, type[msgspec.Struct]] = {
    "seats": Seats,
    "gpus": Gpus,
    "traffic": Traffic,
    "library": Library,
    "runs": Runs,
    "jobs": Jobs,
    "engines": Engines,
    "service": Service,
    "learnt": Knowledge,
    "keys": Keys,
}


def slice_event(name: str, value: msgspec.Struct, sent_at: float) -> bytes:
    """One server-sent event: the slice's name, the daemon's clock as id (so that ages can be told), the whole value."""
    return b"event: %s\nid: %.3f\ndata: %s\n\n" % (name.encode(), sent_at, to_json(value))
