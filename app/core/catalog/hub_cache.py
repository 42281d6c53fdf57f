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


HUB_FILE = re.compile(rf"({HUB_NAME.pattern}):([\w.-]{{1,64}})")


def is_hub_name(name: str) -> bool:
    """Whether it can be the name of a model of the hub, or of one quantisation of it."""
    return bool(HUB_NAME.fullmatch(name) or HUB_FILE.fullmatch(name))


def cached_file(cache: Path, name: str) -> Path | None:
    """The GGUF file that `org/name:QUANT` means (as llama.cpp's `-hf` has it), of a split model the first part; None when it
    is not here. Its newest snapshot counts; what is loaded beside a model is none."""
    found = HUB_FILE.fullmatch(name)
    if found is None:
        return None
    snapshots = cache / f"models--{found[1].replace('/', '--')}" / "snapshots"
    mark = re.compile(rf"(?<![a-z0-9]){re.escape(found[2].lower())}(?![a-z0-9])")
    try:
        files = [
            file
            for file in snapshots.glob("*/**/*.gguf")
            if mark.search(file.name.lower()) and not file.name.lower().startswith("mmproj") and file.is_file()
        ]
        return max(files, key=lambda file: (file.stat().st_mtime_ns, [-ord(c) for c in file.name]), default=None)
    except OSError:
        return None


def name_of_folder(folder: Path) -> str:
    """What a model's folder is called: its own name, or in the hub's cache the model's, not the snapshot's number."""
    outer = folder.parent.parent.name
    if folder.parent.name == "snapshots" and outer.startswith("models--"):
        return outer.rpartition("--")[2]
    return folder.name
