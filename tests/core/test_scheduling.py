"""Admission as a model: named cases, and random interleavings against the invariants I6, I7 and I8."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from app.core import scheduling
from app.core.scheduling import Arrive, Grant, Left, Limits, Phase, Reject, RouteChanged, State, Tick, Why

LIMITS = Limits(concurrency=2, queue_length=3, loading_wait_seconds=10, queue_wait_seconds=100)


def play(*steps: tuple[float, scheduling.Event]) -> tuple[State, list[scheduling.Effect]]:
    state, told = scheduling.start(LIMITS), []
    for now, event in steps:
        state, effects = scheduling.advance(state, event, now)
        told += effects
    return state, told


def ready(run: str = "r1", **more: int) -> RouteChanged:
    return RouteChanged(phase=Phase.READY, run_id=run, **more)


LOADING = RouteChanged(phase=Phase.LOADING)


def test_nothing_loaded_is_told_at_once() -> None:
    assert play((0, Arrive(1)))[1] == [Reject(1, Why.NO_MODEL, 10)]


def test_first_come_first_served() -> None:
    _, told = play((0, LOADING), (1, Arrive(1)), (2, Arrive(2)), (3, Arrive(3)), (4, ready()), (5, Left(1)))
    assert told == [Grant(1, "r1"), Grant(2, "r1"), Grant(3, "r1")]


def test_the_engines_limit_is_the_smaller_one() -> None:
    assert play((0, ready(concurrency=1)), (1, Arrive(1)), (1, Arrive(2)))[1] == [Grant(1, "r1")]
    assert len(play((0, ready(concurrency=50)), *((1, Arrive(n)) for n in range(5)))[1]) == 2


def test_a_full_queue_refuses_the_newcomer_only() -> None:
    _, told = play((0, LOADING), *((1, Arrive(n)) for n in range(4)))
    assert told == [Reject(3, Why.QUEUE_FULL, 5)]


def test_a_light_request_passes_a_full_engine_but_not_a_missing_one() -> None:
    _, told = play((0, ready()), (1, Arrive(1)), (1, Arrive(2)), (1, Arrive(3)), (1, Arrive(4, light=True)))
    assert told == [Grant(1, "r1"), Grant(2, "r1"), Grant(4, "r1")]
    assert play((0, LOADING), (1, Arrive(1, light=True)))[1] == []


def test_the_wait_for_a_model_counts_from_when_the_engine_went() -> None:
    """A request that queued behind others for long must not be refused the moment a switch begins."""
    steps = [(0.0, ready(concurrency=1)), (0.0, Arrive(1)), (0.0, Arrive(2)), (50.0, LOADING)]
    state, told = play(*steps, (59.0, Tick()))
    assert told == [Grant(1, "r1")]
    assert scheduling.next_deadline(state) == 60.0
    assert play(*steps, (60.0, Tick()))[1][-1] == Reject(2, Why.LOADING, 5)


def test_progress_of_a_load_does_not_lengthen_the_wait() -> None:
    told = play((0, LOADING), (1, Arrive(1)), (9, RouteChanged(phase=Phase.LOADING, eta_seconds=30.5)), (11, Tick()))[1]
    assert told == [Reject(1, Why.LOADING, 31)]


def test_a_busy_engine_is_waited_for_as_long_as_is_allowed_in_all() -> None:
    told = play((0, ready(concurrency=1)), (0, Arrive(1)), (5, Arrive(2)), (105, Tick()))[1]
    assert told == [Grant(1, "r1"), Reject(2, Why.BUSY, 5)]


def test_answers_of_the_old_run_do_not_take_the_new_ones_places() -> None:
    state, told = play((0, ready()), (1, Arrive(1)), (1, Arrive(2)), (2, LOADING), (3, Arrive(3)), (4, ready("r2")))
    assert told[-1] == Grant(3, "r2")
    assert scheduling.in_flight(state, "r1") == 2
    assert scheduling.in_flight(state, "r2") == 1


@pytest.mark.parametrize("twice", [False, True])
def test_leaving_twice_returns_one_place(twice: bool) -> None:
    steps = [(0.0, ready()), (1.0, Arrive(1)), (1.0, Arrive(2)), (1.0, Arrive(3)), (1.0, Arrive(4)), (2.0, Left(1))]
    _, told = play(*steps, *([(2.0, Left(1))] if twice else []))
    assert told == [Grant(1, "r1"), Grant(2, "r1"), Grant(3, "r1")]


class Interleavings(RuleBasedStateMachine):
    """Any order of arrivals, ends, cancels, route changes and time; a grant may be lost before it is delivered."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.state = scheduling.start(LIMITS)
        self.next_id = 1
        self.order: list[int] = []  # of those who wait, as they came
        self.light: set[int] = set()
        self.since: dict[int, float] = {}
        self.running: dict[int, str] = {}
        self.outcomes: dict[int, str] = {}
        self.runs = 0

    def step(self, event: scheduling.Event) -> None:
        self.state, effects = scheduling.advance(self.state, event, self.now)
        passed_over: set[int] = set()
        for effect in effects:
            assert effect.id not in self.outcomes, "I6: a second outcome"
            assert effect.id in self.order, "an outcome for nobody"
            if isinstance(effect, Grant):
                assert self.state.phase is Phase.READY, "I8: granted without a ready engine"
                assert effect.run_id == self.state.run_id, "I8: granted to another run"
                if effect.id not in self.light:
                    ahead = self.order[: self.order.index(effect.id)]
                    passed_over |= {one for one in ahead if one not in self.light}
                self.running[effect.id] = effect.run_id
            self.outcomes[effect.id] = "granted" if isinstance(effect, Grant) else effect.why.value
            self.order.remove(effect.id)
        assert not passed_over & set(self.order), "somebody who came later went first"

    @rule(light=st.booleans())
    def arrive(self, light: bool) -> None:
        self.order.append(self.next_id)
        self.since[self.next_id] = self.now
        if light:
            self.light.add(self.next_id)
        self.next_id += 1
        self.step(Arrive(self.next_id - 1, light))

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        """Answered, failed, or the grant was never delivered: the scheduler cannot tell and need not."""
        one = data.draw(st.sampled_from(sorted(self.running)))
        del self.running[one]
        self.step(Left(one))

    @precondition(lambda self: self.order)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.order))
        self.order.remove(one)
        self.outcomes[one] = "cancelled"
        self.step(Left(one))

    @precondition(lambda self: self.outcomes)
    @rule(data=st.data())
    def leave_again(self, data: st.DataObject) -> None:
        gone = sorted(set(self.outcomes) - set(self.running))
        if gone:
            before = self.state
            self.step(Left(data.draw(st.sampled_from(gone))))
            assert self.state.granted == before.granted

    @rule(limit=st.one_of(st.none(), st.integers(1, 5)))
    def becomes_ready(self, limit: int | None) -> None:
        self.runs += 1
        self.step(RouteChanged(phase=Phase.READY, run_id=f"r{self.runs}", concurrency=limit))

    @rule(phase=st.sampled_from([Phase.LOADING, Phase.DRAINING, Phase.NONE]))
    def goes(self, phase: Phase) -> None:
        self.step(RouteChanged(phase=phase, run_id=f"r{self.runs}"))

    @rule(seconds=st.floats(0.1, 40))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.step(Tick())

    @invariant()
    def what_counts_is_what_runs(self) -> None:
        assert {id: one.run_id for id, one in self.state.granted.items()} == self.running
        assert [waiter.id for waiter in self.state.waiting] == self.order

    @invariant()
    def limits_hold(self) -> None:
        """Grants of the present run stay under its limit, except those that it was given under a larger one."""
        assert len(self.order) <= LIMITS.queue_length
        if self.state.phase is Phase.READY:
            heavy = [one for one, run in self.running.items() if run == self.state.run_id and one not in self.light]
            assert len(heavy) <= self.state.concurrency
            assert not self.order or len(heavy) == self.state.concurrency, "somebody waits beside a free place"

    @invariant()
    def nobody_waits_without_a_bound(self) -> None:
        """I7: after a tick nobody is overdue, nobody waits for nothing, and a wake is known while anybody waits."""
        due = scheduling.next_deadline(self.state)
        assert (due is None) == (not self.order)
        assert due is None or due > self.now
        assert self.state.phase is not Phase.NONE or not self.order
        for one in self.order:
            assert self.now - self.since[one] < LIMITS.queue_wait_seconds


Interleavings.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestInterleavings = Interleavings.TestCase


def test_what_is_lent_refuses_at_once_with_the_time_until_it_comes_back() -> None:
    lent = RouteChanged(phase=Phase.LENT, until=1800.5)
    _, told = play((0, LOADING), (1, Arrive(1)), (60, lent), (100, Arrive(2)))
    assert told == [Reject(1, Why.LENT, 1741), Reject(2, Why.LENT, 1701)]


def test_a_list_that_is_asked_for_is_no_use_of_the_engine() -> None:
    """I9."""
    state, _ = play((0, ready()), (1, Arrive(1, light=True)))
    assert not scheduling.in_use(state)
    state, _ = play((0, LOADING), (1, Arrive(1)))
    assert scheduling.in_use(state), "who waits uses it too"
    state, _ = play((0, ready()), (1, Arrive(1)), (2, Left(1)))
    assert not scheduling.in_use(state)
