"""Estimates how long a load still takes, from when its stages began in earlier loads like it; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

import msgspec

from app.core.options import Scalar

LOOKED_AT = 3  # the newest loads that count: caches warm up, machines and engines change
TRUST = 0.25  # how much of a usual load must be over before its pace counts half
SLOWEST, QUICKEST = 3.0, 1 / 3  # bounds of a pace
MOST_PROGRESS = 0.97  # only the first token ends a load


class LoadTimes(msgspec.Struct, frozen=True, kw_only=True):
    """One load that came to its end. Seconds count from the launch of the process."""

    stages: dict[str, float]  # stage → when it began
    ready_seconds: float
    engine_build: str = ""
    model: str = ""
    settings: dict[str, Scalar] = {}

    def durations(self) -> dict[str, float]:
        """Stage → how long it took, in their order; "" is the time before the first one."""
        begins = {"": 0.0} | dict(sorted(self.stages.items(), key=lambda item: item[1]))
        ends = [*list(begins.values())[1:], self.ready_seconds]
        return {stage: max(0.0, end - begin) for (stage, begin), end in zip(begins.items(), ends, strict=True)}


def alike(
    past: Sequence[LoadTimes], *, engine_build: str, model: str, settings: Mapping[str, Scalar]
) -> tuple[LoadTimes, ...]:
    """The loads that tell most about the next one: of this engine build, and of these settings where there are such."""
    of_build = [load for load in past if load.engine_build == engine_build and load.model == model]
    same = [load for load in of_build if load.settings == settings]
    return tuple((same or of_build)[:LOOKED_AT])


def estimate(
    past: Sequence[LoadTimes], begun: Mapping[str, float], elapsed: float, progress: float | None = None
) -> tuple[float | None, float | None]:
    """(share that is done 0..1, seconds left) of a load that is `elapsed` seconds old.

    `past`: newest first. `begun`: the stages that it has reached → when. Without a past: what the log says, nobody knows.
    """
    if not past:
        return progress, None
    left = _seconds_left(past[:LOOKED_AT], begun, elapsed)
    return min(MOST_PROGRESS, elapsed / (elapsed + left) if elapsed + left else 0.0), left


def _seconds_left(past: Sequence[LoadTimes], begun: Mapping[str, float], elapsed: float) -> float:
    durations = [load.durations() for load in past]
    now = max(begun, key=lambda stage: begun[stage]) if begun else ""
    way = next((each for each in durations if now in each), durations[0])  # a stage that was never seen has no length
    usual = {stage: _typical([each[stage] for each in durations if stage in each]) for stage in way}
    names = list(way)
    after = names[names.index(now) + 1 :] if now in way else [name for name in names if name and name not in begun]
    # A stage that an earlier load passed on its way may have been passed unseen: what has begun is not to come any more.
    to_come = sum(usual[stage] for stage in after if stage not in begun)
    spent, expected = elapsed - begun.get(now, 0.0), usual.get(now, 0.0)
    begins = {"": 0.0} | dict(sorted(begun.items(), key=lambda item: item[1]))
    over = [stage for stage in begins if stage != now and stage in usual] if now in usual else []
    done_usually = sum(usual[stage] for stage in over)
    done = begun.get(now, 0.0) if over else 0.0
    if spent > expected:  # it takes longer than it did: that tells of the pace as well
        done_usually, done = done_usually + expected, done + spent
    pace = _pace(done, done_usually, sum(usual.values()))
    return pace * to_come + max(0.0, pace * expected - spent)


def _pace(done: float, usually: float, whole: float) -> float:
    """How much slower than usual the machine is now: near 1 while little is known."""
    weight = TRUST * whole
    if usually + weight <= 0:
        return 1.0
    return min(SLOWEST, max(QUICKEST, (done + weight) / (usually + weight)))


def _typical(newest_first: Sequence[float]) -> float:
    """The median of three; of two the newer one, because the first load of all fills the caches."""
    return median(newest_first) if len(newest_first) >= LOOKED_AT else newest_first[0]
