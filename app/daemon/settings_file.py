"""Owns the settings file: reads it, changes it in one step, and says which of its values a running daemon does not use yet."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path

import tomli_w

from app.core import control
from app.core.errors import DiskFull, NotWritable, StorageError
from app.core.settings import Settings, load_settings
from app.core.settings_view import changed, fields_of


class SettingsFile:
    """All work with the file happens in a thread, one change at a time: two windows cannot lose each other's."""

    def __init__(self, file: Path, environment: Mapping[str, str]) -> None:
        self._file = file
        self._environment = environment
        self._changing = asyncio.Lock()

    async def view(self, in_use: Settings) -> control.SettingsView:
        current = await asyncio.to_thread(load_settings, self._file)
        before = {field.key: field.value for field in fields_of(in_use, self._environment)}
        fields = fields_of(current, self._environment)
        waiting = tuple(field.key for field in fields if field.value != before[field.key])
        return control.SettingsView(file=str(self._file), fields=fields, restart_needed=waiting)

    async def change(self, values: Mapping[str, object]) -> Settings:
        """The settings after the change; raises SettingInvalid or StorageError, and then the file is as it was."""
        async with self._changing:
            return await asyncio.to_thread(self._change, values)

    def _change(self, values: Mapping[str, object]) -> Settings:
        load_settings(self._file)  # a broken file is told, not overwritten
        before = tomllib.loads(self._file.read_text("utf-8")) if self._file.is_file() else {}
        write_whole(self._file, tomli_w.dumps(changed(before, values)))
        return load_settings(self._file)


def write_whole(file: Path, text: str | bytes, *, mode: int = 0o666) -> None:
    """Replaces `file` in one step, so that a full disk or a crash leaves the old one. `mode` is less the umask."""
    beside = file.with_suffix(file.suffix + ".new")
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        beside.unlink(missing_ok=True)  # of an earlier crash, perhaps with other permissions
        with open(beside, "wb", opener=lambda path, flags: os.open(path, flags, mode)) as out:
            out.write(text if isinstance(text, bytes) else text.encode("utf-8"))
            out.flush()
            os.fsync(out.fileno())
        beside.replace(file)
    except OSError as error:
        with contextlib.suppress(OSError):  # a file may stand where its folder should
            beside.unlink(missing_ok=True)
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        kind: type[StorageError] = DiskFull if full else NotWritable
        advice = "Free some space" if full else "Check the owner and permissions of its folder"
        raise kind(f"{file} cannot be written: {error.strerror}.", f"{advice}; the old content is kept.") from error
