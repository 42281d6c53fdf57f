"""The logs page stays where the person is: runs that begin, answers that come late, and logs that went do not move it."""

from __future__ import annotations

from PySide6.QtWidgets import QComboBox

from app.core.snapshot import Runs, RunView
from app.ui.pages.logs import LogsPage
from tests.ui.conftest import StageOf
from tests.ui.reading import named, texts
from tests.ui.stage import Stage


def run(number: int, over: bool = True) -> RunView:
    return RunView(
        id=f"r-{number}",
        profile_id="demo",
        title=f"Demo {number}",
        engine="llama.cpp",
        engine_build="",
        argv=(),
        environment={},
        log_path=f"/logs/{number}",
        started_at_unix=1_790_000_000.0 + number,
        ended_at_unix=1_790_000_100.0 + number if over else None,
        outcome="stopped" if over else "running",
    )


def logs(made: Stage, *runs: RunView) -> LogsPage:
    made.store.put("runs", Runs(runs=runs))
    page = made.window.open_page("logs")
    assert isinstance(page, LogsPage)
    return page


def pick(made: Stage, place: int) -> None:
    picker = named(made.window, "Run")
    assert isinstance(picker, QComboBox)
    picker.setCurrentIndex(place)
    picker.activated.emit(place)


def shown(made: Stage) -> str:
    picker = named(made.window, "Run")
    assert isinstance(picker, QComboBox)
    return str(picker.currentData())


def test_a_new_run_takes_the_place_of_the_newest_but_never_of_one_that_was_picked(stage_of: StageOf) -> None:
    made = stage_of("ready")
    logs(made, run(2), run(1))
    assert shown(made) == "r-2"
    made.store.put("runs", Runs(runs=(run(3), run(2), run(1))))
    assert shown(made) == "r-3", "the newest was followed to its end"
    pick(made, 2)
    assert shown(made) == "r-1"
    made.store.put("runs", Runs(runs=(run(4, over=False), run(3), run(2), run(1))))
    assert shown(made) == "r-1", "another run began, and the page jumped away from the one that is being read"


def test_the_way_to_a_telling_line_is_not_left_because_another_run_begins(stage_of: StageOf) -> None:
    made = stage_of("ready")
    page = logs(made, run(2), run(1))
    page.show_run("r-2", 4_000)  # its log has not come yet
    made.store.put("runs", Runs(runs=(run(3, over=False), run(2), run(1))))
    assert shown(made) == "r-2", "the line that tells why it failed is on its way"


def test_a_line_to_go_to_is_of_one_run_only(stage_of: StageOf) -> None:
    made = stage_of("ready")
    page = logs(made, run(2), run(1))
    page.show_run("r-2", 4_000)
    pick(made, 1)
    assert page._spool is not None
    page._spool.append(b"a line\n" * 1_000, 0)
    page._show_growth()
    assert page.view.following, "another run's line was marked in this one"


def test_a_log_that_could_not_be_read_is_asked_for_again_when_its_run_is_picked_again(stage_of: StageOf) -> None:
    made = stage_of("ready")
    folder = made.link.paths.cache / "logs"
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("in the way")
    page = logs(made, run(1))
    assert "cannot be copied for viewing" in texts(made.window)
    folder.unlink()
    pick(made, 0)
    assert page._spool is not None, "the press was swallowed: this run is shown already, it seemed"
    assert "cannot be copied for viewing" not in texts(made.window)
