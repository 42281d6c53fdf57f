"""The GGUF reader against the `gguf` package as oracle, and against files that nobody should have."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import gguf
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.core.catalog.block_types import BLOCK_TYPES, FILE_TYPES
from app.core.catalog.gguf import GgufArray, parse_header, read_header
from app.core.catalog.gguf_facts import facts_from, read_gguf_facts
from app.core.errors import ModelMissing, ModelUnreadable
from tests.core.catalog.ggufs import TEMPLATE, write_gguf


def header_bytes(*pairs: bytes, tensors: bytes = b"", tensor_count: int = 0, pair_count: int | None = None) -> bytes:
    count = len(pairs) if pair_count is None else pair_count
    return b"GGUF" + struct.pack("<IQQ", 3, tensor_count, count) + b"".join(pairs) + tensors


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def test_the_block_sizes_are_those_of_the_oracle() -> None:
    for kind, (elements, size) in gguf.GGML_QUANT_SIZES.items():
        ours = BLOCK_TYPES[int(kind)]
        assert (ours.name, ours.elements, ours.bytes) == (kind.name, elements, size)


def test_the_quantisation_names_are_those_of_the_oracle() -> None:
    for kind in gguf.LlamaFileType:
        if kind.name not in ("GUESSED", "MOSTLY_MXFP4_MOE"):
            assert FILE_TYPES[int(kind)] == kind.name.removeprefix("MOSTLY_").removeprefix("ALL_")


def test_every_entry_and_tensor_is_read_as_the_oracle_reads_it(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", tied=False, numbers={"attention.key_length": 16})
    header, oracle = read_header(path), gguf.GGUFReader(path)
    assert {tensor.name: (tensor.shape, tensor.type, tensor.bytes) for tensor in header.tensors} == {
        tensor.name: (tuple(int(n) for n in tensor.shape), tensor.tensor_type.name, int(tensor.n_bytes))
        for tensor in oracle.tensors
    }
    assert header.data_offset == oracle.data_offset
    for key, field in oracle.fields.items():
        if key.startswith("GGUF."):
            continue
        ours = header.metadata[key]
        if isinstance(ours, GgufArray):
            assert ours.length == len(field.contents())
        else:
            assert ours == field.contents()


def test_a_vocabulary_is_counted_but_not_kept(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", vocabulary=30_000, width=4, heads=1, kv_heads=1, feed_forward=4)
    tracemalloc.start()
    header = read_header(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    tokens = header.metadata["tokenizer.ggml.tokens"]
    assert tokens == GgufArray(30_000)
    assert header.metadata["tokenizer.ggml.scores"] == GgufArray(30_000)
    assert peak < 4 * 1024**2


def test_a_vocabulary_larger_than_the_window_is_stepped_over_right(tmp_path: Path) -> None:
    """Texts that straddle the reader's window, and one that is larger than it."""
    texts = [b"x" * (i % 700) for i in range(8_000)] + [b"y" * 3_000_000] + [b"z"] * 100
    array = text("list") + struct.pack("<IIQ", 9, 8, len(texts))
    array += b"".join(struct.pack("<Q", len(item)) + item for item in texts)
    data = header_bytes(array, text("after") + struct.pack("<II", 4, 77)) + b"\0" * 64
    header = parse_header(io.BytesIO(data), len(data), "m")
    assert header.metadata == {"list": GgufArray(len(texts)), "after": 77}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        (b"GG", "does not begin with"),
        (b"GGUF\x03\0", "cut short"),
        (b"PK\x03\x04" + b"x" * 60, "does not begin with"),
        (b"\0" * 64, "begins with zeros"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"tjgg" + b"\0" * 60, "before GGUF"),
        (b"GGUF" + struct.pack(">IQQ", 3, 1, 1), "big-endian"),
        (b"GGUF" + struct.pack("<IQQ", 1, 1, 1), "version 1"),
        (b"GGUF" + struct.pack("<IQQ", 9, 1, 1), "version 9"),
        (header_bytes(pair_count=2**63), "which no model has"),
        (header_bytes(tensor_count=2**40), "which no model has"),
        (header_bytes(struct.pack("<Q", 2**62)), "bytes long"),
        (header_bytes(text("a") + struct.pack("<I", 99)), "unknown type 99"),
        (header_bytes(text("a") + struct.pack("<IQ", 8, 2**60)), "cut short"),
        (header_bytes(text("a") + struct.pack("<IIQ", 9, 8, 2**50)), "no room for"),
        (header_bytes(text("a") + struct.pack("<IIQ", 9, 4, 2**61)), "cut short"),
        (header_bytes(text("a") + struct.pack("<IIQ", 9, 9, 1)), "unknown type 9"),
        (header_bytes(*[text("a") + struct.pack("<IB", 0, 1)] * 2), "twice"),
        (header_bytes(text("general.alignment") + struct.pack("<II", 4, 3)), "power of two"),
        (header_bytes(tensors=text("t") + struct.pack("<I", 5), tensor_count=1), "5 dimensions"),
        (
            header_bytes(tensors=text("t") + struct.pack("<I4QIQ", 4, *(2**40,) * 4, 0, 0), tensor_count=1),
            "impossible dimensions",
        ),
        (
            header_bytes(tensors=text("t") + struct.pack("<IQIQ", 1, 100, 12, 0), tensor_count=1),
            "do not divide into blocks",
        ),
        (header_bytes(tensors=text("t") + struct.pack("<IQIQ", 1, 4096, 0, 0), tensor_count=1), "cut short"),
    ],
)
def test_bad_content_gets_a_sentence_with_what_to_do(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelUnreadable) as caught:
        read_header(path)
    assert sentence in caught.value.summary
    assert str(path) in caught.value.summary
    assert caught.value.advice


def test_a_model_cut_within_its_weights_says_how_much_is_there(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf")
    size = path.stat().st_size
    os.truncate(path, size - 5_000)
    with pytest.raises(ModelUnreadable, match=f"cut short: {size - 5_000:,} of at least") as caught:
        read_header(path)
    assert "again" in caught.value.advice


def test_missing_folder_pipe_and_forbidden_files_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match="not there"):
        read_header(tmp_path / "none.gguf")
    with pytest.raises(ModelUnreadable, match="not a file"):
        read_header(tmp_path)
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(ModelUnreadable, match="not a file"):  # a reader that opened it in the usual way would hang
        read_header(tmp_path / "pipe.gguf")
    with pytest.raises(ModelUnreadable, match="cannot be opened"):
        read_header(tmp_path / ("n" * 300))


def test_a_type_of_a_newer_engine_is_sized_by_where_the_next_tensor_begins() -> None:
    infos = text("new") + struct.pack("<IQIQ", 1, 100, 77, 0) + text("old") + struct.pack("<IQIQ", 1, 8, 0, 96)
    data = header_bytes(tensors=infos, tensor_count=2)
    data += b"\0" * (-len(data) % 32) + b"\0" * 128
    header = parse_header(io.BytesIO(data), len(data), "m")
    assert [(tensor.type, tensor.bytes) for tensor in header.tensors] == [("type 77", 96), ("F32", 32)]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("fuzz") / "m.gguf"
    return write_gguf(path, vocabulary=200, flags={"attention.sliding_window_pattern": [True, False]}).read_bytes()


def refusal_of(content: bytes) -> ModelUnreadable | None:
    """Reads header and facts; None when they are readable. Any other error leaves the test."""
    try:
        header = parse_header(io.BytesIO(content), len(content), "m")
        facts_from(header.metadata, header.tensors, Path("m.gguf"))
    except ModelUnreadable as refusal:
        return refusal
    return None


FUZZ = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FUZZ
@given(data=st.data())
def test_a_damaged_header_is_read_or_refused_and_nothing_else(real: bytes, data: st.DataObject) -> None:
    damaged = bytearray(
        real[: data.draw(st.integers(0, len(real)), label="kept")] if data.draw(st.booleans()) else real
    )
    header_end = min(len(damaged), 9_000)
    for _ in range(data.draw(st.integers(1, 8), label="wounds")):
        if not header_end:
            break
        at = data.draw(st.integers(0, header_end - 1), label="at")
        wound = data.draw(
            st.binary(min_size=1, max_size=8)
            | st.sampled_from([b"\xff" * 8, b"\0" * 8, struct.pack("<Q", 2**63), struct.pack("<Q", 2**31)]),
            label="wound",
        )
        damaged[at : at + len(wound)] = wound
    content = bytes(damaged)
    refusal = refusal_of(content)
    assert refusal is None or (refusal.summary.endswith(".") and refusal.advice)


@FUZZ
@given(content=st.binary(max_size=400))
def test_any_bytes_after_the_magic_are_read_or_refused(content: bytes) -> None:
    refusal = refusal_of(b"GGUF\x03\0\0\0" + content)
    assert refusal is None or refusal.advice


HOSTILE: dict[str, Callable[[], bytes]] = {
    "numbers": lambda: header_bytes(text("a") + struct.pack("<IIQ", 9, 4, 2**32)),
    "texts": lambda: header_bytes(text("a") + struct.pack("<IIQ", 9, 8, 2**19)),
    "one text": lambda: header_bytes(text("a") + struct.pack("<IQ", 8, 2**33)),
    "entries": lambda: header_bytes(
        *[text(f"{i:04}") + struct.pack("<IQ", 8, 1_000_000) + b"x" * 1_000_000 for i in range(64)]
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_header_that_announces_much_uses_little_memory(tmp_path: Path, kind: str) -> None:
    """In a sparse file of 64 GiB everything that a header announces is really there."""
    path = tmp_path / "hostile.gguf"
    path.write_bytes(HOSTILE[kind]())
    os.truncate(path, 2**36)
    tracemalloc.start()
    with contextlib.suppress(ModelUnreadable):
        read_header(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40 * 1024**2


# --- facts -----------------------------------------------------------------------------------------------------------


def test_the_facts_of_a_small_model(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf")
    facts = read_gguf_facts(path)
    assert facts is not None
    assert (facts.name, facts.architecture, facts.format) == ("Tiny", "llama", "gguf")
    assert (facts.layers, facts.kv_heads, facts.key_length, facts.value_length) == (2, (2, 2), 16, 16)
    assert (facts.vocabulary, facts.context_max, facts.quantisation) == (96, 1024, "F16")
    assert facts.chat_template == TEMPLATE
    assert facts.capabilities == ("chat",)
    assert facts.tied_embeddings
    assert facts.file_bytes == path.stat().st_size
    assert facts.files == (path,)
    assert facts.weights_bytes == sum(group.bytes for group in facts.tensors)
    assert facts.weights_bytes == sum(int(tensor.n_bytes) for tensor in gguf.GGUFReader(path).tensors)
    assert sum(group.bytes for group in facts.tensors if group.role == "embedding") == 96 * 64 * 2
    assert {group.layer for group in facts.tensors if group.role == "layer"} == {0, 1}


def test_an_own_output_matrix_is_not_tied(tmp_path: Path) -> None:
    facts = read_gguf_facts(write_gguf(tmp_path / "m.gguf", tied=False))
    assert facts is not None
    assert not facts.tied_embeddings
    assert sum(group.bytes for group in facts.tensors if group.role == "output") == 96 * 64 * 2 + 64 * 4


def test_kv_heads_may_differ_by_layer(tmp_path: Path) -> None:
    facts = read_gguf_facts(write_gguf(tmp_path / "m.gguf", layers=4, kv_heads=[0, 2, 0, 1]))
    assert facts is not None
    assert facts.kv_heads == (0, 2, 0, 1)


def test_layers_that_predict_ahead_or_share_a_cache_own_none(tmp_path: Path) -> None:
    ahead = read_gguf_facts(write_gguf(tmp_path / "a.gguf", layers=4, numbers={"nextn_predict_layers": 1}))
    shared = read_gguf_facts(write_gguf(tmp_path / "b.gguf", layers=4, numbers={"attention.shared_kv_layers": 2}))
    assert ahead is not None
    assert shared is not None
    assert (ahead.kv_heads, shared.kv_heads) == ((2, 2, 2, 0), (2, 2, 0, 0))


def test_recurrent_layers_own_a_state_instead_of_a_cache(tmp_path: Path) -> None:
    """48 state layers of Qwen3.8-27B's shape take 149.62 MiB, as its logs print; every fourth layer attends."""
    tensors: dict[str, tuple[int, ...]] = {"token_embd.weight": (96, 64)}
    for layer in range(64):
        tensors[f"blk.{layer}.{'attn_k.weight' if layer % 4 == 3 else 'ssm_conv1d.weight'}"] = (4, 4)
    numbers = {"ssm.conv_kernel": 4, "ssm.inner_size": 6144, "ssm.state_size": 128, "ssm.group_count": 16}
    path = write_gguf(tmp_path / "m.gguf", architecture="qwen35", layers=64, numbers=numbers, tensors=tensors)
    facts = read_gguf_facts(path)
    assert facts is not None
    assert facts.kv_heads == (0, 0, 0, 2) * 16
    assert facts.recurrent_state_bytes is not None
    assert facts.recurrent_state_bytes / 2**20 == pytest.approx(149.62, abs=0.01)


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [
        ("gemma3", (True,) * 5 + (False,)),
        ("gpt-oss", (True, False) * 3),
        ("llama", ()),  # a window that no engine applies is taken as full context: never too little
    ],
)
def test_windowed_layers_follow_the_architecture(tmp_path: Path, architecture: str, expected: tuple[bool, ...]) -> None:
    numbers = {"attention.sliding_window": 512}
    path = write_gguf(tmp_path / "m.gguf", architecture=architecture, layers=6, numbers=numbers)
    facts = read_gguf_facts(path)
    assert facts is not None
    assert (facts.sliding_window, facts.windowed_layers) == (512, expected)


def test_a_stated_window_pattern_is_believed(tmp_path: Path) -> None:
    path = write_gguf(
        tmp_path / "m.gguf",
        architecture="gemma4",
        layers=3,
        numbers={"attention.sliding_window": 512},
        flags={"attention.sliding_window_pattern": [True, True, False]},
    )
    facts = read_gguf_facts(path)
    assert facts is not None
    assert facts.windowed_layers == (True, True, False)


def test_an_unknown_architecture_is_shown_with_what_its_file_says(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "new.gguf", architecture="brandnew", bare=True, template=None, file_type=None)
    facts = read_gguf_facts(path)
    assert facts is not None
    assert facts.architecture == "brandnew"
    assert facts.weights_bytes > 0
    assert (facts.layers, facts.kv_heads, facts.context_max, facts.quantisation) == (None, (), None, "F16")


def test_entries_of_a_wrong_type_are_unknown() -> None:
    metadata = {"general.architecture": "llama", "llama.block_count": "many", "llama.context_length": -5,
                "llama.embedding_length": 2**63, "llama.attention.head_count": True}  # fmt: skip
    facts = facts_from(metadata, (), Path("m.gguf"))
    assert (facts.layers, facts.context_max, facts.embedding_length, facts.heads) == (None, None, None, None)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{% if tools %}…{% endif %}", ("chat", "tools")),
        ("{{ '<think>' }}", ("chat", "reasoning")),
        ("{{ content.split('</think>')[-1] }}", ("chat", "reasoning")),
        ("{{ '[THINK]' }}{% if tools %}{% endif %}", ("chat", "tools", "reasoning")),
        ("{{ reasoning_effort }}", ("chat", "reasoning")),
        (None, ()),
    ],
)
def test_the_template_shows_what_a_model_can_do(
    tmp_path: Path, template: str | None, expected: tuple[str, ...]
) -> None:
    facts = read_gguf_facts(write_gguf(tmp_path / "m.gguf", template=template))
    assert facts is not None
    assert facts.capabilities == expected


def test_a_template_of_its_own_for_tools_shows_that_ability_too(tmp_path: Path) -> None:
    texts = {"tokenizer.chat_template.tool_use": "{{ tools }}"}
    facts = read_gguf_facts(write_gguf(tmp_path / "m.gguf", template="{{ messages }}", texts=texts))
    assert facts is not None
    assert (facts.capabilities, facts.chat_template) == (("chat", "tools"), "{{ messages }}")


def test_a_model_says_whether_it_pools(tmp_path: Path) -> None:
    """Zero is the number for no pooling: such a model chats."""
    of = {
        kind: read_gguf_facts(write_gguf(tmp_path / f"{kind}.gguf", numbers={"pooling_type": kind})) for kind in (0, 3)
    }
    assert [facts.capabilities for facts in of.values() if facts] == [("chat",), ("embeddings",)]


def test_the_ranks_of_a_latent_cache_and_heads_that_predict_ahead_are_facts(tmp_path: Path) -> None:
    numbers = {
        "attention.kv_lora_rank": 512, "attention.q_lora_rank": 1536, "attention.key_length_mla": 192,
        "attention.value_length_mla": 128, "nextn_predict_layers": 1,
    }  # fmt: skip
    facts = read_gguf_facts(write_gguf(tmp_path / "m.gguf", architecture="deepseek2", layers=3, numbers=numbers))
    assert facts is not None
    assert (facts.latent_kv, facts.kv_lora_rank, facts.q_lora_rank, facts.mtp_heads) == (True, 512, 1536, 1)
    assert facts.kv_heads == (2, 2, 0), "what only predicts ahead owns no cache"


def test_an_encoder_embeds(tmp_path: Path) -> None:
    facts = read_gguf_facts(write_gguf(tmp_path / "m.gguf", architecture="bert", template=None))
    assert facts is not None
    assert facts.capabilities == ("embeddings",)
    assert not facts.tied_embeddings


def test_the_parts_of_a_split_model_are_one_model(tmp_path: Path) -> None:
    first = write_gguf(tmp_path / "big-00001-of-00002.gguf", name=None)
    second = write_gguf(tmp_path / "big-00002-of-00002.gguf", tensors={"blk.1.extra.weight": (64, 64)})
    facts = read_gguf_facts(second)
    assert facts is not None
    assert (facts.name, facts.path, facts.files) == ("big", first, (first, second))
    assert facts.file_bytes == first.stat().st_size + second.stat().st_size
    whole = read_header(first).tensors + read_header(second).tensors
    assert facts.weights_bytes == sum(tensor.bytes for tensor in whole)


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    first = write_gguf(tmp_path / "big-00001-of-00003.gguf")
    with pytest.raises(ModelMissing, match=r"Part 2 of 3 .* big-00002-of-00003\.gguf") as caught:
        read_gguf_facts(first)
    assert str(tmp_path) in caught.value.advice


@pytest.mark.parametrize(("architecture", "texts"), [("clip", {}), ("llama", {"general.type": "adapter"})])
def test_projectors_and_adapters_are_not_models(tmp_path: Path, architecture: str, texts: dict[str, str]) -> None:
    path = write_gguf(tmp_path / "m.gguf", architecture=architecture, texts=texts)
    assert read_gguf_facts(path) is None
