"""Installs engines, each into an environment of its own under the data folder, whole or not at all.

An installation is made in a folder with a temporary name, must answer with a token, gets its record, and is then renamed
into place. A killed installer leaves only a temporary folder, which the next one removes. Never touches an environment
that it did not make. As a program: `python -m app.daemon.installer`, used by packaging/run.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from app.core.errors import DiskFull, EngineFailed, EngineNotInstalled, EngineRoomError
from app.core.paths import paths_from
from app.daemon.build_from_source import Builder, storage_error
from app.daemon.engine_folders import UNFINISHED, alone_in, put_into_place, remove_unfinished
from app.daemon.engine_sources import (
    Build,
    Source,
    accelerators_here,
    builds_for,
    source_for,
    sources,
    sources_file,
)
from app.daemon.installations import RECORD, EngineRecord, installed
from app.daemon.package_index import PipSettings, config_files, pip_settings, uv_environment, uv_flags, uv_secret_places
from app.daemon.system_libraries import install_line, loads
from app.daemon.trial import TrialFailed, raise_for_a_driver, smoke_test
from app.daemon.uv_words import Downloads, refusal
from app.daemon.work import News, Tell, Work
from app.engines.base import Installation
from app.engines.registry import FAMILIES

__all__ = ["STEPS", "UNFINISHED", "Build", "Source", "accelerators_here", "install", "main", "sources", "sources_file"]

DIE_AT = "ENGINE_ROOM_INSTALL_DIE_AT"  # one of STEPS: the installer kills itself there (for tests)
STEPS = (
    *("download", "unpack", "tools", "configure", "build"),  # of a build from source
    *("environment", "packages", "programs", "smoke", "record", "place"),
)
SPARE_BYTES = 200_000_000  # what stays free on the disk
_SECONDS_FOR_AN_IMPORT = 180
# uv gives a download up after 30 s of silence, and a slow line pauses longer while several packages share it.
SILENCE_SECONDS = 120
# variables of the caller's that would send the packages into another environment
_ELSEWHERE = frozenset(
    [
        "VIRTUAL_ENV",
        "CONDA_PREFIX",
        "PYTHONHOME",
        "PYTHONPATH",
        "UV_PYTHON",
        "UV_SYSTEM_PYTHON",
        "UV_TARGET",
        "UV_PREFIX",
        "UV_PROJECT",
    ]
)


def install(
    source: Source,
    engines: Path,
    *,
    accelerators: tuple[str, ...],
    environment: Mapping[str, str],
    progress: Tell,
    python: str = sys.executable,
    again: bool = False,
    cache: Path | None = None,
    log: Path | None = None,
) -> Path:
    """The folder of the installed engine: one of this version that is there, or a new one for the best accelerator.

    Tries the builds in the order of `accelerators` and says in `progress` why one gave way to the next. What is there is
    taken even when a better build would suit the machine, so that a start needs no network; `again` tries for the better
    one, and makes anew what is there. Raises EngineNotInstalled when none could be had, NotWritable or DiskFull when the
    folder is the reason.
    """
    clean = {name: value for name, value in environment.items() if name not in _ELSEWHERE}
    work = Work(clean, progress, log, environment.get(DIE_AT, ""))
    if cache is None:
        cache = paths_from(environment, os.getuid(), runtime_exists=False).cache
    wanted = builds_for(source, accelerators)
    with alone_in(engines, work):
        remove_unfinished(engines)
        there = {folder.name: folder for folder, _ in installed(engines)}
        usable = [build for build in wanted if source.folder_name(build) in there]
        if usable and not again:
            better = f" A build for {wanted[0].accelerator.upper()} exists: `--again` tries to get it."
            work.say(f"{source.title(usable[0])} is installed." + ("" if usable[0] is wanted[0] else better), kept=True)
            return there[source.folder_name(usable[0])]
        reasons: list[str] = []
        advice = ""
        for number, build in enumerate(wanted):
            name = source.folder_name(build)
            if number and name in there:
                return there[name]
            try:
                return _Installation(source, build, engines, cache, work, python).make()
            except EngineFailed as error:
                if isinstance(error, TrialFailed) and error.failure.kind == "out_of_memory":
                    # it works, only not beside what is loaded: no reason to take less
                    advice = "Unload what is loaded and install again."
                    raise EngineFailed(error.summary, advice, error.evidence) from error
                reasons.append(f"{error.summary} {error.evidence}".strip() if len(wanted) == 1 else error.summary)
                advice = error.advice
                if name in there:
                    work.say(f"{error.summary} The one that is there stays.", kept=True)
                    return there[name]
                if rest := wanted[number + 1 :]:
                    needs = f" (it needs {build.needs})" if build.needs else ""
                    how = "Compiling it" if rest[0].how == "source" else "Taking the build"
                    work.say(f"{error.summary}{needs} {how} for {rest[0].accelerator.upper()} instead.", kept=True)
    raise EngineNotInstalled(
        f"{source.package} {source.version} could not be installed.",
        advice or "Check the network, or pip's index settings, and install again.",
        " ".join(reasons) or f"There is no build for {', '.join(accelerators)}.",
    )


class _Installation:
    """One build on its way into its folder."""

    def __init__(self, source: Source, build: Build, engines: Path, cache: Path, work: Work, python: str) -> None:
        self._source, self._build, self._work, self._python = source, build, work, python
        self._title = source.title(build)
        self._place = engines / source.folder_name(build)
        self._cache = cache.resolve()  # a build knows its folder by one name only
        self._settings = pip_settings(work.environment, config_files(work.environment))
        self._uv = [sys.executable, "-m", "uv", "--color", "never"]
        own_cache = {"UV_CACHE_DIR": work.environment.get("UV_CACHE_DIR") or str(cache / "uv")}
        seconds = math.ceil(self._settings.timeout_seconds) or SILENCE_SECONDS
        patience = {"UV_HTTP_TIMEOUT": work.environment.get("UV_HTTP_TIMEOUT") or str(seconds)}
        work.environment |= uv_environment(self._settings) | own_cache | patience

    def make(self) -> Path:
        work, compiled = self._work, self._build.how == "source"
        work.begin_anew()
        work.say(f"Compiling {self._title} …" if compiled else f"Installing {self._title} …", kept=True)
        self._check_room()
        self._check_libraries()
        builder = self._builder() if compiled else None
        if builder is not None:
            with work.part(0.0, 0.85):
                builder.compile()
        temporary = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=self._place.parent))
        try:
            with work.part(0.85 if compiled else 0.0, 0.95):
                self._environment_with_packages(temporary, builder)
            work.reached("programs")
            if builder is not None:
                builder.copy_programs(temporary / self._source.library_folder)
            with work.part(0.95, 1.0):
                self._check_works(temporary)
            self._into_place(temporary)
        except OSError as error:
            raise storage_error(error, self._place.parent) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        work.say(f"Installed {self._title}.", kept=True, progress=1.0)
        return self._place

    def _check_room(self) -> None:
        """Before anything is fetched: a full disk at the end of an hour's work helps nobody."""
        for folder, needed in ((self._place.parent, self._build.disk_bytes), (self._cache, self._build.build_bytes)):
            there = next(place for place in (folder, *folder.parents) if place.exists())
            free = shutil.disk_usage(there).free
            if needed and free < needed + SPARE_BYTES:
                raise DiskFull(
                    f"{self._title} needs {_gb(needed)} in {folder}, and {_gb(free)} are free there.",
                    "Make room and install again; `engine-room engines caches` shows what can be cleared.",
                )

    def _check_libraries(self) -> None:
        """Before anything is fetched, too: what the system lacks would be found by the proof, a gigabyte later."""
        missing = {library: package for library, package in self._build.libraries.items() if not loads(library)}
        if missing:
            libraries = ", ".join(missing)
            summary = f"{self._title} needs {libraries} of the system, which this machine lacks."
            raise EngineFailed(summary, f"Install it, on Debian or Ubuntu by: {install_line(missing.values())}")

    def _builder(self) -> Builder:
        return Builder(
            self._source,
            self._build,
            cache=self._cache,
            settings=self._settings,
            uv=self._uv,
            flags=uv_flags(self._settings),
            python=self._python,
            work=self._work,
        )

    # --- packages

    def _environment_with_packages(self, folder: Path, builder: Builder | None) -> None:
        work, python = self._work, str(folder / "bin" / "python")
        work.reached("environment")
        # Relocatable, because the folder gets its real name at the end.
        self._run([*self._uv, "venv", "--relocatable", "--python", self._python, "--clear", str(folder)])
        work.reached("packages")
        requirement = folder / "requirement.txt"
        requirement.write_text(self._requirement(builder) + "\n", "utf-8")
        into = ["--python", python, "--link-mode", "copy"]
        checked = ["--require-hashes"] if self._build.hashes else []
        prebuilt = ["--no-build"] if builder is None else []
        command = [*self._uv, "pip", "install", *prebuilt, *into, *checked, "-r", str(requirement)]
        environment = dict(work.environment) if builder is None else builder.binding_environment()
        try:
            self._from_places(self._build, command, environment)
        except EngineFailed as error:
            if not self._build.extra_index or self._build.extra_index not in error.summary:
                raise
            # A place of wheels beside the person's own indexes: who cannot reach it may have the same wheels elsewhere.
            work.say(f"{self._build.extra_index} cannot be reached; asking the other places alone.", kept=True)
            self._from_places(msgspec.structs.replace(self._build, extra_index=""), command, environment)
        if self._build.without:
            self._run([*self._uv, "pip", "uninstall", "--python", python, *self._build.without])
        if self._build.known_as:
            version = self._build.known_version.format(version=self._source.version)
            _write_alias(folder, self._build.known_as, version)

    def _from_places(self, build: Build, command: list[str], environment: dict[str, str]) -> None:
        if not (build.index or build.find_links):
            environment = environment | uv_secret_places(_with_own_index(build, self._settings))
        self._run([*command, *_places(build, self._settings)], environment)

    def _requirement(self, builder: Builder | None) -> str:
        extras = f"[{','.join(self._source.extras)}]" if self._source.extras else ""
        if builder is not None:
            return f"{self._source.package}{extras} @ {builder.sources_folder.as_uri()}"
        package = self._build.package or self._source.package
        return " ".join([f"{package}{extras}=={self._source.version}", *(f"--hash={h}" for h in self._build.hashes)])

    def _run(self, command: list[str], environment: dict[str, str] | None = None) -> None:
        """Runs uv; raises EngineFailed with its own first words when it ends in failure."""
        downloads = Downloads()

        def heard(line: str) -> None:
            figures = downloads.heard(line, time.monotonic())
            if figures is not None:
                self._work.say(
                    "Downloading the packages",
                    progress=0.9 * figures.bytes_done / figures.bytes_total if figures.bytes_total else None,
                    bytes_done=figures.bytes_done,
                    bytes_total=figures.bytes_total,
                    eta_seconds=figures.eta_seconds,
                )

        ended = self._work.run(command, heard=heard, environment=environment, on_terminal=True)
        if not ended.ok:
            if any("No space left on device" in line for line in ended.said):
                raise DiskFull(f"The disk of {self._place.parent} is full.", "Make room and install again.")
            raise EngineFailed(f"{self._title} cannot be had: {refusal(ended)}.")

    # --- the proof, and the end

    def _check_works(self, folder: Path) -> None:
        """Imports it in a process of its own, then asks each family that it serves for a token: a wheel can install well
        and still lack a library, or be made for another processor."""
        work = self._work
        work.reached("smoke")
        work.say(f"Checking that {self._title} starts …")
        record = self._record()
        libraries = {"LLAMA_CPP_LIB_PATH": str(folder / record.library_folder)} if record.library_folder else {}
        command = [str(folder / "bin" / "python"), "-I", "-c", f"import {self._source.module}"]
        ended = work.run(["timeout", str(_SECONDS_FOR_AN_IMPORT), *command], environment=work.environment | libraries)
        if ended.exit_code in (124, 137):
            raise EngineFailed(f"{self._title} does not start within {_SECONDS_FOR_AN_IMPORT} seconds.")
        if ended.exit_code in (-4, 132):
            raise EngineFailed(f"{self._title} was built for another processor than this one (illegal instruction).")
        if not ended.ok:
            raise_for_a_driver(self._title, ended)
            why = ended.said[-1].rstrip(".") if ended.said else f"it ended with {ended.exit_code}"
            raise EngineFailed(f"{self._title} does not start here: {why}.")
        for family in record.families:
            if family in FAMILIES and self._source.smoke == "token":
                work.say(f"Asking {self._title} for a token ({FAMILIES[family].title}) …", progress=0.5)
                smoke_test(installation_of(record, folder, family), self._title, work)

    def _record(self) -> EngineRecord:
        return EngineRecord(
            family=self._source.family,
            package=self._build.package or self._source.package,
            version=self._source.version,
            accelerator=self._build.accelerator,
            installed_at_unix=time.time(),
            library_folder=self._source.library_folder,
            programs=self._source.programs,
        )

    def _into_place(self, temporary: Path) -> None:
        self._work.reached("record")
        (temporary / RECORD).write_bytes(msgspec.json.encode(self._record()))
        temporary.chmod(0o755)
        self._work.reached("place")
        put_into_place(temporary, self._place)


def installation_of(record: EngineRecord, folder: Path, family: str) -> Installation:
    """The engine in `folder` as a launch of that family uses it."""
    return Installation(
        family=family,
        executable=str(folder / (record.program_of(family) or "")),
        build=f"{record.package} {record.version}",
        accelerator=record.accelerator,
        id=folder.name,
        version=record.version,
        source="ours",
        library_folder=str(folder / record.library_folder) if record.library_folder else "",
    )


def _places(build: Build, settings: PipSettings) -> list[str]:
    """A build with a place of its own is taken from there only: another index would offer the processor build instead."""
    if build.find_links:
        return ["--no-index", "--find-links", build.find_links]
    if build.index:
        return ["--default-index", build.index]
    return uv_flags(_with_own_index(build, settings))


def _with_own_index(build: Build, settings: PipSettings) -> PipSettings:
    """A build's extra index counts as one more of the person's: uv takes each flag once, or all by the environment."""
    if not build.extra_index:
        return settings
    return msgspec.structs.replace(settings, extra_index_urls=(*settings.extra_index_urls, build.extra_index))


def _write_alias(folder: Path, name: str, version: str) -> None:
    """Metadata under another name, so that a package which looks for itself under it finds its version."""
    [packages] = folder.glob("lib/python3*/site-packages")
    info = packages / f"{name}-{version}.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", "utf-8")
    (info / "INSTALLER").write_text("engine-room\n", "utf-8")
    (info / "RECORD").write_text("", "utf-8")


def _gb(count: int) -> str:
    return f"{count / 1e9:.1f} GB"


def _path(text: str) -> Path:
    return Path(text).absolute()  # the tools that are run are run elsewhere


def main(arguments: Sequence[str] | None = None) -> int:
    """Installs the built-in engine for this machine; 0 when it is there afterwards."""
    parser = argparse.ArgumentParser(prog="python -m app.daemon.installer", description=main.__doc__)
    parser.add_argument("--family", default="llama.cpp", help="engine family to install, or FAMILY==VERSION")
    parser.add_argument("--folder", type=_path, help="where engines lie; the data folder by default")
    parser.add_argument("--cache", type=_path, help="where builds and downloads lie; the cache folder by default")
    parser.add_argument("--sources", type=_path, help="another table of engine sources")
    parser.add_argument("--log", type=_path, help="keep all that the tools print in this file")
    parser.add_argument("--accelerator", help="cuda, rocm, vulkan or cpu instead of what is found here")
    parser.add_argument("--again", action="store_true", help="try for a better build although one is installed")
    chosen = parser.parse_args(arguments)
    environment = dict(os.environ)
    engines = chosen.folder or paths_from(environment, os.getuid(), runtime_exists=False).engines
    accelerators = (chosen.accelerator,) if chosen.accelerator else accelerators_here()
    try:
        source = source_for(chosen.family, sources(chosen.sources or sources_file()))
        install(
            source,
            engines,
            accelerators=accelerators,
            environment=environment,
            progress=_printer(),
            again=chosen.again,
            cache=chosen.cache,
            log=chosen.log,
        )
    except EngineRoomError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def _printer() -> Callable[[News], None]:
    """Each thing that is done once; figures every tenth of the whole."""
    told: list[str] = []

    def printed(news: News) -> None:
        line = news.detail
        if news.steps_done is not None and news.steps_total:
            line += f" [{news.steps_done * 10 // news.steps_total * 10} %]"
        if told[-1:] != [line]:
            told[:] = [line]
            print(line, flush=True)

    return printed


if __name__ == "__main__":
    sys.exit(main())
