"""Finds the installed engines by looking at files only: an engine is never imported or started to be asked."""

from __future__ import annotations

import hashlib
import importlib.metadata
import mmap
import os
import re
import shutil
import sys
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import msgspec

from app.core.paths import Paths
from app.core.snapshot import EngineView, InstallationView
from app.engines.base import Installation
from app.engines.registry import FAMILIES

RECORD = "engine.json"  # in each folder that the installer has finished; a folder without it does not count

# family → (package, variable that names an interpreter to take it from)
PYTHON_PACKAGES = {
    "llama.cpp": ("xllamacpp", "ENGINE_ROOM_EMBEDDED_PYTHON"),
    "llama-cpp-python": ("llama-cpp-python", "ENGINE_ROOM_LLAMA_CPP_PYTHON"),
}
BINARY_VARIABLE = "ENGINE_ROOM_LLAMA_SERVER"


class EngineRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What the installer writes last into an engine's folder."""

    family: str
    package: str
    version: str
    accelerator: str
    installed_at_unix: float
    executable: str = "bin/python"  # in its folder: the interpreter that has the package, or the program itself
    library_folder: str = ""  # in its folder or absolute: shared libraries for a binding that has none of its own
    programs: dict[str, str] = {}  # family → executable in the folder, of a build that serves several families

    def program_of(self, family: str) -> str | None:
        """The executable for that family, in the engine's folder; None when this is no engine of it."""
        return self.programs.get(family) if self.programs else self.executable if family == self.family else None

    @property
    def families(self) -> tuple[str, ...]:
        return tuple(self.programs) or (self.family,)


def find(family_id: str, paths: Paths, environ: Mapping[str, str]) -> Installation | None:
    """The installation that a launch would use now, None when there is none. Cheap enough to ask for each card.

    A variable's choice wins, then what the installer made last, then this program's own environment; for the native
    program its variable, then PATH. Only what costs reading (a package's metadata, a large file's ends) is remembered,
    until the files change.
    """
    if family_id not in PYTHON_PACKAGES:
        binary = environ.get(BINARY_VARIABLE) or shutil.which("llama-server", path=environ.get("PATH", os.defpath))
        return _native(family_id, Path(binary), _stamp(Path(binary))) if binary and os.access(binary, os.X_OK) else None
    package, variable = PYTHON_PACKAGES[family_id]
    if environ.get(variable):
        python = Path(environ[variable])
        folders = tuple(python.parent.parent.glob("lib*/python3*/*-packages"))
        return _in_environment(family_id, package, python, folders, _stamp(*folders))
    for folder, record in installed(paths.engines):
        program = record.program_of(family_id)
        executable = folder / (program or "")
        if program is not None and os.access(executable, os.X_OK):
            return Installation(
                family=family_id,
                executable=str(executable),
                id=folder.name,
                version=record.version,
                build=f"{record.package} {record.version}",
                accelerator=record.accelerator,
                source="ours",
                library_folder=str(folder / record.library_folder) if record.library_folder else "",
            )
    own = tuple(Path(entry) for entry in sys.path if entry.endswith("-packages"))
    return _in_environment(family_id, package, Path(sys.executable), own, _stamp(*own))


def views(paths: Paths, environ: Mapping[str, str]) -> tuple[EngineView, ...]:
    """Every family with what is installed of it, or how to get it."""
    rows = []
    for family in FAMILIES.values():
        installation = find(family.id, paths, environ)
        rows.append(
            EngineView(
                family=family.id,
                title=family.title,
                available=installation is not None,
                build=_build_words(installation) if installation else "",
                path=installation.executable if installation else "",
                installations=(_view(installation),) if installation else (),
                how_to_get="" if installation else family.how_to_get(),
            )
        )
    return tuple(rows)


def id_of(family_id: str, path: str) -> str:
    """What a pin names: the same as long as the engine stays where it is, whatever its version becomes."""
    return f"{family_id}-{hashlib.sha256(path.encode(errors='surrogateescape')).hexdigest()[:8]}"


def _view(installation: Installation) -> InstallationView:
    return InstallationView(
        id=installation.id,
        family=installation.family,
        version=installation.version,
        build=installation.build,
        accelerator=installation.accelerator,
        source=installation.source,
        path=installation.executable,
        chosen=True,
    )


def installed(engines: Path) -> tuple[tuple[Path, EngineRecord], ...]:
    """The finished engine folders, newest first."""
    rows = []
    for file in engines.glob(f"*/{RECORD}"):
        try:
            rows.append((file.parent, msgspec.json.decode(file.read_bytes(), type=EngineRecord)))
        except (OSError, msgspec.DecodeError):
            continue  # the installer writes it last and whole, so this is not one of its folders
    return tuple(sorted(rows, key=lambda row: row[1].installed_at_unix, reverse=True))


def _stamp(*places: Path) -> tuple[int, ...]:
    return tuple(place.stat().st_mtime_ns if place.exists() else 0 for place in places)


@lru_cache(maxsize=16)
def _native(family_id: str, binary: Path, stamp: tuple[int, ...]) -> Installation:
    real = binary.resolve()
    build = re.search(r"\bb\d{4,}\b", str(real))  # releases are unpacked into llama-b1234
    libraries = [file for file in real.parent.glob("libggml-*.so*") if file.is_file()]
    return Installation(
        family=family_id,
        executable=str(binary.absolute()),
        id=id_of(family_id, str(binary.absolute())),
        build=build[0] if build else "",
        accelerator=_accelerator([binary, *libraries]),
    )


@lru_cache(maxsize=16)
def _in_environment(
    family_id: str, package: str, python: Path, folders: tuple[Path, ...], stamp: tuple[int, ...]
) -> Installation | None:
    """The package as the interpreter `python` would see it, from the metadata in its folders."""
    found = next(iter(importlib.metadata.distributions(name=package, path=[str(folder) for folder in folders])), None)
    if found is None or not os.access(python, os.X_OK):
        return None
    libraries = [Path(str(file.locate())) for file in found.files or () if ".so" in file.name]
    return Installation(
        family=family_id,
        executable=str(python.absolute()),  # not resolved: a virtual environment's python is a link
        id=id_of(family_id, str(python.absolute())),
        version=found.version,
        build=f"{package} {found.version}",
        accelerator=_accelerator(libraries),
    )


_DRIVER_LIBRARIES = {b"libcuda.so": "cuda", b"libamdhip64.so": "rocm", b"libvulkan.so": "vulkan"}
_LOOKED_AT = (
    4 * 1024**2
)  # bytes at each end: the linker's list of libraries is there, not in the gigabyte of code between


def _accelerator(files: list[Path]) -> str:
    """What a build computes on, by the driver library that its files ask the loader for."""
    for file in files:
        try:
            with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
                ends = ((0, _LOOKED_AT), (max(0, len(content) - _LOOKED_AT), len(content)))
                for name, accelerator in _DRIVER_LIBRARIES.items():
                    if any(content.find(name, start, end) >= 0 for start, end in ends):
                        return accelerator
        except (OSError, ValueError):
            continue  # gone, not readable or empty
    return "cpu"


def _build_words(installation: Installation) -> str:
    return ", ".join(part for part in (installation.build, installation.accelerator.upper()) if part)
