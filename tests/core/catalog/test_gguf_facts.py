"""What a GGUF's facts say where its header is silent, or where the engine knows better."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.core.catalog.gguf_facts import read_gguf_facts
from tests.engines.architectures import Model, mixture, plain


def test_what_a_header_forgot_is_read_off_the_tensors(tmp_path: Path) -> None:
    """I4: width, feed-forward and experts have forms; a state of unknown size is said to be unknown, never taken for nothing."""
    model = Model("newcomer", 3)
    mixture(model)
    told = read_gguf_facts(model.write(tmp_path / "told.gguf"))
    for key in ("embedding_length", "feed_forward_length", "expert_count", "expert_feed_forward_length"):
        del model.metadata[f"newcomer.{key}"]
    found = read_gguf_facts(model.write(tmp_path / "silent.gguf"))
    assert found is not None
    assert told is not None
    assert found.embedding_length == told.embedding_length
    assert (found.experts, found.expert_feed_forward_length) == (told.experts, told.expert_feed_forward_length)
    for layer in range(model.layers):
        model.matrix(f"blk.{layer}.ssm_mystery.weight", model.width, model.width)
    unknown = read_gguf_facts(model.write(tmp_path / "state.gguf"))
    assert unknown is not None
    assert unknown.recurrent_state_bytes is None


@pytest.mark.parametrize(
    ("architecture", "more", "window", "windowed"),
    [
        ("gemma2", {}, 4_096, (True, False, True, False)),  # a window that llama.cpp itself knows
        ("exaone4", {"attention.sliding_window": 4_096}, None, ()),  # only the largest has it
        ("llama4", {"attention.sliding_window": 0}, None, ()),
        ("laguna", {"attention.sliding_window": 512}, 512, (False, True, True, True)),  # the first of a period is whole
    ],
)
def test_windows_are_those_that_the_engine_uses(
    tmp_path: Path, architecture: str, more: dict[str, object], window: int | None, windowed: tuple[bool, ...]
) -> None:
    """I4."""
    model = Model(architecture, 3)
    model.layers = 4
    model.say(more, block_count=4)
    plain(model)
    facts = read_gguf_facts(model.write(tmp_path / "m.gguf"))
    assert facts is not None
    assert facts.sliding_window == window
    assert facts.windowed_layers == windowed
