"""Engines as a person meets them on the command line: found, added, pinned, missed, deleted under a running model (E7)."""

import shutil
from pathlib import Path

import pytest
import tomli_w

from app.core import lifecycle
from app.core.snapshot import Engines, EngineView, InstallationView, from_json
from tests.end2end.commands import Commands
from tests.rig.custody import end, processes_of
from tests.rig.daemon import Daemon, chat_body
from tests.rig.engines import FakeEngine
from tests.rig.home import Home
from tests.rig.programs import write_script
from tests.rig.waiting import eventually


def native(engines: object) -> EngineView:
    assert isinstance(engines, Engines)
    return next(row for row in engines.families if row.family == "llama-server")


def build(home: Home, fake_engine: FakeEngine, folder: Path) -> Path:
    """A second build of the stand-in, in a folder of its own."""
    made = fake_engine.install("made-for-moving")
    folder.mkdir(parents=True, exist_ok=True)
    return Path(shutil.move(made, folder / "llama-server"))


def at(view: EngineView, path: Path) -> InstallationView:
    return next(row for row in view.installations if row.path == str(path))


def test_a_second_build_is_added_pinned_used_and_given_back(
    home: Home, fake_engine: FakeEngine, commands: Commands, daemon: Daemon, tmp_path: Path
) -> None:
    fake_engine.profile("one", tokens=3)
    first, second = home.bin / "llama-server", build(home, fake_engine, tmp_path / "mine")
    daemon.start()
    assert "Found: llama-server" in commands.ok("engines", "add", str(second.parent)).out
    view = native(from_json(Engines, commands.ok("engines", "list", "--refresh", "--json").out))
    assert (view.path, at(view, first).version) == (str(first), "b7000")
    assert "--help" not in str(fake_engine.journal("start")), "asking starts no engine"

    assert at(view, second).id in commands.ok("engines", "pin", "llama-server", at(view, second).id).out
    commands.ok("load", "one")
    seat = daemon.seat()
    assert seat.run is not None
    assert (seat.run.argv[0], seat.run.engine_build) == (str(second), "b7000 (standin)")
    daemon.wait_slice("engines", lambda engines: at(native(engines), second).in_use)
    listed = commands.ok("engines", "list").out
    assert f"* {at(view, second).id}" in listed

    commands.ok("engines", "unpin", "llama-server")
    commands.ok("load", "one", "--override")
    commands.ok("restart")
    run = daemon.seat().run
    assert run is not None
    assert run.argv[0] == str(first)
    commands.ok("engines", "add", "--forget", str(second.parent))
    assert str(second) not in commands.ok("engines", "list").out


def test_what_cannot_be_is_refused_with_its_kind(
    home: Home, fake_engine: FakeEngine, commands: Commands, daemon: Daemon
) -> None:
    daemon.start()
    assert "There is no installation" in commands.refused(7, "engines", "pin", "llama-server", "nonsense").err
    assert "There are: llama.cpp" in commands.refused(2, "engines", "pin", "nonsense", "x").err
    assert "nothing at" in commands.refused(2, "engines", "add", "/nowhere/at/all").err
    assert "no engine is pinned, 0 places added" in commands.run("doctor").out
    home.paths.engine_choices.write_text("pins = [broken")
    assert "engines.toml" in commands.refused(8, "engines", "unpin", "llama-server").err
    assert home.paths.engine_choices.read_text() == "pins = [broken"
    (row,) = [check for check in commands.run("doctor", "--json").json["checks"] if check["name"] == "engine choices"]
    assert not row["ok"]
    assert str(home.paths.engine_choices) in row["summary"]
    assert "move the file away" in row["advice"]


def test_a_profile_whose_engine_is_not_there_says_how_to_get_it(
    home: Home, fake_engine: FakeEngine, commands: Commands, daemon: Daemon
) -> None:
    fake_engine.profile("pinned", tokens=3, table={"installation": "llama-server-00000000"})
    fake_engine.profile("other", table={"engine": "llama-cpp-python"})
    daemon.start()
    rows = commands.ok("ls").out.splitlines()
    said = next(row for row in rows if row.startswith("pinned"))
    assert "llama-server-00000000" in said
    assert "not there" in said
    refused = commands.refused(7, "load", "pinned").err
    there = native(daemon.wait_slice("engines", lambda engines: native(engines).available)).installations[0]
    assert there.id in refused, "the installations that are there are named"
    assert "llama-cpp-python is not installed" in commands.refused(7, "load", "other").err

    fake_engine.profile("pinned", tokens=3, table={"installation": there.id})
    daemon.wait_slice(
        "library", lambda library: any(c.profile.id == "pinned" and c.engine_available for c in library.profiles)
    )
    commands.ok("load", "pinned")


def test_an_engine_that_is_deleted_under_a_running_model(
    home: Home, fake_engine: FakeEngine, commands: Commands, daemon: Daemon
) -> None:
    """The model goes on; the next start says what is missing, and the seat stays usable."""
    fake_engine.profile("one", tokens=3)
    daemon.start()
    commands.ok("load", "one")
    (home.bin / "llama-server").unlink()
    daemon.wait_slice("engines", lambda engines: not native(engines).available)
    assert isinstance(daemon.seat().phase, lifecycle.Ready)
    with daemon.gateway() as client:
        assert (
            client.post("/chat/completions", json={"messages": [{"role": "user", "content": "x"}]}).status_code == 200
        )

    pid = daemon.engine_pid()
    end(next(process for process in processes_of(home) if process.pid == pid))
    failure = daemon.wait_seat(lambda seat: isinstance(seat.phase, lifecycle.Failed), what="a failure").phase.failure
    assert failure.kind == "engine_not_installed"
    assert "llama-server" in failure.summary
    assert failure.advice
    assert "llama-server" in commands.refused(7, "load", "one").err
    fake_engine.install("llama-server")
    daemon.wait_slice("engines", lambda engines: native(engines).available)
    commands.ok("load", "one")


def test_a_help_that_hangs_costs_nobody_anything(
    home: Home, fake_engine: FakeEngine, commands: Commands, daemon: Daemon
) -> None:
    """I1: the model loads meanwhile, and the service takes the question with it when it leaves."""
    real = fake_engine.install("the-real-one")
    write_script(
        home.bin / "llama-server",
        f'[ "$1" = --help ] && touch "{home.folder}/asked" && sleep 1000\nexec "{real}" "$@"',
    )
    fake_engine.profile("one", tokens=3)
    daemon.start()
    commands.ok("load", "one")
    assert native(daemon.wait_slice("engines", lambda engines: native(engines).available)).build
    commands.ok("quit")
    eventually(lambda: not processes_of(home))


@pytest.mark.parametrize(
    ("says", "note"),
    [
        ("echo 'version: 99.1.0 (build 99999, commit 0c1e57098)'", "99.1.0 is newer than"),
        ("echo 'a build of my own'", "does not say which version it is"),
    ],
)
def test_an_engine_of_a_version_that_nobody_knows_loads_and_answers(
    home: Home, fake_engine: FakeEngine, commands: Commands, daemon: Daemon, says: str, note: str
) -> None:
    """Bad input: it is used all the same, and the list keeps saying what is odd about it."""
    real = fake_engine.install("the-real-one")
    write_script(home.bin / "llama-server", f'[ "$1" = --version ] && {says} && exit 0\nexec "{real}" "$@"')
    fake_engine.profile("one", tokens=3)
    daemon.start()
    view = native(
        daemon.wait_slice("engines", lambda engines: note in at(native(engines), home.bin / "llama-server").note)
    )
    assert view.available
    for loaded in (False, True):
        listed = commands.ok("engines", "list").out
        assert note in listed, "before and after it is loaded"
        assert "should work" in listed
        if not loaded:
            commands.ok("load", "one")
    with daemon.gateway() as client:
        answer = client.post("/chat/completions", json=chat_body("one"))
    assert answer.status_code == 200
    assert answer.json()["choices"][0]["message"]["content"].startswith("one")


def test_the_doctor_names_engines_and_a_pin_that_leads_nowhere(
    home: Home, fake_engine: FakeEngine, commands: Commands, daemon: Daemon
) -> None:
    home.paths.engine_choices.write_text(tomli_w.dumps({"pins": {"llama-server": "llama-server-00000000"}}))
    daemon.start()
    done = commands.run("doctor")
    assert done.code == 1
    row = next(line for line in done.out.splitlines() if "engine llama-server" in line)
    assert row.startswith("✗")
    assert "unpin llama-server" in row
