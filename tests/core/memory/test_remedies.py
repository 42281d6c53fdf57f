"""What would help where a load does not fit: each kind of remedy, in the order of least loss, recomputed, one argument each."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.catalog.facts import Companion, ModelFacts
from app.core.memory.case import Evaluated, Placed
from app.core.memory.needs import Need
from app.core.memory.plan_types import DevicePlan, Remedy, Verdict
from app.core.memory.remedies import largest
from app.core.options import Scalar
from app.core.snapshot import Gpus
from tests.core.memory.loads import (
    GIB,
    HEADROOM,
    HOST_HEADROOM,
    MIB,
    SMALLEST,
    applied,
    card,
    just_for,
    machine,
    model,
    needs,
    planned,
)


def first(facts: ModelFacts, wish: dict[str, Scalar], gpus: Gpus, **more: object) -> Remedy:
    """The first offer; it must fit once it is taken."""
    found = planned(facts, wish, gpus, **more)
    assert found.verdict is not Verdict.FITS
    remedy = found.remedies[0]
    assert applied(facts, wish, gpus, remedy, **more).verdict is Verdict.FITS
    return remedy


# --- each kind is the first offer somewhere, and changes that argument alone -----------------------------------------


def test_fewer_slots_come_first_where_each_has_a_state_of_its_own() -> None:
    facts = model(kv_heads=(0, 0, 0, 8) * 8, recurrent_state_bytes=500 * MIB)
    wish: dict[str, Scalar] = {"context_tokens": 4096, "slots": 8}
    remedy = first(facts, wish, just_for(facts, {**wish, "slots": 3}))
    assert (remedy.kind, remedy.settings) == ("slots", {"slots": 3})
    assert remedy.title == "Answer 3 requests at once"


def test_slots_are_not_offered_where_they_share_everything() -> None:
    facts = model()
    wish: dict[str, Scalar] = {"context_tokens": 32_768, "slots": 8}
    found = planned(facts, wish, just_for(facts, {**wish, "context_tokens": 8192}))
    assert "slots" not in [remedy.kind for remedy in found.remedies]


def test_a_shorter_context_is_the_longest_that_fits() -> None:
    facts = model()
    wish: dict[str, Scalar] = {"context_tokens": 32_768}
    gpus = just_for(facts, {**wish, "context_tokens": 8192})
    remedy = first(facts, wish, gpus)
    assert (remedy.kind, remedy.settings) == ("context", {"context_tokens": 8192})
    assert planned(facts, {"context_tokens": 8192 + 256}, gpus).verdict is not Verdict.FITS
    assert planned(facts, wish, gpus).longest_context_tokens == 8192, "the slider marks the same one"


def test_a_quantised_cache_keeps_about_twice_the_context_of_a_shorter_one_alone() -> None:
    facts = model()
    wish: dict[str, Scalar] = {"context_tokens": 32_768}
    alone, both, *_ = planned(facts, wish, just_for(facts, {**wish, "context_tokens": 8192})).remedies
    assert (alone.kind, both.kind) == ("context", "kv_type+context")
    assert int(both.settings["context_tokens"]) > 1.7 * int(alone.settings["context_tokens"])


def test_a_quantised_cache_comes_first_where_the_context_is_as_short_as_it_goes() -> None:
    facts = model(kv_heads=32)
    wish: dict[str, Scalar] = {**SMALLEST, "kv_type_k": "f16", "kv_type_v": "f16"}
    remedy = first(facts, wish, just_for(facts, SMALLEST))
    assert (remedy.kind, remedy.settings) == ("kv_type", {"kv_type_k": "q8_0", "kv_type_v": "q8_0"})


def test_a_quantised_cache_turns_flash_attention_on_only_where_it_is_off() -> None:
    facts = model(kv_heads=32)
    wish: dict[str, Scalar] = {**SMALLEST, "kv_type_k": "f16", "kv_type_v": "f16", "flash_attention": "off"}
    remedy = first(facts, wish, just_for(facts, {**SMALLEST, "flash_attention": "off"}))
    assert remedy.settings == {"kv_type_k": "q8_0", "kv_type_v": "q8_0", "flash_attention": "on"}


def test_a_cache_whose_rows_are_no_whole_blocks_is_not_quantised() -> None:
    """The engine would refuse to start."""
    facts = model(kv_heads=32, key_length=80, value_length=80)
    wish: dict[str, Scalar] = {**SMALLEST, "kv_type_k": "f16", "kv_type_v": "f16"}
    found = planned(facts, wish, just_for(facts, SMALLEST))
    assert found.remedies
    assert all("kv_type" not in remedy.kind for remedy in found.remedies)


def test_a_smaller_micro_batch_is_the_largest_half_that_fits() -> None:
    facts = model()
    wish: dict[str, Scalar] = {**SMALLEST, "ubatch_tokens": 1024, "batch_tokens": 2048}
    remedy = first(facts, wish, just_for(facts, {**wish, "ubatch_tokens": 256}))
    assert (remedy.kind, remedy.settings) == ("ubatch", {"ubatch_tokens": 256})


def test_the_projector_leaves_the_card() -> None:
    facts = model()
    seeing = (Companion(role="vision", path=Path("mmproj.gguf"), weights_bytes=800 * MIB, patches=27, heads=16),)
    wish: dict[str, Scalar] = {**SMALLEST, "mmproj": "mmproj.gguf"}
    gpus = just_for(facts, {**wish, "mmproj_on_gpu": False}, companions=seeing)
    remedy = first(facts, wish, gpus, companions=seeing)
    assert (remedy.kind, remedy.settings) == ("projector", {"mmproj_on_gpu": False})


def test_as_few_experts_as_suffice_go_to_main_memory() -> None:
    facts = model(experts=400)
    wish = dict(SMALLEST)
    remedy = first(facts, wish, just_for(facts, {**wish, "cpu_expert_layers": 7}))
    assert (remedy.kind, remedy.settings) == ("experts", {"cpu_expert_layers": 7})


def test_as_few_layers_as_suffice_go_to_main_memory() -> None:
    facts = model()
    wish = dict(SMALLEST)
    gpus = just_for(facts, {**wish, "gpu_layers": 20})
    remedy = first(facts, wish, gpus)
    assert (remedy.kind, remedy.settings) == ("layers", {"gpu_layers": 20})
    assert planned(facts, {**wish, "gpu_layers": 21}, gpus).verdict is not Verdict.FITS


def test_a_card_too_small_for_one_layer_leaves_the_processor() -> None:
    remedy = first(model(), dict(SMALLEST), machine(card(HEADROOM)))
    assert (remedy.title, remedy.settings) == ("Run on the processor", {"gpu_layers": 0})


def scarce(facts: ModelFacts, wish: dict[str, Scalar]) -> int:
    """Main memory for exactly what a load on the card leaves there: nothing can be moved to it."""
    return needs(facts, wish)["host"] + HOST_HEADROOM


def test_another_card_is_named_by_its_uuid() -> None:
    facts, wish = model(), dict(SMALLEST)
    need = needs(facts, wish)["GPU-a"] + HEADROOM
    gpus = machine(card(need - 1), card(need, "GPU-b", 1), card(need + GIB, "GPU-c", 2), available=scarce(facts, wish))
    remedy = first(facts, wish, gpus, gpu_uuids=("GPU-a",))
    assert (remedy.kind, remedy.settings, remedy.gpus) == ("card", {}, ("GPU-c",)), "the one with most room"
    assert remedy.title == "Load it on NVIDIA GeForce RTX 4090 (card 2)"


def test_two_cards_hold_what_one_cannot() -> None:
    facts, wish = model(), dict(SMALLEST)
    half = needs(facts, wish)["GPU-a"] // 2 + 2 * GIB + HEADROOM
    gpus = machine(card(half), card(half, "GPU-b", 1), available=scarce(facts, wish) + GIB)
    remedy = first(facts, wish, gpus, gpu_uuids=("GPU-a",))
    assert (remedy.kind, remedy.settings, remedy.gpus) == ("cards", {}, ("GPU-a", "GPU-b"))


def test_shares_that_do_not_suit_the_cards_are_mended() -> None:
    facts = model()
    wish: dict[str, Scalar] = {**SMALLEST, "tensor_split": "1,9"}
    half = needs(facts, SMALLEST)["GPU-a"] // 2 + GIB + HEADROOM
    gpus = machine(card(half), card(half, "GPU-b", 1), available=scarce(facts, wish) + GIB)
    remedy = first(facts, wish, gpus)
    assert (remedy.kind, list(remedy.settings), remedy.gpus) == ("cards", ["tensor_split"], ())
    shares = [int(share) for share in str(remedy.settings["tensor_split"]).split(",")]
    assert abs(shares[0] - shares[1]) < 10


# --- when no single one suffices -------------------------------------------------------------------------------------


def test_steps_are_combined_when_none_suffices_alone_and_needless_ones_are_left_out() -> None:
    facts = model(kv_heads=32)
    wish: dict[str, Scalar] = {
        "context_tokens": 1024, "slots": 4, "ubatch_tokens": 1024, "batch_tokens": 2048, "gpu_layers": 999,
    }  # fmt: skip
    both = {**wish, "kv_type_k": "q8_0", "kv_type_v": "q8_0", "ubatch_tokens": 128}
    need = needs(facts, both)
    gpus = machine(card(need["GPU-a"] + HEADROOM), available=need["host"] + HOST_HEADROOM)
    remedy = first(facts, wish, gpus)
    assert remedy.kind == "kv_type+ubatch"
    assert remedy.title == "Keep the KV cache as q8_0 and compute 128 prompt tokens at a time"
    assert set(remedy.settings) == {"kv_type_k", "kv_type_v", "ubatch_tokens"}


def test_what_nothing_helps_has_no_remedy() -> None:
    found = planned(model(), {"context_tokens": 8192}, machine(card(GIB), available=HOST_HEADROOM + GIB))
    assert found.verdict is Verdict.DOES_NOT_FIT
    assert found.remedies == ()
    assert found.longest_context_tokens is None


# --- whatever the machine --------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(
    free=st.integers(0, 24 * GIB), other=st.integers(0, 24 * GIB), host=st.integers(0, 16 * GIB),
    context=st.integers(512, 200_000), slots=st.integers(1, 8), experts=st.sampled_from((0, 150)),
)  # fmt: skip
def test_every_offer_fits_once_it_is_taken_and_tells_what_it_needs(
    free: int, other: int, host: int, context: int, slots: int, experts: int
) -> None:
    facts = model(experts=experts)
    wish: dict[str, Scalar] = {"context_tokens": context, "slots": slots}
    gpus = machine(card(free), card(other, "GPU-b", 1), available=host)
    found = planned(facts, wish, gpus, gpu_uuids=("GPU-a",))
    for remedy in found.remedies:
        after = applied(facts, wish, gpus, remedy, gpu_uuids=("GPU-a",))
        assert after.verdict is Verdict.FITS, remedy.title
        cards = sum(device.likely_bytes for device in after.devices if device.device != "host")
        assert remedy.needs_bytes == (cards or after.devices[-1].likely_bytes)
        assert all(wish.get(name) != value for name, value in remedy.settings.items()), "nothing is said that was so"
    longest = found.longest_context_tokens
    if longest is not None:
        assert planned(facts, {**wish, "context_tokens": longest}, gpus, gpu_uuids=("GPU-a",)).verdict is Verdict.FITS
        if longest < 131_072:
            more = {**wish, "context_tokens": longest + 256}
            assert planned(facts, more, gpus, gpu_uuids=("GPU-a",)).verdict is not Verdict.FITS


@given(st.integers(-50, 50), st.integers(-50, 500), st.integers(-60, 600), st.integers(1, 3), st.booleans())
def test_the_solver_finds_the_largest_that_holds_in_few_trials(
    least: int, most: int, edge: int, power: int, guess: bool
) -> None:
    tried = []

    def evaluated(number: int) -> Evaluated:
        tried.append(number)
        spare = (edge - number) ** power * (1 if power % 2 or number <= edge else -1)
        device = DevicePlan(
            device="d",
            name="d",
            parts=(),
            low_bytes=0,
            high_bytes=0,
            total_bytes=None,
            free_bytes=0,
            available_bytes=spare,
        )
        need = Need(parts=(), low_bytes=0, high_bytes=0)
        verdict = Verdict.FITS if spare >= 0 else Verdict.DOES_NOT_FIT
        return Evaluated(placed=Placed(cards=(), host=need), devices=(device,), verdict=verdict)

    expected = max((n for n in range(least, most + 1) if n <= edge), default=None)
    assert largest(least, most, evaluated, guess=guess) == expected
    assert len(tried) <= 24
    if power == 1:
        assert len(tried) <= 6, "what grows in a line is found at once"


@pytest.mark.parametrize("solve", [True, False])
def test_without_solving_the_verdict_is_the_same_and_nothing_is_looked_for(solve: bool) -> None:
    facts, gpus = model(), machine(card(7 * GIB))
    found = planned(facts, {"context_tokens": 65_536}, gpus, solve=solve)
    assert found.verdict is Verdict.DOES_NOT_FIT
    assert found.context_tokens == 65_536
    assert bool(found.remedies) is solve
    assert (found.longest_context_tokens is not None) is solve
