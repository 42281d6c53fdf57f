"""Caches are shown with what clearing costs, and cleared; files of models never are (E7)."""

import os
from pathlib import Path

import pytest

from app.core import control, snapshot
from app.core.errors import BadRequest, EngineBusy
from app.daemon.caches import cache_folder, caches, clear, disk_bytes
from app.daemon.work import Work
from tests.daemon.desk import Desk, slow_build
from tests.rig.daemon import Daemon
from tests.rig.home import Home

__all__ = ["slow_build"]  # a fixture


def fill(file: Path, size: int = 10_000) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"x" * size)
    return file


@pytest.fixture
def full(home: Home) -> Home:
    fill(home.paths.cache / "uv" / "wheels" / "a.whl")
    fill(home.paths.cache / "build" / "llama-cpp-python-0.1-cpu" / "build" / "a.o", 50_000)
    fill(home.folder / "cache" / "pip" / "http" / "a")
    fill(home.folder / "cache" / "vllm" / "torch_compile_cache" / "a")
    fill(home.folder / ".nv" / "ComputeCache" / "a")
    return home


def test_each_cache_tells_its_place_its_size_and_the_price(full: Home) -> None:
    found = {cache.id: cache for cache in caches(full.paths, full.environment)}
    assert list(found) == ["packages", "build:llama-cpp-python-0.1-cpu", "pip", "vllm", "cuda"]
    build = found["build:llama-cpp-python-0.1-cpu"]
    assert 50_000 <= build.disk_bytes < 70_000
    assert all(cache.sentence.endswith(".") and Path(cache.path).is_dir() for cache in found.values())


def test_a_file_with_two_names_counts_once(tmp_path: Path) -> None:
    one = fill(tmp_path / "one", 100_000)
    (tmp_path / "two").hardlink_to(one)
    assert disk_bytes(tmp_path) < 200_000


def test_files_of_models_stay_whoever_put_them_there(full: Home) -> None:
    model = fill(full.folder / "cache" / "vllm" / "torch_compile_cache" / "mine" / "model.gguf")
    title, folder = cache_folder("vllm", full.paths, full.environment)
    clear(title, folder, Work(full.environment, lambda _: None))
    assert model.exists()
    assert [path.name for path in folder.iterdir()] == ["mine"]


def test_a_link_in_a_caches_place_is_not_followed(full: Home, tmp_path: Path) -> None:
    """Bad input: what it leads to is not a cache of ours."""
    precious = fill(tmp_path / "precious" / "file")
    (full.folder / ".triton").mkdir()
    (full.folder / ".triton" / "cache").symlink_to(precious.parent)
    with pytest.raises(BadRequest, match="no cache 'triton'"):
        cache_folder("triton", full.paths, full.environment)
    inside = full.paths.cache / "uv" / "elsewhere"
    inside.symlink_to(precious.parent)
    title, folder = cache_folder("packages", full.paths, full.environment)
    clear(title, folder, Work(full.environment, lambda _: None))
    assert precious.exists()
    assert not folder.exists()


@pytest.mark.parametrize("named", ["/tmp", ".", "HOME", "DATA", "/"])
def test_a_variable_that_names_a_folder_of_everything_makes_it_no_cache(full: Home, named: str) -> None:
    """Bad input: what is cleared is removed whole."""
    folder = {"HOME": str(full.folder), "DATA": str(full.paths.data)}.get(named, named)
    full.paths.data.mkdir(parents=True, exist_ok=True)
    environment = {**full.environment, "TRITON_CACHE_DIR": folder, "CUDA_CACHE_PATH": folder}
    for name in ("triton", "cuda"):
        with pytest.raises(BadRequest, match=f"no cache '{name}'"):
            cache_folder(name, full.paths, environment)


def test_clearing_is_a_job_and_says_what_it_gave_back(daemon: Daemon, full: Home) -> None:
    daemon.start()
    desk = Desk(daemon)
    found = snapshot.from_json(control.Caches, daemon.get("/control/caches").content)
    assert "pip" in [cache.id for cache in found.caches]
    job = desk.done(desk.begin("/control/caches/clear", control.CacheOf(cache="packages")))
    assert int(str(job.result["freed_bytes"])) >= 10_000
    assert not os.path.lexists(full.paths.cache / "uv")
    with pytest.raises(BadRequest, match="There are: "):
        desk.begin("/control/caches/clear", control.CacheOf(cache="../.."))


def test_nothing_is_cleared_while_an_engine_is_installed(daemon: Daemon, full: Home, slow_build: Path) -> None:
    daemon.start()
    desk = Desk(daemon)
    job = desk.install("llama-server")
    with pytest.raises(EngineBusy, match="being installed"):
        desk.begin("/control/caches/clear", control.CacheOf(cache="packages"))
    desk.cancel(job)
    desk.over(job)
