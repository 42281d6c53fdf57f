"""Kills daemon and keepers around each real engine: nothing of it survives, its port is free, the next start is clean (I1);
and uses the real window with the built-in one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.core import lifecycle
from app.core.resources import resources_folder
from tests.end2end.sweep import SURVIVAL_SECONDS, Stage, sweep
from tests.engines.tiny_model import write_tiny_model
from tests.rig.custody import processes_of
from tests.rig.daemon import Daemon, chat_body, streamed
from tests.rig.home import Home
from tests.rig.real_engines import BUILT, END_TOKENS, ENGINES, put_into, write_profile
from tests.rig.waiting import TooLate, eventually
from tests.rig.window import WindowProcess

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # as in the sweep
]

DEMO = resources_folder() / "models" / "engine-room-demo.gguf"
Furnish = Callable[[Home], None]
NEVER_ENDING = {str(token): -100 for token in END_TOKENS}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model where it has been made; else noise of the same form."""
    return DEMO if DEMO.is_file() else write_tiny_model(tmp_path_factory.mktemp("models") / "tiny.gguf")


def furnishing(family: str, model: Path) -> Furnish:
    """`a` and `b` on that engine; both answer for long, so that a death can meet a stream."""

    def put(home: Home) -> None:
        put_into(home, family)
        for name in ("a", "b"):
            write_profile(home, name, family, model, context_tokens=512)

    return put


@pytest.fixture
def furnish(model: Path) -> Furnish:
    return furnishing("llama.cpp", model)


@pytest.fixture(params=ENGINES)
def furnish_each(request: pytest.FixtureRequest, model: Path, noise_model: Path) -> Furnish:
    """A built engine gets the slower model: one of them cannot be told to ignore the end of its answer."""
    return furnishing(request.param, noise_model if request.param in BUILT else model)


def whole_session(daemon: Daemon) -> None:
    """Load, answer, switch, unload: Reserving 1, Spawning 2, Loading 3, Ready 4, Draining 5, Stopping 6, ReleasingVram 7,
    Reserving 8 …"""
    daemon.load("a")
    daemon.load("b")
    daemon.unload()
    daemon.wait_idle()


POINTS = ("before:3", "after:3", "before:4", "after:4", "after:5", "after:6", "before:7", "after:10", "after:13")


def test_the_daemon_killed_at_transitions_leaves_no_real_engine(tmp_path: Path, furnish_each: Furnish) -> None:
    wrong = sweep(tmp_path, furnish_each, whole_session, POINTS)
    assert not wrong, "\n".join(wrong)


def death_at(stage: Stage, moment: str, which: str, daemon_too: bool) -> str:
    """One death while it is loading, ready, streaming or stopping; "" or what was wrong."""
    daemon = stage.daemon.start()
    seen = len(daemon.phases())
    daemon.want("a")
    if moment == "loading":
        eventually(lambda: "Loading" in daemon.phases()[seen:], every=0.001)
    else:
        daemon.wait_phase(lifecycle.Ready, "a")
    if moment == "stopping":
        daemon.unload()
        eventually(lambda: "Stopping" in daemon.phases()[seen:], every=0.001)
    if moment != "streaming":
        stage.kill(which, daemon_too)
        return ended(stage, which, daemon_too, moment)
    with daemon.gateway() as client:
        events = streamed(client, model="a", max_tokens=400, ignore_eos=True, logit_bias=NEVER_ENDING)
        next(events)
        stage.kill(which, daemon_too)
        last: dict[str, Any] = {}
        whole = False
        try:
            for event in events:
                last = event
                whole = whole or any(choice.get("finish_reason") for choice in event.get("choices", ()))
        except httpx.HTTPError:
            pass  # the daemon went with the connection
    told = "error" in last or "broken" in last
    if not daemon_too and not told and not whole:  # a fast engine may have said all of it before its end
        return f"the stream ended silently in the middle of it: {last}"
    return ended(stage, which, daemon_too, moment)


def ended(stage: Stage, which: str, daemon_too: bool, moment: str) -> str:
    daemon = stage.daemon
    if daemon_too and which == "both":
        stage.forget_wanted()
        daemon.start()
    elif not daemon_too and moment != "stopping":
        try:
            eventually(stage.recovered)
        except TooLate:
            return f"not recovered: {daemon.seat().phase}; {'; '.join(map(str, stage.survivors()))}"
    if daemon.running:
        daemon.unload()
        daemon.wait_idle()
    problem = stage.nothing_left()
    if daemon.running:
        daemon.terminate()
    else:
        stage.forget_wanted()
    return problem


DEATHS = [
    (moment, which, daemon_too)
    for moment in ("loading", "ready", "streaming", "stopping")
    for which, daemon_too in (("none", True), ("outer", False), ("inner", False), ("both", True))
]


def deaths(folder: Path, furnish: Furnish, moments: list[tuple[str, str, bool]]) -> list[str]:
    stage = Stage(folder, furnish)
    wrong = []
    for moment, which, daemon_too in moments:
        label = f"{moment}, {which} keeper{', daemon' if daemon_too else ''}"
        try:
            problem = death_at(stage, moment, which, daemon_too)
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
        if problem:
            wrong.append(f"{label}: {problem}")
            break  # the stage is spoilt
    return wrong + [f"left at the end: {one}" for one in stage.close()]


@pytest.mark.parametrize("moment", ["loading", "ready", "streaming", "stopping"])
def test_killed_keepers_and_daemons_leave_no_real_engine(tmp_path: Path, furnish_each: Furnish, moment: str) -> None:
    wrong = deaths(tmp_path / "home", furnish_each, [death for death in DEATHS if death[0] == moment])
    assert not wrong, "\n".join(wrong)


def test_the_model_comes_back_and_answers_after_the_daemons_death(home: Home, furnish: Furnish, daemon: Daemon) -> None:
    daemon.expect_warnings(r"left|ended it|earlier")
    furnish(home)
    daemon.start().load("a")
    daemon.kill()
    eventually(lambda: not processes_of(home, runs_only=True), SURVIVAL_SECONDS)
    daemon.start().wait_phase(lifecycle.Ready, "a")
    with daemon.gateway() as client:
        answer = client.post("/chat/completions", json=chat_body("a", max_tokens=8))
    assert answer.status_code == 200
    assert answer.json()["usage"]["completion_tokens"] > 0


def test_the_window_loads_talks_switches_and_quits_with_the_real_engine(
    home: Home, furnish: Furnish, daemon: Daemon
) -> None:
    """The main job, end to end: one click, a question, a streamed answer with its figures, the other model, nothing left."""
    furnish(home)
    window = WindowProcess(home)
    try:
        window.open().click("Load a")
        shown = window.wait_pill("Ready", 60)
        daemon.adopt()
        assert "llama.cpp" in shown["detail"]
        window.click("Navigation: Chat")
        window.type("Message", "What is the KV cache?")
        window.click("Send message")
        eventually(
            lambda: window.answer().strip() and daemon.slices()["traffic"].recent, 60, "an answer with its figures"
        )
        window.click("Navigation: Logs")
        eventually(lambda: len(window.log()["lines"]) > 5, 60, "the engine's log is shown")
        window.click("Navigation: Models")
        window.click("Switch b")
        window.wait(lambda now: now["pill"] == "Ready" and "The b model" in now["title"], "b is ready", 60)
        window.shut()
        window.click("Quit and unload")
        assert window.wait_end(60) == 0
        eventually(lambda: not processes_of(home), 60, "nothing is left")
    finally:
        window.close()
