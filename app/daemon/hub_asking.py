"""Asks the hub what there is: searches, lists a repository's files, and reads models' headers by ranges, never the weights."""

from __future__ import annotations

import io
import shutil
import tempfile
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from huggingface_hub import HfApi, hf_hub_url
from huggingface_hub.hf_api import ModelInfo, RepoFile
from huggingface_hub.utils import build_hf_headers, get_session, get_token, hf_raise_for_status
from msgspec.structs import replace

from app.core.catalog.facts import ModelFacts
from app.core.catalog.gguf import parse_header
from app.core.catalog.gguf_facts import read_gguf_facts
from app.core.catalog.safetensors import (
    CONFIG,
    EMBEDDING_FILES,
    MAX_CONFIG_BYTES,
    MAX_HEADER_BYTES,
    QUANTISATION_FILE,
    TEMPLATE_FILES,
    read_folder_facts,
)
from app.core.errors import EngineRoomError, ModelUnreadable, NotOnHub
from app.core.hub import BESIDE, MODEL, HubFile, HubForm, HubListing, HubModel, forms_of, scaled
from app.daemon import hub_words

ANSWER_SECONDS = 20.0
MOST_FILES = 5_000
HEADER_BUDGET_BYTES = 96 * 1024**2  # over all forms of one repository: a large vocabulary is 10 MB in each of them
FIRST_PIECE, LARGEST_PIECE = 512 * 1024, 8 * 1024**2
READERS = 4


def has_token() -> bool:
    return bool(get_token())


def search(words: str, kind: str, limit: int) -> tuple[HubModel, ...]:
    """The most downloaded models for the words; a name of a repository finds it first."""
    found = HfApi().list_models(
        search=words,
        filter=[kind] if kind else None,
        sort="downloads",
        limit=limit,
        full=True,
    )
    return tuple(_model(each) for each in found)


def _model(info: ModelInfo) -> HubModel:
    tags = set(info.tags or ())
    return HubModel(
        name=info.id,
        downloads=info.downloads,
        likes=info.likes,
        gated=bool(info.gated),
        updated_unix=info.last_modified.timestamp() if info.last_modified else None,
        formats=tuple(name for name in ("gguf", "safetensors") if name in tags),
        purpose=info.pipeline_tag or "",
    )


def newest(names: Iterable[str]) -> dict[str, str]:
    """The commit of each repository's main branch; one that cannot be asked is left out."""

    def ask(name: str) -> tuple[str, str]:
        try:
            return name, HfApi().model_info(name, timeout=ANSWER_SECONDS).sha or ""
        except Exception:  # gone, renamed, not ours any more: nothing to offer
            return name, ""

    with ThreadPoolExecutor(READERS) as pool:
        return {name: commit for name, commit in pool.map(ask, names) if commit}


def files(name: str, facts: bool) -> HubListing:
    """All forms of a model; with `facts`, what each needs, read from headers within a budget of bytes."""
    info = HfApi().model_info(name, timeout=ANSWER_SECONDS)
    commit = info.sha or ""
    tree = HfApi().list_repo_tree(name, recursive=True, revision=commit)
    found = []
    for entry in tree:
        if isinstance(entry, RepoFile):
            found.append(_file(entry))
        if len(found) >= MOST_FILES:
            break
    forms = forms_of(name, found)
    if not forms:
        raise NotOnHub(
            f"{name} holds no model that an engine here can load: neither GGUF files nor safetensors with a config.",
            "Look for the same model with “GGUF” in its name.",
        )
    if facts:
        forms = _Headers(name, commit).known(forms)
    return HubListing(name=info.id, commit=commit, gated=bool(info.gated), licence=_licence(info), forms=forms)


def _file(entry: RepoFile) -> HubFile:
    return HubFile(path=entry.path, bytes=entry.size, etag=entry.lfs.sha256 if entry.lfs else entry.blob_id)


def _licence(info: ModelInfo) -> str:
    return next((tag.removeprefix("license:") for tag in info.tags or () if tag.startswith("license:")), "")


# --- headers ---------------------------------------------------------------------------------------------------------


class _Enough(Exception):
    """The budget for headers is used up."""


class _Headers:
    """Reads the headers of one repository at one commit, into sparse files of the true sizes that readers take for whole."""

    def __init__(self, name: str, commit: str) -> None:
        self._name, self._commit = name, commit
        self._left = HEADER_BUDGET_BYTES
        self._lock = threading.Lock()

    def known(self, forms: Sequence[HubForm]) -> tuple[HubForm, ...]:
        """The forms with their facts; past the budget the nearest sibling's, scaled."""
        middle_first = sorted(forms, key=lambda form: abs(form.bytes - forms[len(forms) // 2].bytes))
        with ThreadPoolExecutor(READERS) as pool:
            read = dict(zip((form.name for form in middle_first), pool.map(self._read, middle_first), strict=True))
        return scale_missing([_with(form, read[form.name]) for form in forms])

    def _read(self, form: HubForm) -> ModelFacts | str:
        """The facts, or why there are none: "" when the budget was used up."""
        try:
            key = (form.format, self._name, tuple((file.path, file.bytes, file.etag) for file in form.files))
            kept = _kept(key)
            if "facts" not in kept:
                kept["facts"] = self._of_gguf(form) if form.format == "gguf" else self._of_folder(form)
            facts: ModelFacts = kept["facts"]
            return facts
        except _Enough:
            return ""
        except EngineRoomError as error:
            return error.summary
        except Exception as error:
            return hub_words.said(error, self._name, has_token()).summary

    def _of_gguf(self, form: HubForm) -> ModelFacts:
        with tempfile.TemporaryDirectory(prefix="engine-room-headers-") as folder:
            parts = [file for file in form.files if file.role == MODEL]
            for file in parts:
                self._shadow_gguf(file, Path(folder))
            facts = read_gguf_facts(Path(folder) / PurePosixPath(parts[0].path).name)
        if facts is None:
            raise ModelUnreadable(f"{form.name} belongs to a model without being one.")
        return replace(facts, path=Path(form.name), files=(), modified_ns=0)

    def _shadow_gguf(self, file: HubFile, folder: Path) -> None:
        shadow = folder / PurePosixPath(file.path).name
        with shadow.open("wb") as written:
            written.truncate(file.bytes)
            source = _Ranges(self, file, written)
            parse_header(source, file.bytes, file.path)

    def _of_folder(self, form: HubForm) -> ModelFacts:
        folder = Path(tempfile.mkdtemp(prefix="engine-room-headers-"))
        try:
            for file in form.files:
                if file.role == BESIDE and file.bytes <= MAX_CONFIG_BYTES and _tells_facts(file.path):
                    (folder / file.path).write_bytes(self.fetch(file, 0, file.bytes))
                elif file.role == MODEL:
                    self._shadow_safetensors(file, folder)
            facts = read_folder_facts(folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        own = self._name.rpartition("/")[2]
        return replace(facts, path=Path(self._name), name=own, files=(), modified_ns=0)

    def _shadow_safetensors(self, file: HubFile, folder: Path) -> None:
        first = self.fetch(file, 0, min(file.bytes, FIRST_PIECE))
        length = int.from_bytes(first[:8], "little")
        if not 2 <= length <= min(MAX_HEADER_BYTES, file.bytes - 8):
            raise ModelUnreadable(f"{file.path} is not a usable safetensors file.")
        if len(first) < 8 + length:
            first += self.fetch(file, len(first), 8 + length)
        with (folder / file.path).open("wb") as written:
            written.truncate(file.bytes)
            written.write(first[: 8 + length])

    def fetch(self, file: HubFile, start: int, end: int) -> bytes:
        """The bytes from `start` to before `end`, counted against the budget."""
        with self._lock:
            self._left -= end - start
            if self._left < 0:
                raise _Enough
        url = hf_hub_url(self._name, file.path, revision=self._commit)
        headers = {**build_hf_headers(), "Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
        with get_session().stream("GET", url, headers=headers, timeout=ANSWER_SECONDS) as got:
            hf_raise_for_status(got)
            data, skip = bytearray(), start if got.status_code == 200 else 0  # a server without ranges sends it all
            for piece in got.iter_bytes():
                data += piece
                if len(data) >= end - start + skip:
                    break
        data = data[skip : skip + end - start]
        if len(data) < end - start:
            raise ModelUnreadable(f"{file.path} ends before it should.")
        return bytes(data)


def _with(form: HubForm, found: ModelFacts | str) -> HubForm:
    return replace(form, facts=found) if isinstance(found, ModelFacts) else replace(form, problem=found, exact=False)


@lru_cache(maxsize=256)
def _kept(key: tuple[object, ...]) -> dict[str, Any]:
    """A place to keep what was read of files that cannot change: their checksums are in the key."""
    return {}


def _tells_facts(path: str) -> bool:
    return path in (CONFIG, *TEMPLATE_FILES, *EMBEDDING_FILES, QUANTISATION_FILE)


class _Ranges(io.RawIOBase):
    """A remote file for a reader that goes forwards: pieces that grow while it reads on, all of them kept in the shadow."""

    def __init__(self, headers: _Headers, file: HubFile, shadow: io.BufferedWriter) -> None:
        self._headers, self._file, self._shadow = headers, file, shadow
        self._at, self._piece = 0, FIRST_PIECE

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        assert whence == 0
        self._at = offset
        return offset

    def read(self, size: int = -1) -> bytes:
        end = min(self._file.bytes, self._at + max(size, self._piece))
        if end <= self._at:
            return b""
        data = self._headers.fetch(self._file, self._at, end)
        self._shadow.seek(self._at)
        self._shadow.write(data)
        self._at = end
        self._piece = min(LARGEST_PIECE, 2 * self._piece)
        return data


def scale_missing(forms: Sequence[HubForm]) -> tuple[HubForm, ...]:
    """Gives forms without facts those of the GGUF sibling that is nearest in size."""
    known = [form for form in forms if form.facts is not None and form.format == "gguf" and form.role == MODEL]

    def of(form: HubForm) -> HubForm:
        if form.facts is not None or form.problem or form.format != "gguf" or form.role != MODEL or not known:
            return form
        near = min(known, key=lambda each: abs(each.model_bytes - form.model_bytes))
        assert near.facts is not None
        return replace(form, facts=scaled(near.facts, form.model_bytes, form.title), exact=False)

    return tuple(of(form) for form in forms)
