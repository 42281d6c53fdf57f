"""What is loaded beside a model weighs too: projector, draft model, adapters (I4: nothing is loaded blind)."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.core.catalog.companions import read_companion
from app.core.catalog.facts import Companion
from app.core.errors import ModelMissing, ModelUnreadable
from app.core.memory.parts import MIB
from app.core.memory.plan_types import DevicePlan, MemoryPlan, Verdict
from tests.core.memory.test_plan import card, llama, machine, planned
from tests.rig.gguf_file import F16, write_gguf, write_model

SMALL = llama(layers=16, kv_heads=8)
VISION = Companion(role="vision", path=Path("mmproj.gguf"), weights_bytes=1_300 * MIB, patches=576, heads=16)
DRAFT = Companion(role="draft", path=Path("draft.gguf"), weights_bytes=SMALL.weights_bytes, facts=SMALL)
ADAPTER = Companion(role="lora", path=Path("lora.gguf"), weights_bytes=160 * MIB)


def parts(device: DevicePlan) -> dict[str, int]:
    found: dict[str, int] = {}
    for part in device.parts:
        found[part.name] = found.get(part.name, 0) + part.bytes
    return found


def on_card(plan: MemoryPlan, number: int = 0) -> dict[str, int]:
    return parts(plan.devices[number])


def test_a_projector_lies_on_the_first_card_with_a_buffer_of_its_own() -> None:
    alone = planned(llama(), {"context_tokens": 8192}, machine(card(23), card(23, uuid="GPU-b")))
    seeing = planned(llama(), {"context_tokens": 8192}, machine(card(23), card(23, uuid="GPU-b")), companions=(VISION,))
    assert on_card(seeing)["vision"] == 1_300 * MIB
    assert on_card(seeing)["vision compute"] > 500 * MIB
    assert "vision" not in on_card(seeing, 1)
    assert seeing.devices[0].high_bytes - alone.devices[0].high_bytes > 2_400 * MIB
    assert seeing.devices[0].low_bytes > alone.devices[0].low_bytes + 1_300 * MIB


def test_a_projector_that_makes_the_model_too_large_is_offered_main_memory() -> None:
    settings = {"context_tokens": 8192}
    assert planned(llama(), settings, machine(card(9))).verdict is Verdict.FITS
    seeing = planned(llama(), settings, machine(card(9)), companions=(VISION,))
    assert seeing.verdict is Verdict.DOES_NOT_FIT
    remedy = next(each for each in seeing.remedies if each.settings == {"mmproj_on_gpu": False})
    helped = planned(llama(), settings | remedy.settings, machine(card(9)), companions=(VISION,))
    assert helped.verdict is Verdict.FITS
    assert parts(helped.devices[-1])["vision"] == 1_300 * MIB, "it is in main memory now"


def test_a_draft_model_brings_its_own_weights_cache_and_compute_but_no_second_process() -> None:
    settings = {"context_tokens": 8192, "draft_kv_type_k": "q8_0", "draft_kv_type_v": "q8_0"}
    found = on_card(planned(llama(), settings, machine(card(23)), companions=(DRAFT,)))
    assert found["draft weights"] == SMALL.weights_bytes - 282 * MIB, "all but the token embedding, as for any model"
    assert found["draft kv_cache"] == 16 * 8 * 8192 * 2 * 128 * 34 // 32
    assert found["draft compute"] > 0
    assert "draft context" not in found
    aside = planned(llama(), settings | {"draft_gpu_layers": 0}, machine(card(23)), companions=(DRAFT,))
    assert "draft weights" not in on_card(aside)
    assert parts(aside.devices[-1])["draft weights"] == SMALL.weights_bytes


def test_an_adapter_lies_where_its_layers_are() -> None:
    whole = planned(llama(), {"context_tokens": 4096}, machine(card(23)), companions=(ADAPTER,))
    assert on_card(whole)["lora"] == 160 * MIB
    half = planned(llama(), {"context_tokens": 4096, "gpu_layers": 11}, machine(card(23)), companions=(ADAPTER,))
    assert on_card(half)["lora"] == pytest.approx(160 * MIB / 3, rel=0.01)
    assert on_card(half)["lora"] + parts(half.devices[-1])["lora"] == pytest.approx(160 * MIB, abs=2)


def test_without_a_card_all_of_it_is_in_main_memory() -> None:
    plan = planned(llama(), {"context_tokens": 4096}, machine(), companions=(VISION, DRAFT, ADAPTER))
    [host] = plan.devices
    assert {"vision", "draft weights", "draft kv_cache", "lora"} <= parts(host).keys()
    assert host.low_bytes <= host.likely_bytes <= host.high_bytes


def test_companions_are_read_from_their_headers(tmp_path: Path) -> None:
    write_gguf(
        tmp_path / "mmproj.gguf",
        {
            "general.architecture": "clip",
            "clip.vision.image_size": 336,
            "clip.vision.patch_size": 14,
            "clip.vision.attention.head_count": 16,
        },
        {"v.blk.0.ffn_down.weight": ((1024, 4096), F16)},
    )
    found = read_companion("vision", tmp_path / "mmproj.gguf")
    assert (found.weights_bytes, found.patches, found.heads) == (1024 * 4096 * 2, 576, 16)
    draft = read_companion("draft", write_model(tmp_path / "draft.gguf"))
    assert draft.facts is not None
    assert draft.weights_bytes == draft.facts.weights_bytes
    (tmp_path / "bad.gguf").write_bytes(b"GGUF\x03")
    with pytest.raises(ModelUnreadable):
        read_companion("lora", tmp_path / "bad.gguf")
    with pytest.raises(ModelMissing):
        read_companion("lora", tmp_path / "none.gguf")
