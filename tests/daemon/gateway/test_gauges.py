"""The cache's fill is what the engine says it is, and an engine that says nothing leaves it unknown."""

from __future__ import annotations

import json

import pytest

from app.engines.base import Traits
from app.engines.native_server import kv_cache_usage
from app.engines.registry import FAMILIES
from tests.daemon.gateway.conftest import until
from tests.daemon.gateway.upstream_rig import Call, ask, whole

SLOTS = [
    {"id": 0, "n_ctx": 1000, "is_processing": True, "n_prompt_tokens": 300},
    {"id": 1, "n_ctx": 1000, "is_processing": False, "n_prompt_tokens": 200},
    {"id": 2, "n_ctx": 1000, "is_processing": False},
]


def says(answer: bytes):
    async def script(call: Call) -> None:
        await call.send(answer)

    return script


async def test_the_cache_is_as_full_as_its_slots_together(open_gateway) -> None:
    async with open_gateway(says(whole(json.dumps(SLOTS).encode()))) as desk:
        desk.ready("r2", Traits(slots_path="/slots"))
        await until(lambda: desk.published and desk.published[-1].kv_cache_usage == 0.5)
        assert {call.target for call in desk.engine.calls} == {"/slots"}
        metrics = await ask(desk.port, f"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:{desk.port}\r\n\r\n".encode())
        assert b"engine_room_kv_cache_usage 0.5" in metrics[2]
        desk.none()
        await until(lambda: desk.published[-1].kv_cache_usage is None)


async def test_an_engine_without_slots_tells_it_on_its_metrics_page(open_gateway) -> None:
    page = b'vllm:kv_cache_usage_perc{engine="0",model_name="demo"} 0.125\n'
    async with open_gateway(says(whole(page))) as desk:
        desk.ready("r2", FAMILIES["vllm"].traits)
        await until(lambda: desk.published and desk.published[-1].kv_cache_usage == 0.125)
        assert {call.target for call in desk.engine.calls} == {"/metrics"}


async def test_an_engine_that_dies_in_the_middle_of_its_answer_is_not_the_last_one_asked(open_gateway) -> None:
    async def script(call: Call) -> None:
        if len(desk.engine.calls) == 1:
            await call.send(whole(json.dumps(SLOTS).encode())[:-20])
            call.abort()
        else:
            await call.send(whole(json.dumps(SLOTS).encode()))

    async with open_gateway(script) as desk:
        desk.ready("r2", Traits(slots_path="/slots"))
        await until(lambda: desk.engine.calls)
        desk.ready("r3", Traits(slots_path="/slots"))
        await until(lambda: desk.published and desk.published[-1].kv_cache_usage == 0.5)


async def test_a_list_of_models_that_breaks_off_is_ours_instead(open_gateway) -> None:
    async def script(call: Call) -> None:
        await call.send(whole(b'{"object": "list", "data": []}')[:-5])
        call.abort()

    async with open_gateway(script) as desk:
        desk.ready()
        status, _, body, _ = await ask(
            desk.port, f"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1:{desk.port}\r\n\r\n".encode()
        )
        assert (status, json.loads(body)["data"][0]["id"]) == (200, "demo")


@pytest.mark.parametrize("answer", [whole(b"{}", 404), whole(b"not json"), whole(b'{"slots": 1}')])
async def test_an_engine_that_does_not_tell_leaves_it_unknown(answer, open_gateway) -> None:
    async with open_gateway(says(answer)) as desk:
        desk.ready("r2", Traits(slots_path="/slots"))
        await until(lambda: desk.engine.calls)
        assert desk.gateway.traffic.kv_cache_usage is None
        assert desk.gateway.traffic.requests_total == 0, "our own look is nobody's request"


@pytest.mark.parametrize(
    ("slots", "usage"),
    [
        (SLOTS, 0.5),
        ([{"n_ctx": 512, "is_processing": False}], 0.0),
        ([{"n_ctx": 512, "is_processing": True}], None),
        ([{"id": 1}], None),
        ([], None),
        ([1], None),
        ({"error": {}}, None),
        ([{"n_ctx": 100, "n_prompt_tokens": 130}], 1.0),
    ],
)
def test_what_slots_say_is_read(slots: object, usage: float | None) -> None:
    assert kv_cache_usage(slots) == usage
