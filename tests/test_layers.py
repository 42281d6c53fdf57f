"""Holds the shape: imports point only downward, modules say what they are for, names are the field's own."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
APP = ROOT / "app"

# layer → (layers of ours that it may import, packages that it must not)
QT = {"PySide6", "qasync"}
NETWORK = {"asyncio", "aiohttp", "httpx", "uvloop", "socket", "ssl", "http", "urllib.request"}
LAYERS: dict[str, tuple[set[str], set[str]]] = {
    "core": ({"core"}, QT | NETWORK | {"subprocess", "threading", "sqlite3", "pynvml", "typer"}),
    "engines": ({"core", "engines"}, QT | {"aiohttp", "httpx", "uvloop", "pynvml", "typer"}),
    "daemon": ({"core", "engines", "daemon"}, QT | {"httpx", "typer"}),
    "ui": ({"core", "ui"}, {"aiohttp", "uvloop", "pynvml", "typer"}),
}
# module → what it may import all the same
ALLOWED = {
    "app/core/values.py": {"threading"},  # two threads that make a decoder of one type at once crash msgspec
    "app/daemon/download.py": {"httpx"},  # runs in an installation's own process, which has no event loop
}
BANNED_WORDS = re.compile(r"manager|helper|(^|_)utils?($|_)|Utils?$", re.IGNORECASE)
ADVICE = {
    "ui": "the window talks to its link and core; what it needs from the daemon travels as a slice or a control call",
    "daemon": "the daemon shares only core with the window",
    "engines": "an engine family is a value: command, readiness, stages; effects belong to the daemon",
    "core": "core is pure: time, files and answers arrive as arguments",
}


def modules() -> list[Path]:
    return sorted(path for path in APP.rglob("*.py") if "__pycache__" not in path.parts)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def layer_of(path: Path) -> str | None:
    first = path.relative_to(APP).parts[0]
    return first if first in LAYERS else None


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    return imports_in(path.read_text("utf-8"), [*path.relative_to(ROOT).parts[:-1]])


def imports_in(source: str, package: list[str]) -> Iterator[tuple[int, str]]:
    """Every imported module by its full name; `from app import x` counts as app.x."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield node.lineno, module
            if module == "app":
                yield from ((node.lineno, f"app.{alias.name}") for alias in node.names)


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_imports_point_only_downward(path: Path) -> None:
    layer = layer_of(path)
    if layer is None:
        return
    allowed, banned = LAYERS[layer]
    wrong = []
    for line, module in imports_of(path):
        parts = module.split(".")
        upward = parts[0] == "app" and len(parts) > 1 and parts[1] in {*LAYERS, "wiring", "cli"} - allowed
        if upward or any(
            module == name or module.startswith(name + ".") for name in banned - ALLOWED.get(name_of(path), set())
        ):
            wrong.append(f"{name_of(path)}:{line} imports {module}: {ADVICE[layer]}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_a_module_opens_with_one_sentence(path: Path) -> None:
    text = ast.get_docstring(ast.parse(path.read_text("utf-8")))
    assert text, f"{name_of(path)} does not say what it decides or owns"
    opening = " ".join(text.split("\n\n")[0].split("\n"))
    first = re.split(r"(?<=[.:])\s", opening)[0]
    assert opening.rstrip().endswith((".", ":")), f"{name_of(path)} opens without a whole sentence: {opening!r}"
    assert first[0].isupper(), f"{name_of(path)}: {first!r}"


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_names_are_not_empty_words(path: Path) -> None:
    found = [part for part in path.relative_to(APP).with_suffix("").parts if BANNED_WORDS.search(part)]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and BANNED_WORDS.search(node.name):
            found.append(f"{node.name} (line {node.lineno})")
    assert not found, f"{name_of(path)}: say what it is instead of {', '.join(found)}"


def test_the_guard_sees_every_form_of_import() -> None:
    source = """
import asyncio
import PySide6.QtCore
from app import ui
from . import theme
def later():
    from app.daemon.tasks import Tasks
"""
    found = {name for _, name in imports_in(source, ["app", "core"])}
    assert {"asyncio", "PySide6.QtCore", "app.ui", "app.core", "app.daemon.tasks"} <= found
