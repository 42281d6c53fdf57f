"""What a load needs, whether it may start (I4), and what the refusal says."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.catalog.facts import ModelFacts, TensorFacts
from app.core.memory import plan
from app.core.memory.admission import available_bytes
from app.core.memory.buffers import host_buffer
from app.core.memory.load import build_number, load_of
from app.core.memory.needs import needs_on_gpus, needs_on_host
from app.core.memory.parts import MIB, cache_cells, kv_cache, placement, recurrent_state
from app.core.memory.plan_types import MemoryPlan, Verdict
from app.core.options import Scalar
from app.core.snapshot import DriverState, GpuProcess, Gpus, GpuSample, HostSample

GIB = 1024**3


def llama(
    *,
    layers: int = 32,
    heads: int = 32,
    kv_heads: int | tuple[int, ...] = 8,
    vocabulary: int = 128_256,
    tied: bool = False,
    **more: object,
) -> ModelFacts:
    """A model of Llama-3-8B's shape at about 4.5 bits, unless told otherwise."""
    tensors = [TensorFacts(role="embedding", layer=None, type="Q4_K", bytes=282 * MIB, largest_bytes=282 * MIB)]
    if not tied:
        tensors.append(TensorFacts(role="output", layer=None, type="Q6_K", bytes=411 * MIB, largest_bytes=411 * MIB))
    tensors += [
        TensorFacts(role="layer", layer=layer, type="Q4_K", bytes=120 * MIB, largest_bytes=32 * MIB)
        for layer in range(layers)
    ]
    values: dict[str, object] = {
        "path": Path("m.gguf"), "format": "gguf", "name": "m", "architecture": "llama", "file_bytes": 0,
        "weights_bytes": sum(group.bytes for group in tensors), "tensors": tuple(tensors), "layers": layers,
        "embedding_length": 4096, "feed_forward_length": 14_336, "heads": heads, "kv_heads": kv_heads if isinstance(kv_heads, tuple) else (kv_heads,) * layers,
        "key_length": 128, "value_length": 128, "vocabulary": vocabulary, "context_max": 131_072,
        "tied_embeddings": tied, "recurrent_state_bytes": 0, **more,
    }  # fmt: skip
    return ModelFacts(**values)  # type: ignore[arg-type]


def card(
    free_gib: float, total_gib: float = 24, uuid: str = "GPU-a", processes: tuple[GpuProcess, ...] = ()
) -> GpuSample:
    total, free = int(total_gib * GIB), int(free_gib * GIB)
    return GpuSample(
        uuid=uuid, index=0, name="RTX 4090", total_bytes=total, used_bytes=total - free, free_bytes=free, processes=processes
    )  # fmt: skip


def machine(*cards: GpuSample, available_gib: float = 30, total_gib: float = 32) -> Gpus:
    host = HostSample(total_bytes=int(total_gib * GIB), available_bytes=int(available_gib * GIB))
    return Gpus(driver=DriverState.OK if cards else DriverState.ABSENT, gpus=cards, host=host)


def planned(facts: ModelFacts | None, settings: dict[str, Scalar], gpus: Gpus, **more: object) -> MemoryPlan:
    values: dict[str, object] = {
        "family": "llama.cpp", "accelerator": "cuda" if gpus.gpus else "cpu", "headroom_bytes": int(1.5 * GIB),
        "host_headroom_bytes": GIB, "threshold": 0.95, "solve": True, **more,
    }  # fmt: skip
    return plan(facts, settings, gpus=gpus, **values)  # type: ignore[arg-type]


# --- parts: checked against what llama.cpp printed -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "settings", "kv_mib", "compute_mib"),
    [
        (llama(kv_heads=32, vocabulary=32_000, feed_forward_length=11_008),
         {"context_tokens": 4096, "flash_attention": "off"}, 2048, 320),
        (llama(kv_heads=32, vocabulary=32_000, feed_forward_length=11_008), {"context_tokens": 4096}, 2048, 100.5),
        (llama(), {"context_tokens": 4096}, 512, 266.5),
        (llama(), {"context_tokens": 4096, "flash_attention": "off"}, 512, 308),
        (llama(), {"context_tokens": 32_768}, 4096, 266.5),
        (llama(), {"context_tokens": 32_768, "flash_attention": "off"}, 4096, 2156),
        (llama(), {"context_tokens": 32_768, "kv_type_k": "q8_0", "kv_type_v": "q8_0"}, 2176, 274.5),
        (llama(layers=80, heads=64, embedding_length=8192, feed_forward_length=28_672), {"context_tokens": 4096}, 1280, 282.5),
    ],
)  # fmt: skip
def test_cache_and_compute_are_what_the_engine_prints(
    facts: ModelFacts, settings: dict[str, Scalar], kv_mib: float, compute_mib: float
) -> None:
    load = load_of(facts, {**settings, "slots": 1}, family="llama-server", on_gpu=False)
    load = msgspec.structs.replace(load, outputs=0, mixed_inputs=False)  # as the program that printed these
    assert sum(kv_cache(facts, load)) / MIB == pytest.approx(kv_mib, abs=0.01)
    assert host_buffer(facts, load) / MIB == pytest.approx(compute_mib, rel=0.005)


@pytest.mark.parametrize(
    ("window", "settings", "cells"),
    [
        (128, {"context_tokens": 131_072, "ubatch_tokens": 2048, "slots": 1}, 2304),  # gpt-oss
        (128, {"context_tokens": 131_072, "slots": 4}, 1024),
        (128, {"context_tokens": 131_072, "slots": 1}, 768),
        (1024, {"context_tokens": 8192, "slots": 4}, 4608),  # Gemma-like
        (1024, {"context_tokens": 2048, "slots": 4}, 2048),  # never more than the context
        (1024, {"context_tokens": 8192, "slots": 4, "sliding_window_full": True}, 8192),
    ],
)
def test_windowed_layers_cache_their_window(window: int, settings: dict[str, Scalar], cells: int) -> None:
    facts = llama(sliding_window=window, windowed_layers=(True, False) * 16)
    load = load_of(facts, settings, family="llama.cpp", on_gpu=True)
    assert cache_cells(facts, load)[1] == cells
    by_layer = kv_cache(facts, load)
    per_cell = 8 * (128 + 128) * 2
    assert by_layer[0] == cells * per_cell
    assert by_layer[1] == settings["context_tokens"] * per_cell


def test_layers_without_heads_own_no_cache_and_states_grow_with_slots() -> None:
    facts = llama(kv_heads=(0, 0, 0, 4) * 8, recurrent_state_bytes=150 * MIB)
    load = load_of(facts, {"context_tokens": 1024, "slots": 3}, family="llama.cpp", on_gpu=True)
    assert [bool(size) for size in kv_cache(facts, load)] == [False, False, False, True] * 8
    assert recurrent_state(facts, load) == 450 * MIB


def test_a_latent_cache_holds_no_values() -> None:
    """576 f16 numbers for each token and layer: 61 layers of DeepSeek-V3."""
    facts = llama(layers=61, kv_heads=1, key_length=576, value_length=512, latent_kv=True)
    load = load_of(facts, {"context_tokens": 4096}, family="llama.cpp", on_gpu=True)
    assert sum(kv_cache(facts, load)) == 61 * 4096 * 576 * 2


def test_the_token_embedding_stays_in_main_memory_and_a_tied_one_is_on_the_card_too() -> None:
    for tied, output in ((False, 411), (True, 282)):
        facts = llama(tied=tied)
        load = load_of(facts, {"context_tokens": 4096}, family="llama.cpp", on_gpu=True)
        (on_card,), on_host = needs_on_gpus(facts, load, [1.0], "cuda")
        assert on_card.parts[0].bytes == (32 * 120 + output) * MIB
        assert on_host.parts[0].bytes == 282 * MIB


def test_some_layers_on_the_card_means_the_last_ones() -> None:
    assert placement(5, 2, [1.0]) == (None, None, None, 0, 0)
    facts = llama()
    load = load_of(facts, {"context_tokens": 4096, "gpu_layers": 9}, family="llama.cpp", on_gpu=True)
    (on_card,), on_host = needs_on_gpus(facts, load, [1.0], "cuda")
    assert on_card.parts[0].bytes == (8 * 120 + 411) * MIB
    assert on_host.parts[0].bytes == (24 * 120 + 282) * MIB


def test_builds_until_the_end_of_2025_put_the_output_on_a_card_last() -> None:
    load = load_of(llama(), {"gpu_layers": 9}, family="llama.cpp", on_gpu=True, build=7_000)
    (on_card,), on_host = needs_on_gpus(llama(), load, [1.0], "cuda")
    assert on_card.parts[0].bytes == 9 * 120 * MIB
    assert on_host.parts[0].bytes == (23 * 120 + 411 + 282) * MIB


def test_builds_with_room_for_all_logits_bring_the_output_to_the_card() -> None:
    """Logits, the output's matrix and one hidden state: what a build of 2025 printed for a card whose output stayed in main
    memory (151,936 x 4,096 as q8_0, micro-batches of 4,096: 2374 + 630.6 + 64 = 3068.6 MiB)."""
    words, width, tokens = 151_936, 4_096, 4_096
    output = words * width * 34 // 32
    facts = llama(vocabulary=words, tensors=(
        TensorFacts(role="output", layer=None, type="Q8_0", bytes=output, largest_bytes=output),
        *(TensorFacts(role="layer", layer=n, type="Q4_K", bytes=120 * MIB, largest_bytes=32 * MIB) for n in range(32)),
    ))  # fmt: skip
    asked: dict[str, Scalar] = {
        "gpu_layers": 20,
        "context_tokens": 4_096,
        "batch_tokens": tokens,
        "ubatch_tokens": tokens,
    }

    def compute(build: int, **more: Scalar) -> int:
        load = load_of(facts, {**asked, **more}, family="llama.cpp", on_gpu=True, build=build)
        cards, _ = needs_on_gpus(facts, load, (1.0,), "cuda")
        return next(part.bytes for part in cards[0].parts if part.name == "compute")

    logits, hidden = 4 * words * tokens, 4 * width * tokens
    assert abs(compute(5_000) - (logits + output + hidden)) < MIB
    assert compute(5_000, op_offload=False) < logits, "not where nothing is brought to the card"
    assert compute(9_000) < logits, "and not for the few logits of later builds"


@pytest.mark.parametrize(
    ("engine", "build"),
    [
        ("llama-server b4567", 4567),
        ("llama.cpp xllamacpp 2026.10.11549", 11549),
        ("llama-cpp-python llama-cpp-python 0.3.36", None),
        ("ollama Ollama 0.12.10", None),
        ("", None),
    ],
)
def test_the_engine_that_would_be_launched_tells_its_build(engine: str, build: int | None) -> None:
    assert build_number(engine) == build
    by_name = msgspec.structs.replace(priced(engine=engine), subject="")
    assert by_name == priced(engine_build=build)
    assert (by_name == priced()) is (build != 4567), "an old build's graph is another"


def priced(engine: str = "", engine_build: int | None = None) -> MemoryPlan:
    return plan(
        llama(), {"context_tokens": 4096}, family="llama-server", accelerator="cuda", gpus=machine(card(22)),
        headroom_bytes=0, host_headroom_bytes=0, threshold=1.0, engine=engine, engine_build=engine_build,
    )  # fmt: skip


def test_experts_in_main_memory_leave_the_card() -> None:
    experts = [
        TensorFacts(role="expert", layer=n, type="Q4_K", bytes=500 * MIB, largest_bytes=200 * MIB) for n in range(4)
    ]
    plain = [TensorFacts(role="layer", layer=n, type="Q4_K", bytes=50 * MIB, largest_bytes=20 * MIB) for n in range(4)]
    facts = llama(layers=4, tensors=(*experts, *plain))
    load = load_of(facts, {"context_tokens": 4096, "cpu_expert_layers": 3}, family="llama.cpp", on_gpu=True)
    (on_card,), on_host = needs_on_gpus(facts, load, [1.0], "cuda")
    assert on_card.parts[0].bytes == (4 * 50 + 500) * MIB
    assert on_host.parts[0].bytes == 3 * 500 * MIB


def test_the_largest_matrix_that_is_brought_to_a_card_decides_its_buffer() -> None:
    """Sizes differ from layer to layer in a mixed quantisation; they are brought one after the other."""

    def compute(*sizes: int) -> int:
        facts = llama(tensors=(
            TensorFacts(role="output", layer=None, type="Q6_K", bytes=411 * MIB, largest_bytes=411 * MIB),
            *(TensorFacts(role="layer", layer=n, type="Q4_K", bytes=120 * MIB, largest_bytes=sizes[n % len(sizes)]) for n in range(32)),
        ))  # fmt: skip
        load = load_of(facts, {"gpu_layers": 4, "context_tokens": 4_096}, family="llama.cpp", on_gpu=True)
        (card_,), _ = needs_on_gpus(facts, load, (1.0,), "cuda")
        return next(part.bytes for part in card_.parts if part.name == "compute")

    assert compute(28 * MIB, 33 * MIB, 31 * MIB) == compute(33 * MIB) > compute(28 * MIB)


def test_layers_are_spread_over_cards_by_their_shares() -> None:
    assert placement(4, 4, [1.0, 1.0]) == (0, 0, 1, 1)
    assert placement(4, 4, [3.0, 1.0]) == (0, 0, 0, 1)
    assert placement(4, 2, [1.0, 1.0]) == (None, None, 0, 1)
    assert placement(3, 3, [0.0, 0.0]) == (0, 0, 1)


@given(
    units=st.integers(1, 100), on_gpu=st.integers(0, 120), shares=st.lists(st.floats(0, 1e12), min_size=1, max_size=8)
)
def test_every_layer_is_placed_once_and_in_order(units: int, on_gpu: int, shares: list[float]) -> None:
    placed = placement(units, on_gpu, shares)
    assert len(placed) == units
    assert sum(card is not None for card in placed) == min(on_gpu, units)
    on_cards = [card for card in placed if card is not None]
    assert on_cards == sorted(on_cards)
    assert all(0 <= card < len(shares) for card in on_cards)


def test_the_processor_needs_the_file_its_repacked_copy_cache_and_compute() -> None:
    facts = llama()
    need = needs_on_host(facts, load_of(facts, {"context_tokens": 4096, "slots": 1}, family="llama.cpp", on_gpu=False))
    parts = {part.name: part.bytes for part in need.parts}
    assert parts["weights"] == facts.weights_bytes
    assert (
        parts["repacked weights"] == 32 * 120 * MIB
    )  # the layers are Q4_K, the output is not, the embedding is looked up
    assert parts["kv_cache"] == 512 * MIB
    assert need.low_bytes < need.likely_bytes < need.high_bytes
    without = load_of(facts, {"context_tokens": 4096, "repack": False}, family="llama.cpp", on_gpu=False)
    assert "repacked weights" not in {part.name for part in needs_on_host(facts, without).parts}


def test_every_part_names_its_source_and_the_bounds_enclose_the_sum() -> None:
    result = planned(llama(), {"context_tokens": 8192, "gpu_layers": 20}, machine(card(22)))
    for device in result.devices:
        assert all(part.source and part.bytes > 0 for part in device.parts)
        assert device.low_bytes <= device.likely_bytes <= device.high_bytes


# --- I4: the verdict -------------------------------------------------------------------------------------------------


def test_a_model_that_fits_says_what_it_needs() -> None:
    result = planned(llama(), {"context_tokens": 8192}, machine(card(22)))
    assert result.verdict is Verdict.FITS
    assert result.is_admitted
    assert result.summary.startswith("Needs about ")
    assert "GiB of RTX 4090" in result.summary
    assert not result.remedies


def test_the_high_bound_is_held_against_free_memory_less_the_headroom() -> None:
    """I4, to the byte: one byte less than needed is refused."""
    need = planned(llama(), {"context_tokens": 8192}, machine(card(22))).devices[0].high_bytes
    headroom = int(1.5 * GIB)
    just = GpuSample(uuid="u", index=0, name="c", total_bytes=48 * GIB, used_bytes=0, free_bytes=need + headroom)
    less = GpuSample(uuid="u", index=0, name="c", total_bytes=48 * GIB, used_bytes=0, free_bytes=need + headroom - 1)
    assert planned(llama(), {"context_tokens": 8192}, machine(just)).verdict is Verdict.FITS
    assert planned(llama(), {"context_tokens": 8192}, machine(less)).verdict is not Verdict.FITS


def test_a_model_that_eats_into_the_headroom_is_tight_and_not_admitted() -> None:
    device = planned(llama(), {"context_tokens": 8192}, machine(card(22))).devices[0]
    free = (device.likely_bytes + int(1.5 * GIB)) / GIB
    result = planned(llama(), {"context_tokens": 8192}, machine(card(free + 0.001)))
    assert result.verdict is Verdict.TIGHT
    assert not result.is_admitted
    assert "possibly" in result.summary


def test_the_leaving_model_is_credited() -> None:
    settings: dict[str, Scalar] = {"context_tokens": 8192}
    assert planned(llama(), settings, machine(card(4))).verdict is Verdict.DOES_NOT_FIT
    result = planned(llama(), settings, machine(card(4)), leaving_bytes={"GPU-a": 18 * GIB})
    assert result.verdict is Verdict.FITS
    assert result.devices[0].credit_bytes == 18 * GIB


def test_a_card_more_than_full_is_signed_arithmetic() -> None:
    """Free memory below the headroom gives a negative room, not a huge one."""
    result = planned(llama(), {"context_tokens": 8192}, machine(card(0.2)))
    assert result.devices[0].available_bytes is not None
    assert result.devices[0].available_bytes < 0
    assert result.verdict is Verdict.DOES_NOT_FIT
    assert "only 0.00 GiB of 24.0 GiB can be used (0.20 GiB are free" in result.summary


def test_the_threshold_counts_what_stays() -> None:
    assert available_bytes(free=20, credit=0, headroom=1, total=100, staying=80, threshold=0.95) == 15
    assert available_bytes(free=20, credit=10, headroom=1, total=100, staying=70, threshold=0.95) == 25
    assert available_bytes(free=20, credit=0, headroom=10, total=None, staying=80, threshold=0.95) == 10
    assert available_bytes(free=1, credit=2, headroom=10, total=None, staying=0, threshold=0.95) == -7


def test_the_refusal_names_the_numbers_and_who_holds_the_memory() -> None:
    processes = (
        GpuProcess(pid=41, name="blender", bytes=9 * GIB),
        GpuProcess(pid=42, name="Xorg", bytes=90 * MIB),
        GpuProcess(pid=43, name="llama-server", bytes=8 * GIB, run_id="ours"),
    )
    result = planned(llama(), {"context_tokens": 8192}, machine(card(6, processes=processes)), our_run_ids={"ours"})
    assert result.verdict is Verdict.DOES_NOT_FIT
    assert "6.0 GiB are free" in result.summary
    assert "1.5 GiB are kept free" in result.summary
    assert result.summary.endswith("9.0 GiB held by blender (pid 41); closing it would be enough."), (
        "Xorg is the desktop"
    )
    assert [holder.pid for holder in result.holders] == [41, 42]
    assert result.devices[0].others_bytes == 10 * GIB


def test_a_context_larger_than_the_machine_is_refused_with_numbers() -> None:
    """The kernel would kill the engine: malloc grants it, and the first use of the cache does not come back."""
    result = planned(llama(), {"context_tokens": 10_000_000}, machine(available_gib=20))
    assert result.verdict is Verdict.DOES_NOT_FIT
    assert not result.is_admitted
    assert "of main memory, but only 19.0 GiB of 32.0 GiB can be used" in result.summary
    assert result.devices[0].high_bytes > 1_000 * GIB
    assert result.remedies[0].title.startswith("Shorten the context to ")


@pytest.mark.parametrize("driver", [DriverState.STARTING, DriverState.HUNG, DriverState.BROKEN])
def test_unknown_card_memory_is_said_not_refused(driver: DriverState) -> None:
    gpus = Gpus(driver=driver, message="The NVIDIA driver does not answer.", host=machine().host)
    result = planned(llama(), {}, gpus, accelerator="cuda")
    assert result.verdict is Verdict.UNKNOWN
    assert result.is_admitted
    assert result.summary.startswith("The graphics card's free memory is not known")


def test_a_card_that_does_not_tell_its_memory_is_unknown() -> None:
    silent = GpuSample(uuid="u", index=0, name="GB10", total_bytes=None, used_bytes=None, free_bytes=None)
    result = planned(llama(), {"context_tokens": 8192}, machine(silent))
    assert result.verdict is Verdict.UNKNOWN
    assert "GB10; how much of it is free is not known" in result.summary


def test_a_gpu_build_without_a_card_runs_on_the_processor() -> None:
    result = planned(llama(), {"context_tokens": 8192}, machine(), accelerator="cuda")
    assert [device.device for device in result.devices] == ["host"]
    assert result.verdict is Verdict.FITS


def test_what_has_no_formula_is_unknown_with_a_sentence() -> None:
    gpus = machine(card(20))
    assert planned(None, {}, gpus).verdict is Verdict.UNKNOWN
    bare = planned(llama(kv_heads=()), {}, gpus)
    assert bare.verdict is Verdict.UNKNOWN
    assert "does not describe the architecture llama fully" in bare.summary
    assert "no formula for tgi" in planned(llama(), {}, gpus, family="tgi").summary


def test_only_the_wanted_cards_and_slices_are_used() -> None:
    slice_ = card(9, 10, uuid="MIG-1")
    parent = card(20, uuid="GPU-b")
    sliced = GpuSample(
        uuid="MIG-1", index=1, name="slice", total_bytes=slice_.total_bytes, used_bytes=GIB, free_bytes=slice_.free_bytes,
        mig_parent="GPU-b",
    )  # fmt: skip
    gpus = machine(card(22), parent, sliced)
    assert [d.device for d in planned(llama(), {}, gpus).devices] == ["GPU-a", "MIG-1", "host"]
    assert [d.device for d in planned(llama(), {}, gpus, gpu_uuids=("GPU-a",)).devices] == ["GPU-a", "host"]


def test_settings_of_a_wrong_type_do_not_break_a_plan() -> None:
    settings: dict[str, Scalar] = {
        "context_tokens": "many", "slots": True, "gpu_layers": -4, "kv_type_k": "q99", "tensor_split": "a,b",
    }  # fmt: skip
    assert planned(llama(), settings, machine(card(22))).verdict is Verdict.FITS


# --- remedies --------------------------------------------------------------------------------------------------------


def test_every_remedy_really_fits_when_applied() -> None:
    facts = llama()
    for free in (3.0, 5.0, 7.5, 9.0, 12.0):
        gpus = machine(card(free))
        settings: dict[str, Scalar] = {"context_tokens": 65_536}
        result = planned(facts, settings, gpus)
        assert result.verdict is not Verdict.FITS
        assert result.remedies
        for remedy in result.remedies:
            applied = planned(facts, {**settings, **remedy.settings}, gpus)
            assert applied.verdict is Verdict.FITS, remedy.title


def test_a_shorter_context_is_the_longest_that_fits() -> None:
    gpus = machine(card(9))
    settings: dict[str, Scalar] = {"context_tokens": 65_536}
    context = planned(llama(), settings, gpus).remedies[0].settings["context_tokens"]
    assert isinstance(context, int)
    assert context % 256 == 0
    assert planned(llama(), {"context_tokens": context + 256}, gpus).verdict is not Verdict.FITS


def test_a_quantised_cache_alone_is_offered_when_it_suffices() -> None:
    gpus = machine(card(10))
    result = planned(llama(), {"context_tokens": 32_768}, gpus)
    assert "Keep the KV cache as q8_0" in [remedy.title for remedy in result.remedies]


def test_what_nothing_helps_has_no_remedy() -> None:
    result = planned(llama(), {"context_tokens": 8192}, machine(card(0.5), available_gib=1.2))
    assert result.verdict is Verdict.DOES_NOT_FIT
    assert result.remedies == ()


@given(
    free=st.floats(0, 24),
    context=st.integers(1, 300_000),
    slots=st.integers(1, 16),
    layers=st.integers(0, 40),
    credit=st.floats(0, 24),
)
def test_no_plan_raises_and_bounds_stay_in_order(
    free: float, context: int, slots: int, layers: int, credit: float
) -> None:
    settings: dict[str, Scalar] = {"context_tokens": context, "slots": slots, "gpu_layers": layers}
    result = planned(llama(), settings, machine(card(free)), leaving_bytes={"GPU-a": int(credit * GIB)})
    assert result.summary.endswith(".")
    for device in result.devices:
        assert 0 <= device.low_bytes <= device.likely_bytes <= device.high_bytes
    if result.is_admitted:
        assert all(device.high_bytes <= (device.available_bytes or 0) for device in result.devices)
