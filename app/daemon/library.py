"""Owns the list of what can be loaded: shipped profiles, the person's own, models found in folders; each with facts and plan."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping
from difflib import get_close_matches

import msgspec

from app.core.catalog.facts import Companion, ModelFacts
from app.core.errors import EngineNotInstalled, SettingInvalid, UnknownProfile, UnknownRun
from app.core.memory import plan
from app.core.memory.elsewhere import NOTHING_NEEDED
from app.core.memory.learning import NOTHING_KNOWN, Knowledge
from app.core.memory.plan_types import MemoryPlan
from app.core.options import Scalar, problem_with
from app.core.paths import Paths
from app.core.profiles import Profile, merged, profile_from_model, with_defaults
from app.core.settings import MemorySettings, Settings
from app.core.snapshot import Gpus, ProfileCard
from app.core.snapshot import Library as LibrarySlice
from app.daemon import installations
from app.daemon.companions import companions_of
from app.daemon.shelf import Shelf
from app.daemon.shelf_cards import ENGINE_OF_FOLDERS
from app.daemon.survey import Survey, Surveyor
from app.daemon.tasks import Tasks
from app.engines.base import Installation
from app.engines.registry import DEFAULT_FAMILY, FAMILIES, computes_on, engine_of, is_elsewhere

log = logging.getLogger(__name__)

POLL_SECONDS = 2.0  # not every drive tells of changes
POLL_SHARE = 0.01  # a slow walk makes the pauses longer: looking for changes takes at most this share of the time
LONGEST_PAUSE_SECONDS = 30.0
FIRST_SCAN_SECONDS = 10.0  # a drive that hangs must not keep the service from starting
GLIMPSE_SECONDS = 0.1  # while models are read, the list is shown as far as it is
GLIMPSE_SHARE = 0.1  # making such lists takes at most this share of the time
MATERIAL_BYTES = 64 * 1024**2  # smaller changes of memory do not make plans worth computing again
SHOWN_BYTES = 256 * 1024**2  # and smaller changes of a plan's room are not worth sending

FindEngine = Callable[[Profile], Installation]  # raises EngineNotInstalled with what to do


class Library:
    """`publish` gets the whole slice, only when it changed. All methods belong to the event loop; files are read in a thread."""

    def __init__(
        self,
        paths: Paths,
        settings: Settings,
        publish: Callable[[LibrarySlice], None],
        *,
        find_engine: FindEngine | None = None,
        shelf: Shelf | None = None,
        poll_seconds: float = POLL_SECONDS,
        knowledge: Callable[[], Knowledge] = Knowledge,
    ) -> None:
        self._publish = publish
        self._find_engine = find_engine or (lambda profile: installations.need(profile, paths, os.environ))
        self._settings = settings
        self._shelf = shelf or Shelf(Surveyor(paths, self._find_engine))
        self._poll_seconds = poll_seconds
        self.knowledge = knowledge
        self._cards: dict[str, ProfileCard] = {}
        self._profiles: dict[str, Profile] = {}
        self._gpus: Gpus | None = None
        self._leaving: Mapping[str, int] | None = None
        self._runs_of_seats: Mapping[str, str] | None = None
        self._priced_at: dict[str, int] = {}
        self._look, self._price, self._listed = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._price_all, self._closed = False, False
        self._scans = asyncio.Lock()
        self._tasks = Tasks()
        self.recalled: dict[str, ProfileCard] = {}  # run → its profile as it was then, for whoever runs it again
        self.current = LibrarySlice()

    def start(self) -> None:
        """What is there is shown as it is found; `listed` waits for all of it."""
        self._tasks.start(self._watch(), "library: look for changes")
        self._tasks.start(self._keep_priced(), "library: price")

    async def listed(self) -> None:
        """Returns when the first list is whole, or after a while when a drive is slow: then the rest follows."""
        try:
            async with asyncio.timeout(FIRST_SCAN_SECONDS):
                await self._listed.wait()
        except TimeoutError:
            log.warning("the model folders take long to read; the rest of the list follows")

    async def close(self) -> None:
        self._closed = True
        await self._tasks.close()

    def card(self, profile_id: str, as_run: str = "") -> ProfileCard:
        """The profile of that id or alias, or as it was in that run; raises UnknownProfile listing what there is."""
        found = self._cards.get(profile_id) if not as_run else self.recalled.get(as_run)
        if as_run and found is None:
            raise UnknownRun(f"The run {as_run} is not known any more.", "Load its profile instead.")
        if found is None:
            found = next((card for card in self._cards.values() if profile_id in card.profile.aliases), None)
        if found is None:
            shown = profile_id if len(profile_id) <= 80 else profile_id[:79] + "…"
            near = get_close_matches(shown, self._cards, n=1)
            names = ", ".join(list(self._cards)[:20]) or "none yet"
            raise UnknownProfile(
                f"There is no model called {shown!r}.",
                f"Did you mean {near[0]}?" if near else f"There are: {names}.",
            )
        return found

    @property
    def profiles(self) -> Mapping[str, Profile]:
        """All profiles by id, as they are now."""
        return self._profiles

    def merged(self, card: ProfileCard, settings: Mapping[str, Scalar]) -> Profile:
        """The card's profile with `settings` laid over; raises SettingInvalid for one that its engine cannot take."""
        options = {option.name: option for option in FAMILIES[card.profile.engine].options}
        for name, value in settings.items():
            option = options.get(name)
            problem = "is not a setting of this engine" if option is None else problem_with(option, value)
            if problem:
                advice = option.sentence if option else f"It has: {', '.join(sorted(options))}."
                raise SettingInvalid(f"{card.profile.id}: settings.{name} {problem}.", advice)
        return merged(card.profile, settings)

    async def card_of(self, profile: Profile) -> ProfileCard:
        """The card of a profile that is not in the list, read now."""
        return await asyncio.to_thread(self._shelf.card_of, profile)

    def take_over(self, settings: Settings) -> None:
        """Folders and limits may change while running."""
        self._settings = settings
        self._priced_at = {}
        self._look.set()
        self._price_soon()

    def look_soon(self) -> None:
        """Files have come or gone."""
        self._look.set()

    def price_anew(self) -> None:
        """What is known of memory has changed."""
        self._price_soon()

    def price_of(self, facts: ModelFacts, companions: tuple[Companion, ...]) -> MemoryPlan | None:
        """What loading a model that is not here yet would need now; None while memory is not known."""
        return plan_of_stranger(facts, companions, self._settings, self._gpus, self._installation_of)

    async def rescan(self) -> bool:
        """Looks now; whether anything had changed. Plans of unchanged cards stay; new cards are priced a little later."""
        async with self._scans:
            survey = await asyncio.to_thread(self._shelf.survey, self._settings)
            if survey is None:
                return False
            reading = asyncio.get_running_loop().run_in_executor(
                None, self._shelf.read, survey, lambda: not self._closed
            )
            try:
                pause = GLIMPSE_SECONDS
                while not (await asyncio.wait({reading}, timeout=pause))[0]:
                    began = time.monotonic()
                    await self._list(survey)
                    pause = max(GLIMPSE_SECONDS, (time.monotonic() - began) / GLIMPSE_SHARE)
                await reading
            finally:
                reading.cancel()
            await self._list(survey)
            self._price_soon()
            return True

    async def _list(self, survey: Survey) -> None:
        """Shows what is known by now of what the survey saw."""
        listing = await asyncio.to_thread(self._shelf.listing, survey)
        cards = tuple(_with_plan_of(card, self._cards.get(card.profile.id)) for card in listing.cards)
        self._show(
            LibrarySlice(
                profiles=cards,
                problems=listing.problems,
                folders=listing.folders,
                models=listing.models,
                unread=listing.unread,
            )
        )
        self._price.set()  # at least the new ones

    def reprice(
        self,
        gpus: Gpus,
        leaving_bytes: Mapping[str, int] | None = None,
        runs_of_seats: Mapping[str, str] | None = None,
    ) -> None:
        """Called at each sample: plans are computed again, a little later and card by card, when memory moved enough.

        `leaving_bytes` is what the loaded model would give back; without it, what the run of the profile's own seat
        holds on the cards (`runs_of_seats`), and without that, what our engines hold.
        """
        self._gpus, self._leaving, self._runs_of_seats = gpus, leaving_bytes, runs_of_seats
        if _moved(self._priced_at, _figures(gpus, leaving_bytes)):
            self._price_soon()

    def _price_soon(self) -> None:
        """All cards, a little later."""
        self._price_all = True
        self._price.set()

    async def _watch(self) -> None:
        while True:
            self._look.clear()
            began = time.monotonic()
            changed = True
            try:
                changed = await self.rescan()
            except Exception:  # whatever a folder holds, the next look must come
                log.exception("the model folders could not be searched")
            self._listed.set()
            walked = 0.0 if changed else time.monotonic() - began
            pause = max(self._poll_seconds, min(walked / POLL_SHARE, LONGEST_PAUSE_SECONDS))
            try:
                async with asyncio.timeout(pause):
                    await self._look.wait()
            except TimeoutError:
                pass

    async def _keep_priced(self) -> None:
        while True:
            await self._price.wait()
            self._price.clear()
            if self._gpus is None:
                continue
            everything, self._price_all = self._price_all, False
            if everything:
                self._priced_at = _figures(self._gpus, self._leaving)
            for profile_id in list(self._cards):
                card = self._cards.get(profile_id)
                if card is None or not (everything or card.plan is None):
                    continue
                self._cards[profile_id] = self._priced(card)
                await asyncio.sleep(0)  # a refusal's remedies take milliseconds, and tokens pass through this loop
            self._show(msgspec.structs.replace(self.current, profiles=tuple(self._cards.values())))

    def _priced(self, card: ProfileCard) -> ProfileCard:
        """The card priced now; its plan is kept when nothing that anybody would see has changed."""
        if self._gpus is None or not card.available:
            return card
        leaving = self._leaving
        if leaving is None and self._runs_of_seats is not None:
            leaving = held_by_engines(self._gpus, only=self._runs_of_seats.get(card.profile.seat, ""))
        now = plan_of(
            card,
            self._gpus,
            self._settings.memory,
            self._installation_of(card.profile),
            leaving,
            knowledge=self.knowledge(),
        )
        if card.plan is not None and not _differs(card.plan, now):
            return card
        return msgspec.structs.replace(card, plan=now)

    def _installation_of(self, profile: Profile) -> Installation | None:
        try:
            return self._find_engine(profile)
        except EngineNotInstalled:
            return None

    def _show(self, library: LibrarySlice) -> None:
        self._cards = {card.profile.id: card for card in library.profiles}
        self._profiles = {profile_id: card.profile for profile_id, card in self._cards.items()}
        if library != self.current:
            self.current = library
            self._publish(library)


def _with_plan_of(card: ProfileCard, before: ProfileCard | None) -> ProfileCard:
    """The card with the plan that it had, when it is still the same in all else."""
    if before is None or before.plan is None or msgspec.structs.replace(before, plan=None) != card:
        return card
    return before


def plan_of(
    card: ProfileCard,
    gpus: Gpus,
    limits: MemorySettings,
    installation: Installation | None,
    leaving_bytes: Mapping[str, int] | None = None,
    companions: tuple[Companion, ...] | None = None,
    knowledge: Knowledge = NOTHING_KNOWN,
) -> MemoryPlan:
    """What loading the card's profile would need now. Without an installed engine: as the one for this machine would."""
    profile = card.profile
    if installation is not None and is_elsewhere(installation):
        return NOTHING_NEEDED
    return plan(
        card.facts,
        with_defaults(FAMILIES[profile.engine].options, profile.settings),
        family=profile.engine,
        accelerator=computes_on(installation, bool(gpus.gpus)) if installation else "cuda" if gpus.gpus else "cpu",
        gpus=gpus,
        headroom_bytes=limits.headroom_bytes,
        host_headroom_bytes=limits.host_headroom_bytes,
        threshold=limits.threshold,
        leaving_bytes=held_by_engines(gpus) if leaving_bytes is None else leaving_bytes,
        our_run_ids={process.run_id for gpu in gpus.gpus for process in gpu.processes or () if process.run_id},
        gpu_uuids=profile.gpus,
        companions=companions_of(profile) if companions is None else companions,
        solve=True,
        engine=engine_of(installation),
        knowledge=knowledge,
    )


def plan_of_stranger(
    facts: ModelFacts,
    companions: tuple[Companion, ...],
    settings: Settings,
    gpus: Gpus | None,
    installation_of: Callable[[Profile], Installation | None],
) -> MemoryPlan | None:
    """The plan of a model as it would be listed once it is here."""
    if gpus is None:
        return None
    limit = settings.memory.context_limit_tokens
    engine = ENGINE_OF_FOLDERS if facts.format == "safetensors" else DEFAULT_FAMILY
    profile = profile_from_model(facts.path, facts, profile_id="new", engine=engine, context_limit_tokens=limit)
    card = ProfileCard(profile=profile, facts=facts, model_path=str(facts.path), available=True, engine_available=True)
    return plan_of(card, gpus, settings.memory, installation_of(profile), companions=companions)


def held_by_engines(gpus: Gpus, only: str | None = None) -> dict[str, int]:
    """Card → bytes that our engines hold there, or that one run of ours: what a switch gives back."""
    return {
        gpu.uuid: sum(p.bytes or 0 for p in gpu.processes or () if p.run_id and only in (None, p.run_id))
        for gpu in gpus.gpus
    }


def _figures(gpus: Gpus, leaving_bytes: Mapping[str, int] | None) -> dict[str, int]:
    """Everything that a plan depends on beside its card, as numbers by name."""
    figures = {f"driver {gpus.driver.value} {gpus.message}": 0}
    figures |= {f"leaving {device}": size for device, size in (leaving_bytes or {}).items()}
    for gpu in gpus.gpus:
        figures[f"{gpu.uuid} total"] = gpu.total_bytes or 0
        figures[f"{gpu.uuid} free"] = -1 if gpu.free_bytes is None else gpu.free_bytes
        for process in gpu.processes or ():
            figures[f"{gpu.uuid} {process.pid} {process.run_id}"] = process.bytes or 0
    if gpus.host is not None:
        figures["host total"] = gpus.host.total_bytes
        figures["host available"] = gpus.host.available_bytes
    return figures


def _moved(before: Mapping[str, int], now: Mapping[str, int]) -> bool:
    return before.keys() != now.keys() or any(abs(now[key] - before[key]) >= MATERIAL_BYTES for key in now)


def _differs(before: MemoryPlan, now: MemoryPlan) -> bool:
    """Whether a person would see it: another verdict, sentence or remedy, or clearly more or less room."""
    if (before.verdict, before.summary, before.remedies) != (now.verdict, now.summary, now.remedies):
        return True
    if [device.parts for device in before.devices] != [device.parts for device in now.devices]:
        return True
    rooms = [{device.device: device.available_bytes for device in each.devices} for each in (before, now)]
    if rooms[0].keys() != rooms[1].keys():
        return True
    return any(
        (room is None) != (rooms[1][name] is None) or abs((room or 0) - (rooms[1][name] or 0)) >= SHOWN_BYTES
        for name, room in rooms[0].items()
    )
