"""Makes the cards of profiles whose model is a name that an engine knows, and no file that we read: Ollama's and remote ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from app.core.catalog.facts import ModelFacts
from app.core.catalog.stores import OLLAMA, TITLES
from app.core.profiles import Profile
from app.core.snapshot import Problem, ProfileCard
from app.daemon.folders import Seen
from app.engines.ollama import full_name
from app.engines.registry import FAMILIES
from app.engines.remote import addresses_of, host_of

NOT_A_FILE = Path("/nowhere")  # in place of a model's file


def is_by_name(profile: Profile) -> bool:
    family = FAMILIES.get(profile.engine)
    return family is not None and family.traits.model_by_name


def paths_by_tag(seen: Seen) -> Mapping[str, Path]:
    """What Ollama's store calls each of its files, with every other name that it has there."""
    return {
        full_name(alias): path
        for path, names in seen.named.items()
        if seen.sources.get(path) == OLLAMA
        for named in names
        for alias in (named.title, *named.aliases)
    }


def card_by_name(
    profile: Profile, path: Path, facts: ModelFacts | Problem | None, lacking: Problem | None
) -> ProfileCard:
    """The card. Whether the engine really has the model is told by the engine when it is loaded: its store may lie elsewhere,
    and a file of it that cannot be read here is no reason against it."""
    known = facts if isinstance(facts, ModelFacts) else None
    addresses = addresses_of(profile.settings)
    where = f" at {host_of(addresses[0])}" if addresses else ""
    return ProfileCard(
        profile=profile,
        facts=known,
        model_path=str(path) if known is not None else f"{profile.model}{where}",
        available=True,
        engine_available=lacking is None,
        problem=lacking,
        store=TITLES.get(OLLAMA, "") if profile.engine == OLLAMA else "",
    )
