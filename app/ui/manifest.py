"""Shows what made a run or an answer: model, engine, settings, memory planned and measured, machine; and runs it again."""

from __future__ import annotations

import shlex
import time
from urllib.parse import quote

from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QFrame, QGridLayout, QScrollArea, QVBoxLayout, QWidget
from shiboken6 import isValid

from app.core.control import Accepted, Manifest, RunOf
from app.core.conversation import MadeBy
from app.core.errors import EngineRoomError
from app.core.options import Scalar
from app.ui import wording
from app.ui.engines import words as engine_words
from app.ui.link import Link
from app.ui.theme import Space, Theme
from app.ui.widgets.controls import Button
from app.ui.widgets.overlay import Overlay
from app.ui.widgets.sheet import confirm
from app.ui.widgets.text import Label

FORCEABLE = ("model_changed", "engine_not_installed")
Pairs = list[tuple[str, str]]


def show_manifest(theme: Theme, asking: QWidget, link: Link, run_id: str, kept: MadeBy | None = None) -> None:
    """Opens the manifest of a run; `kept` is what an answer remembers of it, for when the service does not any more."""

    async def run() -> None:
        try:
            manifest = await link.get(f"/control/runs/{quote(run_id, safe='')}/manifest", Manifest) if run_id else None
        except EngineRoomError as error:
            manifest = None
            if kept is None:
                link.refused.emit(error)
                return
        if manifest is not None:
            _open(theme, asking, link, manifest)
        elif kept is not None:
            _open_kept(theme, asking, kept)

    link.tasks.start(run(), f"manifest of {run_id}")


def _open(theme: Theme, asking: QWidget, link: Link, manifest: Manifest) -> None:
    content = _Reading()
    for title, pairs in sections(manifest):
        _add(theme, content, title, pairs)
    content.column.addStretch(1)
    copy = Button(theme, "Copy", "", "copy", "Copy what made this run")
    copy.clicked.connect(lambda: QGuiApplication.clipboard().setText(as_text(manifest)))
    again = Button(theme, "Run again like this", "primary", "play", "Run again like this")
    overlay = Overlay(theme, asking, f"What made it: {manifest.run.title}", content, (copy, again))
    again.clicked.connect(lambda: _again(theme, asking, link, manifest.run.id, overlay))


def _open_kept(theme: Theme, asking: QWidget, kept: MadeBy) -> None:
    content = _Reading()
    sentence = "The service has forgotten this run; this is what the answer itself remembers of it."
    content.column.addWidget(Label(theme, sentence, "body", "muted", wrap=True))
    model = [("Model", kept.title), ("File", kept.model_path), ("Fingerprint", kept.model_fingerprint)]
    _add(theme, content, "Model", model)
    _add(theme, content, "Engine", [("Engine", wording.engine(kept.engine)), ("Build", kept.engine_build)])
    _add(theme, content, "Settings", _settings(kept.settings))
    content.column.addStretch(1)
    Overlay(theme, asking, f"What made it: {kept.title}", content)


class _Reading(QScrollArea):
    """A column to read on the card's own ground, reached by the keyboard, so that it can be scrolled."""

    def __init__(self) -> None:
        super().__init__()
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAccessibleName("What made it")
        inside = QWidget()
        self.column = QVBoxLayout(inside)
        self.column.setContentsMargins(0, 0, Space.medium, 0)
        self.column.setSpacing(Space.small)
        self.setWidget(inside)
        inside.setAutoFillBackground(False)


def _add(theme: Theme, content: _Reading, title: str, pairs: Pairs) -> None:
    known = [(name, value) for name, value in pairs if value]
    if not known:
        return
    content.column.addWidget(Label(theme, title, "strong"))
    grid = QGridLayout()
    grid.setHorizontalSpacing(Space.large)
    grid.setVerticalSpacing(6)
    grid.setColumnMinimumWidth(0, 170)
    grid.setColumnStretch(1, 1)
    for line, (name, value) in enumerate(known):
        mono = name in ("File", "Program", "Fingerprint", "Arguments", "Environment")
        grid.addWidget(Label(theme, name, "small", "muted"), line, 0, Qt.AlignmentFlag.AlignTop)
        grid.addWidget(Label(theme, value, "mono" if mono else "body", wrap=True, select=True), line, 1)
    content.column.addLayout(grid)
    content.column.addSpacing(Space.medium)


def _again(theme: Theme, asking: QWidget, link: Link, run_id: str, overlay: Overlay) -> None:
    def send(force: bool) -> None:
        async def run() -> None:
            try:
                await link.post("/control/runs/again", RunOf(run=run_id, force=force), Accepted)
            except EngineRoomError as error:
                if error.kind in FORCEABLE and not force:
                    text = f"{error.summary} {error.advice}".strip()
                    if isValid(overlay):
                        overlay.dismiss()
                    confirm(theme, asking, "Run it all the same?", text, "Run it", lambda: send(True))
                else:
                    link.refused.emit(error)
                return
            if not force and isValid(overlay):
                overlay.dismiss()

        link.tasks.start(run(), "run again")

    send(False)


# --- what is said ----------------------------------------------------------------------------------------------------


def sections(manifest: Manifest) -> list[tuple[str, Pairs]]:
    run, one = manifest.run, manifest.installation
    changed = manifest.model_modified_unix
    model: Pairs = [
        ("Profile", f"{run.title} ({run.profile_id})" if run.title != run.profile_id else run.profile_id),
        ("File", manifest.model_path),
        ("Size", wording.size(manifest.model_bytes) if manifest.model_bytes is not None else ""),
        ("Changed", time.strftime("%Y-%m-%d %H:%M", time.localtime(changed)) if changed else ""),
        ("Fingerprint", manifest.model_fingerprint),
    ]
    engine: Pairs = [
        ("Engine", wording.engine(run.engine)),
        ("Build", run.engine_build),
        ("Made for", engine_words.accelerator(one.accelerator) if one is not None else ""),
        ("Devices", ", ".join(one.devices) if one is not None else ""),
        ("Program", one.path if one is not None else ""),
    ]
    began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(run.started_at_unix)) if run.started_at_unix else ""
    stages = " · ".join(f"{wording.stage_title(name)} {wording.duration(at)}" for name, at in manifest.stages.items())
    load: Pairs = [
        ("Began", began),
        ("Ready after", wording.duration(run.ready_seconds) if run.ready_seconds is not None else ""),
        ("Stages began after", stages),
        ("Like the run", manifest.as_run),
    ]
    machine: Pairs = [
        ("Graphics cards", ", ".join(manifest.gpus)),
        ("Driver", manifest.driver_version or ""),
        ("Engine Room", manifest.product_version),
    ]
    command = shlex.join(run.argv)
    return [
        ("Model", model),
        ("Engine", engine),
        ("Settings", _settings(manifest.settings)),
        ("Memory: planned and measured", memory(manifest)),
        ("Load", load),
        ("Machine", machine),
        ("Command", [("Arguments", command), ("Environment", _lines(run.environment))]),
    ]


def memory(manifest: Manifest) -> Pairs:
    """Each device: what was planned with its band, what was there when it was ready, and how far off that was."""
    run = manifest.run
    pairs: Pairs = []
    for device in run.plan.devices if run.plan is not None else ():
        planned = f"{wording.size(device.likely_bytes)} ({wording.size(device.low_bytes)} to {wording.size(device.high_bytes)})"
        measured = run.measured_bytes.get(device.device)
        if measured is not None and device.likely_bytes:
            off = 100 * (measured - device.likely_bytes) / device.likely_bytes
            planned += f", measured {wording.size(measured)} ({off:+.0f}{wording.NARROW_SPACE}%)"
        pairs.append((device.name or device.device, planned))
    return pairs


def as_text(manifest: Manifest) -> str:
    parts = []
    for title, pairs in sections(manifest):
        known = [f"  {name}: {value}" for name, value in pairs if value]
        if known:
            parts.append("\n".join([title, *known]))
    return "\n\n".join(parts) + "\n"


def _settings(settings: dict[str, Scalar]) -> Pairs:
    def said(value: Scalar) -> str:
        return ("on" if value else "off") if isinstance(value, bool) else str(value)

    return [(name.replace("_", " ").capitalize(), said(value)) for name, value in sorted(settings.items())]


def _lines(environment: dict[str, str]) -> str:
    return "\n".join(f"{name}={value}" for name, value in environment.items())
