"""Looks before anything is stopped whether a launch could start at all: short questions to what it depends on."""

from __future__ import annotations

import asyncio
import os
import time

from app.core.errors import EngineFailed
from app.core.snapshot import DriverState
from app.daemon import docker
from app.daemon.asking import ask
from app.daemon.preparing import Preparation, Prepared
from app.engines import placement, ray
from app.engines.base import Launch

SPREAD = ("vllm", "vllm-docker")  # families whose models are spread over cards
GOOD_FOR_SECONDS = 60.0  # a cluster that has just answered is not asked again by the launch itself


class Preflight:
    def __init__(self, preparation: Preparation) -> None:
        self._preparation = preparation
        self._good: dict[tuple[str, str, int], float] = {}  # (interpreter, address, ranks) → until when

    async def check(self, prepared: Prepared) -> None:
        """Raises EngineNotInstalled, EngineFailed or SettingInvalid with what to do; returns at once for a launch that
        depends on nothing."""
        try:
            await self._check(prepared)
        except OSError as error:  # no descriptor, process or memory is left for another program
            raise EngineFailed(
                f"{prepared.profile.title} cannot be started now: no program can be started ({error.strerror}).",
                "Close other programs, or start Engine Room again (`engine-room quit`).",
            ) from error

    async def _check(self, prepared: Prepared) -> None:
        gpus = prepared.before
        if gpus is not None and prepared.profile.engine in SPREAD:
            if gpus.driver is DriverState.OK:
                placement.check_known(f"Profile {prepared.profile.id}", prepared.profile.gpus, gpus)
            launch = self._preparation.launch(
                prepared.card, prepared.profile, prepared.installation, run_id="preflight", port=0, gpus=gpus
            )
            settings = prepared.family.effective_settings(launch)
            if settings.get("executor") == "ray":
                ranks = int(settings.get("tensor_parallel", 1)) * int(settings.get("pipeline_parallel", 1))
                await asyncio.to_thread(self._check_ray, launch, str(settings.get("ray_address", "")), ranks)
        if prepared.installation.client:
            await asyncio.to_thread(docker.check_service, prepared.installation.client, os.environ)

    def _check_ray(self, launch: Launch, address: str, ranks: int) -> None:
        where = f"Profile {launch.profile.id}"
        ray.check_address(where, address)
        if launch.installation.client:
            return  # Ray is in the image: only the container could be asked
        asked = (launch.installation.executable, address, ranks)
        if self._good.get(asked, 0.0) > time.monotonic():
            return
        argv = (launch.installation.executable, "-I", "-c", ray.PROGRAM, address, str(ray.CONNECT_SECONDS))
        answer = ask(argv, os.environ, seconds=ray.SECONDS)
        needs_cards = launch.installation.accelerator != "cpu"
        ray.check_answer(where, address, ranks, answer.text, answer.why, needs_cards=needs_cards)
        self._good[asked] = time.monotonic() + GOOD_FOR_SECONDS
