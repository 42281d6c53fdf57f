"""A gateway on a real port before a scriptable engine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from app.core.lifecycle import Endpoint
from app.core.settings import GatewaySettings
from app.core.snapshot import RequestView, Traffic
from app.daemon.gateway import Gateway, Route
from app.engines.base import Traits
from tests.daemon.gateway.upstream_rig import Engine, Script


class Desk:
    """One gateway under test with what it told."""

    def __init__(self, gateway: Gateway, engine: Engine, port: int) -> None:
        self.gateway, self.engine, self.port = gateway, engine, port
        self.published: list[Traffic] = []
        self.finished: list[RequestView] = []

    def ready(self, run: str = "r1", traits: Traits | None = None, engine: Engine | None = None) -> None:
        self.gateway.set_route(
            Route(
                state="ready",
                profile_id="demo",
                run_id=run,
                title="Demo",
                endpoint=Endpoint(base_url=(engine or self.engine).url, model_name="demo", engine="llama-server"),
                traits=traits or Traits(),
            )
        )

    def loading(self, eta: float | None = None) -> None:
        self.gateway.set_route(
            Route(
                state="loading",
                profile_id="demo",
                run_id="next",
                title="Demo",
                reason="Demo is loading.",
                eta_seconds=eta,
            )
        )

    def draining(self, run: str = "r1") -> None:
        self.gateway.set_route(Route(state="draining", profile_id="demo", run_id=run, reason="Demo is leaving."))

    def none(self, reason: str = "No model is loaded.") -> None:
        self.gateway.set_route(Route(state="none", reason=reason))

    async def outcome(self, number: int = 0) -> RequestView:
        await until(lambda: len(self.finished) > number)
        return self.finished[number]


async def until(condition: Callable[[], Any], seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - conditions of many kinds
            await asyncio.sleep(0.005)


@asynccontextmanager
async def opened(
    script: Script, *, ready: bool = True, head_seconds: float = 12.0, **settings: Any
) -> AsyncIterator[Desk]:
    told: list[Traffic] = []
    finished: list[RequestView] = []
    async with Engine(script) as engine:
        gateway = Gateway(
            GatewaySettings(port=0, **settings),
            time.monotonic,
            told.append,
            on_finished=finished.append,
            head_seconds=head_seconds,
        )
        bound = await gateway.start(0)
        desk = Desk(gateway, engine, bound.port)
        desk.published, desk.finished = told, finished
        if ready:
            desk.ready()
        try:
            yield desk
        finally:
            await gateway.close()


@pytest.fixture
def open_gateway() -> Callable[..., Any]:
    return opened
