"""The loaded model is measured from the command line, and the figures stay with what made them (E12 of a run's manifest)."""

from __future__ import annotations

import threading

from app.core.bench import Bench, Benches
from app.core.snapshot import from_json
from tests.end2end.commands import Commands
from tests.rig.daemon import Daemon, streamed
from tests.rig.engines import FakeEngine
from tests.rig.home import Home
from tests.rig.real_engines import RealEngine


def test_what_is_loaded_is_measured_and_kept(
    home: Home, fake_engine: FakeEngine, commands: Commands, daemon: Daemon
) -> None:
    home.settings(logs={"runs_kept": 1})
    fake_engine.profile("one", tokens=40, tokens_per_second=400)
    fake_engine.profile("two", tokens=3)
    daemon.start()
    assert "Nothing was measured yet." in commands.ok("bench", "--list").out
    assert "No model is loaded" in commands.refused(4, "bench").err
    said = commands.ok("bench", "one")  # loads it first
    assert "Medians of 3 answers" in said.out
    assert "Answer 3 of 3" in said.err
    (run,) = daemon.slices()["runs"].runs
    assert f"engine-room manifest {run.id}" in said.out
    seen = daemon.slices()["traffic"]
    assert seen.requests_total == 4, "one to warm up, three that count, all through the endpoint"

    found = from_json(Bench, commands.ok("bench", "--json").out)
    assert found.run_id == run.id
    assert found.made_by is not None
    assert found.made_by.title == found.title
    assert len(found.rounds) == 3
    assert found.tokens_per_second is not None
    assert found.tokens_per_second < 600, "its own pace, not one that is wished for"
    assert found.first_token_seconds in [one.first_token_seconds for one in found.rounds]
    assert not found.shared

    daemon.load("two")
    refused = daemon.client.post("/control/bench", json={"profile": "one"})
    assert (refused.status_code, refused.json()["summary"]) == (404, "one is not loaded.")
    kept = from_json(Benches, commands.ok("bench", "--list", "--json").out).benches
    assert kept[0] == found, "though its run is forgotten"
    assert commands.ok("bench", "--list").out.count(run.id) == 2


def test_a_model_that_answers_somebody_is_not_measured(
    fake_engine: FakeEngine, commands: Commands, daemon: Daemon
) -> None:
    fake_engine.profile("one", tokens=100_000, tokens_per_second=50)
    daemon.start().load("one")
    with daemon.gateway() as client:
        events = streamed(client, model="one", max_tokens=100_000)
        next(events)
        refused = commands.refused(6, "bench")
        assert "The model is answering" in refused.err
        events.close()  # type: ignore[attr-defined]


def test_a_bench_that_is_cut_or_cancelled_says_so_and_keeps_nothing(
    fake_engine: FakeEngine, commands: Commands, daemon: Daemon
) -> None:
    fake_engine.profile("one", tokens=100_000, tokens_per_second=20)
    fake_engine.profile("two", tokens=3)
    daemon.start().load("one")
    job = daemon.post("/control/bench", {}).json()["job"]
    daemon.wait_slice("traffic", lambda traffic: traffic.in_flight)
    daemon.post("/control/jobs/cancel", {"job": job})
    daemon.wait_slice("jobs", lambda jobs: jobs.jobs[0].state == "cancelled")
    daemon.wait_slice("traffic", lambda traffic: not traffic.in_flight)
    outcome: list[object] = []
    asking = threading.Thread(target=lambda: outcome.append(commands.refused(6, "bench")))
    asking.start()
    daemon.wait_slice("traffic", lambda traffic: traffic.in_flight)
    daemon.unload()
    asking.join(60)
    assert outcome
    assert from_json(Benches, commands.ok("bench", "--list", "--json").out).benches == ()


def test_a_real_engine_is_measured(real_engine: RealEngine, commands: Commands, daemon: Daemon) -> None:
    real_engine.profile("noise", context_tokens=1024)
    daemon.start()
    found = from_json(Bench, commands.ok("bench", "noise", "--json").out)
    assert found.prompt_tokens is not None
    assert 350 < found.prompt_tokens <= 640, "about what was meant, by the engine's own count"
    assert found.answer_tokens
    assert found.prompt_tokens_per_second
    assert found.engine == real_engine.family
