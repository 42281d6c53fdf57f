"""Random walks over the seat's decision: whatever happens, in any order, the invariants hold (I2, I3, I7)."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from app.core import seat as step
from app.core.advance import advance, due
from app.core.lifecycle import Endpoint, Failed, Failure, Idle, Ready, Stalled, StopFailed
from app.core.seat import Budgets, SeatState, Wanted

WOE = Failure(kind="crashed", summary="It died.", profile_id="a")
PROFILES = st.sampled_from([Wanted(profile_id=name) for name in "abc"])
WORLD = Budgets(drain_seconds=5, stop_grace_seconds=2, kill_seconds=2, vram_return_seconds=3, restarts=2)


class SeatWalk(RuleBasedStateMachine):
    """The world is a set of living engines; the seat only learns of it by events, late and in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.state = SeatState()
        self.now = 0.0
        self.alive: set[str] = set()
        self.spawns = 0
        self.pending: list[step.Event] = []
        self.next_launch_fails = False

    def play(self, event: step.Event) -> None:
        self.state, effects = advance(self.state, event, self.now, WORLD)
        for effect in effects:
            match effect:
                case step.Reserve(run_id, _):
                    self.pending.append(step.Admitted(run_id))
                case step.Spawn(run_id, _):
                    assert not self.alive, "I3: a second engine would be started beside the first"
                    self.spawns += 1
                    if self.next_launch_fails:
                        self.next_launch_fails = False
                        self.pending.append(step.SpawnFailed(run_id, WOE))
                        continue
                    self.alive.add(run_id)
                    self.pending.append(step.Spawned(run_id))
                    at = Endpoint(base_url="", model_name="", engine="")
                    self.pending.append(step.Answered(run_id, at))
                case step.Stop(run_id) | step.Kill(run_id):
                    if run_id in self.alive:  # what never was cannot be ended: its SpawnFailed is under way
                        self.pending.append(step.Ended(run_id))
                case step.AwaitDrain(run_id):
                    self.pending.append(step.Drained(run_id))
                case step.Inspect(run_id):
                    here = run_id in self.alive
                    self.pending.append(step.Survived(run_id, ("pid 1",)) if here else step.Ended(run_id))
                case step.AwaitRelease(run_id):
                    assert run_id not in self.alive, "I4: memory is awaited only after the processes are gone"
                    self.pending.append(step.Released(run_id))

    def deliver(self, index: int) -> None:
        event = self.pending.pop(index % len(self.pending))
        if isinstance(event, step.Ended):
            self.alive.discard(event.run_id)
        self.play(event)

    @rule(wanted=st.none() | PROFILES)
    def somebody_wants(self, wanted: Wanted | None) -> None:
        self.play(step.want(wanted))

    @rule()
    def somebody_restarts(self) -> None:
        self.play(step.Restart())

    @precondition(lambda self: self.pending)
    @rule(index=st.integers(0, 9))
    def news_arrives(self, index: int) -> None:
        self.deliver(index)

    @rule()
    def the_next_launch_will_fail(self) -> None:
        self.next_launch_fails = True

    @precondition(lambda self: self.alive)
    @rule(kind=st.sampled_from(["load failed", "quiet", "flowing"]))
    def an_engine_tells(self, kind: str) -> None:
        run_id = next(iter(self.alive))
        news = {"load failed": step.LoadFailed(run_id, WOE), "quiet": step.Quiet(run_id)}
        self.play(news.get(kind, step.Flowing(run_id)))

    @precondition(lambda self: self.alive)
    @rule(told=st.booleans())
    def an_engine_dies(self, told: bool) -> None:
        run_id = next(iter(self.alive))
        self.play(step.Exited(run_id, WOE))
        self.pending.append(step.Ended(run_id, WOE))
        if told:
            self.deliver(len(self.pending) - 1)

    @rule(seconds=st.floats(0.1, 30))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.play(step.Tick())

    @invariant()
    def what_lasts_has_a_wake(self) -> None:
        if not isinstance(self.state.phase, Idle | Ready | Stalled | Failed):
            assert due(self.state, WORLD) is not None

    @invariant()
    def ready_means_alive_or_dying_unheard(self) -> None:
        if isinstance(self.state.phase, Ready | Stalled):
            assert self.state.endpoint is not None

    def teardown(self) -> None:
        """Left alone, it converges to what was wanted (I2, I7), or to a failure that is told."""
        for _ in range(400):
            if self.pending:
                self.deliver(0)
            else:
                at = due(self.state, WORLD)
                if at is None:
                    break
                self.now = max(self.now, at) + 0.01
                self.play(step.Tick())
        phase = self.state.phase
        assert not isinstance(phase, StopFailed) or self.alive
        if self.state.wanted is None:
            assert isinstance(phase, Idle | Failed), phase
        else:
            assert isinstance(phase, Ready | Stalled), phase
            assert phase.profile_id == self.state.wanted.profile_id


TestSeatWalk = SeatWalk.TestCase
TestSeatWalk.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
