"""A load teaches the next one, and the engine itself is asked before: seen in the plans of the real service (M7)."""

import re
import sqlite3
from collections.abc import Callable
from contextlib import closing

import pytest

from app.core import control, lifecycle
from app.core.memory.learning import Knowledge
from app.core.memory.plan_types import DevicePlan, MemoryPlan, Part
from app.core.resources import builtin_model
from app.core.snapshot import RunView, SeatView, from_json
from tests.end2end.commands import Commands
from tests.rig.daemon import Daemon
from tests.rig.driver import SimulatedDriver, card, card_uuid
from tests.rig.engines import FakeEngine
from tests.rig.home import Home
from tests.rig.real_engines import put_into, write_profile
from tests.rig.waiting import eventually

MIB, GIB = 1024**2, 1024**3


def compute(plan: MemoryPlan | None) -> Part:
    assert plan is not None
    return next(part for part in plan.devices[-1].parts if part.name == "compute")


def learnt(daemon: Daemon, holds: Callable[[Knowledge], object]) -> Knowledge:
    found = daemon.wait_slice("learnt", holds)
    assert isinstance(found, Knowledge)
    return found


def load_with(daemon: Daemon, settings: dict[str, int]) -> RunView:
    """The run of the profile with these settings: the one before is ready until it leaves."""
    daemon.want("small", settings=settings)

    def is_it(seat: SeatView) -> bool:
        there = isinstance(seat.phase, lifecycle.Ready) and seat.run is not None
        return there and {str(value) for value in settings.values()} <= set(seat.run.argv if seat.run else ())

    run = daemon.wait_seat(is_it).run
    assert run is not None
    return run


def test_the_second_load_is_predicted_by_the_first_and_another_context_by_both(
    home: Home, commands: Commands, daemon: Daemon
) -> None:
    """M7, real llama.cpp: formula, measurement, offset, and the engine's own dry run, each named as the source."""
    put_into(home, "llama.cpp")
    model = builtin_model("builtin:demo")
    assert model is not None
    write_profile(home, "small", "llama.cpp", model, context_tokens=1_024)
    daemon.start()

    run = daemon.load("small").run
    assert run is not None
    assert compute(run.plan).source.startswith("formula"), "nothing was known, and nobody waited for an opinion"
    learnt(daemon, lambda known: known.repeats)
    printed = re.search(r"compute buffer size =\s+([\d.]+) MiB", daemon.run_log(run.id).decode())
    assert printed is not None
    again = compute(from_json(MemoryPlan, commands.ok("plan", "small", "--json").out))
    assert again.source == "measured in 1 launch like this one"
    assert again.bytes / MIB == pytest.approx(float(printed[1]), abs=0.01)

    daemon.unload()
    daemon.wait_idle()
    run = daemon.load("small").run
    assert run is not None
    assert compute(run.plan).source == "measured in 1 launch like this one"
    learnt(daemon, lambda known: known.repeats and known.repeats[0].launches == 2)

    learnt(daemon, lambda known: known.offsets)
    run = load_with(daemon, {"context_tokens": 1_792})
    assert compute(run.plan).source == "learnt from 2 launches of this engine"

    asked = commands.ok("plan", "small", "--set", "context_tokens=1536", "--set", "ubatch_tokens=256").out
    told = learnt(daemon, lambda known: known.opinions)  # on a busy machine it comes after the first plan's moment
    asked = commands.ok("plan", "small", "--set", "context_tokens=1536", "--set", "ubatch_tokens=256").out
    assert "dry run by llama.cpp " in asked
    opinion = {figure.part: figure.bytes / MIB for figure in told.opinions[0].parts}
    run = load_with(daemon, {"context_tokens": 1_536, "ubatch_tokens": 256})
    printed = re.search(r"compute buffer size =\s+([\d.]+) MiB", daemon.run_log(run.id).decode())
    assert printed is not None
    assert opinion["compute"] == pytest.approx(float(printed[1]), abs=0.01), "the dry run is what the load then takes"


def test_what_cards_really_held_moves_the_next_plan_until_it_is_forgotten(
    driver: SimulatedDriver, fake_engine: FakeEngine, home: Home, commands: Commands, daemon: Daemon
) -> None:
    """M7: three launches make an offset with its band; a damaged row is left out; forgetting leads back to the formulas."""
    driver.gpus([card()])
    fake_engine.install("llama-server", accelerator="cuda")
    model = fake_engine.model("three", weights_bytes=3 * GIB)
    fake_engine.profile("m", model=model, vram={card_uuid(0): 5 * GIB})
    daemon.start()

    def on_card() -> DevicePlan:
        answer = daemon.post("/control/plan", control.Want(profile="m", settings={"context_tokens": 4_096}))
        return from_json(MemoryPlan, answer.text).devices[0]

    formula = on_card()
    assert formula.launches == 0
    for number, tokens in enumerate((1_024, 2_048, 3_072), 1):
        daemon.load("m", settings={"context_tokens": tokens})
        learnt(daemon, lambda known, number=number: len(known.repeats) == number)
    found = on_card()
    assert found.launches == 3
    assert found.likely_bytes == pytest.approx(5 * GIB, abs=128 * MIB), "as much as the driver showed"
    assert found.likely_bytes > formula.likely_bytes + 256 * MIB
    assert found.low_bytes <= 5 * GIB <= found.high_bytes
    text = commands.ok("plan", "m", "--set", "context_tokens=4096").out
    assert re.search(r"5\.\d ± 0\.\d GiB, from 3 launches", text), text
    assert "learnt from 3 launches of this engine; the formula says " in text

    daemon.terminate()
    with closing(sqlite3.connect(home.paths.database)) as database, database:
        database.execute("UPDATE memory SET value = x'00ff' WHERE id = (SELECT id FROM memory LIMIT 1)")
    daemon.start()
    eventually(lambda: on_card().launches == 2, what="as soon as the engine's build is known again")

    assert "forgotten" in commands.ok("plan", "--forget").out
    now = on_card()
    assert (now.launches, now.parts, now.high_bytes) == (0, formula.parts, formula.high_bytes)
    assert "No model was named" in commands.refused(2, "plan").err
