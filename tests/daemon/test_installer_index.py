"""Wheels from a package index: each way in which it can be broken ends in a sentence and leaves nothing (E7, I18); what is
under way is counted in bytes and seconds, and what is installed in bytes of the disk."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.core.errors import EngineNotInstalled
from app.daemon.caches import disk_bytes
from app.daemon.engine_sources import Build, Source
from app.daemon.installer import install
from app.daemon.uv_words import Downloads, Figures, refusal
from app.daemon.work import Ended, News
from tests.rig.home import Home
from tests.rig.installables import WORKS, write_standin_wheel
from tests.rig.package_index import Fault, PackageIndex

MIB = 1024**2
WEIGHT = {"standin/weight.txt": random.Random(7).randbytes(MIB).hex()}  # uv draws bars for what is over 1 MiB only
SOURCE = Source(
    family="llama.cpp", package="standin", version="1.0", module="standin", build=(Build(accelerator="cpu"),)
)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[PackageIndex]:
    index = PackageIndex(write_standin_wheel(tmp_path / "wheels", WORKS | WEIGHT))
    yield index
    index.close()


@pytest.fixture
def install_from(home: Home) -> Callable[..., tuple[Path, list[News]]]:
    def install_from(index: PackageIndex, **environment: str) -> tuple[Path, list[News]]:
        said = {"PIP_INDEX_URL": index.url, **environment}
        news: list[News] = []
        folder = install(
            SOURCE,
            home.paths.engines,
            accelerators=("cpu",),
            environment={**home.environment, **said},
            progress=news.append,
            cache=home.paths.cache,
        )
        return folder, news

    return install_from


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("500", r"HTTP status server error \(500 Internal Server Error\).*127\.0\.0\.1"),
        ("garbage", r"no version of standin==1\.0"),
        ("silent", r"127\.0\.0\.1.*timed out"),
        ("cut", r"the file of standin==1\.0 .* broke off or is no package"),
        ("stalls", r"the file of standin==1\.0 .* broke off or is no package|timed out"),
        ("other file", r"Hash mismatch for `standin==1\.0`"),
    ],
)
def test_a_broken_index_is_named_and_leaves_nothing(
    index: PackageIndex, home: Home, install_from: Callable[..., tuple[Path, list[News]]], fault: Fault, words: str
) -> None:
    index.fault = fault
    with pytest.raises(EngineNotInstalled, match=words) as refused:
        # uv tries again and waits in between; a test asks once, and bears a second of the silence that it is about
        install_from(index, UV_HTTP_RETRIES="0", PIP_TIMEOUT="1" if fault in ("silent", "stalls") else "60")
    assert "pip's index settings" in refused.value.advice
    assert [path.name for path in home.paths.engines.iterdir()] == [".lock"]
    index.fault = ""
    folder, _ = install_from(index)
    assert (folder / "engine.json").is_file(), "nothing of the broken answer was kept"


def test_a_slow_index_is_counted_in_bytes_and_seconds(
    index: PackageIndex, install_from: Callable[..., tuple[Path, list[News]]]
) -> None:
    index.pause_seconds = 0.05
    folder, news = install_from(index)
    counted = [one for one in news if one.bytes_done is not None]
    done = [one.bytes_done or 0 for one in counted]
    assert done == sorted(done), "bytes only grow"
    assert len(set(done)) >= 3
    whole = index.wheel.stat().st_size
    assert all(one.bytes_total == pytest.approx(whole, rel=0.01) for one in counted), "uv rounds to two places"
    assert max(done) <= whole * 1.01
    estimated = [one.eta_seconds for one in counted if one.eta_seconds is not None]
    assert len(estimated) >= 2
    assert min(estimated) >= 0
    assert estimated[-1] < max(estimated)
    progress = [one.progress for one in news if one.progress is not None]
    assert progress == sorted(progress)

    blocks = sum(file.lstat().st_blocks * 512 for file in folder.rglob("*") if not file.is_dir() or file.is_symlink())
    assert disk_bytes(folder) == blocks > 2 * MIB, "every file is one of its own here"


# uv 0.13.8's own lines, without colours, as they come from its terminal
RECORDED = (
    "⠙ Preparing packages... (0/2)",
    "torch                ------------------------------     0 B/2.86 MiB",
    "torch                ------------------------------ 7.85 KiB/2.86 MiB",
    "torch                ------------------------------ 125.00 KiB/2.86 MiB",
    "⠙ Preparing packages... (0/2)",
    "torch                ------------------------------ 1.02 MiB/2.86 MiB",
)


def test_uvs_lines_tell_bytes_and_seconds() -> None:
    downloads = Downloads()
    heard = [downloads.heard(line, 100.0 + second) for second, line in enumerate(RECORDED)]
    total = int(2.86 * MIB)
    assert heard[0] is heard[4] is None
    assert heard[1] == Figures(bytes_done=0, bytes_total=total, eta_seconds=None)
    assert heard[3] is not None
    assert (heard[3].bytes_done, heard[3].bytes_total) == (125 * 1024, total)
    last = heard[5]
    assert last is not None
    assert last.bytes_done == int(1.02 * MIB)
    assert last.eta_seconds == pytest.approx(4 * (2.86 - 1.02) / 1.02, rel=1e-3), "4 s of downloading, not of resolving"


def test_several_downloads_are_one_figure() -> None:
    """Both in one drawing and line by line; a second one makes the whole larger, a done one stays counted."""
    downloads = Downloads()
    downloads.heard("torch -- 100.00 MiB/1.00 GiB", 0.0)
    both = downloads.heard("nvidia-cublas-cu12   ---    10 B/512.00 MiB torch   ------- 612.00 MiB/1.00 GiB", 10.0)
    assert both == Figures(
        bytes_done=612 * MIB + 10, bytes_total=1536 * MIB, eta_seconds=pytest.approx(10 * 924 / 612, rel=1e-3)
    )
    done = downloads.heard("torch ------------------------------ 1.00 GiB/1.00 GiB", 20.0)
    assert done is not None
    assert done.bytes_done == 1024 * MIB + 10
    for other in ("Resolved 12 packages in 17ms", "+ standin==1.0", "Prepared 1 package in 7.07s", ""):
        assert downloads.heard(other, 21.0) is None


def test_a_refusal_is_uvs_first_words_and_their_root() -> None:
    said = ("Using Python 3.11.7", "error: Failed to fetch: there", "  cause: operation timed out.", "hint: look")
    assert refusal(Ended(exit_code=2, said=said)) == "Failed to fetch: there: operation timed out"
    assert refusal(Ended(exit_code=2, said=("it burst.",))) == "it burst"
    assert refusal(Ended(exit_code=2, said=())) == "uv said nothing"
