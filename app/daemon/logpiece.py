"""Reads a piece of a run's log as it may leave: redacted at equal length, and of a living run no half of a secret (I18)."""

from __future__ import annotations

import os
from pathlib import Path

from app.core.redaction import CONTEXT_BYTES, masked

LINE_BYTES = 64 * 1024  # a line that is longer is shown before its end has come, up to a safe cut


def readable_end(path: Path, size: int, secrets: tuple[str, ...]) -> int:
    """Up to which offset a log that is still being written may be shown: to the end of its last whole line.

    The rest may hold the first half of a secret, which nobody could recognise yet. Of a very long line all is shown but so
    many bytes as the longest secret could have there.
    """
    at = max(0, size - LINE_BYTES - _context(secrets))
    try:
        with path.open("rb") as log_file:
            log_file.seek(at)
            data = log_file.read(size - at)
    except OSError:
        return 0
    end = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
    if len(data) - end > LINE_BYTES:
        end = len(data) - _context(secrets)
    return at + _before_a_beginning(data, end, secrets)


def _before_a_beginning(data: bytes, end: int, secrets: tuple[str, ...]) -> int:
    """`end`, or where a secret of several lines begins whose rest has not come before it."""
    for secret in (secret.encode() for secret in secrets if len(secret.splitlines()) > 1):
        for length in range(min(len(secret) - 1, end), 0, -1):
            if data.endswith(secret[:length], 0, end) and not data.startswith(secret, end - length):
                return end - length
    return end


def redacted_piece(path: Path, start: int, end: int, limit: int, secrets: tuple[str, ...]) -> tuple[int, bytes]:
    """(offset, bytes) of a log from `start` up to `end`, holes at the front left out, secrets masked even across the piece's ends."""
    context = _context(secrets)
    try:
        with path.open("rb") as log_file:
            try:
                start = max(start, os.lseek(log_file.fileno(), start, os.SEEK_DATA))
            except OSError:
                return start, b""
            before, limit = min(context, start), max(0, min(limit, end - start))
            log_file.seek(start - before)
            data = log_file.read(before + limit + context)
    except OSError:
        return start, b""
    clean = masked(data, secrets)
    return start, clean[before : before + limit]


def _context(secrets: tuple[str, ...]) -> int:
    """How far around a piece must be read, so that a secret across its ends is seen whole."""
    return max(CONTEXT_BYTES, *(len(secret.encode()) for secret in secrets), 0)
