"""The formulas against measured logs, where the corpus lies beside the checkout."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.corpus.llamacpp_memory import by_architecture, scores

CORPUS = Path(__file__).parents[3].parent / "shared" / "data" / "llamacpp_memory.jsonl"


@pytest.mark.skipif(not CORPUS.is_file(), reason="the measured cases are not on this machine")
def test_plain_attention_on_one_card_is_within_a_hundred_mebibytes() -> None:
    found = list(scores(CORPUS, "llama.cpp"))
    assert len(found) >= 4
    for item in found:
        assert abs(item.kv_error_mib) < 0.5, item.id
        assert abs(item.compute_error_mib) < 100, item.id
    assert max(share for _, _, share in by_architecture(found).values()) < 0.01
