"""Finds engines that are no programs of ours to start: images of a container engine, and an Ollama that is running."""

from __future__ import annotations

import http.client
import ipaddress
import json
import threading
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from app.daemon.asking import ask
from app.daemon.engine_places import on_path
from app.daemon.installations import accelerator_in, id_of
from app.engines.base import Installation

ASK_SECONDS = 5.0
OLLAMA_SECONDS = 1.0
OLLAMA_PORT = 11434
MOST_IMAGES = 100

IMAGE_CANNOT = "Engine Room cannot start engines in containers yet."


def images(
    environ: Mapping[str, str], *, seconds: float = ASK_SECONDS, stop: threading.Event | None = None
) -> Iterator[Installation]:
    """Images of llama.cpp's server and of vLLM that the container engine on PATH has here; none when it does not answer."""
    for name in ("docker", "podman"):
        client = next(on_path(name, environ), None)
        if client is None:
            continue
        rows = "{{.Repository}}\t{{.Tag}}\t{{.ID}}"
        try:
            answer = ask((str(client), "image", "ls", "--format", rows), environ, seconds=seconds, stop=stop)
        except OSError:
            continue
        if answer.code == 0:
            found = [one for line in answer.text.splitlines() if (one := _image(name, line)) is not None]
            yield from found[:MOST_IMAGES]


def _image(client: str, line: str) -> Installation | None:
    repository, _, rest = line.strip().partition("\t")
    tag = rest.partition("\t")[0]
    family = family_of_image(repository, tag)
    if not family or not tag or tag == "<none>":
        return None
    image = f"{repository}:{tag}"
    return Installation(
        family=family,
        executable=image,
        id=id_of(family, f"{client}:{image}"),
        version=tag,
        build=image,
        accelerator=accelerator_in(tag) or ("cuda" if family == "vllm" else "cpu"),
        source="docker",
        problem=IMAGE_CANNOT,
    )


def family_of_image(repository: str, tag: str) -> str:
    """Which engine an image holds, by the names under which they are published; "" for all others."""
    name = repository.rpartition("/")[2]
    if name == "llama.cpp" and tag.startswith(("server", "full")):
        return "llama-server"
    if name in ("vllm-openai", "vllm-cpu-env", "vllm") or repository.endswith("rocm/vllm"):
        return "vllm"
    return ""


# --- Ollama ----------------------------------------------------------------------------------------------------------


def ollama_address(environ: Mapping[str, str]) -> tuple[str, int] | None:
    """Where an Ollama of this machine would answer; None when OLLAMA_HOST names another machine."""
    said = environ.get("OLLAMA_HOST", "").strip()
    try:
        parts = urlsplit(said if "//" in said else f"//{said}")
        host, port = parts.hostname or "127.0.0.1", parts.port or OLLAMA_PORT
    except ValueError:
        return None
    if host == "localhost":
        return "127.0.0.1", port
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if address.is_unspecified:  # it listens everywhere, so also here
        return "127.0.0.1", port
    return (str(address), port) if address.is_loopback else None


def running_ollama(environ: Mapping[str, str], *, seconds: float = OLLAMA_SECONDS) -> Installation | None:
    """The Ollama that answers on the loopback now."""
    where = ollama_address(environ)
    if where is None:
        return None
    connection = http.client.HTTPConnection(*where, timeout=seconds)
    try:
        connection.request("GET", "/api/version")
        answer = connection.getresponse()
        said = json.loads(answer.read(65_536)) if answer.status == 200 else None
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
    version = said.get("version") if isinstance(said, dict) else None
    if not isinstance(version, str):
        return None
    host = f"[{where[0]}]" if ":" in where[0] else where[0]
    url = f"http://{host}:{where[1]}"
    return Installation(
        family="ollama",
        executable=url,
        id=id_of("ollama", url),
        version=version[:100],
        build=f"Ollama {version[:100]}, running",
        source="ollama",
    )
