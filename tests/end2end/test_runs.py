"""The verbs about runs, as a person uses them: which there were, what made one, and the same again."""

from pathlib import Path

import msgspec

from app.core.control import Manifest
from app.core.conversation import made_by
from app.core.snapshot import Runs, SeatView, from_json
from app.daemon.manifests import identity
from app.ui.chat.store import ChatFile
from tests.end2end.commands import Commands
from tests.engines.tiny_model import write_tiny_model
from tests.rig.daemon import Daemon, chat_body
from tests.rig.engines import FakeEngine
from tests.rig.home import Home
from tests.rig.real_engines import RealEngine, write_profile
from tests.rig.waiting import eventually

SECRET = "parakeet battery staple"


def whole_manifest(daemon: Daemon, run: str) -> Manifest:
    """With what is read beside the load."""

    def found() -> Manifest:
        return from_json(Manifest, daemon.get(f"/control/runs/{run}/manifest").content)

    eventually(lambda: found().engine_fingerprint, 60, "the fingerprints are known")
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


def test_a_run_of_a_real_engine_is_kept_as_it_was_and_had_again(
    real_engine: RealEngine, home: Home, tmp_path: Path, commands: Commands, daemon: Daemon
) -> None:
    """Its manifest is what /proc says of its process; the same again is that launch, whatever its profile says by now."""
    model = write_tiny_model(tmp_path / "tiny.gguf")

    def profile(context_tokens: int) -> None:
        write_profile(home, "tiny", real_engine.family, model, context_tokens=context_tokens, batch_tokens=64)

    def loaded_process() -> tuple[list[str], dict[str, str]]:
        """Command line and environment of the engine as the kernel has them, less what every run has of its own."""
        at = Path(f"/proc/{daemon.engine_pid()}")
        argv, variables = ((at / name).read_text().split("\0")[:-1] for name in ("cmdline", "environ"))
        port = argv.index("--port") + 1
        return [*argv[:port], *argv[port + 1 :]], dict(entry.split("=", 1) for entry in variables)

    def answer(run_id: str) -> str:
        with daemon.gateway() as client:
            asked = chat_body("tiny", max_tokens=8, temperature=0, seed=1)
            came = client.post("/chat/completions", json=asked).raise_for_status()
        assert came.headers["X-Engine-Room-Run"] == run_id
        return str(came.json()["choices"][0]["message"]["content"])

    profile(512)
    run = daemon.start().load("tiny", settings={"threads": 1}).run
    assert run is not None
    found = whole_manifest(daemon, run.id)
    argv, variables = loaded_process()
    port = found.run.argv.index("--port") + 1
    assert [*found.run.argv[:port], *found.run.argv[port + 1 :]] == argv
    shown = {name: value for name, value in found.run.environment.items() if value != "***"}
    assert shown.items() <= variables.items()
    assert (found.settings["threads"], found.settings["context_tokens"], found.settings["batch_tokens"]) == (1, 512, 64)
    assert (found.model_path, found.model_bytes) == (str(model), model.stat().st_size)
    assert found.model_fingerprint == identity(model).fingerprint
    assert found.installation is not None
    assert found.installation.family == real_engine.family
    assert found.installation.version
    assert found.engine_fingerprint
    phases = ["reading", "weights", "kv_cache", "graphs", "warm_up", "first_token"]
    assert list(found.stages) == [name for name in phases if name in found.stages], "in their order"
    assert {"weights", "kv_cache"} <= found.stages.keys()
    times = list(found.stages.values())
    assert found.run.ready_seconds is not None
    assert times == sorted(times)
    assert 0 < times[-1] <= found.run.ready_seconds
    words = answer(run.id)

    profile(256)
    daemon.wait_slice("library", lambda it: any(c.profile.settings.get("context_tokens") == 256 for c in it.profiles))
    daemon.unload()
    daemon.wait_idle()
    seat = from_json(SeatView, commands.ok("again", run.id, "--json").out)
    assert seat.run is not None
    assert seat.run.id != run.id
    again_argv, again_variables = loaded_process()
    assert again_argv == argv
    assert {name: again_variables[name] for name in shown} == shown
    second = whole_manifest(daemon, seat.run.id)
    assert second.as_run == run.id
    assert (second.model_fingerprint, second.engine_fingerprint) == (found.model_fingerprint, found.engine_fingerprint)
    assert second.settings == found.settings
    assert answer(seat.run.id) == words


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
