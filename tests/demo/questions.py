"""Owns the questions for the demo model, the file under test and the shape of a question and its answer."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
MODEL = Path(os.environ.get("ENGINE_ROOM_TEST_DEMO_MODEL", ROOT / "resources" / "models" / "engine-room-demo.gguf"))
CONTEXT = 2048

_DATA = tomllib.loads((HERE / "questions.toml").read_text(encoding="utf-8"))
KNOWN: list[dict[str, str]] = _DATA["question"]
STRANGERS: list[str] = [row["ask"] for row in _DATA["stranger"]]

Message = dict[str, str]


@dataclass(frozen=True)
class Reply:
    """One finished answer of the model."""

    text: str
    finish_reason: str


Ask = Callable[..., Reply]
