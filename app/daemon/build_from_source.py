"""Compiles an engine from its package's source archive: one build of shared libraries that programs and binding share.

Works in a folder of the cache that stays: a build that was interrupted, at whatever step, goes on where it stopped, and
one for another processor, compiler or set of arguments begins anew. Only what is finished is copied into the engine.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import tarfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from app.core.errors import DiskFull, EngineFailed, EngineRoomError
from app.daemon.engine_sources import Build, Source
from app.daemon.package_index import PipSettings, uv_secret_places
from app.daemon.work import Ended, Work

ARGUMENTS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DBUILD_SHARED_LIBS=ON",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_APP=OFF",
    "-DLLAMA_BUILD_UI=OFF",  # and no prebuilt one either: it would be fetched from the network
    "-DLLAMA_USE_PREBUILT_UI=OFF",
    "-DLLAMA_OPENSSL=OFF",
    "-DCMAKE_INSTALL_RPATH=$ORIGIN",  # everything finds its libraries beside itself, wherever the folder goes
    "-DCMAKE_BUILD_WITH_INSTALL_RPATH=ON",
)
BYTES_PER_COMPILER = 2 * 1024**3  # what one compiler process may need, with a card's code
NICE = ("nice", "-n", "10")  # a loaded model and the desktop come first
COMPILERS = ("c++", "g++", "clang++")
STAMP = "stamp.json"

_STEP = re.compile(r"^\[(?P<done>\d+)/(?P<total>\d+)\]")
_GET = "{get}"  # stands for how the build's own needs are had
# What a build's words mean: the first row whose pattern is found anywhere in them.
_MEANINGS: tuple[tuple[re.Pattern[str], str, str], ...] = tuple(
    (re.compile(pattern), summary, advice)
    for pattern, summary, advice in (
        (r"No CMAKE_CUDA_COMPILER|Failed to find nvcc|nvcc: not found", "the CUDA compiler nvcc is missing", _GET),
        # It is compiled for the cards that are there; before the toolkit's lacks, because without a card they do not matter.
        (r"set to \"native\", but no (NVIDIA )?GPU was detected",
         "no NVIDIA card answers, and the build is made for the card that is here",
         "Install the NVIDIA driver, see that `nvidia-smi` lists the card, and install again."),
        (r"CUDA::cublas|cublas_v2\.h: No such file", "the CUDA toolkit is here without cuBLAS", _GET),
        (r"CUDA::cuda_driver", "the CUDA toolkit is here without its stand-in for the driver's library (stubs/libcuda.so)", _GET),
        (r"No CMAKE_HIP_COMPILER|hipcc: not found", "the ROCm compiler hipcc is missing", _GET),
        (r"provided by \"(?P<package>hip|hipblas|rocblas)\"", "a part of ROCm's development files is missing", _GET),
        (r"Could NOT find Vulkan .*glslc|glslc.*(not found|NOTFOUND)", "the shader compiler glslc is missing", _GET),
        (r"is not a member of .vk.|.vk::\w+. has not been declared", "the headers of Vulkan are too old for this llama.cpp", _GET),
        (r"Could NOT find Vulkan", "the development files of Vulkan are missing", _GET),
        (r"provided by \"SPIRV-Headers\"|spirv\.hpp\S*: No such file", "the headers of SPIR-V (SPIRV-Headers) are missing", _GET),
        (r"No CMAKE_C(XX)?_COMPILER|C(XX)? compiler.*is not able to compile", "the C++ compiler does not work",
         "Install it again: `sudo apt install build-essential` on Debian and Ubuntu."),
        (r"Killed signal terminated program|internal compiler error: Killed|virtual memory exhausted",
         "the compiler ran out of memory", "Close something, or set CMAKE_BUILD_PARALLEL_LEVEL=1, and install again."),
        (r"unsupported GNU version|unsupported clang version", "this C++ compiler is too new for the installed CUDA toolkit",
         "Update the CUDA toolkit, or name an older compiler in CXX and CUDAHOSTCXX."),
        (r"Temporary failure in name resolution|dns error|Could not resolve host|Connection refused",
         "the network or the package index cannot be reached", "Check the network, or pip's index settings."),
        (r"CMake \S+ or higher is required", "the installed CMake is too old", "Update it, or remove it: one is brought along."),
    )
)  # fmt: skip


class Toolchain(msgspec.Struct, frozen=True, kw_only=True):
    cmake: str
    ninja: str
    compiler: str
    extra_path: str = ""  # a folder of tools that are not on PATH


class Builder:
    """Builds one source for one accelerator. `uv` and `flags` are how packages are had; `cache` is where it works."""

    def __init__(
        self,
        source: Source,
        build: Build,
        *,
        cache: Path,
        settings: PipSettings,
        uv: Sequence[str],
        flags: Sequence[str],
        python: str,
        work: Work,
    ) -> None:
        self._source, self._build = source, build
        self._settings, self._uv, self._flags, self._python = settings, tuple(uv), tuple(flags), python
        self._work = work
        self.folder = cache / "build" / source.folder_name(build)
        self._title = source.title(build)
        self._toolchain: Toolchain | None = None

    def compile(self) -> None:
        """Brings the build folder to its end; raises EngineFailed with the missing tool's name, or DiskFull."""
        work = self._work
        compiler = self._compiler()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with work.part(0.0, 0.08):
                self._sources()
            work.reached("tools")
            tools = self._toolchain = self._tools(compiler)
            with work.part(0.08, 0.12):
                self._configure(tools)
            with work.part(0.12, 1.0):
                self._build_all(tools)
        except OSError as error:
            raise storage_error(error, self.folder) from error

    @property
    def sources_folder(self) -> Path:
        return self.folder / "source"

    # --- tools

    def _compiler(self) -> str:
        path = self._work.environment.get("PATH", os.defpath)
        named = self._work.environment.get("CXX", "").split(" ")[0]
        found = next(filter(None, (shutil.which(name, path=path) for name in (named, *COMPILERS) if name)), None)
        if found is None:
            raise EngineFailed(
                f"{self._title} must be compiled, and there is no C++ compiler here.",
                "Install one: `sudo apt install build-essential` on Debian and Ubuntu, `sudo dnf install gcc-c++` on Fedora.",
            )
        missing = [tool for tool in self._build.tools if not shutil.which(tool, path=self._with_toolkits(path))]
        if missing:
            raise EngineFailed(
                f"{self._title} must be compiled, and {', '.join(missing)} is not here: it needs {self._build.needs}.",
                self._build.get or "Install that and put it on PATH.",
            )
        return found

    @staticmethod
    def _with_toolkits(path: str) -> str:
        """Vendors' toolkits lie beside PATH as often as on it."""
        return os.pathsep.join([path, "/usr/local/cuda/bin", "/opt/cuda/bin", "/opt/rocm/bin"])

    def _tools(self, compiler: str) -> Toolchain:
        """CMake and Ninja of the system; those that it lacks come as packages into the build's own folder."""
        path = self._with_toolkits(self._work.environment.get("PATH", os.defpath))
        own = self.folder / "tools"
        found = {name: shutil.which(name, path=path) or "" for name in ("cmake", "ninja")}
        lacking = [name for name, where in found.items() if not where]
        if lacking:
            if not all((own / "bin" / name).is_file() for name in lacking):
                self._work.say(f"Getting {' and '.join(lacking)}, which this machine lacks")
                self._fetch_tools(own, lacking)
            found |= {name: str(own / "bin" / name) for name in lacking}
        return Toolchain(
            cmake=found["cmake"],
            ninja=found["ninja"],
            compiler=compiler,
            extra_path=str(own / "bin") if lacking else "",
        )

    def _fetch_tools(self, own: Path, names: Sequence[str]) -> None:
        made = self._work.run([*self._uv, "venv", "--python", self._python, "--clear", str(own)])
        python = str(own / "bin" / "python")
        got = made if not made.ok else self._work.run(
            [*self._uv, "pip", "install", "--no-build", "--python", python, *self._flags, *names],
            environment=self._work.environment | uv_secret_places(self._settings),
            on_terminal=True,
        )  # fmt: skip
        if not got.ok:
            raise EngineFailed(
                f"{self._title} must be compiled with {' and '.join(names)}; this machine lacks that, and the package index"
                f" does not give it: {words_of(got)}.",
                f"Install it: `sudo apt install {' '.join('ninja-build' if name == 'ninja' else name for name in names)}`.",
            )

    # --- sources

    def _sources(self) -> None:
        """The unpacked archive; one that is there is whole, because it got its name last."""
        if self.sources_folder.is_dir():
            return
        package, version = self._source.package, self._source.version
        archive = self.folder / f"{package}-{version}.tar.gz"
        if not archive.is_file():
            self._work.say(f"Looking for the source of {package} {version}")
            # The service names this module but never downloads: a tenth of its start and 8 MB less without httpx.
            from app.daemon.download import fetch, find_archive

            link = find_archive(self._settings, package, version)
            fetch(self._settings, link, archive, self._source.archive_sha256, self._work)
        self._work.reached("unpack")
        self._work.say("Unpacking the source")
        draft = self.folder / "source.part"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        try:
            with tarfile.open(archive) as opened:
                unpack(opened, draft)
        except (tarfile.TarError, EOFError) as error:
            archive.unlink()
            raise EngineFailed(f"{archive.name} cannot be unpacked: {error}.", "Install again.") from error
        [top] = [entry for entry in draft.iterdir() if entry.is_dir()]
        top.rename(self.sources_folder)
        shutil.rmtree(draft)
        archive.unlink()

    # --- CMake

    def _environment(self, tools: Toolchain) -> dict[str, str]:
        """`GIT_CEILING_DIRECTORIES`: a repository above the folder must not lend the engine its commit."""
        environment = dict(self._work.environment)
        path = self._with_toolkits(environment.get("PATH", os.defpath))
        environment["PATH"] = os.pathsep.join(filter(None, [tools.extra_path, path]))
        environment["GIT_CEILING_DIRECTORIES"] = str(self.folder)
        return environment

    def _configure(self, tools: Toolchain) -> None:
        self._work.reached("configure")
        self._work.say("Configuring the build")
        stamp = self.folder / STAMP
        arguments = [
            *("-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={tools.ninja}"),
            *("-S", str(self.sources_folder / self._source.cmake_folder), "-B", str(self.folder / "build")),
            *(*ARGUMENTS, *self._build.cmake),
        ]
        now = msgspec.json.encode({"arguments": arguments, "compiler": tools.compiler, "processor": processor()})
        if not stamp.is_file() or stamp.read_bytes() != now:
            shutil.rmtree(self.folder / "build", ignore_errors=True)
            stamp.write_bytes(now)
        ended = self._work.run([*NICE, tools.cmake, *arguments], environment=self._environment(tools))
        self._check(ended, "The build of {title} could not be configured")
        cache = (self.folder / "build" / "CMakeCache.txt") if self._build.at_least else None
        for old in too_old(cache.read_text("utf-8", "replace"), self._build.at_least) if cache is not None else ():
            raise EngineFailed(f"{self._title} does not compile with what is here: {old}.", self._build.get)

    def _build_all(self, tools: Toolchain) -> None:
        jobs = parallel_jobs(self._work.environment, available_cores(), available_bytes())
        command = [*NICE, tools.cmake, "--build", str(self.folder / "build"), "--parallel", str(jobs)]
        begun = time.monotonic()
        first: list[int] = []
        largest = 0

        def heard(line: str) -> None:
            nonlocal largest
            step = _STEP.match(line)
            if step is None:
                return
            done, total = int(step["done"]), int(step["total"])
            if total * 2 <= largest:
                return  # a build within the build, of a tool that it uses: "[5/5]" in the midst of some hundred steps
            largest = max(largest, total)
            first[:] = first or [done - 1]
            worked, left = done - first[0], total - done
            self._work.say(
                f"Compiling with {jobs} at a time",
                progress=done / total,
                steps_done=done,
                steps_total=total,
                eta_seconds=(time.monotonic() - begun) / worked * left if worked > 0 else None,
            )
            self._work.reached("build")

        self._work.say(f"Compiling with {jobs} at a time")
        targets = ["--target", *self._source.cmake_targets] if self._source.cmake_targets else []
        ended = self._work.run([*command, *targets], heard=heard, environment=self._environment(tools))
        self._check(ended, "{title} could not be compiled")

    def _check(self, ended: Ended, what: str) -> None:
        if ended.ok:
            return
        said = what.format(title=self._title)
        if any("No space left on device" in line for line in ended.said):
            raise DiskFull(
                f"{said}: the disk of {self.folder} is full.", "Make room and install again: it goes on there."
            )
        summary, advice = meaning(ended.said, self._build.get)
        raise EngineFailed(f"{said}: {summary}.", advice or "The log has all that the compiler said.")

    # --- results

    def binding_environment(self) -> dict[str, str]:
        """For the Python part alone: its libraries are the ones that were compiled."""
        assert self._toolchain is not None
        return self._environment(self._toolchain) | {"CMAKE_ARGS": "-DLLAMA_BUILD=OFF"}

    def copy_programs(self, place: Path) -> None:
        """The programs and shared libraries into the engine's folder; links among them stay links."""
        try:
            place.mkdir(parents=True)
            for file in sorted((self.folder / "build" / "bin").iterdir()):
                if file.is_symlink() or (file.is_file() and os.access(file, os.X_OK)):
                    shutil.copy2(file, place / file.name, follow_symlinks=False)
        except OSError as error:
            raise storage_error(error, place) from error
        for target in self._source.cmake_targets:
            if not (place / target).is_file():
                raise EngineFailed(f"The build of {self._title} made no {target}.", "The log has all that was said.")


def parallel_jobs(environment: Mapping[str, str], cores: int, memory_bytes: int) -> int:
    """Compilers at once: as CMAKE_BUILD_PARALLEL_LEVEL says, else all cores, less one where there are more than two."""
    said = environment.get("CMAKE_BUILD_PARALLEL_LEVEL", "")
    if said.isdigit() and int(said) > 0:
        return int(said)
    wanted = cores - 1 if cores > 2 else cores
    return max(1, min(wanted, memory_bytes // BYTES_PER_COMPILER))


def meaning(said: Sequence[str], get: str = "") -> tuple[str, str]:
    """(what went wrong, what to do) from a build's last words; `get` says how what the build needs is had."""
    whole = "\n".join(said)
    for pattern, summary, advice in _MEANINGS:
        if pattern.search(whole):
            return summary, advice.replace(_GET, get)
    for number, line in enumerate(said):
        if re.search(r"\berror\b|CMake Error|FAILED|fatal", line, re.IGNORECASE):
            more = " ".join(said[number + 1 : number + 3]) if line.startswith("CMake Error") else ""
            return f"{line} {more}".strip().rstrip(".:"), ""
    return (said[-1].rstrip(".") if said else "it ended without a word"), ""


def too_old(cmake_cache: str, at_least: Mapping[str, str]) -> tuple[str, ...]:
    """What CMake found and the build cannot use, each as the end of a sentence: a header that is too old would be noticed
    only after many minutes of compiling. A version that CMake does not know counts as new enough."""
    said = []
    for name, needed in at_least.items():
        found = re.search(rf"^FIND_PACKAGE_MESSAGE_DETAILS_{name}:INTERNAL=.*\[v([\d.]+)", cmake_cache, re.MULTILINE)
        if found is not None and _numbers(found[1]) < _numbers(needed):
            said.append(f"{name} {found[1]} is installed, and {needed} or newer is needed")
    return tuple(said)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part)


def words_of(ended: Ended) -> str:
    return meaning(ended.said)[0]


def processor() -> str:
    """What code for "this processor" depends on: its model and its instruction sets."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8", "replace")
    except OSError:
        return ""
    rows = dict(line.split(":", 1) for line in text.split("\n\n")[0].splitlines() if ":" in line)
    kept = {name.strip(): value.strip() for name, value in rows.items()}
    return " ".join(kept.get(name, "") for name in ("model name", "CPU part", "flags", "Features"))


def available_cores() -> int:
    return len(os.sched_getaffinity(0))


def available_bytes() -> int:
    try:
        text = Path("/proc/meminfo").read_text("ascii")
        return int(re.findall(r"MemAvailable:\s+(\d+) kB", text)[0]) * 1024
    except (OSError, IndexError):
        return BYTES_PER_COMPILER


def storage_error(error: OSError, folder: Path) -> EngineRoomError:
    from app.core.errors import NotWritable

    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"The disk of {folder} is full.", "Make room and install again; clearing a cache may do.")
    return NotWritable(f"{folder} cannot be written: {error.strerror or error}.", "Check its owner and permissions.")


def unpack(archive: tarfile.TarFile, folder: Path) -> None:
    """All of it, and nothing outside the folder. Raises TarError for an archive that would reach out of it."""
    if hasattr(tarfile, "data_filter"):
        archive.extractall(folder, filter="data")
        return
    for member in archive.getmembers():  # Python before 3.11.4 has no filter: Debian 12's
        ends = [member.name]
        if member.issym():
            ends.append(str(Path(member.name).parent / member.linkname))
        elif member.islnk():
            ends.append(member.linkname)
        for end in ends:
            reached = os.path.normpath(folder / end)
            if member.isdev() or not Path(reached).is_relative_to(folder):
                raise tarfile.TarError(f"{member.name} would lie outside of it")
        member.uid = member.gid = os.getuid()
        member.mode &= 0o755
    archive.extractall(folder)
