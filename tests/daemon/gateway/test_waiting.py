"""What happens to requests while there is no engine, while one loads, and when the engine changes under them."""

from __future__ import annotations

import asyncio
import json

from app.engines.base import Traits
from tests.daemon.gateway.conftest import until
from tests.daemon.gateway.upstream_rig import DONE, END, SSE, Call, Engine, ask, chunk, finish, head, post, token, whole

CHAT = "/v1/chat/completions"
ASKED = b'{"model":"demo","messages":[]}'
STREAMED = b'{"model":"demo","stream":true,"messages":[]}'


async def answers(call: Call) -> None:
    if b'"stream"' in call.body:
        await call.send(head(content_type=SSE) + chunk(token("a")) + chunk(finish() + DONE) + END)
    else:
        await call.send(whole(b'{"choices":[]}'))


def get(path: str, port: int) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()


async def test_nothing_loaded_is_a_503_that_says_what_to_do(open_gateway) -> None:
    """I6."""
    async with open_gateway(answers, ready=False) as desk:
        status, headers, body, _ = await ask(desk.port, post(CHAT, ASKED, desk.port))
        assert status == 503
        assert int(headers["retry-after"]) > 0
        error = json.loads(body)["error"]
        assert error["code"] == "no_model_loaded"
        assert "engine-room load" in error["message"]
        assert (await desk.outcome()).outcome == "refused"


async def test_the_failure_of_the_last_load_is_the_reason_given(open_gateway) -> None:
    async with open_gateway(answers, ready=False) as desk:
        desk.none("Demo did not start: the card has not enough memory.")
        _, _, body, _ = await ask(desk.port, post(CHAT, ASKED, desk.port))
        assert json.loads(body)["error"]["message"].startswith("Demo did not start: the card has not enough memory.")


async def test_requests_wait_while_a_model_loads_and_then_are_all_answered(open_gateway) -> None:
    """I6: 12 requests, in the order in which they came, none lost, none sent twice."""
    async with open_gateway(answers, ready=False) as desk:
        desk.loading()
        waiting = []
        for number in range(12):
            body = json.dumps({"n": number, "stream": bool(number % 2)}).encode()
            waiting.append(asyncio.get_running_loop().create_task(ask(desk.port, post(CHAT, body, desk.port))))
            await until(lambda count=number + 1: desk.gateway.traffic.queued == count)
        assert desk.engine.calls == []
        desk.ready()
        assert [answer[0] for answer in await asyncio.gather(*waiting)] == [200] * 12
        assert sorted(json.loads(call.body)["n"] for call in desk.engine.calls) == list(range(12))


async def test_a_wait_ends_with_a_503_and_a_useful_time_to_try_again(open_gateway) -> None:
    """I7."""
    async with open_gateway(answers, ready=False, loading_wait_seconds=0.2) as desk:
        desk.loading(eta=41.2)
        status, headers, body, _ = await ask(desk.port, post(CHAT, ASKED, desk.port))
        assert status == 503
        assert headers["retry-after"] == "42"
        assert json.loads(body)["error"]["code"] == "model_loading"


async def test_a_load_that_fails_ends_all_waits_at_once(open_gateway) -> None:
    """I7: every transition resolves its waiters."""
    async with open_gateway(answers, ready=False) as desk:
        desk.loading()
        waiting = [
            asyncio.get_running_loop().create_task(ask(desk.port, post(CHAT, ASKED, desk.port))) for _ in range(3)
        ]
        await until(lambda: desk.gateway.traffic.queued == 3)
        desk.none("Demo could not be loaded.")
        assert [answer[0] for answer in await asyncio.gather(*waiting)] == [503] * 3


async def test_a_client_that_leaves_while_waiting_frees_its_place(open_gateway) -> None:
    """I15, before there is any engine to cancel."""
    async with open_gateway(answers, ready=False) as desk:
        desk.loading()
        _, writer = await asyncio.open_connection("127.0.0.1", desk.port)
        writer.write(post(CHAT, ASKED, desk.port))
        await until(lambda: desk.gateway.traffic.queued == 1)
        writer.close()
        await until(lambda: desk.gateway.traffic.queued == 0)
        desk.ready()
        assert (await ask(desk.port, post(CHAT, ASKED, desk.port)))[0] == 200
        assert len(desk.engine.calls) == 1


async def test_a_waiting_stream_is_kept_open_by_comments_and_then_streams(open_gateway) -> None:
    """G3: comments go only to streams that have waited; the engine's events follow unchanged."""
    async with open_gateway(answers, ready=False, keepalive_after_seconds=1) as desk:
        desk.loading()
        reader, writer = await asyncio.open_connection("127.0.0.1", desk.port)
        writer.write(post(CHAT, STREAMED, desk.port))
        async with asyncio.timeout(60):
            start = await reader.readuntil(b": waiting for the engine\n\n\r\n")
            assert b"text/event-stream" in start
            await reader.readuntil(b": waiting for the engine\n\n\r\n")
            desk.ready()
            rest = await reader.readuntil(b"0\r\n\r\n")
        assert token("a") in rest
        assert DONE in rest
        writer.transport.abort()


async def test_a_kept_open_stream_that_fails_gets_an_error_event_and_a_proper_end(open_gateway) -> None:
    async with open_gateway(answers, ready=False, keepalive_after_seconds=1) as desk:
        desk.loading()
        waiting = asyncio.get_running_loop().create_task(ask(desk.port, post(CHAT, STREAMED, desk.port)))
        await until(lambda: any(one.response for one in desk.gateway._proxy.exchanges))
        desk.none("Demo could not be loaded.")
        status, _, body, ended = await waiting
        assert status == 200
        assert ended
        assert json.loads(body.split(b"data: ")[1])["error"]["code"] == "no_model_loaded"


async def test_a_kept_open_stream_that_the_engine_refuses_gets_its_words_as_an_error_event(open_gateway) -> None:
    async def refuses(call: Call) -> None:
        await call.send(whole(b'{"error":{"message":"the prompt is too long","code":400}}', 400))

    async with open_gateway(refuses, ready=False, keepalive_after_seconds=1) as desk:
        desk.loading()
        waiting = asyncio.get_running_loop().create_task(ask(desk.port, post(CHAT, STREAMED, desk.port)))
        await until(lambda: any(one.response for one in desk.gateway._proxy.exchanges))
        desk.ready()
        _, _, body, _ = await waiting
        assert json.loads(body.split(b"data: ")[1])["error"]["message"] == "the prompt is too long"


async def test_more_than_the_engine_takes_wait_and_more_than_may_wait_are_refused(open_gateway) -> None:
    """G3: concurrency 2, queue 3, eight requests."""
    go = asyncio.Event()

    async def script(call: Call) -> None:
        await go.wait()
        await answers(call)

    async with open_gateway(script, concurrency=2, queue_length=3) as desk:
        all_of_them = [
            asyncio.get_running_loop().create_task(ask(desk.port, post(CHAT, ASKED, desk.port))) for _ in range(8)
        ]
        await until(lambda: len(desk.finished) == 3)
        await until(lambda: len(desk.engine.calls) == 2)
        assert desk.gateway.traffic.queued == 3
        go.set()
        assert sorted(answer[0] for answer in await asyncio.gather(*all_of_them)) == [200] * 5 + [503] * 3


async def test_the_engines_own_limit_counts(open_gateway) -> None:
    """llama-cpp-python answers one at a time; two would cut or block each other inside it."""
    together = most = 0

    async def script(call: Call) -> None:
        nonlocal together, most
        together += 1
        most = max(most, together)
        await asyncio.sleep(0.01)
        together -= 1
        await answers(call)

    async with open_gateway(script) as desk:
        desk.ready("r2", Traits(concurrency=1))
        got = await asyncio.gather(*(ask(desk.port, post(CHAT, ASKED, desk.port)) for _ in range(6)))
        assert [answer[0] for answer in got] == [200] * 6
        assert most == 1


async def test_a_switch_drains_sends_nothing_more_and_moves_the_waiting_to_the_new_engine(open_gateway) -> None:
    """I8, I13: the running answer ends on the old engine; whoever came later is answered by the new one only."""
    go = asyncio.Event()

    async def slow(call: Call) -> None:
        await call.send(head(content_type=SSE) + chunk(token("old")))
        await go.wait()
        await call.send(chunk(token("end")) + chunk(finish() + DONE) + END)

    async with open_gateway(slow) as desk, Engine(answers) as second:
        running = asyncio.get_running_loop().create_task(ask(desk.port, post(CHAT, STREAMED, desk.port)))
        await until(lambda: desk.gateway.traffic.generation_tokens_per_second)
        desk.draining()
        assert desk.gateway.in_flight("r1") == 1
        drained = asyncio.get_running_loop().create_task(desk.gateway.drained("r1"))
        later = asyncio.get_running_loop().create_task(ask(desk.port, post(CHAT, ASKED, desk.port)))
        await until(lambda: desk.gateway.traffic.queued == 1)
        assert not drained.done()
        go.set()
        assert DONE in (await running)[2]
        await asyncio.wait_for(drained, 60)
        assert desk.gateway.in_flight("r1") == 0
        desk.ready("r2", engine=second)
        assert (await later)[0] == 200
        assert len(desk.engine.calls) == 1
        assert len(second.calls) == 1


async def test_no_connection_survives_its_run(open_gateway) -> None:
    """I13: a new engine may get the port of the old one; nothing pooled for the old may reach it."""
    async with open_gateway(answers) as desk:
        await ask(desk.port, post(CHAT, ASKED, desk.port))
        first = await desk.engine.call()
        desk.draining()
        for _ in range(300):  # turns of the loop and not seconds: not by the pool's own idle limit, which is longer
            if first.reader.at_eof():
                break
            await asyncio.sleep(0.001)
        assert first.reader.at_eof()
        desk.ready("r2")  # same address, another run
        await ask(desk.port, post(CHAT, ASKED, desk.port))
        assert desk.engine.connections == 2


async def test_a_cut_ends_streams_by_an_error_event_and_others_by_a_503(open_gateway) -> None:
    """I8: past the drain budget nothing ends silently."""

    async def never_ends(call: Call) -> None:
        if b'"stream"' in call.body:
            await call.send(head(content_type=SSE) + chunk(token("a")))
        await call.gone.wait()

    async with open_gateway(never_ends) as desk:
        stream = asyncio.get_running_loop().create_task(ask(desk.port, post(CHAT, STREAMED, desk.port)))
        plain = asyncio.get_running_loop().create_task(ask(desk.port, post(CHAT, ASKED, desk.port)))
        await until(lambda: len(desk.engine.calls) == 2 and desk.gateway.traffic.generation_tokens_per_second)
        assert desk.gateway.quiet_seconds("r1") is not None
        desk.draining()
        await asyncio.wait_for(desk.gateway.cut("r1"), 60)
        assert desk.gateway.in_flight("r1") == 0
        assert desk.gateway.quiet_seconds("r1") is None
        _, _, body, ended = await stream
        assert json.loads(body.split(b"data: ")[-1])["error"]["code"] == "engine_stopped"
        assert not ended
        status, headers, body, _ = await plain
        assert status == 503
        assert "retry-after" in headers
        assert json.loads(body)["error"]["code"] == "engine_stopped"
        for call in desk.engine.calls:
            await asyncio.wait_for(call.gone.wait(), 60)


async def test_a_client_that_does_not_read_cannot_hold_up_a_cut(open_gateway) -> None:
    """I7."""

    async def endless(call: Call) -> None:
        await call.send(head(content_type=SSE))
        while not call.gone.is_set():
            await call.send(chunk(token("x" * 10_000)))

    async with open_gateway(endless) as desk:
        _, writer = await asyncio.open_connection("127.0.0.1", desk.port, limit=1024)
        writer.write(post(CHAT, STREAMED, desk.port))
        call = await desk.engine.call()
        await until(lambda: call.wrote > 50)
        await asyncio.wait_for(desk.gateway.cut("r1"), 60)
        assert desk.gateway.in_flight("r1") == 0
        await asyncio.wait_for(call.gone.wait(), 60)
        writer.transport.abort()


async def test_tokens_are_told_as_progress(open_gateway) -> None:
    told: list[str] = []
    async with open_gateway(answers) as desk:
        desk.gateway.on_progress = told.append
        await ask(desk.port, post(CHAT, STREAMED, desk.port))
        assert told == ["r1"]


async def test_lists_and_health_say_what_is_there(open_gateway) -> None:
    async def lists(call: Call) -> None:
        await call.send(whole(b'{"object":"list","data":[{"id":"demo","meta":{"n_ctx":7}}]}'))

    async with open_gateway(lists, ready=False) as desk:

        async def names(path: str) -> list[str]:
            status, _, body, _ = await ask(desk.port, get(path, desk.port))
            assert status == 200
            return [model["id"] for model in json.loads(body)["data"]]

        assert await names("/v1/models") == []
        status, _, body, _ = await ask(desk.port, get("/health", desk.port))
        assert (status, json.loads(body)["status"]) == (503, "none")
        desk.loading()
        assert await names("/models") == ["demo"]
        status, _, body, _ = await ask(desk.port, get("/health", desk.port))
        assert (status, json.loads(body)["reason"]) == (503, "Demo is loading.")
        assert desk.engine.calls == []
        desk.ready()
        _, _, body, _ = await ask(desk.port, get("/v1/models", desk.port))
        assert b'"n_ctx":7' in body  # the engine's own words
        assert (await ask(desk.port, get("/v1/models/demo", desk.port)))[0] == 200
        assert (await ask(desk.port, get("/v1/models/other", desk.port)))[0] == 404
        assert (await ask(desk.port, get("/health", desk.port)))[0] == 200
        asked = len(desk.engine.calls)
        desk.ready("r2", Traits(concurrency=1))
        assert await names("/v1/models") == ["demo"]
        assert len(desk.engine.calls) == asked  # such an engine is not disturbed for a list


async def test_a_taken_port_names_its_holder_and_the_remembered_one_is_used(open_gateway) -> None:
    """S5."""
    async with open_gateway(answers) as first, open_gateway(answers) as second:
        spare = second.port
        await second.gateway.close()
        bound = await second.gateway.start(first.port, fallback=spare)
        assert bound.port == spare
        assert bound.url == f"http://127.0.0.1:{spare}/v1"
        assert f"Port {first.port} is held by" in bound.notice
        assert "(process " in bound.notice


async def test_closing_gives_everybody_an_outcome(open_gateway) -> None:
    """I6."""

    async def never_ends(call: Call) -> None:
        await call.gone.wait()

    async with open_gateway(never_ends, concurrency=1) as desk:
        both = [asyncio.get_running_loop().create_task(ask(desk.port, post(CHAT, ASKED, desk.port))) for _ in range(2)]
        await until(lambda: desk.gateway.traffic.in_flight == 1 and desk.gateway.traffic.queued == 1)
        await desk.gateway.close()
        assert [answer[0] for answer in await asyncio.gather(*both)] == [503, 503]
