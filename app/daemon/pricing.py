"""Answers what a load would need, how fast it would be and which engine suits, and by which command: of a profile or a draft."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from msgspec.structs import replace

from app.core import control
from app.core.errors import BadRequest
from app.core.memory import plan as plan_memory
from app.core.memory.advice import LLAMA, USERS, VLLM, advice_for
from app.core.memory.plan_types import EngineAdvice, MemoryPlan, Speed, Verdict
from app.core.memory.planner import speed_with
from app.core.memory.speed import LEAST_MEASURED_TOKENS, measured_speed
from app.core.options import Scalar
from app.core.profiles import MAX_PROFILE_BYTES, parse_profile, with_defaults
from app.core.redaction import masked_arguments, masked_environment
from app.core.seat import Wanted
from app.core.settings import MemorySettings
from app.core.settings_table import preset_named
from app.core.snapshot import Gpus, ProfileCard, RunView, Traffic
from app.core.snapshot import Seats as SeatsSlice
from app.daemon.board import Board
from app.daemon.flag_check import KnownFlags, unknown_to
from app.daemon.library import Library
from app.daemon.memory_speed import MemorySpeed
from app.daemon.seats import Seats
from app.daemon.second_opinion import SecondOpinion
from app.engines.registry import FAMILIES

GGUF_ENGINES = (LLAMA, "llama-server", "llama-cpp-python")


class Pricing:
    """Starts nothing. `limits` gives the memory settings of the moment, `drafts` is the folder that a draft's relative paths
    count from."""

    def __init__(
        self,
        library: Library,
        seats: Seats,
        board: Board,
        drafts: Path,
        memory_speed: MemorySpeed,
        *,
        known_flags: KnownFlags,
        opinion: SecondOpinion,
        limits: Callable[[], MemorySettings],
    ) -> None:
        self._library = library
        self._seats = seats
        self._board = board
        self._drafts = drafts
        self._memory_speed = memory_speed
        self._known_flags = known_flags
        self._opinion = opinion
        self._limits = limits

    async def plan(self, wish: control.Want) -> MemoryPlan:
        """Raises UnknownProfile, ProfileInvalid, SettingInvalid, ModelMissing, EngineNotInstalled."""
        await self._memory_speed.known()
        card = await self._card(wish)
        with self._as_wanted(card, wish) as wanted:
            seat, gpus = self._seats.of(wish.seat or card.profile.seat), self._board.get("gpus")
            assert isinstance(gpus, Gpus)
            plan = await seat.price(wanted)
            if await self._opinion.heard(lambda: self._seats.launch_of(wanted), plan, gpus):
                plan = await seat.price(wanted)
        measured = None if wish.text or wish.settings or wish.gpus else self._measured(card.profile.id)
        plan = replace(plan, speed=measured or plan.speed)
        return replace(plan, advice=self._advice(card, plan, wanted))

    async def command(self, wish: control.CommandOf) -> control.CommandView:
        """Raises what `plan` does."""
        card = await self._card(wish)
        with self._as_wanted(card, wish) as wanted:
            launch = self._seats.launch_of(wanted)
            command, profile = self._seats.command_of(wanted)
        return control.CommandView(
            argv=tuple(masked_arguments(command.argv, command.secrets)),
            environment=masked_environment(command.environment | profile.environment),
            unknown_flags=unknown_to(launch.installation, launch.profile, self._known_flags),
        )

    async def _card(self, wish: control.Want | control.CommandOf) -> ProfileCard:
        """The profile's card, or the one that the draft in the wish would have."""
        if not wish.text:
            return self._library.card(wish.profile)
        if len(wish.text.encode()) > MAX_PROFILE_BYTES:
            raise BadRequest("This text is too large for a profile.", "Keep it below one MiB.")
        options = {family.id: family.options for family in FAMILIES.values()}
        presets = {family.id: family.presets for family in FAMILIES.values()}
        profile = parse_profile(wish.text, self._drafts / f"{wish.profile}.toml", options, presets)
        return await self._library.card_of(profile)

    @contextmanager
    def _as_wanted(self, card: ProfileCard, wish: control.Want | control.CommandOf) -> Iterator[Wanted]:
        """The wish as a seat takes it; a draft's card is found by it for as long as this lasts."""
        preset = preset_settings(card.profile.engine, wish.preset) if wish.preset else {}
        wanted = Wanted(profile_id=card.profile.id, settings={**preset, **wish.settings}, gpus=wish.gpus)
        if not wish.text:
            yield wanted
            return
        key = f"draft-{secrets.token_hex(6)}"
        self._library.recalled[key] = card
        try:
            yield replace(wanted, as_run=key)
        finally:
            self._library.recalled.pop(key, None)

    def _measured(self, profile_id: str) -> Speed | None:
        """What the run that is loaded now has reached, when it is this profile as it stands."""
        seats, traffic = self._board.get("seats"), self._board.get("traffic")
        assert isinstance(seats, SeatsSlice)
        assert isinstance(traffic, Traffic)
        run = next((seat.run for seat in seats.seats if _is_here(seat.run, profile_id) and not seat.outdated), None)
        if run is None:
            return None
        return measured_speed(
            [
                found.tokens_per_second
                for found in traffic.recent
                if found.tokens_per_second
                and found.outcome == "answered"
                and found.model == profile_id
                and found.started_at_unix >= run.started_at_unix
                and (found.completion_tokens or 0) >= LEAST_MEASURED_TOKENS
            ]
        )

    def _advice(self, card: ProfileCard, plan: MemoryPlan, wanted: Wanted) -> tuple[EngineAdvice, ...]:
        """Both engines are priced as somebody would begin with them: their defaults; the wished one as wished."""
        facts, gpus = card.facts, self._board.get("gpus")
        assert isinstance(gpus, Gpus)
        if facts is None or plan.verdict is Verdict.UNKNOWN:
            return ()
        own = VLLM if card.profile.engine not in GGUF_ENGINES else LLAMA
        plans, many = {own: plan}, {}
        for engine in (LLAMA, VLLM):
            mine = with_defaults(FAMILIES[engine].options, {})
            settings = {**mine, **card.profile.settings, **wanted.settings} if engine == own else mine
            accelerator = "cuda" if gpus.gpus else "cpu"
            if engine != own:
                limits = self._limits()
                other = plan_memory(
                    facts,
                    settings,
                    family=engine,
                    accelerator=accelerator,
                    gpus=gpus,
                    headroom_bytes=limits.headroom_bytes,
                    host_headroom_bytes=limits.host_headroom_bytes,
                    threshold=limits.threshold,
                    gpu_uuids=card.profile.gpus,
                    solve=False,
                )
                if other.verdict is not Verdict.UNKNOWN:
                    plans[engine] = other
            if engine in plans:
                many[engine] = speed_with(facts, settings, engine, accelerator, gpus, card.profile.gpus, USERS)
        return advice_for(facts, plans, many, has_card=bool(gpus.gpus))


def preset_settings(engine: str, preset: str) -> Mapping[str, Scalar]:
    """Raises SettingInvalid for a preset that the engine has not."""
    family = FAMILIES[engine]
    return preset_named(family.presets, preset, family.title).settings


def _is_here(run: RunView | None, profile_id: str) -> bool:
    return run is not None and run.profile_id == profile_id and run.ended_at_unix is None
