"""Owns the benches: begins one on what is loaded, and keeps its figures with the run that they were made on."""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from app.core import control
from app.core.bench import Bench, Round, medians
from app.core.bench import Benches as KeptBenches
from app.core.conversation import made_by
from app.core.errors import EngineBusy, EngineRoomError, ModelMissing
from app.core.lifecycle import Ready
from app.core.snapshot import Job, RunView, Seats, Traffic
from app.daemon.bench import Benching
from app.daemon.board import Board
from app.daemon.database import Database
from app.daemon.jobs import Jobs
from app.daemon.tasks import Tasks

KIND = "bench"


class Benches:
    """`traffic`: the endpoint's own figures of now. `manifest` tells what made a run; what is kept of it stays with the bench when the run is forgotten."""

    def __init__(
        self,
        jobs: Jobs,
        board: Board,
        database: Database,
        socket: Path,
        traffic: Callable[[], Traffic],
        manifest: Callable[[RunView], Awaitable[control.Manifest]],
    ) -> None:
        self._jobs, self._board, self._database = jobs, board, database
        self._socket, self._traffic, self._manifest = socket, traffic, manifest
        self._under_way: dict[str, tuple[RunView, int]] = {}  # job → its run, requests before it
        self._tasks = Tasks()

    async def begin(self, wish: control.BenchOf) -> control.JobStarted:
        """Raises ModelMissing when nothing (or another model) is loaded, EngineBusy when it is answering somebody."""
        run, phase = self._loaded(wish.profile)
        traffic = self._traffic()
        if traffic.in_flight or traffic.queued:
            raise EngineBusy("The model is answering; figures would say nothing now.", "Try again when it is quiet.")
        order = Benching(
            socket=str(self._socket),
            profile_id=run.profile_id,
            run_id=run.id,
            context_tokens=phase.endpoint.context_tokens,
            to_the_end=run.engine != "remote",  # it may refuse what it does not know
            seed=secrets.randbelow(1_000_000) * 100,
        )
        before = traffic.requests_total
        job = await self._jobs.begin(KIND, f"Measuring {run.title}", run.profile_id, order, frozenset({KIND}))
        self._under_way[job] = (run, before)
        return control.JobStarted(job=job)

    def _loaded(self, profile: str) -> tuple[RunView, Ready]:
        seats = self._board.get("seats")
        assert isinstance(seats, Seats)
        ready = [
            (seat.run, seat.phase) for seat in seats.seats if seat.run is not None and isinstance(seat.phase, Ready)
        ]
        for run, phase in ready:
            if profile in ("", run.profile_id):
                return run, phase
        if not profile:
            raise ModelMissing("No model is loaded, so there is nothing to measure.", "Load one first.")
        raise ModelMissing(f"{profile} is not loaded.", f"`engine-room load {profile}` loads it.")

    def settled(self, job: Job) -> None:
        """A job is over: keeps what a bench has found."""
        known = self._under_way.pop(job.id, None)
        if known is not None and job.state == "done":
            self._tasks.start(self._keep(job, *known), f"keep {job.id}")

    async def _keep(self, job: Job, run: RunView, before: int) -> None:
        rounds = msgspec.convert(job.result["rounds"], tuple[Round, ...])
        requests = msgspec.convert(job.result["requests"], int)
        try:
            made = made_by(await self._manifest(run))
        except EngineRoomError:
            made = None
        bench = Bench(
            id=job.id,
            at_unix=time.time(),
            run_id=run.id,
            profile_id=run.profile_id,
            title=run.title,
            engine=run.engine,
            engine_build=run.engine_build,
            rounds=rounds,
            shared=self._traffic().requests_total - before > requests,
            made_by=made,
            **medians(rounds),  # type: ignore[arg-type]
        )
        await self._database.keep_bench(bench)

    async def list(self) -> KeptBenches:
        await self._tasks.settle()  # what is over is in it
        return KeptBenches(benches=await self._database.benches())

    async def close(self) -> None:
        await self._tasks.settle()
