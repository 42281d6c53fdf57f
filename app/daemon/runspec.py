"""Defines what is needed to start an engine, and the sentence when it cannot start."""

from __future__ import annotations

import errno
import os

import msgspec

from app.core.errors import DiskFull, EngineFailed, EngineNotInstalled, EngineRoomError, NotWritable
from app.engines.base import Container


class RunSpec(msgspec.Struct, frozen=True, kw_only=True):
    """All that is needed to start an engine. `environment` is complete; nothing is inherited from the daemon."""

    id: str
    profile_id: str
    title: str
    engine: str  # engine family id
    model_path: str
    port: int
    argv: tuple[str, ...]
    environment: dict[str, str]
    cwd: str
    log_path: str
    grace_seconds: float
    end_argv: tuple[
        str, ...
    ] = ()  # run when grace is over or the leader has gone, for what is not below us (a container)
    container: Container | None = None  # what the run starts elsewhere; it is over only when that is gone too
    secrets: tuple[str, ...] = ()  # values masked in the record
    own_temporary: bool = False  # TMPDIR is a folder made for this run, and gone with it


def refusal(spec: RunSpec, step: str, number: int) -> EngineRoomError:
    """The sentence for what the keeper could not do."""
    program, why = spec.argv[0], os.strerror(number)
    match step, number:
        case "log", _:
            return storage_error(f"The log {spec.log_path} cannot be written", number)
        case "record", _:
            return storage_error(f"The record of run {spec.id} cannot be written", number)
        case "folder", _:
            return EngineFailed(
                f"{spec.title}: the folder {spec.cwd} cannot be entered: {why}.", "Check that it is there."
            )
        case "exec", errno.ENOENT | errno.ENOTDIR:
            return EngineNotInstalled(
                f"{spec.title}: the program {program} is not there, or the interpreter that it names is not.",
                "Install the engine again, or correct its path in the settings.",
            )
        case "exec", errno.EACCES | errno.EPERM:
            return EngineNotInstalled(
                f"{spec.title}: {program} may not be executed.",
                f"Allow it (chmod +x {program}), or correct the path in the settings.",
            )
        case "exec", errno.ENOEXEC:
            return EngineNotInstalled(
                f"{spec.title}: {program} is not a program for this machine.",
                "Install the build that fits this processor and system.",
            )
    return EngineFailed(f"{spec.title} could not be started: {why}.", "See the service's log.", f"step: {step}")


def storage_error(what: str, number: int) -> EngineRoomError:
    if number in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"{what}: the disk is full.", "Make room and load the model again.")
    advice = "Check the folder's owner and permissions; a link or a pipe in its place is refused."
    return NotWritable(f"{what}: {os.strerror(number)}.", advice)
