"""Tells what a switch does: nobody is cut off, the latest click wins, a failure puts the previous model back."""

import threading
from typing import Any

import pytest

from app.core import lifecycle
from app.core.errors import DoesNotFit
from tests.rig.custody import processes_of
from tests.rig.daemon import Daemon, Loop, streamed
from tests.rig.engines import FakeEngine
from tests.rig.home import Home
from tests.rig.waiting import eventually, never


def answered_by(outcome: dict[str, Any]) -> set[str]:
    return set(outcome["text"].split())


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_never_notices_a_switch(fake_engine: FakeEngine, daemon: Daemon, stream: bool) -> None:
    """I6, I8: a loop on /v1 gets whole answers only, each from one model, however often the model changes."""
    for name in ("red", "blue"):
        fake_engine.profile(name, tokens=12, tokens_per_second=80, load_seconds=0.3)
    daemon.start().load("red")
    loops = [Loop(daemon.gateway_url, stream=stream) for _ in range(3)]
    for loop in loops:
        loop.start()
    for name in ("blue", "red", "blue"):
        eventually(lambda: all(loop.outcomes for loop in loops))
        seen = [len(loop.outcomes) for loop in loops]
        daemon.load(name)
        eventually(lambda seen=seen: all(len(loop.outcomes) > n for loop, n in zip(loops, seen, strict=True)))
    for loop in loops:
        loop.__exit__()
    outcomes = [outcome for loop in loops for outcome in loop.outcomes]
    bad = [o for o in outcomes if o["status"] != 200 or not o["done"] or o["problem"] or len(answered_by(o)) != 1]
    assert not bad, bad[:3]
    assert {"red", "blue"} <= {name for outcome in outcomes for name in answered_by(outcome)}


def test_running_answers_finish_before_the_engine_is_stopped(fake_engine: FakeEngine, daemon: Daemon) -> None:
    """I8: a stream of two seconds goes on to its end although another model is wanted at once."""
    fake_engine.profile("long-winded", tokens=40, tokens_per_second=20)
    fake_engine.profile("next")
    daemon.start().load("long-winded")
    with daemon.gateway() as client:
        events = streamed(client, model="long-winded")
        next(events)
        daemon.want("next")
        daemon.wait_phase(lifecycle.Draining)
        rest = list(events)
    assert rest[-1] == {"done": True}
    daemon.wait_phase(lifecycle.Ready, "next")
    drained = next(event for event in daemon.events() if event["from"] == "Draining")
    finished = fake_engine.journal("finished", path="/v1/chat/completions")[-1]
    assert drained["event"] == "Drained", finished


def test_past_the_drain_budget_a_stream_ends_with_an_error_never_silently(
    home: Home, fake_engine: FakeEngine, daemon: Daemon
) -> None:
    """I8: the budget is over, the client is told in the stream itself."""
    home.settings(supervision={"drain_seconds": 0.5})
    fake_engine.profile("endless", tokens=10_000, tokens_per_second=20)
    fake_engine.profile("next")
    daemon.start().load("endless")
    with daemon.gateway() as client:
        events = streamed(client, model="endless")
        next(events)
        daemon.want("next")
        rest = list(events)
    assert any("error" in event for event in rest), rest[-2:]
    daemon.wait_phase(lifecycle.Ready, "next")


def test_the_latest_click_wins(fake_engine: FakeEngine, daemon: Daemon) -> None:
    """A is loaded; B, C, D are clicked: what was in between is never started while A drains, and D is what stays."""
    fake_engine.profile("a", tokens=20, tokens_per_second=20)
    for name in ("b", "c", "d"):
        fake_engine.profile(name, load_seconds=0.2)
    daemon.start().load("a")
    with daemon.gateway() as client:
        events = streamed(client, model="a")
        next(events)
        for name in ("b", "c", "d"):
            daemon.want(name)
        assert list(events)[-1] == {"done": True}
    daemon.wait_phase(lifecycle.Ready, "d")
    started = [line["alias"] for line in fake_engine.journal("start")]
    assert started == ["a", "d"]


def test_a_click_during_a_load_ends_that_load(home: Home, fake_engine: FakeEngine, daemon: Daemon) -> None:
    """A load nobody wants any more is ended at once, and never becomes Ready."""
    fake_engine.profile("slow", load_seconds=60)
    fake_engine.profile("quick")
    daemon.start().want("slow")
    daemon.wait_phase(lifecycle.Loading, "slow")
    daemon.load("quick")
    ready = [event for event in daemon.events() if event["to"] == "Ready"]
    assert len(ready) == 1
    runs = {process.run_id for process in processes_of(home, runs_only=True)}
    assert len(runs) == 1


@pytest.mark.parametrize("moment", ["at_once", "loading", "first_token"])
def test_cancelling_a_load_leaves_nothing(home: Home, fake_engine: FakeEngine, daemon: Daemon, moment: str) -> None:
    """I1, S3: at any moment; the previous model is offered, not loaded."""
    fake_engine.profile("before")
    fake_engine.profile("cancelled", load_seconds=0 if moment == "first_token" else 60, no_token=True, child=True)
    daemon.start().load("before")
    daemon.want("cancelled")
    if moment != "at_once":
        daemon.wait_phase(lifecycle.Loading, "cancelled")
    if moment == "first_token":
        eventually(lambda: len(fake_engine.journal("request", path="/v1/chat/completions")) > 1)
    daemon.unload()
    seat = daemon.wait_idle()
    assert seat.wanted is None
    assert seat.previous == "before"
    eventually(lambda: not processes_of(home, runs_only=True))
    never(lambda: not isinstance(daemon.seat().phase, lifecycle.Idle), 0.3)


def test_a_failed_switch_puts_the_previous_model_back_with_its_settings(
    fake_engine: FakeEngine, daemon: Daemon
) -> None:
    """S1: what was changed for that launch is there again, the failure is kept and said."""
    fake_engine.profile("good")
    fake_engine.profile("bad", crash_at=0.5)
    daemon.start().load("good", settings={"context_tokens": 1024})
    daemon.want("bad")
    daemon.wait_seat(lambda seat: seat.last_failure is not None)
    seat = daemon.wait_phase(lifecycle.Ready, "good")
    assert seat.last_failure is not None
    assert seat.last_failure.profile_id == "bad"
    assert "bad" in seat.notice
    assert seat.run is not None
    assert seat.run.argv[seat.run.argv.index("--ctx-size") + 1] == "1024"
    assert [line["alias"] for line in fake_engine.journal("start")] == ["good", "bad", "good"]


def test_the_rollback_happens_once(home: Home, fake_engine: FakeEngine, daemon: Daemon) -> None:
    """The previous model cannot be loaded any more either: Failed, and no ping-pong."""
    switch = home.folder / "good-is-bad-now"
    fake_engine.profile("good", crash_at=0.5, only_while=switch)
    fake_engine.profile("bad", crash_at=0.5)
    daemon.start().load("good")
    switch.touch()
    daemon.want("bad")
    failure = daemon.wait_failed()
    assert failure.profile_id == "good"
    assert [line["alias"] for line in fake_engine.journal("start")] == ["good", "bad", "good"]
    assert not processes_of(home, runs_only=True)


def test_what_cannot_fit_is_refused_and_nothing_is_stopped(home: Home, fake_engine: FakeEngine, daemon: Daemon) -> None:
    """I4: refused before anything happens, with numbers; the loaded model goes on answering."""
    large = fake_engine.model("large", weights_bytes=900 * 1024**3)
    fake_engine.profile("small", tokens=3)
    fake_engine.profile("large", model=large)
    daemon.start().load("small")
    pid = daemon.engine_pid()
    with pytest.raises(DoesNotFit, match=r"\d") as refused:
        daemon.want("large")
    assert refused.value.summary.endswith(".")
    assert daemon.engine_pid() == pid
    assert daemon.seat().wanted == "small"
    with daemon.gateway() as client:
        assert list(streamed(client, model="small"))[-1] == {"done": True}
    assert [line["alias"] for line in fake_engine.journal("start")] == ["small"]


def test_an_override_is_explicit_and_recorded(fake_engine: FakeEngine, daemon: Daemon) -> None:
    """I4: the person may insist; the run says that they did."""
    large = fake_engine.model("large", weights_bytes=900 * 1024**3)
    fake_engine.profile("large", model=large)
    daemon.start()
    seat = daemon.load("large", override=True)
    assert seat.run is not None
    assert seat.run.plan is not None
    assert seat.run.plan.overridden


def test_wanting_what_is_there_changes_nothing(fake_engine: FakeEngine, daemon: Daemon) -> None:
    fake_engine.profile("same")
    daemon.start().load("same")
    before = daemon.engine_pid()
    daemon.want("same")
    never(lambda: daemon.engine_pid() != before or not isinstance(daemon.seat().phase, lifecycle.Ready), 0.3)


def test_many_clicks_from_many_clients_end_in_one_engine(home: Home, fake_engine: FakeEngine, daemon: Daemon) -> None:
    """I3: whatever is clicked in parallel, there is one engine in the end and never two at the same time."""
    names = [fake_engine.profile(f"m{n}", load_seconds=0.1) for n in range(4)]
    daemon.start()
    both: list[set[str | None]] = []
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            runs = {process.run_id for process in processes_of(home, runs_only=True)}
            if len(runs) > 1:
                both.append(runs)

    def click(name: str) -> None:
        for _ in range(5):
            daemon.want(name)

    watcher = threading.Thread(target=watch)
    watcher.start()
    clicks = [threading.Thread(target=click, args=(name,)) for name in names]
    for thread in clicks:
        thread.start()
    for thread in clicks:
        thread.join(60)
    wanted = daemon.slices()["seats"].seats[0].wanted
    daemon.wait_phase(lifecycle.Ready, wanted)
    over.set()
    watcher.join(60)
    assert not both
