"""A graph is written down once and priced for any context; what a model's facts say is worked out once."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from app.core.catalog.gguf_facts import read_gguf_facts
from app.core.memory import plan
from app.core.memory.graph import Written, telling
from app.core.memory.layers import layers_of, shape_of
from app.core.memory.load import load_of
from app.core.memory.parts import weights_of
from app.core.memory.plan_types import MemoryPlan, Verdict
from app.core.memory.remembered import MODELS, once_per_model
from app.core.memory.shapes import Span
from app.core.options import Scalar
from app.core.snapshot import DriverState, Gpus, HostSample
from tests.core.memory.loads import model
from tests.engines.architectures import BUILDERS, Model, plain, write_architecture
from tests.engines.further_architectures import FURTHER, write_further


@pytest.mark.parametrize("architecture", [*sorted(BUILDERS), *sorted(FURTHER)])
def test_a_graph_grows_evenly_with_its_cells(architecture: str, tmp_path: Path) -> None:
    """Priced from the sizes of its first writing, a graph takes what it takes when it is written anew."""
    if architecture in FURTHER:
        facts = read_gguf_facts(write_further(tmp_path / "m.gguf", architecture, 11))
    else:
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


def planned(path: Path, settings: dict[str, Scalar]) -> MemoryPlan:
    host = HostSample(total_bytes=1 << 40, available_bytes=1 << 40)
    gpus = Gpus(driver=DriverState.ABSENT, gpus=(), host=host)
    return plan(
        read_gguf_facts(path), settings, family="llama.cpp", accelerator="cpu", gpus=gpus, headroom_bytes=0,
        host_headroom_bytes=0, threshold=1.0, solve=False,
    )  # fmt: skip


def bytes_of(path: Path, part: str, **settings: Scalar) -> int:
    [device] = planned(path, {"repack": False, "context_tokens": 4_096, "slots": 1, **settings}).devices
    return sum(each.bytes for each in device.parts if each.name == part)


def test_a_micro_batch_has_as_many_tokens_of_each_sequence(tmp_path: Path) -> None:
    """I4: 64 tokens for seven sequences are seventy (llama.cpp's graph_reserve)."""
    path = write_architecture(tmp_path / "m.gguf", "llama", 11)
    uneven = bytes_of(path, "compute", slots=7, ubatch_tokens=64)
    assert uneven == bytes_of(path, "compute", slots=7, ubatch_tokens=70)
    assert uneven > bytes_of(path, "compute", slots=8, ubatch_tokens=64)


def test_flash_attention_copies_a_cache_in_f32(tmp_path: Path) -> None:
    """I4."""
    path = write_architecture(tmp_path / "m.gguf", "llama", 11)
    narrow = bytes_of(path, "compute", context_tokens=65_536)
    assert bytes_of(path, "compute", context_tokens=65_536, kv_type_k="f32") > narrow
    assert bytes_of(path, "compute", context_tokens=65_536, kv_type_k="bf16") == narrow


def test_a_model_without_a_cache_needs_none(tmp_path: Path) -> None:
    """I4: whatever the context, only the micro-batch counts."""
    path = write_further(tmp_path / "m.gguf", "llada", 11)
    assert bytes_of(path, "kv_cache") == 0
    assert bytes_of(path, "compute") == bytes_of(path, "compute", context_tokens=65_536)


def test_layers_that_only_predict_ahead_are_not_loaded(tmp_path: Path) -> None:
    """I4: on the processor either; a header that tells fewer layers than there are loses none."""
    path = write_further(tmp_path / "m.gguf", "glm4moe", 11)
    facts = read_gguf_facts(path)
    assert facts is not None
    assert 0 < bytes_of(path, "weights") < facts.weights_bytes
    model = Model("llama", 11)
    plain(model)
    model.say(block_count=1)
    facts = read_gguf_facts(model.write(tmp_path / "short.gguf"))
    assert facts is not None
    assert bytes_of(tmp_path / "short.gguf", "weights") == facts.weights_bytes


def test_a_state_of_unknown_size_is_not_taken_for_nothing(tmp_path: Path) -> None:
    """I4: an architecture that nobody knows."""
    model = Model("newcomer", 11)
    plain(model)
    path = model.write(tmp_path / "m.gguf")
    assert bytes_of(path, "kv_cache") > 0
    for layer in range(model.layers):
        model.matrix(f"blk.{layer}.ssm_mystery.weight", model.width, model.width)
    found = planned(model.write(path), {"context_tokens": 4_096})
    assert found.verdict is Verdict.UNKNOWN
    assert "newcomer" in found.summary
