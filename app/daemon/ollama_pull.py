"""Has an Ollama fetch a model, as the work of a job: its stream of JSON lines becomes progress, and its error a sentence."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from urllib.parse import urlsplit

from app.core.errors import EngineFailed
from app.daemon.work import Work

SILENCE_SECONDS = 300.0
LONGEST_LINE = 1024**2


def pull(url: str, model: str, work: Work) -> dict[str, object]:
    """Returns when the model is whole there. A job that is cancelled closes the connection, and Ollama keeps what it has."""
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "127.0.0.1", parts.port, timeout=SILENCE_SECONDS)
    layers: dict[str, tuple[int, int]] = {}  # digest → (bytes there, bytes of the whole)
    last = ""
    try:
        body = json.dumps({"model": model, "stream": True})
        connection.request("POST", "/api/pull", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        for line in _lines(answer):
            if "error" in line or answer.status != 200:
                said = str(line.get("error") or f"status {answer.status}").rstrip(".")
                raise EngineFailed(f"Ollama at {parts.netloc} could not fetch {model}: {said}.", _ADVICE)
            last = str(line.get("status", ""))
            _tell(work, model, last, line, layers)
    except (OSError, http.client.HTTPException) as error:
        raise EngineFailed(f"Ollama at {parts.netloc} broke off while it fetched {model}.", _AGAIN) from error
    finally:
        connection.close()
    if last != "success":
        raise EngineFailed(f"Ollama at {parts.netloc} ended before {model} was whole.", _AGAIN)
    return {"model": model}


_AGAIN = "Start it again: Ollama goes on where it was."
_ADVICE = "Look at the name: https://ollama.com/library has them."


def _tell(work: Work, model: str, status: str, line: dict[str, object], layers: dict[str, tuple[int, int]]) -> None:
    total, done = line.get("total"), line.get("completed", 0)
    if not isinstance(total, int) or not isinstance(done, int) or total <= 0:
        work.note(status)
        work.say(status[:1].upper() + status[1:])
        return
    layers[str(line.get("digest", ""))] = (min(done, total), total)
    there, whole = (sum(part) for part in zip(*layers.values(), strict=True))
    work.say(f"Fetching {model}", progress=there / whole, bytes_done=there, bytes_total=whole)


def _lines(answer: http.client.HTTPResponse) -> Iterator[dict[str, object]]:
    while data := answer.readline(LONGEST_LINE):
        try:
            value = json.loads(data)
        except ValueError:
            raise http.client.HTTPException("not a line of JSON") from None
        if isinstance(value, dict):
            yield value
