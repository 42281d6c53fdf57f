"""Opens a file of somebody else's so that it can be read without surprise: a pipe or a device is refused, never waited for."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path


class NotAFile(OSError):
    """It is a folder, a pipe, a socket or a device."""


def open_plain(path: Path) -> tuple[io.FileIO, os.stat_result]:
    """The file, open for reading, and what is known of it; raises NotAFile, OSError, or ValueError for a name that is none."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise NotAFile(0, "It is not a file", str(path))
    return io.FileIO(descriptor), status
