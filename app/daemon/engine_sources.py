"""Decides which engine builds exist for this machine: the table of sources, the accelerators found here, what is offered."""

from __future__ import annotations

import ctypes.util
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec.structs import replace

from app.core.errors import SettingInvalid
from app.core.resources import resources_folder
from app.core.snapshot import Offer

GIB = 1024**3


class Build(msgspec.Struct, frozen=True, kw_only=True):
    """One way to get an engine for one accelerator: `how` is "wheel" (prebuilt) or "source" (compiled here)."""

    accelerator: str
    how: str = "wheel"
    package: str = ""  # where it goes by another name than the source's
    index: str = ""
    extra_index: str = ""
    find_links: str = ""
    hashes: tuple[str, ...] = ()
    needs: str = ""
    get: str = ""  # how a person gets what it needs
    libraries: dict[str, str] = {}  # of the system, that no package of Python brings → Debian's package
    tools: tuple[str, ...] = ()  # programs that compiling it needs beside a C++ compiler
    cmake: tuple[str, ...] = ()  # arguments of CMake
    at_least: dict[str, str] = {}  # package as CMake finds it → version below which it does not compile
    without: tuple[str, ...] = ()  # packages to take out again: they come along and do not load here
    known_as: str = ""  # another name under which its metadata is looked for
    known_version: str = ""  # with that version; {version} stands for the source's
    disk_bytes: int = 0  # of the engine when installed
    build_bytes: int = 0  # of the folder in which it is compiled


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """An engine that can be installed. A build from source may serve several families: `programs` names theirs."""

    family: str
    package: str
    version: str
    module: str
    build: tuple[Build, ...]
    extras: tuple[str, ...] = ()
    smoke: str = "token"  # how it is proved: "token" (the demo model answers) or "import" (it cannot read that model)
    archive_sha256: str = ""  # of the source archive of this version
    cmake_folder: str = ""  # in the archive: where its CMakeLists.txt is
    cmake_targets: tuple[str, ...] = ()
    programs: dict[str, str] = {}  # family → executable in the engine's folder
    library_folder: str = ""  # in the engine's folder

    @property
    def families(self) -> tuple[str, ...]:
        return tuple(self.programs) or (self.family,)

    def folder_name(self, build: Build) -> str:
        return f"{self.family}-{self.version}-{build.accelerator}"

    def title(self, build: Build) -> str:
        return f"{build.package or self.package} {self.version} for {build.accelerator.upper()}"


def sources_file() -> Path:
    return resources_folder() / "engines.toml"


def sources(file: Path) -> dict[str, Source]:
    """The table of engine sources by family; a source that serves several families stands under each."""
    rows = msgspec.convert(tomllib.loads(file.read_text("utf-8"))["engine"], tuple[Source, ...])
    return {family: row for row in rows for family in (row.family, *row.families)}


def source_for(wish: str, known: Mapping[str, Source], version: str = "") -> Source:
    """The source that `FAMILY` or `FAMILY==VERSION` means; raises SettingInvalid naming what there is.

    Of another version than the table's nothing is known beforehand: no hashes, which the index's own then replace, and no
    version of anything that it needs.
    """
    family, _, said = wish.partition("==")
    version = said or version
    source = known.get(family)
    if source is None:
        raise SettingInvalid(
            f"Engine Room cannot install {family!r}.", f"It installs: {', '.join(known)}; another engine can be added."
        )
    if not version or version == source.version:
        return source
    if not all(part.isalnum() for part in version.replace("+", ".").split(".")):
        raise SettingInvalid(f"{version!r} is no version.", f"Say for example {family}=={source.version}.")
    builds = tuple(replace(build, hashes=(), at_least={}) for build in source.build)
    return replace(source, version=version, build=builds, archive_sha256="")


def builds_for(source: Source, accelerators: Sequence[str]) -> tuple[Build, ...]:
    """The builds worth trying, best first: by accelerator, a prebuilt one before one that must be compiled."""
    return tuple(build for name in accelerators for build in source.build if build.accelerator == name)


def accelerators_here(root: Path = Path("/")) -> tuple[str, ...]:
    """What this machine could compute on, best first, told without loading any driver; "cpu" is always last."""
    found = []
    windows_subsystem = root / "usr/lib/wsl/lib/libcuda.so.1"
    if (root / "proc/driver/nvidia/version").exists() or windows_subsystem.exists():
        found.append("cuda")
    if (root / "sys/class/kfd/kfd").exists():
        found.append("rocm")
    # A loader alone is not a card: software Vulkan would be slower than the processor build.
    if any((root / "dev/dri").glob("renderD*")) and ctypes.util.find_library("vulkan"):
        found.append("vulkan")
    return (*found, "cpu")


def offers(
    family: str, known: Mapping[str, Source], accelerators: Sequence[str], installed_names: Sequence[str]
) -> tuple[Offer, ...]:
    """What could be installed of a family, what suits this machine first; `installed_names` are our engines' folders."""
    source = known.get(family)
    if source is None:
        return ()
    rows = []
    for build in source.build:
        name = source.folder_name(build)
        rows.append(
            Offer(
                family=family,
                version=source.version,
                accelerator=build.accelerator,
                how="build" if build.how == "source" else "wheel",
                suits=build.accelerator in accelerators,
                needs=build.needs,
                installed=name if name in installed_names else "",
            )
        )
    order = {name: place for place, name in enumerate(accelerators)}
    return tuple(sorted(rows, key=lambda row: order.get(row.accelerator, len(order))))
