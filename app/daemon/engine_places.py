"""Knows where engines usually lie: folders of PATH, virtual and conda environments, places that the person added.

Only names of files are looked at, each list has an end, and what cannot be read is left out.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path

MOST_FOLDERS = 300  # of a home, of an environments folder, of a folder that was added
CONDA_FOLDERS = ("miniconda3", "anaconda3", "miniforge3", "mambaforge", "micromamba", "conda", ".conda")
# a folder with builds: itself, what CMake makes, releases and checkouts beside each other
BUILD_PATTERNS = (
    "llama-server",
    "bin/llama-server",
    "build*/bin/llama-server",
    "*/llama-server",
    "*/bin/llama-server",
    "*/build*/bin/llama-server",
)


def on_path(name: str, environ: Mapping[str, str]) -> Iterator[Path]:
    """Every executable of that name, in the order of PATH."""
    for folder in dict.fromkeys(environ.get("PATH", os.defpath).split(os.pathsep)):
        if folder.startswith("/") and is_program(program := Path(folder) / name):
            yield program


def is_program(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


def environments(environ: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    """("venv" or "conda", folder) of every environment in the usual places, the active ones first."""
    seen: set[str] = set()
    for folder in _candidates(environ):
        real = os.path.realpath(folder)
        if real not in seen and (kind := kind_of_environment(folder)):
            seen.add(real)
            yield kind, folder


def kind_of_environment(folder: Path) -> str:
    """ "conda", "venv", or "" for a folder that is neither."""
    if not is_program(folder / "bin" / "python"):
        return ""
    if (folder / "conda-meta").is_dir():
        return "conda"
    return "venv" if (folder / "pyvenv.cfg").is_file() else ""


def _candidates(environ: Mapping[str, str]) -> Iterator[Path]:
    for variable in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        if environ.get(variable, "").startswith("/"):
            yield Path(environ[variable])
    home = Path(environ.get("HOME") or "/nonexistent")
    yield from (home / ".venv", home / "venv")
    data = environ.get("XDG_DATA_HOME", "")
    shared = Path(data) if data.startswith("/") else home / ".local" / "share"
    for folder in _folders(home):
        if not folder.name.startswith("."):
            yield from (folder / ".venv", folder / "venv")
    for many in (home / ".virtualenvs", shared / "uv" / "tools", shared / "pipx" / "venvs", home / ".local/pipx/venvs"):
        yield from _folders(many)
    for root in (*(home / name for name in CONDA_FOLDERS), Path("/opt/conda"), *_listed_by_conda(home)):
        yield root
        yield from _folders(root / "envs")


def _folders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry.path) for entry in islice(entries, MOST_FOLDERS) if entry.is_dir())
    except OSError:
        return []


def _listed_by_conda(home: Path) -> list[Path]:
    try:
        with (home / ".conda" / "environments.txt").open(encoding="utf-8") as file:
            lines = [line.strip() for line in islice(file, MOST_FOLDERS)]
    except (OSError, ValueError):
        return []
    return [Path(line) for line in lines if line.startswith("/")]


def builds_in(folder: Path) -> Iterator[Path]:
    """Every llama-server in a folder with builds."""
    seen: set[str] = set()
    for pattern in BUILD_PATTERNS:
        for program in sorted(islice(_glob(folder, pattern), MOST_FOLDERS)):
            real = os.path.realpath(program)
            if real not in seen and is_program(program):
                seen.add(real)
                yield program


def _glob(folder: Path, pattern: str) -> Iterable[Path]:
    try:
        yield from folder.glob(pattern)
    except OSError:
        return


def interpreter_of(script: Path) -> Path | None:
    """The Python that a console script names in its first line; None for anything else."""
    try:
        with script.open("rb") as file:
            first = file.readline(300)
    except OSError:
        return None
    words = first[2:].decode("utf-8", "replace").split()
    if not first.startswith(b"#!") or not words or not Path(words[0]).name.startswith("python"):
        return None
    return Path(words[0])
