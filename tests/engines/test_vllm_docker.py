"""vLLM in a container as a value: what Docker is told, and what stands in no argument (E4, I18, I20)."""

import http.server
import json
import os
import shutil
import socketserver
import subprocess
import threading
from pathlib import Path

import pytest

from app.core.diagnosis.docker import DOCKER
from app.core.options import Scalar
from app.daemon.docker_images import Layers, failed, wanted
from app.daemon.exporting import export
from app.daemon.preparing import engine_environment
from app.engines.base import Installation, Launch, Stage
from app.engines.registry import FAMILIES
from app.engines.vllm_docker import HOME_IN_IMAGE
from tests.engines.launches import command_of, launch

FAMILY = FAMILIES["vllm-docker"]
IMAGE = "vllm/vllm-openai:v0.32.0"
CARDS = tuple(f"GPU-{number}" for number in range(4))


def made(settings: dict[str, Scalar] | None = None, accelerator: str = "cuda", **more: object) -> Launch:
    image = Installation(family="vllm-docker", executable=IMAGE, client="/usr/bin/docker", accelerator=accelerator)
    told = {"model_path": "/models/qwen", "gpu_uuids": CARDS, "installation": image, **more}
    return launch("vllm-docker", {"context_tokens": 4096, **(settings or {})}, **told)  # type: ignore[arg-type]


def after(launch: Launch, flag: str) -> list[str]:
    argv = command_of(launch).argv
    return [argv[at + 1] for at, word in enumerate(argv) if word == flag]


def test_the_whole_command_line() -> None:
    command = command_of(made({"tensor_parallel": 2}, api_key="canary-161", environment={"HF_TOKEN": "canary-162"}))
    before, after_image = command.argv[: command.argv.index(IMAGE)], command.argv[command.argv.index(IMAGE) :]
    assert before == (
        *("/usr/bin/docker", "run", "--rm", "--init", "--name", "engine-room-run-1"),
        *("--label", "io.engine-room.run=run-1", "--label", "io.engine-room.owner="),
        *("--ipc=host", "--publish", "127.0.0.1:18000:8000", "--gpus", '"device=GPU-0,GPU-1"'),
        *("--mount", "type=bind,source=/models/qwen,target=/models/qwen,readonly"),
        *("--mount", f"type=volume,source=engine-room-vllm-cache,target={HOME_IN_IMAGE}/.cache"),
        *(word for name in command.environment for word in ("--env", name)),
        *("--entrypoint", "vllm"),
    )
    assert after_image[:8] == (
        IMAGE,
        "serve",
        "/models/qwen",
        "--host",
        "0.0.0.0",
        "--port",
        "8000",
        "--served-model-name",
    )
    assert "canary" not in " ".join(command.argv), "values are taken by their names (I18)"
    assert command.environment["VLLM_API_KEY"] == "canary-161"
    assert command.environment["CUDA_VISIBLE_DEVICES"] == "GPU-0,GPU-1", "which says the order inside"
    assert command.container is not None
    assert command.container.end_argv == ("/usr/bin/docker", "kill", "engine-room-run-1")


def test_same_settings_as_vllm_itself() -> None:
    settings: dict[str, Scalar] = {"max_sequences": 8, "kv_type": "fp8", "lora": "/loras/poet", "eager": True}
    inside = command_of(made(settings)).argv
    plain = command_of(launch("vllm", {"context_tokens": 4096, **settings}, accelerator="cuda", gpu_uuids=CARDS)).argv
    told = inside[inside.index("--disable-uvicorn-access-log") :]
    assert told == plain[plain.index("--disable-uvicorn-access-log") :]
    assert FAMILY.options == FAMILIES["vllm"].options


def test_files_are_mounted_where_they_are() -> None:
    snapshot = "/home/me/.cache/huggingface/hub/models--org--name/snapshots/" + "a" * 40
    mounts = after(made({"lora": "/loras/poet, /loras/clerk"}, model_path=snapshot), "--mount")
    assert "source=/home/me/.cache/huggingface/hub/models--org--name," in mounts[0], "links lead out of a snapshot"
    assert [text.split(",")[1] for text in mounts[1:3]] == ["source=/loras/poet", "source=/loras/clerk"]
    odd = after(made(model_path="/models/a, b"), "--mount")[0]
    assert odd == 'type=bind,"source=/models/a, b","target=/models/a, b",readonly'
    assert after(made(model_path="org/name"), "--mount")[0].startswith("type=volume"), "a name of the hub is no place"


def test_other_cards_and_none() -> None:
    assert after(made(), "--gpus") == ["device=GPU-0"]
    assert after(made(gpu_uuids=()), "--gpus") == ["all"]
    rocm = made(accelerator="rocm")
    assert (after(rocm, "--device"), after(rocm, "--gpus")) == (["/dev/kfd", "/dev/dri"], [])
    assert after(made(accelerator="cpu"), "--gpus") == []


def test_what_the_client_itself_obeys_is_the_engines_alone() -> None:
    """A PATH or a HOME of the profile must not choose another client or another Docker service."""
    launch = made(
        environment={"PATH": "/opt/bin", "DOCKER_HOST": "tcp://inside", "HTTPS_PROXY": "http://me:pass@proxy"}
    )
    command = command_of(launch)
    assert {"PATH=/opt/bin", "DOCKER_HOST=tcp://inside", "HTTPS_PROXY"} <= set(after(launch, "--env"))
    seen = engine_environment({"PATH": "/usr/bin", "DOCKER_HOST": "unix:///mine"}, command, launch.profile)
    assert (seen["PATH"], seen["DOCKER_HOST"]) == ("/usr/bin", "unix:///mine")


@pytest.mark.parametrize(
    "line",
    [
        "Unable to find image 'vllm/vllm-openai:v1' locally",
        "v1: Pulling from vllm/vllm-openai",
        "f1a2b3c4d5e6: Pulling fs layer",
        "f1a2b3c4d5e6: Pull complete",
    ],
)
def test_a_fetch_is_a_stage(line: str) -> None:
    assert FAMILY.stage_of(line) == Stage(name="download")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("docker: Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?", "does not answer"),
        ('docker: Error response from daemon: could not select device driver "" with capabilities: [[gpu]].', "container toolkit"),
        ("docker: Error response from daemon: manifest for vllm/vllm-openai:v9 not found: manifest unknown", "no image vllm/vllm-openai:v9"),
        ("docker: Error response from daemon: Bind for 127.0.0.1:18000 failed: port is already allocated.", "port"),
        ("docker: Error response from daemon: something new", "something new"),
    ],
)  # fmt: skip
def test_words_of_docker_become_a_sentence(said: str, words: str) -> None:
    row = next(row for row in sorted(DOCKER, key=lambda row: row.rank) if row.match(said) is not None)
    found = row.match(said)
    assert found is not None
    assert words in row.summary.format_map({"private": "", "image": "", "what": "", **found})


def test_a_pull_is_added_up() -> None:
    layers = Layers()
    for line in ("v1: Pulling from vllm/vllm-openai", "aaaaaaaaaaaa: Pulling fs layer", "bbbbbbbbbbbb: Already exists"):
        layers.heard(line)
    assert layers.progress == 0.5
    assert layers.heard("aaaaaaaaaaaa: Downloading [====>      ]  200MB/400MB")
    assert (layers.bytes_done, layers.bytes_total) == (200_000_000, 400_000_000)
    assert layers.progress == pytest.approx(0.725)
    layers.heard("aaaaaaaaaaaa: Pull complete")
    assert (layers.progress, layers.bytes_done) == (1.0, 400_000_000)
    error = failed("a/b", ["Error response from daemon: pull access denied for a/b, repository does not exist"])
    assert "no image a/b" in error.summary


def test_an_image_can_be_pinned_before_it_is_here(tmp_path: Path) -> None:
    client = tmp_path / "docker"
    client.write_text("#!/bin/sh\n")
    client.chmod(0o755)
    [row] = wanted("me/vllm-cpu:mine", {"PATH": str(tmp_path)})
    assert (row.executable, row.client, row.accelerator, row.problem) == ("me/vllm-cpu:mine", str(client), "cpu", "")
    [row] = wanted("vllm/vllm-openai", {"PATH": "/nonexistent"})
    assert "Docker is not installed" in row.problem
    assert wanted("vllm-docker-0123abcd", {"PATH": str(tmp_path)}) == (), "an id is no image"


# --- the real client ---------------------------------------------------------------------------------------------------


class Service(http.server.BaseHTTPRequestHandler):
    """As much of Docker's service as a client needs to say what it wants made."""

    asked: list[dict[str, object]]

    def do_HEAD(self) -> None:
        self._answer(200, b"")

    def do_GET(self) -> None:
        self._answer(200, b"OK")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.asked.append({"path": self.path, "body": json.loads(body or b"{}")})
        self._answer(500, b'{"message": "enough"}')

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Api-Version", "1.45")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "client"

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.skipif(shutil.which("docker") is None, reason="no Docker client is installed here")
def test_the_real_client_understands_it(tmp_path: Path) -> None:
    """What the real client asks its service for, from our words: cards, files, port, labels, values by name."""
    asked: list[dict[str, object]] = []

    class Mine(Service):
        pass

    Mine.asked = asked
    socket = tmp_path / "d.sock"
    with socketserver.ThreadingUnixStreamServer(str(socket), Mine) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        launch = made({"tensor_parallel": 2}, model_path="/models/a, b", environment={"HF_TOKEN": "canary"})
        command = command_of(launch)
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "DOCKER_HOST": f"unix://{socket}"}
        done = subprocess.run(
            ["docker", *command.argv[1:]], env={**environment, **command.environment}, capture_output=True, text=True
        )
        server.shutdown()
        thread.join(60)
    [wish] = [each for each in asked if "/containers/create" in str(each["path"])]
    assert "enough" in done.stderr
    assert "name=engine-room-run-1" in str(wish["path"])
    body = wish["body"]
    assert isinstance(body, dict)
    host = body["HostConfig"]
    assert body["Entrypoint"] == ["vllm"]
    assert body["Cmd"][:2] == ["serve", "/models/a, b"]
    assert "HF_TOKEN=canary" in body["Env"]
    assert body["Labels"]["io.engine-room.run"] == "run-1"
    assert host["DeviceRequests"][0]["DeviceIDs"] == ["GPU-0", "GPU-1"]
    assert host["PortBindings"] == {"8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": "18000"}]}
    assert (host["IpcMode"], host["AutoRemove"], host["Init"]) == ("host", True, True)
    bound = {(m["Type"], m["Source"], m["Target"], m.get("ReadOnly", False)) for m in host["Mounts"]}
    assert ("bind", "/models/a, b", "/models/a, b", True) in bound
    assert ("volume", "engine-room-vllm-cache", f"{HOME_IN_IMAGE}/.cache", False) in bound


# --- exports ------------------------------------------------------------------------------------------------------------


def test_compose_of_both_forms_of_vllm() -> None:
    plain = launch(
        "vllm", {"context_tokens": 4096, "tensor_parallel": 2, "lora": "/loras/poet"}, executable="/env/bin/python",
        model_path="/models/qwen", accelerator="cuda", gpu_uuids=CARDS,
        installation=Installation(family="vllm", executable="/env/bin/python", accelerator="cuda", version="0.32.0"),
    )  # fmt: skip
    for each in (plain, made({"tensor_parallel": 2, "lora": "/loras/poet"})):
        text = export(each, "compose", 8001).text
        assert f'image: "{IMAGE}"' in text
        for words in (
            '- "vllm"',
            '- "serve"',
            'ipc: "host"',
            '- "GPU-0"',
            '- "GPU-1"',
            '"127.0.0.1:${ENGINE_PORT:-8001}:8001"',
        ):
            assert words in text
        assert 'source: "/models/qwen"\n        target: "/models/qwen"' in text
        assert 'source: "/loras/poet"' in text
        assert "/env/bin" not in text


def test_scripts_of_a_container_are_not_ours_to_end_and_keep_their_port() -> None:
    script = export(made(), "shell", 8001).text
    assert '"127.0.0.1:${ENGINE_PORT:-8001}:8000"' in script
    assert "io.engine-room.owner=exported" in script
    assert '"127.0.0.1:${ENGINE_PORT}:8000"' in export(made(), "systemd", 8001).text


def test_an_exported_engine_finds_its_own_programs() -> None:
    plain = launch("vllm", executable="/my env/bin/python", model_path="/models/qwen")
    assert "export PATH='/my env/bin':\"$PATH\"" in export(plain, "shell", 8001).text
    assert 'Environment="PATH=/my env/bin:/usr/local/sbin:/usr/local/bin:' in export(plain, "systemd", 8001).text
