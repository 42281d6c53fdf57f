"""What reaches the engine and what comes back: bytes, cancels, faults, limits, on real sockets."""

from __future__ import annotations

import asyncio
import gzip
import json
import random

import pytest

from app.engines.base import Traits
from tests.daemon.gateway.conftest import until
from tests.daemon.gateway.upstream_rig import (
    DONE,
    END,
    SSE,
    Call,
    ask,
    chunk,
    finish,
    head,
    post,
    read_answer,
    token,
    whole,
)

CHAT = "/v1/chat/completions"
ASKED = json.dumps({"model": "demo", "messages": [{"role": "user", "content": "hello"}]}).encode()
STREAMED = json.dumps({"model": "demo", "stream": True, "messages": []}).encode()
ANSWER = b'{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1}}'


def says(*pieces: bytes):
    async def script(call: Call) -> None:
        for piece in pieces:
            await call.send(piece)
            await asyncio.sleep(0)

    return script


def stream(*events: bytes) -> tuple[bytes, ...]:
    return (head(content_type=SSE), *(chunk(event) for event in events), END)


rng = random.Random(7)
CASES = {
    "json": (ASKED, (whole(ANSWER),)),
    "json without a length": (ASKED, (head(), chunk(ANSWER[:20]), chunk(ANSWER[20:]), END)),
    "an error of the engine": (ASKED, (whole(b'{"error":{"message":"context","code":400}}', 400),)),
    "an unknown model": (ASKED, (whole(b'{"error":{"message":"The model `x` does not exist.","code":404}}', 404),)),
    "a stream": (STREAMED, stream(token("a"), token("b"), finish(), DONE)),
    "a stream in one write": (STREAMED, (b"".join(stream(token("a"), token("b"), finish(), DONE)),)),
    "events cut anywhere": (STREAMED, stream(token("äöü")[:31], token("äöü")[31:] + finish(), DONE[:3], DONE[3:])),
    "carriage returns": (
        STREAMED,
        stream(b"data: {}\r\n\r\n", finish().replace(b"\n", b"\r\n"), b"data: [DONE]\r\n\r\n"),
    ),
    "comments and ids": (STREAMED, stream(b": hello\n\n", b"id: 7\nevent: x\ndata: {}\n\n", finish(), DONE)),
    "bytes that are not UTF-8": (STREAMED, stream(b"data: \xff\xfe\x80\n\n", finish(), DONE)),
    "a large answer": (ASKED, (whole(rng.randbytes(3_000_000), content_type="application/octet-stream"),)),
    "a large event": (STREAMED, stream(token("x" * 700_000), finish(), DONE)),
    "an error event": (STREAMED, stream(token("a"), b'data: {"error":{"message":"boom","code":500}}\n\n')),
    "timings after the end": (STREAMED, stream(token("a"), finish(timings={"predicted_n": 1}), DONE)),
    "an empty answer": (ASKED, (whole(b""),)),
    "an answer compressed by the engine": (ASKED, (whole(gzip.compress(ANSWER), extra="Content-Encoding: gzip\r\n"),)),
}


@pytest.mark.parametrize("name", CASES)
async def test_bytes_are_those_of_the_engine(name: str, open_gateway) -> None:
    """I14: status, type and every byte are the same as from the engine itself."""
    body, pieces = CASES[name]
    async with open_gateway(says(*pieces)) as desk:
        direct = await ask(desk.engine.port, post(CHAT, body, desk.port))
        through = await ask(desk.port, post(CHAT, body, desk.port))
        assert through[0] == direct[0]
        assert through[2] == direct[2]
        assert through[1]["content-type"] == direct[1]["content-type"]
        assert through[1].get("content-encoding") == direct[1].get("content-encoding")
        assert through[3]
        assert direct[3]
        assert desk.engine.calls[1].body == desk.engine.calls[0].body == body


async def test_a_chunk_is_passed_on_before_the_next_exists(open_gateway) -> None:
    """I14: no coalescing. The engine sends the next token only after the client has read the one before."""
    seen = asyncio.Queue[None]()

    async def script(call: Call) -> None:
        await call.send(head(content_type=SSE))
        for number in range(20):
            await seen.get()
            await call.send(chunk(token(str(number))))
        await call.gone.wait()

    async with open_gateway(script) as desk:
        reader, writer = await asyncio.open_connection("127.0.0.1", desk.port)
        writer.write(post(CHAT, STREAMED, desk.port))
        first = await reader.readuntil(b"\r\n\r\n")  # the head alone, before any token
        assert b"X-Accel-Buffering: no" in first
        assert b"Cache-Control: no-cache" in first
        for number in range(20):
            seen.put_nowait(None)
            async with asyncio.timeout(60):
                assert (await reader.readuntil(b"\n\n\r\n")).endswith(token(str(number)) + b"\r\n")
        writer.transport.abort()


async def test_hop_by_hop_and_secret_headers_stay_between_us_and_the_engine(open_gateway) -> None:
    """I18: a client's key is not the engine's business."""
    async with open_gateway(
        says(
            whole(
                ANSWER,
                extra="Access-Control-Allow-Origin: *\r\nKeep-Alive: timeout=5\r\nX-Own: 1\r\nSet-Cookie: a=b\r\n",
            )
        )
    ) as desk:
        extra = "Authorization: Bearer sk-canary\r\nCookie: a=canary\r\nX-Api-Key: canary\r\nUser-Agent: me\r\nAccept-Encoding: gzip\r\n"
        _, headers, _, _ = await ask(desk.port, post(CHAT, ASKED, desk.port, extra))
        call = desk.engine.calls[0]
        assert "canary" not in repr(call.headers)
        assert call.header("Accept-Encoding") == "identity"
        assert call.header("User-Agent") == "me"
        assert call.header("Content-Type") == "application/json"
        assert not {"access-control-allow-origin", "keep-alive", "set-cookie"} & set(headers)
        assert headers["x-own"] == "1"


async def test_cancel_before_the_first_byte_reaches_the_engine(open_gateway) -> None:
    """I15, non-stream and stream, while the engine has said nothing yet."""

    async def script(call: Call) -> None:
        await call.gone.wait()

    async with open_gateway(script) as desk:
        for number, body in enumerate((ASKED, STREAMED)):
            _, writer = await asyncio.open_connection("127.0.0.1", desk.port)
            writer.write(post(CHAT, body, desk.port))
            call = await desk.engine.call(number)
            assert not call.gone.is_set()
            writer.close()
            await asyncio.wait_for(call.gone.wait(), 60)
            assert (await desk.outcome(number)).outcome == "cancelled"
        assert desk.gateway.in_flight("r1") == 0


async def test_cancel_in_the_middle_reaches_the_engine_and_nobody_else(open_gateway) -> None:
    """I15: the other stream on the same engine goes on."""

    async def script(call: Call) -> None:
        await call.send(head(content_type=SSE))
        while not call.gone.is_set():
            await call.send(chunk(token("x")))
            await asyncio.sleep(0.005)

    async with open_gateway(script) as desk:
        clients = [await asyncio.open_connection("127.0.0.1", desk.port) for _ in range(2)]
        for reader, writer in clients:
            writer.write(post(CHAT, STREAMED, desk.port))
            await reader.readuntil(b"\n\n\r\n")
        leaving, staying = await desk.engine.call(0), await desk.engine.call(1)
        clients[0][1].close()
        await asyncio.wait_for(leaving.gone.wait(), 60)
        for _ in range(20):
            async with asyncio.timeout(60):
                await clients[1][0].readuntil(b"\n\n\r\n")
        assert not staying.gone.is_set()
        assert (await desk.outcome()).outcome == "cancelled"
        clients[1][1].transport.abort()


FAULTS = {
    "not HTTP": (b"hello there\r\n\r\n", 502),
    "a broken head": (b"HTTP/1.1 two hundred\r\n\r\n", 502),
    "closed at once": (b"", 502),
    "two lengths": (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc", 502),
    "a body that is cut": (head(length=500) + b'{"choices"', 502),
    "a chunked body that is cut": (head() + chunk(b'{"choices"'), 502),
    "broken chunks": (head() + b"zz\r\nhello\r\n", 502),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_a_broken_engine_is_a_502_that_names_the_cause(name: str, open_gateway) -> None:
    """I6: OpenAI's error shape and a sentence, never a bare 500."""
    raw, status = FAULTS[name]

    async def script(call: Call) -> None:
        await call.send(raw)
        call.writer.close()

    async with open_gateway(script) as desk:
        answer = await ask(desk.port, post(CHAT, ASKED, desk.port))
        assert answer[0] == status
        error = json.loads(answer[2])["error"]
        assert error["type"] == "engine_error"
        assert "engine" in error["message"].lower()
        assert len(desk.engine.calls) == 1  # not sent twice
        assert (await desk.outcome()).outcome == "failed"


CUT_STREAMS = {
    "ended without its end mark": (*stream(token("a"), token("b")),),
    "cut between events": (head(content_type=SSE), chunk(token("a"))),
    "cut inside an event": (head(content_type=SSE), chunk(token("a")), chunk(token("bcd")[:40])),
    "empty": (head(content_type=SSE), END),
}


@pytest.mark.parametrize("name", CUT_STREAMS)
async def test_a_stream_that_was_cut_never_looks_complete(name: str, open_gateway) -> None:
    """I8: an explicit error event, no [DONE], and no proper end of the body once tokens have passed."""

    async def script(call: Call) -> None:
        for piece in CUT_STREAMS[name]:
            await call.send(piece)
        call.writer.close()

    async with open_gateway(script) as desk:
        status, _, body, ended = await ask(desk.port, post(CHAT, STREAMED, desk.port))
        assert status == 200
        last = body.rstrip(b"\n").rsplit(b"\n\n", 1)[-1].removeprefix(b"data: ")
        assert json.loads(last)["error"]["code"] == "answer_cut_short"
        assert b"[DONE]" not in body
        assert ended == (name == "empty")
        assert (await desk.outcome()).outcome == "failed"


async def test_an_engine_that_is_not_there_is_a_502(open_gateway) -> None:
    async with open_gateway(says(whole(ANSWER))) as desk:
        await desk.engine.__aexit__()
        status, _, body, _ = await ask(desk.port, post(CHAT, ASKED, desk.port))
        assert status == 502
        assert "does not accept connections" in json.loads(body)["error"]["message"]


async def test_a_pooled_connection_that_the_engine_dropped_costs_no_request(open_gateway) -> None:
    """I6: the race between the engine's idle limit and the next request is not the client's problem."""

    async def script(call: Call) -> None:
        if len(desk.engine.calls) == 2:
            call.abort()  # after the request was written, before anything is answered, on a connection used before
            return
        await call.send(whole(ANSWER))

    async with open_gateway(script) as desk:
        for _ in range(2):
            assert (await ask(desk.port, post(CHAT, ASKED, desk.port)))[0] == 200
        assert len(desk.engine.calls) == 3


async def test_an_answer_that_takes_too_long_ends_with_a_504_or_an_error_event(open_gateway) -> None:
    async def script(call: Call) -> None:
        if b'"stream"' in call.body:
            await call.send(head(content_type=SSE) + chunk(token("a")))
        await call.gone.wait()

    async with open_gateway(script, request_timeout_seconds=3) as desk:
        plain, streamed = await asyncio.gather(
            ask(desk.port, post(CHAT, ASKED, desk.port)), ask(desk.port, post(CHAT, STREAMED, desk.port))
        )
        assert plain[0] == 504
        assert json.loads(plain[2])["error"]["code"] == "answer_timeout"
        assert b'"code": "answer_timeout"' in streamed[2]
        assert not streamed[3]
        for call in desk.engine.calls:
            await asyncio.wait_for(call.gone.wait(), 60)


@pytest.mark.slow
async def test_an_answer_may_take_nearly_five_minutes_as_it_is(open_gateway) -> None:
    """The endpoint's 300 s: silent for all that time, or one token every half minute; ten at once, each whole."""

    async def script(call: Call) -> None:
        if b'"stream"' not in call.body:
            await asyncio.sleep(290)
            await call.send(whole(ANSWER))
            return
        await call.send(head(content_type=SSE))
        for number in range(10):
            await asyncio.sleep(29)
            await call.send(chunk(token(str(number))))
        await call.send(chunk(finish() + DONE) + END)

    async with open_gateway(script) as desk:
        wishes = [ASKED, STREAMED] * 5
        answers = await asyncio.gather(*(ask(desk.port, post(CHAT, wish, desk.port), seconds=310) for wish in wishes))
        assert [answer[0] for answer in answers] == [200] * 10
        assert all(answer[2] == ANSWER for answer in answers[::2])
        for answer in answers[1::2]:
            assert [answer[2].count(token(str(number))) for number in range(10)] == [1] * 10
            assert DONE in answer[2]


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (404, b'{"detail":"Not Found"}', 501),
        (404, b'{"error":{"code":404,"message":"File Not Found","type":"not_found_error"}}', 501),
        (405, b'{"detail":"Method Not Allowed"}', 405),
        (404, b"", 501),
        (404, b'{"error":{"message":"The model `x` does not exist.","type":"NotFoundError","code":404}}', 404),
    ],
)
async def test_a_path_that_the_engine_lacks_is_501_and_an_unknown_model_stays_404(status, body, expected, open_gateway):
    async with open_gateway(says(whole(body, status))) as desk:
        answer = await ask(desk.port, post("/v1/rerank", b'{"model":"x"}', desk.port))
        assert answer[0] == expected
        if expected == 501:
            assert "llama-server does not have /v1/rerank" in json.loads(answer[2])["error"]["message"]


async def test_tokenize_is_asked_where_the_engine_has_it(open_gateway) -> None:
    async with open_gateway(says(whole(b'{"tokens":[1]}'))) as desk:
        await ask(desk.port, post("/v1/tokenize", b'{"content":"a"}', desk.port))
        desk.ready("r2", Traits(paths={"/v1/tokenize": "/extras/tokenize"}))
        await ask(desk.port, post("/v1/tokenize", b'{"input":"a"}', desk.port))
        assert [call.target for call in desk.engine.calls] == ["/tokenize", "/extras/tokenize"]


@pytest.mark.parametrize(
    ("renames", "body", "sent", "told"),
    [
        ({"content": "input"}, b'{"content":"a","model":"m"}', b'{"input": "a", "model": "m"}', b"content as input"),
        ({"input": "content", "prompt": "content"}, b'{"prompt":"a"}', b'{"content": "a"}', b"prompt as content"),
        ({"content": "input"}, b'{ "input":"a" }', b'{ "input":"a" }', b""),
        ({"content": "input"}, b'{"content":"a", "input":"b"}', b'{"content":"a", "input":"b"}', b""),
        ({}, b'{ "content":"a" }', b'{ "content":"a" }', b""),
    ],
)
async def test_the_text_to_count_is_called_as_the_engine_calls_it_and_the_answer_says_so(
    renames, body, sent, told, open_gateway
) -> None:
    """One form for all engines; whoever knows the engine's own is let through byte for byte."""
    async with open_gateway(says(whole(b'{"tokens":[1]}'))) as desk:
        desk.ready("r2", Traits(renames={"/v1/tokenize": renames}))
        answer = await ask(desk.port, post("/v1/tokenize", body, desk.port))
        assert desk.engine.calls[0].body == sent
        assert answer[1].get("x-engine-room-changed", "").encode() == told
        assert answer[2] == b'{"tokens":[1]}', "the answer's bytes are the engine's"


async def test_an_engine_that_must_stream_is_asked_to_and_its_answer_put_together(open_gateway) -> None:
    """Cancel works with llama-cpp-python only while it streams; the client gets the JSON that it asked for."""
    role = token("").replace(b'"content":""', b'"role":"assistant"')
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    end = finish("length", usage=usage)
    async with open_gateway(says(*stream(role, token("Hel"), token("lo"), end, DONE))) as desk:
        desk.ready("r2", Traits(always_stream=True, concurrency=1, empty_stream_is_error=True))
        status, headers, body, _ = await ask(desk.port, post(CHAT, ASKED, desk.port))
        assert status == 200
        assert headers["content-type"] == "application/json"
        assert json.loads(desk.engine.calls[0].body)["stream"] is True
        answer = json.loads(body)
        assert answer["object"] == "chat.completion"
        assert answer["choices"] == [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello"},
                "finish_reason": "length",
                "logprobs": None,
            }
        ]
        assert answer["usage"] == usage
        view = await desk.outcome()
        assert (view.prompt_tokens, view.completion_tokens) == (5, 2)
        assert view.first_token_seconds is not None


@pytest.mark.parametrize("body", [ASKED, STREAMED])
async def test_a_stream_without_a_token_is_an_error_where_the_engine_means_one_by_it(body, open_gateway) -> None:
    async with open_gateway(says(*stream())) as desk:
        desk.ready("r2", Traits(always_stream=True, empty_stream_is_error=True))
        status, _, answer, _ = await ask(desk.port, post(CHAT, body, desk.port))
        assert status == 502
        assert json.loads(answer)["error"]["code"] == "empty_answer"


async def test_what_is_counted_is_what_the_engine_says(open_gateway) -> None:
    usage = {"usage": {"prompt_tokens": 11, "completion_tokens": 2}, "timings": {"predicted_per_second": 50.5}}
    usage["timings"]["prompt_per_second"] = 80.5
    async with open_gateway(says(*stream(token("a"), token("b"), finish(**usage), DONE))) as desk:
        await ask(desk.port, post(CHAT, STREAMED, desk.port))
        view = await desk.outcome()
        assert (view.prompt_tokens, view.completion_tokens, view.tokens_per_second) == (11, 2, 50.5)
        assert view.model == "demo"
        assert view.outcome == "answered"
        await until(lambda: desk.published and desk.published[-1].completion_tokens_total == 2)
        traffic = desk.published[-1]
        assert traffic.first_token_seconds == view.first_token_seconds
        assert traffic.recent == (view,)
        _, _, text, _ = await ask(desk.port, f"GET /metrics HTTP/1.1\r\nHost: localhost:{desk.port}\r\n\r\n".encode())
        assert b'engine_room_requests_total{path="/v1/chat/completions",outcome="answered"} 1' in text
        assert b"engine_room_generation_tokens_total 2" in text
        assert b"engine_room_prompt_tokens_per_second 80.5" in text


async def test_a_client_that_does_not_read_stalls_only_itself(open_gateway) -> None:
    """I16: what it does not take waits in the engine, not in us; others are served meanwhile."""

    async def script(call: Call) -> None:
        await call.send(head(content_type=SSE))
        if b"endless" not in call.body:
            await call.send(chunk(token("a") + finish() + DONE) + END)
            return
        piece = chunk(token("x" * 10_000))
        while not call.gone.is_set():
            await call.send(piece)

    async with open_gateway(script) as desk:
        _, writer = await asyncio.open_connection("127.0.0.1", desk.port, limit=1024)
        writer.write(post(CHAT, STREAMED.replace(b"demo", b"endless"), desk.port))
        stalled = await desk.engine.call(0)
        before = -1
        while stalled.wrote != before:  # until nothing moves any more
            before = stalled.wrote
            await asyncio.sleep(0.3)
        assert stalled.wrote * 10_000 < 16 * 1024 * 1024
        assert (await ask(desk.port, post(CHAT, STREAMED, desk.port)))[3]
        writer.transport.abort()
        await asyncio.wait_for(stalled.gone.wait(), 60)


async def test_two_requests_sent_at_once_on_one_connection_are_both_answered_in_order(open_gateway) -> None:
    async def script(call: Call) -> None:
        await call.send(whole(call.body))

    async with open_gateway(script) as desk:
        reader, writer = await asyncio.open_connection("127.0.0.1", desk.port)
        writer.write(post(CHAT, b'{"n":1}', desk.port) + post(CHAT, b'{"n":2}', desk.port))
        assert (await read_answer(reader))[2] == b'{"n":1}'
        assert (await read_answer(reader))[2] == b'{"n":2}'
        writer.transport.abort()


async def test_a_mixed_crowd_loses_and_doubles_nothing(open_gateway) -> None:
    """I6, I15: 16 clients, streams, answers, cancels and a faulty engine; every request has one outcome of its own."""

    async def script(call: Call) -> None:
        number = json.loads(call.body)["n"]
        if number % 11 == 3:
            call.abort()
        elif number % 2:
            await call.send(head(content_type=SSE))
            for _ in range(5):
                await call.send(chunk(token(f"<{number}>")))
                await asyncio.sleep(0.001)
            await call.send(chunk(finish() + DONE) + END)
        else:
            await call.send(whole(b'{"n":%d}' % number))

    async def client(first: int) -> None:
        dice = random.Random(first)
        for number in range(first, 320, 16):
            body = json.dumps({"n": number, "stream": bool(number % 2)}).encode()
            if dice.random() < 0.15:
                _, writer = await asyncio.open_connection("127.0.0.1", desk.port)
                writer.write(post(CHAT, body, desk.port))
                await asyncio.sleep(dice.random() * 0.01)
                writer.transport.abort()
                cancelled.add(number)
                continue
            status, _, answer, ended = await ask(desk.port, post(CHAT, body, desk.port))
            if number % 11 == 3:
                assert status in (502, 200)
                assert number % 2 or b"engine_unreachable" in answer
            elif number % 2:
                assert ended
                assert answer == token(f"<{number}>") * 5 + finish() + DONE
            else:
                assert (status, answer) == (200, b'{"n":%d}' % number)

    cancelled: set[int] = set()
    async with open_gateway(script) as desk:
        await asyncio.gather(*(client(first) for first in range(16)))
        await until(lambda: len(desk.finished) >= 320 - len(cancelled))
        await until(lambda: desk.gateway.traffic.in_flight == 0)
        seen = [json.loads(call.body)["n"] for call in desk.engine.calls]
        assert set(range(320)) - set(seen) <= cancelled
        assert all(seen.count(number) == 1 for number in seen if number % 11 != 3 and number not in cancelled)


async def test_every_answer_names_itself_as_the_request_log_does(open_gateway) -> None:
    """I9: what a client shows of an answer can be matched with the log's figures for it."""
    async with open_gateway(says(*stream(token("a"), finish(), DONE))) as desk:
        streamed = await ask(desk.port, post(CHAT, STREAMED, desk.port))
        assert streamed[1]["x-request-id"] == (await desk.outcome(0)).id
    async with open_gateway(says(whole(ANSWER, extra="X-Request-Id: the-engines-own\r\n"))) as desk:
        answered = await ask(desk.port, post(CHAT, ASKED, desk.port))
        assert answered[1]["x-request-id"] == (await desk.outcome(0)).id
    async with open_gateway(says(), ready=False) as desk:
        refused = await ask(desk.port, post(CHAT, ASKED, desk.port))
        assert refused[1]["x-request-id"] == (await desk.outcome(0)).id
