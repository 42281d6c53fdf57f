"""Draws windows over hand-made worlds into PNG files, to be looked at: what all galleries share.

`python -m tests.ui.gallery… FOLDER [name-part …] [--scale=1.5]`: every picture whose name holds all the parts; a scale as
a desktop of that many dots per point has it.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from PySide6.QtWidgets import QApplication

from tests.ui import stage, worlds

SMALL, USUAL, TALL, LARGE = (1024, 640), (1280, 800), (1280, 900), (1920, 1080)


@dataclasses.dataclass(frozen=True)
class Shot:
    """`answers`: what the service says when asked. `before` fills the home folder; `act` does what a person would."""

    name: str
    world: worlds.World | None
    theme: str = "dark"
    size: tuple[int, int] = USUAL
    page: str = "models"
    answers: dict[str, object] = dataclasses.field(default_factory=dict)
    act: Callable[[stage.Stage], object] = lambda made: None
    gone: bool = False
    before: Callable[[Path], object] = lambda home: None
    after: Callable[[stage.Stage], object] = lambda made: None


def dark_and_light(shot: Shot, small: tuple[int, int] = SMALL) -> tuple[Shot, Shot]:
    """A picture in its own size, and one in a small light window."""
    return (
        dataclasses.replace(shot, name=f"{shot.name}-dark-{shot.size[0]}"),
        dataclasses.replace(shot, name=f"{shot.name}-light-{small[0]}", theme="light", size=small),
    )


def draw(shots: Iterable[Shot]) -> None:
    folder, wanted = Path(sys.argv[1]), [word for word in sys.argv[2:] if not word.startswith("--")]
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    for word in sys.argv[2:]:
        if word.startswith("--scale="):  # Qt reads it once, when the application is made
            os.environ["QT_SCALE_FACTOR"] = word.partition("=")[2]
    app = QApplication([])
    app.setStyle("Fusion")
    with tempfile.TemporaryDirectory() as scratch:
        for number, shot in enumerate(shots):
            if not wanted or all(part in shot.name for part in wanted):
                _draw(app, shot, Path(scratch) / str(number), folder / f"{shot.name}.png")


def _draw(app: QApplication, shot: Shot, scratch: Path, picture: Path) -> None:
    shot.before(scratch)
    made = stage.window(scratch, shot.world, shot.theme, gone=shot.gone)
    made.link.answers |= shot.answers
    made.window.resize(*shot.size)
    made.window.open_page(shot.page)
    made.window.show()
    settle(app)
    shot.act(made)
    settle(app)
    made.window.grab().save(str(picture))
    shot.after(made)
    made.window.deleteLater()
    app.processEvents()


def settle(app: QApplication) -> None:
    for _ in range(8):
        app.processEvents()
