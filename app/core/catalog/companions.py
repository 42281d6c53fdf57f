"""Reads the files that are loaded beside a model: what they are, and what they weigh."""

from __future__ import annotations

from pathlib import Path

from app.core.catalog.facts import Companion
from app.core.catalog.gguf import read_header
from app.core.catalog.gguf_facts import number_of
from app.core.catalog.read import read_facts

ROLES = {"mmproj": "vision", "draft_model": "draft", "lora": "lora"}  # setting → what its file is


def read_companion(role: str, path: Path) -> Companion:
    """Raises ModelMissing or ModelUnreadable, each a sentence."""
    if role == "draft":
        facts = read_facts(path)
        return Companion(role=role, path=path, weights_bytes=facts.weights_bytes, facts=facts)
    header = read_header(path)
    size, patch = (number_of(header.metadata.get(f"clip.vision.{name}")) for name in ("image_size", "patch_size"))
    return Companion(
        role=role,
        path=path,
        weights_bytes=sum(tensor.bytes for tensor in header.tensors),
        patches=(size // patch) ** 2 if size and patch else None,
        heads=number_of(header.metadata.get("clip.vision.attention.head_count")),
    )
