"""Each export is executed: the engine starts from it and answers, without Engine Room (E9, I18).

Script and unit are so for every family that is a program here; the built ones with `./packaging/test --engines`.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import tomli_w

from tests.end2end.commands import Commands
from tests.rig.daemon import Daemon
from tests.rig.home import Home
from tests.rig.ports import free_port
from tests.rig.real_engines import ENGINES, put_into
from tests.rig.waiting import eventually
from tests.rig.written import compose, unit

DEMO = Path(__file__).resolve().parents[2] / "resources" / "models" / "engine-room-demo.gguf"
TITLE = 'My "own" model\n$HOME 100 %'
SECRET = "hf_CanaryCanaryCanaryCanary0123456789"
ODD = 'a b\n$HOME ${X} %h "it\'s" \\n é'


KEYS = {"llama-cpp-python": "API_KEY"}  # the variable of a family's own API key; LLAMA_API_KEY of the others


@pytest.fixture
def family() -> str:
    return "llama.cpp"


@pytest.fixture
def profile(home: Home, family: str) -> str:
    """A profile whose paths, arguments and variables hold what quoting rules can spoil."""
    put_into(home, family)
    folder = home.models / 'it\'s a "folder" of $HOME 100 %h'
    folder.mkdir()
    model = folder / "démo -- model.gguf"
    shutil.copy(DEMO, model)
    whole = {
        "title": TITLE,
        "engine": family,
        "model": str(model),
        "settings": {"context_tokens": 512, "threads": 1},
        "environment": {"ODD_VALUE": ODD, "HF_TOKEN": SECRET},
    }
    (home.paths.profiles / "odd.toml").write_text(tomli_w.dumps(whole), "utf-8")
    return "odd"


@contextmanager
def running(argv: list[str], environment: dict[str, str], port: int) -> Iterator[subprocess.Popen[bytes]]:
    """The engine, once it answers on the port; ended as a person would end it."""
    process = subprocess.Popen(argv, env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        ready = (200, 404)  # llama-cpp-python has no such page, and listens only once its model is loaded

        def answers() -> bool:
            if process.poll() is not None:
                assert process.stderr is not None
                raise RuntimeError(f"it ended with {process.returncode}: {process.stderr.read().decode()[-2000:]}")
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0 and get("/health").status_code in ready

        def get(path: str) -> httpx.Response:
            return httpx.get(f"http://127.0.0.1:{port}{path}", timeout=60)

        eventually(answers, 60, "the engine answers")
        yield process
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) in (0, -signal.SIGTERM)  # a clean end to systemd, too; uvicorn passes the signal on
    finally:
        process.kill()
        process.wait(60)
        assert process.stderr is not None
        process.stderr.close()


def chats(port: int, key: str = "") -> None:
    body = {"messages": [{"role": "user", "content": "hi"}], "temperature": 0}
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    answer = httpx.post(f"http://127.0.0.1:{port}/v1/chat/completions", json=body, headers=headers, timeout=60)
    assert answer.status_code == 200, answer.text
    assert "Engine Room" in answer.json()["choices"][0]["message"]["content"]


def environment_of(process: subprocess.Popen[bytes]) -> dict[str, str]:
    entries = Path(f"/proc/{process.pid}/environ").read_bytes().decode().split("\0")
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)


def exported(commands: Commands, kind: str, port: int, file: Path) -> str:
    done = commands.ok("export", "odd", "--as", kind, "--port", str(port), "-o", str(file))
    assert "HF_TOKEN" in done.err, "it says what is not in it"
    text = file.read_text("utf-8")
    assert SECRET not in text + done.out + done.err
    return text


@pytest.mark.parametrize("family", ENGINES)
def test_the_shell_script_starts_the_engine(
    home: Home, commands: Commands, daemon: Daemon, family: str, profile: str, tmp_path: Path
) -> None:
    daemon.start()
    port, other = free_port(), free_port()
    script = tmp_path / "odd.sh"
    exported(commands, "shell", port, script)
    assert script.stat().st_mode & 0o777 == 0o755
    clean = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"}
    refused = subprocess.run([str(script)], env=clean, capture_output=True, text=True, timeout=60)
    assert refused.returncode != 0
    assert "HF_TOKEN" in refused.stderr
    keys = tmp_path / ".config" / "engine-room" / "exports" / "odd.env"
    keys.parent.mkdir(parents=True)
    keys.write_text(f"HF_TOKEN={SECRET}\n{KEYS.get(family, 'LLAMA_API_KEY')}=a-key-of-mine\n")
    inherited = {**clean, "LLAMA_ARG_CTX_SIZE": "17", "ENGINE_PORT": str(other)}
    with running([str(script)], inherited, other) as process:
        chats(other, "a-key-of-mine")
        without = httpx.post(f"http://127.0.0.1:{other}/v1/chat/completions", json={"messages": []}, timeout=60)
        assert without.status_code == 401
        seen = environment_of(process)
        assert (seen["ODD_VALUE"], seen["HF_TOKEN"]) == (ODD, SECRET)
        assert "LLAMA_ARG_CTX_SIZE" not in seen
    assert port != other


@pytest.mark.parametrize("family", ENGINES)
def test_the_systemd_unit_starts_the_engine(commands: Commands, daemon: Daemon, profile: str, tmp_path: Path) -> None:
    daemon.start()
    port = free_port()
    file = tmp_path / "engine-room-odd.service"
    text = exported(commands, "systemd", port, file)
    assert file.stat().st_mode & 0o777 == 0o600
    if shutil.which("systemd-analyze"):
        verify = ["systemd-analyze", "--user", "verify", str(file)]
        about = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
        done = subprocess.run(verify, env=about, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout + done.stderr) == (0, "")
    started = unit(text, str(tmp_path))
    assert started.raw["EnvironmentFile"] == "%h/.config/engine-room/exports/odd.env"
    manager = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "CUDA_VISIBLE_DEVICES": "3"}
    environment = {**manager, **started.environment, "HF_TOKEN": SECRET}
    for name in started.unset:
        environment.pop(name, None)
    with running(started.argv, environment, port) as process:
        chats(port)
        seen = environment_of(process)
        assert seen["ODD_VALUE"] == ODD
        assert "CUDA_VISIBLE_DEVICES" not in seen


def test_systemd_runs_the_unit(commands: Commands, daemon: Daemon, profile: str, tmp_path: Path) -> None:
    """Where a user manager runs, it starts the unit itself; elsewhere the test above reads the unit by its rules."""
    if (
        not shutil.which("systemctl")
        or subprocess.run(["systemctl", "--user", "show-environment"], capture_output=True).returncode
    ):
        pytest.skip("no systemd user manager runs here")
    daemon.start()
    port = free_port()
    name = f"engine-room-odd-{port}.service"
    text = exported(commands, "systemd", port, tmp_path / name)
    text = text.replace("EnvironmentFile=%h/", "EnvironmentFile=-%h/")
    (tmp_path / name).write_text(text, "utf-8")
    subprocess.run(["systemctl", "--user", "link", "--runtime", str(tmp_path / name)], check=True, capture_output=True)
    try:
        subprocess.run(["systemctl", "--user", "start", name], check=True, capture_output=True)
        eventually(lambda: httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200, 60, "it answers")
        chats(port)
    finally:
        subprocess.run(["systemctl", "--user", "disable", "--runtime", "--now", name], capture_output=True)


def test_the_compose_file_starts_the_engine(
    commands: Commands, daemon: Daemon, profile: str, tmp_path: Path, embedded_python: Path
) -> None:
    """No container here: entrypoint and command run as they are, with the mounts mapped back and a `pip` that says what
    it was asked for. What stands for the network is that the published address takes the place of the container's."""
    daemon.start()
    port = free_port()
    file = tmp_path / "odd.compose.yaml"
    text = exported(commands, "compose", port, file)
    with pytest.raises(AssertionError, match=r"HF_TOKEN: put HF_TOKEN=\.\.\. into odd\.env"):
        compose(text)
    started = compose(text, {"HF_TOKEN": SECRET})
    assert started.raw["ports"] == [f"127.0.0.1:{port}:{port}"]
    inside = tmp_path / "container"
    inside.mkdir()
    (inside / "pip").write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > "{inside}/asked"\n')
    (inside / "python").write_text(f'#!/bin/sh\nexec "{embedded_python}" "$@"\n')
    for program in inside.iterdir():
        program.chmod(0o755)
    back = {volume["target"]: volume["source"] for volume in started.raw["volumes"]}
    assert all(Path(source).exists() for source in back.values())
    argv = [back.get(word, "127.0.0.1" if word == "0.0.0.0" else word) for word in started.argv]
    environment = {"PATH": f"{inside}{os.pathsep}{os.environ['PATH']}", **started.environment}
    with running(argv, environment, port) as process:
        chats(port)
        seen = environment_of(process)
        assert (seen["ODD_VALUE"], seen["HF_TOKEN"]) == (ODD, SECRET)
    asked = (inside / "asked").read_text().split()
    assert asked[-1].startswith("xllamacpp==")


def test_an_export_goes_to_stdout_alone_and_never_over_another_file(
    commands: Commands, daemon: Daemon, profile: str, tmp_path: Path
) -> None:
    daemon.start()
    done = commands.ok("export", "odd", "--as", "shell")
    assert done.out.startswith("#!/usr/bin/env bash\n")
    assert "HF_TOKEN" in done.err
    whole = commands.ok("export", "odd", "--as", "compose", "--json").json
    assert (whole["file_name"], bool(whole["notes"])) == ("odd.compose.yaml", True)
    file = tmp_path / "there"
    file.write_text("mine")
    refused = commands.refused(2, "export", "odd", "--as", "shell", "-o", str(file))
    assert "--force" in refused.err
    assert file.read_text() == "mine"
    commands.ok("export", "odd", "--as", "shell", "-o", str(file), "--force")
    assert file.stat().st_mode & 0o777 == 0o755
    assert file.read_text().startswith("#!")
    assert "systemd" in commands.refused(2, "export", "odd", "--as", "snap").err
    assert "port" in commands.refused(2, "export", "odd", "--as", "shell", "--port", "0").err
    assert commands.refused(10, "export", "odd", "--as", "shell", "-o", str(tmp_path / "no" / "file")).err


def test_the_command_before_a_launch_is_the_one_of_the_launch(commands: Commands, daemon: Daemon, profile: str) -> None:
    """E9: argv and environment are shown before and after, and differ by the port alone."""
    daemon.start()
    before = commands.ok("command", "odd", "--set", "context_tokens=640", "--json").json
    assert "640" in before["argv"]
    assert SECRET not in json.dumps(before)
    run = daemon.load("odd", settings={"context_tokens": 640}).run
    assert run is not None
    port = run.argv.index("--port") + 1
    after = [*run.argv[:port], "0", *run.argv[port + 1 :]]
    assert after == before["argv"]
    assert before["environment"].items() <= dict(run.environment).items()
    assert run.environment["HF_TOKEN"] == "***"
