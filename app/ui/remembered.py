"""Owns what the window itself remembers between starts: its place, page, theme and the answer to the closing question."""

from __future__ import annotations

import json
import logging
from pathlib import Path

log = logging.getLogger(__name__)


class Remembered:
    """A small JSON file in the config folder; unreadable means nothing is remembered, unwritable is logged."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._values: dict[str, object] = {}
        try:
            read = json.loads(file.read_text("utf-8"))
            self._values = read if isinstance(read, dict) else {}
        except (OSError, ValueError):
            pass

    def text(self, key: str, default: str = "") -> str:
        value = self._values.get(key, default)
        return value if isinstance(value, str) else default

    def numbers(self, key: str) -> list[int]:
        value = self._values.get(key)
        return value if isinstance(value, list) and all(isinstance(v, int) for v in value) else []

    def flag(self, key: str) -> bool:
        return self._values.get(key) is True

    def keep(self, **values: object) -> None:
        """Writes at once, whole file, so that a kill loses nothing."""
        merged = {**self._values, **values}
        if merged == self._values:
            return
        self._values = merged
        draft = self._file.with_suffix(".new")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            draft.write_text(json.dumps(merged, indent=1), "utf-8")
            draft.replace(self._file)
        except OSError as error:
            log.warning("%s cannot be written: %s", self._file, error)
