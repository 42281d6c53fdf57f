"""What rests and comes back, what takes a place that cannot be filled: the decisions as stories (I8, I9, E5, S8)."""

from __future__ import annotations

import pytest

from app.core import seat as step
from app.core.advance import due
from app.core.lifecycle import Failure, Idle
from app.core.memory.plan_types import MemoryPlan, Verdict
from app.core.seat import Resting, Wanted
from tests.core.test_advance import AT, NO_ROOM, A, B, C, Seat, failure

FITS = MemoryPlan(verdict=Verdict.FITS, devices=(), summary="It fits.")
NO_ENGINE = Failure(kind="engine_not_installed", summary="vLLM is not installed.", profile_id="a")


def lent(seat: Seat, seconds: float = 1800) -> Seat:
    return seat(step.Lend(seat.now + seconds, 1e9))


def ended(seat: Seat) -> Seat:
    """The engine's way out, from Draining on."""
    if seat.phase == "Draining":
        seat(step.Drained(seat.run))
    return seat(step.Ended(seat.run))(step.Released(seat.run))


def rests(seat: Seat) -> str:
    return seat.state.resting.reason if seat.state.resting is not None else ""


# --- idle -------------------------------------------------------------------------------------------------------------


def test_the_idle_clock_starts_at_the_end_of_the_last_request_and_stops_at_the_first() -> None:
    """I9."""
    seat = Seat(idle_unload_seconds=60).ready(A)
    assert due(seat.state, seat.budgets) == 60
    seat(step.InUse(True), after=50)
    assert due(seat.state, seat.budgets) is None
    seat(step.Tick(), after=500)
    assert seat.phase == "Ready"
    seat(step.InUse(False))
    assert due(seat.state, seat.budgets) == 610
    seat(step.Tick(), after=59)
    assert seat.phase == "Ready"
    seat(step.Tick(), after=2)
    assert (seat.phase, seat.asks()) == ("Draining", ["AwaitDrain"])


def test_without_a_limit_nothing_is_ever_idle() -> None:
    seat = Seat().ready(A)
    assert due(seat.state, seat.budgets) is None
    assert seat(step.Tick(), after=1e9).phase == "Ready"


def test_what_rests_stays_wanted_and_a_request_brings_it_back_with_its_settings() -> None:
    wanted = Wanted(profile_id="a", settings={"context_tokens": 1024})
    seat = Seat(idle_unload_seconds=60).ready(wanted)
    ended(seat(step.Tick(), after=61))
    assert (seat.phase, rests(seat), seat.state.wanted) == ("Idle", "idle", wanted)
    assert due(seat.state, seat.budgets) is None, "it rests until somebody asks"
    seat(step.InUse(True))
    assert (seat.phase, seat.asked[0].wanted) == ("Reserving", wanted)  # type: ignore[union-attr]
    assert rests(seat) == ""


@pytest.mark.parametrize("moment", ["draining", "stopping", "releasing"])
def test_a_request_during_the_unload_brings_the_model_back(moment: str) -> None:
    """I9: while it is drained the unload is called off; after that its end is awaited, and then it is loaded."""
    seat = Seat(idle_unload_seconds=60).ready(A)
    seat(step.Tick(), after=61)
    if moment == "draining":
        assert seat(step.InUse(True)).phase == "Ready"
        assert seat(step.Drained(seat.run)).phase == "Ready", "late news of the drain ends nothing"
        return
    seat(step.Drained(seat.run))
    if moment == "releasing":
        seat(step.Ended(seat.run))
    seat(step.InUse(True))
    if moment == "stopping":
        seat(step.Ended(seat.run))
    assert seat(step.Released(seat.run)).phase == "Reserving"


def test_a_model_that_comes_back_and_is_asked_by_nobody_rests_again() -> None:
    seat = Seat(idle_unload_seconds=60).ready(A)
    ended(seat(step.Tick(), after=61))
    seat(step.InUse(True))
    seat(step.InUse(False))
    seat(step.Admitted(seat.run))(step.Spawned(seat.run))(step.Answered(seat.run, AT), after=30)
    assert due(seat.state, seat.budgets) == 61 + 30 + 60


# --- lent -------------------------------------------------------------------------------------------------------------


def test_lending_drains_and_the_time_brings_the_model_back() -> None:
    """I8."""
    seat = lent(Seat().ready(A))
    assert (seat.phase, rests(seat)) == ("Draining", "lent")
    ended(seat)
    assert (seat.phase, seat.state.wanted) == ("Idle", A)
    assert due(seat.state, seat.budgets) == 1800
    seat(step.InUse(True))
    assert seat.phase == "Idle", "no request takes back what was lent"
    seat(step.Tick(), after=1800)
    assert (seat.phase, seat.asked[0].wanted) == ("Reserving", A)  # type: ignore[union-attr]


def test_lending_ends_a_load_at_once_and_nothing_can_be_lent_of_nothing() -> None:
    seat = lent(Seat().loading(A))
    assert (seat.phase, seat.asks()) == ("Killing", ["Kill"])
    ended(seat)
    assert (seat.phase, rests(seat)) == ("Idle", "lent")
    assert lent(Seat()).asks() == ["Refuse"]
    assert Seat()(step.GiveBack()).asks() == ["Refuse"]


def test_a_time_that_is_over_before_the_engine_is_gone_brings_it_back_as_soon_as_it_is() -> None:
    """I7: no wait is left without a wake."""
    seat = lent(Seat().ready(A), seconds=1)
    seat(step.Drained(seat.run), after=3)(step.Ended(seat.run))(step.Released(seat.run))
    assert (seat.phase, due(seat.state, seat.budgets)) == ("Idle", 1)
    assert seat(step.Tick()).phase == "Reserving"


def test_wanting_something_else_ends_the_lending_and_wanting_nothing_forgets_it() -> None:
    seat = ended(lent(Seat().ready(A)))
    assert (seat.want(B).phase, rests(seat)) == ("Reserving", "")
    seat = ended(lent(Seat().ready(A)))
    seat.want(None)
    assert (seat.phase, rests(seat), seat.state.wanted) == ("Idle", "", None)


def test_a_lending_counts_the_time_for_which_the_machine_slept() -> None:
    """S8: thirty minutes are thirty minutes of the person's, whatever the machine's monotonic clock makes of them; how long
    a model may be idle counts only while somebody could have asked it."""
    seat = ended(lent(Seat().ready(A), 1800))
    until = due(seat.state, seat.budgets)
    assert until is not None
    seat(step.Suspended(1200))
    assert due(seat.state, seat.budgets) == until - 1200
    seat(step.Suspended(3600))
    assert (seat(step.Tick()).phase, seat.state.wanted) == ("Reserving", A), "it comes back at once"
    idle = Seat(idle_unload_seconds=60).ready(A)
    before = due(idle.state, idle.budgets)
    assert due(idle(step.Suspended(3600)).state, idle.budgets) == before


def test_what_was_lent_goes_on_being_lent_after_a_restart_of_the_daemon() -> None:
    seat = Seat()(step.Rest(A, Resting(reason="lent", until=60)))
    assert (seat.phase, seat.state.wanted, due(seat.state, seat.budgets)) == ("Idle", A, 60)
    assert seat(step.Tick(), after=60).phase == "Reserving"


# --- no room to come back ---------------------------------------------------------------------------------------------


def test_what_does_not_fit_when_it_comes_back_waits_for_room_and_says_who_holds_it() -> None:
    """I4: it looks every few seconds without moving, and loads once there is room."""
    seat = ended(lent(Seat().ready(A)))(step.GiveBack())
    seat(step.NotAdmitted(seat.run, Failure(kind="does_not_fit", summary="game holds 9 GiB.", profile_id="a")))
    assert (seat.phase, rests(seat), seat.state.wanted) == ("Idle", "memory", A)
    assert "game" in seat.state.notice
    for _ in range(3):
        seat(step.Tick(), after=5)
        assert seat.asks() == ["LookForRoom"]
        seat(step.Room(A, NO_ROOM))
        assert (seat.phase, seat.asks()) == ("Idle", [])
    seat(step.Tick(), after=5)(step.Room(A, FITS))
    assert seat.phase == "Reserving"


def test_a_model_that_is_broken_when_it_comes_back_has_failed() -> None:
    seat = ended(lent(Seat().ready(A)))(step.GiveBack())
    seat(step.Admitted(seat.run))(step.SpawnFailed(seat.run, failure("a", "bad_model")))
    assert (seat.phase, rests(seat), seat.state.wanted) == ("Failed", "", None)


# --- fallbacks --------------------------------------------------------------------------------------------------------


def choices(*of: step.Choice) -> step.Want:
    return step.Want(choices=of)


def test_the_first_choice_that_can_be_loaded_is_wanted_and_the_notice_says_why() -> None:
    seat = Seat()(
        choices(
            step.Choice(wanted=A, failure=NO_ENGINE),
            step.Choice(wanted=B, plan=NO_ROOM),
            step.Choice(wanted=C, plan=FITS),
        )
    )
    assert (seat.phase, seat.state.wanted) == ("Reserving", C)
    assert "vLLM is not installed" in seat.state.notice
    assert "c is loaded in its place" in seat.state.notice


def test_when_none_can_be_loaded_the_first_ones_reason_is_given_and_nothing_stops() -> None:
    seat = Seat().ready(C)(choices(step.Choice(wanted=A, failure=NO_ENGINE), step.Choice(wanted=B, plan=NO_ROOM)))
    assert seat.phase == "Ready"
    (refusal,) = seat.asked
    assert isinstance(refusal, step.Refuse)
    assert refusal.failure == NO_ENGINE


def test_an_override_insists_on_the_first_choice() -> None:
    insisted = Wanted(profile_id="a", override=True)
    seat = Seat()(choices(step.Choice(wanted=insisted, plan=NO_ROOM), step.Choice(wanted=B, plan=FITS)))
    assert seat.state.wanted == insisted


def test_a_fallback_that_is_what_is_loaded_changes_nothing_but_the_notice() -> None:
    seat = Seat().ready(B)(choices(step.Choice(wanted=A, plan=NO_ROOM), step.Choice(wanted=B)))
    assert (seat.phase, seat.asks()) == ("Ready", [])
    assert "b is loaded" in seat.state.notice


def test_a_failed_load_is_followed_by_its_fallbacks_in_order_and_then_by_failure() -> None:
    seat = Seat()(choices(*(step.Choice(wanted=each) for each in (A, B, C))))
    for following in ("b", "c"):
        seat(step.NotAdmitted(seat.run, failure(seat.state.wanted.profile_id)))  # type: ignore[union-attr]
        assert seat.state.wanted is not None
        assert (seat.phase, seat.state.wanted.profile_id) == ("Reserving", following)
    seat(step.NotAdmitted(seat.run, failure("c")))
    assert (seat.phase, seat.state.wanted) == ("Failed", None)


def test_a_failed_switch_puts_the_previous_model_back_before_any_fallback() -> None:
    seat = Seat().ready(C)(choices(step.Choice(wanted=A), step.Choice(wanted=B)))
    ended(seat)
    seat(step.NotAdmitted(seat.run, failure("a")))
    assert (seat.state.wanted, seat.state.fallbacks) == (C, ())


def test_a_crash_long_after_the_load_does_not_reach_for_the_fallback() -> None:
    seat = Seat(restarts=0)(choices(step.Choice(wanted=A), step.Choice(wanted=B)))
    seat(step.Admitted(seat.run))(step.Spawned(seat.run))(step.Answered(seat.run, AT))
    seat(step.Ended(seat.run, failure("a", "crashed")))(step.Released(seat.run))
    assert seat.phase == "Failed"


def test_nothing_of_a_rest_is_left_when_something_else_is_wanted() -> None:
    seat = ended(lent(Seat().ready(A))).want(B)
    assert isinstance(seat.state.resting, type(None))
    assert not isinstance(seat.state.phase, Idle)
