"""State travels as whole slices, latest wins: a slow reader can miss history but never be wrong (I16)."""

from __future__ import annotations

import asyncio

from app.core.snapshot import SLICES, Traffic
from app.daemon.board import Board


async def test_a_listener_gets_all_slices_first_and_then_what_changed() -> None:
    board = Board()
    changes = board.changes(alive_seconds=5)
    assert {name for name, _ in await anext(changes)} == set(SLICES)
    board.publish("traffic", Traffic(in_flight=1))
    assert await anext(changes) == [("traffic", Traffic(in_flight=1))]
    await changes.aclose()
    assert board.listeners == 0


async def test_a_slow_listener_sees_only_the_latest() -> None:
    board = Board()
    changes = board.changes(alive_seconds=5)
    await anext(changes)
    for count in range(1_000):
        board.publish("traffic", Traffic(in_flight=count))
    assert await anext(changes) == [("traffic", Traffic(in_flight=999))]
    await changes.aclose()


async def test_the_same_value_is_not_sent_again() -> None:
    board = Board()
    changes = board.changes(alive_seconds=0.05)
    await anext(changes)
    board.publish("traffic", Traffic())
    assert await asyncio.wait_for(anext(changes), 60) == [], "a sign of life, no slice"
    await changes.aclose()


async def test_a_listener_that_is_told_to_go_in_the_moment_of_a_change_goes() -> None:
    for turns in range(5):
        board, heard = Board(), asyncio.Event()

        async def listen(board: Board = board, heard: asyncio.Event = heard) -> None:
            async for _ in board.changes(alive_seconds=600):
                heard.set()

        listening = asyncio.get_running_loop().create_task(listen())
        await heard.wait()
        await asyncio.sleep(0)
        board.publish("traffic", Traffic(in_flight=1))
        for _ in range(turns):
            await asyncio.sleep(0)
        listening.cancel()
        await asyncio.wait([listening], timeout=60)
        assert listening.cancelled(), f"{turns} turns of the loop after the change"
