"""Caps a run's log by freeing its front, so that every byte offset that anyone remembers stays valid."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import msgspec

_KEEP_SIZE = 0x01  # FALLOC_FL_KEEP_SIZE
_PUNCH_HOLE = 0x02  # FALLOC_FL_PUNCH_HOLE
_BLOCK = 4096

_libc = ctypes.CDLL(None, use_errno=True)


class LogSpan(msgspec.Struct, frozen=True, kw_only=True):
    """Which bytes of a log can be read: from `first_offset` up to `size`; before it lie zeros that use no disk."""

    first_offset: int
    size: int

    @property
    def readable_bytes(self) -> int:
        return self.size - self.first_offset


def log_span(path: Path) -> LogSpan:
    """What of the log can be read; an empty span when there is no such file."""
    try:
        with path.open("rb", buffering=0) as file:
            return _span(file.fileno())
    except OSError:
        return LogSpan(first_offset=0, size=0)


def _span(descriptor: int) -> LogSpan:
    size = os.fstat(descriptor).st_size
    try:
        first = os.lseek(descriptor, 0, os.SEEK_DATA)
    except OSError:  # a file without any data, or a filesystem that cannot tell
        first = 0
    return LogSpan(first_offset=min(first, size), size=size)


def cap_log(path: Path, limit_bytes: int) -> LogSpan:
    """Frees all but the last `limit_bytes` (to whole blocks) and tells what is readable now.

    The writer is not disturbed. On a filesystem that cannot punch holes nothing happens. Raises nothing.
    """
    try:
        with path.open("r+b", buffering=0) as file:
            descriptor = file.fileno()
            span = _span(descriptor)
            end = (span.size - limit_bytes) // _BLOCK * _BLOCK
            if end > span.first_offset:
                flags = ctypes.c_int(_PUNCH_HOLE | _KEEP_SIZE)
                _libc.fallocate64(ctypes.c_int(descriptor), flags, ctypes.c_int64(0), ctypes.c_int64(end))
            return _span(descriptor)
    except OSError:
        return LogSpan(first_offset=0, size=0)
