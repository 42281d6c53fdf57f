"""Knows the caches that engines and their installation leave on the disk: where they lie, what they take, what clearing costs."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from app.core.control import Cache
from app.core.errors import BadRequest
from app.core.paths import Paths
from app.daemon.build_from_source import storage_error
from app.daemon.work import Work

MODEL_FILES = (".gguf", ".safetensors", ".bin", ".pt", ".pth", ".onnx")  # never cleared, wherever they lie
BUILD_PREFIX = "build:"
_TEMPORARY = ("/tmp", "/var/tmp", "/dev/shm")


def places(paths: Paths, environment: Mapping[str, str]) -> Iterator[tuple[str, str, Path, str]]:
    """(id, title, folder, what clearing costs) of every cache that is known, whether it is there or not."""
    home = Path(environment.get("HOME") or "/")
    caches = Path(environment.get("XDG_CACHE_HOME") or home / ".cache")
    yield "packages", "Engine Room: downloaded packages", paths.cache / "uv", "The next installation downloads again."
    for folder in sorted((paths.cache / "build").glob("*")):
        title = f"Engine Room: build folder of {folder.name}"
        yield (
            f"{BUILD_PREFIX}{folder.name}",
            title,
            folder,
            "Compiling it again starts from the beginning: 5 to 30 minutes.",
        )
    yield (
        "pip",
        "pip: downloads and built wheels",
        caches / "pip",
        "pip downloads and builds again, for all your projects.",
    )
    vllm = Path(environment.get("VLLM_CACHE_ROOT") or caches / "vllm") / "torch_compile_cache"
    yield "vllm", "vLLM: compiled models", vllm, "The next load of each model compiles it again: about a minute."
    triton = Path(environment.get("TRITON_CACHE_DIR") or home / ".triton" / "cache")
    yield "triton", "Triton: compiled kernels", triton, "The next load compiles its kernels again: seconds to minutes."
    cuda = Path(environment.get("CUDA_CACHE_PATH") or home / ".nv" / "ComputeCache")
    yield (
        "cuda",
        "NVIDIA driver: compiled kernels",
        cuda,
        "The first start of each program on the card takes longer once.",
    )
    shaders = caches / "mesa_shader_cache"
    yield "mesa", "Mesa: compiled shaders", shaders, "The first start of Vulkan programs takes longer once."


def caches(paths: Paths, environment: Mapping[str, str]) -> tuple[Cache, ...]:
    """Those that are there, with their size; reads whole trees (call it in a thread)."""
    return tuple(
        Cache(id=name, title=title, path=str(folder), disk_bytes=disk_bytes(folder), sentence=sentence)
        for name, title, folder, sentence in places(paths, environment)
        if _is_a_cache(folder, paths, environment)
    )


def cache_folder(name: str, paths: Paths, environment: Mapping[str, str]) -> tuple[str, Path]:
    """(title, folder) of the cache of that id; raises BadRequest naming those that are there."""
    known = {row[0]: row for row in places(paths, environment) if _is_a_cache(row[2], paths, environment)}
    if name not in known:
        there = ", ".join(known) or "none at the moment"
        raise BadRequest(f"There is no cache {name[:100]!r}.", f"There are: {there}.")
    return known[name][1], known[name][2]


def _is_a_cache(folder: Path, paths: Paths, environment: Mapping[str, str]) -> bool:
    """Whether it is there and can be a cache alone. A variable may name any folder: one that holds the home, temporary
    files or what is ours beside a cache is never cleared."""
    if not folder.is_absolute() or not folder.is_dir() or folder.is_symlink():
        return False
    home = Path(environment.get("HOME") or "/")
    shared = (home, environment.get("XDG_CACHE_HOME") or home / ".cache", tempfile.gettempdir(), *_TEMPORARY)
    ours = (paths.config, paths.data, paths.state, paths.cache, paths.runtime)
    real = folder.resolve()
    return not any(Path(kept).resolve().is_relative_to(real) for kept in (*shared, *ours))


def disk_bytes(folder: Path) -> int:
    """What the files take on the disk; a file with several names counts once."""
    seen: set[tuple[int, int]] = set()
    total = 0
    for at, _, names in os.walk(folder):
        for name in names:
            try:
                found = os.lstat(os.path.join(at, name))  # noqa: PTH118 — a hundred thousand files
            except OSError:
                continue
            if (found.st_dev, found.st_ino) not in seen:
                seen.add((found.st_dev, found.st_ino))
                total += found.st_blocks * 512
    return total


def clear(title: str, folder: Path, work: Work) -> int:
    """Empties a cache; returns the bytes that it gave back. Files of models stay, should anybody have put one there."""
    work.say(f"Clearing {title}", kept=True)
    before = disk_bytes(folder)
    if _holds_models(folder):
        for at, folders, names in os.walk(folder, topdown=False):
            for name in names:
                if not name.lower().endswith(MODEL_FILES):
                    (Path(at) / name).unlink(missing_ok=True)
            for name in folders:
                if not (Path(at) / name).is_symlink() and not any((Path(at) / name).iterdir()):
                    (Path(at) / name).rmdir()
    else:
        try:
            shutil.rmtree(folder)
        except OSError as error:
            raise storage_error(error, folder) from error
    freed = before - (disk_bytes(folder) if folder.exists() else 0)
    work.say(f"{freed / 1e9:.2f} GB are free again.", kept=True, progress=1.0)
    return freed


def _holds_models(folder: Path) -> bool:
    return any(name.lower().endswith(MODEL_FILES) for _, _, names in os.walk(folder) for name in names)
