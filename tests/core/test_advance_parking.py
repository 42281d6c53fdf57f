"""A model that sleeps: a tier between loaded and unloaded, and every way out of it (E11, I3, I7, I9)."""

from __future__ import annotations

import pytest

from app.core import seat as step
from app.core.advance import due
from app.core.lifecycle import Failure, Sleeping
from app.core.seat import Event, Wanted
from app.core.seat_steps import longest_end_seconds
from tests.core.test_advance import AT, NO_ROOM, A, B, Seat, failure

GIB = 1024**3


def asleep(seat: Seat, wanted: Wanted = A) -> Seat:
    seat.ready(wanted)(step.Park(1))(step.Drained(seat.run))
    return seat(step.Parked(seat.run, 7 * GIB))


def rests(seat: Seat) -> str:
    return seat.state.resting.reason if seat.state.resting is not None else ""


def test_it_answers_to_the_end_then_sleeps_and_stays_wanted() -> None:
    seat = Seat().ready(A)
    assert (seat(step.Park(1)).phase, seat.asks()) == ("Draining", ["AwaitDrain"])
    assert (seat(step.Drained(seat.run)).phase, seat.asks()) == ("Parking", ["ParkEngine"])
    assert seat.asked[0].level == 1  # type: ignore[union-attr]
    assert due(seat.state, seat.budgets) == seat.now + seat.budgets.park_seconds + 5, "I7: it has a deadline"
    seat(step.Parked(seat.run, 7 * GIB))
    assert (seat.phase, rests(seat), seat.state.wanted) == ("Sleeping", "parked", A)
    assert isinstance(seat.state.phase, Sleeping)
    assert seat.state.phase.freed_bytes == 7 * GIB
    assert due(seat.state, seat.budgets) is None, "it sleeps until somebody asks"


def test_an_end_that_is_asked_for_has_a_limit_also_where_nothing_answers() -> None:
    """I2, I7: whoever ends the service waits so long for a seat, also for one that is just going to sleep."""
    seat = Seat(drain_seconds=7, park_seconds=50, stop_grace_seconds=3, kill_seconds=4, vram_return_seconds=6)
    limit = longest_end_seconds(seat.budgets)
    seat.ready(A)(step.Park(1))
    began = seat.now
    seen = []
    while seat.phase != "Idle":
        at = due(seat.state, seat.budgets)
        assert at is not None, seat.phase
        seat.now = at
        seat(step.Tick())
        if seat.phase == "Parking":
            seat(step.want(None))
        if seat.asks() == ["Inspect"]:
            seat(step.Ended(seat.run))
        seen.append(seat.phase)
    assert list(dict.fromkeys(seen)) == ["Parking", "Stopping", "Killing", "ReleasingVram", "Idle"]
    assert 50 < seat.now - began <= limit


@pytest.mark.parametrize("waker", [step.InUse(True), step.GiveBack(), step.want(A)], ids=["request", "person", "click"])
def test_a_request_or_a_person_wakes_it_and_only_a_token_makes_it_ready(waker: Event) -> None:
    seat = asleep(Seat())
    run = seat.run
    assert (seat(waker).phase, seat.asks(), rests(seat)) == ("Waking", ["WakeEngine"], "")
    assert due(seat.state, seat.budgets) == seat.now + seat.budgets.wake_seconds
    seat(step.Answered(run, AT))
    assert (seat.phase, seat.run) == ("Ready", run), "the same run goes on"


def test_an_idle_model_sleeps_where_it_can() -> None:
    """I9."""
    seat = Seat(idle_unload_seconds=60, idle_parking=2).ready(A)
    seat(step.Tick(), after=61)(step.Drained(seat.run))
    assert (seat.phase, seat.asked[0].level) == ("Parking", 2)  # type: ignore[union-attr]
    seat(step.Parked(seat.run))
    assert (seat.phase, rests(seat)) == ("Sleeping", "idle")
    seat(step.InUse(True))(step.Answered(seat.run, AT))
    assert seat.phase == "Ready"
    assert due(seat.state, seat.budgets) is None, "it is in use"
    seat(step.InUse(False))
    assert due(seat.state, seat.budgets) == seat.now + 60


def test_what_has_no_sleep_is_unloaded_and_a_request_loads_it_again() -> None:
    seat = Seat().ready(A)
    seat(step.Park(0))(step.Drained(seat.run))
    assert (seat.phase, seat.asks()) == ("Stopping", ["Stop"])
    seat(step.Ended(seat.run))(step.Released(seat.run))
    assert (seat.phase, rests(seat)) == ("Idle", "parked")
    assert seat(step.InUse(True)).phase == "Reserving"


def test_memory_that_does_not_return_ends_in_a_stop_and_it_still_comes_back_when_asked_for() -> None:
    seat = Seat().ready(A)
    seat(step.Park(1))(step.Drained(seat.run))
    seat(step.ParkFailed(seat.run, "Its memory did not come back."))
    assert (seat.phase, seat.asks(), seat.state.notice) == ("Stopping", ["Stop"], "Its memory did not come back.")
    seat(step.Ended(seat.run))(step.Released(seat.run))
    assert (seat.phase, rests(seat), seat.state.wanted) == ("Idle", "parked", A)
    seat(step.InUse(True))
    assert seat.phase == "Reserving"


def test_a_sleep_that_never_comes_is_a_stop() -> None:
    """I7."""
    seat = Seat().ready(A)
    seat(step.Park(1))(step.Drained(seat.run))
    seat(step.Tick(), after=seat.budgets.park_seconds + 5)
    assert (seat.phase, seat.asks()) == ("Stopping", ["Stop"])


def test_what_cannot_wake_is_loaded_anew() -> None:
    seat = asleep(Seat())
    seat(step.InUse(True))(step.WakeFailed(seat.run, "Its place was taken meanwhile."))
    assert (seat.phase, seat.asks()) == ("Stopping", ["Stop"])
    seat(step.Ended(seat.run))(step.Released(seat.run))
    assert (seat.phase, seat.state.wanted) == ("Reserving", A)
    no_room = Failure(kind="does_not_fit", summary="It does not fit.", profile_id="a")
    seat(step.NotAdmitted(seat.run, no_room))
    assert (seat.phase, rests(seat)) == ("Idle", "memory"), "and waits for room where there is none"


def test_a_wake_that_hangs_is_killed_and_loaded_anew() -> None:
    """I7."""
    seat = asleep(Seat())
    seat(step.InUse(True))
    seat(step.Tick(), after=seat.budgets.wake_seconds)
    assert (seat.phase, seat.asks()) == ("Killing", ["Kill"])
    seat(step.Ended(seat.run))(step.Released(seat.run))
    assert (seat.phase, seat.state.wanted) == ("Reserving", A)


@pytest.mark.parametrize("when", ["Draining", "Parking", "Sleeping", "Waking"])
def test_another_model_takes_the_seat_at_any_moment_and_one_engine_is_there_at_a_time(when: str) -> None:
    """I3: the sleeper is ended and its end complete before the next begins."""
    seat = Seat().ready(A)
    first = seat.run
    seat(step.Park(1))
    if when != "Draining":
        seat(step.Drained(first))
    if when in ("Sleeping", "Waking"):
        seat(step.Parked(first))
    if when == "Waking":
        seat(step.InUse(True))
    assert seat.phase == when
    seat(step.want(B))
    if when == "Draining":
        seat(step.Drained(first))
    elif when == "Parking":
        seat(step.Parked(first))
    assert seat.phase in ("Stopping", "Killing")
    seat(step.Ended(first))(step.Released(first))
    assert (seat.phase, seat.state.wanted) == ("Reserving", B)


@pytest.mark.parametrize("when", ["Parking", "Sleeping", "Waking"])
def test_nothing_wanted_ends_it(when: str) -> None:
    seat = Seat().ready(A)
    seat(step.Park(1))(step.Drained(seat.run))
    if when != "Parking":
        seat(step.Parked(seat.run))
    if when == "Waking":
        seat(step.GiveBack())
    seat(step.want(None))
    if when == "Parking":
        seat(step.Parked(seat.run))
    assert seat.phase in ("Stopping", "Killing")
    seat(step.Ended(seat.run))(step.Released(seat.run))
    assert (seat.phase, seat.state.wanted) == ("Idle", None)


def test_a_request_while_it_falls_asleep_calls_off_the_drain_or_wakes_it_at_once() -> None:
    seat = Seat().ready(A)
    assert seat(step.Park(1))(step.InUse(True)).phase == "Ready"
    seat(step.InUse(False))(step.Park(1))(step.Drained(seat.run))(step.InUse(True))
    assert seat.phase == "Parking"
    assert (seat(step.Parked(seat.run)).phase, seat.asks()) == ("Waking", ["WakeEngine"])


def test_a_sleeper_that_dies_rests_on_and_is_loaded_when_asked_for() -> None:
    seat = asleep(Seat())
    seat(step.Exited(seat.run, failure("a")))(step.Ended(seat.run))(step.Released(seat.run))
    assert (seat.phase, rests(seat), seat.state.wanted) == ("Idle", "parked", A)
    assert seat.state.last_failure is not None
    assert seat(step.InUse(True)).phase == "Reserving"


def test_one_that_dies_while_waking_is_a_crash_like_any_other() -> None:
    seat = asleep(Seat())
    seat(step.InUse(True))(step.Exited(seat.run, failure("a")))(step.Ended(seat.run))(step.Released(seat.run))
    assert (seat.phase, seat.state.wanted) == ("Backoff", A)


def test_a_lending_ends_a_sleeper_for_the_whole_card_is_meant() -> None:
    seat = asleep(Seat())
    assert seat(step.Lend(seat.now + 60, 1e9)).phase == "Stopping"
    seat(step.Ended(seat.run))(step.Released(seat.run))
    assert (seat.phase, rests(seat)) == ("Idle", "lent")


def test_a_want_that_cannot_fit_wakes_nobody_and_stops_nothing() -> None:
    seat = asleep(Seat())
    run = seat.run
    seat(step.want(B, NO_ROOM))
    assert (seat.phase, seat.run, seat.asks()) == ("Sleeping", run, ["Refuse"])


def test_only_what_is_ready_can_be_put_to_sleep() -> None:
    assert Seat()(step.Park(1)).asks() == ["Refuse"]
    assert asleep(Seat())(step.Park(1)).asks() == ["Refuse"]


def test_a_restart_is_never_refused_while_there_is_a_model() -> None:
    """It is loaded anew, wherever it is on its way to sleep or back."""
    on_its_way = Seat().ready(A)(step.Park(1))(step.Drained("run-0001"))
    assert (on_its_way.phase, on_its_way(step.Restart()).phase, on_its_way.asks()) == ("Parking", "Stopping", ["Stop"])
    waking = asleep(Seat())(step.InUse(True))
    assert (waking.phase, waking(step.Restart()).phase, waking.asks()) == ("Waking", "Killing", ["Kill"])
    draining = Seat().ready(A)(step.Park(1))(step.Restart())
    assert (draining.phase, draining.asks()) == ("Draining", [])
    lent = Seat().ready(A)(step.Lend(1_800.0, 1e9))
    assert (lent(step.Restart()).phase, lent.asks(), rests(lent)) == ("Draining", ["Refuse"], "lent"), "it was promised"
    draining(step.Drained(draining.run))
    for seat in (on_its_way, waking, draining):
        assert (rests(seat), seat.state.wanted) == ("", A)
        seat(step.Ended(seat.run))
        assert seat(step.Restart()).phase == "ReleasingVram", "it is being loaded again already"
        assert (seat(step.Released(seat.run)).phase, seat.state.wanted) == ("Reserving", A)


def test_a_restart_of_a_sleeper_loads_it_anew() -> None:
    seat = asleep(Seat())
    assert seat(step.Restart()).phase == "Stopping"
    seat(step.Ended(seat.run))(step.Released(seat.run))
    assert (seat.phase, seat.state.wanted) == ("Reserving", A)
