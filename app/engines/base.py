"""Defines the engine family: what the supervisor, the gateway and the forms ask of an engine, all as values.

Who calls: the daemon's supervisor asks `command` once per launch (and the CLI's `command` verb without launching),
feeds each new log line to `stage_of`, probes by `readiness`, and hands the log's end to the diagnosis with `failures`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec

from app.core.catalog.facts import ModelFacts
from app.core.diagnosis.pattern import FailurePattern as FailurePattern
from app.core.options import Option, Preset, Scalar
from app.core.profiles import Profile


class Installation(msgspec.Struct, frozen=True, kw_only=True):
    """An installed engine: `executable` is a binary, or the interpreter that has the package."""

    family: str
    executable: str
    build: str = ""
    accelerator: str = "cpu"  # cpu · cuda · rocm · vulkan · metal
    id: str = ""  # what a pin names; see InstallationView
    version: str = ""
    source: str = "path"
    devices: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    library_folder: str = ""  # shared libraries that a Python binding is to load, when they are not its own
    client: str = ""  # of an image: the container engine's own program, and `executable` is the image's name
    fingerprint: str = ""  # what tells this build from another when it is no file of this machine: an image's id
    problem: str = ""
    note: str = ""

    @property
    def is_address(self) -> bool:
        """Nothing to start: it runs already, here or elsewhere, and is asked over HTTP."""
        return "://" in self.executable


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that decides an engine's command line."""

    profile: Profile
    model_path: str
    installation: Installation
    port: int
    run_id: str
    model_name: str  # the name under which the engine shall serve the model; identity is checked by it
    facts: ModelFacts | None = None
    gpu_uuids: tuple[str, ...] = ()  # the cards to use; empty on a machine without
    physical_cores: int = 1
    api_key: str = ""  # given by environment or file, never in argv
    usable_bytes: dict[str, int] = {}  # free now less the headroom, by card's uuid or "host"; empty = not known
    total_bytes: dict[str, int] = {}  # by card's uuid
    host: str = "127.0.0.1"
    owner: str = ""  # which Engine Room launches it, for what outlives every process of ours (a container's label)


class Container(msgspec.Struct, frozen=True, kw_only=True):
    """A container as its own engine knows it: the part of a run that is no process below us."""

    client: str  # the container engine's program
    name: str
    run_id: str
    owner: str

    @property
    def end_argv(self) -> tuple[str, ...]:
        return (self.client, "kill", self.name)


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """A command line as a value. `environment` is what we add; `scrub` are patterns of inherited names to drop."""

    argv: tuple[str, ...]
    environment: dict[str, str]
    scrub: tuple[str, ...] = ()  # fnmatch patterns, e.g. "LLAMA_*"
    secrets: tuple[str, ...] = ()  # values to mask wherever they appear
    path_folders: tuple[str, ...] = ()  # before the inherited PATH: programs of the engine's own environment
    container: Container | None = None  # what the command line starts, when that is more than its own processes
    withheld: tuple[str, ...] = ()  # variables of the profile that are the engine's alone, not of what starts it


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """How to see that an engine can be asked. `health_path` answers 200 when loaded and must never disturb a stream.

    `models_path` is asked once before Ready (identity: `model_name` must be listed). Then one token is generated.
    """

    health_path: str
    models_path: str = "/v1/models"
    generate_path: str = "/v1/chat/completions"


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """The request whose answer makes a launch Ready. Without `path`, one token of chat at the family's generate path."""

    path: str = ""
    body: dict[str, object] = {}


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """News of a load, read from one log line. `progress` is 0..1 over the whole load, None when unknown."""

    name: str
    progress: float | None = None


class Traits(msgspec.Struct, frozen=True, kw_only=True):
    """How the gateway must treat an engine of this family."""

    concurrency: int | None = None  # at most so many requests at once; None = the gateway's own limit
    always_stream: bool = False  # upstream is asked to stream even when the client did not, so that cancel works
    empty_stream_is_error: bool = False
    metrics_path: str | None = None
    counters: dict[str, str] = {}  # our name → the engine's metric name; see COUNTERS
    # the gateway's path → the engine's, where they differ ("/v1/tokenize" → "/extras/tokenize")
    paths: dict[str, str] = {}
    # the gateway's path → names in a body that the engine knows by another name: {"/v1/tokenize": {"input": "content"}}
    renames: dict[str, dict[str, str]] = {}
    structured_outputs: bool = False  # old `guided_*` names of a request are said by its current ones
    model_by_name: bool = (
        False  # a profile's model is the engine's name for it, and no file; a request is sent under it
    )
    ollama_options: dict[str, str] = {}  # option of an Ollama client → the engine's name, "" = left out
    slots_path: str | None = None  # tells how full the KV cache is; see `kv_cache_usage`


class Outlet(msgspec.Struct, frozen=True, kw_only=True):
    """One address of a model that runs elsewhere, for the gateway only: `headers` hold its key."""

    base_url: str  # without a slash at its end
    strip: str = ""  # what of the gateway's path the address holds already ("/v1")
    query: str = ""  # added to each request ("api-version=…")
    headers: dict[str, str] = {}
    ca_file: str = ""  # trusted instead of the system's authorities

    def url(self, path: str, query: str = "") -> str:
        """Where a request for the gateway's `path` (and its `query` with the `?`) goes."""
        more = query.removeprefix("?")
        whole = "&".join(part for part in (self.query, more) if part)
        return self.base_url + path.removeprefix(self.strip) + (f"?{whole}" if whole else "")


# The same names for all engines: what a page may show, whatever runs.
COUNTERS = (
    "prompt_tokens_total",
    "generation_tokens_total",
    "prompt_tokens_per_second",
    "generation_tokens_per_second",
    "requests_running",
    "requests_waiting",
    "kv_cache_usage",
)


class EngineFamily(Protocol):
    id: str
    title: str
    options: tuple[Option, ...]
    readiness: Readiness
    traits: Traits
    failures: tuple[FailurePattern, ...]
    presets: tuple[Preset, ...]

    def effective_settings(self, launch: Launch) -> dict[str, Scalar]:
        """The settings of a launch as they count: the profile's over our defaults, completed by what the machine decides."""
        ...

    def command(self, launch: Launch) -> Command:
        """The exact argv and environment; raises SettingInvalid when a setting cannot be said to this engine."""
        ...

    def trial(self, launch: Launch) -> Trial:
        """The request that proves that this launch works, by what it serves (chat, embeddings, reranking)."""
        ...

    def kv_cache_usage(self, slots: object) -> float | None:
        """Share of the KV cache in use (0..1) from the answer at `traits.slots_path`; None when it does not say."""
        ...

    def stage_of(self, line: str) -> Stage | None:
        """What a log line says of the load's progress; None for all other lines."""
        ...

    def served_context(self, health: Mapping[str, object], models: Mapping[str, object]) -> int | None:
        """The context that the engine really serves, from its own answers; None when it does not say."""
        ...

    def how_to_get(self) -> str:
        """One sentence for a person who lacks this engine."""
        ...
