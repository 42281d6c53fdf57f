"""`engine-room service`: systemd keeps the daemon, and whoever needs it starts it there (I5), on a stand-in systemctl."""

import os
import signal
from pathlib import Path

from tests.end2end.commands import Commands
from tests.rig.custody import processes_of
from tests.rig.daemon import Daemon
from tests.rig.engines import FakeEngine
from tests.rig.home import Home
from tests.rig.user_systemd import UserSystemd
from tests.rig.waiting import eventually


def test_install_use_and_remove(home: Home, fake_engine: FakeEngine, commands: Commands) -> None:
    """One story: it runs at once, answers, is started again by the next command, and leaves nothing when removed."""
    systemd = UserSystemd(home)
    fake_engine.profile("one")
    assert "not installed" in commands.ok("service", "status").out
    installed = commands.ok("service", "install")
    commands.adopt()
    assert str(systemd.unit) in installed.out
    assert "starts at login, runs" in commands.ok("service", "status").out
    commands.ok("load", "one")
    assert commands.adopt() == systemd.pid
    for process in processes_of(home, runs_only=True):
        seen = Path(f"/proc/{process.pid}/environ").read_bytes()
        assert b"NOTIFY_SOCKET" not in seen, "no engine speaks to the service manager"
    commands.ok("quit")
    commands.ok("load", "one")
    assert commands.adopt() == systemd.pid, "the command did not start a service of its own"
    assert systemd.asked()[-1] == '["start", "engine-room.service"]'
    assert commands.ok("service", "status", "--json").json["active"] is True
    commands.ok("service", "install")
    commands.ok("service", "remove")
    assert not systemd.unit.exists()
    eventually(lambda: not processes_of(home), 60, "nothing is left")
    assert "not installed" in commands.ok("service", "remove").out


def test_a_service_that_was_started_otherwise_is_left_running(home: Home, commands: Commands, daemon: Daemon) -> None:
    """I5: installing harms nobody who works."""
    systemd = UserSystemd(home)
    daemon.start()
    told = commands.ok("service", "install").out
    assert "until `engine-room quit`" in told
    assert daemon.running
    assert not any("start" in asked for asked in systemd.asked())


def test_where_systemd_is_not_there_or_refuses_a_sentence_says_so(home: Home, commands: Commands) -> None:
    refused = commands.refused(3, "service", "install").err
    assert "systemd does not run for this account" in refused
    assert "WSL" in refused
    assert "systemd does not run" in commands.ok("service", "status").out
    systemd = UserSystemd(home)
    systemd.broken()
    refused = commands.refused(3, "service", "install").err
    assert "No medium found" in refused
    assert not systemd.unit.exists(), "nothing half-done is left"


def test_a_service_that_cannot_start_says_its_own_sentence(home: Home, commands: Commands, daemon: Daemon) -> None:
    """The settings are wrong: not systemd's word for it but ours."""
    daemon.expect_warnings("supervision.restarts")
    UserSystemd(home)
    commands.ok("service", "install")
    commands.adopt()
    commands.ok("quit")
    home.settings(supervision={"restarts": "many"})
    refused = commands.run("ls")
    assert refused.code != 0
    assert "supervision.restarts" in refused.err


def test_a_kill_of_the_service_is_systemds_matter_and_ours_to_clean(
    home: Home, fake_engine: FakeEngine, commands: Commands
) -> None:
    """I1: its engines end with it, whoever started it."""
    systemd = UserSystemd(home)
    fake_engine.profile("one")
    commands.ok("service", "install")
    commands.adopt()
    commands.ok("load", "one")
    os.kill(systemd.pid, signal.SIGKILL)
    eventually(lambda: not processes_of(home, runs_only=True))
