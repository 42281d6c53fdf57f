"""Does the work of one job, as a program of its own: told by a file what to do, tells by JSON lines how far it is.

`python -m app.daemon.job_program FILE`. The last line is {"done": result} or {"failed": report}; without one it was ended.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from pathlib import Path

import msgspec

from app.core.errors import EngineRoomError, ErrorReport
from app.core.snapshot import from_json, to_json
from app.daemon import ollama_pull
from app.daemon.bench import Benching, bench
from app.daemon.caches import clear
from app.daemon.canary import canary
from app.daemon.docker_images import PullingImage
from app.daemon.docker_images import pull as pull_image
from app.daemon.engine_folders import remove
from app.daemon.engine_sources import accelerators_here, source_for, sources, sources_file
from app.daemon.hub_transfer import Pulling, pull
from app.daemon.installer import DIE_AT, install
from app.daemon.work import News, Work
from app.engines.base import Launch

SOURCES = "ENGINE_ROOM_ENGINE_SOURCES"  # another table of engine sources (for tests)


class Installing(msgspec.Struct, frozen=True, kw_only=True, tag="install"):
    family: str
    version: str = ""
    accelerator: str = ""
    again: bool = False
    engines: str
    cache: str


class Removing(msgspec.Struct, frozen=True, kw_only=True, tag="remove"):
    place: str


class Clearing(msgspec.Struct, frozen=True, kw_only=True, tag="clear"):
    title: str
    folder: str


class Trying(msgspec.Struct, frozen=True, kw_only=True, tag="canary"):
    new: Launch
    old: Launch | None = None


class PullingByOllama(msgspec.Struct, frozen=True, kw_only=True, tag="ollama_pull"):
    url: str
    model: str


Order = Installing | Removing | Clearing | Trying | Benching | PullingByOllama | PullingImage | Pulling


class Told(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of what the program says."""

    news: News | None = None
    done: dict[str, object] | None = None
    failed: ErrorReport | None = None


def known_sources_file() -> Path:
    named = os.environ.get(SOURCES, "")
    return Path(named) if named else sources_file()


def carry_out(order: Order, work: Work, log: Path) -> dict[str, object]:
    match order:
        case Installing():
            source = source_for(order.family, sources(known_sources_file()), order.version)
            here = accelerators_here()
            work.say(f"This machine computes on: {', '.join(name.upper() for name in here)}.", kept=True)
            place = install(
                source,
                Path(order.engines),
                accelerators=(order.accelerator,) if order.accelerator else here,
                environment=work.environment,
                progress=_tell,
                again=order.again,
                cache=Path(order.cache),
                log=log,
            )
            return {"installation": place.name}
        case Removing():
            remove(Path(order.place), work)
            return {}
        case Clearing():
            return {"freed_bytes": clear(order.title, Path(order.folder), work)}
        case PullingImage():
            return pull_image(order, work)
        case Pulling():
            return pull(order, work)
        case Trying():
            return dict(msgspec.to_builtins(canary(order.new, order.old, work)))
        case Benching():
            return bench(order, work)
        case PullingByOllama():
            return ollama_pull.pull(order.url, order.model, work)


def _tell(news: News) -> None:
    _say(Told(news=news))


def _say(told: Told) -> None:
    sys.stdout.buffer.write(to_json(told) + b"\n")
    sys.stdout.buffer.flush()


def main(arguments: list[str]) -> int:
    [file] = arguments
    log = Path(file).with_suffix(".log")
    signal.signal(signal.SIGTERM, _asked_to_stop)
    work = Work(os.environ, _tell, log, os.environ.get(DIE_AT, ""))
    try:
        order: Order = from_json(Order, Path(file).read_bytes())  # type: ignore[arg-type]
        _say(Told(done=carry_out(order, work, log)))
    except EngineRoomError as error:
        work.note(str(error))
        _say(Told(failed=error.report()))
        return error.exit_code
    except Exception as error:
        work.note(traceback.format_exc())
        problem = f"Engine Room made a mistake in this job: {type(error).__name__}: {error}."
        _say(Told(failed=ErrorReport(kind="error", summary=problem, advice="The job's log shows where.")))
        return 1
    return 0


def _asked_to_stop(*_: object) -> None:
    """Once: what is unfinished is removed on the way out, and a second signal must not interrupt that."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(128 + signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
