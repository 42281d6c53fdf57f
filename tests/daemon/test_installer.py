"""Engines arrive whole or not at all, for the best accelerator that works here, from the places that pip knows (E1, E7).

A folder of wheels stands in for the accelerated builds' index; uv, the environments and the imports are real.
"""

import fcntl
import os
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from app.core.errors import DiskFull, EngineFailed, EngineNotInstalled, NotWritable, SettingInvalid
from app.daemon.installations import find, installed, views
from app.daemon.installer import (
    UNFINISHED,
    Build,
    Source,
    accelerators_here,
    install,
    sources,
    sources_file,
)
from app.daemon.work import News
from tests.rig.home import Home
from tests.rig.installables import (
    ANOTHER_PROCESSOR,
    DIES,
    ILLEGAL_AT_IMPORT,
    LACKS_A_LIBRARY,
    WORKS,
    archive_source,
    pip_finds,
    put_tools,
    wheel_source,
    write_archive,
    write_standin_wheel,
)
from tests.rig.waiting import eventually
from tests.rig.wheels import sha256_of, write_wheel


@pytest.fixture
def cuda(tmp_path: Path) -> Path:
    return tmp_path / "cuda-wheels"


@pytest.fixture
def cpu(tmp_path: Path) -> Path:
    folder = tmp_path / "cpu-wheels"
    write_standin_wheel(folder)
    return folder


class Installing:
    def __init__(self, home: Home) -> None:
        self.home = home
        self.engines = home.paths.engines
        self.news: list[News] = []

    @property
    def said(self) -> list[str]:
        return [str(news) for news in self.news]

    def __call__(self, source: Source, *accelerators: str, again: bool = False, **environment: str) -> Path:
        self.news.clear()
        return install(
            source,
            self.engines,
            accelerators=accelerators or ("cuda", "cpu"),
            environment={**self.home.environment, **environment},
            progress=self.news.append,
            again=again,
            cache=self.home.paths.cache,
        )


@pytest.fixture
def installing(home: Home) -> Installing:
    return Installing(home)


def test_the_build_for_the_card_is_installed_where_there_is_one(
    installing: Installing, home: Home, cuda: Path, cpu: Path
) -> None:
    write_standin_wheel(cuda)
    folder = installing(wheel_source(cuda, cpu))
    assert folder.name == "llama.cpp-1.0-cuda"
    found = find("llama.cpp", home.paths, home.environment)
    assert found is not None
    assert (found.executable, found.accelerator) == (str(folder / "bin" / "python"), "cuda")
    assert found.build == "standin 1.0"
    run = subprocess.run([found.executable, "-I", "-c", "import standin, sys; print(sys.prefix)"], capture_output=True)
    assert run.stdout.decode().strip() == str(folder), "it works under its final name"
    assert any("Installing" in line for line in installing.said), "progress is told"


def test_without_a_wheel_for_the_card_the_processor_build_is_taken_and_it_is_said(
    installing: Installing, cuda: Path, cpu: Path
) -> None:
    cuda.mkdir()
    assert installing(wheel_source(cuda, cpu)).name == "llama.cpp-1.0-cpu"
    sentence = next(line for line in installing.said if "Taking the build for CPU instead" in line)
    assert "CUDA" in sentence
    assert "a card" in sentence


def test_a_wheel_that_does_not_start_here_does_not_count(installing: Installing, cuda: Path, cpu: Path) -> None:
    write_standin_wheel(cuda, LACKS_A_LIBRARY)
    assert installing(wheel_source(cuda, cpu)).name == "llama.cpp-1.0-cpu"
    assert any("libnowhere.so.9" in line for line in installing.said)
    assert [folder.name for folder, _ in installed(installing.engines)] == ["llama.cpp-1.0-cpu"]


def test_a_build_for_cards_without_their_driver_is_about_the_driver(
    installing: Installing, cuda: Path, cpu: Path
) -> None:
    """Its own library asks the loader for the driver's; to install the engine again would not help."""
    write_standin_wheel(cuda, {**WORKS, "standin/__init__.py": "import ctypes\nctypes.CDLL('libcuda.so.99')\n"})
    assert installing(wheel_source(cuda, cpu)).name == "llama.cpp-1.0-cpu"
    assert any("The NVIDIA driver is not installed here" in line for line in installing.said)


def test_a_library_that_the_system_lacks_is_named_before_anything_is_fetched(
    installing: Installing, cuda: Path, cpu: Path
) -> None:
    lacking = wheel_source(cuda, cpu, libraries={"libc.so.6": "libc6", "libnowhere.so.9": "libnowhere9"})
    with pytest.raises(EngineNotInstalled) as refused:
        installing(lacking, "cpu")
    assert "needs libnowhere.so.9 of the system" in str(refused.value)
    assert str(refused.value).count("libc") == 0
    assert refused.value.advice.endswith("sudo apt-get install libnowhere9")
    assert not any("Downloading" in line for line in installing.said)
    write_standin_wheel(cpu)
    there = wheel_source(cuda, cpu, libraries={"libc.so.6": "libc6"})
    assert installing(there, "cpu").name == "llama.cpp-1.0-cpu"


def test_a_wheel_for_another_processor_dies_in_its_smoke_test_and_gives_way(
    installing: Installing, cuda: Path, cpu: Path
) -> None:
    """It imports well; only computing needs the instruction that this processor lacks."""
    write_standin_wheel(cuda, ANOTHER_PROCESSOR)
    assert installing(wheel_source(cuda, cpu)).name == "llama.cpp-1.0-cpu"
    assert any("newer processor" in line for line in installing.said)


def test_a_wheel_for_another_processor_that_dies_already_when_it_is_imported(
    installing: Installing, cuda: Path, cpu: Path
) -> None:
    write_standin_wheel(cuda, ILLEGAL_AT_IMPORT)
    assert installing(wheel_source(cuda, cpu)).name == "llama.cpp-1.0-cpu"
    assert any("another processor than this one (illegal instruction)" in line for line in installing.said)


def test_what_no_wheel_can_do_here_is_compiled(installing: Installing, home: Home, cuda: Path, cpu: Path) -> None:
    """A prebuilt package for another processor gives way to a build for this one."""
    put_tools(home, "c++", "cmake", "ninja")
    source = archive_source(write_archive(home.folder / "archives"))
    pip_finds(home, home.folder / "archives")
    dies = {"llama_cpp/__init__.py": "", "llama_cpp/server/__init__.py": "", "llama_cpp/server/app.py": DIES}
    write_wheel(cpu, "llama_cpp_python", "0.1", dies)
    prebuilt = Build(accelerator="cpu", find_links=str(cpu))
    folder = installing(msgspec.structs.replace(source, build=(prebuilt, *source.build)), "cpu")
    assert (folder / "native" / "llama-server").is_file()
    assert any("illegal instruction" in line and "Compiling it for CPU instead" in line for line in installing.said)


def test_a_wheel_that_imports_and_never_answers_is_not_offered(installing: Installing, cuda: Path, cpu: Path) -> None:
    cuda.mkdir()
    with pytest.raises(EngineNotInstalled, match="does not work here"):
        installing(wheel_source(cuda, cpu), "cpu", FAKE_ENGINE_CRASH_AT="0.5")
    assert installed(installing.engines) == ()


def test_an_engine_that_is_short_of_memory_is_no_reason_to_take_a_lesser_build(
    installing: Installing, cuda: Path, cpu: Path
) -> None:
    write_standin_wheel(cuda)
    with pytest.raises(EngineFailed, match="memory"):
        installing(wheel_source(cuda, cpu), FAKE_ENGINE_OOM_TEXT="cuda")
    assert installed(installing.engines) == ()


def test_a_disk_without_room_is_told_before_anything_is_fetched(installing: Installing, cuda: Path, cpu: Path) -> None:
    with pytest.raises(DiskFull, match=r"needs 1000000000\.0 GB"):
        installing(wheel_source(cuda, cpu, disk_bytes=10**18), "cpu")
    assert not any("Checking" in line for line in installing.said)


def test_a_second_start_asks_nobody_even_when_a_better_build_exists(
    installing: Installing, cuda: Path, cpu: Path
) -> None:
    cuda.mkdir()
    first = installing(wheel_source(cuda, cpu))
    nowhere = wheel_source(cuda / "gone", cpu / "gone")
    assert installing(nowhere) == first
    assert "--again" in installing.said[0]
    write_standin_wheel(cuda)
    assert installing(wheel_source(cuda, cpu), again=True).name == "llama.cpp-1.0-cuda"


def test_when_nothing_can_be_had_every_reason_is_told_and_nothing_stays(
    installing: Installing, cuda: Path, tmp_path: Path
) -> None:
    cuda.mkdir()
    (tmp_path / "empty").mkdir()
    with pytest.raises(EngineNotInstalled) as refusal:
        installing(wheel_source(cuda, tmp_path / "empty"))
    assert "CUDA" in str(refusal.value)
    assert "CPU" in str(refusal.value)
    assert [path.name for path in installing.engines.iterdir()] == [".lock"]


def test_a_second_installer_waits_for_the_first(installing: Installing, cuda: Path, cpu: Path) -> None:
    """Bad input: packaging/run and the service at once."""
    installing.engines.mkdir(parents=True)
    with (installing.engines / ".lock").open("w") as lock, ThreadPoolExecutor(1) as thread:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = thread.submit(installing, wheel_source(cuda, cpu), "cpu")
        eventually(lambda: any("Waiting until another" in line for line in installing.said), 60, "that it waits")
        assert [path.name for path in installing.engines.iterdir()] == [".lock"]
        fcntl.flock(lock, fcntl.LOCK_UN)
        assert second.result(60).name == "llama.cpp-1.0-cpu"


def test_a_killed_installation_is_no_engine_and_is_cleared_away_by_the_next(
    installing: Installing, home: Home, cuda: Path, cpu: Path
) -> None:
    cuda.mkdir()
    killed = installing.engines / f"{UNFINISHED}abc"
    (killed / "bin").mkdir(parents=True)
    (killed / "bin" / "python").touch(0o755)
    half = installing.engines / "llama.cpp-1.0-cpu"  # of its name, but it never got its record
    (half / "bin").mkdir(parents=True)
    (half / "bin" / "python").touch(0o755)
    assert find("llama.cpp", home.paths, home.environment) is None
    assert installing(wheel_source(cuda, cpu)) == half
    assert not killed.exists()
    assert find("llama.cpp", home.paths, home.environment) is not None


def test_another_file_in_the_wheels_place_is_refused_by_its_hash(installing: Installing, cuda: Path, cpu: Path) -> None:
    cuda.mkdir()
    right = "sha256:" + sha256_of(next(cpu.glob("*.whl")))
    assert installing(wheel_source(cuda, cpu, hashes=(right,))).is_dir()
    with pytest.raises(EngineNotInstalled, match="Hash mismatch"):
        installing(
            msgspec.structs.replace(wheel_source(cuda, cpu, hashes=("sha256:" + "0" * 64,)), family="other"), "cpu"
        )


def test_pips_own_settings_lead_to_the_wheels(installing: Installing, home: Home, cpu: Path) -> None:
    """A build without a place of its own is looked for where pip is configured to look."""
    plain = Source(
        family="llama.cpp", package="standin", version="1.0", module="standin", build=(Build(accelerator="cpu"),)
    )
    settings = home.folder / "config" / "pip" / "pip.conf"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text(f"[global]\nno-index = true\nfind-links = {cpu}\n", "utf-8")
    assert installing(plain, "cpu").is_dir()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_named(installing: Installing, cuda: Path, cpu: Path) -> None:
    installing.engines.mkdir(parents=True)
    installing.engines.chmod(0o500)
    with pytest.raises(NotWritable, match="engines"):
        installing(wheel_source(cuda, cpu))


def test_a_file_where_the_folder_should_be_is_named(installing: Installing, cuda: Path, cpu: Path) -> None:
    installing.engines.parent.mkdir(parents=True, exist_ok=True)
    installing.engines.write_text("not a folder")
    with pytest.raises(NotWritable, match="engines"):
        installing(wheel_source(cuda, cpu))


def test_accelerators_are_told_from_files_and_the_processor_is_always_there(tmp_path: Path) -> None:
    assert accelerators_here(tmp_path) == ("cpu",)
    (tmp_path / "proc/driver/nvidia").mkdir(parents=True)
    (tmp_path / "proc/driver/nvidia/version").touch()
    (tmp_path / "sys/class/kfd/kfd").mkdir(parents=True)
    assert accelerators_here(tmp_path) == ("cuda", "rocm", "cpu")


def test_the_shipped_table_has_a_processor_build_with_hashes_and_sayable_needs() -> None:
    source = sources(sources_file())["llama.cpp"]
    assert [build.accelerator for build in source.build] == ["cuda", "rocm", "vulkan", "cpu"]
    assert all(build.needs for build in source.build)
    assert source.build[-1].hashes
    assert all(build.index.startswith("https://") for build in source.build[:-1])


def test_as_a_program_it_refuses_what_it_does_not_know(home: Home) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "app.daemon.installer", "--family", "nonsense"],
        env={**home.environment, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == SettingInvalid.exit_code
    assert "llama.cpp" in done.stderr


def test_what_is_not_installed_says_how_to_get_it(home: Home) -> None:
    nothing = {**home.environment, "PATH": str(home.bin), "ENGINE_ROOM_EMBEDDED_PYTHON": "/nowhere/python"}
    rows = {row.family: row for row in views(home.paths, nothing)}
    assert not rows["llama.cpp"].available
    assert all(row.how_to_get for row in rows.values() if not row.available)


def test_a_native_program_is_found_on_the_path_and_its_accelerator_read_from_its_file(home: Home) -> None:
    program = home.bin / "llama-server"
    program.write_bytes(b"\x7fELF" + b"\0" * 5_000_000 + b"libcuda.so.1\0")
    program.chmod(0o755)
    found = find("llama-server", home.paths, home.environment)
    assert found is not None
    assert (found.executable, found.accelerator) == (str(program), "cuda")
    program.chmod(0o644)
    assert find("llama-server", home.paths, {**home.environment, "PATH": str(home.bin)}) is None, "not executable"


def test_an_environment_of_the_users_own_is_read_not_run(home: Home, tmp_path: Path) -> None:
    """The interpreter named by the variable is a script that would leave a trace: nobody starts it."""
    env = tmp_path / "env"
    site = env / "lib" / "python3.11" / "site-packages"
    write_wheel(tmp_path, "llama_cpp_python", "0.3.36", {})
    zipfile.ZipFile(tmp_path / "llama_cpp_python-0.3.36-py3-none-any.whl").extractall(site)
    python = env / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\ntouch {tmp_path}/was-run\n")
    python.chmod(0o755)
    environment = {**home.environment, "ENGINE_ROOM_LLAMA_CPP_PYTHON": str(python)}
    found = find("llama-cpp-python", home.paths, environment)
    assert found is not None
    assert found.build == "llama-cpp-python 0.3.36"
    assert found.executable == str(python)
    assert not (tmp_path / "was-run").exists()
