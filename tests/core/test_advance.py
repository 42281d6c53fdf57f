"""The seat's decisions, told as stories: what is wanted, what happens, what is done (I2, I3, I4, I7, I8, I12)."""

from __future__ import annotations

from msgspec.structs import replace

from app.core import seat as step
from app.core.advance import advance, due
from app.core.lifecycle import Endpoint, Failure
from app.core.memory.plan_types import MemoryPlan, Remedy, Verdict
from app.core.seat import Budgets, SeatState, Wanted

A, B, C = (Wanted(profile_id=name) for name in "abc")
AT = Endpoint(base_url="http://127.0.0.1:1", model_name="a", engine="llama-server")
NO_ROOM = MemoryPlan(
    verdict=Verdict.DOES_NOT_FIT,
    devices=(),
    summary="b needs 9.0 GiB, 4.0 GiB are free.",
    remedies=(Remedy(title="Use a context of 4,096", settings={"context_tokens": 4096}),),
)


def failure(of: str = "b", kind: str = "bad_model") -> Failure:
    return Failure(kind=kind, summary=f"{of} is not a GGUF file.", profile_id=of)


class Seat:
    """Plays events against the decision and keeps what it asked for."""

    def __init__(self, **budgets: float) -> None:
        self.state = SeatState()
        self.budgets = Budgets(**budgets)  # type: ignore[arg-type]
        self.now = 0.0
        self.asked: list[step.Effect] = []

    def __call__(self, event: step.Event, after: float = 0.0) -> Seat:
        self.now += after
        self.state, effects = advance(self.state, event, self.now, self.budgets)
        self.asked = list(effects)
        return self

    @property
    def phase(self) -> str:
        return type(self.state.phase).__name__

    @property
    def run(self) -> str:
        return getattr(self.state.phase, "run_id", "")

    def want(self, wanted: Wanted | None, plan: MemoryPlan | None = None) -> Seat:
        return self(step.want(wanted, plan))

    def loading(self, wanted: Wanted) -> Seat:
        self.want(wanted)
        return self(step.Admitted(self.run))(step.Spawned(self.run))

    def ready(self, wanted: Wanted) -> Seat:
        return self.loading(wanted)(step.Answered(self.run, AT))

    def asks(self) -> list[str]:
        return [type(effect).__name__ for effect in self.asked]


def late(wanted: Wanted, number: int) -> step.Want:
    """The wish that was uttered as the `number`th, however late it comes."""
    return step.Want(choices=(step.Choice(wanted=wanted),), number=number)


def test_a_load_becomes_ready_only_after_a_token() -> None:
    seat = Seat().want(A)
    assert (seat.phase, seat.asks()) == ("Reserving", ["Reserve"])
    seat(step.Admitted(seat.run))
    assert (seat.phase, seat.asks()) == ("Spawning", ["Spawn"])
    seat(step.Spawned(seat.run))
    assert seat.phase == "Loading"
    seat(step.Answered(seat.run, AT))
    assert seat.phase == "Ready"


def test_a_switch_drains_stops_waits_for_memory_and_then_loads() -> None:
    """I3, I4, I8: the new engine is reserved only after the old one's memory is measured back."""
    seat = Seat().ready(A).want(B)
    assert (seat.phase, seat.asks()) == ("Draining", ["AwaitDrain"])
    seat(step.Drained(seat.run))
    assert (seat.phase, seat.asks()) == ("Stopping", ["Stop"])
    seat(step.Ended(seat.run))
    assert (seat.phase, seat.asks()) == ("ReleasingVram", ["AwaitRelease"])
    seat(step.Released(seat.run))
    assert (seat.phase, seat.asks()) == ("Reserving", ["Reserve"])
    assert seat.asked[0].wanted == B  # type: ignore[union-attr]


def test_a_switch_that_cannot_fit_is_refused_and_nothing_stops() -> None:
    """I4."""
    seat = Seat().ready(A)
    before = seat.state
    seat.want(B, NO_ROOM)
    assert seat.asks() == ["Refuse"]
    assert seat.state == before
    refusal = seat.asked[0].failure  # type: ignore[union-attr]
    assert "9.0 GiB" in refusal.summary
    assert "4,096" in refusal.advice


def test_an_override_goes_on_although_it_does_not_fit() -> None:
    seat = Seat().ready(A).want(replace(B, override=True), NO_ROOM)
    assert seat.phase == "Draining"


def test_clicking_a_b_c_loads_only_c() -> None:
    seat = Seat().ready(A).want(B).want(C)
    seat(step.Drained(seat.run))(step.Ended(seat.run))(step.Released(seat.run))
    assert seat.asked[0].wanted == C  # type: ignore[union-attr]


def test_the_last_word_counts_also_where_an_earlier_one_took_longer_to_be_priced() -> None:
    """A wish is priced before the seat hears of it, and that may take seconds: a cancel or another click comes first then."""
    seat = Seat()(step.Want(number=2))
    seat(late(A, 1))
    assert (seat.phase, seat.state.wanted) == ("Idle", None), "it was cancelled before it was priced"
    seat(late(B, 4))(late(A, 3))
    assert seat.state.wanted == B
    seat(late(C, 4 + 1))
    assert seat.state.wanted == C
    seat = Seat()(step.Want(choices=(step.Choice(wanted=B, plan=NO_ROOM),), number=2))(late(A, 1))
    assert seat.state.wanted == A, "who was refused has overtaken nobody"
    assert Seat().loading(A)(late(B, 7))(late(A, 0)).state.wanted == B, "a restored wish comes after everybody's"


def test_another_click_while_loading_kills_the_load_at_once() -> None:
    seat = Seat().loading(B).want(C)
    assert (seat.phase, seat.asks()) == ("Killing", ["Kill"])
    seat(step.Ended(seat.run))(step.Released(seat.run))
    assert seat.asked[0].wanted == C  # type: ignore[union-attr]


def test_wanting_the_leaving_model_again_keeps_it() -> None:
    seat = Seat().ready(A).want(B).want(A)
    assert seat.phase == "Ready"
    assert seat.state.rollback_to is None


def test_a_cancel_ends_idle_and_offers_the_previous_model() -> None:
    seat = Seat().ready(A).want(B)
    seat(step.Drained(seat.run))(step.Ended(seat.run))(step.Released(seat.run))(step.Admitted(seat.run))
    seat(step.Spawned(seat.run)).want(None)
    assert seat.phase == "Killing"
    seat(step.Ended(seat.run))(step.Released(seat.run))
    assert seat.phase == "Idle"
    assert seat.state.previous == A


def test_a_failed_switch_puts_the_previous_model_back_once_with_its_settings() -> None:
    settled = replace(A, settings={"context_tokens": 512})
    seat = Seat().ready(settled).want(B)
    seat(step.Drained(seat.run))(step.Ended(seat.run))(step.Released(seat.run))
    seat(step.Admitted(seat.run))(step.Spawned(seat.run))(step.LoadFailed(seat.run, failure()))
    assert seat.phase == "Killing"
    seat(step.Ended(seat.run))(step.Released(seat.run))
    assert seat.phase == "Reserving"
    assert seat.state.wanted == settled
    assert "put back" in seat.state.notice
    seat(step.Admitted(seat.run))(step.Spawned(seat.run))(step.Ended(seat.run, failure("a")))(step.Released(seat.run))
    assert seat.phase == "Failed", "a rollback that fails is not rolled back again"
    assert seat.state.wanted is None


def test_a_load_that_ends_by_itself_is_told_with_its_reason() -> None:
    """I11."""
    seat = Seat().loading(B)
    seat(step.Ended(seat.run, failure()))(step.Released(seat.run))
    assert seat.phase == "Failed"
    assert seat.state.phase.failure.summary == "b is not a GGUF file."  # type: ignore[union-attr]


def test_a_crash_is_answered_by_at_most_three_restarts_in_ten_minutes() -> None:
    seat = Seat().ready(A)
    for attempt in (1, 2, 3):
        seat(step.Ended(seat.run, failure("a", "crashed")))(step.Released(seat.run))
        assert seat.phase == "Backoff", attempt
        seat(step.Tick(), after=60)
        assert seat.phase == "Reserving"
        seat(step.Admitted(seat.run))(step.Spawned(seat.run))(step.Answered(seat.run, AT))
    seat(step.Ended(seat.run, failure("a", "crashed")))(step.Released(seat.run))
    assert seat.phase == "Failed"


def test_old_crashes_do_not_count() -> None:
    seat = Seat().ready(A)
    for _ in range(6):
        seat(step.Ended(seat.run, failure("a", "crashed")), after=400)(step.Released(seat.run))
        assert seat.phase == "Backoff"
        seat(step.Tick(), after=60)
        seat(step.Admitted(seat.run))(step.Spawned(seat.run))(step.Answered(seat.run, AT))


def test_news_of_a_dead_engine_changes_nothing() -> None:
    seat = Seat().ready(A)
    before = seat.state
    for event in (step.Ended("old", failure()), step.Answered("old", AT), step.Drained("old"), step.Released("old")):
        assert seat(event).state == before


def test_a_drain_past_its_budget_cuts_the_streams_and_stops() -> None:
    """I8: past the budget the streams end with an explicit error, never silently."""
    seat = Seat(drain_seconds=30).ready(A).want(None)(step.Tick(), after=31)
    assert (seat.phase, seat.asks()) == ("Stopping", ["CutStreams", "Stop"])


def test_a_stop_always_ends() -> None:
    """I2: TERM, then KILL, then a sentence about what would not go; the seat stays taken until it does."""
    seat = Seat(stop_grace_seconds=10, kill_seconds=10).ready(A).want(None)
    seat(step.Drained(seat.run))(step.Tick(), after=12)
    assert (seat.phase, seat.asks()) == ("Killing", ["Kill"])
    seat(step.Tick(), after=11)
    assert seat.asks() == ["Inspect"]
    seat(step.Survived(seat.run, ("pid 7 llama-server, state D",)))
    assert seat.phase == "StopFailed"
    seat.want(B)
    assert seat.phase == "StopFailed", "the seat stays taken"
    seat(step.Ended(seat.run))(step.Released(seat.run))
    assert (seat.phase, seat.asked[0].wanted) == ("Reserving", B)  # type: ignore[union-attr]


def test_slow_is_not_dead_but_silence_is() -> None:
    """I12: a sign of life extends the load; silence longer than the budget ends it."""
    seat = Seat(load_stall_seconds=60).loading(A)
    for _ in range(30):
        seat(step.Heard(run_id=seat.run, stage="weights", progress=0.2), after=50)
        seat(step.Tick(), after=5)
        assert seat.phase == "Loading"
    seat(step.Tick(), after=61)
    assert seat.phase == "Killing"
    assert "no sign of progress" in seat.state.ending.summary  # type: ignore[union-attr]


def test_progress_never_falls_and_stages_never_go_back() -> None:
    seat = Seat().loading(A)
    seat(step.Heard(run_id=seat.run, stage="kv_cache", progress=0.7))
    seat(step.Heard(run_id=seat.run, stage="weights", progress=0.3))
    assert (seat.state.phase.stage, seat.state.phase.progress) == ("kv_cache", 0.7)  # type: ignore[union-attr]


def test_a_stall_is_shown_and_never_kills() -> None:
    """I10."""
    seat = Seat().ready(A)
    run = seat.run
    seat(step.Quiet(run))
    assert (seat.phase, seat.asks()) == ("Stalled", [])
    assert seat(step.Tick(), after=9_999).phase == "Stalled"
    assert seat(step.Flowing(run)).phase == "Ready"
    assert seat.state.phase.since == 0.0, "the model has been ready since it became ready"


def test_memory_that_never_returns_is_named_and_the_wanted_load_is_tried_by_measurement() -> None:
    seat = Seat().ready(A).want(B)
    seat(step.Drained(seat.run))(step.Ended(seat.run))(step.Released(seat.run, "It is held by blender (pid 7)."))
    assert seat.phase == "Reserving"
    assert "blender" in seat.state.notice


def test_every_phase_that_can_last_has_a_wake() -> None:
    """I7: a phase without an end of its own is one in which nothing is awaited."""
    lasting = {"Idle", "Ready", "Stalled", "Failed"}
    seat = Seat()
    seen = {}
    for event in (
        lambda: step.want(A),
        lambda: step.Admitted(seat.run),
        lambda: step.Spawned(seat.run),
        lambda: step.Answered(seat.run, AT),
        lambda: step.want(B),
        lambda: step.Drained(seat.run),
        lambda: step.Tick(),
        lambda: step.Ended(seat.run),
    ):
        seat(event(), after=20 if isinstance(event(), step.Tick) else 0)
        seen[seat.phase] = due(seat.state, seat.budgets)
    assert {phase for phase, at in seen.items() if at is None} <= lasting
    assert {"Reserving", "Spawning", "Loading", "Draining", "Stopping", "Killing", "ReleasingVram"} <= seen.keys()


def test_an_exit_is_told_at_once_although_its_children_are_still_there() -> None:
    """I10: what has no first process any more is not Ready, even while the rest of its tree is being ended."""
    seat = Seat().ready(A)(step.Exited("run-0001", failure("a", "crashed")))
    assert (seat.phase, seat.asks()) == ("Killing", ["Kill"])
    seat(step.Ended(seat.run))(step.Released(seat.run))
    assert seat.phase == "Backoff", "it is a crash, and is started again"


def test_an_engine_that_dies_while_it_is_drained_is_not_ready_again() -> None:
    """I10: a request calls an idle model's unload off, but its engine has gone; what is left of it may take its time."""
    seat = Seat(idle_unload_seconds=60).ready(A)
    seat(step.Tick(), 61)
    assert seat.phase == "Draining"
    seat(step.Exited(seat.run, failure("a", "crashed")))
    seat(step.InUse(True))
    assert (seat.phase, seat.state.wanted) == ("Killing", A)
    seat(step.Ended(seat.run))(step.Released(seat.run))
    assert seat.phase == "Reserving", "the request that came is what it is loaded for"
    seat = Seat().ready(A).want(B)
    seat(step.Exited(seat.run, failure("a", "crashed"))).want(A)
    seat(step.Ended(seat.run))(step.Released(seat.run))
    assert (seat.phase, seat.state.wanted) == ("Reserving", A)


def test_whoever_asks_again_while_a_failed_load_is_being_ended_gets_another_try() -> None:
    """Why it ends is of before the wish: that failure is no answer to it."""
    for again in (step.want(A), step.Restart()):
        seat = Seat().loading(A)
        seat(step.Exited(seat.run, failure("a")))
        assert seat.phase == "Killing"
        seat(again)
        assert seat.asks() == []
        seat(step.Ended(seat.run))(step.Released(seat.run))
        assert (seat.phase, seat.state.wanted) == ("Reserving", A), again
    crashed = Seat().ready(A)
    crashed(step.Exited(crashed.run, failure("a", "crashed")))(step.Restart())
    crashed(step.Ended(crashed.run))(step.Released(crashed.run))
    assert crashed.phase == "Reserving", "at once: nobody waits for a pause between restarts that are asked for"


def test_a_port_lost_between_choice_and_bind_is_tried_again_on_another_at_most_three_times() -> None:
    """I13."""
    seat = Seat().loading(A)
    for _ in range(3):
        seat(step.Exited(seat.run, failure("a", "port_taken")))(step.Ended(seat.run))(step.Released(seat.run))
        assert seat.phase == "Reserving"
        seat(step.Admitted(seat.run))(step.Spawned(seat.run))
    seat(step.Exited(seat.run, failure("a", "port_taken")))(step.Ended(seat.run))(step.Released(seat.run))
    assert seat.phase == "Failed"


def test_a_launch_that_fails_after_its_cancel_frees_the_seat() -> None:
    """I2, I7: nobody else could tell that there is nothing to end."""
    seat = Seat().want(A)
    seat(step.Admitted(seat.run)).want(B)
    assert (seat.phase, seat.asks()) == ("Killing", ["Kill"])
    seat(step.SpawnFailed(seat.run, failure("a")))
    assert seat.phase == "ReleasingVram"
    seat(step.Released(seat.run))
    assert seat.asked[0].wanted == B  # type: ignore[union-attr]


def test_asking_again_for_what_is_loaded_is_never_refused() -> None:
    seat = Seat().ready(A).want(A, NO_ROOM)
    assert (seat.phase, seat.asks()) == ("Ready", [])


def test_a_restart_while_loading_begins_anew_and_with_nothing_there_is_refused() -> None:
    seat = Seat().loading(A)(step.Restart())
    assert seat.phase == "Killing"
    seat(step.Ended(seat.run))(step.Released(seat.run))
    assert seat.asked[0].wanted == A  # type: ignore[union-attr]
    assert Seat()(step.Restart()).asks() == ["Refuse"]
