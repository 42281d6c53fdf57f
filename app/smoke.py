"""Does the main job without a display, as a person would: finds widgets by name, clicks, types, waits, looks, quits.

It works in folders of its own, beside whatever runs on this machine, and leaves nothing behind but its pictures.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from app.core.lifecycle import Failed, Idle, Ready
from app.core.paths import Paths
from app.core.sse import Parser
from app.ui.application import default_paths, run
from app.ui.link import Link
from app.ui.store import Store
from app.ui.window import Window

PROFILE = "demo"
QUESTION = "What is the KV cache?"
WAIT_SECONDS = 120.0
LEAVE_SECONDS = 15.0
STEP_SECONDS = 0.05
PAGES = ("Models", "Download", "Chat", "Logs", "Monitor", "Engines", "Settings")


class SmokeFailed(Exception):
    """What did not happen, as a sentence."""


def run_smoke(words: list[str]) -> int:
    """`--smoke [FOLDER]`: pictures go to FOLDER (default: engine-room-smoke in the temporary folder). 0 when all worked."""
    pictures = Path(words[0]) if words else Path(tempfile.gettempdir()) / "engine-room-smoke"
    pictures.mkdir(parents=True, exist_ok=True)
    home = Path(tempfile.mkdtemp(prefix="er-smoke-"))
    outcome: list[str] = []
    try:
        _quiet_offscreen()
        _move_into(home)
        paths = default_paths()

        async def script(window: Window, store: Store, link: Link) -> None:
            try:
                await Smoke(window, store, link, pictures).all()
            except SmokeFailed as failure:
                outcome.append(str(failure))
                window.grab().save(str(pictures / "failed.png"))
            finally:
                await _quit(link, paths)
                window.leave()

        run(paths, script=script)
        left = _wait_for_nothing(home)
        if left:
            outcome.append(f"left behind: {', '.join(left)}")
        else:
            say("nothing left", "no process, no socket")
    finally:
        _show_log(home, bool(outcome))
        shutil.rmtree(home, ignore_errors=True)
    for sentence in outcome:
        print(f"smoke failed: {sentence}", file=sys.stderr)
    say("pictures", str(pictures))
    return 1 if outcome else 0


def _move_into(home: Path) -> None:
    """Own folders for everything; the built-in engine is the one that is installed."""
    from app.daemon import installations
    from app.engines.registry import FAMILIES

    found = installations.find("llama.cpp", default_paths(), os.environ)
    if found is None:
        raise SystemExit(f"smoke: the built-in engine is not installed. {FAMILIES['llama.cpp'].how_to_get()}")
    os.environ["ENGINE_ROOM_EMBEDDED_PYTHON"] = found.executable
    os.environ["ENGINE_ROOM_GATEWAY__PORT"] = "0"  # any free one: 7000 may be in use
    for variable in ("CONFIG", "DATA", "STATE", "CACHE"):
        os.environ[f"XDG_{variable}_HOME"] = str(home / variable.lower())
    runtime = home / "run"
    runtime.mkdir(mode=0o700)
    os.environ["XDG_RUNTIME_DIR"] = str(runtime)


def _quiet_offscreen() -> None:
    """The offscreen platform says for each window that it has no window manager to hint to; nothing else is hidden."""
    from PySide6.QtCore import qInstallMessageHandler

    def tell(_: object, __: object, text: str) -> None:
        if "propagateSizeHints" not in text:
            print(f"Qt: {text}", file=sys.stderr)

    qInstallMessageHandler(tell)


def say(what: str, value: str) -> None:
    print(f"{what:<22}{value}", flush=True)


async def ask_endpoint(url: str, question: str) -> tuple[float, str]:
    """Seconds to the first token, and the whole answer, over TCP as any program asks. Raises SmokeFailed."""
    import httpx

    body = {"messages": [{"role": "user", "content": question}], "stream": True, "max_tokens": 64}
    client, first, text = httpx.AsyncClient(timeout=WAIT_SECONDS, trust_env=False), 0.0, ""
    begun = time.monotonic()
    try:
        async with client, client.stream("POST", f"{url}/chat/completions", json=body) as answer:
            if answer.status_code != 200:
                said = (await answer.aread()).decode("utf-8", "replace")[:200]
                raise SmokeFailed(f"{url} answered a program with {answer.status_code}: {said}")
            parser = Parser()
            async for piece in answer.aiter_bytes():
                for event in parser.feed(piece):
                    if event.data == "[DONE]":
                        continue
                    word = "".join(c["delta"].get("content") or "" for c in json.loads(event.data).get("choices", ()))
                    first = first or (time.monotonic() - begun if word else 0.0)
                    text += word
    except (httpx.HTTPError, ValueError) as error:
        raise SmokeFailed(f"{url} does not answer a program: {error or type(error).__name__}") from error
    if not text:
        raise SmokeFailed(f"{url} answered a program without a token")
    return first, text


class Smoke:
    """One person's first minutes."""

    def __init__(self, window: Window, store: Store, link: Link, pictures: Path) -> None:
        self.window = window
        self.store = store
        self.link = link
        self.pictures = pictures

    async def all(self) -> None:
        begun = time.monotonic()
        await self.until(lambda: self.store.connected and "library" in self.store.known, "the service answers")
        say("service", f"{self.store.service.version or 'connected'} after {time.monotonic() - begun:.1f} s")
        await self.load()
        await self.chat()
        await self.endpoint()
        await self.look()
        await self.stop()

    async def load(self) -> None:
        await self.open("Models")
        await self.click(f"Load {PROFILE}")
        await self.until(lambda: isinstance(self.store.seat().phase, Ready | Failed), f"{PROFILE} is ready")
        seat = self.store.seat()
        if isinstance(seat.phase, Failed):
            raise SmokeFailed(f"{PROFILE} did not load: {seat.phase.failure.summary} {seat.phase.failure.advice}")
        assert seat.run is not None
        say("model", seat.run.title)
        say("engine", f"{seat.run.engine} {seat.run.engine_build}")
        say("ready after", f"{seat.run.ready_seconds:.2f} s")
        say("endpoint", self.store.service.gateway_url)

    async def chat(self) -> None:
        await self.open("Chat")
        await self.type_into("Message", QUESTION)
        before = {request.id for request in self.store.traffic.recent}
        await self.click("Send message")

        def answered() -> bool:
            return any(r.id not in before and r.outcome != "refused" for r in self.store.traffic.recent)

        await self.until(answered, "the answer is there")
        request = next(r for r in self.store.traffic.recent if r.id not in before)
        if request.status != 200 or not request.completion_tokens:
            raise SmokeFailed(f"the endpoint answered {request.status} with {request.completion_tokens} tokens")
        session = self.window.open_page("chat").session  # type: ignore[union-attr]

        def shown() -> bool:
            """The figures under the answer are the ones of the request log."""
            last = session.messages[-1]
            return (
                last.finish is not None and last.request_id == request.id and last.figures.completion_tokens is not None
            )

        await self.until(shown, "the chat shows the answer with its figures")
        answer = session.messages[-1]
        if answer.finish != "stop" or not answer.text:
            raise SmokeFailed(f"the answer ended with {answer.finish}: {answer.error or answer.text!r}")
        if answer.figures.first_token_seconds != request.first_token_seconds:
            raise SmokeFailed(
                f"the chat says {answer.figures.first_token_seconds} s to the first token,"
                f" the request log says {request.first_token_seconds} s"
            )
        say("question", QUESTION)
        say("answer", answer.text.replace("\n", " ")[:200])
        say("first token", f"{(request.first_token_seconds or 0) * 1000:.1f} ms (as in the request log)")
        say("tokens", f"{request.prompt_tokens} + {request.completion_tokens}, {request.tokens_per_second:.0f} tok/s")

    async def endpoint(self) -> None:
        """The URL in the header, as another program uses it: the chat pane reaches the gateway by the service's socket."""
        url = self.store.service.gateway_url
        before = {request.id for request in self.store.traffic.recent}
        first_token_seconds, text = await ask_endpoint(url, QUESTION)

        def told() -> bool:
            return any(request.id not in before for request in self.store.traffic.recent)

        await self.until(told, "the request log tells of the program's request")
        request = next(r for r in self.store.traffic.recent if r.id not in before)
        logged = request.first_token_seconds
        if logged is None or logged > first_token_seconds:
            raise SmokeFailed(f"a first token came after {first_token_seconds} s, the request log says {logged} s")
        say("endpoint answers", f"{len(text)} characters, first token {first_token_seconds * 1000:.1f} ms from outside")

    async def look(self) -> None:
        def held() -> int:
            run = self.store.seat().run
            return (run.measured_bytes if run else {}).get("host", 0)

        await self.until(lambda: held() > 0, "the engine's memory has been measured")
        host = self.store.gpus.host
        say(
            "memory",
            f"engine {held() / 1024**2:.0f} MiB of its own"
            + (f", {host.available_bytes / 1024**3:.1f} GiB free" if host else ""),
        )
        for page in PAGES:
            await self.open(page)
            await asyncio.sleep(0.3)  # lets a page paint its first figures before the picture is taken
            picture = self.pictures / f"{page.lower()}.png"
            if not self.window.grab().save(str(picture)):
                raise SmokeFailed(f"no picture could be written to {picture}")

    async def stop(self) -> None:
        await self.click("Stop")
        await self.until(lambda: isinstance(self.store.seat().phase, Idle), "the model is unloaded")
        say("stopped", "the seat is idle")

    # --- a person's hands and eyes ---

    async def open(self, page: str) -> None:
        await self.click(f"Navigation: {page}")

    def find(self, name: str) -> object:
        from PySide6.QtWidgets import QWidget

        for widget in self.window.findChildren(QWidget):
            if widget.accessibleName() == name and widget.isVisible():
                return widget
        return None

    async def wait_for(self, name: str) -> object:
        def usable() -> bool:
            widget = self.find(name)
            return widget is not None and widget.isEnabled()  # type: ignore[attr-defined]

        await self.until(usable, f"“{name}” can be used")
        return self.find(name)

    async def click(self, name: str) -> None:
        from PySide6.QtCore import Qt
        from PySide6.QtTest import QTest

        widget = await self.wait_for(name)
        QTest.mouseClick(widget, Qt.MouseButton.LeftButton)  # type: ignore[call-overload]
        await asyncio.sleep(0)

    async def type_into(self, name: str, text: str) -> None:
        from PySide6.QtTest import QTest

        widget = await self.wait_for(name)
        widget.setFocus()  # type: ignore[attr-defined]
        QTest.keyClicks(widget, text)  # type: ignore[call-overload]

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while not condition():
            if time.monotonic() > deadline:
                raise SmokeFailed(f"not within {WAIT_SECONDS:.0f} s: {what}")
            await asyncio.sleep(STEP_SECONDS)


async def _quit(link: Link, paths: Paths) -> None:
    """Ends the service, and waits until its socket is gone."""
    from app.core.errors import EngineRoomError

    try:
        await link.leave_and_unload()
    except EngineRoomError:
        return
    deadline = time.monotonic() + 60
    while paths.socket.exists() and time.monotonic() < deadline:  # noqa: ASYNC110 - another process removes it
        await asyncio.sleep(STEP_SECONDS)


def _wait_for_nothing(home: Path) -> list[str]:
    """The service leaves its socket a moment before it leaves itself."""
    deadline = time.monotonic() + LEAVE_SECONDS
    while (left := _left_behind(home)) and time.monotonic() < deadline:
        time.sleep(STEP_SECONDS)
    return left


def _left_behind(home: Path) -> list[str]:
    """Every process whose environment names this run's folders, in all of /proc."""
    mark = f"XDG_STATE_HOME={home}/state".encode()
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                found.append(f"pid {folder.name} {(folder / 'comm').read_text().strip()}")
        except OSError:
            continue
    return found


def _show_log(home: Path, failed: bool) -> None:
    log = home / "state" / "engine-room" / "daemon.log"
    if failed and log.is_file():
        print(log.read_text("utf-8", "replace")[-6000:], file=sys.stderr)
