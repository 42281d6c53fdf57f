"""What a name of the hub means on this disk: a snapshot's folder, or one GGUF file of it."""

import os
from pathlib import Path

import pytest

from app.core.catalog.hub_cache import cached_file

COMMIT = "0" * 40


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    snapshot = tmp_path / "models--maker--Model-GGUF" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    for name in (
        "Model-Q4_K_M.gguf",
        "Model-IQ4_K_M.gguf",
        "Model-Q8_0-00001-of-00002.gguf",
        "Model-Q8_0-00002-of-00002.gguf",
        "mmproj-Model-F16.gguf",
    ):
        (snapshot / name).write_bytes(b"GGUF")
        os.utime(snapshot / name, (1, 1))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("maker/Model-GGUF:Q4_K_M", "Model-Q4_K_M.gguf"),
        ("maker/Model-GGUF:q4_k_m", "Model-Q4_K_M.gguf"),
        ("maker/Model-GGUF:IQ4_K_M", "Model-IQ4_K_M.gguf"),
        ("maker/Model-GGUF:Q8_0", "Model-Q8_0-00001-of-00002.gguf"),
        ("maker/Model-GGUF:F16", None),  # a projector is no model
        ("maker/Model-GGUF:Q5_K_M", None),
        ("maker/Other-GGUF:Q4_K_M", None),
        ("maker/Model-GGUF", None),
        ("../../etc:passwd", None),
    ],
)
def test_a_quantisation_of_a_repository_is_one_file(cache: Path, name: str, file: str | None) -> None:
    found = cached_file(cache, name)
    assert (found.name if found is not None else None) == file


def test_the_newest_snapshot_counts(cache: Path) -> None:
    newer = cache / "models--maker--Model-GGUF" / "snapshots" / ("1" * 40)
    newer.mkdir()
    (newer / "Model-Q4_K_M.gguf").write_bytes(b"GGUF")
    found = cached_file(cache, "maker/Model-GGUF:Q4_K_M")
    assert found is not None
    assert found.parent == newer
