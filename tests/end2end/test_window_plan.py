"""The plan view on a real service: filter the cards, open a plan, move the slider, load like this; the engine gets just that."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.engines.base import Installation
from tests.rig.daemon import Daemon
from tests.rig.engines import FakeEngine
from tests.rig.home import Home
from tests.rig.window import WindowProcess


@pytest.fixture
def window(home: Home, daemon: Daemon) -> Iterator[WindowProcess]:
    window = WindowProcess(home)
    yield window
    window.close()


def test_a_slider_moved_in_the_plan_is_the_context_that_the_engine_is_started_with(
    fake_engine: FakeEngine, window: WindowProcess, daemon: Daemon
) -> None:
    """M3, M4: filters leave what fits; the plan reprices as the slider moves; the launch and its log have that context."""
    for name in ("ash", "birch", "cedar", "elm"):
        fake_engine.profile(name, model=fake_engine.model(name, weights_bytes=3_000_000, layers=len(name)))
    fake_engine.profile("huge", model=fake_engine.model("huge", weights_bytes=900 * 1024**3, layers=7))
    window.open()
    window.wait(lambda now: now["buttons"].get("Load anyway huge"), "all cards are there")
    daemon.adopt()
    window.click("Only what fits now")
    shown = window.wait(lambda now: "Load anyway huge" not in now["buttons"], "what does not fit is gone")
    assert {"Load ash", "Load birch", "Load cedar", "Load elm"} <= set(shown["buttons"])
    window.click("Plan the memory of birch")
    before = window.wait_text("2,048 tokens")
    assert "Memory of Main memory" in before["names"]
    window.press("Context", "End")
    window.wait_text("4,096 tokens")
    window.wait_text("formula: 4,096 tokens as f16")
    window.click("Load like this")
    window.wait_pill("Ready")
    run = daemon.seat().run
    assert run is not None
    assert run.profile_id == "birch"
    assert run.argv[run.argv.index("--ctx-size") + 1] == "4096"
    assert context_in(run.log_path) == 4096


def test_the_built_in_engine_is_started_with_the_context_of_the_slider(
    embedded_engine: Installation, window: WindowProcess, daemon: Daemon
) -> None:
    """The same with the real engine and the model that comes along: its own log says the context."""
    window.open().click("Plan the memory of demo")
    daemon.adopt()
    before = context_of(window)
    window.press("Context", "End")
    window.wait(lambda now: "Save to profile" in now["names"], "the slider has moved")
    window.click("Load like this")
    window.wait_pill("Ready")
    run = daemon.seat().run
    assert run is not None
    context = int(run.argv[run.argv.index("--ctx-size") + 1])
    assert context > before
    assert context_in(run.log_path) == context
    window.click("Plan the memory of demo")
    window.wait_text("Predicted and measured")


def context_of(window: WindowProcess) -> int:
    """What the slider stands at."""
    shown = window.wait(lambda now: any(text.endswith(" tokens") for text in now["texts"]), "a context is told")
    words = next(text for text in shown["texts"] if text.endswith(" tokens"))
    return int("".join(each for each in words if each.isdigit()))


def context_in(log_path: str) -> int:
    """The context that the engine's own log tells."""
    found = re.search(r"llama_context: n_ctx\s+= (\d+)", Path(log_path).read_text("utf-8", "replace"))
    assert found is not None
    return int(found[1])
