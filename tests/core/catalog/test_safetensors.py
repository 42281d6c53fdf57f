"""A Hugging Face folder is understood from its config and headers alone; a damaged one is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.core.catalog.read import read_facts
from app.core.errors import ModelError, ModelMissing, ModelUnreadable
from tests.core.catalog.ggufs import write_gguf

CONFIG = {
    "model_type": "qwen3", "num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 32, "vocab_size": 100, "max_position_embeddings": 4096,
    "tie_word_embeddings": True,
}  # fmt: skip


def folder(path: Path, config: object = CONFIG, **sizes: int) -> Path:
    """A model folder with one safetensors file whose tensors have these sizes."""
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps(config))
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, size in (sizes or {"model.embed_tokens.weight": 200, "model.layers.1.q.weight": 64}).items():
        header[name] = {"dtype": "BF16", "shape": [size // 2], "data_offsets": [end, end + size]}
        end += size
    data = json.dumps(header).encode()
    (path / "model.safetensors").write_bytes(len(data).to_bytes(8, "little") + data + b"\0" * end)
    return path


def test_the_facts_of_a_folder(tmp_path: Path) -> None:
    facts = read_facts(folder(tmp_path / "Qwen3-tiny"))
    assert (facts.format, facts.name, facts.architecture) == ("safetensors", "Qwen3-tiny", "qwen3")
    assert (facts.weights_bytes, facts.layers, facts.kv_heads, facts.key_length) == (264, 2, (2, 2), 32)
    assert (facts.context_max, facts.vocabulary, facts.tied_embeddings) == (4096, 100, True)
    assert {(group.role, group.layer, group.type, group.bytes) for group in facts.tensors} == {
        ("embedding", None, "BF16", 200),
        ("layer", 1, "BF16", 64),
    }


def test_a_model_with_eyes_nests_its_text_part(tmp_path: Path) -> None:
    config = {"model_type": "gemma3", "text_config": {**CONFIG, "model_type": "gemma3_text"}, "vision_config": {}}
    facts = read_facts(folder(tmp_path / "m", {**config, "vision_config": {"depth": 1}}))
    assert (facts.layers, facts.architecture, facts.capabilities) == (2, "gemma3_text", ("vision",))


def test_a_cut_or_damaged_folder_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match=r"config\.json is not there"):
        read_facts(tmp_path)
    cut = folder(tmp_path / "cut")
    weights = cut / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(ModelUnreadable, match="cut short"):
        read_facts(cut)
    weights.write_bytes(b"\xff" * 40)
    with pytest.raises(ModelUnreadable, match="not a usable safetensors file"):
        read_facts(cut)
    weights.unlink()
    with pytest.raises(ModelUnreadable, match="holds no safetensors"):
        read_facts(cut)
    (cut / "config.json").write_text("[" * 100_000)
    with pytest.raises(ModelUnreadable, match="not a model's config"):
        read_facts(cut)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 300), wound=st.binary(min_size=1, max_size=6), config=st.booleans())
def test_a_damaged_folder_is_read_or_refused_and_nothing_else(
    tmp_path: Path, at: int, wound: bytes, config: bool
) -> None:
    path = folder(tmp_path / "m")
    file = path / ("config.json" if config else "model.safetensors")
    data = bytearray(file.read_bytes())
    data[at : at + len(wound)] = wound
    file.write_bytes(data)
    try:
        read_facts(path)
    except ModelError as error:
        assert error.advice  # noqa: PT017 - either outcome is right


def test_a_projector_is_not_taken_for_a_model(tmp_path: Path) -> None:
    with pytest.raises(ModelUnreadable, match="belongs to one"):
        read_facts(write_gguf(tmp_path / "p.gguf", architecture="clip"))
