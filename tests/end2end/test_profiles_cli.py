"""Profiles and settings on the command line: shown, changed, copied, removed; what an engine can be told is told."""

from pathlib import Path

from app.core.control import OptionsView
from app.core.snapshot import from_json
from tests.end2end.commands import Commands
from tests.rig.daemon import Daemon
from tests.rig.engines import FakeEngine
from tests.rig.home import Home


def test_a_profile_is_shown_changed_copied_and_removed(
    home: Home, fake_engine: FakeEngine, commands: Commands, daemon: Daemon
) -> None:
    fake_engine.profile("one", environment={"HF_TOKEN": "canary-value-81"})
    file = home.paths.profiles / "one.toml"
    file.write_text("# mine\n" + file.read_text("utf-8"), "utf-8")
    daemon.start()

    shown = commands.ok("profiles", "show", "one").out
    assert shown.startswith("# mine\n")
    assert "canary-value-81" not in shown
    assert "canary-value-81" in commands.ok("profiles", "show", "one", "--secrets").out

    commands.ok(
        "profiles", "set", "one", "slots=3", "title=My one", "sampling.top_k=20", "settings.context_tokens=1024"
    )
    changed = file.read_text("utf-8")
    assert changed.startswith("# mine\n")
    assert 'title = "My one"' in changed
    assert "slots = 3" in changed
    assert "--parallel 3" in commands.ok("command", "one").out
    commands.ok("profiles", "set", "one", "slots=")
    assert "slots" not in file.read_text("utf-8")

    refused = commands.refused(8, "profiles", "set", "one", "slots=0", "kv_type_k=q9")
    assert "settings.slots: must be at least 1" in refused.err
    assert "settings.kv_type_k: must be one of" in refused.err, "all problems, not only the first"
    assert "context_tokens = 1024" in file.read_text("utf-8")

    commands.ok("profiles", "copy", "one", "two")
    assert 'title = "two"' in (home.paths.profiles / "two.toml").read_text("utf-8")
    assert "already" in commands.refused(8, "profiles", "copy", "one", "two").err
    kept = commands.ok("profiles", "remove", "two").out
    assert not (home.paths.profiles / "two.toml").exists()
    assert Path(kept.split("kept at ")[1].strip().rstrip(".")).is_file()
    assert "ships with Engine Room" in commands.refused(2, "profiles", "remove", "demo").err


def test_an_editor_s_text_is_checked_before_it_counts(
    home: Home, fake_engine: FakeEngine, commands: Commands, daemon: Daemon
) -> None:
    fake_engine.profile("one")
    daemon.start()
    file = home.paths.profiles / "one.toml"
    before = file.read_text("utf-8")
    assert "as it was" in commands.ok("profiles", "edit", "one", EDITOR="true").out
    refused = commands.refused(8, "profiles", "edit", "one", EDITOR="sh -c 'echo slots = = >> $0'")
    assert "not valid TOML" in refused.err
    assert file.read_text("utf-8") == before
    commands.ok("profiles", "edit", "one", EDITOR="sed -i s/2048/512/")
    assert "512" in file.read_text("utf-8")
    assert "could not be used" in commands.refused(1, "profiles", "edit", "one", EDITOR="/no/such/editor").err


def test_what_an_engine_can_be_told_is_told_without_a_service(home: Home, commands: Commands) -> None:
    lines = commands.ok("settings", "llama.cpp").out.splitlines()
    at = next(number for number, line in enumerate(lines) if line.split()[:1] == ["slots"])
    assert lines[at].split(maxsplit=1)[1] == "1 to 256; default 4"
    assert lines[at + 1].strip() == "How many requests are answered at once; they share the context."
    assert lines[at + 2].strip() == "--parallel"
    view = from_json(OptionsView, commands.ok("settings", "--json").out)
    assert set(view.families) >= {"llama.cpp", "llama-server", "llama-cpp-python"}
    assert "There are: llama.cpp" in commands.refused(8, "settings", "llamma").err


def test_a_preset_is_taken_for_one_launch(fake_engine: FakeEngine, commands: Commands, daemon: Daemon) -> None:
    fake_engine.profile("one", tokens=2)
    daemon.start()
    assert "--parallel 1 " in commands.ok("command", "one", "--preset", "low-latency").out
    commands.ok("load", "one", "--preset", "high-throughput")
    run = daemon.seat().run
    assert run is not None
    assert run.argv[run.argv.index("--parallel") + 1] == "16"
    assert "no preset" in commands.refused(8, "load", "one", "--preset", "fast").err
    assert "changed since" not in commands.ok("status").out
    commands.ok("profiles", "set", "one", "batch_tokens=99", 'extra_arguments=["--no-such-flag"]')
    daemon.wait_seat(lambda seat: seat.outdated)
    assert "one was changed since it was loaded: restart to apply." in commands.ok("status").out
    assert "! one: " in commands.ok("ls").out, "its flag is not in the engine's help"
