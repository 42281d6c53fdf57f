"""Decides how a model's path is read: a GGUF file (or one part of a split one), or a Hugging Face folder."""

from __future__ import annotations

from pathlib import Path

from app.core.catalog.facts import ModelFacts
from app.core.catalog.gguf_facts import read_gguf_facts
from app.core.catalog.safetensors import read_folder_facts
from app.core.errors import ModelUnreadable


def read_facts(path: Path) -> ModelFacts:
    """The facts of the model at `path`; raises ModelMissing or ModelUnreadable, each a sentence."""
    if path.is_dir():
        return read_folder_facts(path)
    facts = read_gguf_facts(path)
    if facts is None:
        raise ModelUnreadable(
            f"{path} is not a model but belongs to one (a projector, an adapter or a vocabulary).",
            "Name the model's own GGUF file.",
        )
    return facts
