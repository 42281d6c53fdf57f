"""Asks ready engines how full their KV caches are: only while they answer and once after, so that an idle one is left alone."""

from __future__ import annotations

import asyncio
import json

import aiohttp
from multidict import CIMultiDict

from app.core.metrics_text import largest_value
from app.daemon.gateway.answers import Refused
from app.daemon.gateway.lanes import Lane, Lanes
from app.daemon.gateway.traffic import Ledger
from app.engines.registry import FAMILIES

LOOK_SECONDS = 1.0
ANSWER_SECONDS = 5.0  # an engine answers between two steps; a long prompt's step can take this long


async def watch_kv_cache(lanes: Lanes, ledger: Ledger, look_seconds: float = LOOK_SECONDS) -> None:
    """Tells the ledger the fullest cache of all seats; None while no engine tells of its own."""
    told: dict[str, float | None] = {}  # run → the last answer
    finished = 0
    while True:
        await asyncio.sleep(look_seconds)
        before, finished = finished, ledger.requests_total
        ready = {lane.route.run_id: lane for lane in lanes.shown() if lane.route.state == "ready"}
        told = {run_id: usage for run_id, usage in told.items() if run_id in ready}
        for run_id, lane in ready.items():
            if lanes.in_flight(run_id) or finished != before or run_id not in told:
                told[run_id] = await kv_cache_usage(lanes, lane)
        ledger.kv_cache(max((usage for usage in told.values() if usage is not None), default=None))


async def kv_cache_usage(lanes: Lanes, lane: Lane) -> float | None:
    """Share of one engine's cache in use; None when it does not say, or not in time."""
    route = lane.route
    upstream = lanes.upstream(route.run_id)
    counter = route.traits.counters.get("kv_cache_usage", "")
    path = route.traits.slots_path or (route.traits.metrics_path if counter else None)
    if upstream is None or route.endpoint is None or path is None:
        return None
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            answer = await upstream.ask("GET", path, "", CIMultiDict[str](), None)
            async with answer:
                if answer.status != 200:
                    return None
                page = await answer.read()
        if path != route.traits.slots_path:
            return largest_value(page.decode("utf-8", "replace"), counter)
        slots = json.loads(page)
    except (Refused, aiohttp.ClientError, TimeoutError, OSError, ValueError, RuntimeError):
        return None
    return FAMILIES[route.endpoint.engine].kv_cache_usage(slots)
