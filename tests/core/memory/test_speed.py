"""How fast an answer is written: against published measurements, and how it follows from where the bytes lie."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from app.core.memory.advice import LLAMA, MANY_USERS, ONE_CHAT, VLLM, advice_for
from app.core.memory.bandwidths import GIGABYTES_PER_SECOND, card_bandwidth
from app.core.memory.case import Reads
from app.core.memory.plan_types import MemoryPlan, Speed, Verdict
from app.core.memory.speed import measured_speed, speed_of
from app.core.snapshot import GpuSample, HostSample
from tests.core.memory.loads import GIB, MIB, card, machine, model, planned

HOST = HostSample(total_bytes=64 * GIB, available_bytes=32 * GIB, bandwidth_bytes_per_second=20.02e9)


def named(name: str) -> GpuSample:
    return GpuSample(uuid="u", index=0, name=name, total_bytes=None, used_bytes=None, free_bytes=None)


@pytest.mark.parametrize(
    ("name", "read_bytes", "measured"),
    [
        # tokens per second of one conversation, with where they were published
        ("NVIDIA GeForce RTX 4090", 12.55 * GIB, 61.03),  # 7B F16, llama.cpp pull request 4766
        ("NVIDIA GeForce RTX 4090", 6.67 * GIB, 98.13),  # 7B Q8_0, the same
        ("NVIDIA GeForce RTX 3090 Ti", 3.56 * GIB, 127.43),  # 7B Q4_0, llama.cpp pull request 4812
        ("NVIDIA GeForce RTX 4090", 636.18 * MIB, 762.37),  # 1.1B Q4_K_M, geerlingguy/ai-benchmarks 43
        ("NVIDIA GeForce RTX 5090", 4.68 * GIB, 221.7),  # 8B Q4_K_M, CambrianTech/continuum 1627
        ("NVIDIA GeForce RTX 4060 Laptop GPU", 4.58 * GIB, 47.2),  # 8B Q4_K_M, AlexsJones/llmfit 958
        ("", 3.56 * GIB, 1000 / 253.70),  # 7B Q4_0 on a processor with 20.02 GB/s, llama.cpp issue 34
    ],
)
def test_the_band_encloses_what_others_have_measured(name: str, read_bytes: float, measured: float) -> None:
    cards = [named(name)] if name else []
    reads = Reads(cards=(int(read_bytes),) if name else (), host=0 if name else int(read_bytes))
    found = speed_of(reads, cards, HOST)
    assert found is not None
    assert found.low < measured < found.high
    assert abs(found.likely / measured - 1) < 0.35


def test_a_card_is_known_by_the_name_that_its_driver_gives_it() -> None:
    names = {
        "NVIDIA GeForce RTX 4090": 1008, "NVIDIA GeForce RTX 4070 Ti SUPER": 672, "NVIDIA GeForce RTX 4070 Ti": 504,
        "NVIDIA GeForce RTX 4090 Laptop GPU": 576, "NVIDIA L4": 300, "NVIDIA L40S": 864, "NVIDIA A100-SXM4-80GB": 2039,
        "NVIDIA H100 80GB HBM3": 3350, "NVIDIA H200": 4800, "Tesla T4": 320, "NVIDIA RTX A6000": 768,
        "NVIDIA RTX PRO 6000 Blackwell Workstation Edition": 1792, "NVIDIA RTX 6000 Ada Generation": 960,
    }  # fmt: skip
    for name, rate in names.items():
        assert card_bandwidth(name) == rate * 10**9, name
    for stranger in ("", "NVIDIA GeForce RTX 9999", "L400", "XL4"):
        assert card_bandwidth(stranger) is None
    assert all(card_bandwidth(f"NVIDIA {name}") == rate * 10**9 for name, rate in GIGABYTES_PER_SECOND.items())


def test_nothing_is_promised_where_a_memory_s_speed_is_not_known() -> None:
    unknown = HostSample(total_bytes=GIB, available_bytes=GIB)
    assert speed_of(Reads(cards=(GIB,), host=0), [named("Mystery 1")], HOST) is None
    assert speed_of(Reads(cards=(GIB,), host=GIB), [named("NVIDIA L4")], unknown) is None
    assert speed_of(Reads(cards=(GIB,), host=0), [named("NVIDIA L4")], unknown) is not None
    assert speed_of(Reads(cards=(), host=0), [], HOST) is None


def test_layers_on_several_cards_are_read_one_after_the_other_and_parallel_ones_together() -> None:
    cards = [named("NVIDIA L4"), named("NVIDIA L4")]
    after, together = (speed_of(Reads(cards=(GIB, GIB), host=0, at_once=at), cards, None) for at in (False, True))
    assert after is not None
    assert together is not None
    assert 1.5 < together.likely / after.likely <= 2


def test_what_lies_in_main_memory_slows_a_load_down_and_experts_that_rest_do_not() -> None:
    gpus = replace(machine(card(40 * GIB)), host=HOST)
    dense = planned(model(), {"context_tokens": 4096}, gpus).speed
    spilled = planned(model(), {"context_tokens": 4096, "gpu_layers": 16}, gpus).speed
    assert dense is not None
    assert spilled is not None
    assert spilled.likely < dense.likely / 4
    assert "of NVIDIA GeForce RTX 4090 and main memory" in spilled.source
    mixture = planned(model(experts=400), {"context_tokens": 4096}, gpus).speed  # a quarter of 12.5 GiB takes part
    assert mixture is not None
    assert 0.4 < mixture.likely / dense.likely < 0.7


def test_a_longer_conversation_is_slower_and_a_quantised_cache_faster() -> None:
    rates = []
    for wish in (
        {"context_tokens": 4096},
        {"context_tokens": 65_536},
        {"context_tokens": 65_536, "kv_type_k": "q8_0", "kv_type_v": "q8_0"},
    ):
        found = planned(model(), wish, machine(card(40 * GIB))).speed
        assert found is not None
        rates.append(found.likely)
    assert rates[1] < rates[2] < rates[0]


def test_many_conversations_share_the_reading_of_the_weights() -> None:
    reads = Reads(cards=(5 * GIB,), host=0, weights_bytes=int(4.5 * GIB))
    cards = [named("NVIDIA GeForce RTX 4090")]
    one, many = speed_of(reads, cards, None), speed_of(reads, cards, None, conversations=16)
    assert one is not None
    assert many is not None
    assert 2 < many.likely / one.likely < 16


def test_what_was_measured_is_said_to_be() -> None:
    assert measured_speed([]) is None
    found = measured_speed([30.0, 20.0, 26.0])
    assert found == Speed(low=20.0, likely=26.0, high=30.0, source="measured in 3 earlier answers")


# --- which engine for what -------------------------------------------------------------------------------------------


def plan_that(verdict: Verdict, rate: float = 50.0) -> MemoryPlan:
    speed = Speed(low=rate, likely=rate, high=rate, source="")
    return MemoryPlan(verdict=verdict, devices=(), summary="", speed=speed)


def test_a_gguf_file_is_for_llama_cpp_and_many_users_are_told_of_vllm() -> None:
    plans = {LLAMA: plan_that(Verdict.FITS), VLLM: plan_that(Verdict.DOES_NOT_FIT, 40)}
    many = {LLAMA: Speed(low=1, likely=300, high=900, source="")}
    found = advice_for(model(), plans, many, has_card=True)
    assert [(each.use, each.engine) for each in found] == [
        (ONE_CHAT, LLAMA), (MANY_USERS, LLAMA), (ONE_CHAT, VLLM), (MANY_USERS, VLLM),
    ]  # fmt: skip
    assert "vLLM gives more tokens per second in all" in found[1].reason
    assert found[0].speed is not None
    assert found[1].speed is not None
    assert (found[0].speed.likely, found[1].speed.likely) == (50, 300)
    assert [each.verdict for each in found[::2]] == [Verdict.FITS, Verdict.DOES_NOT_FIT]


def test_a_folder_is_for_vllm_and_what_does_not_fit_is_better_as_gguf() -> None:
    folder = model(format="safetensors")
    fits = advice_for(folder, {VLLM: plan_that(Verdict.FITS)}, {}, has_card=True)
    assert [(each.use, each.engine) for each in fits] == [(ONE_CHAT, VLLM), (MANY_USERS, VLLM), (ONE_CHAT, LLAMA)]
    assert "many answers in one step" in fits[1].reason
    tight = advice_for(folder, {VLLM: plan_that(Verdict.DOES_NOT_FIT)}, {}, has_card=True)
    assert "GGUF file of 4 bits" in tight[0].reason
    without = advice_for(folder, {VLLM: plan_that(Verdict.FITS)}, {}, has_card=False)
    assert "no graphics card here" in without[0].reason
