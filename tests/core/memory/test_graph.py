"""A graph is written down once and priced for any context; what a model's facts say is worked out once."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from app.core.catalog.gguf_facts import read_gguf_facts
from app.core.memory.graph import Written, telling
from app.core.memory.layers import layers_of, shape_of
from app.core.memory.load import load_of
from app.core.memory.parts import weights_of
from app.core.memory.remembered import MODELS, once_per_model
from app.core.memory.shapes import Span
from app.core.options import Scalar
from tests.core.memory.loads import model
from tests.engines.architectures import BUILDERS, write_architecture


@pytest.mark.parametrize("architecture", sorted(BUILDERS))
def test_a_graph_grows_evenly_with_its_cells(architecture: str, tmp_path: Path) -> None:
    """Priced from the sizes of its first writing, a graph takes what it takes when it is written anew."""
    facts = read_gguf_facts(write_architecture(tmp_path / "m.gguf", architecture, 11, large=True))
    chance = random.Random(architecture)
    for flash in ("on", "off"):
        for build in (5_000, None):
            settings: dict[str, Scalar] = {
                "context_tokens": 4_096, "slots": chance.choice((1, 4)), "flash_attention": flash,
                "kv_type_k": "q8_0" if flash == "on" else "f16", "kv_unified": chance.random() < 0.5,
            }  # fmt: skip
            load = load_of(facts, settings, family="llama.cpp", on_gpu=True, build=build)
            shape, layers = shape_of(facts, load), telling(layers_of(facts, load))
            span = Span(layers=layers, inputs_kept=chance.choice((1, 4)))
            kept = Written(shape, span)
            kept.peak(256, 256)
            for _ in range(6):
                cells, window = 256 * chance.randint(1, 512), 256 * chance.randint(1, 32)
                assert kept.peak(cells, window) == Written(shape, span).peak(cells, window)


def test_what_follows_from_facts_is_worked_out_once_for_each_model() -> None:
    asked: list[str] = []

    @once_per_model
    def named(facts: object) -> str:
        asked.append("")
        return str(facts)

    one, other = model(layers=2), model(layers=2)
    assert named(one) == named(one)
    assert len(asked) == 1
    assert named(other) == named(one)
    assert len(asked) == 2, "by identity: an equal one is another object"
    kept = [model(layers=1) for _ in range(MODELS)]
    for each in kept:
        named(each)
    named(one)
    assert len(asked) == MODELS + 3, "only the latest models are kept"
    assert weights_of(one) is weights_of(one)
