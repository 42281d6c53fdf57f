"""Constructs the parts: nothing else does. Knows the real environment, clock and folders."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import logging.handlers
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from app.core.paths import Paths, paths_from

# Work that waits for files and processes: as many at once on every machine, where asyncio would count its processors.
FILE_THREADS = 16


def real_paths() -> Paths:
    """The folders of this account, as they are right now."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    usable = bool(runtime) and os.access(runtime, os.W_OK) and Path(runtime).stat().st_uid == os.getuid()
    return paths_from(os.environ, os.getuid(), usable)


def run_daemon(exit_when_idle: bool = False) -> int:
    """The daemon's whole life; returns its exit code. Says a sentence on stderr when it cannot start."""
    from app.core.errors import EngineRoomError
    from app.core.settings import load_settings
    from app.daemon.service import Service

    paths = real_paths()
    try:
        _open_log(paths.daemon_log)
        settings = load_settings(paths.settings_file)
        environment = dict(os.environ)
        os.environ.pop("NOTIFY_SOCKET", None)  # it is ours: no engine shall speak to the service manager
        service = Service(paths, settings, environment, time.monotonic, exit_when_idle)
        _loop_run(_serve(service))
    except EngineRoomError as error:
        logging.getLogger(__name__).error("%s", error)
        print(f"engine-room: {error}", file=sys.stderr)
        return error.exit_code
    return 0


async def _serve(service: object) -> None:
    from app.daemon.service import Service

    assert isinstance(service, Service)
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(FILE_THREADS, initializer=_call_thread, initargs=("files",)))
    for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(name, service.leave)
    await service.serve()


def _call_thread(name: str) -> None:
    """The name that `top -H` and /proc show for the calling thread."""
    with contextlib.suppress(OSError):
        Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text(name)


def _loop_run(work: object) -> None:
    """On uvloop where it is installed: the gateway's cost per request is a third lower on it."""
    try:
        from uvloop import run
    except ImportError:
        from asyncio import run
    run(work)  # type: ignore[arg-type]


def _open_log(file: Path) -> None:
    """One structured line per event; bounded; 0600. The terminal that started us gets warnings too."""
    from app.core.errors import NotWritable

    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handler = logging.handlers.RotatingFileHandler(file, maxBytes=4 * 1024**2, backupCount=2, encoding="utf-8")
        file.chmod(0o600)
    except OSError as error:
        raise NotWritable(
            f"{file.parent} cannot be written: {error.strerror}.",
            "Check the folder's owner and permissions, or set XDG_STATE_HOME to another one.",
        ) from error
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # a full disk under the log must not print traces into the terminal
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    logging.getLogger("aiohttp.server").addFilter(_not_http)


def _not_http(record: logging.LogRecord) -> bool:
    """A client that speaks no HTTP gets its 400 from the server; it is no error of ours and needs no trace."""
    from aiohttp.http_exceptions import HttpProcessingError

    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))
