"""Decides what may be done to engines and caches now, and has it done as a job: install, remove, try against another, clear."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from msgspec.structs import replace

from app.core import control
from app.core.errors import BadRequest, EngineBusy, EngineNotInstalled, ModelMissing, SettingInvalid
from app.core.lifecycle import Failed, Idle
from app.core.paths import Paths
from app.core.profiles import Profile
from app.core.snapshot import Gpus, Offer, ProfileCard, Seats
from app.daemon import docker_images, processes
from app.daemon.board import Board
from app.daemon.caches import cache_folder, caches
from app.daemon.engine_sources import Source, accelerators_here, offers, source_for, sources
from app.daemon.installations import installed
from app.daemon.job_program import Clearing, Installing, Removing, Trying, known_sources_file
from app.daemon.jobs import Jobs
from app.engines.base import Installation, Launch
from app.engines.registry import FAMILIES

_CACHES = "caches"  # what an installation writes and a clearing takes away


class Shelf(Protocol):
    """Whoever knows the profiles and the facts of their models."""

    def card(self, profile_id: str, as_run: str = "") -> ProfileCard: ...


class Finder(Protocol):
    """Whoever knows the installed engines."""

    def installation(self, installation_id: str) -> Installation | None: ...
    def find(self, family_id: str, pin: str = "") -> Installation | None: ...


class EngineWork:
    def __init__(
        self,
        jobs: Jobs,
        paths: Paths,
        environment: Mapping[str, str],
        *,
        finder: Finder,
        shelf: Shelf,
        board: Board,
    ) -> None:
        self._jobs = jobs
        self._paths, self._environment = paths, environment
        self._finder, self._shelf = finder, shelf
        self._board = board

    def _seats(self) -> Seats:
        seats = self._board.get("seats")
        assert isinstance(seats, Seats)
        return seats

    def _gpus(self) -> Gpus:
        gpus = self._board.get("gpus")
        assert isinstance(gpus, Gpus)
        return gpus

    # --- engines

    async def install(self, wish: control.Install) -> control.JobStarted:
        """Raises SettingInvalid for what there is not, EngineBusy when an installation of that engine is under way."""
        file = known_sources_file()
        if wish.family == docker_images.FAMILY:
            return await self._fetch_image(wish, _sources_of(file, file.stat().st_mtime_ns)["vllm"].version)
        source = source_for(wish.family, _sources_of(file, file.stat().st_mtime_ns), wish.version)
        there = tuple(dict.fromkeys(build.accelerator for build in source.build))
        if wish.accelerator and wish.accelerator not in there:
            raise SettingInvalid(
                f"There is no build of {source.package} for {wish.accelerator!r}.", f"There are: {', '.join(there)}."
            )
        self._refuse_while("clear", "A cache is being cleared.")
        order = Installing(
            family=source.family,
            version=source.version,
            accelerator=wish.accelerator,
            again=wish.again,
            engines=str(self._paths.engines),
            cache=str(self._paths.cache),
        )
        title = f"Installing {source.package} {source.version}"
        busy = frozenset((source.family, *source.families))
        return control.JobStarted(job=await self._jobs.begin("install", title, source.family, order, busy))

    async def _fetch_image(self, wish: control.Install, usual_version: str) -> control.JobStarted:
        accelerator = wish.accelerator or accelerators_here()[0]
        order = await asyncio.to_thread(
            docker_images.order_for, wish.version, accelerator, self._environment, usual_version
        )
        title = f"Fetching {order.image}"
        busy = frozenset((docker_images.FAMILY,))
        return control.JobStarted(job=await self._jobs.begin("install", title, wish.family, order, busy))

    async def remove(self, wish: control.EngineOf) -> control.JobStarted:
        """Only what Engine Room installed, and not while a run uses it."""
        rows = {folder.name: (folder, record) for folder, record in installed(self._paths.engines)}
        if wish.installation not in rows:
            if self._finder.installation(wish.installation) is not None:
                raise BadRequest(
                    f"{wish.installation} was not installed by Engine Room, so it does not remove it.",
                    "Remove it the way it came.",
                )
            known = ", ".join(rows) or "none"
            raise EngineNotInstalled(
                f"There is no installation {wish.installation[:100]!r}.", f"Engine Room installed: {known}."
            )
        folder, record = rows[wish.installation]
        user = self._user_of(folder)
        if user:
            raise EngineBusy(f"{wish.installation} is used by {user} now.", "Unload that first.")
        order = Removing(place=str(folder))
        busy = frozenset((record.family, *record.families))
        title = f"Removing {wish.installation}"
        return control.JobStarted(job=await self._jobs.begin("remove", title, wish.installation, order, busy))

    def _user_of(self, folder: Path) -> str:
        """The title of the run that executes something in that folder; "" when none does."""
        for seat in self._seats().seats:
            run = seat.run
            if run is not None and run.ended_at_unix is None and run.argv and Path(run.argv[0]).is_relative_to(folder):
                return run.title
        return ""

    # --- the canary

    async def canary(self, wish: control.Canary) -> control.JobStarted:
        """Runs only while nothing is loaded: it needs the memory for itself, and its figures would say nothing otherwise."""
        new = self._finder.installation(wish.installation)
        if new is None:
            raise EngineNotInstalled(
                f"There is no installation {wish.installation[:100]!r}.", "`engine-room engines list` shows them."
            )
        if new.problem:
            raise EngineNotInstalled(f"{new.id} cannot be used: {new.problem}")
        if FAMILIES[new.family].traits.model_by_name:
            raise BadRequest(
                f"{new.id} has its models by name, so it cannot be tried on a file.", "Load a profile of it."
            )
        if new.client:
            raise BadRequest("An image cannot be tried against another engine.", "Load a profile that pins it instead.")
        for seat in self._seats().seats:
            if seat.wanted is not None or not isinstance(seat.phase, Idle | Failed):
                loaded = seat.run.title if seat.run is not None else seat.wanted or "A model"
                raise EngineBusy(
                    f"{loaded} is loaded, and a canary needs the memory and the processor for itself.",
                    "Unload it first.",
                )
        card = self._shelf.card(wish.profile)
        if not card.available:
            problem = card.problem
            raise ModelMissing(problem.summary if problem else f"The model of {wish.profile} is not here.")
        new = self._serving(new, card.profile.engine)
        old = self._other_than(new, card.profile)
        order = Trying(new=self._launch(new, card), old=self._launch(old, card) if old is not None else None)
        against = f" against {old.id}" if old is not None else ""
        busy = frozenset(("canary", new.family, *([old.family] if old is not None else [])))
        title = f"Trying {new.id}{against}"
        return control.JobStarted(job=await self._jobs.begin("canary", title, new.id, order, busy))

    def _serving(self, new: Installation, family: str) -> Installation:
        """One folder may hold two families' engines under one id: the one that the profile is for comes first."""
        other = self._finder.find(family, new.id)
        return other if other is not None and other.id == new.id else new

    def _other_than(self, new: Installation, profile: Profile) -> Installation | None:
        """What runs this profile now; when that is the new one itself, there is nothing to compare it with."""
        found = self._finder.find(profile.engine, profile.installation)
        if found is None or (found.id, found.executable) == (new.id, new.executable):
            found = self._finder.find(new.family)
        return None if found is None or (found.id, found.executable) == (new.id, new.executable) else found

    def _launch(self, installation: Installation, card: ProfileCard) -> Launch:
        """The profile's launch with that engine; settings that another family does not have are left out."""
        family = FAMILIES[installation.family]
        known = {option.name for option in family.options}
        settings = {name: value for name, value in card.profile.settings.items() if name in known}
        profile = replace(card.profile, engine=family.id, settings=settings)
        launch = Launch(
            profile=profile,
            model_path=card.model_path,
            installation=installation,
            port=0,
            run_id="",
            model_name=profile.id,
            facts=card.facts,
            gpu_uuids=profile.gpus or tuple(gpu.uuid for gpu in self._gpus().gpus),
            physical_cores=processes.physical_cores(),
        )
        family.command(launch)  # a setting that it cannot take is refused here, not in the job
        return launch

    # --- jobs and caches

    async def cancel(self, wish: control.JobOf) -> control.Accepted:
        self._jobs.cancel(wish.job)
        return control.Accepted(note="It is being cancelled.")

    async def log_text(self, job_id: str) -> str:
        return await self._jobs.log_text(job_id)

    async def caches(self) -> control.Caches:
        return control.Caches(caches=await asyncio.to_thread(caches, self._paths, self._environment))

    async def clear(self, wish: control.CacheOf) -> control.JobStarted:
        title, folder = cache_folder(wish.cache, self._paths, self._environment)
        self._refuse_while("install", "An engine is being installed.")
        order = Clearing(title=title, folder=str(folder))
        started = await self._jobs.begin("clear", f"Clearing {title}", wish.cache, order, frozenset((_CACHES,)))
        return control.JobStarted(job=started)

    def refuse_while_trying(self) -> None:
        """A load beside a canary would be admitted against memory that the canary is about to take (I4)."""
        self._refuse_while("canary", "An engine is being tried on a model, and needs the memory for itself.")

    def _refuse_while(self, kind: str, sentence: str) -> None:
        if self._jobs.running(kind):
            raise EngineBusy(sentence, "Wait until that is over.")


def offered(rows: Sequence[Installation]) -> dict[str, tuple[Offer, ...]]:
    """What could be installed here, by family; `rows` are the installations that there are."""
    file = known_sources_file()
    known = _sources_of(file, file.stat().st_mtime_ns)
    names = [row.id for row in rows if row.source == "ours"]
    return {family: offers(family, known, accelerators_here(), names) for family in known}


@lru_cache(maxsize=2)
def _sources_of(file: Path, stamp: int) -> dict[str, Source]:
    """Read again only when the table has changed; the slice is made anew far more often."""
    return sources(file)
