"""Owns what is done with the hub of models: searching it, pricing what it offers, downloading, and deleting with an undo."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from msgspec.structs import replace

from app.core import control
from app.core.catalog.facts import Companion, ModelFacts
from app.core.catalog.hub_cache import HUB_NAME, hub_cache_folder
from app.core.errors import DiskFull, EngineBusy, EngineRoomError, ModelMissing, NotOnHub
from app.core.hub import VISION, Downloaded, Downloads, HubForm, HubListing, picked, with_recommended
from app.core.memory.plan_types import MemoryPlan
from app.core.snapshot import Job, Seats
from app.core.snapshot import Jobs as JobsSlice
from app.daemon import hub_shelf
from app.daemon.board import Board
from app.daemon.hub_child import HubChild
from app.daemon.hub_program import Files, Newest, Search
from app.daemon.hub_transfer import ROOM_LEFT_BYTES, Pulling, free_bytes, here_bytes, repository_folder
from app.daemon.jobs import Jobs
from app.daemon.keys import Keys

log = logging.getLogger(__name__)

TOKEN = "hub"  # its name among the keys
TOKEN_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")

Price = Callable[[ModelFacts, tuple[Companion, ...]], MemoryPlan | None]


class Hub:
    """`price` says what loading a model would need now; `changed` is called when files came or went."""

    def __init__(
        self,
        jobs: Jobs,
        environment: Mapping[str, str],
        keys: Keys,
        board: Board,
        price: Price,
        changed: Callable[[], None],
    ) -> None:
        self._jobs, self._environment, self._board = jobs, environment, board
        self._price, self._changed = price, changed
        self._keys = keys
        self._token = ""
        self._child = HubChild(self._child_environment)
        self._newest: dict[str, str] = {}

    async def start(self) -> None:
        """Goes on with what was being downloaded when the service ended, unless somebody had paused it."""
        await self._look_for_token()
        for job_id in self._jobs.cut_off():
            try:
                await self.resume(control.JobOf(job=job_id))
            except EngineRoomError as error:
                log.warning("a download is not gone on with: %s", error)

    async def close(self) -> None:
        await self._child.close()

    async def _look_for_token(self) -> None:
        """Asked before each use: it may have been given or taken away since."""
        token = await self._keys.get(TOKEN) or ""
        if token != self._token:
            self._token = token
            self._child.let_go()

    @property
    def cache(self) -> Path:
        return hub_cache_folder(self._environment)

    def _child_environment(self) -> dict[str, str]:
        return {**self._environment, **self._for_children()}

    def _for_children(self) -> dict[str, str]:
        """What the hub's library is told: the person's token, and to keep to itself what it learns of this machine."""
        quiet = {
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        }
        named = any(self._environment.get(variable) for variable in TOKEN_VARIABLES)
        return {**quiet, **({"HF_TOKEN": self._token} if self._token and not named else {})}

    # --- looking

    async def search(self, wish: control.HubSearch) -> control.HubFound:
        await self._look_for_token()
        answer = await self._child.ask(Search(words=wish.words.strip()[:200], kind=wish.kind, limit=wish.limit))
        return control.HubFound(models=answer.models or ())

    async def files(self, wish: control.HubOf) -> HubListing:
        """All forms with what is here of them; with `verdicts`, each priced and one recommended."""
        _refuse_bad_name(wish.name)
        await self._look_for_token()
        answer = await self._child.ask(Files(name=wish.name, facts=wish.verdicts))
        assert answer.listing is not None
        return await asyncio.to_thread(self._known_here, answer.listing)

    def _known_here(self, listing: HubListing) -> HubListing:
        repository = repository_folder(self.cache, listing.name)
        forms = []
        for form in listing.forms:
            files = tuple(replace(file, here_bytes=here_bytes(repository, file)) for file in form.files)
            forms.append(replace(form, files=files, plan=self._plan_of(form)))
        before = hub_shelf.main_commits(self.cache).get(listing.name, "")
        return replace(
            listing,
            forms=with_recommended(forms),
            free_bytes=free_bytes(self.cache),
            folder=str(self.cache),
            outdated=bool(before) and before != listing.commit,
        )

    def _plan_of(self, form: HubForm) -> MemoryPlan | None:
        if form.facts is None:
            return None
        beside = tuple(
            Companion(role=VISION, path=Path(file.path), weights_bytes=file.bytes)
            for file in form.files
            if file.role == VISION
        )
        return self._price(form.facts, beside)

    # --- downloading

    async def pull(self, wish: control.Pull) -> control.JobStarted:
        """Raises NotOnHub for a file that is not there, DiskFull before a byte comes, EngineBusy while it is under way."""
        _refuse_bad_name(wish.name)
        unfinished = next((job.id for job in self._unfinished() if job.subject == wish.name and not wish.file), "")
        if unfinished:
            await self.resume(control.JobOf(job=unfinished))
            return control.JobStarted(job=unfinished)
        listing = await self.files(control.HubOf(name=wish.name, verdicts=not wish.file))
        form = picked(listing, wish.file)
        if form is None:
            raise _which(listing, wish.file)
        missing, free = form.missing_bytes, listing.free_bytes
        if free is not None and missing + ROOM_LEFT_BYTES > free:
            raise DiskFull(
                f"{form.title} needs {missing / 1e9:.1f} GB more in {self.cache}, where {free / 1e9:.1f} GB are free.",
                "Make room there, or set HF_HUB_CACHE to a folder on another disk.",
            )
        order = Pulling(name=listing.name, commit=listing.commit, files=form.files, cache=str(self.cache))
        title = f"{listing.name.rpartition('/')[2]} {form.title}" if form.name else listing.name.rpartition("/")[2]
        if paused := next(
            (job.id for job in self._unfinished() if (job.subject, job.title) == (listing.name, title)), ""
        ):
            await self.resume(control.JobOf(job=paused))
            return control.JobStarted(job=paused)
        job = await self._jobs.begin("pull", title, listing.name, order, _busy(listing.name), self._for_children())
        return control.JobStarted(job=job)

    def _unfinished(self) -> list[Job]:
        return [job for job in self._pulls() if job.state == "paused"]

    def _pulls(self) -> list[Job]:
        jobs = self._board.get("jobs")
        assert isinstance(jobs, JobsSlice)
        return [job for job in jobs.jobs if job.kind == "pull"]

    async def pause(self, wish: control.JobOf) -> control.Accepted:
        self._jobs.pause(wish.job)
        return control.Accepted(note="It is being paused; what has come stays.")

    async def resume(self, wish: control.JobOf) -> control.Accepted:
        await self._look_for_token()
        await self._jobs.resume(wish.job, _busy(self._jobs.subject_of(wish.job)), self._for_children())
        return control.Accepted(note="It goes on.")

    # --- what is here

    async def downloads(self) -> Downloads:
        return await asyncio.to_thread(self._downloads)

    async def updates(self, _: control.Refresh) -> Downloads:
        """The same, with what the hub has newer."""
        names = tuple(hub_shelf.main_commits(self.cache))
        answer = await self._child.ask(Newest(names=names))
        self._newest = answer.commits or {}
        return await self.downloads()

    def _downloads(self) -> Downloads:
        models, parts = hub_shelf.contents(self.cache)
        runs = self._read_by_runs()
        mains = hub_shelf.main_commits(self.cache)

        def told(model: Downloaded) -> Downloaded:
            newest = self._newest.get(model.name, "")
            known = newest if newest and newest != mains.get(model.name) and not model.older else ""
            return replace(model, in_use=hub_shelf.loaded_from(model, runs), newest=known)

        trash = hub_shelf.trashed(self.cache)
        return Downloads(
            folder=str(self.cache),
            models=tuple(told(model) for model in models),
            partial=parts,
            trash=trash,
            disk_bytes=sum(model.disk_bytes for model in models) + sum(part.disk_bytes for part in parts),
            free_bytes=free_bytes(self.cache),
            token=self._token_from(),
        )

    def _read_by_runs(self) -> dict[str, str]:
        """Path of a model → title of the run that has it open."""
        seats = self._board.get("seats")
        assert isinstance(seats, Seats)
        found = {}
        for seat in seats.seats:
            run = seat.run
            if run is not None and run.ended_at_unix is None:
                found.update({argument: run.title for argument in run.argv if argument.startswith("/")})
        return found

    # --- deleting

    async def delete(self, wish: control.DeleteModel) -> control.Accepted:
        """To the trash. Raises EngineBusy while an engine reads it, ModelMissing when it is gone."""
        found = await asyncio.to_thread(self._downloads)
        models = [m for m in found.models if m.path == wish.path or (m.name == wish.name and m.file == wish.file)]
        if wish.partial:
            freed = await asyncio.to_thread(self._discard, wish.name)
            return control.Accepted(note=f"{freed / 1e9:.2f} GB of unfinished downloads are gone.")
        model = next(iter(models), None)
        if model is None:
            raise ModelMissing(
                f"{wish.name or wish.path} {wish.file}".strip() + " is not in the hub's cache.",
                "`engine-room downloads` lists what is there. Other programs' models are deleted in those programs.",
            )
        if model.in_use:
            raise EngineBusy(f"{model.title} is loaded as {model.in_use} now.", "Unload it first.")
        self._refuse_while_pulling(model.name)
        trashed = await asyncio.to_thread(hub_shelf.delete, self.cache, model)
        self._changed()
        return control.Accepted(
            note=f"{model.title} is in the trash: {trashed.disk_bytes / 1e9:.2f} GB.", profile=trashed.id
        )

    def _discard(self, name: str) -> int:
        self._refuse_while_pulling(name)
        return hub_shelf.discard_parts(self.cache, name)

    def _refuse_while_pulling(self, name: str) -> None:
        if any(job.subject == name and job.state == "running" for job in self._pulls()):
            raise EngineBusy(f"{name} is being downloaded.", "Cancel that first.")

    async def restore(self, wish: control.TrashOf) -> control.Accepted:
        title = await asyncio.to_thread(hub_shelf.restore, self.cache, wish.trash)
        self._changed()
        return control.Accepted(note=f"{title} is back.")

    async def empty(self, wish: control.TrashOf) -> control.Accepted:
        freed = await asyncio.to_thread(hub_shelf.empty, self.cache, wish.trash)
        return control.Accepted(note=f"{freed / 1e9:.2f} GB are free again.")

    # --- the access token

    async def keep_token(self, wish: control.HubToken) -> control.Accepted:
        if not wish.token.strip():
            await self._keys.remove(TOKEN)
            note = "The access token is forgotten."
        else:
            note = (await self._keys.set(TOKEN, wish.token.strip())).told("The access token")
        await self._look_for_token()
        return control.Accepted(note=note)

    def _token_from(self) -> str:
        if any(self._environment.get(variable) for variable in TOKEN_VARIABLES):
            return "environment"
        if self._token:
            return "kept"
        home = Path(self._environment.get("HF_HOME") or self.cache.parent)
        file = Path(self._environment.get("HF_TOKEN_PATH") or home / "token")
        return "file" if file.is_file() else ""


def _busy(name: str) -> frozenset[str]:
    return frozenset((f"hub {name}",))


def _refuse_bad_name(name: str) -> None:
    if not HUB_NAME.fullmatch(name):
        raise NotOnHub(f"{name[:100]!r} is no name of a model on the hub.", "Write it as publisher/model.")


def _which(listing: HubListing, file: str) -> NotOnHub:
    names = ", ".join(form.title for form in listing.forms[:20])
    if file:
        return NotOnHub(f"{listing.name} has no {file[:100]!r}.", f"It has: {names}.")
    return NotOnHub(f"{listing.name} has several forms, and none that is known to fit now.", f"Name one: {names}.")
