"""Measures the chat: `python -m tests.bench.chat [--seconds N] [--out FILE]`; JSON. Opening, flushing, late frames."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from tests.bench import frames as bench


async def measure(folder: Path, seconds: float) -> dict[str, Any]:
    from PySide6.QtWidgets import QApplication

    from app.ui.link import Link
    from app.ui.pages.chat import ChatPage
    from app.ui.store import Connection, Store
    from app.ui.tasks import Tasks
    from app.ui.theme import Theme
    from tests.ui import chats, stage, worlds

    paths = stage.paths_in(folder)
    chats.keep(paths.chats, {"Long": [m for n in range(1000) for m in chats.turn(n)]})
    store, tasks, theme = Store(), Tasks(), Theme("dark")
    link = Link(store, paths, tasks)
    theme.apply()
    result: dict[str, Any] = {"load_before": bench.load(), "cores": os.cpu_count()}
    with bench.service(paths.socket, folder / "log"):
        stage.tell(store, worlds.WORLDS["ready"])
        store.set_connection(Connection.CONNECTED)
        page = ChatPage(store, link, theme)
        page.resize(1280, 800)
        page.show()
        await until(lambda: page.session.messages)
        messages = page.session.messages
        opened = []
        for _ in range(5):
            page.transcript.show_messages([])
            began = time.perf_counter()
            page.transcript.show_messages(messages)
            page.transcript.viewport().repaint()
            opened.append(1000 * (time.perf_counter() - began))
        result["open_2000_messages_ms"] = {"first": round(opened[0], 1), "median": round(sorted(opened)[2], 1)}
        page.new_chat()
        _ask(page, 600)  # warms fonts, lexers, the HTTP client
        await until(lambda: not page.session.is_sending)
        page.new_chat()
        gc.collect()
        gc.freeze()
        frames = bench.Frames()
        result["idle"] = await frames.watch(seconds)
        flushes: list[float] = []
        worked: list[float] = []
        _time_flushes(page, flushes, worked)
        _ask(page, int(1_000 * (seconds + 3)))
        await asyncio.sleep(1.0)
        result["streaming_1000_per_s"] = await frames.watch(seconds)
        result["shown_characters_of_all"] = (
            len(page.session.answering.answer.message().text) if page.session.answering.answer else None
        )
        result["flush_ms"], result["flush_cpu_ms"] = _spread(flushes), _spread(worked)
        idle, busy = result["idle"], result["streaming_1000_per_s"]
        result["lateness_p99_ratio"] = bench.ratio(busy["p99_ms"], idle["p99_ms"])
        result["interval_p99_ratio"] = bench.ratio(busy["interval_p99_ms"], idle["interval_p99_ms"])
        page.session.stop()
        page.session.close()
        await tasks.close()
        await link.close()
        page.hide()
        QApplication.processEvents()
    result["load_after"] = bench.load()
    return result


def _spread(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        "count": len(ordered),
        "p50": round(ordered[len(ordered) // 2], 2),
        "p99": round(ordered[int(0.99 * len(ordered))], 2),
        "max": round(ordered[-1], 2),
    }


def _ask(page: Any, tokens: int) -> None:
    from app.core.profiles import Sampling

    page.session.choose(Sampling(max_tokens=tokens), "")
    assert page.session.send("Tell me about memory")


async def until(condition: Any) -> None:
    while not condition():  # noqa: ASYNC110 - conditions of many kinds
        await asyncio.sleep(0.01)


def _time_flushes(page: Any, into: list[float], cpu: list[float]) -> None:
    """A flush with the painting that it causes, as one piece of work on the window's thread."""
    from PySide6.QtCore import QCoreApplication, QEvent

    grow = page.transcript.grow

    def timed(text: str, reasoning: str) -> None:
        began, worked = time.perf_counter(), time.thread_time()
        grow(text, reasoning)
        QCoreApplication.sendPostedEvents(page.window(), QEvent.Type.UpdateRequest.value)
        into.append(1000 * (time.perf_counter() - began))
        cpu.append(1000 * (time.thread_time() - worked))

    page.session.grew.disconnect(page._grow)
    page.session.grew.connect(timed)


def run(measure: Any) -> None:
    from PySide6.QtWidgets import QApplication

    from app.ui.loop import WindowLoop

    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    app = QApplication(sys.argv[:1])
    app.setStyle("Fusion")
    loop = WindowLoop(app, already_running=False)
    asyncio.set_event_loop(loop)
    with tempfile.TemporaryDirectory() as folder, loop:
        result = loop.run_until_complete(measure(Path(folder), asked.seconds))
    text = json.dumps(result, indent=1)
    print(text)
    if asked.out is not None:
        asked.out.write_text(text + "\n")


if __name__ == "__main__":
    run(measure)
