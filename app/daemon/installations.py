"""Finds the installed engines by looking at files only: an engine is never imported or started to be found."""

from __future__ import annotations

import hashlib
import importlib.metadata
import mmap
import os
import re
import sys
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path

import msgspec
from msgspec.structs import replace

from app.core.paths import Paths
from app.core.profiles import Profile
from app.core.snapshot import EngineView
from app.core.values import from_json
from app.daemon.choosing import choose, effective_pin, engine_views, why_none
from app.daemon.engine_choices import choices_or_none
from app.daemon.engine_places import builds_in, environments, interpreter_of, is_program, kind_of_environment, on_path
from app.engines.base import Installation
from app.engines.registry import FAMILIES
from app.engines.remote import ANYWHERE

RECORD = "engine.json"  # in each folder that the installer has finished; a folder without it does not count

# family → (package, variable that names an interpreter to take it from)
PYTHON_PACKAGES = {
    "llama.cpp": ("xllamacpp", "ENGINE_ROOM_EMBEDDED_PYTHON"),
    "llama-cpp-python": ("llama-cpp-python", "ENGINE_ROOM_LLAMA_CPP_PYTHON"),
    "vllm": ("vllm", "ENGINE_ROOM_VLLM"),
}
BINARY_VARIABLE = "ENGINE_ROOM_LLAMA_SERVER"
CANNOT_LAUNCH = "This version of Engine Room cannot launch it yet."


class EngineRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What the installer writes last into an engine's folder."""

    family: str
    package: str
    version: str
    accelerator: str
    installed_at_unix: float
    library_folder: str = ""  # in its folder: shared libraries for a binding that has none of its own
    programs: dict[str, str] = {}  # family → its program in the folder, where one build serves several

    @property
    def families(self) -> tuple[str, ...]:
        return tuple(self.programs) or (self.family,)

    def program_of(self, family_id: str) -> str | None:
        """The interpreter that has the package, or the program itself, in its folder; None for a family that it is not."""
        return self.programs.get(family_id, "bin/python") if family_id in self.families else None


def find(family_id: str, paths: Paths, environ: Mapping[str, str], pin: str = "") -> Installation | None:
    """The installation that a launch would use now, by its files alone; None when there is none.

    `pin` (an id or a path, from a profile) decides, then a variable, then what is pinned for the whole family. Without any
    of them: what the installer made last, this program's own environment, PATH, what the person added, and environments in
    the usual places, in this order.
    """
    pinned = choices_or_none(paths.engine_choices).pins.get(family_id, "")
    rows: list[Installation] = []
    for row in listed(paths, environ, family_id):
        rows.append(row)
        pin_now = effective_pin(rows, pin, pinned)
        if choose(rows, pin_now) is not None or (not pin_now and row.source == "variable"):
            break
    pin = effective_pin(rows, pin, pinned)
    return choose([*rows, *pinned_elsewhere(family_id, pin, environ)], pin)


def need(profile: Profile, paths: Paths, environ: Mapping[str, str]) -> Installation:
    """The installation that a profile is launched with; raises EngineNotInstalled with what to do."""
    found = find(profile.engine, paths, environ, profile.installation)
    if found is not None:
        return found
    rows = tuple(listed(paths, environ))
    family_pin = choices_or_none(paths.engine_choices).pins.get(profile.engine, "")
    pin = effective_pin([row for row in rows if row.family == profile.engine], profile.installation, family_pin)
    raise why_none(profile.engine, rows, pin, profile.id if profile.installation else "")


def pinned_elsewhere(family_id: str, pin: str, environ: Mapping[str, str]) -> tuple[Installation, ...]:
    """What a pin that is a path or an address leads to, wherever that is."""
    if family_id == "ollama" and "://" in pin:  # an Ollama that answers elsewhere than where it is looked for
        return (
            Installation(family="ollama", executable=pin, id=id_of("ollama", pin), build="Ollama", source="ollama"),
        )
    path = expanded_path(pin, environ)
    return () if path is None else tuple(row for row in at(path) if row.family == family_id)


def expanded_path(text: str, environ: Mapping[str, str]) -> Path | None:
    """The absolute path that a pin means; None when it is an id."""
    if text.startswith("~/"):
        return Path(environ.get("HOME") or "/") / text[2:]
    return Path(text) if text.startswith("/") else None


def views(paths: Paths, environ: Mapping[str, str]) -> tuple[EngineView, ...]:
    """Every family with what is installed of it, by files alone, or how to get it."""
    return engine_views(tuple(listed(paths, environ)), choices_or_none(paths.engine_choices).pins)


def listed(paths: Paths, environ: Mapping[str, str], family_id: str = "") -> Iterator[Installation]:
    """All installations, or those of one family, in the order of `find`; each once, under the first name that leads to it."""
    seen: set[tuple[str, str]] = set()
    for row in _found(paths, environ):
        mark = (row.family, os.path.realpath(_place(row)))
        if mark not in seen and family_id in ("", row.family):
            seen.add(mark)
            yield _said(row)


def _place(row: Installation) -> Path:
    program = Path(row.executable)
    return program.parent.parent if row.family in PYTHON_PACKAGES else program  # an environment's python is a link


def _said(row: Installation) -> Installation:
    known = row.family in FAMILIES or row.problem
    return row if known else replace(row, problem=CANNOT_LAUNCH)


def _found(paths: Paths, environ: Mapping[str, str]) -> Iterator[Installation]:
    for family_id, (_, variable) in PYTHON_PACKAGES.items():
        if environ.get(variable):
            yield _by_variable(family_id, variable, Path(environ[variable]))
    if environ.get(BINARY_VARIABLE):
        yield _by_variable("llama-server", BINARY_VARIABLE, Path(environ[BINARY_VARIABLE]))
    for folder, record in installed(paths.engines):
        for family_id in record.families:
            if is_program(folder / (record.program_of(family_id) or "")):
                yield installation_of(record, folder, family_id)
    own = tuple(Path(entry) for entry in sys.path if entry.endswith("-packages"))
    yield from _packages(Path(sys.executable), own, "own")
    for program in on_path("llama-server", environ):
        yield native(program, "path")
    for script in on_path("vllm", environ):
        if (python := interpreter_of(script)) is not None:
            yield from in_environment(python.parent.parent, "path")
    for place in choices_or_none(paths.engine_choices).places:
        yield from at(Path(place))
    for kind, folder in environments(environ):
        yield from in_environment(folder, kind)
    for program in on_path("ollama", environ):
        yield Installation(
            family="ollama", executable=str(program), id=id_of("ollama", str(program)), build="Ollama", source="path"
        )
    yield Installation(family="remote", executable=ANYWHERE, id="remote", build="any address", source="builtin")


def _by_variable(family_id: str, variable: str, path: Path) -> Installation:
    """What a variable names, also when it is not there: then nothing else is taken in its place."""
    if family_id in PYTHON_PACKAGES:
        rows = in_environment(path.parent.parent, "variable", python=path)
        found = next((row for row in rows if row.family == family_id), None)
        lacking = f"{variable} names {path}, which has no {PYTHON_PACKAGES[family_id][0]}."
    else:
        found = native(path, "variable") if is_program(path) else None
        lacking = f"{variable} names {path}, which is no program."
    return found or Installation(
        family=family_id, executable=str(path), id=id_of(family_id, str(path)), source="variable", problem=lacking
    )


def installation_of(record: EngineRecord, folder: Path, family_id: str) -> Installation:
    """The engine in a folder of the installer's, as a launch of that family uses it."""
    return Installation(
        family=family_id,
        executable=str(folder / (record.program_of(family_id) or "")),
        id=folder.name,
        version=record.version,
        build=f"{record.package} {record.version}",
        accelerator=record.accelerator,
        source="ours",
        library_folder=str(folder / record.library_folder) if record.library_folder else "",
    )


def installed(engines: Path) -> tuple[tuple[Path, EngineRecord], ...]:
    """The finished engine folders, newest first."""
    rows = []
    for file in engines.glob(f"[!.]*/{RECORD}"):  # one that begins with a dot is still being made, or going
        try:
            rows.append((file.parent, from_json(EngineRecord, file.read_bytes())))
        except (OSError, msgspec.DecodeError):
            continue  # the installer writes it last and whole, so this is not one of its folders
    return tuple(sorted(rows, key=lambda row: row[1].installed_at_unix, reverse=True))


def at(path: Path, source: str = "file") -> tuple[Installation, ...]:
    """Every engine that a path leads to: a program, an interpreter, an environment, or a folder with builds."""
    if path.is_dir():
        if kind := kind_of_environment(path):
            return tuple(in_environment(path, source if source != "file" else kind))
        return tuple(native(program, source) for program in builds_in(path))
    if not is_program(path):
        return ()
    python = path if path.name.startswith("python") else interpreter_of(path)
    if python is not None:
        return tuple(in_environment(python.parent.parent, source, python=python))
    return (native(path, source),)


def in_environment(folder: Path, source: str, *, python: Path | None = None) -> Iterator[Installation]:
    """The engines in a virtual or conda environment, from the metadata in its folders; `python` = by which to start them."""
    packages = tuple(folder.glob("lib*/python3*/*-packages"))
    yield from _packages(python or folder / "bin" / "python", packages, source)
    if is_program(program := folder / "bin" / "llama-server"):
        yield native(program, source)


def id_of(family_id: str, path: str) -> str:
    """What a pin names: the same as long as the engine stays where it is, whatever its version becomes."""
    return f"{family_id}-{hashlib.sha256(path.encode(errors='surrogateescape')).hexdigest()[:8]}"


def _stamp(*places: Path) -> tuple[int, ...]:
    return tuple(place.stat().st_mtime_ns if place.exists() else 0 for place in places)


def native(program: Path, source: str) -> Installation:
    """A llama-server, with what its files tell."""
    return _native(program.absolute(), source, _stamp(program))


@lru_cache(maxsize=256)
def _native(program: Path, source: str, stamp: tuple[int, ...]) -> Installation:
    real = program.resolve()
    release = re.search(r"\bb\d{4,}\b", str(real))  # releases are unpacked into llama-b1234
    folders = (real.parent, real.parent.parent / "lib")
    libraries = [file for folder in folders for file in folder.glob("libggml-*.so*") if file.is_file()]
    return Installation(
        family="llama-server",
        executable=str(program),
        id=id_of("llama-server", str(program)),
        version=release[0] if release else "",
        build=release[0] if release else "",
        accelerator=_accelerator([program, *libraries]),
        source=source,
    )


def _packages(python: Path, folders: tuple[Path, ...], source: str) -> Iterator[Installation]:
    stamp = _stamp(*folders)  # a package comes and goes with an entry of its folder
    for family_id, (package, _) in PYTHON_PACKAGES.items():
        found = _package(family_id, package, python.absolute(), folders, stamp)
        if found is not None and is_program(python):
            yield replace(found, source=source)


@lru_cache(maxsize=512)
def _package(
    family_id: str, package: str, python: Path, folders: tuple[Path, ...], stamp: tuple[int, ...]
) -> Installation | None:
    """The package as the interpreter `python` would see it, from the metadata in its folders."""
    found = next(iter(importlib.metadata.distributions(name=package, path=[str(folder) for folder in folders])), None)
    if found is None:
        return None
    libraries = [Path(str(file.locate())) for file in found.files or () if ".so" in file.name]
    usual = "cuda" if family_id == "vllm" else ""  # its published wheels say so only when they are for something else
    return Installation(
        family=family_id,
        executable=str(python),  # not resolved: a virtual environment's python is a link
        id=id_of(family_id, str(python)),
        version=found.version,
        build=f"{package} {found.version}",
        accelerator=accelerator_in(found.version.partition("+")[2]) or usual or _accelerator(libraries),
    )


def accelerator_in(words: str) -> str:
    """What a version's or an image's name says that it computes on; "" when it does not say."""
    found = re.search(r"(?<![a-z])(cuda|cu\d+|rocm|hip|vulkan|cpu)", words.lower())
    if found is None:
        return ""
    return "cuda" if found[1].startswith("cu") else {"hip": "rocm"}.get(found[1], found[1])


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
