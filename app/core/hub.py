"""Defines what a hub of models offers: models that were found, the forms of one, which form suits this machine; pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

import msgspec

from app.core.catalog.facts import ModelFacts
from app.core.catalog.grouping import drafts
from app.core.memory.plan_types import MemoryPlan, Verdict

MODEL, BESIDE, VISION, DRAFT = "model", "beside", "vision", "draft"  # what a file is for

_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.(?P<kind>gguf|safetensors)", re.IGNORECASE)
_QUANTISATION = re.compile(
    r"(?<![A-Za-z0-9])(?:UD-|i1-)?((?:IQ|TQ|Q)\d(?:_[0-9A-Za-z]+)*|MXFP4(?:_MOE)?|NVFP4|BF16|F(?:P)?16|F(?:P)?32)(?![A-Za-z0-9])",
    re.IGNORECASE,
)
_NAMED = re.compile(r"(?<![A-Za-z0-9])(AWQ|GPTQ|NVFP4|FP8|bnb|W\d+A\d+|INT[48])(?![A-Za-z0-9])", re.IGNORECASE)
# Files of a folder model that engines read: configs, tokenizers and templates; never code or pictures.
_BESIDE = (".json", ".jinja", ".model", ".tiktoken", ".txt")
_NOT_BESIDE = ("training_args", "trainer_state", "optimizer", "all_results", "train_results", "eval_results")
_PROJECTORS = ("f16", "bf16", "q8_0", "f32")  # of several the first: full precision is rarely worth its size
NEARLY_LOSSLESS = 8.6  # bits per weight: above that a form only costs more memory and time


class HubFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a repository. `etag` is its SHA-256 where it is large (64 hex digits), else its git hash (40)."""

    path: str
    bytes: int
    etag: str = ""
    role: str = MODEL
    here_bytes: int = 0  # that are on this disk already


class HubForm(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to download: a quantisation with all its parts and its projector, or a whole folder model."""

    name: str  # the file by which a person picks it ("" for a folder model)
    title: str  # "Q4_K_M"
    format: str  # gguf · safetensors
    files: tuple[HubFile, ...]
    role: str = MODEL  # or DRAFT: it only guesses ahead for another
    facts: ModelFacts | None = None
    plan: MemoryPlan | None = None
    exact: bool = True  # False: its facts are those of a sibling, scaled to its size
    problem: str = ""  # why its facts are not known
    recommended: bool = False

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    @property
    def here_bytes(self) -> int:
        return sum(file.here_bytes for file in self.files)

    @property
    def missing_bytes(self) -> int:
        return self.bytes - self.here_bytes

    @property
    def model_bytes(self) -> int:
        """Of its weights alone."""
        return sum(file.bytes for file in self.files if file.role == MODEL)


class HubModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model that a search found."""

    name: str  # "publisher/model"
    downloads: int | None = None
    likes: int | None = None
    gated: bool = False
    updated_unix: float | None = None
    formats: tuple[str, ...] = ()
    purpose: str = ""  # "text-generation"


class HubListing(msgspec.Struct, frozen=True, kw_only=True):
    """What a repository offers at one commit."""

    name: str
    commit: str
    gated: bool = False
    licence: str = ""
    forms: tuple[HubForm, ...] = ()
    free_bytes: int | None = None  # on the disk that a download goes to
    folder: str = ""  # where it goes
    outdated: bool = False  # an older revision of it is here


def forms_of(name: str, files: Sequence[HubFile]) -> tuple[HubForm, ...]:
    """What there is to download, smallest first: each GGUF with its parts and a projector, the folder model, draft heads."""
    ggufs = [file for file in files if file.path.lower().endswith(".gguf") and "imatrix" not in file.path.lower()]
    projector = _projector([file for file in ggufs if _is_projector(file)])
    sets: dict[str, list[HubFile]] = {}
    for file in ggufs:
        if not _is_projector(file):
            sets.setdefault(_stem(file.path), []).append(file)
    forms = [_gguf_form(stem, parts, projector) for stem, parts in sets.items() if _is_whole(parts)]
    forms += _folder_form(name, files)
    return tuple(sorted(forms, key=lambda form: (form.role != MODEL, form.bytes, form.name)))


def _stem(path: str) -> str:
    found = _SHARD.fullmatch(path)
    return found["stem"] if found else path.rpartition(".")[0]


def _is_whole(parts: Sequence[HubFile]) -> bool:
    """Whether a split set has all its parts: without one of them it cannot be loaded."""
    found = _SHARD.fullmatch(parts[0].path)
    return found is None or len(parts) == int(found["count"])


def _is_projector(file: HubFile) -> bool:
    return "mmproj" in PurePosixPath(file.path).name.lower()


def _projector(found: Sequence[HubFile]) -> HubFile | None:
    def rank(file: HubFile) -> tuple[int, str]:
        title = quantisation_of_name(file.path).lower()
        return (_PROJECTORS.index(title) if title in _PROJECTORS else len(_PROJECTORS), file.path)

    best = min(found, key=rank, default=None)
    return None if best is None else msgspec.structs.replace(best, role=VISION)


def _gguf_form(stem: str, parts: list[HubFile], projector: HubFile | None) -> HubForm:
    parts = sorted(parts, key=lambda file: file.path)
    own = PurePosixPath(stem).name
    draft = drafts(own)
    beside = (projector,) if projector is not None and not draft else ()
    return HubForm(
        name=parts[0].path,
        title=quantisation_of_name(stem) or own,
        format="gguf",
        files=(*parts, *beside),
        role=DRAFT if draft else MODEL,
    )


def quantisation_of_name(path: str) -> str:
    """The quantisation that a GGUF's name states, as people write it; "" when it states none."""
    found = _QUANTISATION.findall(PurePosixPath(path).name) or _QUANTISATION.findall(path)
    return found[-1].upper().replace("FP16", "F16").replace("FP32", "F32") if found else ""


def _folder_form(name: str, files: Sequence[HubFile]) -> list[HubForm]:
    """The model that lies at the top of the repository as safetensors with its config."""
    top = [file for file in files if "/" not in file.path]
    names = {file.path for file in top}
    weights = [file for file in top if file.path.endswith(".safetensors")]
    if any(not file.path.startswith("consolidated") for file in weights):
        weights = [file for file in weights if not file.path.startswith("consolidated")]
    if "config.json" not in names or not weights:
        return []
    sets: dict[str, list[HubFile]] = {}
    for file in weights:
        sets.setdefault(_stem(file.path), []).append(file)
    if not all(_is_whole(parts) for parts in sets.values()):
        return []
    beside = [
        msgspec.structs.replace(file, role=BESIDE)
        for file in top
        if file.path.endswith(_BESIDE) and not file.path.startswith(_NOT_BESIDE)
    ]
    stated = _NAMED.findall(name.rpartition("/")[2])
    title = stated[-1].upper() if stated else "Original weights"
    ordered = tuple(sorted(weights, key=lambda file: file.path)) + tuple(sorted(beside, key=lambda file: file.path))
    return [HubForm(name="", title=title, format="safetensors", files=ordered)]


def scaled(facts: ModelFacts, model_bytes: int, quantisation: str) -> ModelFacts:
    """The facts of a sibling in another quantisation: the same shape, its bytes in proportion."""
    if not facts.file_bytes:
        return facts
    share = model_bytes / facts.file_bytes
    tensors = tuple(
        msgspec.structs.replace(
            tensor, bytes=round(tensor.bytes * share), largest_bytes=round(tensor.largest_bytes * share)
        )
        for tensor in facts.tensors
    )
    return msgspec.structs.replace(
        facts,
        tensors=tensors,
        weights_bytes=round(facts.weights_bytes * share),
        file_bytes=model_bytes,
        quantisation=quantisation or None,
    )


def bits_per_weight(form: HubForm) -> float | None:
    if form.facts is None or not form.facts.parameters:
        return None
    return 8 * form.model_bytes / form.facts.parameters


def with_recommended(forms: Iterable[HubForm]) -> tuple[HubForm, ...]:
    """The forms with one marked: the best that fits. Best is the most exact that is not larger than nearly lossless needs.

    Where nothing fits, or nothing is known, none is marked.
    """
    forms = tuple(forms)

    def rank(form: HubForm) -> tuple[bool, int]:
        bits = bits_per_weight(form)
        wasteful = bits is not None and bits > NEARLY_LOSSLESS
        return not wasteful, -form.model_bytes if wasteful else form.model_bytes

    fitting = [form for form in forms if form.role == MODEL and form.plan and form.plan.verdict is Verdict.FITS]
    best = max(fitting, key=rank, default=None)
    return tuple(msgspec.structs.replace(form, recommended=form is best) for form in forms)


def picked(listing: HubListing, file: str) -> HubForm | None:
    """The form that a person means: by a file's path or name, by its quantisation; "" = the recommended or the only one."""
    forms = listing.forms
    if not file:
        models = [form for form in forms if form.role == MODEL]
        return next((form for form in forms if form.recommended), models[0] if len(models) == 1 else None)
    wish = file.lower()
    for form in forms:
        paths = {each.path.lower() for each in form.files if each.role == MODEL}
        if wish in paths or wish in {path.rpartition("/")[2] for path in paths}:
            return form
    by_title = [form for form in forms if form.title.lower() == wish]
    return by_title[0] if len(by_title) == 1 else None


# --- what is here ----------------------------------------------------------------------------------------------------


class Downloaded(msgspec.Struct, frozen=True, kw_only=True):
    """A form in the hub's cache on this disk: a GGUF with its parts, or a folder model. `disk_bytes` is what deleting it frees."""

    name: str  # "publisher/model"
    commit: str
    file: str  # "" = the whole folder model
    title: str
    path: str  # what an engine loads
    disk_bytes: int
    in_use: str = ""  # the title of the run that reads it now
    newest: str = ""  # the commit that the hub has now, when it is another; "" = the same, or not asked
    older: bool = False  # a newer revision of the same is here too


class Partial(msgspec.Struct, frozen=True, kw_only=True):
    """What a download that is not whole has left of a model."""

    name: str
    disk_bytes: int


class Trashed(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was deleted and can come back."""

    id: str
    title: str
    deleted_at_unix: float
    disk_bytes: int


class Downloads(msgspec.Struct, frozen=True, kw_only=True):
    """What is in the hub's cache on this disk, whoever put it there."""

    folder: str
    models: tuple[Downloaded, ...] = ()
    partial: tuple[Partial, ...] = ()
    trash: tuple[Trashed, ...] = ()
    disk_bytes: int = 0
    free_bytes: int | None = None
    token: str = ""  # where the access token comes from: kept (in the keyring, or a file of ours) · environment · file · "" = there is none
