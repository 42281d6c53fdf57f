"""Draws the profile editor in every state: `python -m tests.ui.gallery_profiles FOLDER [name-part …]`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from PySide6.QtWidgets import QApplication

from app.core.errors import DaemonUnreachable
from app.ui.profiles.editor import ProfileEditor
from tests.ui import profile_worlds, stage, worlds
from tests.ui.drawing import TALL, Shot, dark_and_light, draw


def _editor(made: stage.Stage) -> ProfileEditor:
    editor = made.window.over("models")
    assert isinstance(editor, ProfileEditor)
    return editor


def _loading(made: stage.Stage) -> None:
    made.link.answers["/control/profiles/gemma-3-12b"] = DaemonUnreachable("The Engine Room service does not answer.")
    made.presenter.go("profile", "gemma-3-12b")


def _found(made: stage.Stage) -> None:
    made.link.answers["/control/profiles/gemma-3-12b"] = profile_worlds.FOUND
    made.presenter.go("profile", "gemma-3-12b")


def _wrong(made: stage.Stage) -> None:
    made.presenter.go("profile", "gemma-3-12b")
    _editor(made).draft.set_all({"settings.context_tokens": "lots", "settings.slots": 1000})


def _tuned(made: stage.Stage) -> None:
    made.presenter.go("profile", "gemma-3-12b")
    form = _editor(made).form
    form._tune(made.link.answers["/control/engines/options"].presets["llama.cpp"][0].name)
    _editor(made)._form_page.verticalScrollBar().setValue(420)


def _tab(key: str) -> Callable[[stage.Stage], None]:
    def act(made: stage.Stage) -> None:
        made.presenter.go("profile", "gemma-3-12b")
        _editor(made).show_tab(key)

    return act


def _search(made: stage.Stage) -> None:
    made.presenter.go("profile", "gemma-3-12b")
    _editor(made).form.search.setText("cache")


def _end(made: stage.Stage) -> None:
    made.presenter.go("profile", "gemma-3-12b")
    QApplication.processEvents()
    bar = _editor(made)._form_page.verticalScrollBar()
    bar.setValue(bar.maximum())


STATES: dict[str, Callable[[stage.Stage], None]] = {
    "form": _tab("form"),
    "found": _found,
    "wrong": _wrong,
    "tuned": _tuned,
    "text": _tab("text"),
    "command": _tab("command"),
    "search": _search,
    "end": _end,
    "loading": _loading,
}


def shots() -> Iterator[Shot]:
    for state, act in STATES.items():
        world = worlds.WORLDS["two_gpus"]
        yield from dark_and_light(Shot(f"profile-{state}", world, size=TALL, answers=profile_worlds.ANSWERS, act=act))


if __name__ == "__main__":
    draw(shots())
