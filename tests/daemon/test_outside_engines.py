"""Container images and a running Ollama are found by asking them, briefly, and only on this machine."""

import http.server
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.daemon.docker_images import family_of_image
from app.daemon.outside_engines import images, ollama_address, running_ollama
from tests.rig.programs import write_script

ROWS = """\
ghcr.io/ggml-org/llama.cpp\\tserver-cuda\\tsha256:1
ghcr.io/ggml-org/llama.cpp\\tlight\\tsha256:2
vllm/vllm-openai\\tv0.11.2\\tsha256:3
vllm/vllm-openai\\t<none>\\tsha256:4
postgres\\t16\\tsha256:5
nonsense"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "bin").mkdir()
    return {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "HOME": str(tmp_path)}


def docker(environment: dict[str, str], body: str) -> None:
    write_script(Path(environment["PATH"].partition(":")[0]) / "docker", body)


def test_images_of_engines_are_told_by_their_names(environment: dict[str, str]) -> None:
    docker(environment, f'[ "$1 $2" = "image ls" ] && printf "{ROWS}"')
    rows = {row.executable: row for row in images(environment)}
    assert set(rows) == {"ghcr.io/ggml-org/llama.cpp:server-cuda", "vllm/vllm-openai:v0.11.2"}
    server = rows["ghcr.io/ggml-org/llama.cpp:server-cuda"]
    assert (server.family, server.version, server.accelerator, server.source) == (
        *("llama-server", "server-cuda", "cuda", "docker"),
    )
    assert "starts vLLM in containers, and not this engine" in server.problem
    ours = rows["vllm/vllm-openai:v0.11.2"]
    assert (ours.family, ours.version, ours.accelerator, ours.problem) == ("vllm-docker", "v0.11.2", "cuda", "")
    assert ours.client.endswith("/bin/docker")
    assert ours.fingerprint == "sha256:3", "a rebuilt image of the same name is another engine"


@pytest.mark.parametrize("body", ["exit 1", "sleep 1000", "head -c 10000000 /dev/zero", "kill -9 $$"])
def test_a_container_engine_in_trouble_has_no_images(environment: dict[str, str], body: str) -> None:
    docker(environment, body)
    assert [bool(row.problem) for row in images(environment, seconds=0.5)] == [True], "one row, which says why"


def test_without_a_container_engine_nobody_is_asked(environment: dict[str, str]) -> None:
    assert list(images({**environment, "PATH": environment["HOME"]})) == []


@pytest.mark.parametrize(
    ("repository", "tag", "family"),
    [
        ("localhost:5000/llama.cpp", "full-rocm", "llama-server"),
        ("rocm/vllm", "latest", "vllm-docker"),
        ("mirror.example/vllm/vllm-openai-cpu", "v1", "vllm-docker"),
        ("me/my-vllm-notes", "latest", ""),
    ],
)
def test_families_of_images(repository: str, tag: str, family: str) -> None:
    assert family_of_image(repository, tag) == family


# --- Ollama ----------------------------------------------------------------------------------------------------------


class StandIn(http.server.BaseHTTPRequestHandler):
    answer: bytes = json.dumps({"version": "0.12.3"}).encode()
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/api/version" else 404)
        self.send_header("Content-Length", str(len(self.answer)))
        self.end_headers()
        self.wfile.write(self.answer)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def ollama() -> Iterator[type[StandIn]]:
    class Mine(StandIn):
        port = 0

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mine)
    Mine.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield Mine
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_running_ollama_is_found_with_its_version(ollama: type[StandIn]) -> None:
    found = running_ollama({"OLLAMA_HOST": f"127.0.0.1:{ollama.port}"})  # type: ignore[attr-defined]
    assert found is not None
    assert (found.family, found.version, found.source) == ("ollama", "0.12.3", "ollama")
    assert found.executable == f"http://127.0.0.1:{ollama.port}"  # type: ignore[attr-defined]
    assert found.is_address
    assert not found.problem


@pytest.mark.parametrize("answer", [b"[]", b"{", b'{"version": 3}', b"\xff" * 100])
def test_what_answers_otherwise_is_no_ollama(ollama: type[StandIn], answer: bytes) -> None:
    ollama.answer = answer
    assert running_ollama({"OLLAMA_HOST": f"127.0.0.1:{ollama.port}"}) is None  # type: ignore[attr-defined]


def test_nobody_there_and_somebody_silent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        where = {"OLLAMA_HOST": f"127.0.0.1:{silent.getsockname()[1]}"}
        assert running_ollama(where, seconds=0.2) is None
    assert running_ollama(where) is None


@pytest.mark.parametrize(
    ("said", "address"),
    [
        ("", ("127.0.0.1", 11434)),
        ("0.0.0.0", ("127.0.0.1", 11434)),
        (":1234", ("127.0.0.1", 1234)),
        ("http://localhost:1234", ("127.0.0.1", 1234)),
        ("[::1]:1234", ("::1", 1234)),
        ("192.168.0.7:11434", None),
        ("ollama.example.org", None),
        ("127.0.0.1:port", None),
    ],
)
def test_only_this_machine_is_asked(said: str, address: tuple[str, int] | None) -> None:
    assert ollama_address({"OLLAMA_HOST": said}) == address
