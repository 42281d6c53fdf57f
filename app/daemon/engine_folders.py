"""Owns what happens in the folder of our engines: one at work at a time, nothing half there under a name, nothing left over."""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.daemon.build_from_source import storage_error
from app.daemon.work import Work

UNFINISHED = ".installing-"
REMOVING = ".removing-"
_GONE = "gone"  # in such a folder: what shall not come back


def put_into_place(temporary: Path, place: Path) -> None:
    """Gives a finished folder its name; what had it is put aside for that moment, and comes back if we die in it."""
    if not place.exists():
        temporary.rename(place)
        return
    aside = Path(tempfile.mkdtemp(prefix=REMOVING, dir=place.parent))
    place.rename(aside / place.name)
    temporary.rename(place)
    shutil.rmtree(aside, ignore_errors=True)


def remove(place: Path, work: Work) -> None:
    """Takes an engine away at once, then its files: it is never half there under its name."""
    work.say(f"Removing {place.name}", kept=True)
    with alone_in(place.parent, work):
        try:
            aside = Path(tempfile.mkdtemp(prefix=REMOVING, dir=place.parent))
            place.rename(aside / _GONE)
            work.reached("record")
            shutil.rmtree(aside)
        except OSError as error:
            raise storage_error(error, place) from error
    work.say(f"Removed {place.name}.", kept=True, progress=1.0)


def remove_unfinished(engines: Path) -> None:
    """What an installation or a removal that was ended left behind. The caller has the folder's lock."""
    for folder in engines.glob(f"{REMOVING}*"):
        for kept in folder.iterdir():  # put aside for the moment in which its successor takes its name
            if kept.name != _GONE and not (engines / kept.name).exists():
                kept.rename(engines / kept.name)
    for pattern in (UNFINISHED, REMOVING):
        for folder in engines.glob(f"{pattern}*"):
            shutil.rmtree(folder, ignore_errors=True)


def clean(engines: Path) -> None:
    """`remove_unfinished`, unless an installer works there right now."""
    try:
        with (engines / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_unfinished(engines)
    except OSError:
        return  # no folder, nothing in it; or somebody is at work


@contextmanager
def alone_in(engines: Path, work: Work) -> Iterator[None]:
    """One installer at a time: a second one waits, then finds the work done. Its tools hold the lock with it, so that
    what an installer that was killed has left running cannot disturb the next one."""
    try:
        engines.mkdir(parents=True, exist_ok=True)
        with (engines / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                work.say("Waiting until another installation is finished …")
                fcntl.flock(lock, fcntl.LOCK_EX)
            work.inherited_descriptors = (lock.fileno(),)
            yield
    except OSError as error:
        raise storage_error(error, engines) from error
