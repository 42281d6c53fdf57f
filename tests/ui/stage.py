"""Puts up a whole window over hand-made slices, with a link that notes what it was asked to send."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import msgspec
from PySide6.QtCore import QObject, Signal

from app.core.control import Accepted, SettingField, SettingsView
from app.core.errors import DaemonUnreachable, EngineRoomError
from app.core.paths import Paths
from app.ui.presenter import Presenter
from app.ui.remembered import Remembered
from app.ui.store import Connection, Store
from app.ui.tasks import Tasks
from app.ui.theme import Theme
from app.ui.window import Window
from tests.ui import worlds

FIELDS = (
    SettingField(
        key="gateway.port",
        value=7000,
        default=7000,
        sentence="Port of the OpenAI-compatible endpoint on 127.0.0.1; 0 takes any free one.",
        kind="integer",
        minimum=0,
        maximum=65535,
    ),
    SettingField(
        key="gateway.concurrency",
        value=10,
        default=10,
        sentence="Requests answered at once; further ones wait.",
        kind="integer",
        minimum=1,
        maximum=256,
    ),
    SettingField(
        key="gateway.request_timeout_seconds",
        value=300.0,
        default=300.0,
        sentence="Longest time for one answer.",
        kind="number",
        minimum=1,
        maximum=86400,
        from_environment=True,
    ),
    SettingField(
        key="gateway.allow_other_accounts",
        value=False,
        default=False,
        sentence="Let other accounts of this machine use the endpoint.",
        kind="switch",
    ),
    SettingField(
        key="memory.headroom_bytes",
        value=int(1.5 * 1024**3),
        default=int(1.5 * 1024**3),
        sentence="Memory kept free on each GPU.",
        kind="integer",
        minimum=0,
        maximum=64 * 1024**3,
    ),
    SettingField(
        key="memory.threshold",
        value=0.9,
        default=0.95,
        sentence="Share of a device's memory that may be used at most.",
        kind="number",
        minimum=0.1,
        maximum=1.0,
    ),
    SettingField(
        key="library.folders",
        value=["~/models", "/data/gguf"],
        default=["~/models"],
        sentence="Folders that are searched for models.",
        kind="list",
    ),
    SettingField(
        key="window.theme",
        value="system",
        default="system",
        sentence="Appearance: system, light or dark.",
        kind="text",
        choices=("system", "light", "dark"),
    ),
)


class NotingLink(QObject):
    """Stands where the link stands; `sent` holds every command, `answers` what a call by its path gets."""

    refused = Signal(object)
    told = Signal(str)

    def __init__(self, paths: Paths) -> None:
        super().__init__()
        self.paths = paths
        self.sent: list[tuple[str, msgspec.Struct]] = []
        self.answers: dict[str, object] = {
            "/control/settings": SettingsView(
                file="~/.config/engine-room/settings.toml", fields=FIELDS, restart_needed=("gateway.port",)
            ),
            "/control/history": worlds.HISTORY,
            "/control/benches": worlds.BENCHES,
        }
        self.tasks = ImmediateTasks()
        self.retries = 0
        self.client = httpx.AsyncClient(
            transport=httpx.MockTransport(lambda _: httpx.Response(503)),
            base_url="http://x",
            verify=False,
            trust_env=False,
        )

    def send(self, path: str, value: msgspec.Struct, kind: type[object] = Accepted) -> None:
        self.sent.append((path, value))

    async def get(self, path: str, kind: type[object]) -> object:
        return self._answer(path)

    async def text(self, path: str) -> str:
        return str(self._answer(path))

    async def post(self, path: str, value: msgspec.Struct, kind: type[object]) -> object:
        self.sent.append((path, value))
        return self._answer(path)

    def _answer(self, path: str) -> object:
        answer = self.answers.get(path, DaemonUnreachable("The Engine Room service does not answer."))
        if isinstance(answer, EngineRoomError):
            raise answer
        return answer

    def retry_now(self) -> None:
        self.retries += 1


class ImmediateTasks:
    """Runs a coroutine to its end at once where nothing in it waits; drops it otherwise."""

    def start(self, work: object, name: str) -> None:
        try:
            work.send(None)  # type: ignore[attr-defined]
        except StopIteration:
            return
        work.close()  # type: ignore[attr-defined]


@dataclasses.dataclass
class Stage:
    window: Window
    store: Store
    link: NotingLink
    theme: Theme
    presenter: Presenter
    left: list[str]


def paths_in(folder: Path) -> Paths:
    return Paths(config=folder / "c", data=folder / "d", state=folder / "s", cache=folder / "x", runtime=folder / "r")


def tell(store: Store, world: worlds.World) -> None:
    """Gives the store every slice of a world, and the world's clock."""
    for name in ("library", "gpus", "service", "engines", "jobs", "traffic", "seats"):
        store.put(name, getattr(world, name), worlds.NOW)


class HeldLink(NotingLink):
    """Holds back the answers to the paths in `held` until the test gives them, in the order that it likes."""

    def __init__(self, paths: Paths) -> None:
        super().__init__(paths)
        self.errors: list[BaseException] = []
        self.tasks = Tasks(lambda _, error: self.errors.append(error))  # type: ignore[assignment]
        self.held: set[str] = set()
        self.asked: list[tuple[str, object, asyncio.Future[object]]] = []

    async def get(self, path: str, kind: type[object]) -> object:
        return await self._told(path, None)

    async def text(self, path: str) -> str:
        return str(await self._told(path, None))

    async def post(self, path: str, value: msgspec.Struct, kind: type[object]) -> object:
        self.sent.append((path, value))
        return await self._told(path, value)

    async def _told(self, path: str, value: object) -> object:
        if path not in self.held:
            return self._answer(path)
        answer: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self.asked.append((path, value, answer))
        return await answer

    async def until_asked(self, count: int) -> None:
        """Waits until so many questions have been held back altogether."""
        await soon(lambda: len(self.asked) >= count)

    async def answer(self, number: int, value: object) -> None:
        """Answers the question `number` (0 = the first), and lets the window take it."""
        held = self.asked[number][2]
        if isinstance(value, EngineRoomError):
            held.set_exception(value)
        else:
            held.set_result(value)
        await turns()


async def turns(count: int = 5) -> None:
    """Lets everything go on that can go on now."""
    for _ in range(count):
        await asyncio.sleep(0)


async def soon(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Waits for a condition with the loop running; fails after a generous deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.005)


def window(
    folder: Path,
    world: worlds.World | None,
    theme: str = "dark",
    gone: bool = False,
    link_of: Callable[[Paths], NotingLink] = NotingLink,
) -> Stage:
    """A window over this world; None is one to which nobody has spoken yet."""
    store, link, look = Store(), link_of(paths_in(folder)), Theme(theme)
    look.apply()
    frame = Window(look, Remembered(folder / "c" / "window.json"))
    if gone:
        tell(store, worlds.WORLDS["ready"])
    if world is not None:
        tell(store, world)
        store.set_connection(Connection.CONNECTED)
    elif gone:
        store.set_connection(
            Connection.GONE,
            "The Engine Room service ended 3 times within a minute (exit code 1). It said: disk full. Its log: ~/.local/state/engine-room/daemon.log",
        )
    left: list[str] = []
    presenter = Presenter(frame, store, link, look, lambda: left.append("left"))  # type: ignore[arg-type]
    return Stage(frame, store, link, look, presenter, left)


def until(condition, seconds: float = 60.0) -> None:  # type: ignore[no-untyped-def]
    """Lets Qt work until the condition holds; fails after a deadline."""
    from PySide6.QtWidgets import QApplication

    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        QApplication.processEvents()
