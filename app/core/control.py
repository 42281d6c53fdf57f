"""Defines the control API: every call on the daemon's Unix socket, with the values that it takes and gives (version 1).

All bodies are JSON. A refused call answers with the error's status and an `ErrorReport`. Routes:

GET  /control/hello                     → Hello
GET  /control/slices                    → {name: slice}, all at once
GET  /control/stream                    → server-sent events: event = slice name, id = daemon clock, data = whole slice;
                                          all slices first, then each when it changed; ": alive" every 10 s
POST /control/want      Want            → Accepted | 409 does_not_fit, 404 no_such_model, 424 engine_not_installed, …
POST /control/unload    Unload          → Accepted   (also cancels a load)
POST /control/restart   Unload          → Accepted
POST /control/plan      Want            → MemoryPlan with expected speed and advice (nothing is started)
POST /control/memory/forget ForgetMemory → Accepted (plans are the formulas' own again)
POST /control/command   CommandOf       → CommandView (nothing is started)
GET  /control/history                   → History
GET  /control/runs/{id}                 → RunView
GET  /control/runs/{id}/log?from=N&limit=BYTES&wait=SECONDS
                                        → bytes, redacted at equal length, so that offsets are those of the engine's file;
                                          headers X-Log-Start, X-Log-End (offsets of this piece), X-Log-Size (what can be
                                          read now: of a living run whole lines), X-Log-Over: 0|1
GET  /control/settings                  → SettingsView
POST /control/settings  SettingsChange  → SettingsView | 422 setting_invalid
GET  /control/engines/options           → OptionsView (the typed settings of each family)
POST /control/engines/install Install   → JobStarted | 409 when one runs already, 422 when nothing such can be installed
POST /control/engines/remove  EngineOf  → JobStarted | 409 while a run uses it
POST /control/engines/pin     Pin       → Accepted
POST /control/engines/add     AddEngine → Accepted (a file or an environment anywhere)
POST /control/engines/refresh Refresh → Engines, when everything was looked at
POST /control/engines/canary  Canary    → JobStarted
POST /control/bench           BenchOf   → JobStarted | 409 engine_busy, 404 model_missing
GET  /control/benches                   → Benches (core.bench), newest first
POST /control/jobs/cancel     JobOf     → Accepted
POST /control/jobs/pause      JobOf     → Accepted (a download: what has come stays, also over the service's end)
POST /control/jobs/resume     JobOf     → Accepted (paused, cancelled or failed: it goes on where it stopped)
POST /control/hub/search      HubSearch → HubFound
POST /control/hub/files       HubOf     → HubListing (what each form needs is read from headers; nothing is downloaded)
POST /control/hub/pull        Pull      → JobStarted | 404 not_on_hub, 403 model_gated, 507 disk_full
GET  /control/hub/downloads             → Downloads (what is in the hub's cache, and in its trash)
POST /control/hub/updates     Refresh   → Downloads, with what the hub has newer
POST /control/hub/delete      DeleteModel → Accepted, `profile` = its id in the trash | 409 while an engine reads it
POST /control/hub/restore     TrashOf   → Accepted
POST /control/hub/empty       TrashOf   → Accepted ("" = the whole trash)
POST /control/hub/token       HubToken  → Accepted
GET  /control/jobs/{id}/log             → text
GET  /control/keys                      → Keys (names only)
POST /control/keys            GivenKey  → Accepted
POST /control/keys/remove     KeyOf     → Accepted
POST /control/ollama/pull     OllamaPull → JobStarted | 424 engine_not_installed
GET  /control/caches                    → Caches
POST /control/caches/clear    CacheOf   → JobStarted
POST /control/export          ExportOf  → Export
GET  /control/profiles/{id}             → ProfileText
POST /control/profiles        ProfileText → ProfileText | 422 profile_invalid with all its problems
POST /control/profiles/remove ProfileOf → Accepted (a user's own file goes to the trash)
GET  /control/runs/{id}/manifest        → Manifest
POST /control/runs/again      RunOf     → Accepted | 409 model_changed, 424 engine_not_installed: `force` goes on
POST /control/lend            Lend      → Accepted
POST /control/lend/return     Unload    → Accepted (also what rests because it was idle, or for want of room, or sleeps)
POST /control/park            Park      → Accepted
GET  /control/doctor                    → Report
POST /control/shutdown  Shutdown        → Accepted, then the daemon unloads everything and leaves
     /v1/…                              → the gateway, unchanged
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from app.core.hub import HubModel
from app.core.options import Option, Preset, Scalar
from app.core.profiles import Profile
from app.core.snapshot import InstallationView, RunView
from app.core.snapshot import Keys as Keys


class Want(msgspec.Struct, frozen=True, kw_only=True):
    """Load this profile. `settings` are merged over the profile's for this launch only, `gpus` (cards by UUID) stand in place
    of its own; `override` skips admission. `text` is for `plan` alone: a whole profile as in the editor, priced in place of the
    saved one, which need not be there."""

    profile: str
    seat: str = ""  # "" = the profile's own
    override: bool = False
    settings: dict[str, Scalar] = {}
    preset: str = ""  # laid over the profile's settings and under `settings`, for this launch only
    gpus: tuple[str, ...] = ()
    text: str = ""


class Unload(msgspec.Struct, frozen=True, kw_only=True):
    seat: str = "main"


class Shutdown(msgspec.Struct, frozen=True, kw_only=True):
    reason: str = ""


class CommandOf(msgspec.Struct, frozen=True, kw_only=True):
    """`text`: a whole profile as in the editor, in place of the saved one, which need not be there."""

    profile: str
    settings: dict[str, Scalar] = {}
    preset: str = ""
    gpus: tuple[str, ...] = ()
    text: str = ""


class CommandView(msgspec.Struct, frozen=True, kw_only=True):
    """What a launch would execute; secrets are masked. The port is chosen at launch: 0 stands for it."""

    argv: tuple[str, ...]
    environment: dict[str, str]
    unknown_flags: tuple[str, ...] = ()  # extra arguments that this build's own help does not know


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    accepted: bool = True
    note: str = ""
    profile: str = ""  # the id of the profile that was taken, where an alias was asked for
    seat: str = ""  # on which it is loaded
    warnings: tuple[str, ...] = ()  # sentences: it is done, but this may not be what was meant


class SettingField(msgspec.Struct, frozen=True, kw_only=True):
    """One setting, described from the settings table itself."""

    key: str  # "gateway.port"
    value: object
    default: object
    sentence: str
    kind: str  # integer · number · switch · text · list
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    from_environment: bool = False  # then it cannot be changed here


class SettingsView(msgspec.Struct, frozen=True, kw_only=True):
    file: str
    fields: tuple[SettingField, ...]
    restart_needed: tuple[str, ...] = ()


class SettingsChange(msgspec.Struct, frozen=True, kw_only=True):
    """Keys to set; null returns a key to its default."""

    values: dict[str, object]


class Check(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    ok: bool
    summary: str
    advice: str = ""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    checks: tuple[Check, ...]


# --- engines, jobs, caches -------------------------------------------------------------------------------------------


class OptionsView(msgspec.Struct, frozen=True, kw_only=True):
    families: dict[str, tuple[Option, ...]]
    presets: dict[str, tuple[Preset, ...]] = {}
    titles: dict[str, str] = {}  # of the families


class Install(msgspec.Struct, frozen=True, kw_only=True):
    """`version` "" = the one that we know best; `accelerator` "" = the best that is here."""

    family: str
    version: str = ""
    accelerator: str = ""
    again: bool = False  # make it anew, or try for a better build, although one is there


class EngineOf(msgspec.Struct, frozen=True, kw_only=True):
    installation: str


class Pin(msgspec.Struct, frozen=True, kw_only=True):
    """Use this installation wherever a profile names none; "" = the best one again."""

    family: str
    installation: str = ""


class AddEngine(msgspec.Struct, frozen=True, kw_only=True):
    """An absolute path, or one that begins with "~/"; `forget` takes it away again."""

    path: str
    forget: bool = False


class ForgetMemory(msgspec.Struct, frozen=True, kw_only=True):
    """Forget what launches and dry runs have taught about memory."""


class Refresh(msgspec.Struct, frozen=True, kw_only=True):
    """Look for engines now, and ask again those that gave no good answer."""


class Canary(msgspec.Struct, frozen=True, kw_only=True):
    """Try an installation on a profile of the person's, against the one that is used now."""

    installation: str
    profile: str = "demo"


class CanaryResult(msgspec.Struct, frozen=True, kw_only=True):
    installation: str
    against: str
    profile: str
    first_token_seconds: tuple[float | None, float | None]  # of the new one, of the old one
    tokens_per_second: tuple[float | None, float | None]
    same_answer: bool | None = None
    verdict: str = ""  # a sentence


class BenchOf(msgspec.Struct, frozen=True, kw_only=True):
    """Measure what is loaded. `profile` names which, where two seats have one; "" = the first that is ready."""

    profile: str = ""


class JobStarted(msgspec.Struct, frozen=True, kw_only=True):
    job: str


class OllamaPull(msgspec.Struct, frozen=True, kw_only=True):
    """Have an Ollama fetch a model. `where` names its address; "" = the one that is used."""

    model: str
    where: str = ""


class GivenKey(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    key: str

    def __repr__(self) -> str:
        return f"GivenKey(name={self.name!r})"


class KeyOf(msgspec.Struct, frozen=True, kw_only=True):
    name: str


class JobOf(msgspec.Struct, frozen=True, kw_only=True):
    job: str


class HubSearch(msgspec.Struct, frozen=True, kw_only=True):
    words: str
    kind: str = ""  # gguf · safetensors · "" = both
    limit: Annotated[int, msgspec.Meta(ge=1, le=100)] = 30


class HubFound(msgspec.Struct, frozen=True, kw_only=True):
    models: tuple[HubModel, ...]


class HubOf(msgspec.Struct, frozen=True, kw_only=True):
    name: str  # "publisher/model"
    verdicts: bool = True  # False answers sooner: names and sizes only


class Pull(msgspec.Struct, frozen=True, kw_only=True):
    """`file`: a file's path or a quantisation; "" = the recommended form, or a paused download of it."""

    name: str
    file: str = ""


class DeleteModel(msgspec.Struct, frozen=True, kw_only=True):
    """By its path, or by its name and file. `partial`: what unfinished downloads of it have left, for good."""

    name: str = ""
    file: str = ""
    path: str = ""
    partial: bool = False


class TrashOf(msgspec.Struct, frozen=True, kw_only=True):
    trash: str = ""


class HubToken(msgspec.Struct, frozen=True, kw_only=True):
    """Kept in the keyring; "" forgets it."""

    token: str

    def __repr__(self) -> str:
        return "HubToken()"


class Cache(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    title: str
    path: str
    disk_bytes: int
    sentence: str  # what clearing it costs


class Caches(msgspec.Struct, frozen=True, kw_only=True):
    caches: tuple[Cache, ...]


class CacheOf(msgspec.Struct, frozen=True, kw_only=True):
    cache: str


# --- profiles, exports, manifests ------------------------------------------------------------------------------------


class ProfileOf(msgspec.Struct, frozen=True, kw_only=True):
    profile: str


class ProfileText(msgspec.Struct, frozen=True, kw_only=True):
    """A profile as the text of its file. `own` = the person's own file; saving another makes one of that id."""

    profile: str
    text: str
    own: bool = True
    based_on: str | None = None  # the text that a change was made from: it is refused when the file has another now


class ExportOf(msgspec.Struct, frozen=True, kw_only=True):
    profile: str
    kind: str  # shell · systemd · compose
    port: int = 8080  # the engine's own, once it runs without us
    settings: dict[str, Scalar] = {}  # over the profile's


class Export(msgspec.Struct, frozen=True, kw_only=True):
    """Text to save; keys are not in it: `notes` say what to fill in."""

    file_name: str
    text: str
    notes: tuple[str, ...] = ()


class RunOf(msgspec.Struct, frozen=True, kw_only=True):
    run: str
    force: bool = False  # also when the model's file has changed since, or the engine build is gone


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """All that made a run what it was; enough to run it again. Secrets are masked."""

    run: RunView
    profile: Profile
    settings: dict[str, Scalar] = {}  # effective, with the defaults that the machine decided
    model_path: str = ""
    model_bytes: int | None = None
    model_modified_unix: float | None = None
    model_fingerprint: str = ""  # over head, tail and size: cheap enough for each launch
    installation: InstallationView | None = None
    engine_fingerprint: str = ""  # over its program and the libraries beside it
    driver_version: str | None = None
    gpus: tuple[str, ...] = ()  # names and uuids
    product_version: str = ""
    stages: dict[str, float] = {}  # stage of the load → seconds after the launch at which it began
    as_run: str = ""  # it was to be like this earlier run


# --- sleep -----------------------------------------------------------------------------------------------------------


class Park(msgspec.Struct, frozen=True, kw_only=True):
    """Put the model to sleep; one whose engine cannot sleep is unloaded. A request brings it back either way."""

    level: int | None = None  # 1: weights to main memory · 2: weights dropped; None = as main memory allows
    seat: str = "main"


# --- lending ---------------------------------------------------------------------------------------------------------


class Lend(msgspec.Struct, frozen=True, kw_only=True):
    """Free the card for so long, then the same model comes back. Again = a new time from now."""

    minutes: float = 30.0
    seat: str = "main"
