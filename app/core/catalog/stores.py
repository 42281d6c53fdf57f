"""Knows where other programs keep their models on this disk: the Hugging Face hub, llama.cpp, Ollama, LM Studio."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from app.core.catalog.hub_cache import hub_cache_folder

FOLDER = "folder"  # the person's own
HUGGING_FACE, LLAMA_CPP, OLLAMA, LM_STUDIO = "huggingface", "llama.cpp", "ollama", "lmstudio"
STORES = (HUGGING_FACE, LLAMA_CPP, OLLAMA, LM_STUDIO)
TITLES = {
    HUGGING_FACE: "Hugging Face cache",
    LLAMA_CPP: "llama.cpp cache",
    OLLAMA: "Ollama",
    LM_STUDIO: "LM Studio",
}

OLLAMA_SERVICE = Path("/usr/share/ollama/.ollama/models")  # of the account under which its Linux service runs


class Store(msgspec.Struct, frozen=True):
    """A folder in which another program keeps models; it may not be there."""

    kind: str  # one of STORES
    folder: Path


def stores_of(environ: Mapping[str, str], ollama_service: Path = OLLAMA_SERVICE) -> tuple[Store, ...]:
    """Every place where a store may lie for this account, the likeliest of each kind first."""
    home = Path(environ.get("HOME") or "/nonexistent")
    cache = Path(environ.get("XDG_CACHE_HOME") or home / ".cache")
    own_ollama = Path(environ.get("OLLAMA_MODELS") or home / ".ollama" / "models")
    found = (
        Store(HUGGING_FACE, hub_cache_folder(environ)),
        Store(LLAMA_CPP, Path(environ.get("LLAMA_CACHE") or cache / "llama.cpp")),
        Store(OLLAMA, own_ollama),
        Store(OLLAMA, ollama_service),
        Store(LM_STUDIO, home / ".lmstudio" / "models"),
        Store(LM_STUDIO, home / ".cache" / "lm-studio" / "models"),  # where its versions before 0.3 kept them
    )
    return tuple(dict.fromkeys(store for store in found if store.folder.is_absolute()))
