"""Finds engines that are no programs of ours to start: images of a container engine, and an Ollama that is running."""

from __future__ import annotations

import http.client
import ipaddress
import json
import threading
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from app.daemon import docker
from app.daemon.asking import ask
from app.daemon.docker_images import image_in, silent
from app.daemon.engine_places import on_path
from app.daemon.installations import id_of
from app.engines.base import Installation

ASK_SECONDS = 5.0
OLLAMA_SECONDS = 3.0  # on a busy machine; it answers at once, or nobody listens
OLLAMA_PORT = 11434
MOST_IMAGES = 100


def images(
    environ: Mapping[str, str], *, seconds: float = ASK_SECONDS, stop: threading.Event | None = None
) -> Iterator[Installation]:
    """Images of engines that the container engine on PATH has here; one row that says why when it does not answer."""
    for name in docker.CLIENTS:
        client = next(on_path(name, environ), None)
        if client is None:
            continue
        rows = "{{.Repository}}\t{{.Tag}}\t{{.ID}}"
        try:
            answer = ask((str(client), "image", "ls", "--format", rows), environ, seconds=seconds, stop=stop)
        except OSError:
            continue
        if answer.code == 0:
            found = [one for line in answer.text.splitlines() if (one := image_in(str(client), line)) is not None]
            yield from found[:MOST_IMAGES]
        else:
            yield silent(str(client), answer)


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
