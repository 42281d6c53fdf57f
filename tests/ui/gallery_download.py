"""Draws the Download page in every state: `python -m tests.ui.gallery_download FOLDER [name-part …]`."""

from __future__ import annotations

from collections.abc import Iterator

from PySide6.QtWidgets import QApplication

from tests.ui.download_worlds import STATES
from tests.ui.drawing import TALL, Shot, dark_and_light, draw
from tests.ui.reading import click
from tests.ui.stage import Stage


def shots() -> Iterator[Shot]:
    for state, (world, answers, typed, unfolded) in STATES.items():

        def act(made: Stage, state: str = state, typed: str = typed, unfolded: str = unfolded) -> None:
            page = made.window.open_page("download")
            page.search.setText(typed)  # type: ignore[union-attr]
            page.search.returnPressed.emit()  # type: ignore[union-attr]
            QApplication.processEvents()
            if unfolded:
                click(made.window, f"Show what there is of {unfolded}")
            if state == "reading":
                page._reading = True  # type: ignore[union-attr]
                page._show_open(True)  # type: ignore[union-attr]
            if state == "token":
                click(made.window, "Access token for models that need agreement")

        yield from dark_and_light(
            Shot(f"download-{state}", world, size=TALL, page="download", answers=answers, act=act)
        )


if __name__ == "__main__":
    draw(shots())
