"""Decides why a run ended: from its log, its exit code and what was asked of it, to a sentence, an advice and the evidence.

The cause is the first telling line, not the last: what an engine prints at its end is generic, and what other processes
print after the first failure only repeats it. Rows with a lower rank beat earlier lines of a higher one.
"""

from __future__ import annotations

import re
import signal as signals
from collections import deque
from collections.abc import Iterable, Mapping, Sequence

from app.core.diagnosis.generic import GENERIC
from app.core.diagnosis.pattern import FailurePattern, any_of
from app.core.lifecycle import Evidence, Failure

__all__ = ["GENERIC", "FailurePattern", "diagnose", "ending_words"]

LAST_LINES = 50
LONGEST_LINE = 2_000  # characters that are looked at and kept; a progress bar can be a megabyte in one line

_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
_LOOKS_LIKE_AN_ERROR = re.compile(r"\b(error|fatal|exception|traceback|panic|failed|cannot|unable)\b", re.IGNORECASE)
_NOISE = re.compile(r"ptrace|gdb|yama|leaked semaphore|process group|warning", re.IGNORECASE)

# How a program ended by a signal that nobody here sent; a rank as the log rows have, so that a log can know better.
_SIGNALS: dict[int, FailurePattern] = {
    signals.SIGKILL: FailurePattern(
        kind="out_of_memory",
        pattern="",
        summary="The engine was killed from outside, most likely because main memory ran out.",
        advice="Take a smaller context or a smaller model, or close other programs.",
    ),
    signals.SIGILL: FailurePattern(
        kind="illegal_instruction",
        pattern="",
        summary="The engine was built for a newer processor than this one.",
        advice="Install the prebuilt engine, or build it on this machine.",
    ),
    signals.SIGSEGV: FailurePattern(
        kind="crashed",
        pattern="",
        summary="The engine crashed.",
        advice="Load again; when it comes back, update the engine or change the settings.",
    ),
    signals.SIGABRT: FailurePattern(
        kind="crashed",
        pattern="",
        summary="The engine stopped at a check of its own.",
        advice="Update the engine, or change the settings.",
    ),
    signals.SIGBUS: FailurePattern(
        kind="bad_model",
        pattern="",
        summary="The model file changed or its drive failed while it was mapped into memory.",
        advice="Check the drive and the file, then load again.",
    ),
    signals.SIGTERM: FailurePattern(
        kind="killed",
        pattern="",
        summary="Something outside Engine Room stopped the engine.",
        advice="Load it again.",
    ),
}
_BY_EXIT_CODE: dict[int, FailurePattern] = {
    126: FailurePattern(
        kind="engine_not_installed",
        pattern="",
        summary="The engine's program may not be executed.",
        advice="Make it executable, or install the engine again.",
    ),
    127: FailurePattern(
        kind="missing_library",
        pattern="",
        summary="The engine's program, or a library that it needs, is not there.",
        advice="Install the engine again.",
    ),
}


def diagnose(
    lines_with_offsets: Iterable[tuple[int, str]],
    *,
    run_id: str,
    profile_id: str,
    phase: str,
    exit_code: int | None,
    signal: int | None,
    asked_to_stop: bool,
    patterns: Sequence[FailurePattern],
) -> Failure:
    """Why the run ended. `lines_with_offsets`: (byte where the line begins in the log, the line), oldest first.

    `signal` is the positive number when a signal ended it. A run that was asked to stop has not failed: its `kind` is
    "cancelled" and it carries no evidence. GENERIC rows are looked at after `patterns`.
    """
    table = (*patterns, *GENERIC)
    quick = any_of(tuple(row.pattern for row in table))
    last: deque[str] = deque(maxlen=LAST_LINES)
    best: tuple[FailurePattern, Mapping[str, str], Evidence] | None = None
    first_error: Evidence | None = None
    last_words: Evidence | None = None
    for offset, raw in lines_with_offsets:
        line = _ANSI.sub("", raw[:LONGEST_LINE]).rstrip("\r\n")
        last.append(line)
        if not line.strip():
            continue
        here = Evidence(run_id=run_id, log_offset=offset, line=line)
        last_words = here
        if first_error is None and _LOOKS_LIKE_AN_ERROR.search(line) and not _NOISE.search(line):
            first_error = here
        if quick.search(line) is None:
            continue
        for row in table:
            if best is not None and row.rank >= best[0].rank:
                continue
            groups = row.match(line)
            if groups is not None:
                best = (row, groups, here)

    def failure(row: FailurePattern, groups: Mapping[str, str], evidence: Evidence | None, ending: str = "") -> Failure:
        return Failure(
            kind=row.kind,
            summary=" ".join(part for part in (_filled(row.summary, groups), ending) if part),
            advice=_filled(row.advice, groups),
            profile_id=profile_id,
            phase=phase,
            exit_code=exit_code,
            signal=signal,
            evidence=evidence,
            last_lines=tuple(last),
            remedies=row.remedies,
        )

    if asked_to_stop:
        return failure(_STOPPED, {}, None)
    if best is not None:
        return failure(*best)
    ending = ending_words(exit_code, signal)
    if signal is not None and signal in _SIGNALS:
        return failure(_SIGNALS[signal], {}, last_words, ending)
    if exit_code is not None and exit_code in _BY_EXIT_CODE:
        return failure(_BY_EXIT_CODE[exit_code], {}, first_error or last_words, ending)
    return failure(_UNKNOWN, {}, first_error or last_words, ending)


_STOPPED = FailurePattern(kind="cancelled", pattern="", summary="It was stopped, as asked.", advice="")
_UNKNOWN = FailurePattern(
    kind="crashed",
    pattern="",
    summary="The engine ended by itself.",
    advice="The marked line of its log is the first that looks like an error.",
)


def ending_words(exit_code: int | None, signal: int | None) -> str:
    """How the process ended, as a sentence; "" when that is not known."""
    if signal is not None:
        try:
            return f"It ended by signal {signal} ({signals.Signals(signal).name})."
        except ValueError:
            return f"It ended by signal {signal}."
    return "" if exit_code is None else f"It ended with exit code {exit_code}."


def _filled(template: str, groups: Mapping[str, str]) -> str:
    """The row's sentence with what the line said; text from a log is put in as it is, never interpreted."""
    filled = template
    for name, value in groups.items():
        filled = filled.replace("{" + name + "}", value.strip().rstrip("."))
    return filled
