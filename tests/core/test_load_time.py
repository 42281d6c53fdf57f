"""How long a load still takes, learnt from earlier ones (S3): after two starts the median error is 20 % at most."""

import random
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.load_time import LoadTimes, alike, estimate

LENGTHS = {"": 12.0, "config": 6.0, "imports": 10.0, "weights": 4.0, "compile": 30.0, "kv_cache": 1.0, "warm_up": 2.0}
CACHED = LENGTHS | {"compile": 3.0}


def load(lengths: dict[str, float], pace: float = 1.0, **more: object) -> LoadTimes:
    begins, at = {}, 0.0
    for stage, length in lengths.items():
        begins[stage] = at
        at += length * pace
    del begins[""]
    return LoadTimes(stages=begins, ready_seconds=at, **more)  # type: ignore[arg-type]


def errors(past: list[LoadTimes], actual: LoadTimes, moments: int = 40) -> list[float]:
    """|what was said to be left - what was left| at moments of the load, as shares of the whole load."""
    found = []
    for moment in range(moments):
        now = actual.ready_seconds * moment / moments
        begun = {stage: at for stage, at in actual.stages.items() if at <= now}
        _, left = estimate(past, begun, now)
        assert left is not None
        found.append(abs(left - (actual.ready_seconds - now)) / actual.ready_seconds)
    return found


def test_nothing_is_said_before_the_first_start_and_the_logs_own_share_stands() -> None:
    assert estimate([], {}, 5.0) == (None, None)
    assert estimate([], {"weights": 1.0}, 5.0, 0.4) == (0.4, None)


def test_a_load_that_goes_as_the_last_one_is_told_to_the_second() -> None:
    assert max(errors([load(LENGTHS)], load(LENGTHS))) < 1e-9
    share, left = estimate([load(CACHED)], {}, 0.0)
    assert (share, left) == (0.0, pytest.approx(38.0))


def test_the_first_start_compiles_and_the_second_does_not_so_the_second_counts() -> None:
    past = [load(CACHED), load(LENGTHS)]
    assert max(errors(past, load(CACHED))) < 1e-9
    assert max(errors([load(CACHED), load(CACHED), load(LENGTHS)], load(CACHED))) < 1e-9, "nor does one of three"


def test_a_busy_machine_is_noticed_on_the_way() -> None:
    late = errors([load(CACHED)], load(CACHED, pace=2.0))
    assert late[0] == pytest.approx(0.5)
    assert late[len(late) // 2] < 0.2
    assert late[-1] < 0.05
    assert median(late) < 0.25


def test_a_stage_that_takes_longer_is_not_said_to_be_over() -> None:
    _, left = estimate([load(CACHED)], {"config": 12.0, "imports": 18.0}, 60.0)
    assert left is not None
    assert left > 10.0, "what follows is still to come, and not quicker than usual"


def test_a_stage_that_was_passed_unseen_is_not_to_come_any_more_and_an_unknown_one_does_no_harm() -> None:
    past = [load(CACHED)]
    begun = {"config": 12.0, "imports": 18.0, "kv_cache": 35.0}
    assert estimate(past, begun, 35.0)[1] == pytest.approx(3.0, rel=0.2)
    _, left = estimate(past, {"config": 12.0, "imports": 18.0, "graphs": 28.0}, 28.0)
    assert left is not None
    assert 0 < left < 30


def test_loads_of_another_build_or_model_teach_nothing_and_the_same_settings_teach_most() -> None:
    one = load(CACHED, engine_build="a", model="m", settings={"eager": True})
    other = load(LENGTHS, engine_build="a", model="m", settings={"eager": False})
    newer = load(LENGTHS, engine_build="b", model="m", settings={"eager": True})
    past = [newer, other, one]
    assert alike(past, engine_build="a", model="m", settings={"eager": True}) == (one,)
    assert alike(past, engine_build="a", model="m", settings={"eager": True, "x": 1}) == (other, one)
    assert alike(past, engine_build="a", model="n", settings={}) == ()
    assert len(alike([one] * 9, engine_build="a", model="m", settings={"eager": True})) == 3


def test_after_two_starts_the_median_error_is_at_most_a_fifth() -> None:
    """Each stage of each load up to a quarter longer or shorter than usual, the first load of all without caches."""
    chance = random.Random(4)

    def drawn(lengths: dict[str, float]) -> LoadTimes:
        return load({stage: length * chance.uniform(0.75, 1.25) for stage, length in lengths.items()})

    found = [error for _ in range(50) for error in errors([drawn(CACHED), drawn(LENGTHS)], drawn(CACHED), 20)]
    assert median(found) <= 0.2
    assert sorted(found)[len(found) * 9 // 10] <= 0.3


times = st.floats(0, 1e5, allow_nan=False)
stages = st.dictionaries(st.sampled_from(["config", "imports", "weights", "compile", "kv_cache", "odd"]), times)


@given(st.lists(st.builds(LoadTimes, stages=stages, ready_seconds=times), max_size=5), stages, times)
def test_whatever_was_kept_the_estimate_is_a_share_and_never_negative(
    past: list[LoadTimes], begun: dict[str, float], elapsed: float
) -> None:
    share, left = estimate(past, begun, elapsed)
    if past:
        assert share is not None
        assert left is not None
        assert 0 <= share <= 0.97
        assert left >= 0
