"""Answers questions about the hub, as a program of its own: one JSON line in, one JSON line out, each question in a thread.

`python -m app.daemon.hub_program`. It leaves at end-of-file, which comes when the service is gone by any cause. The hub's
library is loaded here and in downloads only: it is large, and may hang where the network does.
"""

from __future__ import annotations

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import msgspec

from app.core.errors import EngineRoomError, ErrorReport, HubError
from app.core.hub import HubListing, HubModel
from app.core.values import from_json, to_json

AT_ONCE = 6


class Search(msgspec.Struct, frozen=True, kw_only=True, tag="search"):
    words: str
    kind: str = ""  # gguf · safetensors · "" = both
    limit: int = 30


class Files(msgspec.Struct, frozen=True, kw_only=True, tag="files"):
    name: str
    facts: bool = True  # read the headers too


class Newest(msgspec.Struct, frozen=True, kw_only=True, tag="newest"):
    """Which commit each of the repositories is at."""

    names: tuple[str, ...]


Question = Search | Files | Newest


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    id: int
    question: Question


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    id: int
    models: tuple[HubModel, ...] | None = None
    listing: HubListing | None = None
    commits: dict[str, str] | None = None
    failed: ErrorReport | None = None


def answer(asked: Asked) -> Answer:
    try:
        from app.daemon import hub_asking, hub_words
    except ImportError as error:
        problem = HubError(
            f"The hub’s library cannot be loaded: {error}.", "Install Engine Room again: huggingface_hub belongs to it."
        )
        return Answer(id=asked.id, failed=problem.report())
    name = ""
    try:
        match asked.question:
            case Search() as search:
                return Answer(id=asked.id, models=hub_asking.search(search.words, search.kind, search.limit))
            case Files(name=name, facts=facts):
                return Answer(id=asked.id, listing=hub_asking.files(name, facts))
            case Newest(names=names):
                return Answer(id=asked.id, commits=hub_asking.newest(names))
    except EngineRoomError as error:
        return Answer(id=asked.id, failed=error.report())
    except Exception as error:
        return Answer(id=asked.id, failed=hub_words.said(error, name, hub_asking.has_token()).report())


def main() -> int:
    saying = threading.Lock()
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no answer

    def work(line: bytes) -> None:
        asked = from_json(Asked, line)
        try:
            told = to_json(answer(asked))
        except Exception as error:  # an answer that cannot be written must not leave its asker waiting
            problem = HubError(f"Engine Room made a mistake in this question: {type(error).__name__}: {error}.")
            told = to_json(Answer(id=asked.id, failed=problem.report()))
        with saying:
            out.write(told + b"\n")
            out.flush()

    pool = ThreadPoolExecutor(AT_ONCE, "question")
    for line in sys.stdin.buffer:
        pool.submit(work, line)
    os._exit(0)  # whoever asked is gone: no answer is worth waiting for


if __name__ == "__main__":
    sys.exit(main())
