"""The shortcut from anywhere, on a real message bus with a stand-in of the desktop's portal (S8)."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtWidgets import QLabel

from app.ui.global_shortcut import GlobalShortcut, State, by_hand, keys_of
from app.ui.remembered import Remembered
from app.ui.tasks import Tasks
from app.ui.theme import Theme
from app.ui.widgets.shortcut_card import ShortcutCard, said
from tests.ui.conftest import StageOf
from tests.ui.reading import click, texts

DEADLINE_SECONDS = 60.0
PORTAL = Path(__file__).parent.parent / "rig" / "portal.py"
needs_bus = pytest.mark.skipif(shutil.which("dbus-daemon") is None, reason="there is no dbus-daemon on this machine")


@pytest.fixture
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A session bus of this test's own."""
    config = tmp_path / "bus.conf"
    config.write_text(
        '<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" '
        '"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd"><busconfig><type>session</type>'
        f'<listen>unix:dir={tmp_path}</listen><policy context="default"><allow send_destination="*" eavesdrop="true"/>'
        '<allow eavesdrop="true"/><allow own="*"/></policy></busconfig>',
        "utf-8",
    )
    command = ["dbus-daemon", f"--config-file={config}", "--nofork", "--print-address"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    address = process.stdout.readline().strip()
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", address)
    yield address
    process.kill()
    process.wait()
    process.stdout.close()


class Desktop:
    """The stand-in portal as a test holds it: what it was asked, and what a person does there."""

    def __init__(self, *answers: str) -> None:
        command = [sys.executable, "-P", str(PORTAL), *answers]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    async def heard(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = await asyncio.wait_for(asyncio.to_thread(self._process.stdout.readline), DEADLINE_SECONDS)
        heard: dict[str, Any] = json.loads(line)
        return heard

    def happens(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def leave(self) -> None:
        self._process.communicate(timeout=DEADLINE_SECONDS)


@asynccontextmanager
async def desktop(*answers: str):  # type: ignore[no-untyped-def]
    one = Desktop(*answers)
    try:
        assert await one.heard() == {"started": True}
        yield one
    finally:
        one.leave()


@asynccontextmanager
async def held(folder: Path):  # type: ignore[no-untyped-def]
    """The shortcut of a window, with every state that it goes through and a count of presses."""
    tasks = Tasks()
    shortcut = GlobalShortcut(tasks, Remembered(folder / "window.json"))
    states: list[State] = []
    presses: list[None] = []
    shortcut.changed.connect(lambda: states.append(shortcut.state))
    shortcut.pressed.connect(lambda: presses.append(None))
    try:
        yield shortcut, states, presses
    finally:
        await tasks.close()


async def until(condition) -> None:  # type: ignore[no-untyped-def]
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():  # noqa: ASYNC110 - conditions of many kinds
            await asyncio.sleep(0.01)


@needs_bus
async def test_the_desktop_is_asked_and_its_keys_lend(bus: str, tmp_path: Path) -> None:
    """Asked with our name and words; the keys are the desktop's choice; only presses of our own session count."""
    async with desktop() as portal, held(tmp_path) as (shortcut, states, presses):
        shortcut.start()
        assert states == [], "nobody wanted it yet"
        shortcut.hold()
        assert await portal.heard() == {"call": "Register", "app": "engine-room"}
        asked = await portal.heard()
        assert asked == {
            "call": "BindShortcuts",
            "key": "lend",
            "parent": "",
            "description": "Lend the GPU for 30 minutes, or take it back",
            "preferred_trigger": "CTRL+ALT+g",
        }
        await until(lambda: shortcut.state == State("held", "Ctrl+Alt+G"))
        portal.happens("other")
        portal.happens("press")
        portal.happens("keys Meta+Space")  # after the presses, so both have been heard when it has
        await until(lambda: shortcut.state == State("held", "Meta+Space"))
        assert len(presses) == 1
        portal.happens("press")
        await until(lambda: len(presses) == 2)
        shortcut.drop()
        assert states[-1] == State("off")
        portal.happens("press")
        shortcut.hold()  # and a new session is another one
        await portal.heard()
        await portal.heard()
        await until(lambda: shortcut.state.name == "held")
        assert len(presses) == 2
        assert Remembered(tmp_path / "window.json").flag("lend_shortcut"), "for the next start"


@needs_bus
async def test_a_portal_that_starts_anew_is_asked_again(bus: str, tmp_path: Path) -> None:
    async with held(tmp_path) as (shortcut, states, presses):
        async with desktop() as first:
            shortcut.hold()
            await until(lambda: shortcut.state.name == "held")
            first.happens("leave")
        async with desktop() as second:
            await until(lambda: states[-2:] == [State("asking"), State("held", "Ctrl+Alt+G")])
            second.happens("press")
            await until(lambda: presses)
            second.happens("close")
            await until(lambda: shortcut.state == State("refused", "The desktop took the shortcut back."))
        held_then, refused = State("held", "Ctrl+Alt+G"), State("refused", "The desktop took the shortcut back.")
        assert states == [State("asking"), held_then, State("asking"), held_then, refused]
        assert len(presses) == 1, "each is told once, also when the portal is another"
        assert Remembered(tmp_path / "window.json").flag("lend_shortcut"), "it was not the person who gave it up"


@needs_bus
@pytest.mark.parametrize(
    ("answers", "state"),
    [
        ("--declines", State("refused", "The shortcut was declined.")),
        ("--broken", State("missing", "This desktop has no portal for global shortcuts.")),
    ],
)
async def test_a_no_is_said_in_a_sentence(bus: str, answers: str, state: State, tmp_path: Path) -> None:
    async with desktop(answers), held(tmp_path) as (shortcut, states, presses):
        card = ShortcutCard(Theme("dark"), shortcut)
        card.set_up.click()
        assert card.set_up.isHidden(), "while it is asked there is nothing to ask for"
        await until(lambda: states[-1] == state)
        assert states == [State("asking"), state]
        assert (card.state.text(), card.set_up.text()) == (state.text, "Try again")
        assert not card.set_up.isHidden()
        card.set_up.click()
        await until(lambda: states == [State("asking"), state] * 2)
        assert presses == []


@needs_bus
@pytest.mark.parametrize("answers", ["--declines", "--broken"])
async def test_a_no_may_be_asked_again_in_the_same_moment(bus: str, answers: str, tmp_path: Path) -> None:
    """The button is there as soon as the no is; what is pressed then must not be lost."""
    async with desktop(answers), held(tmp_path) as (shortcut, states, _):

        def again() -> None:
            if len(states) == 2:
                shortcut.hold()

        shortcut.changed.connect(again)
        shortcut.hold()
        await until(lambda: len(states) == 4)
        assert states[:2] == states[2:]
        assert states[0] == State("asking")


@needs_bus
async def test_a_bus_without_a_portal(bus: str, tmp_path: Path) -> None:
    async with held(tmp_path) as (shortcut, states, presses):
        card = ShortcutCard(Theme("dark"), shortcut)
        shortcut.hold()
        missing = State("missing", "This desktop has no portal for global shortcuts.")
        await until(lambda: shortcut.state == missing)
        assert (states, presses) == ([State("asking"), missing], [])
        assert card.state.text() == missing.text
        assert by_hand() in [label.text() for label in card.findChildren(QLabel)], "the way by hand stands beside it"
        assert card.set_up.text() == "Try again"
        assert not card.set_up.isHidden()
        assert card.remove.isHidden(), "there is nothing to take back"


@pytest.mark.parametrize("address", ["", "unix:path=/nowhere/bus", "nonsense"])
async def test_without_a_bus_the_way_by_hand_is_there(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", address)
    async with held(tmp_path) as (shortcut, _, _):
        shortcut.hold()
        await until(lambda: shortcut.state.name == "missing")
    assert by_hand().endswith("lend --toggle")
    assert os.access(by_hand().split()[0], os.X_OK), "the full path: a desktop knows no PATH of ours"


def test_the_settings_page_shows_and_sets_it(stage_of: StageOf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS", raising=False)
    made = stage_of("ready", page="settings")
    assert "Not set." in texts(made.window)
    assert by_hand() in texts(made.window)
    click(made.window, "Set up the shortcut from anywhere")
    assert "There is no desktop session bus here." in texts(made.window)
    made.presenter.shortcut.pressed.emit()
    assert [path for path, _ in made.link.sent] == ["/control/lend"], "as the window's own shortcut does"


def test_what_is_said_of_its_keys() -> None:
    assert keys_of([("other", {}), ("lend", {"trigger_description": ("s", "F9")})]) == "F9"
    assert keys_of([("lend", {})]) == ""
    assert said(State("held", ""))[0].startswith("The desktop has it without keys")
    assert said(State("held", "F9"))[0].startswith("Set: F9.")
