"""Surveys what could be loaded: the profile files, and by names and stamps every model in folders and stores; reads no model."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path

import msgspec

from app.core.catalog.gguf_facts import shards_of
from app.core.catalog.hub_cache import cached_file, cached_snapshot, hub_cache_folder
from app.core.errors import EngineNotInstalled, ProfileInvalid
from app.core.paths import Paths
from app.core.profiles import MAX_PROFILE_BYTES, Profile, parse_profile
from app.core.resources import builtin_model, profiles_folder
from app.core.settings import LibrarySettings, Settings
from app.core.snapshot import Problem
from app.daemon.folders import Seen, Stamp, expanded, is_text, parts_of, stamp_of
from app.daemon.shelf_names import NOT_A_FILE, is_by_name, paths_by_tag
from app.daemon.sources import Sources
from app.engines.base import Installation
from app.engines.ollama import full_name
from app.engines.registry import FAMILIES

MAX_PROFILES = 2_000
ENGINE_ITSELF = "engine"  # in place of a profile's source

Stamps = tuple[Stamp | None, ...]


class Survey(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """Equal to another one when nothing has changed between them."""

    profiles: tuple[Profile, ...]  # the person's own first, so that they win over shipped ones of the same name
    problems: tuple[Problem, ...]  # with profiles
    models: dict[str, Path]  # of each profile, by its id
    named: dict[Path, Stamps]  # the files of those models
    seen: Seen
    lacking: dict[tuple[str, str], Problem | None]  # profile's id and source, or engine and ENGINE_ITSELF
    folders: tuple[Path, ...]
    library: LibrarySettings
    context_limit_tokens: int

    @cached_property
    def stamps(self) -> Mapping[Path, Stamps]:
        """Every model that is to be read, those of profiles first, else in the order in which they are listed."""
        return {**self.named, **self.seen.models}


class Surveyor:
    """`survey` is for one thread at a time; remembers each profile file and manifest until it changes."""

    def __init__(
        self,
        paths: Paths,
        find_engine: Callable[[Profile], Installation],
        shipped: Path | None = None,
        builtin: Callable[[str], Path | None] = builtin_model,
    ) -> None:
        self._own = paths.profiles
        self._find_engine = find_engine
        self._shipped = shipped or profiles_folder()
        self._builtin = builtin
        self._sources = Sources(os.environ)
        self._options = {family.id: family.options for family in FAMILIES.values()}
        self._presets = {family.id: family.presets for family in FAMILIES.values()}
        self._profiles: dict[Path, tuple[Stamp, Profile | tuple[Problem, ...]]] = {}

    def survey(self, settings: Settings) -> Survey:
        folders = tuple(expanded(folder) for folder in settings.library.folders)
        default = {expanded(folder) for folder in LibrarySettings().folders}  # type: ignore[call-arg]
        seen = self._sources.look(folders, settings.library.sources, quiet_when_missing=default)
        files, problems = self._profile_files()
        profiles, broken = self._read_profiles(files)
        by_tag = paths_by_tag(seen)
        models: dict[str, Path] = {}
        for profile in profiles:
            models.setdefault(profile.id, self.model_path(profile, by_tag))
        return Survey(
            profiles=tuple(profiles),
            problems=(*problems, *broken),
            models=models,
            named={path: stamps_of(path) for path in models.values() if path is not NOT_A_FILE},
            seen=seen,
            lacking={
                (profile.id, profile.source): self.lacking(profile) for profile in (*profiles, *map(_plain, FAMILIES))
            },
            folders=folders,
            library=settings.library,
            context_limit_tokens=settings.memory.context_limit_tokens,
        )

    def lacking(self, profile: Profile) -> Problem | None:
        """Why no engine can load it."""
        try:
            self._find_engine(profile)
        except EngineNotInstalled as error:
            return Problem(where=profile.source, summary=error.summary, advice=error.advice)
        return None

    def model_path(self, profile: Profile, by_tag: Mapping[str, Path]) -> Path:
        """Where the profile's model lies; a relative path counts from the profile's own file."""
        if is_by_name(profile):
            return by_tag.get(full_name(profile.model), NOT_A_FILE)
        if profile.model.startswith("builtin:"):
            return self._builtin(profile.model) or Path(profile.model)
        folder = self._shipped if profile.source == "shipped" else Path(profile.source).parent
        path = expanded(profile.model)
        path = path if path.is_absolute() else folder / path
        if not path.exists() and (cached := _cached(hub_cache_folder(os.environ), profile.model)) is not None:
            return cached
        return shards_of(path)[0]

    def _profile_files(self) -> tuple[dict[Path, Stamp], list[Problem]]:
        """TOML files, the person's own first, so that they win over shipped ones of the same name."""
        files: dict[Path, Stamp] = {}
        problems = []
        for folder in (self._own, self._shipped):
            try:
                found = (
                    path
                    for path in folder.iterdir()
                    if path.suffix == ".toml" and path.name[0] != "." and is_text(path.name)
                )
                names = sorted(found, key=lambda path: path.stem)
            except FileNotFoundError:
                continue
            except OSError as error:
                problems.append(problem_at(folder, f"The profiles in {folder} cannot be read: {error.strerror}."))
                continue
            for path in names[:MAX_PROFILES]:
                if (stamp := stamp_of(path)) is not None and path.is_file():
                    files[path] = stamp
                else:
                    problems.append(problem_at(path, f"{path} cannot be read.", "Mend the link or remove it."))
        return files, problems

    def _read_profiles(self, files: Mapping[Path, Stamp]) -> tuple[list[Profile], list[Problem]]:
        read = {
            path: kept if (kept := self._profiles.get(path)) and kept[0] == stamp else (stamp, self._read_profile(path))
            for path, stamp in files.items()
        }
        self._profiles = read
        profiles = [content for _, content in read.values() if isinstance(content, Profile)]
        problems = [problem for _, content in read.values() if not isinstance(content, Profile) for problem in content]
        return profiles, problems

    def _read_profile(self, path: Path) -> Profile | tuple[Problem, ...]:
        try:
            with path.open("rb") as file:
                data = file.read(MAX_PROFILE_BYTES + 1)
            if len(data) > MAX_PROFILE_BYTES:
                return (problem_at(path, f"{path} is too large for a profile.", "Keep it below one MiB."),)
            profile = parse_profile(data.decode("utf-8"), path, self._options, self._presets)
        except ProfileInvalid as error:
            return tuple(problem_at(path, item.summary, item.advice) for item in error.problems)
        except UnicodeDecodeError:
            return (problem_at(path, f"{path} is not text in UTF-8.", "Save it as UTF-8."),)
        except OSError as error:
            return (problem_at(path, f"{path} cannot be read: {error.strerror}.", "Check the file's permissions."),)
        return msgspec.structs.replace(profile, source="shipped") if path.parent == self._shipped else profile


def stamps_of(model: Path) -> Stamps:
    """What changes when any of the model's files does."""
    return tuple(stamp_of(part) for part in parts_of(model))


def problem_at(where: Path, summary: str, advice: str = "") -> Problem:
    return Problem(where=str(where), summary=summary, advice=advice)


def _cached(cache: Path, name: str) -> Path | None:
    """What a name of the hub means on this disk: a folder of safetensors, or a GGUF file and its further parts."""
    file = cached_file(cache, name)
    return cached_snapshot(cache, name) if file is None else shards_of(file)[0]


def _plain(family: str) -> Profile:
    """A profile that asks for nothing but an engine."""
    return Profile(id=family, title=family, engine=family, model="", source=ENGINE_ITSELF)
