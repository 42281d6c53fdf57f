"""Finds a model of the Hugging Face hub in the cache on this disk by its name: a snapshot folder, read in place."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


def hub_cache_folder(environ: Mapping[str, str]) -> Path:
    """Where the hub's own tools keep their downloads."""
    if environ.get("HF_HUB_CACHE"):
        return Path(environ["HF_HUB_CACHE"])
    home = Path(environ.get("HOME") or "/nonexistent")
    cache = Path(environ["XDG_CACHE_HOME"]) if environ.get("XDG_CACHE_HOME") else home / ".cache"
    return Path(environ.get("HF_HOME") or cache / "huggingface") / "hub"


def cached_snapshot(cache: Path, name: str) -> Path | None:
    """The folder of the model `org/name` as its main branch was when it was downloaded last; None when it is not here."""
    if not HUB_NAME.fullmatch(name):
        return None
    folder = cache / f"models--{name.replace('/', '--')}"
    try:
        commit = (folder / "refs" / "main").read_text("utf-8").strip()
        if re.fullmatch(r"[0-9a-f]{40}", commit) and (folder / "snapshots" / commit / "config.json").is_file():
            return folder / "snapshots" / commit
        whole = [one.parent for one in (folder / "snapshots").glob("*/config.json")]
        return max(whole, key=lambda one: one.stat().st_mtime_ns, default=None)
    except (OSError, ValueError):
        return None


def name_of_folder(folder: Path) -> str:
    """What a model's folder is called: its own name, or in the hub's cache the model's, not the snapshot's number."""
    outer = folder.parent.parent.name
    if folder.parent.name == "snapshots" and outer.startswith("models--"):
        return outer.rpartition("--")[2]
    return folder.name
