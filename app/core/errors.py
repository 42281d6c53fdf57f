"""Says what can go wrong: one tree of errors, each a sentence for a person with what to do and where the evidence is.

EngineRoomError
├─ ConfigError     SettingInvalid · ProfileInvalid · ProfileChanged
├─ ModelError      UnknownProfile · UnknownRun · ModelMissing · ModelUnreadable · ModelChanged
├─ EngineError     EngineNotInstalled · DoesNotFit · EngineFailed · EngineBusy · NoSuchJob
├─ DaemonError     DaemonUnreachable · DaemonTooOld · AnotherDaemon · NoSystemd · BadRequest
├─ HubError        HubUnreachable · NotOnHub · ModelGated · DownloadDamaged
└─ StorageError    NotWritable · DiskFull · SocketPathTooLong

Expected outcomes of a load are values (`Failure`); an exception means "this call cannot do its job".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import msgspec


class EngineRoomError(Exception):
    """`summary` says what happened, `advice` what to do, `evidence` where to look; `kind` names it for programs."""

    kind: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500

    def __init__(self, summary: str, advice: str = "", evidence: str = "") -> None:
        super().__init__(summary)
        self.summary = summary
        self.advice = advice
        self.evidence = evidence
        self.details: tuple[Detail, ...] = ()

    def __str__(self) -> str:
        return " ".join(part for part in (self.summary, self.advice, self.evidence) if part)

    def report(self) -> ErrorReport:
        """The form in which the error crosses the control socket."""
        return ErrorReport(
            kind=self.kind, summary=self.summary, advice=self.advice, evidence=self.evidence, details=self.details
        )


class Detail(msgspec.Struct, frozen=True, kw_only=True):
    """One of several things that are wrong at once: `key` is where ("settings.slots"), the rest is for a person."""

    key: str
    summary: str
    advice: str = ""


class ErrorReport(msgspec.Struct, frozen=True, kw_only=True):
    """An error as it travels: the body of every refused control call."""

    kind: str
    summary: str
    advice: str = ""
    evidence: str = ""
    details: tuple[Detail, ...] = ()  # of a profile: all its problems


class ConfigError(EngineRoomError):
    kind, exit_code, http_status = "config_invalid", 8, 422


class SettingInvalid(ConfigError):
    kind = "setting_invalid"


class ProfileInvalid(ConfigError):
    """A profile file that cannot be used; `file` and `key` say where."""

    kind = "profile_invalid"

    def __init__(self, file: str, key: str, problem: str, advice: str = "") -> None:
        where = f"{file}: {key}: " if key else f"{file}: "
        super().__init__(f"{where}{problem}", advice)
        self.file = file
        self.key = key
        self.problem = problem
        self.problems: tuple[ProfileInvalid, ...] = (self,)

    def with_all(self, problems: Sequence[ProfileInvalid]) -> ProfileInvalid:
        """This error, knowing every problem of its file."""
        self.problems = tuple(problems)
        self.details = tuple(
            Detail(
                key=each.key, summary=f"{each.key}: {each.problem}" if each.key else each.problem, advice=each.advice
            )
            for each in self.problems
        )
        return self


class ProfileChanged(ConfigError):
    """The file is not what the change was made from; nothing was written."""

    kind, http_status = "profile_changed", 409


class ModelError(EngineRoomError):
    kind, exit_code, http_status = "model_error", 4, 404


class UnknownProfile(ModelError):
    kind = "no_such_model"


class ModelMissing(ModelError):
    kind = "model_missing"


class ModelUnreadable(ModelError):
    kind, http_status = "model_unreadable", 422


class UnknownRun(ModelError):
    kind = "no_such_run"


class ModelChanged(ModelError):
    """The model's file is not what it was in the run that shall be repeated."""

    kind, http_status = "model_changed", 409


class EngineError(EngineRoomError):
    kind, exit_code, http_status = "engine_failed", 6, 502


class EngineNotInstalled(EngineError):
    kind, exit_code, http_status = "engine_not_installed", 7, 424


class DoesNotFit(EngineError):
    kind, exit_code, http_status = "does_not_fit", 5, 409


class EngineFailed(EngineError):
    pass


class EngineBusy(EngineError):
    """It cannot be done now, because something else is under way with that engine."""

    kind, http_status = "engine_busy", 409


class NoSuchJob(EngineError):
    kind, http_status = "no_such_job", 404


class DaemonError(EngineRoomError):
    kind, exit_code, http_status = "daemon_error", 3, 503


class DaemonUnreachable(DaemonError):
    kind = "daemon_unreachable"


class DaemonTooOld(DaemonError):
    kind = "daemon_too_old"


class AnotherDaemon(DaemonError):
    kind, http_status = "another_daemon", 409


class NoSystemd(DaemonError):
    """systemd does not run for this account, or did not do what it was asked for."""

    kind = "no_systemd"


class BadRequest(DaemonError):
    """A control call that does not have the documented form."""

    kind, exit_code, http_status = "bad_request", 2, 400


class HubError(EngineRoomError):
    """The hub of models did not give what was asked of it."""

    kind, exit_code, http_status = "hub_error", 11, 502


class HubUnreachable(HubError):
    kind, http_status = "hub_unreachable", 503


class NotOnHub(HubError):
    kind, http_status = "not_on_hub", 404


class ModelGated(HubError):
    """Its publisher lets only those have it who agreed to its terms, or whom he let in."""

    kind, http_status = "model_gated", 403


class DownloadDamaged(HubError):
    """What came is not what was published."""

    kind = "download_damaged"


class StorageError(EngineRoomError):
    kind, exit_code, http_status = "storage", 10, 507


class NotWritable(StorageError):
    kind = "not_writable"


class DiskFull(StorageError):
    kind = "disk_full"


class SocketPathTooLong(StorageError):
    kind = "socket_path_too_long"


def _walk(root: type[EngineRoomError]) -> list[type[EngineRoomError]]:
    return [root, *(found for child in root.__subclasses__() for found in _walk(child))]


def raised_from(report: ErrorReport) -> EngineRoomError:
    """The error that a report describes, so that a client raises what the daemon raised; an unknown kind keeps its text."""
    for cls in _walk(EngineRoomError):
        if cls.kind == report.kind:
            error = cls.__new__(cls)
            EngineRoomError.__init__(error, report.summary, report.advice, report.evidence)
            error.details = report.details
            return error
    return EngineRoomError(report.summary, report.advice, report.evidence)
