"""Engines that go, change or never fit while they are used, on real engines: a clear sentence each time, nothing lost, nothing left."""

import os
import shutil

import pytest

from app.core import lifecycle
from tests.end2end.commands import Commands
from tests.end2end.sweep import SURVIVAL_SECONDS
from tests.rig.custody import processes_of
from tests.rig.daemon import Daemon, chat_body
from tests.rig.engines import FakeEngine
from tests.rig.home import Home
from tests.rig.real_engines import RealEngine
from tests.rig.waiting import eventually

pytestmark = pytest.mark.slow


def own_copy_of_engines(home: Home) -> None:
    """Real folders in place of the links to the tests' common ones, so that they can be deleted."""
    for link in home.paths.engines.iterdir():
        if link.is_symlink():
            real = link.resolve()
            link.unlink()
            shutil.copytree(real, link, symlinks=True, copy_function=linked)


def linked(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # another file system
        shutil.copy2(source, target, follow_symlinks=False)


def test_an_engine_deleted_under_its_model_goes_on_and_the_next_load_says_how_to_get_it(
    real_engine: RealEngine, commands: Commands, daemon: Daemon
) -> None:
    """I11. What runs has its files open; what begins anew finds none."""
    home = real_engine.home
    own_copy_of_engines(home)
    real_engine.profile("noise", context_tokens=512)
    daemon.start()
    daemon.load("noise", 60)
    shutil.rmtree(home.paths.engines)
    with daemon.gateway() as client:
        answer = client.post("/chat/completions", json=chat_body("noise", max_tokens=8))
    assert answer.status_code == 200 or answer.json()["error"]["message"], "it goes on, or fails with a sentence"
    assert processes_of(home, runs_only=True)

    commands.ok("unload")
    refused = commands.refused(7, "load", "noise")
    assert f"engines install {real_engine.family}" in refused.err
    assert isinstance(daemon.seat().phase, lifecycle.Idle | lifecycle.Failed)
    eventually(lambda: not processes_of(home, runs_only=True), SURVIVAL_SECONDS, "nothing is left (I1)")


def test_a_profile_edited_under_its_model_counts_from_the_next_load_on(
    real_engine: RealEngine, commands: Commands, daemon: Daemon
) -> None:
    """A saved change touches no run; a broken one is told, and the model goes on."""
    home = real_engine.home
    real_engine.profile("noise", context_tokens=512)
    file = home.paths.profiles / "noise.toml"
    good = file.read_text("utf-8")
    daemon.start()
    first = daemon.load("noise", 60).run
    assert first is not None

    file.write_text(good.replace("512", "768"), "utf-8")
    changed = "768"
    daemon.wait_slice("library", lambda library: changed in str([card.profile.settings for card in library.profiles]))
    seat = daemon.wait_seat(lambda seat: seat.outdated, what="it is told that the profile is another one now")
    assert seat.run is not None
    assert (seat.run.id, seat.run.argv) == (first.id, first.argv)
    file.write_text(good.replace("512", '"lots"'), "utf-8")
    told = daemon.wait_slice("library", lambda library: library.problems or any(c.problem for c in library.profiles))
    assert "context_tokens" in str(told)
    assert isinstance(daemon.seat().phase, lifecycle.Ready)
    with daemon.gateway() as client:
        client.post("/chat/completions", json=chat_body("noise", max_tokens=4)).raise_for_status()

    file.write_text(good.replace("512", "768"), "utf-8")
    daemon.wait_slice("library", lambda library: changed in str([card.profile.settings for card in library.profiles]))
    commands.ok("unload")
    again = daemon.load("noise", 60).run
    assert again is not None
    assert again.id != first.id
    assert "768" in again.argv
    assert "768" not in first.argv


def test_a_program_for_another_processor_says_so(
    home: Home, fake_engine: FakeEngine, commands: Commands, daemon: Daemon
) -> None:
    """I11: it tells its version and its help, and meets its first unknown instruction with the model."""
    program = home.bin / "llama-server"
    real = fake_engine.install("the-real-one")
    program.write_text(f'#!/bin/sh\ncase "$1" in --version | --help) exec "{real}" "$@" ;; esac\nkill -ILL $$\n')
    fake_engine.profile("one")
    daemon.start()
    refused = commands.refused(6, "load", "one")
    assert "processor than this one" in refused.err
    assert not processes_of(home, runs_only=True)

    program.write_text("#!/bin/sh\nkill -ILL $$\n")
    listed = commands.ok("engines", "list", "--refresh").out
    assert "instructions that this processor lacks" in listed
    refused = commands.run("load", "one")
    assert refused.code in (6, 7)
    assert "processor" in refused.err


def test_a_version_that_the_index_does_not_have_is_told_by_its_name(commands: Commands, daemon: Daemon) -> None:
    daemon.start()
    refused = commands.refused(6, "engines", "install", "llama.cpp==1999.1.1", "--accelerator", "cpu")
    assert "1999.1.1" in refused.err
    assert not list(daemon.home.paths.engines.glob("*/"))
