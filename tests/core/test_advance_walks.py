"""Random walks over the seat's decision: whatever happens, in any order, the invariants hold (I2, I3, I7, I9)."""

from __future__ import annotations

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from app.core import seat as step
from app.core.advance import advance, due
from app.core.lifecycle import Endpoint, Failed, Failure, Idle, Ready, Sleeping, Stalled, StopFailed
from app.core.memory.plan_types import MemoryPlan, Verdict
from app.core.seat import Budgets, SeatState, Wanted
from app.core.seat_steps import WOKEN_BY_A_REQUEST, awaited

WOE = Failure(kind="crashed", summary="It died.", profile_id="a")
PROFILES = st.sampled_from([Wanted(profile_id=name) for name in "abc"])
WORLD = Budgets(
    drain_seconds=5,
    stop_grace_seconds=2,
    kill_seconds=2,
    vram_return_seconds=3,
    restarts=2,
    idle_unload_seconds=20,
    idle_parking=1,
)
FITS = MemoryPlan(verdict=Verdict.FITS, devices=(), summary="It fits.")
NO_ROOM = MemoryPlan(verdict=Verdict.DOES_NOT_FIT, devices=(), summary="It does not fit.")


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
        self.room = True
        self.busy = False

    def play(self, event: step.Event) -> None:
        self.state, effects = advance(self.state, event, self.now, WORLD)
        for effect in effects:
            match effect:
                case step.Reserve(run_id, wanted):
                    woe = Failure(kind="does_not_fit", summary="No room.", profile_id=wanted.profile_id)
                    self.pending.append(step.Admitted(run_id) if self.room else step.NotAdmitted(run_id, woe))
                case step.LookForRoom(wanted):
                    self.pending.append(step.Room(wanted, FITS if self.room else NO_ROOM))
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
                case step.ParkEngine(run_id, _):
                    assert run_id in self.alive or step.Ended(run_id, WOE) in self.pending
                    self.pending.append(step.Parked(run_id) if self.room else step.ParkFailed(run_id, "It cannot."))
                case step.WakeEngine(run_id):
                    at = Endpoint(base_url="", model_name="", engine="")
                    self.pending.append(step.Answered(run_id, at) if self.room else step.WakeFailed(run_id, "No room."))
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

    @rule(chain=st.lists(PROFILES, min_size=2, max_size=3, unique_by=lambda each: each.profile_id))
    def somebody_wants_one_with_fallbacks(self, chain: list[Wanted]) -> None:
        self.play(step.Want(choices=tuple(step.Choice(wanted=each) for each in chain)))

    @rule(seconds=st.floats(1, 40))
    def somebody_lends(self, seconds: float) -> None:
        self.play(step.Lend(self.now + seconds, 0.0))

    @rule(level=st.integers(0, 2))
    def somebody_parks(self, level: int) -> None:
        self.play(step.Park(level))

    @rule()
    def somebody_takes_back(self) -> None:
        self.play(step.GiveBack())

    @rule()
    def requests_come_or_end(self) -> None:
        self.busy = not self.busy
        self.play(step.InUse(self.busy))

    @rule()
    def another_program_takes_or_leaves_the_memory(self) -> None:
        self.room = not self.room

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
        if not isinstance(self.state.phase, Idle | Ready | Stalled | Failed | Sleeping):
            assert due(self.state, WORLD) is not None
        rests = self.state.resting is not None and self.state.resting.reason not in WOKEN_BY_A_REQUEST
        if self.state.resting is not None and rests and not self.alive:
            if isinstance(self.state.phase, Idle):
                assert due(self.state, WORLD) == self.state.resting.until
            else:  # whatever is on its way has its own clock
                assert due(self.state, WORLD) == due(msgspec.structs.replace(self.state, resting=None), WORLD)

    @invariant()
    def what_rests_is_wanted_and_a_request_never_waits_for_an_idle_one(self) -> None:
        assert self.state.resting is None or self.state.wanted is not None
        assert not isinstance(self.state.phase, Idle | Sleeping) or not awaited(self.state)

    @invariant()
    def ready_means_alive_or_dying_unheard(self) -> None:
        if isinstance(self.state.phase, Ready | Stalled):
            assert self.state.endpoint is not None

    def teardown(self) -> None:
        """Left alone with room for it, it converges to what was wanted (I2, I7), to rest, or to a failure that is told."""
        self.room = True
        if not self.busy:
            self.requests_come_or_end()
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
            assert self.state.resting is None, (
                "what was lent or lacked room has come back, and requests wake the idle one"
            )
            assert isinstance(phase, Ready | Stalled), phase
            assert phase.profile_id == self.state.wanted.profile_id


TestSeatWalk = SeatWalk.TestCase
TestSeatWalk.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
