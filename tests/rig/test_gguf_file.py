"""Checks the hand-written GGUF files with the reader of the format's authors."""

import warnings
from pathlib import Path

import pytest

from tests.rig.gguf_file import write_model


def test_the_authors_reader_agrees(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    path = write_model(tmp_path / "m.gguf", layers=3, context=777, weights_bytes=1_000_000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reader = gguf.GGUFReader(path)
    assert reader.fields["general.architecture"].contents() == "llama"
    assert reader.fields["llama.context_length"].contents() == 777
    assert len(reader.tensors) == 2 + 3 * 2
    assert abs(sum(int(tensor.n_bytes) for tensor in reader.tensors) - 1_000_000) < 60_000


def test_a_large_model_costs_nothing(tmp_path: Path) -> None:
    path = write_model(tmp_path / "large.gguf", weights_bytes=40 * 1024**3)
    assert path.stat().st_size > 39 * 1024**3
    assert path.stat().st_blocks * 512 < 1_000_000
