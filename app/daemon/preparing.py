"""Builds what a load needs from what was wanted: card, profile, engine, memory plan, command line, run specification."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from msgspec.structs import replace

from app.core.errors import EngineNotInstalled, EngineRoomError, ModelMissing
from app.core.lifecycle import Failure
from app.core.load_time import LoadTimes
from app.core.memory import plan as plan_memory
from app.core.memory.elsewhere import NOTHING_NEEDED
from app.core.memory.plan_types import MemoryPlan
from app.core.memory.usable import total_bytes, usable_bytes
from app.core.profiles import Profile
from app.core.redaction import masked_arguments, masked_environment
from app.core.release import Expected
from app.core.seat import Wanted
from app.core.settings import Settings
from app.core.snapshot import Gpus, ProfileCard, RunView
from app.daemon import docker, processes, temporary
from app.daemon.attachment import Hold
from app.daemon.companions import companions_of
from app.daemon.library import Library
from app.daemon.runs import RunHandle, RunSpec
from app.daemon.setting_files import with_setting_files
from app.engines.base import Command, EngineFamily, Installation, Launch
from app.engines.placement import whole_cards
from app.engines.registry import FAMILIES, computes_on, engine_of, is_elsewhere


class Prepared:
    """All that belongs to one run, from its admission to its end."""

    def __init__(self, card: ProfileCard, profile: Profile, installation: Installation, plan: MemoryPlan) -> None:
        self.card = card
        self.profile = profile
        self.installation = installation
        self.plan = plan
        self.before: Gpus | None = None
        self.last_seen: Gpus | None = None
        self.launch: Launch | None = None
        self.command: Command | None = None
        self.handle: RunHandle | None = None
        self.kill_when_spawned = False
        self.launch_failed = False
        self.asked_to_stop = False
        self.load_watch: list[asyncio.Task[None]] = []
        self.ready_watch: asyncio.Task[None] | None = None
        self.spawned_at = 0.0
        self.earlier_loads: tuple[LoadTimes, ...] = ()  # what is known of how long it takes, newest first
        self.stages: dict[str, float] = {}  # of the load → seconds after the launch at which it began
        self.expected: tuple[Expected, ...] = ()
        self.awake_bytes: dict[str, int] = {}  # by card, what it held before it slept
        self.sleep_level = 0
        self.wake_seconds: float | None = None  # of the last time
        self.hold: Hold | None = None  # on an engine that is not ours

    @property
    def family(self) -> EngineFamily:
        return FAMILIES[self.profile.engine]


FindEngine = Callable[[Profile], Installation]  # raises EngineNotInstalled with what to do


class Preparation:
    """Reads library, installations and settings; starts nothing."""

    def __init__(
        self, settings: Callable[[], Settings], library: Library, find_engine: FindEngine, runs_folder: Path
    ) -> None:
        self._settings = settings
        self._library = library
        self._find_engine = find_engine
        self._runs_folder = runs_folder

    def log_of(self, run_id: str) -> Path:
        return self._runs_folder / f"{run_id}.log"

    def resolve(self, wanted: Wanted) -> tuple[ProfileCard, Profile, Installation]:
        """Raises UnknownProfile, ModelMissing, EngineNotInstalled: each says what to do."""
        card = self._library.card(wanted.profile_id, wanted.as_run)
        profile = self._library.merged(card, wanted.settings)
        if wanted.gpus:
            profile = replace(profile, gpus=wanted.gpus)
        profile = with_setting_files(profile, FAMILIES[profile.engine].options)
        if not card.available:
            problem = card.problem
            raise ModelMissing(
                problem.summary if problem else f"The model of {profile.id} is not on this machine.",
                problem.advice if problem else "Put the file there, or choose another profile.",
            )
        installation = self._find_engine(profile)
        if not installation.is_address and not os.access(installation.client or installation.executable, os.X_OK):
            family = FAMILIES[profile.engine]
            raise EngineNotInstalled(
                f"{family.title} was at {installation.executable}, and is not there any more.", family.how_to_get()
            )
        return card, profile, installation

    def plan(
        self,
        card: ProfileCard,
        profile: Profile,
        installation: Installation,
        gpus: Gpus,
        leaving_bytes: Mapping[str, int],
        our_run_ids: tuple[str, ...],
    ) -> MemoryPlan:
        memory = self._settings().memory
        if is_elsewhere(installation):
            return NOTHING_NEEDED
        return plan_memory(
            card.facts,
            profile.settings,
            family=profile.engine,
            accelerator=computes_on(installation, bool(gpus.gpus)),
            gpus=gpus,
            headroom_bytes=memory.headroom_bytes,
            host_headroom_bytes=memory.host_headroom_bytes,
            threshold=memory.threshold,
            leaving_bytes=dict(leaving_bytes),
            our_run_ids=our_run_ids,
            gpu_uuids=profile.gpus,
            companions=companions_of(profile),
            solve=True,
            engine=engine_of(installation),
            knowledge=self._library.knowledge(),
        )

    def launch(
        self,
        card: ProfileCard,
        profile: Profile,
        installation: Installation,
        *,
        run_id: str,
        port: int,
        gpus: Gpus,
        api_key: str = "",
    ) -> Launch:
        return Launch(
            profile=profile,
            model_path=card.model_path,
            installation=installation,
            port=port,
            run_id=run_id,
            model_name=profile.id,
            facts=card.facts,
            gpu_uuids=profile.gpus or whole_cards(gpus),
            physical_cores=processes.physical_cores(),
            api_key=api_key,
            usable_bytes=usable_bytes(
                gpus,
                headroom_bytes=self._settings().memory.headroom_bytes,
                host_headroom_bytes=self._settings().memory.host_headroom_bytes,
                threshold=self._settings().memory.threshold,
            ),
            total_bytes=total_bytes(gpus),
            owner=docker.owner_of(self._runs_folder) if installation.client else "",
        )

    def spec(self, run_id: str, prepared: Prepared, gpus: Gpus, api_key: str) -> RunSpec:
        """Chooses the port and fixes argv and environment: from here on the launch is a value."""
        port = free_port()
        prepared.launch = self.launch(
            prepared.card,
            prepared.profile,
            prepared.installation,
            run_id=run_id,
            port=port,
            gpus=gpus,
            api_key=api_key,
        )
        prepared.command = prepared.family.command(prepared.launch)
        return RunSpec(
            id=run_id,
            profile_id=prepared.profile.id,
            title=prepared.profile.title,
            engine=prepared.profile.engine,
            model_path=prepared.card.model_path,
            port=port,
            argv=prepared.command.argv,
            environment=engine_environment(os.environ, prepared.command, prepared.profile),
            cwd="/",
            log_path=str(self.log_of(run_id)),
            grace_seconds=self._settings().supervision.stop_grace_seconds,
            secrets=(*prepared.command.secrets, api_key),
            container=prepared.command.container,
            end_argv=prepared.command.container.end_argv if prepared.command.container else (),
            own_temporary=temporary.VARIABLE not in prepared.command.environment | prepared.profile.environment,
        )


def first_view(prepared: Prepared, spec: RunSpec) -> RunView:
    """The run as it is shown and kept; what could be secret is masked at birth (I18)."""
    assert prepared.command is not None
    shown = prepared.command.environment | prepared.profile.environment
    return RunView(
        id=spec.id,
        profile_id=prepared.profile.id,
        title=prepared.profile.title,
        engine=prepared.profile.engine,
        engine_build=prepared.installation.build,
        argv=tuple(masked_arguments(spec.argv, spec.secrets)),
        environment=masked_environment(shown),
        log_path=spec.log_path,
        started_at_unix=time.time(),
        port=spec.port,
        plan=prepared.plan,
    )


def engine_environment(inherited: Mapping[str, str], command: Command, profile: Profile) -> dict[str, str]:
    """What the engine sees: ours over the inherited one less what would change it unseen; the profile's own comes last."""
    kept = {
        name: value
        for name, value in inherited.items()
        if not any(fnmatchcase(name, pattern) for pattern in command.scrub)
    }
    if command.path_folders:
        kept["PATH"] = os.pathsep.join((*command.path_folders, kept.get("PATH", os.defpath)))
    own = {name: value for name, value in profile.environment.items() if name not in command.withheld}
    return kept | command.environment | own


def free_port() -> int:
    """A port of the loopback that nobody listens on now; the readiness check proves later that it became ours."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def failure_of(error: BaseException, profile_id: str, phase: str) -> Failure:
    if isinstance(error, EngineRoomError):
        return Failure(kind=error.kind, profile_id=profile_id, phase=phase, summary=error.summary, advice=error.advice)
    return Failure(
        kind="crashed",
        profile_id=profile_id,
        phase=phase,
        summary=f"{profile_id} could not be started: {error}.",
        advice="Look at the service's own log; `engine-room doctor` names it.",
    )
