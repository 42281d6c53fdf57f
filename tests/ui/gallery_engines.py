"""Draws the Engines page in every state: `python -m tests.ui.gallery_engines FOLDER [name-part …]`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from tests.ui.drawing import TALL, Shot, dark_and_light, draw
from tests.ui.engine_worlds import CACHES, ENGINE_WORLDS
from tests.ui.reading import click


def shots() -> Iterator[Shot]:
    for name, world in ENGINE_WORLDS.items():
        made = Shot(f"engines-{name}", world, size=TALL, page="engines", answers={"/control/caches": CACHES})
        yield from dark_and_light(made)
        if name == "update":
            unfolded = dataclasses.replace(
                made, name=f"{made.name}-unfolded", act=lambda made: click(made.window, "More versions of llama.cpp")
            )
            yield from dark_and_light(unfolded)


if __name__ == "__main__":
    draw(shots())
