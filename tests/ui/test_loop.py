"""The window's loop where qasync differs from asyncio's own."""

from __future__ import annotations

import asyncio
import socket
from typing import Any


async def test_a_socket_that_stays_ready_completes_its_waiter_once() -> None:
    """Whoever waits takes its callback away one step later; until then the socket is ready again and again."""
    loop = asyncio.get_running_loop()
    problems: list[dict[str, Any]] = []
    often = asyncio.Event()
    calls = 0

    def count() -> None:
        nonlocal calls
        calls += 1
        if calls >= 20:
            often.set()

    loop.set_exception_handler(lambda _, context: problems.append(context))
    mine, theirs = socket.socketpair()
    second, its_end = socket.socketpair()
    with mine, theirs, second, its_end:
        mine.setblocking(False)
        second.setblocking(False)
        future = loop.create_future()
        loop.add_reader(mine, future.set_result, None)
        loop.add_reader(second, count)
        theirs.send(b"x")
        its_end.send(b"x")
        await future
        async with asyncio.timeout(60):  # plain callbacks are called as long as there is something to read
            await often.wait()
        loop.remove_reader(mine)
        loop.remove_reader(second)
    loop.set_exception_handler(None)
    assert not problems, problems[0]
