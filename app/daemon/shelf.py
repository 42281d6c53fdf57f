"""Remembers what every model's files said until they change, and lists what a survey saw as far as it has been read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from app.core.catalog.gguf_facts import read_gguf_facts
from app.core.catalog.safetensors import read_folder_facts
from app.core.errors import ModelError
from app.core.profile_set import problems_of
from app.core.profiles import Profile
from app.core.settings import Settings
from app.core.snapshot import ModelGroup, Problem, ProfileCard
from app.daemon.shelf_cards import Facts, companions_among, found_cards, profile_cards
from app.daemon.shelf_names import NOT_A_FILE
from app.daemon.survey import Stamps, Survey, Surveyor, problem_at, stamps_of

MAX_PROBLEMS = 200


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    cards: tuple[ProfileCard, ...]
    problems: tuple[Problem, ...]
    folders: tuple[str, ...]
    models: tuple[ModelGroup, ...]
    unread: int = 0  # models that are there and not in it yet, or in it as they were


class Shelf:
    """`survey` and `read` are for one thread at a time each; `listing` and `card_of` may run beside `read`."""

    def __init__(self, surveyor: Surveyor) -> None:
        self._surveyor = surveyor
        self._facts: dict[Path, tuple[Stamps, Facts]] = {}
        self._listed: Survey | None = None

    def survey(self, settings: Settings) -> Survey | None:
        """What is there now; None when nothing has changed since the last whole listing."""
        survey = self._surveyor.survey(settings)
        return None if survey == self._listed else survey

    def read(self, survey: Survey, go_on: Callable[[], bool] = lambda: True) -> None:
        """Reads every model that is not known as it is now, one after another; each can be listed from then on."""
        self._facts = {path: kept for path in survey.stamps if (kept := self._facts.get(path)) is not None}
        for path, stamps in survey.stamps.items():
            if not go_on():
                return
            self._read(path, stamps)

    def listing(self, survey: Survey) -> Listing:
        """The list as far as it has been read. A model that is being read again is listed as it was."""
        kept = {path: each for path in survey.stamps if (each := self._facts.get(path)) is not None}
        facts = {path: each for path, (_, each) in kept.items()}
        unread = sum(1 for path, stamps in survey.stamps.items() if path not in kept or kept[path][0] != stamps)
        cards, clashes = profile_cards(survey.profiles, survey.models, facts, survey.lacking)
        beside = companions_among(survey.seen, facts)
        found, unreadable = found_cards(survey, facts, beside, cards)
        between = problems_of({card.profile.id: card.profile for card in (*cards.values(), *found)})
        if not unread:
            self._listed = survey
        return Listing(
            cards=(*cards.values(), *found),
            problems=(*survey.problems, *clashes, *between, *survey.seen.problems, *unreadable)[:MAX_PROBLEMS],
            folders=tuple(str(folder) for folder in survey.folders),
            models=beside.groups((*cards.values(), *found), survey.seen),
            unread=unread,
        )

    def card_of(self, profile: Profile) -> ProfileCard:
        """The card of one profile that no file holds (yet); its model may lie anywhere."""
        path = self._surveyor.model_path(profile, {})
        facts = {} if path is NOT_A_FILE else {path: self._read(path, stamps_of(path))}
        lacking = {(profile.id, profile.source): self._surveyor.lacking(profile)}
        cards, _ = profile_cards([profile], {profile.id: path}, facts, lacking)
        return cards[profile.id]

    def _read(self, path: Path, stamps: Stamps) -> Facts:
        kept = self._facts.get(path)
        if kept is not None and kept[0] == stamps:
            return kept[1]
        facts: Facts
        try:
            facts = read_folder_facts(path) if path.is_dir() else read_gguf_facts(path)
        except ModelError as error:
            facts = problem_at(path, error.summary, error.advice)
        except (OSError, ValueError) as error:  # it vanished between two looks, or its name cannot be one
            facts = problem_at(path, f"{path} cannot be read: {error}.")
        self._facts[path] = (stamps, facts)
        return facts
