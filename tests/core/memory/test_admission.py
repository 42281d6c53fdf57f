"""I4: the admission rule at its edges, who holds the memory, and what closing that would do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.memory.admission import available_bytes
from app.core.memory.closing import closings_of
from app.core.memory.plan_types import DevicePlan, Holder, Verdict
from app.core.memory.words import closing_words
from app.core.snapshot import GpuProcess, GpuSample
from tests.core.memory.loads import GIB, HEADROOM, HOST_HEADROOM, card, machine, model, needs, planned

FACTS, WISH = model(), {"context_tokens": 8192}
NEED = needs(FACTS, WISH)["GPU-a"]
HOST_NEED = needs(FACTS, WISH)["host"]


# --- the rule --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("short", "fits"), [(0, True), (1, False)])
def test_to_the_byte_on_the_card_and_in_main_memory(short: int, fits: bool) -> None:
    for gpus in (
        machine(card(NEED + HEADROOM - short)),
        machine(card(NEED + HEADROOM), available=HOST_NEED + HOST_HEADROOM - short),
    ):
        assert (planned(FACTS, WISH, gpus).verdict is Verdict.FITS) is fits


@pytest.mark.parametrize(("short", "fits"), [(0, True), (1, False)])
def test_the_threshold_binds_where_much_is_free_but_others_hold_most(short: int, fits: bool) -> None:
    total = 100 * GIB
    others = int(total * 0.95) - NEED + short
    sample = GpuSample(
        uuid="GPU-a", index=0, name="c", total_bytes=total, used_bytes=others, free_bytes=total - others, processes=()
    )
    found = planned(FACTS, WISH, machine(sample))
    assert found.devices[0].available_bytes == NEED - short
    assert (found.verdict is Verdict.FITS) is fits


def test_what_the_leaving_model_gives_back_counts_on_both_sides_of_the_rule() -> None:
    total = 24 * GIB
    sample = GpuSample(
        uuid="GPU-a", index=0, name="c", total_bytes=total, used_bytes=total - GIB, free_bytes=GIB, processes=()
    )
    found = planned(FACTS, WISH, machine(sample), leaving_bytes={"GPU-a": 20 * GIB})
    assert found.devices[0].available_bytes == min(GIB + 20 * GIB - HEADROOM, int(total * 0.95) - 3 * GIB)
    assert found.verdict is Verdict.FITS
    on_host = planned(FACTS, WISH, machine(available=GIB), leaving_bytes={"host": 40 * GIB})
    assert on_host.verdict is Verdict.FITS


def test_each_card_is_held_against_its_own_memory() -> None:
    """Much room on one card does not make up for too little on another."""
    wish = {**WISH, "tensor_split": "1,1"}
    half = NEED // 2 + 3 * GIB
    assert planned(FACTS, wish, machine(card(half), card(half, "GPU-b", 1))).verdict is Verdict.FITS
    assert planned(FACTS, wish, machine(card(100 * GIB), card(GIB, "GPU-b", 1))).verdict is Verdict.DOES_NOT_FIT


def test_the_cards_are_taken_in_the_order_in_which_the_engine_sees_them() -> None:
    """Shares are said by position: a profile that names its second card first means that one."""
    wish = {**WISH, "tensor_split": "9,1"}
    gpus = machine(card(NEED + HEADROOM), card(2 * GIB + HEADROOM, "GPU-b", 1))
    first, second, _ = planned(FACTS, wish, gpus, gpu_uuids=("GPU-b", "GPU-a")).devices
    assert (first.device, second.device) == ("GPU-b", "GPU-a")
    assert first.likely_bytes > second.likely_bytes


@given(
    free=st.integers(-GIB, 100 * GIB), credit=st.integers(0, 50 * GIB), headroom=st.integers(0, 8 * GIB),
    total=st.one_of(st.none(), st.integers(1, 100 * GIB)), staying=st.integers(-GIB, 100 * GIB),
)  # fmt: skip
def test_never_more_than_either_side_of_the_rule_and_never_wrapped(
    free: int, credit: int, headroom: int, total: int | None, staying: int
) -> None:
    found = available_bytes(free=free, credit=credit, headroom=headroom, total=total, staying=staying, threshold=0.95)
    assert found <= free + credit - headroom
    if total is not None:
        assert found <= total * 0.95 - staying


# --- who holds it ----------------------------------------------------------------------------------------------------


def lacking(missing: int) -> DevicePlan:
    return DevicePlan(
        device="GPU-a", name="RTX", parts=(), low_bytes=0, high_bytes=missing, total_bytes=None, free_bytes=0,
        available_bytes=0,
    )  # fmt: skip


def holder(name: str, held: int | None, pid: int = 41, device: str = "GPU-a") -> Holder:
    return Holder(device=device, pid=pid, name=name, bytes=held)


def closed(missing: int, *holders: Holder) -> tuple[list[str], int]:
    ordered = sorted(holders, key=lambda each: -(each.bytes or 0))
    (found,) = closings_of([lacking(missing)], ordered)
    return [each.name for each in found.processes], found.missing_bytes


def test_the_fewest_programs_that_suffice_and_of_those_the_smallest() -> None:
    big, middle, small = holder("blender", 9 * GIB), holder("chrome", 3 * GIB), holder("obs", GIB)
    assert closed(2 * GIB, big, middle, small) == (["chrome"], 0), "one is enough, and it need not be the largest"
    assert closed(10 * GIB, big, middle, small) == (["blender", "obs"], 0)
    assert closed(13 * GIB, big, middle, small) == (["blender", "chrome", "obs"], 0)
    assert closed(15 * GIB, big, middle, small) == (["blender", "chrome", "obs"], 2 * GIB)
    many = [holder(f"p{number}", GIB, pid=number) for number in range(8)]
    assert len(closed(6 * GIB, *many)[0]) == 6


def test_the_desktop_itself_what_is_tiny_and_what_is_not_known_are_nobody_s_to_close() -> None:
    held = [
        holder("/usr/lib/xorg/Xorg", 2 * GIB),
        holder("gnome-shell", GIB),
        holder("tray", 1024),
        holder("wsl", None),
    ]
    assert closings_of([lacking(GIB)], held) == ()
    assert closings_of([lacking(GIB)], [holder("blender", 4 * GIB, device="GPU-b")]) == (), "it is on another card"
    assert closings_of([lacking(0)], [holder("blender", 4 * GIB)]) == (), "nothing is missing"


def test_it_is_said_with_name_pid_and_whether_it_suffices() -> None:
    (enough,) = closings_of([lacking(2 * GIB)], [holder("blender", int(2.1 * GIB), pid=4711)])
    assert closing_words(enough) == "2.1 GiB held by blender (pid 4711); closing it would be enough."
    two = [holder("blender", 2 * GIB, pid=1), holder("chrome", GIB, pid=2)]
    (less,) = closings_of([lacking(5 * GIB)], two)
    assert less.missing_bytes == 2 * GIB
    assert (
        closing_words(less) == "3.0 GiB held by blender (pid 1) and chrome (pid 2); closing them would not be enough."
    )


def test_a_refusal_says_it_and_closing_them_is_enough_indeed() -> None:
    blender = GpuProcess(pid=41, name="blender", bytes=9 * GIB)
    found = planned(FACTS, WISH, machine(card(GIB, processes=(blender,))))
    assert found.verdict is Verdict.DOES_NOT_FIT
    assert found.summary.endswith(" 9.0 GiB held by blender (pid 41); closing it would be enough.")
    freed = sum(each.bytes for each in found.closings)
    assert planned(FACTS, WISH, machine(card(GIB + freed))).verdict is Verdict.FITS
