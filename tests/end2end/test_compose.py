"""Docker Compose itself runs what was exported, against a real Docker; one test per Compose that is here (E4, E9, I18, I20)."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import tomli_w

from app.core.profiles import Profile
from app.daemon.exporting import export
from app.engines.base import Installation, Launch
from app.engines.containers import SERVER_IMAGES
from tests.core.test_export import NASTY
from tests.end2end.commands import Commands
from tests.end2end.test_exports import DEMO
from tests.engines.tiny_folder import write_tiny_folder
from tests.rig.daemon import Daemon
from tests.rig.docker import CARD_IMAGE, IMAGE
from tests.rig.docker.composing import PROGRAMS, compose_words
from tests.rig.docker.real import NETWORK, VARIABLE, RealDocker
from tests.rig.engines import FakeEngine
from tests.rig.home import Home
from tests.rig.ports import free_port
from tests.rig.waiting import eventually

SECRET = "hf_CanaryCanaryCanaryCanary0123456789"
ODD = 'a b\n$HOME ${X} %h "it\'s" \\n é #'
KEY = "key-$of #mine"
NEIGHBOUR = NETWORK.partition("/")[0]  # an address of the machine that is not the loopback

pytestmark = [
    pytest.mark.engines,
    pytest.mark.skipif(VARIABLE not in os.environ, reason=f"needs a real Docker service: {VARIABLE} names its program"),
    pytest.mark.parametrize("program", PROGRAMS),
]


class Composed:
    """Exports in a folder, run by one Docker Compose."""

    def __init__(self, docker: RealDocker, commands: Commands, program: list[str], folder: Path) -> None:
        self.docker, self.commands, self.program, self.folder = docker, commands, program, folder
        folder.mkdir()

    def write(self, profile: str, port: int) -> list[str]:
        """Exports the profile and returns the words that the notes tell to type, without `up`."""
        file = self.folder / f"{profile}.compose.yaml"
        done = self.commands.ok("export", profile, "--as", "compose", "--port", str(port), "-o", str(file))
        assert SECRET not in file.read_text("utf-8") + done.out + done.err
        told = done.err.partition("Run it with: docker compose ")[2].partition(" up;")[0]
        return told.split()

    def run(self, *words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        return self.docker.composed(*self.program, *words, folder=self.folder, **environment)

    def ok(self, *words: str, **environment: str) -> str:
        done = self.run(*words, **environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def container(self) -> str:
        (name,) = self.docker.there()
        return name

    def nothing_is_left(self) -> None:
        assert self.docker.there() == {}
        assert self.docker.said("volume", "ls", "--quiet") == ""
        networks = self.docker.said("network", "ls", "--format", "{{.Name}}").split()
        assert sorted(networks) == ["bridge", "host", "none"]


@pytest.fixture
def words(program: str) -> list[str]:
    return compose_words(program)


@pytest.fixture
def docker(words: list[str], home: Home, daemon: Daemon) -> Iterator[RealDocker]:
    docker = RealDocker(home).start()
    yield docker
    daemon.close()
    docker.close()


@pytest.fixture
def composed(words: list[str], docker: RealDocker, commands: Commands, tmp_path: Path) -> Composed:
    return Composed(docker, commands, words, tmp_path / "exports")


def answers(port: int) -> bool:
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)):
            return False
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health", timeout=60).status_code == 200
    except httpx.TransportError:
        return False  # published already, and nobody listens inside yet


def chat(port: int, model: str, key: str = "") -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "temperature": 0}
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx.post(f"http://127.0.0.1:{port}/v1/chat/completions", json=body, headers=headers, timeout=60)


def write_profile(home: Home, name: str, **whole: object) -> None:
    (home.paths.profiles / f"{name}.toml").write_text(tomli_w.dumps(whole), "utf-8")


def test_a_server_starts_with_every_word_and_key_as_it_was(
    composed: Composed, docker: RealDocker, home: Home, fake_engine: FakeEngine, daemon: Daemon
) -> None:
    """llama.cpp's own image: arguments, variables, keys, port, mount; its file in place, and gone without a trace."""
    docker.said("tag", IMAGE, SERVER_IMAGES["cpu"])
    folder = home.models / 'it\'s a "folder" of $HOME 100 %h: #1'
    folder.mkdir()
    model = fake_engine.model("tiny").rename(folder / "tiny é.gguf")
    write_profile(
        home,
        "odd",
        engine="llama-server",
        model=str(model),
        environment={"ODD_VALUE": ODD, "HF_TOKEN": SECRET, "NO": "yes", "FAKE_ENGINE_ANSWER": "word"},
        extra_arguments=["--note", SECRET, *NASTY],
    )
    daemon.start()
    port, other = free_port(), free_port()
    words = composed.write("odd", port)
    assert "--env-file" in words
    keys = composed.folder / "odd.env"
    keys.write_text("")
    refused = composed.run(*words, "config")
    assert refused.returncode != 0
    assert "into odd.env" in refused.stderr, "it says what is missing, and where it goes"
    keys.write_text(f"# mine\nHF_TOKEN={SECRET}\nENGINE_SECRET_1={SECRET}\nLLAMA_API_KEY='{KEY}'\n", "utf-8")
    composed.ok(*words, "config")
    composed.ok(*words, "up", "-d", ENGINE_PORT=str(other))
    eventually(lambda: answers(other), 60, "it answers")
    assert chat(other, "odd").status_code == 401
    answer = chat(other, "odd", KEY)
    assert answer.status_code == 200, answer.text
    assert "word" in answer.json()["choices"][0]["message"]["content"]

    about = docker.inspected(composed.container())
    command = about["Config"]["Cmd"]
    assert command[command.index("--note") :] == ["--note", SECRET, *NASTY]
    variables = Path(f"/proc/{about['State']['Pid']}/environ").read_bytes().decode().split("\0")
    assert {f"ODD_VALUE={ODD}", f"HF_TOKEN={SECRET}", "NO=yes", f"LLAMA_API_KEY={KEY}"} <= set(variables)
    assert about["HostConfig"]["PortBindings"] == {f"{port}/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(other)}]}
    with socket.socket() as elsewhere:
        assert elsewhere.connect_ex((NEIGHBOUR, other)) != 0, "on the loopback only (I20)"
    (mount,) = about["Mounts"]
    assert (mount["Source"], mount["RW"], mount["Destination"] in command) == (str(model), False, True)
    assert not [name for name in about["Config"]["Labels"] if "engine-room" in name], (
        "no Engine Room takes it for its own (I5)"
    )
    composed.ok(*words, "down")
    composed.nothing_is_left()

    model.rename(folder / "elsewhere.gguf")
    refused = composed.run(*words, "up", "-d")
    assert refused.returncode != 0
    assert "bind source path does not exist" in refused.stderr + refused.stdout
    assert not model.exists(), "no empty folder is made in its place"
    composed.ok(*words, "down")
    composed.nothing_is_left()


def test_two_vllm_profiles_of_one_folder_run_side_by_side(
    composed: Composed, docker: RealDocker, home: Home, fake_engine: FakeEngine, daemon: Daemon
) -> None:
    """One that Engine Room runs in Docker, one that it runs in an environment of the machine; no key, nothing to fill in."""
    write_tiny_folder(home.models / "tiny")
    fake_engine.install_vllm()
    variables = {"FAKE_ENGINE_ANSWER": "word"}
    write_profile(
        home, "boxed", engine="vllm-docker", installation=IMAGE, model=str(home.models / "tiny"), environment=variables
    )
    write_profile(home, "native", engine="vllm", model=str(home.models / "tiny"), environment=variables)
    daemon.start()
    ports = {name: free_port() for name in ("boxed", "native")}
    for name, port in ports.items():
        composed.write(name, port)
        composed.ok("-f", f"{name}.compose.yaml", "up", "-d")  # without -p: one project
    for name, port in ports.items():
        eventually(lambda port=port: answers(port), 60, f"{name} answers")  # type: ignore[misc]
        answer = chat(port, name)
        assert answer.status_code == 200, answer.text
    for name in docker.running():
        about = docker.inspected(name)
        assert about["HostConfig"]["IpcMode"] == "host"
        assert about["Config"]["Image"] == IMAGE
        variables_inside = Path(f"/proc/{about['State']['Pid']}/environ").read_bytes().split(b"\0")
        assert not [each for each in variables_inside if each.startswith(b"VLLM_API_KEY")], "none was given"
        assert [(mount["Source"], mount["RW"]) for mount in about["Mounts"]] == [(str(home.models / "tiny"), False)]
    assert len(docker.running()) == 2
    for name in ports:
        composed.run("-f", f"{name}.compose.yaml", "down")
    composed.nothing_is_left()


def test_the_built_in_engine_answers_from_a_container(
    composed: Composed, docker: RealDocker, home: Home, embedded_engine: Installation, daemon: Daemon
) -> None:
    """The real engine and the demo model. `pip` is the one thing that is not real: no network is needed."""
    python = Path(embedded_engine.executable)
    docker.python_image("docker.io/library/python:3.12-slim", python)
    model = home.models / "démo $1.gguf"
    shutil.copy(DEMO, model)
    write_profile(home, "own", engine="llama.cpp", model=str(model), settings={"context_tokens": 512, "threads": 1})
    daemon.start()
    port = free_port()
    words = composed.write("own", port)
    composed.ok(*words, "up", "-d")
    eventually(lambda: answers(port), 60, "it answers")
    answer = chat(port, "own")
    assert answer.status_code == 200, answer.text
    assert "Engine Room" in answer.json()["choices"][0]["message"]["content"]
    assert "xllamacpp==" in docker.said("logs", composed.container())
    composed.ok(*words, "down")
    composed.nothing_is_left()


@pytest.mark.parametrize("gpus", [(), ("GPU-8f7a0e8e-0000-0000-0000-000000000001",)])
def test_cards_are_asked_for_in_words_that_docker_understands(
    gpus: tuple[str, ...], composed: Composed, docker: RealDocker, home: Home
) -> None:
    """On a machine without the NVIDIA toolkit that is as far as it goes: Docker says which driver it misses."""
    write_tiny_folder(home.models / "tiny")
    launch = Launch(
        profile=Profile(id="cards", title="Cards", engine="vllm-docker", model=str(home.models / "tiny"), gpus=gpus),
        model_path=str(home.models / "tiny"),
        installation=Installation(family="vllm-docker", executable=CARD_IMAGE, client="docker", accelerator="cuda"),
        port=0,
        run_id="export",
        model_name="cards",
        physical_cores=4,
        gpu_uuids=gpus,
    )
    made = export(launch, "compose", free_port())
    (composed.folder / made.file_name).write_text(made.text, "utf-8")
    words = ["-f", made.file_name]
    assert "nvidia" in composed.ok(*words, "config")
    refused = composed.run(*words, "up", "-d")
    assert refused.returncode != 0
    assert 'could not select device driver "nvidia" with capabilities: [[gpu]]' in refused.stderr + refused.stdout
    composed.ok(*words, "down")
    composed.nothing_is_left()
