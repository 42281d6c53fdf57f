"""The ten minutes behind the graphs: complete, honest about gaps, and never larger than ten minutes."""

from app.core.snapshot import DriverState, Gpus, GpuSample, HostSample, Traffic
from app.daemon.history import HistoryRing


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def gpus(used: int | None = 5, uuid: str = "GPU-1", driver: DriverState = DriverState.OK) -> Gpus:
    gpu = GpuSample(uuid=uuid, index=0, name="card", total_bytes=10, used_bytes=used, free_bytes=None, utilisation=0.5)
    return Gpus(driver=driver, gpus=(gpu,), host=HostSample(total_bytes=100, available_bytes=60))


def test_samples_come_back_oldest_first_under_their_names() -> None:
    clock = Clock()
    ring = HistoryRing(clock)
    for used in (1, 2, 3):
        ring.add(gpus(used), Traffic(generation_tokens_per_second=10.0 * used, queued=used))
        clock.now += 1
    history = ring.view()
    assert history.times == (1000.0, 1001.0, 1002.0)
    assert history.series["gpu:GPU-1:used_bytes"] == (1, 2, 3)
    assert history.series["gpu:GPU-1:utilisation"] == (0.5, 0.5, 0.5)
    assert history.series["host:used_bytes"] == (40, 40, 40)
    assert history.series["tokens_per_second"] == (10, 20, 30)
    assert history.series["queued"] == (1, 2, 3)
    assert "gpu:GPU-1:power_watts" not in history.series, "what was never known has no series"


def test_what_was_not_known_is_a_gap() -> None:
    """I10: figures of a driver that hangs are old, so they are no points of the graph."""
    clock = Clock()
    ring = HistoryRing(clock)
    for sample in (gpus(1), gpus(None), gpus(1, driver=DriverState.HUNG), Gpus(), gpus(4)):
        ring.add(sample, Traffic())
        clock.now += 1
    assert ring.view().series["gpu:GPU-1:used_bytes"] == (1, None, None, None, 4)
    assert ring.view().series["host:used_bytes"] == (40, 40, 40, None, 40)


def test_it_holds_ten_minutes_and_not_more() -> None:
    """I16"""
    clock = Clock()
    ring = HistoryRing(clock)
    for second in range(1500):
        ring.add(gpus(second), Traffic())
        clock.now += 1
    history = ring.view()
    assert len(history.times) == 600
    assert history.times[-1] - history.times[0] == 599
    assert history.series["gpu:GPU-1:used_bytes"] == tuple(range(900, 1500))


def test_faster_samples_take_the_place_of_the_last_one() -> None:
    clock = Clock()
    ring = HistoryRing(clock)
    for tenth in range(100):
        ring.add(gpus(tenth), Traffic())
        clock.now += 0.1
    history = ring.view()
    assert 10 <= len(history.times) <= 12
    assert history.series["gpu:GPU-1:used_bytes"][-1] == 99


def test_a_late_tick_still_has_its_place() -> None:
    clock = Clock()
    ring = HistoryRing(clock)
    for _ in range(50):
        for step in (0.97, 1.03):
            ring.add(gpus(), Traffic())
            clock.now += step
    assert len(ring.view().times) == 100


def test_cards_that_come_and_go_do_not_fill_memory() -> None:
    """I16"""
    clock = Clock()
    ring = HistoryRing(clock, seconds=10)
    for number in range(200):
        ring.add(gpus(uuid=f"GPU-{number}"), Traffic())
        clock.now += 1
    assert len([name for name in ring.view().series if name.startswith("gpu:")]) <= 22
