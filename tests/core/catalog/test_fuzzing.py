"""Whatever a header says, its file is read or refused with a sentence, within 64 MB and a bounded read (M2)."""

from __future__ import annotations

from tests.core.catalog.fuzzing import MOST_BYTES, fuzz

FEW = 1_500


def test_mutated_headers_are_read_or_refused_in_little_memory() -> None:
    found = fuzz(FEW, first=7_000)
    assert found["failures"] == []
    assert 0 < found["most_added_bytes"] <= MOST_BYTES
    assert found["magic_share"] >= 0.8
    assert found["read"] > FEW / 20
    assert found["refused"] > FEW / 20
