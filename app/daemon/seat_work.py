"""Decides what may be asked of the seats: loads, their end, lending and sleep, and what a load would be before it begins."""

from __future__ import annotations

from msgspec.structs import replace

from app.core import control
from app.core.errors import EngineRoomError, UnknownRun
from app.core.memory.plan_types import MemoryPlan
from app.core.seat import Wanted
from app.core.snapshot import RunView
from app.daemon import exporting
from app.daemon.engine_work import EngineWork
from app.daemon.flag_check import KnownFlags, unknown_to, warning_of
from app.daemon.library import Library
from app.daemon.manifests import Manifests, recall_key
from app.daemon.pricing import Pricing, preset_settings
from app.daemon.seats import Seats


class SeatWork:
    def __init__(
        self,
        seats: Seats,
        library: Library,
        pricing: Pricing,
        manifests: Manifests,
        engine_work: EngineWork,
        known_flags: KnownFlags,
    ) -> None:
        self._seats = seats
        self._library = library
        self._pricing = pricing
        self._manifests = manifests
        self._engine_work = engine_work
        self._known_flags = known_flags

    async def want(self, wish: control.Want) -> control.Accepted:
        self._engine_work.refuse_while_trying()
        wish = self._with_preset(wish)
        seat = self._seats.for_profile(wish.profile, wish.seat)
        profile = await seat.want(wish.profile, wish.settings, wish.override, gpus=wish.gpus)
        warning = warning_of(self._unknown_flags(wish), "The engine")
        warnings = (warning,) if warning else ()
        return control.Accepted(note=f"{profile} is loading.", profile=profile, seat=seat.seat, warnings=warnings)

    async def unload(self, wish: control.Unload) -> control.Accepted:
        await self._seats.of(wish.seat).unload()
        return control.Accepted(note="The model is being unloaded.")

    async def restart(self, wish: control.Unload) -> control.Accepted:
        await self._seats.of(wish.seat).restart()
        return control.Accepted(note="The model is being loaded again.")

    async def lend(self, wish: control.Lend) -> control.Accepted:
        return control.Accepted(note=await self._seats.lend(wish))

    async def give_back(self, wish: control.Unload) -> control.Accepted:
        profile = await self._seats.of(wish.seat).give_back()
        return control.Accepted(note=f"{profile} comes back.", profile=profile, seat=wish.seat)

    async def park(self, wish: control.Park) -> control.Accepted:
        return control.Accepted(note=await self._seats.park(wish), seat=wish.seat)

    async def plan(self, wish: control.Want) -> MemoryPlan:
        return await self._pricing.plan(wish)

    async def command(self, wish: control.CommandOf) -> control.CommandView:
        return await self._pricing.command(wish)

    async def export(self, wish: control.ExportOf) -> control.Export:
        launch = self._seats.launch_of(Wanted(profile_id=wish.profile, settings=wish.settings))
        return exporting.export(launch, wish.kind, wish.port)

    async def manifest(self, run: RunView) -> control.Manifest:
        return await self._manifests.of(run)

    async def again(self, wish: control.RunOf) -> control.Accepted:
        run = self._seats.view_of(wish.run)
        if run is None:
            raise UnknownRun(f"There is no run {wish.run}.", "`engine-room runs` names them.")
        self._engine_work.refuse_while_trying()
        card = await self._manifests.recall(run, force=wish.force)
        key = recall_key(run.id, wish.force)
        profile = await self._seats.of(card.profile.seat).want(card.profile.id, as_run=key)
        return control.Accepted(note=f"{profile} is loading as it was in {run.id}.", profile=profile)

    def _with_preset(self, wish: control.Want) -> control.Want:
        """The wish with its preset's settings under its own; raises SettingInvalid for a preset that the engine has not."""
        if not wish.preset:
            return wish
        settings = preset_settings(self._library.card(wish.profile).profile.engine, wish.preset)
        return replace(wish, settings={**settings, **wish.settings}, preset="")

    def _unknown_flags(self, wish: control.Want) -> tuple[str, ...]:
        """The flags of a launch that its engine's own help does not know; none where nobody can tell."""
        try:
            launch = self._seats.launch_of(Wanted(profile_id=wish.profile, settings=wish.settings, gpus=wish.gpus))
        except EngineRoomError:
            return ()
        return unknown_to(launch.installation, launch.profile, self._known_flags)
