"""Memory promised to loads under way: no two of them are ever admitted against the same free bytes (I4)."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from app.core.ledger import HOST, Ledger, without
from app.core.snapshot import DriverState, GpuProcess, Gpus, GpuSample, HostSample

CARD, TOTAL, FOREIGN, HEADROOM = "GPU-1", 100, 7, 5


def sample(free: int, held: dict[str, int], taken_at: float, host: int = 1000) -> Gpus:
    processes = tuple(GpuProcess(pid=1, name="e", bytes=size, run_id=run) for run, size in held.items())
    one = GpuSample(
        uuid=CARD, index=0, name="", total_bytes=TOTAL, used_bytes=TOTAL - free, free_bytes=free, processes=processes
    )
    room = HostSample(total_bytes=2000, available_bytes=host)
    return Gpus(driver=DriverState.OK, gpus=(one,), host=room, taken_at=taken_at)


def free_for(ledger: Ledger, seat: str, gpus: Gpus, held: dict[str, dict[str, int]] | None = None) -> int | None:
    shown = {p.run_id: {CARD: p.bytes or 0} for p in gpus.gpus[0].processes or () if p.run_id}
    return without(gpus, ledger.outstanding(seat, gpus, held or shown)).gpus[0].free_bytes


def test_what_is_promised_to_one_seat_is_not_free_for_another() -> None:
    ledger = Ledger()
    ledger.promise("main", "r1", {CARD: 60})
    assert free_for(ledger, "side", sample(93, {}, 1)) == 33
    assert free_for(ledger, "main", sample(93, {}, 1)) == 93, "its own promise is replaced by its next one"


def test_what_has_been_taken_is_counted_once() -> None:
    ledger = Ledger()
    ledger.promise("main", "r1", {CARD: 60})
    assert free_for(ledger, "side", sample(53, {"r1": 40}, 1)) == 33


def test_a_ready_runs_promise_ends_with_the_first_sample_that_shows_it() -> None:
    """A sample from before Ready shows too little, and the ledger knows it."""
    ledger = Ledger()
    ledger.promise("main", "r1", {CARD: 60})
    ledger.settle("main", "r1", now=10)
    assert free_for(ledger, "side", sample(53, {"r1": 40}, taken_at=9)) == 33
    assert free_for(ledger, "side", sample(38, {"r1": 55}, taken_at=11)) == 38


def test_main_memory_is_promised_for_the_whole_life_of_a_run() -> None:
    """An engine's file pages count as available to everybody, until somebody believes it."""
    ledger = Ledger()
    ledger.promise("main", "r1", {HOST: 600})
    ledger.settle("main", "r1", now=10)
    late = sample(93, {}, taken_at=11, host=900)
    host = without(late, ledger.outstanding("side", late, {"r1": {HOST: 100}})).host
    assert host is not None
    assert host.available_bytes == 400


def test_a_run_that_is_over_owes_nothing() -> None:
    ledger = Ledger()
    ledger.promise("main", "r1", {CARD: 60})
    ledger.keep("main", "r1")
    assert free_for(ledger, "side", sample(93, {}, 1)) == 33
    ledger.keep("main", None)
    assert free_for(ledger, "side", sample(93, {}, 1)) == 93
    assert ledger.runs_beside("side") == ()


class Interleaving(RuleBasedStateMachine):
    """Three seats load, take their memory bit by bit, become ready and end; samples are of any moment before now."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.now = 1.0
        self.number = 0
        self.runs: dict[str, tuple[str, int, int]] = {}  # seat → run, what it will take in the end, what it has taken
        self.samples = [self.seen()]

    def seen(self) -> Gpus:
        held = {run: taken for run, _, taken in self.runs.values()}
        return sample(TOTAL - FOREIGN - sum(held.values()), held, self.now)

    def pass_time(self) -> None:
        self.now += 1
        self.samples = [*self.samples[-3:], self.seen()]

    @rule(seat=st.sampled_from(["main", "side", "third"]), needs=st.integers(1, 95), age=st.integers(0, 3))
    def somebody_wants(self, seat: str, needs: int, age: int) -> None:
        if seat in self.runs:
            return
        old = self.samples[-1 - min(age, len(self.samples) - 1)]
        free = free_for(self.ledger, seat, old)
        assert free is not None
        if needs <= free - HEADROOM:
            self.number += 1
            run = f"r{self.number}"
            self.ledger.promise(seat, run, {CARD: needs})
            self.runs[seat] = (run, needs, 0)
        self.pass_time()

    @precondition(lambda self: self.runs)
    @rule(which=st.integers(0, 2), share=st.floats(0, 1))
    def a_run_takes_memory(self, which: int, share: float) -> None:
        seat = list(self.runs)[which % len(self.runs)]
        run, needs, taken = self.runs[seat]
        self.runs[seat] = (run, needs, taken + int((needs - taken) * share))
        self.pass_time()

    @precondition(lambda self: self.runs)
    @rule(which=st.integers(0, 2))
    def a_run_is_ready(self, which: int) -> None:
        seat = list(self.runs)[which % len(self.runs)]
        run, needs, _ = self.runs[seat]
        self.runs[seat] = (run, needs, needs)
        self.now += 1
        self.ledger.settle(seat, run, self.now)
        self.pass_time()

    @precondition(lambda self: self.runs)
    @rule(which=st.integers(0, 2))
    def a_run_ends_and_its_memory_is_measured_back(self, which: int) -> None:
        seat = list(self.runs)[which % len(self.runs)]
        del self.runs[seat]
        self.ledger.keep(seat, None)
        self.pass_time()

    @invariant()
    def what_was_admitted_fits_when_all_of_it_is_taken(self) -> None:
        assert sum(needs for _, needs, _ in self.runs.values()) + FOREIGN + HEADROOM <= TOTAL


TestInterleaving = Interleaving.TestCase
TestInterleaving.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
