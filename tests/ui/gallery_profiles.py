"""Draws the profile editor in every state into PNG files, to be looked at: `gallery_profiles.py FOLDER [name-part …]`."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from PySide6.QtWidgets import QApplication

from app.core.errors import DaemonUnreachable
from app.ui.profiles.editor import ProfileEditor
from tests.ui import profile_worlds, stage, worlds

SIZES = {"dark": (1280, 900), "light": (1024, 640)}


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


def main() -> None:
    folder, wanted = Path(sys.argv[1]), sys.argv[2:]
    folder.mkdir(parents=True, exist_ok=True)
    app = QApplication([])
    app.setStyle("Fusion")
    with tempfile.TemporaryDirectory() as scratch:
        for state, act in STATES.items():
            for theme in ("dark", "light"):
                name = f"profile-{state}-{theme}"
                if wanted and not all(part in name for part in wanted):
                    continue
                made = stage.window(Path(scratch) / name, worlds.WORLDS["two_gpus"], theme)
                made.link.answers.update(profile_worlds.ANSWERS)
                made.window.resize(*SIZES[theme])
                made.window.show()
                act(made)
                for _ in range(8):
                    app.processEvents()
                made.window.grab().save(str(folder / f"{name}.png"))
                made.window.deleteLater()
                app.processEvents()


if __name__ == "__main__":
    main()
