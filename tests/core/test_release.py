"""When a stopped engine's memory is back: measured, signed, and never for a fixed time (I4)."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from app.core.release import expected_from, expected_unseen, holders, released
from app.core.snapshot import DriverState, GpuProcess, Gpus, GpuSample

GIB = 1024**3
RUN = "run-1"


def card(used: float, *processes: tuple[int, str, float, str | None], told: bool = True) -> Gpus:
    listed = tuple(
        GpuProcess(pid=pid, name=name, bytes=int(gib * GIB), run_id=run) for pid, name, gib, run in processes
    )
    gpu = GpuSample(
        uuid="GPU-1",
        index=0,
        name="RTX 4090",
        total_bytes=24 * GIB,
        used_bytes=int(used * GIB),
        free_bytes=int((24 - used) * GIB),
        processes=listed if told else None,
    )
    return Gpus(driver=DriverState.OK, gpus=(gpu,))


WITH_ENGINE = card(19, (10, "llama-server", 18, RUN), (7, "gnome-shell", 1, None))
EXPECTED = expected_from(WITH_ENGINE, RUN, None)


def test_memory_is_back_when_the_card_shows_it() -> None:
    assert not released(EXPECTED, card(19, (7, "gnome-shell", 1, None))), "the process is gone, its memory is not"
    assert not released(EXPECTED, card(9, (7, "gnome-shell", 1, None)))
    assert released(EXPECTED, card(1, (7, "gnome-shell", 1, None)))


def test_another_program_that_grows_meanwhile_does_not_hide_the_return() -> None:
    assert released(EXPECTED, card(7, (7, "gnome-shell", 1, None), (8, "blender", 6, None)))


def test_a_process_that_still_holds_memory_is_not_gone() -> None:
    assert not released(EXPECTED, card(1.3, (10, "llama-server", 0.3, RUN)))


@pytest.mark.parametrize("driver", [DriverState.ABSENT, DriverState.BROKEN])
def test_a_driver_that_cannot_tell_is_not_waited_for(driver: DriverState) -> None:
    assert released(EXPECTED, Gpus(driver=driver))


def test_a_driver_that_is_silent_may_be_slow_and_blames_nobody_with_its_old_figures() -> None:
    """I12."""
    silent = replace(card(19, (10, "llama-server", 18, RUN)), driver=DriverState.HUNG, message="It is silent.")
    assert not released(EXPECTED, silent)
    assert holders(EXPECTED, silent) == "It is silent."
    assert released((), silent), "nothing was taken, so nothing is to come"


def test_a_dead_process_that_the_driver_still_lists_is_not_somebody_else() -> None:
    """Nobody can assign a dead pid to a run: it is known from when it lived."""
    assert not released(EXPECTED, card(19, (10, "process 10", 18, None), (7, "gnome-shell", 1, None)))
    assert "process 10 (pid 10" in holders(EXPECTED, card(19, (10, "process 10", 18, None)))


def test_where_processes_are_not_told_the_difference_to_before_counts() -> None:
    before, during = card(1, told=False), card(19, told=False)
    expected = expected_from(during, RUN, before)
    assert expected[0].engine_bytes == 18 * GIB
    assert not released(expected, card(10, told=False))
    assert released(expected, card(1.1, told=False))


@pytest.mark.parametrize("told", [True, False], ids=["processes told", "not told"])
def test_a_run_that_ended_before_any_sample_showed_it_must_leave_the_card_as_it_was(told: bool) -> None:
    """It may have taken anything in that second: the card is waited for all the same, and the plan says how much it may be."""
    before = card(1, (7, "gnome-shell", 1, None), told=told)
    expected = expected_unseen({"GPU-1": 14 * GIB, "host": GIB}, before, (10,))
    dead = card(15, (7, "gnome-shell", 1, None), (10, "process 10", 14, None), told=told)
    assert not released(expected, dead), "listed or not"
    assert not released(expected, card(8, (7, "gnome-shell", 1, None), told=told)), "half of it is not all of it"
    assert "has not given back 14.0 GiB" in holders(expected, dead)
    assert released(expected, card(1.1, (7, "gnome-shell", 1, None), told=told))


def test_a_run_planned_for_the_processor_has_no_card_to_wait_for() -> None:
    assert expected_unseen({"host": GIB}, card(1), ()) == ()


def test_an_engine_on_the_cpu_has_nothing_to_give_back() -> None:
    assert expected_from(card(1, (7, "gnome-shell", 1, None)), RUN, None) == ()


def test_who_holds_it_is_named() -> None:
    held = holders(EXPECTED, card(19, (7, "gnome-shell", 1, None)))
    assert "RTX 4090 has not given back 18.0 GiB" in held
    assert "gnome-shell (pid 7" in held
