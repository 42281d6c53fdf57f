"""Owns the seats: one supervisor for each, what they share, and the slices that show them."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from app.core import control
from app.core.errors import BadRequest
from app.core.ledger import Ledger
from app.core.parking import PROMPTS_KEPT
from app.core.profile_set import at_start
from app.core.profiles import Profile
from app.core.seat import Wanted
from app.core.settings import Settings
from app.core.snapshot import Gpus, Runs, RunView
from app.core.snapshot import Seats as SeatsSlice
from app.daemon.attaching import attached_pids
from app.daemon.board import Board
from app.daemon.database import Database
from app.daemon.effects import Parts
from app.daemon.events import EventLog
from app.daemon.gateway import Gateway
from app.daemon.gpu import GpuSampler
from app.daemon.keys import Keys
from app.daemon.library import Library
from app.daemon.preflight import Preflight
from app.daemon.preparing import FindEngine, Preparation
from app.daemon.routing import lent_sentence
from app.daemon.runbook import RunBook
from app.daemon.runs import Runs as Custody
from app.daemon.second_opinion import SecondOpinion
from app.daemon.supervisor import Supervisor
from app.daemon.tasks import Tasks
from app.engines.base import Command, Launch
from app.engines.registry import FAMILIES

log = logging.getLogger(__name__)

MOST_MINUTES = 24 * 60


class Seats:
    """The first seat is the one that is meant where none is named."""

    def __init__(
        self,
        *,
        names: tuple[str, ...],
        settings: Settings,
        library: Library,
        find_engine: FindEngine,
        sampler: GpuSampler,
        custody: Custody,
        gateway: Gateway,
        board: Board,
        database: Database,
        events: EventLog,
        runs_folder: Path,
        keys: Keys,
        clock: Callable[[], float],
        opinion: SecondOpinion,
        lost: Callable[[], None],
    ) -> None:
        """`lost` is called when the owner of a seat has ended, which it must not."""
        self._settings = settings
        self._board = board
        self._lost = lost
        self._book = RunBook(database, runs_folder, lambda: self._settings.logs.runs_kept, self._run_changed)
        preparation = Preparation(lambda: self._settings, library, find_engine, runs_folder)
        self._parts = Parts(
            settings=lambda: self._settings,
            library=library,
            preparation=preparation,
            preflight=Preflight(preparation),
            sampler=sampler,
            custody=custody,
            gateway=gateway,
            database=database,
            events=events,
            book=self._book,
            ledger=Ledger(),
            keys=keys,
            clock=clock,
            opinion=opinion,
        )
        began = time.strftime("%Y%m%d-%H%M%S-") + secrets.token_hex(2)
        self._seats = {
            name: Supervisor(name, self._parts, began if number == 0 else f"{began}{name[:8]}", self._publish)
            for number, name in enumerate(names)
        }
        self._tasks = Tasks(lambda _name, _error: self._lost())
        gateway.on_use = lambda name, busy: self._seats[name].in_use(busy)

    # --- life ---

    async def start(self) -> None:
        try:
            await self._book.open()
        except Exception:
            log.exception("the earlier runs could not be read")
        for name, seat in self._seats.items():
            self._tasks.start(seat.run(), f"seat {name}")

    async def restore(self) -> None:
        """What was wanted before an unexpected end comes first, then what a profile wants loaded at start. Who was quicker to
        want something keeps it."""
        for name, seat in self._seats.items():
            if seat.state.wanted is None and not await seat.restore():
                first = at_start(name, self._parts.library.profiles.values())
                if first is not None:
                    await seat.begin(first)

    async def close(self) -> None:
        """Unloads everything and waits until nothing is left."""
        await asyncio.gather(*(seat.close() for seat in self._seats.values()))
        await self._book.close()
        await self._tasks.close()

    # --- seats ---

    def of(self, name: str) -> Supervisor:
        """Raises BadRequest for a seat that there is not."""
        found = self._seats.get(name)
        if found is None:
            raise BadRequest(
                f"There is no seat {name!r}.",
                f"There are: {', '.join(self._seats)}. The setting supervision.seats names them.",
            )
        return found

    def for_profile(self, profile_id: str, seat: str) -> Supervisor:
        """The seat that is asked for, else the profile's own; raises UnknownProfile and BadRequest."""
        return self.of(seat or self._parts.library.card(profile_id).profile.seat)

    async def lend(self, wish: control.Lend) -> str:
        """Frees a seat's memory for so many minutes; returns the sentence that says until when."""
        if not 0 < wish.minutes <= MOST_MINUTES:
            raise BadRequest(f"Memory can be lent for up to {MOST_MINUTES} minutes, not {wish.minutes:g}.")
        return lent_sentence(await self.of(wish.seat).lend(wish.minutes * 60))

    async def park(self, wish: control.Park) -> str:
        """Puts a seat's model to sleep; returns the sentence that says what becomes of it."""
        if wish.level not in (None, 1, 2):
            raise BadRequest(
                f"There is no sleep of level {wish.level}.", "1 keeps the weights in main memory, 2 drops them."
            )
        level = await self.of(wish.seat).park(wish.level)
        if level == PROMPTS_KEPT:
            return "It is unloaded, and what it has read waits on the disk; the next request loads both again."
        if not level:
            return "It is unloaded, for its engine cannot sleep; the next request loads it again."
        kept = "its weights wait in main memory" if level == 1 else "its weights are read again when it wakes"
        return f"It goes to sleep: {kept}."

    # --- runs ---

    def attached_pids(self) -> dict[int, str]:
        """For the sampler's thread: which processes hold memory for runs on engines that are not ours."""
        return attached_pids(self._book.prepared)

    @property
    def book(self) -> RunBook:
        return self._book

    def view_of(self, run_id: str) -> RunView | None:
        return self._book.views.get(run_id)

    def secrets_of(self, run_id: str) -> tuple[str, ...]:
        return self._book.secrets_of(run_id)

    def live_runs(self) -> tuple[RunView, ...]:
        return tuple(view for run in self.runs_of_seats().values() if (view := self._book.views.get(run)) is not None)

    def runs_of_seats(self) -> dict[str, str]:
        """Seat → the run that is there now, "" where none is."""
        return {name: getattr(seat.state.phase, "run_id", "") for name, seat in self._seats.items()}

    @property
    def anything_wanted(self) -> bool:
        return any(seat.state.wanted is not None for seat in self._seats.values())

    def launch_of(self, wanted: Wanted) -> Launch:
        """All that decides the command line of a launch; the port, chosen at launch, is 0, and there is no key."""
        card, profile, installation = self._parts.preparation.resolve(wanted)
        gpus = self._parts.sampler.latest
        return self._parts.preparation.launch(card, profile, installation, run_id="command", port=0, gpus=gpus)

    def command_of(self, wanted: Wanted) -> tuple[Command, Profile]:
        """The exact argv and environment of a launch."""
        launch = self.launch_of(wanted)
        return FAMILIES[launch.profile.engine].command(launch), launch.profile

    # --- what is told ---

    def note(self, gpus: Gpus) -> None:
        for seat in self._seats.values():
            seat.note(gpus)

    def take_over(self, settings: Settings) -> None:
        self._settings = settings
        for seat in self._seats.values():
            seat.take_over()

    def profiles_changed(self) -> None:
        for seat in self._seats.values():
            seat.look_again()

    def _run_changed(self) -> None:
        """A run's view is shown in its seat too."""
        for seat in self._seats.values():
            seat.publish()

    def _publish(self) -> None:
        self._board.publish("seats", SeatsSlice(seats=tuple(seat.view for seat in self._seats.values())))
        self._board.publish("runs", Runs(runs=tuple(reversed(self._book.views.values()))))
