"""Ends what earlier daemons left behind: decides by record, marker and owner whose a process is, and says what it did.

There is no adoption: an engine never outlives its daemon. A run whose owner lives belongs to another daemon of this
account (another state folder) and is left alone.
"""

from __future__ import annotations

import signal
import time
from pathlib import Path

import msgspec

from app.core.values import from_json
from app.daemon import processes
from app.daemon.processes import ProcessIdentity, ProcessView, RunTrace
from app.daemon.procfs import FOLDER_MARK, KEEPER_MARK, ORPHAN_GRACE_SECONDS, OWNER_MARK, REST_SECONDS, RUN_MARK

KEEPER_EXTRA_SECONDS = 2.0


class PidAndStart(msgspec.Struct, frozen=True):
    pid: int
    start_ticks: int


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A run on disk, written before the engine's first instruction and removed when nothing of it is left."""

    run_id: str
    profile_id: str
    title: str
    engine: PidAndStart
    keeper: PidAndStart
    guard: PidAndStart
    owner: PidAndStart
    boot_id: str
    family: str = ""
    model_path: str = ""
    port: int = 0
    argv: tuple[str, ...] = ()  # secrets masked
    log_path: str = ""
    grace_seconds: float = 0.0
    started_at_unix: float = 0.0

    def identity_of(self, what: PidAndStart) -> ProcessIdentity:
        return ProcessIdentity(what.pid, what.start_ticks, self.boot_id)

    @property
    def trace(self) -> RunTrace:
        return RunTrace(run_id=self.run_id, leader=self.identity_of(self.engine), log_path=self.log_path)


class Leftover(msgspec.Struct, frozen=True, kw_only=True):
    """One thing found at daemon start and what was done, as a sentence."""

    run_id: str
    outcome: str  # ended · gone · left_alone · malformed · survived
    sentence: str
    profile_id: str = ""
    title: str = ""
    survivors: tuple[ProcessView, ...] = ()


def end_leftovers(folder: Path, kill_seconds: float, skip: frozenset[str] = frozenset()) -> tuple[Leftover, ...]:
    """Goes through all records in `folder`, then through all marked processes without one; blocks for seconds.

    `skip`: the runs that this daemon keeps itself.
    """
    done: list[Leftover] = []
    handled = set(skip)
    for file in sorted(folder.glob("*.json")):
        if file.stem in skip:
            continue
        record = _read(file)
        if record is None or record.run_id != file.stem:
            done.append(_set_aside(file))
            continue
        handled.add(record.run_id)
        done.append(_end_recorded(file, record, kill_seconds))
    for draft in folder.glob("*.draft"):
        _forget_stale_draft(draft)
    by_run: dict[str, dict[int, dict[str, str]]] = {}
    for pid, marks in processes.marked().items():
        if marks.get(FOLDER_MARK, str(folder)) != str(folder):
            continue  # of another home of this account: its own Engine Room ends it
        by_run.setdefault(marks.get(RUN_MARK) or marks.get(KEEPER_MARK, ""), {})[pid] = marks
    done += [
        leftover
        for run_id, marked in by_run.items()
        if run_id not in handled and (leftover := _end_marked(run_id, marked, kill_seconds)) is not None
    ]
    return tuple(done)


def _read(file: Path) -> RunRecord | None:
    try:
        record = from_json(RunRecord, file.read_bytes())
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    known = (record.engine, record.keeper, record.guard, record.owner)
    return record if all(each.pid > 1 and each.start_ticks > 0 for each in known) else None


def _set_aside(file: Path) -> Leftover:
    """A record that cannot be believed is never acted on; its processes, if any, are found by their marker."""
    kept = file.with_suffix(".malformed")
    try:
        file.replace(kept)
        where = f"It was set aside as {kept}."
    except OSError as error:
        where = f"It could not be set aside: {error.strerror}."
    return Leftover(
        run_id=file.stem,
        outcome="malformed",
        sentence=f"The record {file.name} of an earlier run cannot be read; nothing was done by it. {where}",
    )


def _forget_stale_draft(draft: Path) -> None:
    """A draft is `<run>.json.<keeper pid>.draft`; one whose keeper has gone will never become a record."""
    writer = draft.name.split(".")[-2]
    if not (writer.isdigit() and processes.identity(int(writer))):
        draft.unlink(missing_ok=True)


def _end_recorded(file: Path, record: RunRecord, kill_seconds: float) -> Leftover:
    def told(outcome: str, sentence: str, survivors: tuple[ProcessView, ...] = ()) -> Leftover:
        return Leftover(
            run_id=record.run_id,
            outcome=outcome,
            sentence=sentence,
            profile_id=record.profile_id,
            title=record.title,
            survivors=survivors,
        )

    if record.boot_id != processes.boot_id():
        file.unlink(missing_ok=True)
        return told("gone", f"{record.title} was running when the machine was last switched off or restarted.")
    if processes.alive(record.identity_of(record.owner)):
        return told(
            "left_alone",
            f"{record.title} belongs to another Engine Room that is running (pid {record.owner.pid}); left alone.",
        )
    keepers = [record.identity_of(record.keeper), record.identity_of(record.guard)]
    found = processes.of_run(record.trace)
    _await_keepers(keepers, record.grace_seconds, kill_seconds)
    survivors = processes.end_processes(lambda: processes.of_run(record.trace), REST_SECONDS, kill_seconds)
    if survivors:
        return told("survived", _survived(record.title, survivors), survivors)
    file.unlink(missing_ok=True)
    if found:
        return told("ended", f"{record.title} was left behind by an Engine Room that ended unexpectedly; it was ended.")
    return told("gone", f"{record.title} ended together with the Engine Room that had started it.")


def _end_marked(run_id: str, marked: dict[int, dict[str, str]], kill_seconds: float) -> Leftover | None:
    """A run without a record, known by its marker alone; None when there is nothing to do or to tell."""
    trace = RunTrace(run_id=run_id)
    keepers = [known for pid, marks in marked.items() if KEEPER_MARK in marks if (known := processes.identity(pid))]
    members = processes.of_run(trace)
    if not members and not keepers:
        return None
    title = f"The engine of run {run_id}"
    owners = {_owner(marks) for marks in marked.values()}
    if None in owners:
        sentence = f"{title} does not say which Engine Room started it (pid {min(marked)}); left alone."
        return Leftover(run_id=run_id, outcome="left_alone", sentence=sentence)
    living = [owner for owner in owners if owner is not None and processes.alive(owner)]
    if living:
        sentence = f"{title} belongs to another Engine Room that is running (pid {living[0].pid}); left alone."
        return Leftover(run_id=run_id, outcome="left_alone", sentence=sentence)
    _await_keepers(keepers, ORPHAN_GRACE_SECONDS, kill_seconds)
    survivors = processes.end_processes(lambda: processes.of_run(trace), REST_SECONDS, kill_seconds)
    if survivors:
        return Leftover(run_id=run_id, outcome="survived", sentence=_survived(title, survivors), survivors=survivors)
    sentence = f"{title} was left behind by an Engine Room that is gone; it was ended."
    return Leftover(run_id=run_id, outcome="ended", sentence=sentence)


def _owner(marks: dict[str, str]) -> ProcessIdentity | None:
    pid, _, start_ticks = marks.get(OWNER_MARK, "").partition(":")
    if not (pid.isdigit() and start_ticks.isdigit()):
        return None
    return ProcessIdentity(int(pid), int(start_ticks), processes.boot_id())


def _await_keepers(keepers: list[ProcessIdentity], grace_seconds: float, kill_seconds: float) -> None:
    """A keeper that lost its daemon is already ending its run: it is given its time, then killed (it may be stopped)."""
    until = time.monotonic() + min(grace_seconds, ORPHAN_GRACE_SECONDS) + kill_seconds + KEEPER_EXTRA_SECONDS
    while any(processes.alive(keeper) for keeper in keepers):
        if time.monotonic() >= until:
            for keeper in keepers:
                processes.signal_verified(keeper, signal.SIGKILL)
            return
        time.sleep(0.05)


def _survived(title: str, survivors: tuple[ProcessView, ...]) -> str:
    listed = "; ".join(str(each) for each in survivors)
    return f"{title} was left behind by an Engine Room that is gone and cannot be ended: {listed}."
