"""Says how a person or a desktop starts Engine Room from outside a terminal: the program by its full path."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

PROGRAM = "engine-room"


def own_program(prefix: Path = Path(sys.prefix)) -> tuple[str, ...]:
    """The command of this installation; a shortcut or a launcher has no PATH of ours. Without it, the module by its Python."""
    command = prefix / "bin" / PROGRAM
    return (str(command),) if command.is_file() else (sys.executable, "-m", "app")


def own_verb(verb: Sequence[str], prefix: Path = Path(sys.prefix)) -> tuple[str, ...]:
    return (*own_program(prefix), *verb)
