"""Which seat a request goes to, and who hears that a seat is used (S7, I9, I13)."""

from __future__ import annotations

import asyncio
import json

from app.core.lifecycle import Endpoint
from app.daemon.gateway import Route
from tests.daemon.gateway.conftest import until
from tests.daemon.gateway.upstream_rig import Call, Engine, ask, post, whole

CHAT = "/v1/chat/completions"


def asked(model: str) -> bytes:
    return json.dumps({"model": model, "messages": []}).encode()


async def answers(call: Call) -> None:
    await call.send(whole(b'{"choices":[]}'))


def route(seat: str, model: str, engine: Engine, **more: object) -> Route:
    at = Endpoint(base_url=engine.url, model_name=model, engine="llama-server")
    return Route(seat=seat, state="ready", profile_id=model, run_id=f"{seat}-{model}", endpoint=at, **more)  # type: ignore[arg-type]


async def test_a_request_goes_to_the_seat_that_has_its_model_and_else_to_the_main_one(open_gateway) -> None:
    async with open_gateway(answers) as desk, Engine(answers) as side:
        desk.gateway.set_route(route("side", "blue", side, aliases=("azure",)))
        for model, engine in (("demo", desk.engine), ("blue", side), ("azure", side), ("gpt-4o", desk.engine)):
            before = len(engine.calls)
            assert (await ask(desk.port, post(CHAT, asked(model), desk.port)))[0] == 200
            assert len(engine.calls) == before + 1, model


async def test_of_two_seats_with_the_same_model_the_one_that_is_ready_answers(open_gateway) -> None:
    """While the main seat's is lent or loading, nobody needs to wait for it."""
    async with open_gateway(answers) as desk, Engine(answers) as side:
        desk.gateway.set_route(route("side", "demo", side))
        assert (await ask(desk.port, post(CHAT, asked("demo"), desk.port)))[0] == 200
        assert (len(desk.engine.calls), len(side.calls)) == (1, 0)
        desk.gateway.set_route(Route(state="lent", profile_id="demo", reason="The card is lent."))
        assert (await ask(desk.port, post(CHAT, asked("demo"), desk.port)))[0] == 200
        assert len(side.calls) == 1
        status, _, body, _ = await ask(desk.port, post(CHAT, asked("other"), desk.port))
        assert status == 503
        assert json.loads(body)["error"]["code"] == "memory_lent"


async def test_an_engine_that_answers_elsewhere_finishes_what_it_has_begun(open_gateway) -> None:
    """I8: the same run has another endpoint; who waits is sent to the new one, and what comes from the old one ends well."""
    go_on = asyncio.Event()

    async def slow(call: Call) -> None:
        await go_on.wait()
        await answers(call)

    async with open_gateway(slow, concurrency=1) as desk, Engine(answers) as other:
        first, second = (
            asyncio.get_running_loop().create_task(ask(desk.port, post(CHAT, asked("demo"), desk.port)))
            for _ in range(2)
        )
        await until(lambda: desk.engine.calls and desk.gateway.traffic.queued == 1)
        desk.ready(engine=other)
        await until(lambda: desk.gateway.traffic.queued == 1)
        go_on.set()
        assert [answer[0] for answer in await asyncio.gather(first, second)] == [200, 200]
        assert (len(desk.engine.calls), len(other.calls)) == (1, 1)


async def test_one_seats_full_queue_holds_up_no_other(open_gateway) -> None:
    """I6: each seat has places of its own."""
    release = asyncio.Event()

    async def slow(call: Call) -> None:
        await release.wait()
        await answers(call)

    async with open_gateway(slow, concurrency=1, queue_length=1) as desk, Engine(answers) as side:
        desk.gateway.set_route(route("side", "blue", side))
        waiting = [
            asyncio.get_running_loop().create_task(ask(desk.port, post(CHAT, asked("demo"), desk.port)))
            for _ in range(2)
        ]
        await until(lambda: desk.gateway.traffic.queued == 1)
        assert (await ask(desk.port, post(CHAT, asked("demo"), desk.port)))[0] == 503
        assert (await ask(desk.port, post(CHAT, asked("blue"), desk.port)))[0] == 200
        release.set()
        assert [answer[0] for answer in await asyncio.gather(*waiting)] == [200, 200]


async def test_use_is_told_at_the_first_request_and_after_the_last(open_gateway) -> None:
    """I9: a request that waits for a model at rest is use too, and a list is none."""
    told: list[tuple[str, bool]] = []
    async with open_gateway(answers, ready=False) as desk:
        desk.gateway.on_use = lambda seat, busy: told.append((seat, busy))
        desk.gateway.set_route(Route(state="resting", profile_id="demo", reason="demo is loading."))
        waiting = [
            asyncio.get_running_loop().create_task(ask(desk.port, post(CHAT, asked("demo"), desk.port)))
            for _ in range(3)
        ]
        await until(lambda: desk.gateway.traffic.queued == 3)
        assert told == [("main", True)]
        desk.ready()
        assert [answer[0] for answer in await asyncio.gather(*waiting)] == [200] * 3
        await until(lambda: len(told) == 2)
        assert told[1] == ("main", False)
        await ask(desk.port, f"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1:{desk.port}\r\n\r\n".encode())
        assert len(told) == 2
