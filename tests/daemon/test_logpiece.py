"""What of a growing log may be shown: never a half of a secret, and in the end all of it (I17, I18)."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.daemon.logpiece import LINE_BYTES, readable_end, redacted_piece

SECRET = "parakeet battery staple"
LINES = "-----BEGIN KEY-----\nabcdef\nghijkl\n-----END KEY-----"


@pytest.fixture(scope="module")
def log_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "run.log"


def shown(file: Path, data: bytes, secrets: tuple[str, ...] = (SECRET,)) -> bytes:
    file.write_bytes(data)
    return data[: readable_end(file, len(data), secrets)]


def test_only_whole_lines_of_a_living_run_are_shown(log_file: Path) -> None:
    assert shown(log_file, b"") == b""
    assert shown(log_file, b"no end yet") == b""
    assert shown(log_file, b"one\ntwo\nthr") == b"one\ntwo\n"
    assert shown(log_file, b"one\n 10%\r 20%") == b"one\n 10%\r", "a progress bar is shown as it moves"


def test_a_line_that_never_ends_is_shown_but_for_what_could_be_a_secret(log_file: Path) -> None:
    """I16, I17: an engine that writes no line end must not be invisible."""
    long = b"x" * (3 * LINE_BYTES)
    found = shown(log_file, b"one\n" + long + SECRET[:9].encode())
    assert len(found) > 2 * LINE_BYTES
    assert SECRET[:9].encode() not in found
    giant = "s" * 10_000
    assert b"s" not in shown(log_file, b"one\n" + long + giant[:-1].encode(), (giant,))


@given(cut=st.integers(0, len(LINES) - 1), before=st.sampled_from(["", "x", "line\n", "-----BEGIN KEY-----\n"]))
def test_a_secret_of_several_lines_is_not_shown_by_halves(log_file: Path, cut: int, before: str) -> None:
    found = shown(log_file, (before + LINES[:cut]).encode(), (LINES,))
    assert len(found) <= len(before)


@given(st.lists(st.sampled_from(["\n", "\r", "a line", SECRET, SECRET[:7], SECRET[7:], LINES]), max_size=12), st.data())
def test_whoever_follows_sees_what_a_late_reader_sees(log_file: Path, parts: list[str], draw: st.DataObject) -> None:
    """However the engine's writes are cut and whenever is read: the pieces together are the redacted whole (I18)."""
    secrets = (SECRET, LINES)
    whole = "".join(parts).encode()
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    pieces, at = b"", 0
    for size in cuts:
        log_file.write_bytes(whole[:size])
        end = readable_end(log_file, size, secrets)
        start, data = redacted_piece(log_file, at, end, 10**6, secrets)
        assert not data or start == at
        pieces, at = pieces + data, at + len(data)
    log_file.write_bytes(whole)
    _, late = redacted_piece(log_file, 0, len(whole), 10**6, secrets)
    assert pieces + redacted_piece(log_file, at, len(whole), 10**6, secrets)[1] == late
    assert SECRET.encode() not in late
