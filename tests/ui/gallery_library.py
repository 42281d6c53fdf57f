"""Draws the library in every state: `python -m tests.ui.gallery_library FOLDER [name-part …]`."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from PySide6.QtWidgets import QApplication

from app.core.snapshot import Keys
from app.ui.pages.models import ModelsPage
from tests.ui import library_worlds, worlds
from tests.ui.drawing import LARGE, Shot, dark_and_light, draw
from tests.ui.stage import Stage

WORLDS = {
    "empty": worlds.WORLDS["empty"],
    "first_scan": worlds.WORLDS["first_scan"],
    "scanning": library_worlds.world(msgspec.structs.replace(library_worlds.MODELS, unread=1_204)),
    "demo": library_worlds.world(
        library_worlds.Library(
            profiles=(worlds.DEMO, worlds.DEMO_LONG),
            models=(library_worlds.group("Engine Room Demo", (worlds.DEMO, worlds.DEMO_LONG)),),
        ),
        gpus=worlds.NO_GPU,
    ),
    "models": library_worlds.world(),
    "broken": library_worlds.world(library_worlds.BROKEN),
    "many": library_worlds.world(library_worlds.many(200)),
    "ready": worlds.WORLDS["ready"],
    "elsewhere": library_worlds.world(library_worlds.ELSEWHERE),
}


def page_of(made: Stage) -> ModelsPage:
    page = made.window.open_page("models")
    assert isinstance(page, ModelsPage)
    return page


def filtered(made: Stage) -> None:
    page_of(made).filters.ask(fits_now=True, capability="tools")


def end(made: Stage) -> None:
    page = page_of(made)
    page._elsewhere_head.click()
    QApplication.processEvents()
    page.verticalScrollBar().setValue(page.verticalScrollBar().maximum())


def keyless(made: Stage) -> None:
    made.store.put("keys", Keys(keys={"work": "keyring"}))


def shots() -> Iterator[Shot]:
    for name, world in WORLDS.items():
        act = keyless if name == "elsewhere" else lambda made: None
        yield from dark_and_light(Shot(f"library-{name}", world, act=act))
        yield Shot(f"library-{name}-light-1920", world, "light", LARGE, act=act)
    yield from dark_and_light(Shot("library-filtered", WORLDS["broken"], act=filtered))
    yield Shot("library-end-dark-1280", WORLDS["broken"], act=end)


if __name__ == "__main__":
    draw(shots())
