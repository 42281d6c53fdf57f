"""Finds what ships with Engine Room: beside `app/` in a checkout, inside it (`_resources`, `_profiles`) when installed."""

from __future__ import annotations

from pathlib import Path

APP = Path(__file__).resolve().parents[1]

BUILTIN_MODELS = {"builtin:demo": "models/engine-room-demo.gguf"}


def resources_folder(app: Path = APP) -> Path:
    return _shipped(app, "resources")


def profiles_folder(app: Path = APP) -> Path:
    return _shipped(app, "profiles")


def builtin_model(name: str, app: Path = APP) -> Path | None:
    """The file that a name such as `builtin:demo` stands for; None for a name that nothing ships under."""
    file = BUILTIN_MODELS.get(name)
    return resources_folder(app) / file if file else None


def _shipped(app: Path, name: str) -> Path:
    installed = app / f"_{name}"
    return installed if installed.is_dir() else app.parent / name
