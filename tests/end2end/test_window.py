"""The window as a person uses it: the real window and the real daemon as processes, the stand-in engine (S1, S3, D1)."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.core import lifecycle
from tests.rig.custody import alive, look_at, processes_of
from tests.rig.daemon import Daemon, Loop, kill_verified
from tests.rig.engines import FakeEngine
from tests.rig.home import Home
from tests.rig.waiting import eventually, never
from tests.rig.window import REPOSITORY, WindowProcess

LEFTOVER = r"left|survived|ended it|earlier|previous"


@pytest.fixture
def window(home: Home, daemon: Daemon) -> Iterator[WindowProcess]:
    """`window.open()`; it starts the service by itself, and `daemon.adopt()` then speaks to that one."""
    window = WindowProcess(home)
    yield window
    window.close()


def test_the_window_starts_the_service_and_one_click_loads(
    fake_engine: FakeEngine, window: WindowProcess, daemon: Daemon
) -> None:
    """S1, S3: each stage of the load is shown, then the state, the engine and the endpoint."""
    fake_engine.profile("one", load_seconds=2)
    window.open().click("Load one")
    shown = window.wait_pill("Ready")
    daemon.adopt()
    pills, stages = window.pills(), window.stages()
    assert [text for text in pills if text in ("Idle", "Ready")] == ["Idle", "Ready"]
    assert any(text.startswith("Loading") for text in pills), pills
    assert {"Weights", "First token"} <= {stage.rpartition(": ")[2] for stage in stages}, stages
    assert "The one model" in shown["title"]
    assert "llama-server" in shown["detail"]
    assert shown["url"] == daemon.gateway_url
    assert shown["buttons"]["Open chat with one"]
    with daemon.gateway() as client:
        answer = client.post("/chat/completions", json={"messages": [{"role": "user", "content": "hi"}]})
    assert answer.json()["choices"][0]["message"]["content"].startswith("one")


def test_the_window_itself_never_touches_the_driver(
    fake_engine: FakeEngine, window: WindowProcess, daemon: Daemon
) -> None:
    """D1: no driver library is in its memory, and it has not imported what would load one."""
    fake_engine.profile("one")
    window.open().click("Load one")
    window.wait_pill("Ready")
    daemon.adopt()
    for page in ("Monitor", "Settings", "Logs", "Models"):
        window.click(f"Navigation: {page}")
        window.wait(lambda now, page=page: now["page"] == page.lower(), page)
    maps = Path(f"/proc/{window.pid}/maps").read_text()
    assert "libQt6Widgets" in maps, "these are the window's maps"
    assert not [name for name in ("libcuda", "libnvidia", "libcudart") if name in maps]
    assert not [name for name in window.modules() if name.startswith(("pynvml", "app.daemon", "app.engines"))]


def test_one_click_switches_and_a_client_never_notices(
    fake_engine: FakeEngine, window: WindowProcess, daemon: Daemon
) -> None:
    """I6, I8: a loop on the endpoint gets whole answers only, each from one model."""
    for name in ("red", "blue"):
        fake_engine.profile(name, tokens=8, tokens_per_second=80, load_seconds=0.3)
    window.open().click("Load red")
    window.wait_pill("Ready")
    daemon.adopt()
    with Loop(daemon.gateway_url) as loop:
        for name in ("blue", "red"):
            before = len(loop.outcomes)
            eventually(lambda before=before: len(loop.outcomes) > before)
            window.click(f"Switch {name}")
            window.wait(lambda now, name=name: now["pill"] == "Ready" and name in now["title"], f"{name} is ready")
            eventually(lambda name=name: name in loop.outcomes[-1]["text"], 60, f"an answer of {name}")
    bad = [o for o in loop.outcomes if o["status"] != 200 or not o["done"] or len(set(o["text"].split())) != 1]
    assert not bad, bad[:3]
    assert len(fake_engine.journal("start")) == 3


def test_a_window_killed_while_a_model_loads_takes_nothing_along(
    fake_engine: FakeEngine, window: WindowProcess, daemon: Daemon
) -> None:
    """The next window shows the same load going on, then the same model."""
    go_on = fake_engine.home.folder / "go-on"
    fake_engine.profile("slow", hold_at=0.5, go_on=go_on)
    window.open().click("Load slow")
    window.wait(lambda now: now["pill"].startswith("Loading"), "it loads")
    daemon.adopt()
    run_id = daemon.wait_phase(lifecycle.Loading, "slow").phase.run_id  # type: ignore[union-attr]
    window.kill()
    window.open()
    shown = window.wait(lambda now: now["pill"].startswith("Loading"), "the same state")
    assert "The slow model" in shown["title"]
    go_on.touch()
    window.wait_pill("Ready")
    assert daemon.wait_phase(lifecycle.Ready, "slow").phase.run_id == run_id  # type: ignore[union-attr]
    assert len(fake_engine.journal("start")) == 1


def test_a_window_killed_while_a_model_is_ready_leaves_it_answering(
    fake_engine: FakeEngine, window: WindowProcess, daemon: Daemon
) -> None:
    fake_engine.profile("one", tokens=3)
    window.open().click("Load one")
    before = window.wait_pill("Ready")
    daemon.adopt()
    engine = daemon.engine_pid()
    window.kill()
    with daemon.gateway() as client:
        assert client.post("/chat/completions", json={"messages": []}).status_code == 200
    after = window.open().wait_pill("Ready")
    assert (after["title"], after["url"]) == (before["title"], before["url"])
    assert alive(engine)
    assert daemon.engine_pid() == engine


def test_the_daemon_killed_under_an_open_window_comes_back_with_the_model(
    home: Home, fake_engine: FakeEngine, window: WindowProcess, daemon: Daemon
) -> None:
    """I1: no engine is left; the window starts the service again, which loads what was wanted; the header tells it."""
    daemon.expect_warnings(LEFTOVER)
    fake_engine.profile("one", grandchild=True)
    window.open().click("Load one")
    window.wait_pill("Ready")
    daemon.adopt()
    first, engines = daemon.adopted_pid, processes_of(home, runs_only=True)
    assert len(engines) >= 2
    kill_verified(first, home)
    eventually(lambda: not any(alive(process.pid) for process in engines), 60, "no engine of the first daemon is left")
    window.wait(lambda now: ["Service starting"] in now["seen"], "the header says that the service is starting")
    window.wait(lambda now: now["pill"] == "Ready" and now["seen"][-1] == ["Ready"], "the model is back")
    daemon.adopt()
    assert daemon.adopted_pid != first
    pills = window.pills()
    assert pills.index("Service starting", pills.index("Ready")) < len(pills) - 1
    assert pills[-1] == "Ready"
    with daemon.gateway() as client:
        assert client.post("/chat/completions", json={"messages": []}).status_code == 200


def test_closing_the_window_leaves_the_model_loaded(
    home: Home, fake_engine: FakeEngine, window: WindowProcess, daemon: Daemon
) -> None:
    fake_engine.profile("one", tokens=3)
    window.open().click("Load one")
    window.wait_pill("Ready")
    daemon.adopt()
    window.shut()
    window.click("Keep it loaded")
    assert window.wait_end() == 0
    assert isinstance(daemon.seat().phase, lifecycle.Ready)
    with daemon.gateway() as client:
        assert client.post("/chat/completions", json={"messages": []}).status_code == 200


def test_quit_and_unload_leaves_nothing(
    home: Home, fake_engine: FakeEngine, window: WindowProcess, daemon: Daemon
) -> None:
    """I1: when the window has gone, service, keepers and engine have too."""
    fake_engine.profile("one", grandchild=True)
    window.open().click("Load one")
    window.wait_pill("Ready")
    daemon.adopt()
    window.shut()
    window.click("Quit and unload")
    assert window.wait_end(60) == 0
    eventually(lambda: not processes_of(home), 60, "nothing is left")
    assert not home.paths.socket.exists()


def test_what_does_not_fit_says_the_numbers_and_can_be_loaded_anyway(
    fake_engine: FakeEngine, window: WindowProcess, daemon: Daemon
) -> None:
    """M4: the card tells how much is missing; the override asks once more, with the same numbers."""
    fake_engine.profile("huge", model=fake_engine.model("huge", weights_bytes=900 * 1024**3))
    window.open()
    shown = window.wait(lambda now: now["buttons"].get("Load anyway huge"), "the override is offered")
    daemon.adopt()
    numbers = (
        r"Needs up to (900\.\d GiB) of main memory, but only [\d.]+ GiB of ([\d.]+ GiB) can be used .* is missing\."
    )
    told = next(found for text in shown["texts"] if (found := re.fullmatch(numbers, text)))
    assert "Does not fit" in shown["names"]
    window.click("Load anyway huge")
    asked = window.wait(lambda now: "Load The huge model anyway?" in now["texts"], "it asks")
    again = next(found for text in asked["texts"] if (found := re.match(numbers + " Loading it anyway can fail", text)))
    assert again.groups() == told.groups(), "what is free may have moved meanwhile"
    assert not daemon.phases(), "nothing happens before the answer"
    window.click("Load anyway")
    window.wait_pill("Ready")


def test_a_failed_load_says_why_and_opens_the_line_that_proves_it(
    fake_engine: FakeEngine, window: WindowProcess, daemon: Daemon
) -> None:
    """S6, L1: sentence, the log line, and one click to that line in the log."""
    fake_engine.profile("fragile", oom_text="cuda")
    window.open().click("Load fragile")
    shown = window.wait_pill("Failed")
    daemon.adopt()
    failure = daemon.wait_phase(lifecycle.Failed).phase.failure  # type: ignore[union-attr]
    assert failure.summary in shown["texts"]
    assert failure.advice in shown["texts"]
    window.click("Show log")
    window.wait(lambda now: now["page"] == "logs", "the log is open")
    log = eventually(lambda: window.log() if window.log()["marked"] else None, 60, "a line is marked")
    assert log["run"] == failure.evidence.run_id
    assert failure.evidence.line.strip() in log["marked"]
    assert "unable to allocate CUDA0 buffer" in log["marked"]


def test_a_service_that_cannot_start_is_told_with_its_reason_and_tried_again(
    home: Home, fake_engine: FakeEngine, window: WindowProcess, daemon: Daemon
) -> None:
    """Daemon gone: the window stays usable, says what the service said, and one click tries again."""
    daemon.expect_warnings(r"drain_seconds: Input should be")
    fake_engine.profile("one")
    home.settings(supervision={"drain_seconds": -1})
    window.open()
    shown = window.wait(lambda now: now["pill"] == "Service gone", "the service cannot start", 60)
    assert any("drain_seconds" in text for text in shown["texts"]), shown["texts"]
    assert shown["title"] == "Engine Room"
    assert not shown["buttons"]["Stop"]
    window.click("Navigation: Chat")
    window.click("Navigation: Models")
    home.settings(supervision={"drain_seconds": 2})
    window.click("Try again")
    window.wait_pill("Idle")
    daemon.adopt()
    window.click("Load one")
    window.wait_pill("Ready")


def test_a_conversation_outlives_a_window_killed_in_the_middle_of_an_answer(
    home: Home, fake_engine: FakeEngine, window: WindowProcess, daemon: Daemon
) -> None:
    """H3: the question and what had come of the answer are there when the next window opens."""
    fake_engine.profile("talker", tokens=4_000, tokens_per_second=40)
    window.open().click("Load talker")
    window.wait_pill("Ready")
    daemon.adopt()
    window.click("Navigation: Chat")
    window.type("Message", "Tell me a story")
    window.click("Send message")
    eventually(lambda: window.answer().count("talker") >= 8, 60, "an answer grows")
    came = window.answer()
    longer = len(came) + 80 * len("talker ")  # two seconds: what had come before is on the disk by then
    eventually(lambda: len(window.answer()) >= longer, 60, "and grows on")
    window.kill()
    window.open().wait_pill("Ready")
    assert window.look()["page"] == "chat", "it opens where it was"
    kept = eventually(window.answer, 60, "the answer is there again")
    assert kept.startswith(came) or came.startswith(kept), (kept, came)
    assert len(kept) >= len(came) // 2, (kept, came)
    assert window.messages()[0] == "Tell me a story"


def test_an_answer_tells_what_made_it_and_that_runs_again(
    fake_engine: FakeEngine, window: WindowProcess, daemon: Daemon
) -> None:
    """L3: from the answer to its run's manifest, and from there to the same launch once more. On a screen at 200 %, too."""
    fake_engine.profile("one", tokens=3)
    fake_engine.profile("two", tokens=3)
    window.open(QT_SCALE_FACTOR="2").click("Load one")
    window.wait_pill("Ready")
    daemon.adopt()
    first = daemon.seat().run
    assert first is not None
    window.click("Navigation: Chat")
    window.type("Message", "Hello")
    window.click("Send message")
    window.wait(lambda now: "What made this answer" in now["buttons"], "the answer is whole")
    window.click("Navigation: Models")
    window.click("Switch two")
    window.wait(lambda now: now["pill"] == "Ready" and "two" in now["title"], "two is ready")
    window.click("Navigation: Chat")
    window.click("What made this answer")
    shown = window.wait_text("What made it: The one model")
    assert any(first.argv[0] in text for text in shown["texts"]), "its command"
    window.click("Run again like this")
    window.wait(lambda now: now["pill"] == "Ready" and "one" in now["title"], "the first is back")
    again = daemon.wait_seat(lambda view: view.run is not None and view.run.profile_id == "one").run
    assert again is not None
    assert again.id != first.id

    def but_its_port(argv: tuple[str, ...], port: int) -> list[str]:
        return [word for word in argv if word != str(port)]

    assert but_its_port(again.argv, again.port) == but_its_port(first.argv, first.port)


def test_the_program_without_a_verb_is_the_window(home: Home, daemon: Daemon) -> None:
    """What a desktop's menu starts: it brings the service, says nothing, and leaves when it is told to; the service stays."""
    output = home.folder / "program.log"
    with output.open("wb") as terminal:
        program = subprocess.Popen(
            [sys.executable, "-m", "app"],
            cwd=REPOSITORY,
            env={**home.environment, "QT_QPA_PLATFORM": "offscreen"},
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
        )
    try:
        eventually(home.paths.socket.exists, what="it has started the service")
        daemon.adopt()
        eventually(lambda: "libQt6Widgets" in Path(f"/proc/{program.pid}/maps").read_text(), what="it is a window")
        program.terminate()
        assert program.wait(60) == 0
    finally:
        program.kill()
        program.wait()
    assert isinstance(daemon.seat().phase, lifecycle.Idle)
    said = [
        line for line in output.read_text().splitlines() if "propagateSizeHints" not in line
    ]  # of the offscreen screen
    assert said == []


def test_a_second_window_only_raises_the_first(
    fake_engine: FakeEngine, window: WindowProcess, daemon: Daemon, home: Home
) -> None:
    window.open()
    window.wait_pill("Idle")
    daemon.adopt()
    second = WindowProcess(home)
    with pytest.raises(AssertionError, match="gone"):
        second.open()
    assert second.wait_end() == 0
    assert window.look()["pill"] == "Idle"

    def services() -> set[int]:
        return {process.pid for process in processes_of(home) if "serve" in process.command}

    # looked at twice: for a moment, a program that the service starts has still the service's command line
    never(lambda: len(services() & services()) != 1, 0.3)


def test_a_terminal_that_closes_takes_neither_service_nor_model(
    home: Home, fake_engine: FakeEngine, window: WindowProcess, daemon: Daemon
) -> None:
    """SIGHUP for the window's session: the service is in a session of its own."""
    fake_engine.profile("one")
    window.open().click("Load one")
    window.wait_pill("Ready")
    daemon.adopt()
    mine = look_at(window.pid)
    assert mine is not None
    os.killpg(window.pid, signal.SIGHUP)
    window.wait_end()
    assert isinstance(daemon.seat().phase, lifecycle.Ready)
    assert alive(daemon.adopted_pid)
