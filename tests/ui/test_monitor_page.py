"""The monitor: every figure where it is known, a dash where it is not."""

from __future__ import annotations

import msgspec
from PySide6.QtWidgets import QApplication

from app.core.snapshot import DriverState, Gpus, GpuSample, Traffic
from app.ui.widgets.memory_bar import Segment, boxes
from app.ui.widgets.sparkline import Sparkline, binned, nice_ceiling
from tests.ui import worlds
from tests.ui.conftest import StageOf
from tests.ui.reading import texts


def _cells(stage: object, name: str) -> list[str]:
    from tests.ui.reading import named

    model = named(stage.window, name).model()  # type: ignore[attr-defined]
    return [
        " | ".join(str(model.index(row, column).data()) for column in range(model.columnCount()))
        for row in range(model.rowCount())
    ]


def test_figures_of_a_busy_machine(stage_of: StageOf) -> None:
    said = texts(stage_of("ready", page="monitor", size=(1280, 2400)).window)
    for words in (
        "1,284",
        "86",
        "41",
        "12",
        "now · 3 queued",
        "271/350 W",
        "61 °C",
        "2,520 MHz",
        "Slowed: power limit",
    ):
        assert words in said


def test_whose_memory_it_is(stage_of: StageOf) -> None:
    rows = _cells(stage_of("ready", page="monitor"), "Processes on the graphics cards")
    assert rows[0] == "VLLM::Worker | Engine Room | 0 | 48211 | 19.6 GiB"
    assert any(row.startswith("firefox |  |") for row in rows)


def test_recent_requests_have_their_outcome(stage_of: StageOf) -> None:
    rows = _cells(stage_of("ready", page="monitor"), "Recent requests")
    assert rows[0] == "qwen3-32b | answered | 86 ms | 3.2 s | 412 | 318 | 96.4"
    assert any("cancelled" in row for row in rows)


def test_what_the_driver_does_not_tell_is_a_dash(stage_of: StageOf, qapp: QApplication) -> None:
    made = stage_of("ready", page="monitor")
    bare = GpuSample(uuid="GPU-9", index=0, name="Old card", total_bytes=None, used_bytes=None, free_bytes=None)
    made.store.put("gpus", Gpus(driver=DriverState.OK, gpus=(bare,), host=worlds.host()))
    made.store.put("traffic", Traffic())
    qapp.processEvents()
    said = texts(made.window)
    assert "GPU 0  Old card" in said
    assert "— of —" in said
    assert "None" not in said


def test_a_driver_in_trouble_is_said_in_its_words(stage_of: StageOf) -> None:
    made = stage_of("ready", page="monitor")
    made.store.put(
        "gpus",
        msgspec.structs.replace(worlds.TWO_GPUS, driver=DriverState.HUNG, message="NVML has not answered for 12 s."),
    )
    assert "NVML has not answered for 12 s." in texts(made.window)


def test_a_card_that_appears_gets_its_place(stage_of: StageOf, qapp: QApplication) -> None:
    made = stage_of("no_gpu", page="monitor")
    assert "This computer" in texts(made.window)
    made.store.put("gpus", worlds.TWO_GPUS)
    qapp.processEvents()
    assert "GPU 1  RTX 4090" in texts(made.window)


def test_a_scale_ends_at_a_round_number() -> None:
    assert [nice_ceiling(v) for v in (0, 0.03, 0.9, 1, 1.1, 4.9, 1284, 5001)] == [1, 0.05, 1, 1, 2, 5, 2000, 10000]


def test_samples_are_binned_by_time_not_by_arrival() -> None:
    samples = [(0.5, 1.0), (0.6, 3.0), (2.5, 7.0), (9.0, None)]
    assert binned(samples, last=2, bins=3, seconds=1.0) == [2.0, None, 7.0]


def test_the_scrolled_line_is_the_redrawn_line(qtbot: object, stage_of: StageOf) -> None:
    """What is scrolled and extended looks as if all had been drawn at once."""
    theme = stage_of("ready").theme
    line, fresh = Sparkline(theme, "a", ceiling=1.0), Sparkline(theme, "b", ceiling=1.0)
    for one in (line, fresh):
        one.resize(200, 40)
    values = [(float(second), 0.5 + 0.4 * ((second // 37) % 2)) for second in range(1300)]
    line.fill(values[:600])
    line.grab()
    for at, value in values[600:]:
        line.append(at, value)
    fresh.fill(values)
    one, other = line.grab().toImage(), fresh.grab().toImage()
    different = sum(
        abs(one.pixelColor(x, y).lightness() - other.pixelColor(x, y).lightness()) > 40
        for x in range(6, 194)
        for y in range(40)
    )
    assert different < 0.01 * 188 * 40


def test_a_bar_never_draws_outside_itself_and_never_hides_what_is_there() -> None:
    placed = boxes((Segment("others", 1), Segment("engine", 5e9), Segment("danger", 90e9)), 24e9, 100.0)
    assert [kind for kind, _, _ in placed] == ["others", "engine", "danger"]
    assert placed[0][2] >= 1
    assert all(x + width <= 100.0 for _, x, width in placed)
