"""Makes the cards of the list: of each profile, and of each model that no profile names, from what their files said."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

from app.core.catalog.facts import ModelFacts
from app.core.catalog.gguf_facts import model_stem
from app.core.catalog.hub_cache import is_hub_name, name_of_folder
from app.core.catalog.stores import TITLES
from app.core.options import Scalar
from app.core.profiles import Profile, profile_from_model, slug
from app.core.resources import BUILTIN_MODELS
from app.core.snapshot import Problem, ProfileCard
from app.daemon.companions import companions_of
from app.daemon.folders import Named, Seen, identity_of
from app.daemon.model_groups import Companions
from app.daemon.shelf_names import NOT_A_FILE, card_by_name, is_by_name
from app.daemon.survey import ENGINE_ITSELF, Survey, problem_at
from app.engines.registry import DEFAULT_FAMILY, FAMILIES

ENGINE_OF_FOLDERS = "vllm"

Facts = ModelFacts | Problem | None  # None: a file that belongs to a model without being one


def profile_cards(
    profiles: Iterable[Profile],
    models: Mapping[str, Path],
    facts_of: Mapping[Path, Facts],
    lacking: Mapping[tuple[str, str], Problem | None],
) -> tuple[dict[str, ProfileCard], list[Problem]]:
    """A card for each profile, whether its model is here or not, by id. `facts_of` lacks what has not been read yet."""
    cards: dict[str, ProfileCard] = {}
    problems = []
    aliases: dict[str, str] = {}
    for profile in profiles:
        if profile.id in cards:
            continue  # the person's own copy has the shipped one's place
        problems += [
            problem_at(Path(profile.source), f"The alias {alias} of {profile.id} already belongs to {aliases[alias]}.")
            for alias in profile.aliases
            if alias in aliases
        ]
        aliases.update({alias: profile.id for alias in (profile.id, *profile.aliases) if alias not in aliases})
        path = models[profile.id]
        facts = facts_of.get(path)
        if path is not NOT_A_FILE and path not in facts_of:
            facts = problem_at(path, f"{path} is still being read.", "It can be loaded in a moment.")
        if is_by_name(profile):
            cards[profile.id] = card_by_name(profile, path, facts, lacking[profile.id, profile.source])
            continue
        if profile.model.startswith("builtin:") and profile.model not in BUILTIN_MODELS:
            known = ", ".join(BUILTIN_MODELS)
            facts = problem_at(path, f"There is no model {profile.model!r}.", f"Use {known}, or a file's path.")
        if isinstance(facts, Problem) and is_hub_name(profile.model) and not path.exists():
            get = profile.model.replace(":", " ", 1)
            facts = problem_at(
                path, f"{profile.model} is not on this machine.", f"Download it: `engine-room pull {get}`."
            )
        if facts is None:
            facts = problem_at(path, f"{path} is not a model but belongs to one.", "Name the model's own file.")
        cards[profile.id] = _card(profile, path, facts, lacking[profile.id, profile.source])
    return cards, problems


def companions_among(seen: Seen, facts_of: Mapping[Path, Facts]) -> Companions:
    models = {path: each for path, each in facts_of.items() if isinstance(each, ModelFacts) and not _is_part(each)}
    return Companions(
        seen,
        {path: models[path] for path in seen.models if path in models},
        (path for path in seen.models if facts_of.get(path, ...) is None),
    )


def found_cards(
    survey: Survey, facts_of: Mapping[Path, Facts], beside: Companions, cards: Mapping[str, ProfileCard]
) -> tuple[list[ProfileCard], list[Problem]]:
    """A card for each model that none of `cards` is for; a file that cannot be read is a problem of its own."""
    seen, lacking = survey.seen, survey.lacking
    there = (
        name
        for name, family in FAMILIES.items()
        if lacking[name, ENGINE_ITSELF] is None and not family.traits.model_by_name
    )
    of_files = next((family for family in there if family != ENGINE_OF_FOLDERS), DEFAULT_FAMILY)
    taken = {name for card in cards.values() for name in (card.profile.id, *card.profile.aliases)}
    used = {identity_of(survey.models[card.profile.id]) for card in cards.values() if not is_by_name(card.profile)}
    found, problems = [], []
    for path in seen.models:
        if (identity := seen.identities.get(path)) is not None and identity in used:
            continue
        facts = facts_of.get(path)
        if isinstance(facts, Problem):
            problems.append(facts)
        elif facts is not None and not _is_part(facts):
            engine = ENGINE_OF_FOLDERS if facts.format == "safetensors" else of_files
            for told in seen.named.get(path, (None,)):
                profile_id = next(name for name in _ids(path, told) if name not in taken)
                profile = profile_from_model(
                    path, facts, profile_id=profile_id, engine=engine, context_limit_tokens=survey.context_limit_tokens
                )
                profile = _as_stored(profile, told, beside.projector_of(path), taken)
                taken.update((profile_id, *profile.aliases))
                card = _card(profile, path, _with_eyes(facts, profile), lacking[engine, ENGINE_ITSELF])
                store = TITLES.get(seen.sources.get(path, ""), "")
                found.append(msgspec.structs.replace(card, store=store))
    return found, problems


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
