"""Bad input, row by row, as a person meets it: a sentence with what to do, nothing started, nothing lost.

Where each row of the list is held (here unless another place is named):
missing, truncated, garbage GGUF      here; on the cards in tests/daemon/test_library.py, byte by byte in tests/core/catalog
unknown architecture                  here, on the real built-in engine
TOML: wrong type, unknown key         here; all problems of a file in tests/core/test_profiles.py
duplicate id, taken alias             tests/daemon/test_library.py
a taken port                          here (the endpoint's); an engine's in tests/daemon/test_supervision_load.py
no write permission                   here
disk full                             here (settings, database); chats in tests/ui/chat/test_chat_store.py
engine missing or not executable      here and tests/daemon/test_supervision_load.py
context larger than the machine       here
a second daemon, a dead one's socket  tests/daemon/test_supervision_custody.py
a socket path too long                here; tests/core/test_paths.py
a client that speaks garbage          here; tests/daemon/test_supervision_load.py, tests/daemon/gateway/test_security.py (HTTP)
broken settings                       here; tests/core/test_settings.py
no python3-venv                       tests/packaging/test_launcher.py
"""

import json
import re
import resource
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from app.core import control, lifecycle
from app.core.errors import StorageError
from app.core.paths import SOCKET_PATH_LIMIT
from app.core.snapshot import from_json
from app.engines.base import Installation
from tests.end2end.commands import Commands
from tests.rig.custody import processes_of
from tests.rig.daemon import Daemon
from tests.rig.engines import FakeEngine
from tests.rig.home import Home
from tests.rig.ports import free_port
from tests.rig.waiting import eventually

# --- models ----------------------------------------------------------------------------------------------------------


def test_a_model_file_that_is_missing_cut_or_garbage(
    home: Home, fake_engine: FakeEngine, commands: Commands, daemon: Daemon
) -> None:
    """The file is named, the loaded model stays, nothing is started, and the files are left as they are."""
    cut = fake_engine.model("cut")
    whole = cut.read_bytes()
    cut.write_bytes(whole[: len(whole) // 2])
    garbage = home.models / "garbage.gguf"
    garbage.write_bytes(b"\x89PNG" * 500)
    fake_engine.profile("good", tokens=2)
    fake_engine.profile("missing", model=home.models / "missing.gguf")
    fake_engine.profile("cut", model=cut)
    fake_engine.profile("garbage", model=garbage)
    daemon.start().load("good")
    for profile in ("missing", "cut", "garbage"):
        done = commands.refused(4, "load", profile)
        assert f"{profile}.gguf" in done.err
    listed = commands.ok("ls").out
    assert "good" in listed
    assert isinstance(daemon.seat().phase, lifecycle.Ready)
    assert [start["alias"] for start in fake_engine.journal("start")] == ["good"]
    assert len(cut.read_bytes()) == len(whole) // 2


def test_an_architecture_that_the_engine_does_not_know(
    home: Home, fake_engine: FakeEngine, commands: Commands, daemon: Daemon, embedded_engine: Installation
) -> None:
    """Only the engine can know: its own words become a cause, and no second try is made."""
    strange = fake_engine.model("strange", architecture="not-invented-yet")
    fake_engine.profile("strange", model=strange, table={"engine": embedded_engine.family})
    daemon.start()
    done = commands.refused(6, "load", "strange", "--json")
    assert "not-invented-yet" in done.err
    assert done.json["advice"]
    assert not processes_of(home, runs_only=True)


def test_profiles_with_mistakes_are_told_by_file_and_key_and_the_others_work(
    home: Home, fake_engine: FakeEngine, commands: Commands, daemon: Daemon
) -> None:
    fake_engine.profile("fine", tokens=2)
    fake_engine.profile("wrong-type", settings={"context_tokens": "many"})
    fake_engine.profile("unknown-key", settings={"contxt_tokens": 5})
    (home.paths.profiles / "no-toml.toml").write_text("engine = = 1")
    daemon.start()
    listed = commands.ok("ls").out
    for file, key in (("wrong-type", "context_tokens"), ("unknown-key", "contxt_tokens"), ("no-toml", "")):
        assert any(f"{file}.toml" in line and key in line for line in listed.splitlines()), (file, listed)
    done = commands.refused(4, "load", "wrong-type")
    assert "fine" in done.err, "what can be loaded is named"
    commands.ok("load", "fine")


def test_a_context_larger_than_the_machine_is_refused_with_numbers_before_launch(
    home: Home, fake_engine: FakeEngine, commands: Commands, daemon: Daemon
) -> None:
    """The kernel would kill the engine, or worse, another program."""
    model = fake_engine.model("wide", layers=64, embedding=8192, heads=64, kv_heads=64, context=2**31)
    fake_engine.profile("wide", model=model, settings={"context_tokens": 4_000_000})
    daemon.start()
    done = commands.refused(5, "load", "wide")
    assert done.err.count("GiB") >= 2, "what it needs and what there is"
    assert fake_engine.journal("start") == []


# --- engines ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gone", "not executable", "no program", "wrong interpreter"])
def test_an_engine_that_is_missing_or_cannot_run(
    kind: str, home: Home, fake_engine: FakeEngine, commands: Commands, daemon: Daemon
) -> None:
    fake_engine.profile("one")
    program = home.bin / "llama-server"
    match kind:
        case "gone":
            program.unlink()
        case "not executable":
            program.chmod(0o644)
        case "no program":
            program.write_bytes(b"\x7fELF nonsense")
        case _:
            program.write_text("#!/nowhere/python3\n")
    daemon.start()
    done = commands.run("load", "one")
    assert done.code in ((7,) if kind in ("gone", "not executable") else (6, 7)), done
    assert "llama-server" in done.err
    assert not processes_of(home, runs_only=True)


# --- the endpoint's port ---------------------------------------------------------------------------------------------


def test_a_taken_port_is_not_fought_for_and_the_other_one_is_remembered(home: Home, daemon: Daemon) -> None:
    """S5: the holder is named; editors keep working after a restart, because the fallback stays the same."""
    daemon.expect_warnings(r"Port \d+ is held by")
    script = "import socket, sys; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); print('here', flush=True); input()"
    port = str(free_port())
    with subprocess.Popen(
        [sys.executable, "-c", script, port], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "here\n"
        try:
            daemon.start(ENGINE_ROOM_GATEWAY__PORT=port)
            service = daemon.wait_slice("service", lambda value: value.gateway_notice)
            assert str(holder.pid) in service.gateway_notice
            assert port in service.gateway_notice
            fallback = service.gateway_url
            daemon.restart(ENGINE_ROOM_GATEWAY__PORT=port)
            assert daemon.gateway_url == fallback
        finally:
            holder.communicate("\n")
    daemon.restart(ENGINE_ROOM_GATEWAY__PORT=port)
    assert f":{port}/" in daemon.gateway_url, "free again: the wanted one is used"


# --- folders and files -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variable", ["XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"])
def test_a_folder_that_cannot_be_written_is_named_and_the_doctor_still_helps(
    variable: str, commands: Commands, daemon: Daemon, tmp_path: Path
) -> None:
    """A file stands where the folder should be: it refuses root too, as a forbidden folder refuses others."""
    daemon.expect_warnings("obstacle")
    obstacle = tmp_path / "obstacle"
    obstacle.write_text("here already")
    words = {variable: str(obstacle)}
    for verb in (("serve",), ("ls",)):
        done = commands.refused(10, *verb, **words)
        assert str(obstacle) in done.err
    report = from_json(control.Report, commands.run("doctor", "--json", **words).out)
    wrong = [check for check in report.checks if not check.ok]
    assert any(str(obstacle) in check.summary and "cannot be written" in check.summary for check in wrong)
    assert obstacle.read_text() == "here already"


def test_a_full_disk_stops_no_unload_and_loses_no_setting(
    home: Home, fake_engine: FakeEngine, commands: Commands, daemon: Daemon
) -> None:
    """A limit on file size stands for the full disk: the system refuses each write in the same way."""
    daemon.expect_warnings("cannot be written")
    fake_engine.profile("one", tokens=2)
    home.settings(memory={"threshold": 0.9})
    before = home.paths.settings_file.read_bytes()
    daemon.start().load("one")
    soft, hard = resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (1, hard))
    with pytest.raises(StorageError, match="old content is kept") as refused:
        daemon.post("/control/settings", {"values": {"memory.threshold": 0.8}})
    assert refused.value.kind == "disk_full"
    assert home.paths.settings_file.read_bytes() == before
    commands.ok("unload")
    problems = daemon.wait_slice("service", lambda service: service.problems).problems
    assert "kept in memory" in problems[0].summary
    failed = commands.run("load", "one")
    assert failed.code in (0, 6, 10), failed
    resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (soft, hard))
    commands.ok("load", "one")
    daemon.wait_slice("service", lambda service: not service.problems)
    daemon.post("/control/settings", {"values": {"memory.threshold": 0.8}})
    assert b"0.8" in home.paths.settings_file.read_bytes()


@pytest.mark.parametrize(
    ("text", "told"),
    [("[gateway]\nport = 'seven'\n", "gateway.port"), ("[gatway]\n", "gatway"), ("[gateway\n", "not valid TOML")],
)
def test_broken_settings_are_told_by_file_and_key(
    text: str, told: str, home: Home, commands: Commands, daemon: Daemon
) -> None:
    daemon.expect_warnings(re.escape(told))
    home.paths.settings_file.write_text(text)
    home.environment.pop("ENGINE_ROOM_GATEWAY__PORT")
    for verb in (("serve",), ("load", "one", "--json")):
        done = commands.refused(8, *verb)
        assert str(home.paths.settings_file) in done.err
        assert told in done.err
    doctor = commands.run("doctor")
    assert doctor.code == 1
    assert told in doctor.out
    assert "graphics" in doctor.out or "engine llama.cpp" in doctor.out, "the rest is checked all the same"
    assert home.paths.settings_file.read_text() == text


def test_a_wrong_variable_is_told_by_its_own_name(commands: Commands, daemon: Daemon) -> None:
    daemon.expect_warnings("gateway|GATEWAY")
    for name, value in (("ENGINE_ROOM_GATEWAY__PORT", "seven"), ("ENGINE_ROOM_GATEWAY", "seven")):
        done = commands.refused(8, "serve", **{name: value})
        assert name in done.err or "gateway" in done.err


def test_a_runtime_folder_whose_path_is_too_long_for_a_socket(home: Home, commands: Commands, tmp_path: Path) -> None:
    """A short folder is taken by itself, by the service and by the commands alike."""
    long = tmp_path / ("x" * 120)
    long.mkdir(mode=0o700)
    home.environment["XDG_RUNTIME_DIR"] = str(long)
    try:
        commands.ok("ls")
        report = from_json(control.Report, commands.ok("doctor", "--json").out)
        (check,) = (check for check in report.checks if check.name == "control socket")
        path = check.summary.rsplit(" (", 1)[0]
        assert len(path.encode()) <= SOCKET_PATH_LIMIT
        assert not path.startswith(str(tmp_path))
    finally:
        commands.run("quit")
    eventually(lambda: not Path(path).exists())
    shutil.rmtree(Path(path).parent)


# --- the control socket ----------------------------------------------------------------------------------------------

RAW = {
    "bytes that are no HTTP": b"\x00\xff\x16\x03\x01" * 4000,
    "a head without end": b"GET /control/hello HTTP/1.1\r\nX-Long: " + b"a" * 300_000,
    "very many headers": b"GET /control/hello HTTP/1.1\r\n" + b"".join(b"X-%d: 1\r\n" % n for n in range(50_000)),
    "half a request": b"POST /control/want HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
    "a length that is no number": b"POST /control/want HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n{}",
    "a negative length": b"POST /control/want HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n{}",
    "a broken chunk": b"POST /control/want HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "a method nobody knows": b"FROB /control/want HTTP/1.1\r\nHost: x\r\n\r\n",
    "a path that is no path": b"GET \xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
}
BODIES = {
    "no JSON": b"not json",
    "a list": b"[]",
    "null": b"null",
    "a wrong type": b'{"profile": ["x"]}',
    "a nested setting": b'{"profile": "one", "settings": {"context_tokens": {"a": 1}}}',
    "no profile": b"{}",
    "half a string": b'{"profile": "\xff\xfe"}',
    "deep nesting": b"[" * 100_000,
    "a surrogate": rb'{"profile": "\ud800"}',
    "a very long name": json.dumps({"profile": "x" * 500_000}).encode(),
    "a null byte": rb'{"profile": "a\u0000b"}',
    "too large": b" " * (2 * 1024**2),
}


def test_clients_that_speak_garbage_are_turned_away_while_others_are_served(
    home: Home, fake_engine: FakeEngine, commands: Commands, daemon: Daemon
) -> None:
    """Raw bytes, huge heads, half requests held open, wrong JSON: a sentence or a closed door, never a dead service."""
    fake_engine.profile("one", tokens=2)
    daemon.start().load("one")
    held: list[socket.socket] = []
    for raw in RAW.values():
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(60)
        client.connect(str(home.paths.socket))
        try:
            client.sendall(raw)
        except (BrokenPipeError, ConnectionResetError):
            pass  # turned away in the middle of it
        held.append(client)
        assert daemon.hello().started
    for what, body in BODIES.items():
        for path in ("/control/want", "/control/plan", "/control/settings"):
            if what == "no profile" and path == "/control/settings":
                continue
            answer = daemon.client.post(path, content=body, headers={"Content-Type": "application/json"})
            assert 400 <= answer.status_code < 500, (what, path, answer.text)
            assert answer.json()["summary"], (what, path)
            assert len(answer.content) < 100_000
    assert commands.ok("chat", "still there?").out == "one one\n"
    for client in held:
        client.close()
    assert isinstance(daemon.seat().phase, lifecycle.Ready)
    assert daemon.running


def test_a_start_that_fails_forgets_nothing(home: Home, fake_engine: FakeEngine, daemon: Daemon) -> None:
    """A door that cannot be opened ends the service with a sentence; the model that was wanted is back at the next start."""
    daemon.expect_warnings("control.sock|engine-room")
    fake_engine.profile("one", tokens=2)
    daemon.start().load("one")
    daemon.kill()
    folder = home.paths.socket.parent
    shutil.rmtree(folder)
    folder.write_text("not a folder")
    daemon.start(wait=False)
    assert daemon.wait_end() == 10
    assert str(folder) in daemon.log_text()
    assert "Traceback" not in daemon.log_text()
    folder.unlink()
    daemon.start()
    daemon.wait_phase(lifecycle.Ready, "one")
