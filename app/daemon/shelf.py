"""Reads what lies in the profile and model folders and turns it into cards; remembers each file until it changes."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

from app.core.catalog.facts import ModelFacts
from app.core.catalog.gguf_facts import model_stem, read_gguf_facts, shards_of
from app.core.catalog.hub_cache import (
    cached_file,
    cached_snapshot,
    hub_cache_folder,
    is_hub_name,
    name_of_folder,
)
from app.core.catalog.safetensors import read_folder_facts
from app.core.catalog.stores import TITLES
from app.core.errors import EngineNotInstalled, ModelError, ProfileInvalid
from app.core.options import Scalar
from app.core.paths import Paths
from app.core.profile_set import problems_of
from app.core.profiles import MAX_PROFILE_BYTES, Profile, parse_profile, profile_from_model, slug
from app.core.resources import BUILTIN_MODELS, builtin_model, profiles_folder
from app.core.settings import LibrarySettings, Settings
from app.core.snapshot import ModelGroup, Problem, ProfileCard
from app.daemon.companions import companions_of
from app.daemon.folders import Named, Seen, Stamp, expanded, is_text, parts_of, stamp_of
from app.daemon.model_groups import Companions
from app.daemon.shelf_names import NOT_A_FILE, card_by_name, is_by_name, paths_by_tag
from app.daemon.sources import Sources
from app.engines.base import Installation
from app.engines.ollama import full_name
from app.engines.registry import DEFAULT_FAMILY, FAMILIES

MAX_PROFILES = 2_000
MAX_PROBLEMS = 200

Facts = ModelFacts | Problem | None  # None: a file that belongs to a model without being one
Stamps = tuple[Stamp | None, ...]


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    cards: tuple[ProfileCard, ...]
    problems: tuple[Problem, ...]
    folders: tuple[str, ...]
    models: tuple[ModelGroup, ...] = ()


class Shelf:
    """Used by one thread at a time. `shipped` is the folder of the profiles that come with Engine Room."""

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
        self._facts: dict[Path, tuple[Stamps, Facts]] = {}
        self._last: object = None

    def look(self, settings: Settings) -> Listing | None:
        """The whole list; None when nothing has changed since the last look."""
        folders = tuple(expanded(folder) for folder in settings.library.folders)
        default = {expanded(folder) for folder in LibrarySettings().folders}  # type: ignore[call-arg]
        seen = self._sources.look(folders, settings.library.sources, quiet_when_missing=default)
        files, problems = self._profile_files()
        profiles, broken = self._read_profiles(files)
        by_tag = paths_by_tag(seen)
        models: dict[str, Path] = {}
        for profile in profiles:
            models.setdefault(profile.id, self._model_path(profile, by_tag))
        named = {path: tuple(stamp_of(part) for part in parts_of(path)) for path in models.values()}
        lacking = {
            (profile.id, profile.source): self._lacking(profile) for profile in (*profiles, *map(_plain, FAMILIES))
        }
        state = (files, seen, named, lacking, settings.library, settings.memory.context_limit_tokens)
        if state == self._last:
            return None
        self._facts = {path: kept for path, kept in self._facts.items() if path in seen.models or path in named}
        cards, clashes = self._cards(profiles, models, named, lacking)
        own = {models[profile.id] for profile in profiles if not is_by_name(profile)}
        beside = self._beside(seen)
        found, unreadable = self._found(beside, seen, cards, own, lacking, settings.memory.context_limit_tokens)
        between = problems_of({card.profile.id: card.profile for card in (*cards.values(), *found)})
        self._last = state
        return Listing(
            cards=(*cards.values(), *found),
            problems=(*problems, *broken, *clashes, *between, *seen.problems, *unreadable)[:MAX_PROBLEMS],
            folders=tuple(str(folder) for folder in folders),
            models=beside.groups((*cards.values(), *found), seen),
        )

    def card_of(self, profile: Profile) -> ProfileCard:
        """The card of one profile that no file holds (yet); its model may lie anywhere."""
        path = self._model_path(profile, {})
        stamps = tuple(stamp_of(part) for part in parts_of(path))
        lacking = {(profile.id, profile.source): self._lacking(profile)}
        cards, _ = self._cards([profile], {profile.id: path}, {path: stamps}, lacking)
        return cards[profile.id]

    def _beside(self, seen: Seen) -> Companions:
        facts = {path: self._facts_of(path, stamps) for path, stamps in seen.models.items()}
        models = {path: each for path, each in facts.items() if isinstance(each, ModelFacts) and not _is_part(each)}
        return Companions(seen, models, (path for path, each in facts.items() if each is None))

    def _lacking(self, profile: Profile) -> Problem | None:
        try:
            self._find_engine(profile)
        except EngineNotInstalled as error:
            return Problem(where=profile.source, summary=error.summary, advice=error.advice)
        return None

    # --- profiles ---

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
                problems.append(_problem(folder, f"The profiles in {folder} cannot be read: {error.strerror}."))
                continue
            for path in names[:MAX_PROFILES]:
                if (stamp := stamp_of(path)) is not None and path.is_file():
                    files[path] = stamp
                else:
                    problems.append(_problem(path, f"{path} cannot be read.", "Mend the link or remove it."))
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
                return (_problem(path, f"{path} is too large for a profile.", "Keep it below one MiB."),)
            profile = parse_profile(data.decode("utf-8"), path, self._options, self._presets)
        except ProfileInvalid as error:
            return tuple(_problem(path, item.summary, item.advice) for item in error.problems)
        except UnicodeDecodeError:
            return (_problem(path, f"{path} is not text in UTF-8.", "Save it as UTF-8."),)
        except OSError as error:
            return (_problem(path, f"{path} cannot be read: {error.strerror}.", "Check the file's permissions."),)
        return msgspec.structs.replace(profile, source="shipped") if path.parent == self._shipped else profile

    def _model_path(self, profile: Profile, by_tag: Mapping[str, Path]) -> Path:
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

    def _cards(
        self,
        profiles: Iterable[Profile],
        models: Mapping[str, Path],
        named: Mapping[Path, Stamps],
        lacking: Mapping[tuple[str, str], Problem | None],
    ) -> tuple[dict[str, ProfileCard], list[Problem]]:
        cards: dict[str, ProfileCard] = {}
        problems = []
        aliases: dict[str, str] = {}
        for profile in profiles:
            if profile.id in cards:
                continue  # the person's own copy has the shipped one's place
            problems += [
                _problem(
                    Path(profile.source), f"The alias {alias} of {profile.id} already belongs to {aliases[alias]}."
                )
                for alias in profile.aliases
                if alias in aliases
            ]
            aliases.update({alias: profile.id for alias in (profile.id, *profile.aliases) if alias not in aliases})
            path = models[profile.id]
            facts = None if path is NOT_A_FILE else self._facts_of(path, named[path])
            if is_by_name(profile):
                cards[profile.id] = card_by_name(profile, path, facts, lacking[profile.id, profile.source])
                continue
            if profile.model.startswith("builtin:") and profile.model not in BUILTIN_MODELS:
                known = ", ".join(BUILTIN_MODELS)
                facts = _problem(path, f"There is no model {profile.model!r}.", f"Use {known}, or a file's path.")
            if isinstance(facts, Problem) and is_hub_name(profile.model) and not path.exists():
                get = profile.model.replace(":", " ", 1)
                facts = _problem(
                    path, f"{profile.model} is not on this machine.", f"Download it: `engine-room pull {get}`."
                )
            if facts is None:
                facts = _problem(path, f"{path} is not a model but belongs to one.", "Name the model's own file.")
            cards[profile.id] = _card(profile, path, facts, lacking[profile.id, profile.source])
        return cards, problems

    # --- models in folders ---

    def _found(
        self,
        beside: Companions,
        seen: Seen,
        cards: Mapping[str, ProfileCard],
        named: set[Path],
        lacking: Mapping[tuple[str, str], Problem | None],
        context_limit_tokens: int,
    ) -> tuple[list[ProfileCard], list[Problem]]:
        """A card for each model that no profile names yet; a file that cannot be read is a problem of its own."""
        there = (
            name
            for name, family in FAMILIES.items()
            if lacking[name, ENGINE_ITSELF] is None and not family.traits.model_by_name
        )
        of_files = next((family for family in there if family != ENGINE_OF_FOLDERS), DEFAULT_FAMILY)
        taken = {name for card in cards.values() for name in (card.profile.id, *card.profile.aliases)}
        used = {_real(path) for path in named}
        found, problems = [], []
        for path, stamps in seen.models.items():
            if _real(path) in used:
                continue
            facts = self._facts_of(path, stamps)
            if isinstance(facts, Problem):
                problems.append(facts)
            elif facts is not None and not _is_part(facts):
                engine = ENGINE_OF_FOLDERS if facts.format == "safetensors" else of_files
                for told in seen.named.get(path, (None,)):
                    profile_id = next(name for name in _ids(path, told) if name not in taken)
                    profile = profile_from_model(
                        path, facts, profile_id=profile_id, engine=engine, context_limit_tokens=context_limit_tokens
                    )
                    profile = _as_stored(profile, told, beside.projector_of(path), taken)
                    taken.update((profile_id, *profile.aliases))
                    card = _card(profile, path, _with_eyes(facts, profile), lacking[engine, ENGINE_ITSELF])
                    store = TITLES.get(seen.sources.get(path, ""), "")
                    found.append(msgspec.structs.replace(card, store=store))
        return found, problems

    def _facts_of(self, path: Path, stamps: Stamps) -> Facts:
        kept = self._facts.get(path)
        if kept is not None and kept[0] == stamps:
            return kept[1]
        facts: Facts
        try:
            facts = read_folder_facts(path) if path.is_dir() else read_gguf_facts(path)
        except ModelError as error:
            facts = _problem(path, error.summary, error.advice)
        except (OSError, ValueError) as error:  # it vanished between two looks, or its name cannot be one
            facts = _problem(path, f"{path} cannot be read: {error}.")
        self._facts[path] = (stamps, facts)
        return facts


def _cached(cache: Path, name: str) -> Path | None:
    """What a name of the hub means on this disk: a folder of safetensors, or a GGUF file and its further parts."""
    file = cached_file(cache, name)
    return cached_snapshot(cache, name) if file is None else shards_of(file)[0]


ENGINE_OF_FOLDERS = "vllm"
ENGINE_ITSELF = "engine"  # in place of a profile's source


def _plain(family: str) -> Profile:
    """A profile that asks for nothing but an engine."""
    return Profile(id=family, title=family, engine=family, model="", source=ENGINE_ITSELF)


def _card(profile: Profile, path: Path, facts: ModelFacts | Problem, lacking: Problem | None) -> ProfileCard:
    """`lacking`: why no engine can load it. A model that cannot be read is told first."""
    readable = isinstance(facts, ModelFacts)
    return ProfileCard(
        profile=profile,
        facts=facts if isinstance(facts, ModelFacts) else None,
        model_path=str(path),
        available=readable,
        engine_available=lacking is None,
        problem=facts if isinstance(facts, Problem) else lacking,
        companions=companions_of(profile) if readable else (),
    )


def _is_part(facts: ModelFacts) -> bool:
    """Whether a folder holds something else than a language model: a part of one that makes images, say."""
    return facts.format == "safetensors" and facts.architecture == "unknown"


def _as_stored(profile: Profile, named: Named | None, projector: Path | None, taken: Collection[str]) -> Profile:
    """The profile of a found model with what its store says of it, and with its projector."""
    known = {option.name for option in FAMILIES[profile.engine].options}
    beside: dict[str, Scalar] = {"mmproj": str(projector)} if projector is not None else {}
    stored = {**beside, **(named.settings if named is not None else {})}
    settings = {**profile.settings, **{key: value for key, value in stored.items() if key in known}}
    profile = msgspec.structs.replace(profile, settings=settings)
    if named is None:
        return profile
    return msgspec.structs.replace(
        profile,
        title=named.title,
        aliases=tuple(alias for alias in named.aliases if alias not in taken and alias != profile.id),
        sampling=named.sampling,
        system_prompt=named.system_prompt,
    )


def _with_eyes(facts: ModelFacts, profile: Profile) -> ModelFacts:
    if "mmproj" not in profile.settings or "vision" in facts.capabilities:
        return facts
    return msgspec.structs.replace(facts, capabilities=(*facts.capabilities, "vision"))


def _ids(path: Path, named: Named | None = None) -> Iterator[str]:
    """Names for a found model, best first: its own, with its folder's, then counted."""
    if named is not None:
        yield slug(named.title)
    own = name_of_folder(path) if path.is_dir() else model_stem(path)
    yield slug(own)
    yield (longer := slug(f"{path.parent.name}-{own}"))
    number = 2
    while True:
        yield f"{longer}-{number}"
        number += 1


def _real(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, ValueError):
        return path


def _problem(where: Path, summary: str, advice: str = "") -> Problem:
    return Problem(where=str(where), summary=summary, advice=advice)
