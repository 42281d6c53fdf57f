"""Draws the window's pages in every state, theme and size: `python -m tests.ui.gallery FOLDER [name-part …]`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from tests.ui import worlds
from tests.ui.drawing import LARGE, SMALL, USUAL, Shot, draw
from tests.ui.stage import Stage


def shots() -> Iterator[Shot]:
    for world in (*worlds.WORLDS, "gone", "connecting"):
        yield from both("models", world)
    for page in ("monitor", "settings"):
        for world in ("ready", "no_gpu", "gone", "connecting"):
            yield from both(page, world)
    for page in ("models", "monitor", "settings"):
        yield shot(page, "ready", "light", "1920", LARGE)
    for page in ("chat", "logs"):
        yield from both(page, "ready")


def both(page: str, world: str) -> tuple[Shot, Shot]:
    return shot(page, world, "dark", "1280", USUAL), shot(page, world, "light", "1024", SMALL)


def shot(page: str, world: str, theme: str, size: str, pixels: tuple[int, int]) -> Shot:
    made = Shot(f"{page}-{world}-{theme}-{size}", worlds.WORLDS.get(world), theme, pixels, page, gone=world == "gone")
    return dataclasses.replace(made, act=_hover) if world == "two_gpus" else made


def _hover(made: Stage) -> None:
    page = made.window.open_page("models")
    page._point("gemma-3-12b")  # type: ignore[union-attr]
    page._show_memory()  # type: ignore[union-attr]


if __name__ == "__main__":
    draw(shots())
