"""Seats, lending and resting models at the command line (S2, S7, S8)."""

from app.core import lifecycle
from app.core.snapshot import SeatView, from_json
from tests.end2end.commands import Commands
from tests.rig.daemon import Daemon
from tests.rig.engines import FakeEngine
from tests.rig.home import Home


def test_two_seats_from_the_terminal(home: Home, fake_engine: FakeEngine, commands: Commands, daemon: Daemon) -> None:
    """S7: a profile's own seat, another one on request, and every verb for each."""
    home.settings(supervision={"seats": ["main", "side"]})
    fake_engine.profile("one", print="this is one")
    fake_engine.profile("two", print="this is two", table={"seat": "side"})
    daemon.start()
    commands.ok("load", "one")
    seat = from_json(SeatView, commands.ok("load", "two", "--json").out)
    assert seat.name == "side"
    told = commands.ok("status").out.splitlines()
    assert told[0].startswith("main  one ready")
    assert told[1].startswith("side  two ready")
    assert "this is one" in commands.ok("logs", "--seat", "main").out
    assert "this is two" in commands.ok("logs", "--seat", "side").out
    before = daemon.seat("side").run
    commands.ok("restart", "--seat", "side")
    after = daemon.seat("side").run
    assert before is not None
    assert after is not None
    assert before.id != after.id
    commands.ok("switch", "one", "--seat", "side")
    commands.ok("unload", "--seat", "side")
    assert isinstance(daemon.seat().phase, lifecycle.Ready), "the main seat has seen nothing of this"
    refused = commands.refused(2, "load", "one", "--seat", "balcony").err
    assert "There are: main, side" in refused


def test_lending_and_taking_back_with_one_key(fake_engine: FakeEngine, commands: Commands, daemon: Daemon) -> None:
    """S8: --toggle is what a desktop's shortcut is bound to."""
    fake_engine.profile("model")
    daemon.start()
    assert "No model is loaded" in commands.refused(4, "lend").err
    commands.ok("load", "model")
    lent = commands.ok("lend", "45")
    assert "lent until" in lent.out
    assert "lent until" in commands.ok("status").out
    assert from_json(SeatView, commands.ok("lend", "5", "--json").out).resting == "lent"
    assert commands.ok("lend", "--return").out.startswith("model is ready")
    assert "lent until" in commands.ok("lend", "--toggle").out
    assert commands.ok("lend", "--toggle").out.startswith("model is ready")
    assert "Nothing is lent" in commands.refused(4, "lend", "--return").err


def test_status_says_when_an_idle_model_goes_and_what_brings_it_back(
    home: Home, fake_engine: FakeEngine, commands: Commands, daemon: Daemon
) -> None:
    """I9."""
    home.settings(supervision={"idle_unload_seconds": 600})
    fake_engine.profile("model")
    daemon.start()
    commands.ok("load", "model")
    assert "unless somebody asks it" in commands.ok("status").out
    daemon.post("/control/settings", {"values": {"supervision.idle_unload_seconds": 0.1}})
    daemon.wait_seat(lambda seat: seat.resting == "idle" and isinstance(seat.phase, lifecycle.Idle))
    assert "a request loads it again" in commands.ok("status").out
