"""Measures late frames in a storm: `python -m tests.bench.storm [--seconds N] [--out FILE]`; JSON.

A chat streams 1,000 tokens/s and the log that the Logs page follows grows by 10,000 lines/s, both in one window, first
with the chat and then with the log in front. Idle and storm take turns, so that drift of the machine falls on both.
"""

from __future__ import annotations

import asyncio
import gc
import os
import statistics
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from tests.bench import chat as chat_bench
from tests.bench import frames as bench

ROUNDS = 3


async def measure(folder: Path, seconds: float) -> dict[str, Any]:
    from msgspec.structs import replace

    from app.core.snapshot import Runs
    from app.ui.link import Link
    from app.ui.pages.chat import ChatPage
    from app.ui.pages.logs import LogsPage
    from app.ui.presenter import Presenter
    from app.ui.remembered import Remembered
    from app.ui.store import Connection, Store
    from app.ui.tasks import Tasks
    from app.ui.theme import Theme
    from app.ui.window import Window
    from tests.ui import stage, worlds

    paths = stage.paths_in(folder)
    store, tasks, theme = Store(), Tasks(), Theme("dark")
    link = Link(store, paths, tasks)
    theme.apply()
    result: dict[str, Any] = {"load_before": bench.load(), "cores": os.cpu_count(), "rounds": []}
    with bench.service(paths.socket, folder / "engine.log"):
        ready = worlds.WORLDS["ready"]
        stage.tell(store, ready)
        run = ready.seats.seats[0].run
        assert run is not None
        store.put("runs", Runs(runs=(replace(run, id="storm"),)))
        store.set_connection(Connection.CONNECTED)
        window = Window(theme, Remembered(folder / "window.json"))
        presenter = Presenter(window, store, link, theme, lambda: None)
        window.resize(1280, 800)
        page, logs = window.open_page("chat"), window.open_page("logs")
        assert isinstance(page, ChatPage)
        assert isinstance(logs, LogsPage)
        window.show()
        await chat_bench.until(lambda: page.session.loaded)
        await _storm(page, link, True, 3)
        for front in ("logs", "chat"):  # warm: each page once in the storm
            window.open_page(front)
            await asyncio.sleep(1.5)
        await _storm(page, link, False)
        gc.collect()
        gc.freeze()
        frames = bench.Frames()
        for _ in range(ROUNDS):
            found: dict[str, Any] = {}
            await asyncio.sleep(0.5)
            found["idle"] = await frames.watch(seconds)
            for front in ("chat", "logs"):
                window.open_page(front)
                await _storm(page, link, True, seconds + 3)
                await asyncio.sleep(1.0)
                began, lines = time.monotonic(), logs._spool.lines if logs._spool else 0
                tokens = page.session.answering.answer._pieces if page.session.answering.answer else 0
                found[front] = await frames.watch(seconds)
                spent = time.monotonic() - began
                found[f"{front}_lines_per_s"] = round(((logs._spool.lines if logs._spool else 0) - lines) / spent)
                after = page.session.answering.answer._pieces if page.session.answering.answer else 0
                found[f"{front}_tokens_per_s"] = round((after - tokens) / spent)
                await _storm(page, link, False)
            result["rounds"].append(found)
        for front in ("chat", "logs"):
            idle = statistics.median(r["idle"]["p99_ms"] for r in result["rounds"])
            busy = statistics.median(r[front]["p99_ms"] for r in result["rounds"])
            result[f"{front}_lateness_p99_ratio"] = bench.ratio(busy, idle)
            result[f"{front}_interval_p99_ratio"] = bench.ratio(bench.FRAME_MS + busy, bench.FRAME_MS + idle)
            result[f"{front}_max_ms"] = max(r[front]["max_ms"] for r in result["rounds"])
        page.session.close()
        await tasks.close()
        await link.close()
        window.hide()
        del presenter
    result["load_after"] = bench.load()
    return result


async def _storm(page: Any, link: Any, on: bool, seconds: float = 0.0) -> None:
    await link.client.get(f"/grow/{'on' if on else 'off'}")
    if on:
        page.new_chat()
        chat_bench._ask(page, int(1_000 * seconds))
    else:
        page.session.stop()
        await asyncio.sleep(0.3)


if __name__ == "__main__":
    chat_bench.run(measure)
