"""What many requests leave behind, and the same handler on the control socket."""

from __future__ import annotations

import asyncio
import gc
import os
import random
from pathlib import Path

import pytest
from aiohttp import web

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
ASKED = b'{"messages":[]}'
STREAMED = b'{"stream":true,"messages":[]}'


async def mixed(call: Call) -> None:
    if b'"stream"' in call.body:
        await call.send(head(content_type=SSE) + chunk(token("a")))
        await call.send(chunk(token("b") + finish() + DONE) + END)
    else:
        await call.send(whole(b'{"choices":[]}'))


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def descriptors_open() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.slow
async def test_five_thousand_requests_leave_nothing_behind(open_gateway) -> None:
    """I16: memory, descriptors and tasks after 5,000 mixed requests, 5 % cancelled, are those after 2,000."""

    async def some(count: int) -> None:
        dice = random.Random(count)

        async def client() -> None:
            for _ in range(count // 16):
                raw = post(CHAT, STREAMED if dice.random() < 0.5 else ASKED, desk.port)
                if dice.random() < 0.05:
                    _, writer = await asyncio.open_connection("127.0.0.1", desk.port)
                    writer.write(raw)
                    await asyncio.sleep(0)
                    writer.transport.abort()
                else:
                    assert (await ask(desk.port, raw))[0] == 200

        await asyncio.gather(*(client() for _ in range(16)))
        await until(lambda: desk.gateway.traffic.in_flight == 0 and not desk.gateway._connections.connections)
        desk.engine.calls.clear()
        desk.finished.clear()
        desk.published.clear()
        gc.collect()

    async with open_gateway(mixed) as desk:
        await some(2_000)
        resident, descriptors, tasks = (
            resident_bytes(),
            descriptors_open(),
            len(asyncio.all_tasks()),
        )
        await some(3_000)
        assert resident_bytes() - resident < 5 * 1024**2
        assert descriptors_open() <= descriptors + 2
        assert len(asyncio.all_tasks()) <= tasks + 2
        assert len(desk.gateway.log) == 500


async def test_the_control_socket_has_the_same_endpoint_without_the_rules_of_tcp(open_gateway, tmp_path) -> None:
    """The socket's mode is its check: neither Host nor content type matter, but paths and answers are the same."""
    async with open_gateway(mixed) as desk:
        app = web.Application()
        app.router.add_route("*", "/v1/{path:.*}", desk.gateway.handler)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
        await runner.setup()
        await web.UnixSite(runner, str(tmp_path / "s")).start()
        try:
            reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
            writer.write(post(CHAT, STREAMED, 1).replace(b"127.0.0.1:1", b"engine-room"))
            status, headers, body, ended = await read_answer(reader)
            assert (status, ended) == (200, True)
            assert headers["content-type"] == SSE
            assert body == token("a") + token("b") + finish() + DONE
            writer.write(post("/v1/props", ASKED, 1))
            assert (await read_answer(reader))[0] == 404
            writer.write(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % CHAT.encode())
            assert (await read_answer(reader))[0] == 405
            raw = post("/v1/audio/transcriptions", b"--x--", 1)
            writer.write(raw.replace(b"application/json", b"multipart/form-data; boundary=x"))
            assert (await read_answer(reader))[0] == 200
            assert desk.engine.calls[-1].header("Content-Type") == "multipart/form-data; boundary=x"
            writer.close()
        finally:
            await runner.cleanup()


async def test_cancel_works_on_the_control_socket_too(open_gateway, tmp_path) -> None:
    """I15: the chat pane's stop goes this way."""

    async def never_ends(call: Call) -> None:
        await call.gone.wait()

    async with open_gateway(never_ends) as desk:
        app = web.Application()
        app.router.add_route("*", "/v1/{path:.*}", desk.gateway.handler)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
        await runner.setup()
        await web.UnixSite(runner, str(tmp_path / "s")).start()
        try:
            _, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
            writer.write(post(CHAT, STREAMED, 1))
            call = await desk.engine.call()
            writer.close()
            await asyncio.wait_for(call.gone.wait(), 60)
        finally:
            await runner.cleanup()
