"""Owns the engines' folders for temporary files: one for each run or question, private, short enough for sockets, gone with the run.

Engines leave sockets and files there when they are killed, and such names do not tell whose they were.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path

from app.core.paths import SOCKET_PATH_LIMIT

VARIABLE = "TMPDIR"
_USUAL = Path("/tmp")
_ASKED = "er-asked-"
_NAME_BYTES = len("/er-12345678-12345678-abcdefgh")
_INSIDE_BYTES = len(
    "/01234567-89ab-cdef-0123-456789abcdef"
)  # the longest socket's name that an engine is known to make


def make(runs_folder: Path, run_id: str, environment: Mapping[str, str]) -> Path:
    """A new folder for that run: in the account's own place for such files, or in the usual one where that is no use."""
    return _made(_prefix(runs_folder, run_id), environment)


def make_for_a_question(environment: Mapping[str, str]) -> Path:
    """A new folder for a program that is only asked something. Its name holds our pid: the dead leave theirs behind."""
    return _made(f"{_ASKED}{os.getpid()}-", environment)


def _made(prefix: str, environment: Mapping[str, str]) -> Path:
    if (own := _own_place(environment)) is not None:
        try:
            return Path(tempfile.mkdtemp(prefix=prefix, dir=own))
        except OSError:
            pass  # not there, not ours, or full
    return Path(tempfile.mkdtemp(prefix=prefix, dir=_USUAL))


def remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def remove_left(runs_folder: Path, environment: Mapping[str, str], living: Collection[str]) -> None:
    """Removes what ended runs of this home, and questions of dead services, have left. Blocks.

    `living`: the ids of runs that are not over.
    """
    kept = tuple(_prefix(runs_folder, run_id) for run_id in living)
    for folder in left(runs_folder, environment):
        if not folder.name.startswith(kept):
            remove(folder)
    for folder in _in_all_places(f"{_ASKED}*", environment):
        pid = folder.name.removeprefix(_ASKED).partition("-")[0]
        if pid.isdecimal() and not Path("/proc", pid).exists():
            remove(folder)


def left(runs_folder: Path, environment: Mapping[str, str]) -> list[Path]:
    """The folders of all runs of this home that are there now."""
    return _in_all_places(f"er-{_mark(runs_folder)}-*", environment)


def _in_all_places(pattern: str, environment: Mapping[str, str]) -> list[Path]:
    places = {_USUAL, _own_place(environment) or _USUAL}
    found = (folder for place in places for folder in place.glob(pattern))
    return [folder for folder in found if _is_our_folder(folder)]


def _own_place(environment: Mapping[str, str]) -> Path | None:
    named = environment.get(VARIABLE, "")
    short = len(os.fsencode(named)) + _NAME_BYTES + _INSIDE_BYTES <= SOCKET_PATH_LIMIT
    return Path(named) if named.startswith("/") and short else None


def _prefix(runs_folder: Path, run_id: str) -> str:
    return f"er-{_mark(runs_folder)}-{_mark(run_id)}-"


def _mark(what: Path | str) -> str:
    return hashlib.sha256(os.fsencode(what)).hexdigest()[:8]


def _is_our_folder(folder: Path) -> bool:
    """Others may write beside it: what bears such a name without being ours is let be, and no link is followed."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
