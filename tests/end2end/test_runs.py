"""The verbs about runs, as a person uses them: which there were, what made one, and the same again."""

import msgspec

from app.core.control import Manifest
from app.core.conversation import made_by
from app.core.snapshot import Runs, SeatView, from_json
from app.ui.chat.store import ChatFile
from tests.end2end.commands import Commands
from tests.rig.daemon import Daemon
from tests.rig.engines import FakeEngine
from tests.rig.home import Home
from tests.rig.waiting import eventually

SECRET = "parakeet battery staple"


def whole_manifest(daemon: Daemon, run: str) -> Manifest:
    """With what is read beside the load."""

    def found() -> Manifest:
        return from_json(Manifest, daemon.get(f"/control/runs/{run}/manifest").content)

    eventually(lambda: found().engine_fingerprint, 20, "the fingerprints are known")
    return found()


def test_a_run_is_listed_shown_and_had_again(fake_engine: FakeEngine, commands: Commands, daemon: Daemon) -> None:
    fake_engine.profile("one", tokens=3, environment={"MY_PASSWORD": SECRET})
    daemon.start()
    assert commands.ok("runs").out == "No engine has run yet.\n"
    assert "No engine has run yet" in commands.refused(4, "manifest").err
    daemon.load("one", settings={"context_tokens": 1024})
    (first,) = (run.id for run in daemon.slices()["runs"].runs)
    row = commands.ok("runs").out
    assert row.startswith(first)
    assert all(word in row for word in ("one", "running", "llama-server", "ready after"))

    then = whole_manifest(daemon, first)
    text = commands.ok("manifest").out
    assert SECRET not in text
    lines = [line.split(maxsplit=1) for line in text.splitlines()]
    told = dict(lines)
    assert told["run"].startswith(first)
    assert told["print"] == then.model_fingerprint
    assert ["setting", "context_tokens = 1024"] in lines
    assert "--ctx-size 1024" in told["command"]
    assert ["variable", "MY_PASSWORD='***'"] in lines
    assert any(key == "stage" and "first_token" in value for key, value in lines)

    daemon.unload()
    seat = from_json(SeatView, commands.ok("again", first, "--json").out)
    assert seat.run is not None
    assert "1024" in seat.run.argv
    assert seat.run.id in commands.ok("again", first).out, "it is like that already: nothing is loaded anew"
    runs = from_json(Runs, commands.ok("runs", "--json").out).runs
    assert [run.id for run in runs] == [seat.run.id, first]
    assert whole_manifest(daemon, seat.run.id).as_run == first
    assert f"like run   {first}" in commands.ok("manifest", seat.run.id).out


def test_what_cannot_be_had_again_says_why(fake_engine: FakeEngine, commands: Commands, daemon: Daemon) -> None:
    model = fake_engine.model("mine")
    fake_engine.profile("one", tokens=3, model=model)
    daemon.start()
    run = daemon.load("one").run
    assert run is not None
    whole_manifest(daemon, run.id)
    with model.open("ab") as file:
        file.write(b"\0" * 4096)
    refused = commands.refused(4, "again", run.id, "--json")
    assert refused.json["kind"] == "model_changed"
    assert "--force" in refused.err
    assert "is ready as it was" in commands.ok("again", run.id, "--force").out
    assert "no run nonsense" in commands.refused(4, "again", "nonsense").err


def test_an_answer_in_the_terminal_keeps_what_made_it(
    home: Home, fake_engine: FakeEngine, commands: Commands, daemon: Daemon
) -> None:
    """It is there when the run is not known to the service any more."""
    home.settings(logs={"runs_kept": 1})
    fake_engine.profile("one", tokens=3)
    fake_engine.profile("two", tokens=3)
    run = daemon.start().load("one").run
    assert run is not None
    then = whole_manifest(daemon, run.id)
    commands.ok("chat", "hello")
    daemon.load("two")
    commands.refused(4, "manifest", run.id)
    chats = ChatFile(home.paths.chats)
    (answer,) = [m for c in chats.conversations() for m in chats.messages(c.id) if m.role == "assistant"]
    chats.close()
    assert answer.run_id == run.id
    assert answer.made_by == made_by(then)
    assert answer.made_by is not None
    assert msgspec.structs.asdict(answer.made_by)["settings"]["context_tokens"] == 2048
