"""A run's log keeps a size, and every offset keeps its meaning."""

import os
from pathlib import Path

import pytest

from app.daemon.runlog import LogSpan, cap_log, log_span

MIB = 1024**2


@pytest.fixture
def log(tmp_path: Path) -> Path:
    file = tmp_path / "run.log"
    file.write_bytes(b"".join(b"line %07d\n" % number for number in range(400_000)))
    return file


def test_the_front_is_freed_and_the_rest_stays_in_place(log: Path) -> None:
    """I16, I17: an offset that a failure's evidence holds still leads to its line, while the writer goes on."""
    size = log.stat().st_size
    with log.open("ab", buffering=0) as engine:
        before = log.stat().st_blocks
        span = cap_log(log, MIB)
        if log.stat().st_blocks == before:
            pytest.skip("this filesystem cannot punch holes")
        engine.write(b"still here\n")
    assert span.size == size
    assert MIB <= span.readable_bytes < MIB + 2 * 4096
    assert log.stat().st_blocks * 512 < 2 * MIB
    with log.open("rb") as reader:
        reader.seek(13 * 399_000)
        assert reader.readline() == b"line 0399000\n"
        reader.seek(size)
        assert reader.read() == b"still here\n"
    assert log_span(log).first_offset == span.first_offset
    assert cap_log(log, MIB).first_offset - span.first_offset in (0, 4096), "asked again, only the new part goes"


def test_a_small_or_missing_log_is_left_as_it_is(log: Path, tmp_path: Path) -> None:
    content = log.read_bytes()
    assert cap_log(log, len(content)) == LogSpan(first_offset=0, size=len(content))
    assert log.read_bytes() == content
    assert cap_log(tmp_path / "none.log", MIB) == LogSpan(first_offset=0, size=0)
    (tmp_path / "empty.log").touch()
    assert cap_log(tmp_path / "empty.log", MIB).readable_bytes == 0


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no memory filesystem here")
def test_other_filesystems_lose_nothing_within_the_limit(tmp_path: Path) -> None:
    file = Path("/dev/shm") / f"engine-room-{os.getpid()}.log"
    try:
        file.write_bytes(b"x" * 3 * MIB)
        span = cap_log(file, MIB)
        assert file.stat().st_size == span.size == 3 * MIB
        with file.open("rb") as reader:
            reader.seek(max(span.first_offset, 2 * MIB))
            assert set(reader.read()) == {ord("x")}
    finally:
        file.unlink()
